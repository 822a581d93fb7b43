//! Conditions that a person can read, of what a diagram says of arguments.
//!
//! The bits of one 64-bit value form a block of the diagram. The ways through a block, grouped by
//! where they leave it, say which sets of values are told apart; each set is shown as intervals or
//! as masks, or as what is not in them, whichever is shortest.

use std::fmt;

use super::diagram::Diagram;
use super::spans::Arguments;
use super::store::{FastMap, Ref, Target, Var};
use crate::Action;

/// A set of calls of one arch and number, all of which get the same action. All the constraints
/// hold for each of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// At most one constraint on each argument, in the order of arguments.
    pub when: Vec<Constraint>,
    /// What these calls get.
    pub action: Action,
}

/// A set of values of one argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constraint {
    /// Argument 0 to 5; `None` is the instruction pointer.
    pub arg: Option<u8>,
    /// How much of it is looked at: the low 32 bits or all 64.
    pub bits: u16,
    /// Whether the value is in the set, or is not.
    pub within: bool,
    /// The set.
    pub values: Values,
}

/// A set of values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Values {
    /// Intervals, first and last value, in order and apart.
    Intervals(Vec<(u64, u64)>),
    /// Mask and value: every `v` with `v & mask == value` for one of them.
    Masks(Vec<(u64, u64)>),
}

impl Values {
    /// Whether the value is in the set.
    pub fn contains(&self, value: u64) -> bool {
        match self {
            Values::Intervals(all) => {
                all.iter().any(|&(first, last)| (first..=last).contains(&value))
            }
            Values::Masks(all) => all.iter().any(|&(mask, wanted)| value & mask == wanted),
        }
    }

    fn len(&self) -> usize {
        match self {
            Values::Intervals(all) | Values::Masks(all) => all.len(),
        }
    }
}

impl Constraint {
    /// Whether these arguments and this instruction pointer satisfy it.
    pub fn holds(&self, args: &[u64; 6], instruction_pointer: u64) -> bool {
        let value = match self.arg {
            Some(index) => args.get(usize::from(index)).copied().unwrap_or(0),
            None => instruction_pointer,
        };
        self.values.contains(value & width_mask(self.bits)) == self.within
    }
}

impl fmt::Display for Constraint {
    /// As policies spell it where they can: `arg0 == 5`, `arg1 not in {1, 4..=7}`,
    /// `arg2 & 0xf0 == 0x10`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.arg.map_or("ip".to_owned(), |index| format!("arg{index}"));
        let max = width_mask(self.bits);
        let equal = if self.within { "==" } else { "!=" };
        match &self.values {
            Values::Intervals(all) => match (all.as_slice(), self.within) {
                (&[(first, last)], _) if first == last => {
                    write!(f, "{name} {equal} {}", Number(first))
                }
                (&[(0, last)], true) => write!(f, "{name} <= {}", Number(last)),
                (&[(0, last)], false) => write!(f, "{name} > {}", Number(last)),
                (&[(first, last)], true) if last == max => {
                    write!(f, "{name} >= {}", Number(first))
                }
                (&[(first, last)], false) if last == max => {
                    write!(f, "{name} < {}", Number(first))
                }
                (all, within) => {
                    write!(f, "{name} {}in {{", if within { "" } else { "not " })?;
                    for (i, &(first, last)) in all.iter().enumerate() {
                        f.write_str(if i == 0 { "" } else { ", " })?;
                        write!(f, "{}", Number(first))?;
                        if first != last {
                            write!(f, "..={}", Number(last))?;
                        }
                    }
                    f.write_str("}")
                }
            },
            Values::Masks(all) => {
                let joint = if self.within { " or " } else { " and " };
                for (i, &(mask, value)) in all.iter().enumerate() {
                    f.write_str(if i == 0 { "" } else { joint })?;
                    write!(f, "{name} & {mask:#x} {equal} {}", Number(value))?;
                }
                Ok(())
            }
        }
    }
}

/// Small numbers in decimal, others in hexadecimal.
struct Number(u64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 4096 { write!(f, "{}", self.0) } else { write!(f, "{:#x}", self.0) }
    }
}

const fn width_mask(bits: u16) -> u64 {
    if bits == 32 { 0xffff_ffff } else { u64::MAX }
}

impl Arguments<'_> {
    /// The answer as regions: no call is in two, and every call is in one.
    ///
    /// `None` if there are more than `limit`, or a region cannot be described in as many intervals
    /// or masks.
    pub fn regions(&self, limit: usize) -> Option<Vec<Region>> {
        let mut regions = Vec::new();
        let mut blocks = FastMap::default();
        collect(self.diagram, self.at, limit, &mut Vec::new(), &mut regions, &mut blocks)?;
        Some(regions)
    }
}

/// Intervals, or masks and values.
type Pairs = Vec<(u64, u64)>;

/// The exits of the blocks met so far.
type Blocks = FastMap<Ref, Vec<(Constraint, Ref)>>;

