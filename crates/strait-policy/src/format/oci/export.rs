//! A policy as an OCI profile.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use strait_abi::{Arch, Syscall};
use strait_bpf::Action;

use super::{Runtime, Target, profile, runtime};
use crate::format::libseccomp::register;
use crate::format::product::{Product, chain_products};
use crate::format::{Exported, FormatError};
use crate::policy::Policy;
use crate::rules::{Op, Rules, Width};
use crate::text::{self, ParseError};

/// The policy as a profile for the machine's runtime.
///
/// A call that the format cannot describe, or not alike for all ABIs of the policy, is left to
/// the default action; that shows among the losses.
///
/// # Errors
/// If the policy has no meaning.
pub fn export(policy: &Policy, target: &Target) -> Result<Exported, FormatError> {
    let rules = policy.lower()?;
    write(policy, &rules, target, |call| clauses_of(call, policy, &rules))
}

/// The policy as a profile by which a supervisor is asked. `asked` is what the filter would decide then in
/// the place of the policy's own rules; what no profile can say of that the kernel answers as the policy
/// does.
///
/// The losses are those against `asked`.
///
/// # Errors
/// If the policy has no meaning.
pub fn export_asking(
    policy: &Policy,
    asked: &Rules,
    target: &Target,
) -> Result<Exported, FormatError> {
    let rules = policy.lower()?;
    // By it the runtimes hand over whom to ask: runc refuses such a profile, and crun would wait for
    // ever. They refuse a default action that asks, too, so it is the policy's.
    let is_kept = |call: Syscall| call.name() == "write";
    let notifies = |clauses: &Clauses| clauses.iter().any(|(_, act)| *act == Action::Notify);
    let asked_of = |call: Syscall| {
        let clauses = (!is_kept(call)).then(|| clauses_of(call, policy, asked));
        clauses.flatten().filter(notifies)
    };
    let of = |call: Syscall| clauses_of(call, policy, &rules);
    // Where a number stands for several calls, what is said of one by its arguments may contradict what is
    // said of another.
    let without_arguments = |clauses: &Clauses| clauses.iter().all(|(args, _)| args.is_empty());
    write(policy, asked, target, |call| asked_of(call).or_else(|| of(call))).or_else(|_| {
        let asked_of = |call| asked_of(call).filter(without_arguments);
        write(policy, asked, target, |call| asked_of(call).or_else(|| of(call)))
    })
}

/// The profile that says this of each call, for a policy that means `rules`.
fn write(
    policy: &Policy,
    rules: &Rules,
    target: &Target,
    of: impl Fn(Syscall) -> Option<Clauses>,
) -> Result<Exported, FormatError> {
    let mut unconditional: BTreeMap<std::cmp::Reverse<Action>, BTreeSet<Syscall>> = BTreeMap::new();
    let mut conditional: BTreeMap<Vec<(Vec<JsonArg>, Action)>, BTreeSet<Syscall>> = BTreeMap::new();
    for call in Syscall::all() {
        let Some(first) = of(call) else { continue };
        match first.as_slice() {
            [] => {}
            [(args, action)] if args.is_empty() => {
                unconditional.entry(std::cmp::Reverse(*action)).or_default().insert(call);
            }
            _ => drop(conditional.entry(first).or_default().insert(call)),
        }
    }
    if target.runtime == Runtime::Runc && !policy.default.lets_pass() {
        let kept = |action: &Action| *action != ENOSYS;
        let named: BTreeSet<Syscall> = unconditional
            .iter()
            .filter(|(action, _)| kept(&action.0))
            .flat_map(|(_, calls)| calls)
            .chain(conditional.values().flatten())
            .copied()
            .collect();
        if let Some(calls) = unconditional.get_mut(&std::cmp::Reverse(ENOSYS)) {
            calls.retain(|call| !is_beyond(*call, &named, policy));
        }
        unconditional.retain(|_, calls| !calls.is_empty());
    }
    let names = |calls: &BTreeSet<Syscall>| calls.iter().map(|call| call.name()).collect();
    let rule = |calls: &BTreeSet<Syscall>, action: Action, args: Vec<JsonArg>| JsonRule {
        names: names(calls),
        action: action_name(action),
        errno_ret: errno_of(action),
        args,
    };
    let mut syscalls: Vec<JsonRule> =
        unconditional.iter().map(|(action, calls)| rule(calls, action.0, Vec::new())).collect();
    for (clauses, calls) in &conditional {
        for (args, action) in clauses {
            syscalls.push(rule(calls, *action, args.clone()));
        }
    }
    let json = JsonProfile {
        default_action: action_name(policy.default),
        default_errno_ret: errno_of(policy.default),
        architectures: policy.architectures.iter().map(Arch::oci_name).collect(),
        syscalls,
    };
    let mut text = serde_json::to_string_pretty(&json)
        .expect("the fields are strings, numbers and lists: they always serialize");
    text.push('\n');
    let written = text::read_json(&text)
        .and_then(|root| profile::resolve(&root, target, &mut Vec::new()))
        .map_err(|fault| refused(&fault.in_text(&text)))?;
    let installed =
        runtime::install(&written, target).map_err(|fault| refused(&fault.in_text(&text)))?;
    Exported::new(text, rules, &installed, &policy.architectures)
}

