//! Raising: a policy that means given [`Rules`], in as few and as readable rules as it can.
//!
//! The inverse of lowering: `raise(…).lower()` says of every call what the rules said. Foreign
//! formats are resolved to rules first and raised then, so that what is read is what was meant.

use std::collections::{BTreeMap, BTreeSet};

use strait_abi::{Arch, Syscall};
use strait_bpf::Action;

use crate::lower::LowerError;
use crate::policy::{Architectures, Numbers, Policy, Rule, Unknown};
use crate::rules::{Chain, Condition, Op, Rules, Test};
use crate::signature::register_width;
use crate::when::{At, Expr, Operand, Radix, Value, When};

/// A policy for `architectures` that means `rules`, which must not have a table for any other
/// ABI. What `default` and `unknown` say needs no rule.
pub(crate) fn raise(
    rules: &Rules,
    architectures: Architectures,
    default: Action,
    unknown: Option<Unknown>,
) -> Result<Policy, LowerError> {
    let mut policy = Policy::new(architectures, default);
    policy.foreign = rules.foreign();
    policy.unknown = unknown;
    let base = policy.lower()?;

    let mut groups: BTreeMap<Clauses, Group> = BTreeMap::new();
    for arch in policy.architectures.iter() {
        let (Some(table), Some(base)) =
            (rules.table(arch.audit_arch()), base.table(arch.audit_arch()))
        else {
            continue;
        };
        let calls = calls_of(arch);
        for (first, last) in common_spans(table, base) {
            let chain = table.chain(first);
            if chain == base.chain(first) {
                continue;
            }
            let fallback = base.chain(first).otherwise;
            let named = calls_in(&calls, first, last);
            for &(_, call) in named {
                let clauses = Clauses::new(chain, fallback, Some(call), arch);
                let group = groups.entry(clauses).or_default();
                group.calls.entry(call).or_default().insert(arch);
            }
            let clauses = Clauses::new(chain, fallback, None, arch);
            let group = groups.entry(clauses).or_default();
            let mut unnamed = first;
            for &(nr, _) in named {
                if nr > unnamed {
                    group.insert_numbers(&policy.architectures, arch, unnamed, nr - 1);
                }
                unnamed = nr + 1;
            }
            group.insert_numbers(&policy.architectures, arch, unnamed, last);
        }
    }
    // What is allowed whatever its arguments stands first, what has no name last.
    let mut groups: Vec<(Clauses, Group)> = groups.into_iter().collect();
    groups.sort_by_key(|(clauses, _)| {
        (!clauses.conditions.is_empty(), std::cmp::Reverse(clauses.otherwise))
    });
    let mut numbered = Vec::new();
    for (clauses, group) in groups {
        clauses.write(group, &policy.architectures, &mut policy.rules, &mut numbered);
    }
    policy.rules.append(&mut numbered);
    Ok(policy)
}

/// The spans in which both tables have one chain each.
fn common_spans(
    one: &crate::rules::Table,
    other: &crate::rules::Table,
) -> impl Iterator<Item = (u32, u32)> {
    let starts: BTreeSet<u32> =
        one.spans().chain(other.spans()).map(|(first, _, _)| first).collect();
    let ends: Vec<u32> = starts.iter().skip(1).map(|next| next - 1).chain([u32::MAX]).collect();
    starts.into_iter().zip(ends)
}

/// The calls of `arch` by number; of two names of one number the first.
fn calls_of(arch: Arch) -> Vec<(u32, Syscall)> {
    let numbered = |call: Syscall| Some((call.number(arch)?, call));
    let mut calls: Vec<(u32, Syscall)> = Syscall::all().filter_map(numbered).collect();
    calls.sort();
    calls.dedup_by_key(|(nr, _)| *nr);
    calls
}

/// Those of them that have a number in a span.
fn calls_in(calls: &[(u32, Syscall)], first: u32, last: u32) -> &[(u32, Syscall)] {
    let start = calls.partition_point(|(nr, _)| *nr < first);
    let end = calls.partition_point(|(nr, _)| *nr <= last);
    &calls[start..end]
}

/// Which calls have the same clauses.
#[derive(Default)]
struct Group {
    calls: BTreeMap<Syscall, BTreeSet<Arch>>,
    numbers: BTreeMap<Arch, Numbers>,
}

impl Group {
    /// Adds numbers without names, if they are for this ABI to say: x32 has those with its bit.
    fn insert_numbers(&mut self, listed: &Architectures, arch: Arch, first: u32, last: u32) {
        let bit = Arch::X32_BIT;
        let ranges = match arch {
            Arch::X86_64 if listed.contains(Arch::X32) => vec![(0, bit - 1), (2 * bit, u32::MAX)],
            Arch::X32 if listed.contains(Arch::X86_64) => vec![(bit, 2 * bit - 1)],
            _ => vec![(0, u32::MAX)],
        };
        for (from, to) in ranges {
            let (first, last) = (first.max(from), last.min(to));
            if first <= last {
                self.numbers.entry(arch).or_default().insert(first, last);
            }
        }
    }
}