fn collect(
    diagram: &Diagram,
    at: Ref,
    limit: usize,
    when: &mut Vec<Constraint>,
    regions: &mut Vec<Region>,
    blocks: &mut Blocks,
) -> Option<()> {
    if let Some(raw) = diagram.verdict(at) {
        if regions.len() == limit {
            return None;
        }
        regions.push(Region { when: when.clone(), action: Action::from_raw(raw) });
        return Some(());
    }
    let exits = match blocks.get(&at) {
        Some(exits) => exits.clone(),
        None => {
            let exits = exits(diagram, at, diagram.var(at).value_start(), 64, limit)?;
            blocks.entry(at).or_insert(exits).clone()
        }
    };
    for (constraint, next) in exits {
        when.push(constraint);
        collect(diagram, next, limit, when, regions, blocks)?;
        when.pop();
    }
    Some(())
}

/// Where the block of the `bits` bits from `first` on can be left, and with which values; the
/// exits in the order of their least value, or `None` if some set is too long to be written.
pub(super) fn exits(
    diagram: &Diagram,
    at: Ref,
    first: Var,
    bits: u16,
    limit: usize,
) -> Option<Vec<(Constraint, Ref)>> {
    let index = first.value_index();
    let arg = u8::try_from(index).ok().filter(|&index| index < 6);
    // If the high half is not looked at, the low one is all that there is to say.
    let narrow = bits == 64 && diagram.var(at) >= first.plus(32);
    let (first, bits) = if narrow { (first.plus(32), 32) } else { (first, bits) };
    let end = first.plus(bits);

    let mut order: Vec<Ref> = Vec::new();
    let mut sets: FastMap<Ref, [Option<Pairs>; 2]> = FastMap::default();
    // Intervals, as long as there are few.
    let mut intervals = diagram.intervals(at, first, bits);
    let found: Vec<(u64, u64, Ref)> = intervals.by_ref().take(limit).collect();
    let by_interval = intervals.next().is_none();
    // Masks: each way through the block.
    let paths = paths(diagram, at, end, limit);
    if !by_interval && paths.is_none() {
        return None;
    }
    let mut note = |exit: Ref, form: usize, pair: (u64, u64)| {
        let forms = sets.entry(exit).or_insert_with(|| {
            order.push(exit);
            [None, None]
        });
        forms[form].get_or_insert_default().push(pair);
    };
    if by_interval {
        for (first, last, exit) in found {
            note(exit, 0, (first, last));
        }
    }
    for (mask, value, exit) in paths.into_iter().flatten() {
        // Paths count bits from the end of the block already.
        note(exit, 1, (mask, value));
    }

    let values = |exit: Ref| -> Option<(bool, Values)> {
        let of = |form: usize, here: bool| -> Option<Pairs> {
            let mut all = Vec::new();
            for (&other, forms) in &sets {
                if (other == exit) == here {
                    all.extend(forms[form].as_ref()?.iter().copied());
                }
            }
            all.sort_unstable();
            Some(all)
        };
        let candidates = [
            of(0, true).map(|all| (true, Values::Intervals(joined(all)))),
            of(1, true).map(|all| (true, Values::Masks(all))),
            of(0, false).map(|all| (false, Values::Intervals(joined(all)))),
            of(1, false).map(|all| (false, Values::Masks(all))),
        ];
        // The first of the shortest.
        candidates.into_iter().flatten().min_by_key(|(_, values)| values.len())
    };
    order
        .iter()
        .map(|&exit| {
            let (within, values) = values(exit)?;
            Some((Constraint { arg, bits, within, values }, exit))
        })
        .collect()
}

/// Joins neighbouring intervals; they come in order.
fn joined(all: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    let mut result: Vec<(u64, u64)> = Vec::with_capacity(all.len());
    for (first, last) in all {
        match result.last_mut() {
            Some(before) if before.1.checked_add(1) == Some(first) => before.1 = last,
            _ => result.push((first, last)),
        }
    }
    result
}

/// Every way from `at` to below the bit before `end`, as a mask and value of the bits that end
/// there, and where it leads; `None` if there are more than `limit`.
fn paths(diagram: &Diagram, at: Ref, end: Var, limit: usize) -> Option<Vec<(u64, u64, Ref)>> {
    let mut found = Vec::new();
    let mut todo = vec![(at, 0u64, 0u64)];
    while let Some((at, mask, value)) = todo.pop() {
        let var = diagram.var(at);
        if var >= end || matches!(at.target(), Target::Leaf(_)) {
            if found.len() == limit {
                return None;
            }
            found.push((mask, value, at));
            continue;
        }
        let bit = 1u64 << (end.since(var) - 1);
        let (low, high) = diagram.cofactors(at, var);
        todo.push((high, mask | bit, value | bit));
        todo.push((low, mask | bit, value));
    }
    Some(found)
}
