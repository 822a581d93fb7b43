//! A policy as a Kafel policy.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use strait_abi::Arch;
use strait_bpf::Action;

use super::calls::{self, Call};
use super::{install, supported};
use crate::format::{Exported, FormatError, Target};
use crate::policy::Policy;
use crate::rules::{Chain, Condition, Table, Test, Width};
use crate::when::op_text;

/// How many parts stand side by side: Kafel counts each as one deeper.
const SIDE_BY_SIDE: usize = 64;

/// The policy for the target's own ABI.
///
/// # Errors
/// If the policy has no meaning, or is not for that ABI.
pub fn export(policy: &Policy, target: &Target) -> Result<Exported, FormatError> {
    let arch = supported(target)?;
    let rules = policy.lower()?;
    let table = rules.table(arch.audit_arch()).filter(|_| policy.architectures.contains(arch));
    let Some(table) = table else {
        return Err(FormatError::Inexpressible {
            what: format!("a policy that is not for {arch}"),
            right: "a filter of Kafel is for the machine's own architecture".to_owned(),
        });
    };
    let mut text = String::new();
    let mut always: BTreeMap<std::cmp::Reverse<Action>, Vec<String>> = BTreeMap::new();
    let mut conditional = Vec::new();
    for nr in numbers(table, policy.default) {
        let chain = table.chain(nr);
        let call = calls::name(arch, nr);
        let name = call.map_or_else(|| format!("SYSCALL[{nr}]"), str::to_owned);
        if chain.arms.is_empty() {
            always.entry(std::cmp::Reverse(chain.otherwise)).or_default().push(name);
        } else {
            let call = call.and_then(|name| calls::call(arch, name));
            conditional.push(said(&name, call.as_ref(), chain, arch, policy.default));
        }
    }
    let mut blocks: Vec<String> = always
        .iter()
        .filter(|(action, _)| action.0 != policy.default)
        .map(|(action, names)| format!("{} {{\n{}\n}}", action_text(action.0), wrapped(names)))
        .collect();
    blocks.append(&mut conditional);
    text.push_str(&blocks.join(",\n"));
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{}DEFAULT {}",
        if blocks.is_empty() { "" } else { "\n" },
        action_text(policy.default)
    );
    let (installed, _) = install(&text, target)?;
    Exported::new(text, &rules, &installed, &policy.architectures)
}

/// The numbers that get something other than the default: those of calls, and others where they are
/// few; there are no ranges.
fn numbers(table: &Table, default: Action) -> BTreeSet<u32> {
    const FEW: u32 = 1024;
    let differs = |chain: &Chain| !chain.arms.is_empty() || chain.otherwise != default;
    let spans = table.spans().filter(|(first, last, chain)| differs(chain) && last - first < FEW);
    spans.flat_map(|(first, last, _)| first..=last).collect()
}

/// What is said of a call by its arguments.
fn said(name: &str, call: Option<&Call>, chain: &Chain, arch: Arch, default: Action) -> String {
    let mut tests = Vec::new();
    for arm in &chain.arms {
        collect(&arm.when, &mut tests);
    }
    // Kafel's own names of the arguments, if it compares them as the policy does.
    let own = |test: &Test| {
        let (name, wide) = call?.arg_at(test.arg())?;
        let alike = wide == (test.width() == Width::W64) || !arch.is_64_bit();
        alike.then(|| name.to_owned())
    };
    let names: Option<BTreeMap<u8, String>> =
        tests.iter().map(|test| Some((test.arg(), own(test)?))).collect();
    let (name, names) = match names {
        Some(names) => (name.to_owned(), names),
        None => {
            let last = tests.iter().map(Test::arg).max().unwrap_or(0);
            let list: Vec<String> = (0..=last).map(|index| format!("arg{index}")).collect();
            let names = (0..=last).map(|index| (index, format!("arg{index}"))).collect();
            (format!("{name}({})", list.join(", ")), names)
        }
    };
    let whole = |test: &Test| {
        let wide = match own(test).filter(|own| names.get(&test.arg()) == Some(own)) {
            Some(_) => test.width(),
            None => Width::W64,
        };
        test.mask() == wide.mask()
    };
    let arms = chain.arms.iter().map(|arm| {
        let when = expression(&arm.when, &names, &whole, true);
        format!("{} {{ {name} {{ {when} }} }}", action_text(arm.action))
    });
    let otherwise = (chain.otherwise != default)
        .then(|| format!("{} {{ {name} }}", action_text(chain.otherwise)));
    arms.chain(otherwise).collect::<Vec<_>>().join(",\n")
}

fn collect(condition: &Condition, tests: &mut Vec<Test>) {
    match condition {
        Condition::Test(test) => tests.push(*test),
        Condition::All(parts) | Condition::Any(parts) => {
            parts.iter().for_each(|part| collect(part, tests));
        }
        Condition::Not(inner) => collect(inner, tests),
    }
}

/// A condition; in parentheses unless it stands alone.
fn expression(
    condition: &Condition,
    names: &BTreeMap<u8, String>,
    whole: &impl Fn(&Test) -> bool,
    alone: bool,
) -> String {
    let parts = |parts: &[Condition], between: &str, empty: &str| -> String {
        let parts: Vec<String> =
            parts.iter().map(|part| expression(part, names, whole, false)).collect();
        match parts.len() {
            0 => empty.to_owned(),
            1 => parts.concat(),
            _ if alone => joined(parts, between),
            _ => format!("({})", joined(parts, between)),
        }
    };
    match condition {
        Condition::All(all) => parts(all, " && ", "0 == 0"),
        Condition::Any(some) => parts(some, " || ", "0 == 1"),
        Condition::Not(inner) => format!("!({})", expression(inner, names, whole, true)),
        Condition::Test(test) => {
            let name = names.get(&test.arg()).map_or("", String::as_str);
            let (op, value) = (op_text(test.op()), test.value());
            if whole(test) {
                format!("{name} {op} {}", number(value))
            } else {
                format!("({name} & {:#x}) {op} {}", test.mask(), number(value))
            }
        }
    }
}

/// Parts side by side, or if they are many in groups.
fn joined(mut parts: Vec<String>, between: &str) -> String {
    while parts.len() > SIDE_BY_SIDE {
        let group = |parts: &[String]| format!("({})", parts.join(between));
        parts = parts.chunks(SIDE_BY_SIDE).map(group).collect();
    }
    parts.join(between)
}

fn number(value: u64) -> String {
    if value < 0x1_0000 { value.to_string() } else { format!("{value:#x}") }
}

fn wrapped(names: &[String]) -> String {
    let mut lines = vec![String::from("   ")];
    for (index, name) in names.iter().enumerate() {
        if lines.last().is_some_and(|line| line.len() + name.len() > 98) {
            lines.push(String::from("   "));
        }
        if let Some(line) = lines.last_mut() {
            line.push(' ');
            line.push_str(name);
            line.push_str(if index + 1 < names.len() { "," } else { "" });
        }
    }
    lines.join("\n")
}

fn action_text(action: Action) -> String {
    match action {
        Action::Allow => "ALLOW".to_owned(),
        Action::Log => "LOG".to_owned(),
        Action::Notify => "USER_NOTIF".to_owned(),
        Action::KillThread => "KILL".to_owned(),
        Action::KillProcess => "KILL_PROCESS".to_owned(),
        Action::Errno(errno) => format!("ERRNO({errno})"),
        Action::Trap(data) => format!("TRAP({data})"),
        Action::Trace(data) => format!("TRACE({data})"),
    }
}
