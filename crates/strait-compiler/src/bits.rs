//! Better trees, by questions about bits.
//!
//! `A & K != 0` divides values otherwise than `A >= K` does: where all exceptions among many
//! values lack some bit, one question settles every value that has it. What is left are values
//! with holes between them, which is what the search in [`crate::tree`] takes anyway: a value that
//! cannot come may be on either side of a question.
//!
//! before: `A == 101 ? b : A == 105 ? b : A == 321 ? b : a`
//! after: `A & 0x92 != 0 ? a : (A == 101 ? b : A == 105 ? b : A == 321 ? b : a)`
//!
//! The best such questions cannot be found by dynamic programming over runs, so this is a descent:
//! at each step, the few most promising masks are compared with the best tree without any.

use crate::graph::{Compare, Graph};
use crate::hash::QuickMap;
use crate::search::plan;
use crate::tree::{Aim, Asked, Span, joined};

/// Values above this are not looked at one by one.
const EACH: u32 = 1 << 9;
/// At most so many values and spans of values can be told apart.
const ATOMS: usize = 640;
/// Masks that are compared by the best trees without further ones, in each step.
const TRIED: usize = 8;
/// Masks that are followed further, in each step.
const FOLLOWED: usize = 2;
/// A mask is followed if this part more than the best tree without it is the most that it costs.
const SLACK: u64 = 32;
/// Sets that are looked at before the search contents itself with trees without masks.
const PATIENCE: usize = 1500;
/// Bits of which all combinations are tried as masks.
const BITS: usize = 9;

/// A set of atoms.
type Set = [u64; ATOMS / 64];

/// The tree, or none if there are too many values to tell apart.
pub(crate) fn tree(graph: &mut Graph, atoms: &[Span], price: u64, aim: Aim) -> Option<Asked> {
    if atoms.len() > ATOMS {
        return None;
    }
    let mut descent = Descent::new(atoms, price, aim);
    let mut all = [0; ATOMS / 64];
    (0..atoms.len()).for_each(|atom| all[atom / 64] |= 1 << (atom % 64));
    Some(descent.build(graph, &all))
}

/// Spans taken apart into single values, where these are small.
pub(crate) fn atoms(spans: &[Span]) -> Vec<Span> {
    let mut atoms = Vec::new();
    for span in spans {
        let values = (span.last - span.first).saturating_add(1);
        let each = span.weight / u64::from(values);
        let mut first = span.first;
        while first < span.last && first < EACH {
            atoms.push(Span { first, last: first, weight: each, ..*span });
            first += 1;
        }
        let values = (span.last - first).saturating_add(1);
        atoms.push(Span { first, weight: each * u64::from(values), ..*span });
    }
    atoms
}

/// What to do first with a set.
#[derive(Clone, Copy, Debug)]
enum Move {
    /// The best tree without questions about bits.
    Plan,
    /// This question first.
    Ask(Compare, u32),
}

struct Descent<'a> {
    atoms: &'a [Span],
    price: u64,
    aim: Aim,
    /// For each bit, the single values that have it.
    having: [Set; 32],
    /// The atoms that are more than one value.
    wide: Vec<usize>,
    estimates: QuickMap<Set, u64>,
    found: QuickMap<Set, (u64, Move)>,
}

impl<'a> Descent<'a> {
    fn new(atoms: &'a [Span], price: u64, aim: Aim) -> Descent<'a> {
        let mut having = [[0; ATOMS / 64]; 32];
        let mut wide = Vec::new();
        for (index, atom) in atoms.iter().enumerate() {
            if atom.first != atom.last {
                wide.push(index);
                continue;
            }
            for (bit, having) in having.iter_mut().enumerate() {
                having[index / 64] |= u64::from(atom.first >> bit & 1) << (index % 64);
            }
        }
        let (estimates, found) = (QuickMap::default(), QuickMap::default());
        Descent { atoms, price, aim, having, wide, estimates, found }
    }

    /// The atoms of a set, in order.
    fn live<'s>(&self, set: &'s Set) -> impl Iterator<Item = Span> + Clone + use<'s, 'a> {
        let atoms = self.atoms;
        set.iter().enumerate().flat_map(move |(word, &bits)| {
            let mut bits = bits;
            std::iter::from_fn(move || {
                let bit = (bits != 0).then(|| bits.trailing_zeros() as usize)?;
                bits &= bits - 1;
                Some(atoms[word * 64 + bit])
            })
        })
    }

