//! A policy as a `.policy` file: as libminijail takes it if that can say it, otherwise for minijail's
//! compiler.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use strait_abi::{Arch, Syscall};
use strait_bpf::Action;

use super::install;
use crate::errno_name;
use crate::format::product::{Product, chain_products};
use crate::format::{Exported, FormatError, Target};
use crate::policy::Policy;
use crate::rules::{Arm, Chain, Op, Test};
use crate::signature::register_width;
use crate::when::op_text;

/// The policy for the target's own ABI.
///
/// # Errors
/// If the policy has no meaning, is not for that ABI, or has a default that no line can say.
pub fn export(policy: &Policy, target: &Target) -> Result<Exported, FormatError> {
    let arch = target.arch;
    let rules = policy.lower()?;
    let table = rules.table(arch.audit_arch()).filter(|_| policy.architectures.contains(arch));
    let Some(table) = table else {
        return Err(FormatError::Inexpressible {
            what: format!("a policy that is not for {arch}"),
            right: "a filter of minijail is for the machine's own architecture".to_owned(),
        });
    };
    // An errno for what is not listed cannot be said: then every call is listed.
    let (header, default) = match policy.default {
        Action::KillThread => ("", Action::KillThread),
        Action::Errno(_) => ("", Action::KillThread),
        Action::KillProcess => ("@default kill-process\n", Action::KillProcess),
        Action::Trap(_) => ("@default trap\n", Action::Trap(0)),
        Action::Notify => ("@default user-notify\n", Action::Notify),
        Action::Allow => ("@denylist\n", Action::Allow),
        other => {
            return Err(FormatError::Inexpressible {
                what: format!("the default {}", crate::action_text(other)),
                right: "what is not listed can be killed, trapped, notified of or allowed"
                    .to_owned(),
            });
        }
    };
    let mut calls: BTreeMap<u32, &str> = BTreeMap::new();
    for call in Syscall::all() {
        if let Some(nr) = call.number(arch) {
            calls.entry(nr).or_insert(call.name());
        }
    }
    let lines = |compiled: bool| -> Option<String> {
        let mut text = header.to_owned();
        for (nr, name) in &calls {
            let chain = table.chain(*nr);
            if chain.arms.is_empty() && chain.otherwise == default {
                continue;
            }
            let filter = if compiled { block(chain, arch) } else { plain(chain, arch, default) };
            match filter {
                // Writing to a string cannot fail.
                Some(filter) => drop(writeln!(text, "{name}: {filter}")),
                None if compiled => {}
                None => return None,
            }
        }
        Some(text)
    };
    let plain = if header.is_empty() { lines(false) } else { None };
    let text = plain.or_else(|| lines(true)).unwrap_or_default();
    let (installed, ..) = install(&text, target)?;
    Exported::new(text, &rules, &installed, &policy.architectures)
}

/// What a call gets, as libminijail can say it: allowed under a condition, otherwise one errno or
/// the default.
fn plain(chain: &Chain, arch: Arch, default: Action) -> Option<String> {
    let refusal = |action: Action| match action {
        Action::Errno(errno) => Some(format!("return {}", errno_text(errno))),
        action if action == default => Some("return".to_owned()),
        _ => None,
    };
    if chain.arms.is_empty() {
        return if chain.otherwise == Action::Allow {
            Some("1".to_owned())
        } else {
            refusal(chain.otherwise)
        };
    }
    let actions: Vec<Action> =
        chain.arms.iter().map(|arm| arm.action).chain([chain.otherwise]).collect();
    let refused = actions.iter().copied().find(|action| *action != Action::Allow)?;
    if actions.iter().any(|action| *action != Action::Allow && *action != refused) {
        return None;
    }
    let when = disjunction(&chain_products(chain, refused, Some(register_width(arch)))?, arch)?;
    Some(if refused == default { when } else { format!("{when}; {}", refusal(refused)?) })
}

/// What a call gets, as the compiler can say it: one after the other.
fn block(chain: &Chain, arch: Arch) -> Option<String> {
    if chain.arms.is_empty() {
        return action_text(chain.otherwise);
    }
    let mut parts = Vec::new();
    for arm in &chain.arms {
        let alone = Chain {
            arms: vec![Arm { when: arm.when.clone(), action: Action::Allow }],
            otherwise: Action::KillProcess,
        };
        let products = chain_products(&alone, Action::KillProcess, Some(register_width(arch)))?;
        if products.is_empty() {
            continue;
        }
        if products.iter().any(|product| product.tests.is_empty()) {
            parts.push(action_text(arm.action)?);
            return Some(format!("{{ {} }}", parts.join(", ")));
        }
        parts.push(format!("{}; {}", disjunction(&products, arch)?, action_text(arm.action)?));
    }
    parts.push(action_text(chain.otherwise)?);
    Some(format!("{{ {} }}", parts.join(", ")))
}

/// `a && b || c`, or nothing if one of them says nothing.
fn disjunction(products: &[Product], arch: Arch) -> Option<String> {
    let clauses: Option<Vec<String>> = products
        .iter()
        .map(|product| {
            let atoms: Vec<String> =
                product.tests.iter().flat_map(|test| atoms(test, arch)).collect();
            (!atoms.is_empty()).then(|| atoms.join(" && "))
        })
        .collect();
    clauses.filter(|clauses| !clauses.is_empty()).map(|clauses| clauses.join(" || "))
}

/// A test as atoms that hold together. Of some bits of an argument can only be said that one of them
/// is set, or that no other is: so each bit that must be set is one, and those that must not are
/// one together.
fn atoms(test: &Test, arch: Arch) -> Vec<String> {
    let register = register_width(arch).mask();
    let (arg, mask, value) = (test.arg(), test.mask(), test.value());
    if mask == register {
        return vec![format!("arg{arg} {} {}", op_text(test.op()), number(value))];
    }
    if test.op() == Op::Ne && value == 0 {
        return vec![format!("arg{arg} & {}", number(mask))];
    }
    let bits = (0..64).map(|bit| 1u64 << bit).filter(|bit| value & bit != 0);
    let mut atoms: Vec<String> = bits.map(|bit| format!("arg{arg} & {}", number(bit))).collect();
    let clear = mask & !value;
    if clear != 0 {
        atoms.push(format!("arg{arg} in {}", number(!clear & register)));
    }
    atoms
}

fn number(value: u64) -> String {
    if value < 10 { value.to_string() } else { format!("{value:#x}") }
}

fn errno_text(errno: u16) -> String {
    errno_name(errno).map_or_else(|| errno.to_string(), str::to_owned)
}

fn action_text(action: Action) -> Option<String> {
    Some(match action {
        Action::Allow => "allow".to_owned(),
        Action::Log => "log".to_owned(),
        Action::Notify => "user-notify".to_owned(),
        Action::KillThread => "kill-thread".to_owned(),
        Action::KillProcess => "kill-process".to_owned(),
        Action::Errno(errno) => format!("return {}", errno_text(errno)),
        Action::Trap(0) => "trap".to_owned(),
        Action::Trace(0) => "trace".to_owned(),
        Action::Trap(_) | Action::Trace(_) => return None,
    })
}
