//! Builds a filter with seccompiler and writes it to standard output as `struct sock_filter`.
//!
//! Standard input has one line each: `default ACTION`, `rule ACTION CALL NR COUNT
//! [ARG OP VALUE VALUE2 BITS]…` with libseccomp's numbers for OP. A rule with another action than
//! the first is left out: seccompiler has one action for all that match.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::{Read, Write};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let mut default = 0;
    let mut matching = None;
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["default", action] => default = action.parse()?,
            ["rule", action, _, nr, _, ref conditions @ ..] => {
                let action: u32 = action.parse()?;
                if *matching.get_or_insert(action) != action || nr == "-1" {
                    continue;
                }
                let conditions = conditions
                    .chunks(5)
                    .map(condition)
                    .collect::<Result<Vec<_>, Box<dyn std::error::Error>>>()?;
                let rule = rules.entry(nr.parse()?).or_default();
                if !conditions.is_empty() {
                    rule.push(SeccompRule::new(conditions)?);
                }
            }
            _ => {}
        }
    }
    let (default, matching) = (action(default), action(matching.unwrap_or_default()));
    let filter = SeccompFilter::new(rules, default, matching, TargetArch::x86_64)?;
    let program: BpfProgram = filter.try_into()?;
    let mut bytes = Vec::new();
    for insn in program {
        bytes.extend(insn.code.to_ne_bytes());
        bytes.extend([insn.jt, insn.jf]);
        bytes.extend(insn.k.to_ne_bytes());
    }
    std::io::stdout().write_all(&bytes)?;
    Ok(())
}

fn condition(words: &[&str]) -> Result<SeccompCondition, Box<dyn std::error::Error>> {
    let [arg, op, a, b, bits] = words else { return Err("a condition has five words".into()) };
    let (a, b): (u64, u64) = (a.parse()?, b.parse()?);
    let (op, value) = match *op {
        "1" => (SeccompCmpOp::Ne, a),
        "2" => (SeccompCmpOp::Lt, a),
        "3" => (SeccompCmpOp::Le, a),
        "4" => (SeccompCmpOp::Eq, a),
        "5" => (SeccompCmpOp::Ge, a),
        "6" => (SeccompCmpOp::Gt, a),
        _ => (SeccompCmpOp::MaskedEq(a), b),
    };
    let length = if *bits == "32" { SeccompCmpArgLen::Dword } else { SeccompCmpArgLen::Qword };
    Ok(SeccompCondition::new(arg.parse()?, length, op, value)?)
}

fn action(raw: u32) -> SeccompAction {
    let data = raw & 0xffff;
    match raw & 0xffff_0000 {
        0x7fff_0000 => SeccompAction::Allow,
        0x0005_0000 => SeccompAction::Errno(data),
        0x0003_0000 => SeccompAction::Trap,
        0x0000_0000 => SeccompAction::KillThread,
        _ => SeccompAction::KillProcess,
    }
}