    /// Makes the best tree found over a set.
    fn build(&mut self, graph: &mut Graph, set: &Set) -> Asked {
        let live: Vec<Span> = self.live(set).collect();
        self.best(set);
        match self.found.get(set) {
            Some(&(_, Move::Ask(compare, constant))) => {
                let (yes, no) = self.divide(set, compare, constant);
                let yes = self.build(graph, &yes);
                let no = self.build(graph, &no);
                let total: u64 = live.iter().map(|atom| atom.weight).sum();
                Asked {
                    root: graph.test(compare, constant, yes.root, no.root),
                    questions: total + yes.questions + no.questions,
                }
            }
            _ => plan(&joined(live.iter().copied()), self.aim, self.price).build(graph),
        }
    }

    /// The cost of the best tree found over a set.
    fn best(&mut self, set: &Set) -> u64 {
        if let Some(&(cost, _)) = self.found.get(set) {
            return cost;
        }
        let best = self.search(set);
        self.found.insert(*set, best);
        best.0
    }

    fn search(&mut self, set: &Set) -> (u64, Move) {
        let spans = joined(self.live(set));
        let without = plan(&spans, self.aim, self.price);
        let mut best = (without.cost, Move::Plan);
        if without.cost == 0 || self.found.len() > PATIENCE {
            return best;
        }
        let question = spans.iter().map(|span| span.weight).sum::<u64>() + self.price;
        let mut moves = self.masks(set, question);
        moves.retain(|&(cost, _)| cost <= without.cost + without.cost / SLACK);
        moves.truncate(FOLLOWED);
        let mut moves: Vec<Move> =
            moves.into_iter().map(|(_, mask)| Move::Ask(Compare::AnyBit, mask)).collect();
        if let Some((compare, constant)) = without.first() {
            moves.push(Move::Ask(compare, constant));
        }
        for next in moves {
            let Move::Ask(compare, constant) = next else { continue };
            let (yes, no) = self.divide(set, compare, constant);
            let cost = question + self.best(&yes) + self.best(&no);
            if cost < best.0 {
                best = (cost, next);
            }
        }
        best
    }

    /// The most promising masks, and what they cost if no other follows.
    fn masks(&mut self, set: &Set, question: u64) -> Vec<(u64, u32)> {
        let single = || self.live(set).filter(|atom| atom.first == atom.last);
        let some = single().fold(0, |some, atom| some | atom.first);
        let every = single().fold(u32::MAX, |every, atom| every & atom.first);
        let mut varied = some & !every;
        while varied.count_ones() > u32::try_from(BITS).unwrap_or(u32::MAX) {
            varied &= varied - 1;
        }
        let mut tried: Vec<(u64, u32)> = Vec::new();
        // All parts of `varied`, from the least.
        let mut part = 0_u32;
        loop {
            for mask in [part, part | !some] {
                let (any, none) = self.divide(set, Compare::AnyBit, mask);
                if any != *set && none != *set {
                    tried.push((self.estimate(&any) + self.estimate(&none), mask));
                }
            }
            part = part.wrapping_sub(varied) & varied;
            if part == 0 {
                break;
            }
        }
        tried.sort_unstable();
        tried.dedup();
        tried.truncate(TRIED);
        for (cost, mask) in &mut tried {
            let (any, none) = self.divide(set, Compare::AnyBit, *mask);
            *cost = question + self.planned(&any) + self.planned(&none);
        }
        tried.sort_unstable();
        tried
    }

