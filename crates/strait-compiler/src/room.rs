//! What takes the room in a program that is too long.

use std::fmt;

use strait_abi::AuditArch;
use strait_policy::Rules;
use strait_policy::rules::Table;

use crate::{Options, instructions};

/// So many are named.
const NAMED: usize = 3;

/// A part of rules and how many instructions it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// The audit arch.
    pub arch: AuditArch,
    /// The number, where it is about the arguments of one; the first of a span of them.
    pub nr: Option<u32>,
    /// About how many instructions it takes.
    pub instructions: usize,
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Room { arch, nr, instructions } = self;
        match nr {
            Some(nr) => write!(f, "the arguments of call {nr} of {arch} ({instructions})"),
            None => write!(f, "telling the calls of {arch} apart ({instructions})"),
        }
    }
}

/// The parts that take the most, each measured alone.
pub(crate) fn largest(rules: &Rules, options: &Options) -> Vec<Room> {
    let alone = |arch, table: Table| {
        instructions(&Rules::new(rules.foreign()).with_table(arch, table), options).len()
    };
    let mut parts = Vec::new();
    for (arch, table) in rules.tables() {
        let mut numbers = table.clone();
        for (first, last, chain) in table.spans().filter(|(_, _, chain)| !chain.arms.is_empty()) {
            let instructions = alone(arch, Table::new(chain.clone()));
            parts.push(Room { arch, nr: Some(first), instructions });
            numbers.set(first, last, chain.otherwise);
        }
        parts.push(Room { arch, nr: None, instructions: alone(arch, numbers) });
    }
    parts.sort_by_key(|part| std::cmp::Reverse(part.instructions));
    parts.truncate(NAMED);
    parts
}
