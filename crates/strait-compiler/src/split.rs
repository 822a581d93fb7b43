//! Rules that no single program has room for, as a stack of programs.
//!
//! The kernel runs every filter of a stack and the most restrictive answer wins, so a filter that
//! allows all but some numbers leaves the others to the rest of the stack. Each part of the rules
//! keeps what it says of its own numbers and allows everything else.

use strait_abi::AuditArch;
use strait_bpf::{Action, Program};
use strait_policy::Rules;
use strait_policy::rules::{Chain, Table};

use crate::{CompileError, Options};

/// A span of numbers of one audit arch and what they get.
type Part<'a> = (AuditArch, u32, u32, &'a Chain);

/// Programs that decide as the rules do as a stack; not yet proved.
pub(crate) fn translate(rules: &Rules, options: &Options) -> Result<Vec<Program>, CompileError> {
    let parts: Vec<Part<'_>> = rules
        .tables()
        .flat_map(|(arch, table)| {
            table.spans().map(move |(first, last, chain)| (arch, first, last, chain))
        })
        .collect();
    let mut programs = Vec::new();
    halve(rules, &parts, rules.foreign(), options, &mut programs)?;
    Ok(programs)
}

/// One program for these parts, or the programs of both halves of them.
fn halve(
    rules: &Rules,
    parts: &[Part<'_>],
    foreign: Action,
    options: &Options,
    programs: &mut Vec<Program>,
) -> Result<(), CompileError> {
    match crate::translate(&only(rules, parts, foreign), options) {
        Ok(program) => programs.push(program),
        Err(CompileError::TooLong { .. }) if parts.len() > 1 => {
            let (first, second) = parts.split_at(parts.len() / 2);
            halve(rules, first, foreign, options, programs)?;
            halve(rules, second, Action::Allow, options, programs)?;
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// The rules for these parts alone: every other number is allowed. Every arch keeps a table, so
/// that none is taken for a foreign one.
fn only(rules: &Rules, parts: &[Part<'_>], foreign: Action) -> Rules {
    rules.tables().fold(Rules::new(foreign), |only, (arch, _)| {
        let mut table = Table::new(Action::Allow);
        for &(_, first, last, chain) in parts.iter().filter(|part| part.0 == arch) {
            table.set(first, last, chain.clone());
        }
        only.with_table(arch, table)
    })
}