/// What a call gets: conditions as text, which is the same on ABIs of other widths, and last what
/// it gets else, unless that goes without saying.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Clauses {
    conditions: Vec<(String, Action)>,
    otherwise: Option<Action>,
}

impl Clauses {
    fn new(chain: &Chain, fallback: Action, call: Option<Syscall>, arch: Arch) -> Clauses {
        let mut conditions: Vec<(Vec<Expr>, Action)> = Vec::new();
        let mut otherwise = chain.otherwise;
        for arm in &chain.arms {
            match (simplified(expr(&arm.when, call, arch)), conditions.last_mut()) {
                (Err(false), _) => {}
                (Err(true), _) => {
                    otherwise = arm.action;
                    break;
                }
                (Ok(expr), Some((exprs, action))) if *action == arm.action => exprs.push(expr),
                (Ok(expr), _) => conditions.push((vec![expr], arm.action)),
            }
        }
        let text = |exprs: Vec<Expr>| When::new(any(exprs)).to_string();
        Clauses {
            conditions: conditions.into_iter().map(|(exprs, act)| (text(exprs), act)).collect(),
            otherwise: Some(otherwise).filter(|action| *action != fallback),
        }
    }

    /// The rules of a group, and apart from them those of its numbers without names.
    fn write(
        &self,
        group: Group,
        listed: &Architectures,
        named: &mut Vec<Rule>,
        numbered: &mut Vec<Rule>,
    ) {
        let mut by_arches: BTreeMap<BTreeSet<Arch>, BTreeSet<Syscall>> = BTreeMap::new();
        for (call, arches) in group.calls {
            let has_call = |arch: &Arch| call.number(*arch).is_some();
            let everywhere = listed.iter().filter(has_call).all(|arch| arches.contains(&arch));
            let arches = if everywhere { BTreeSet::new() } else { arches };
            by_arches.entry(arches).or_default().insert(call);
        }
        for (arch, calls) in by_arches {
            let rule = Rule { arch, ..Rule::new(calls, Action::KillProcess) };
            self.write_for(&rule, named);
        }
        for (arch, numbers) in group.numbers {
            let rule =
                Rule { arch: BTreeSet::from([arch]), numbers, ..Rule::new([], Action::Allow) };
            self.write_for(&rule, numbered);
        }
    }

    fn write_for(&self, rule: &Rule, rules: &mut Vec<Rule>) {
        for (text, action) in &self.conditions {
            // What was printed is read back; see `When`'s `Display`.
            if let Ok(when) = When::read(text) {
                rules.push(Rule { when: Some(when), action: *action, ..rule.clone() });
            }
        }
        if let Some(action) = self.otherwise {
            rules.push(Rule { action, ..rule.clone() });
        }
    }
}

/// The expression without parts that always or never hold, or whether it does itself.
fn simplified(expr: Expr) -> Result<Expr, bool> {
    let parts = |parts: Vec<Expr>, of_all: bool| {
        let mut left = Vec::new();
        for part in parts {
            match simplified(part) {
                Ok(part) => left.push(part),
                Err(holds) if holds == of_all => {}
                Err(holds) => return Err(holds),
            }
        }
        if left.is_empty() { Err(of_all) } else { Ok(left) }
    };
    match expr {
        Expr::All(all) => parts(all, true).map(Expr::all),
        Expr::Any(some) => parts(some, false).map(any),
        Expr::Not(inner) => match simplified(*inner) {
            Ok(inner) => Ok(Expr::Not(Box::new(inner))),
            Err(holds) => Err(!holds),
        },
        expr => Ok(expr),
    }
}

/// A condition as an expression of a call's arguments.
fn expr(condition: &Condition, call: Option<Syscall>, arch: Arch) -> Expr {
    let parts = |parts: &[Condition]| parts.iter().map(|part| expr(part, call, arch)).collect();
    match condition {
        Condition::All(all) => Expr::all(parts(all)),
        Condition::Any(some) => any(parts(some)),
        Condition::Not(inner) => Expr::Not(Box::new(expr(inner, call, arch))),
        Condition::Test(test) => test_expr(test, call, arch),
    }
}

/// A test of what the kernel takes as an argument has the argument's name and constants; one that
/// looks at more or less is of the register.
fn test_expr(test: &Test, call: Option<Syscall>, arch: Arch) -> Expr {
    let register = register_width(arch).mask();
    let seen = test.mask() & test.width().mask();
    let value = test.value();
    if value & !register != 0 {
        // The upper half of such a register is 0.
        let above = matches!(test.op(), Op::Ne | Op::Lt | Op::Le);
        return if above { Expr::All(Vec::new()) } else { Expr::Any(Vec::new()) };
    }
    if let Some(named) = call.and_then(|call| named(test, call, arch)) {
        return named;
    }
    let mask = Some(seen & register).filter(|mask| *mask != register);
    Expr::register(test.arg(), mask, test.op(), value)
}