/// A profile that no container would start with. Where a number stands for several calls, as i386's
/// socketcall, what is said of each is said of all, and may contradict itself.
fn refused(error: &ParseError) -> FormatError {
    FormatError::Inexpressible {
        what: "this policy".to_owned(),
        right: format!(
            "the runtime would refuse the profile ({error}); leave out the ABI, or give all \
             conditions of the call one action"
        ),
    }
}

const ENOSYS: Action = Action::Errno(38);

/// Whether runc answers ENOSYS to the call by itself: its number is greater than all that are
/// named, on every ABI of the policy.
fn is_beyond(call: Syscall, named: &BTreeSet<Syscall>, policy: &Policy) -> bool {
    let last = |arch| named.iter().filter_map(|call| call.number(arch)).max();
    policy
        .architectures
        .iter()
        .filter_map(|arch| Some((arch, call.number(arch)?)))
        .all(|(arch, nr)| last(arch).is_some_and(|last| nr > last))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonProfile {
    default_action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_errno_ret: Option<u16>,
    architectures: Vec<&'static str>,
    syscalls: Vec<JsonRule>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonRule {
    names: Vec<&'static str>,
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno_ret: Option<u16>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    args: Vec<JsonArg>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::format) struct JsonArg {
    pub(in crate::format) index: u8,
    pub(in crate::format) value: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::format) value_two: Option<u64>,
    pub(in crate::format) op: &'static str,
}

/// What a call gets, or none if the format has not enough for it, or it is not alike for all ABIs of
/// the policy.
pub(in crate::format) fn clauses_of(
    call: Syscall,
    policy: &Policy,
    rules: &Rules,
) -> Option<Clauses> {
    let mut chains = policy.architectures.iter().filter_map(|arch| {
        let chain = rules.table(arch.audit_arch())?.chain(call.number(arch)?);
        // Half a register is the whole on an ABI of 32 bits; either may be what the policy
        // says for all of its ABIs.
        let of = |register| clauses(&chain_products(chain, policy.default, register)?);
        Some([of(Some(register(arch))), of(Some(Width::W64))])
    });
    let [first, _] = chains.next()?;
    let first = first?;
    let alike =
        |both: [Option<Clauses>; 2]| both.into_iter().flatten().any(|other| same(&first, &other));
    chains.all(alike).then_some(first)
}

/// What a call gets: arguments that hold together, and the action; otherwise the default.
pub(in crate::format) type Clauses = Vec<(Vec<JsonArg>, Action)>;

/// The clauses in the format's words, or none if it has not enough.
fn clauses(products: &[Product]) -> Option<Clauses> {
    let mut clauses: Clauses = Vec::new();
    for product in products {
        let args = product
            .tests
            .iter()
            .map(|test| {
                let whole = test.mask() == test.width().mask() && test.op() != Op::Eq
                    || test.mask() == u64::MAX;
                let (op, value, value_two) = match test.op() {
                    Op::Eq if whole => ("SCMP_CMP_EQ", test.value(), None),
                    Op::Eq => ("SCMP_CMP_MASKED_EQ", test.mask(), Some(test.value())),
                    Op::Ne if whole => ("SCMP_CMP_NE", test.value(), None),
                    Op::Lt if whole => ("SCMP_CMP_LT", test.value(), None),
                    Op::Le if whole => ("SCMP_CMP_LE", test.value(), None),
                    Op::Gt if whole => ("SCMP_CMP_GT", test.value(), None),
                    Op::Ge if whole => ("SCMP_CMP_GE", test.value(), None),
                    _ => return None,
                };
                Some(JsonArg { index: test.arg(), value, value_two, op })
            })
            .collect::<Option<Vec<JsonArg>>>()?;
        // Two conditions on one argument would be two rules.
        let indexes: BTreeSet<u8> = args.iter().map(|arg| arg.index).collect();
        if indexes.len() != args.len() {
            return None;
        }
        clauses.push((args, product.action));
    }
    Some(clauses)
}

/// Whether two ABIs have the same clauses: on one of 32 bits the low half is the register.
fn same(one: &Clauses, other: &Clauses) -> bool {
    let normal = |clauses: &Clauses| -> Clauses {
        let normal = |arg: &JsonArg| match (arg.op, arg.value, arg.value_two) {
            ("SCMP_CMP_MASKED_EQ", 0xffff_ffff, Some(value)) => {
                JsonArg { index: arg.index, value, value_two: None, op: "SCMP_CMP_EQ" }
            }
            _ => arg.clone(),
        };
        clauses.iter().map(|(args, act)| (args.iter().map(normal).collect(), *act)).collect()
    };
    normal(one) == normal(other)
}

fn action_name(action: Action) -> &'static str {
    match action {
        Action::Allow => "SCMP_ACT_ALLOW",
        Action::Log => "SCMP_ACT_LOG",
        Action::Errno(_) => "SCMP_ACT_ERRNO",
        Action::Trap(_) => "SCMP_ACT_TRAP",
        Action::Trace(_) => "SCMP_ACT_TRACE",
        Action::Notify => "SCMP_ACT_NOTIFY",
        Action::KillThread => "SCMP_ACT_KILL_THREAD",
        Action::KillProcess => "SCMP_ACT_KILL_PROCESS",
    }
}

