//! What Kafel compares: some bits of an argument, some of which may be set besides, with a number.
//!
//! A comparison is of 32 bits, unless the argument has 64 or a number needs more than 32: then it is
//! of all 64, whatever the kernel takes of the argument.

use crate::rules::{Condition, Op, Test, Width};
use crate::text::Problem;

/// `(argument & and) | or`, or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bits {
    /// Which argument; a number if there is none.
    argument: Option<u8>,
    /// The bits that are the argument's; none of them is in `or`.
    and: u64,
    or: u64,
    /// Whether 64 bits are needed.
    wide: bool,
}

impl Bits {
    pub(super) fn number(number: u64) -> Bits {
        Bits { argument: None, and: 0, or: number, wide: number > u64::from(u32::MAX) }
    }

    pub(super) fn argument(index: u8, wide: bool) -> Bits {
        Bits { argument: Some(index), and: u64::MAX, or: 0, wide }
    }

    /// `self & other`
    pub(super) fn and(self, other: Bits) -> Result<Bits, Problem> {
        self.join(other, 0, u64::MAX, |one, other| {
            ((one.and & other.and) | (one.and & other.or) | (one.or & other.and), one.or & other.or)
        })
    }

    /// `self | other`
    pub(super) fn or(self, other: Bits) -> Result<Bits, Problem> {
        self.join(other, u64::MAX, 0, |one, other| (one.and | other.and, one.or | other.or))
    }

    /// Both, of which a number may decide everything or change nothing; that is seen before it is
    /// asked how many bits are needed.
    fn join(
        self,
        other: Bits,
        decides: u64,
        changes_nothing: u64,
        bits: impl Fn(Bits, Bits) -> (u64, u64),
    ) -> Result<Bits, Problem> {
        let argument = match (self.argument, other.argument) {
            (None, None) => return Ok(Bits::number(bits(self, other).1)),
            (Some(one), Some(other)) if one != other => return Err(two_arguments()),
            (one, other) => one.or(other),
        };
        for (number, rest) in [(other, self), (self, other)] {
            if number.argument.is_none() && number.or == decides {
                return Ok(Bits::number(decides));
            }
            if number.argument.is_none() && number.or == changes_nothing {
                return Ok(rest);
            }
        }
        let (and, or) = bits(self, other);
        Ok(Bits { argument, and: and & !or, or, wide: self.wide || other.wide })
    }
}

fn two_arguments() -> Problem {
    Problem::Unsupported {
        what: "a comparison of two arguments",
        right: "a policy compares an argument with a value",
    }
}

/// The condition that two of them compare so.
pub(super) fn compare(left: &Bits, op: Op, right: &Bits) -> Result<Condition, Problem> {
    let holds = |holds: bool| {
        if holds { Condition::All(Vec::new()) } else { Condition::Any(Vec::new()) }
    };
    let (bits, op, number, argument) = match (left.argument, right.argument) {
        (None, None) => {
            let (left, right) = (left.or, right.or);
            return Ok(holds(match op {
                Op::Eq => left == right,
                Op::Ne => left != right,
                Op::Lt => left < right,
                Op::Le => left <= right,
                Op::Gt => left > right,
                Op::Ge => left >= right,
            }));
        }
        (Some(_), Some(_)) if left == right => {
            return Ok(holds(matches!(op, Op::Eq | Op::Le | Op::Ge)));
        }
        (Some(_), Some(_)) => return Err(two_arguments()),
        (Some(argument), None) => (left, op, right, argument),
        (None, Some(argument)) => (right, swapped(op), left, argument),
    };
    let width = if bits.wide || number.wide { Width::W64 } else { Width::W32 };
    let (and, or) = (bits.and & width.mask(), bits.or & width.mask());
    let value = number.or;
    if or != 0 && !matches!(op, Op::Eq | Op::Ne) {
        return Err(Problem::Unsupported {
            what: "an order of bits of which some are always set",
            right: "compare with == or !=, or leave the | out",
        });
    }
    if value & or != or {
        return Ok(holds(op == Op::Ne));
    }
    let test = Test::new(argument, width, and, op, value & !or);
    test.map(Condition::Test).map_err(|error| Problem::Invalid {
        what: "comparison",
        value: value.to_string(),
        right: error.to_string(),
    })
}

fn swapped(op: Op) -> Op {
    match op {
        Op::Lt => Op::Gt,
        Op::Le => Op::Ge,
        Op::Gt => Op::Lt,
        Op::Ge => Op::Le,
        same => same,
    }
}