fn named(test: &Test, call: Syscall, arch: Arch) -> Option<Expr> {
    let arg = call.args(arch)?.get(usize::from(test.arg()))?;
    let (bits, mask, value) = (arg.width(arch).mask(), test.mask(), test.value());
    // A test of part of the argument is one; a test of all of a register that the kernel does
    // not look at as a whole is not.
    let whole = register_width(arch).mask();
    if mask & !bits != 0 || value & !mask != 0 || bits != whole && test.width().mask() == whole {
        return None;
    }
    let names = |value: u64| {
        let text = arg.constants().map(|names| names.text(arch, value, arg.width(arch)))?;
        // A name that many values have, or a number, is no use.
        crate::when::value(&text).filter(|read| !matches!(read, Value::Number { .. }))
    };
    let mask = (mask != bits)
        .then(|| names(mask).unwrap_or(Value::Number { value: mask, radix: Radix::Hexadecimal }));
    let value = match test.op() {
        Op::Eq | Op::Ne if value != 0 || mask.is_none() => names(value),
        _ => None,
    };
    let value = value.unwrap_or_else(|| Value::number(test.value()));
    let operand = Operand { name: arg.name().to_owned(), mask, at: At::default() };
    Some(Expr::Compare { operand, op: test.op(), value })
}

/// At least one holds; equalities of the same argument become a set.
fn any(parts: Vec<Expr>) -> Expr {
    let mut joined: Vec<Expr> = Vec::new();
    for part in parts {
        let values = match &part {
            Expr::Compare { operand, op: Op::Eq, value } => Some((operand, vec![value.clone()])),
            Expr::In { operand, values } => Some((operand, values.clone())),
            _ => None,
        };
        if let Some((operand, values)) = values {
            let same = joined.iter_mut().find_map(|other| match other {
                Expr::In { operand: theirs, values } if theirs == operand => Some(values),
                _ => None,
            });
            match same {
                Some(theirs) => theirs.extend(values),
                None => joined.push(Expr::In { operand: operand.clone(), values }),
            }
        } else {
            joined.push(part);
        }
    }
    for part in &mut joined {
        if let Expr::In { operand, values } = part
            && let [value] = values.as_slice()
        {
            let (operand, value): (_, Value) = (operand.clone(), value.clone());
            *part = Expr::Compare { operand, op: Op::Eq, value };
        }
    }
    Expr::any(joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raised(text: &str) -> Policy {
        let policy = Policy::parse(text).unwrap();
        let rules = policy.lower().unwrap();
        let raised =
            raise(&rules, policy.architectures.clone(), policy.default, policy.unknown).unwrap();
        let meaning = raised.lower().unwrap().decision().unwrap();
        let comparison = rules.decision().unwrap().compare(&meaning).unwrap();
        assert_eq!(comparison.differences, [], "{raised}");
        assert_eq!(Policy::parse(&raised.to_string()).unwrap(), raised);
        raised
    }

    #[test]
    fn what_is_raised_means_the_same() {
        let head = "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec:\n";
        let policy = raised(&format!(
            "{head}  architectures: [x86_64, i386, x32]\n  foreign: kill-thread\n  \
             default: errno(EPERM)\n  unknown: {{after: \"7.2\", action: errno(ENOSYS)}}\n  rules:\n  \
             - {{syscalls: [read, write, socketcall], action: allow}}\n  \
             - {{syscalls: [personality], when: arg0 == 0 or arg0 == 8, action: allow}}\n  \
             - {{syscalls: [personality], when: arg0 == 9, action: log}}\n  \
             - {{syscalls: [personality], action: notify}}\n  \
             - {{syscalls: [socket], arch: [x86_64], when: arg0 < 40, action: allow}}\n  \
             - {{numbers: [\"336-350\", 0xffffffff], arch: [x86_64], action: trap(1)}}\n  \
             - {{numbers: [0x40001000], arch: [x32], action: allow}}\n"
        ));
        let rules: Vec<String> = policy
            .rules
            .iter()
            .filter_map(|rule| rule.when.as_ref().map(ToString::to_string))
            .collect();
        assert_eq!(
            rules,
            [
                "arg0 in {0, 8}",
                "arg0 == 9",
                "persona in {PER_LINUX, PER_LINUX32}",
                "persona == 9",
                "arg0 < 40"
            ]
        );
        assert!(policy.rules[0].arch.is_empty());
        assert_eq!(policy.rules[0].syscalls.len(), 3);
    }

    #[test]
    fn what_default_and_unknown_say_needs_no_rule() {
        let head = "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec:\n";
        let policy = raised(&format!("{head}  architectures: [s390x]\n  default: log\n"));
        assert!(policy.rules.is_empty());
    }
}