fn errno_of(action: Action) -> Option<u16> {
    match action {
        Action::Errno(data) | Action::Trace(data) => Some(data),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use strait_abi::KernelVersion;

    use super::*;
    use crate::rules::{Arm, Chain, Table};

    /// The rules with all that is denied notified.
    fn asked(rules: &Rules) -> Rules {
        let to = |action: Action| if action.lets_pass() { action } else { Action::Notify };
        rules.tables().fold(Rules::new(rules.foreign()), |asked, (arch, table)| {
            let mut new = Table::new(Action::Notify);
            for (first, last, chain) in table.spans() {
                let arms = chain.arms.iter();
                let arms = arms.map(|arm| Arm { when: arm.when.clone(), action: to(arm.action) });
                let chain = Chain { arms: arms.collect(), otherwise: to(chain.otherwise) };
                new.set(first, last, chain);
            }
            asked.with_table(arch, new)
        })
    }

    #[test]
    fn what_is_denied_is_asked_about_as_far_as_a_profile_says_it() {
        let policy = "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec:\n  \
                      architectures: [x86_64, i386]\n  default: errno(EPERM)\n  rules:\n  \
                      - {syscalls: [read, close], action: allow}\n  \
                      - {syscalls: [clone3], action: errno(ENOSYS)}\n  \
                      - {syscalls: [kexec_load], action: kill-process}\n  \
                      - {syscalls: [personality], when: persona == 8, action: allow}\n  \
                      - {syscalls: [socket], when: domain == AF_UNIX, action: allow}\n";
        let policy = Policy::parse(policy).unwrap();
        let asked = asked(&policy.lower().unwrap());
        let kernel = KernelVersion::from_release("6.18.0").unwrap();
        for runtime in Runtime::ALL.iter().copied() {
            let target = Target { runtime, ..Target::new(Arch::X86_64, kernel) };
            let exported = export_asking(&policy, &asked, &target).unwrap();
            let passes = |action: Action| action.lets_pass();
            assert!(exported.losses.iter().all(|loss| !passes(loss.first) && !passes(loss.second)));
            let profile: serde_json::Value = serde_json::from_str(&exported.text).unwrap();
            assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO", "the runtimes refuse others");
            let actions = |name: &str| -> Vec<&str> {
                let rules = profile["syscalls"].as_array().unwrap().iter();
                let of =
                    rules.filter(|rule| rule["names"].as_array().unwrap().contains(&name.into()));
                of.map(|rule| rule["action"].as_str().unwrap()).collect()
            };
            for name in ["mkdir", "clone3", "kexec_load"] {
                assert_eq!(actions(name), ["SCMP_ACT_NOTIFY"], "{runtime} {name}");
            }
            assert_eq!(actions("read"), ["SCMP_ACT_ALLOW"], "{runtime}");
            assert!(actions("write").is_empty(), "{runtime}: by it a listener is handed over");
            assert!(actions("personality").contains(&"SCMP_ACT_NOTIFY"), "{runtime}");
        }
    }
}