    fn planned(&self, set: &Set) -> u64 {
        plan(&joined(self.live(set)), self.aim, self.price).cost
    }

    /// What of a set can answer yes to a question, and what can answer no.
    fn divide(&self, set: &Set, compare: Compare, constant: u32) -> (Set, Set) {
        let (mut yes, mut no) = (*set, *set);
        if compare == Compare::AnyBit {
            let mut having = [0; ATOMS / 64];
            let mut bits = constant;
            while bits != 0 {
                let bit = &self.having[bits.trailing_zeros() as usize];
                having.iter_mut().zip(bit).for_each(|(having, bit)| *having |= bit);
                bits &= bits - 1;
            }
            for ((yes, no), having) in yes.iter_mut().zip(&mut no).zip(having) {
                *yes &= having;
                *no &= !having;
            }
            for &atom in &self.wide {
                let Span { first, last, .. } = self.atoms[atom];
                let here = set[atom / 64] & 1 << (atom % 64);
                if can_have(first, last, constant) {
                    yes[atom / 64] |= here;
                }
                if !can_lack(first, last, constant) {
                    no[atom / 64] &= !here;
                }
            }
            return (yes, no);
        }
        for (index, atom) in self.atoms.iter().enumerate() {
            let holds = match compare {
                Compare::Equal => atom.first == constant,
                _ => atom.first >= constant,
            };
            let from = if holds { &mut no } else { &mut yes };
            from[index / 64] &= !(1 << (index % 64));
        }
        (yes, no)
    }

    /// About what a tree over a set costs.
    fn estimate(&mut self, set: &Set) -> u64 {
        if let Some(&estimate) = self.estimates.get(set) {
            return estimate;
        }
        let estimate = balanced(&joined(self.live(set)), self.price);
        self.estimates.insert(*set, estimate);
        estimate
    }
}

/// The cost of the tree that always divides in the middle of the weight.
fn balanced(spans: &[Span], price: u64) -> u64 {
    let Some((first, others)) = spans.split_first() else { return 0 };
    if others.iter().all(|span| span.target == first.target) {
        return 0;
    }
    let question = spans.iter().map(|span| span.weight).sum::<u64>() + price;
    if let [a, b, c] = spans
        && a.target == c.target
        && b.first == b.last
    {
        return question;
    }
    let half = (question - price) / 2;
    let mut before = 0;
    let at = spans.iter().position(|span| {
        before += span.weight;
        before > half
    });
    let at = at.unwrap_or(spans.len() / 2).clamp(1, spans.len() - 1);
    let (below, above) = spans.split_at(at);
    question + balanced(below, price) + balanced(above, price)
}

/// Whether some value of `first..=last` has a bit of the mask.
fn can_have(first: u32, last: u32, mask: u32) -> bool {
    // Below the highest bit in which they differ, all bits occur.
    let under = match (first ^ last).checked_ilog2() {
        None => 0,
        Some(bit) => u32::MAX >> (31 - bit),
    };
    (first | last | under) & mask != 0
}

/// Whether some value of `first..=last` has no bit of the mask.
fn can_lack(first: u32, last: u32, mask: u32) -> bool {
    let mut value = first;
    while let Some(bit) = (value & mask).checked_ilog2() {
        // The next value without this bit.
        match (value >> bit).checked_add(1).filter(|next| next.leading_zeros() >= bit) {
            Some(next) => value = next << bit,
            None => return false,
        }
    }
    value <= last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_of_ranges() {
        for first in 0..32_u32 {
            for last in first..32 {
                for mask in 0..64 {
                    let have = (first..=last).any(|value| value & mask != 0);
                    let lack = (first..=last).any(|value| value & mask == 0);
                    assert_eq!(can_have(first, last, mask), have, "{first} {last} {mask}");
                    assert_eq!(can_lack(first, last, mask), lack, "{first} {last} {mask}");
                }
            }
        }
        assert!(!can_lack(u32::MAX - 1, u32::MAX, 2));
        assert!(can_have(0, u32::MAX, 1 << 31));
    }
}
