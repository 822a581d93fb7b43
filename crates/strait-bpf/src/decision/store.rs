//! The workshop in which decision diagrams are made: every node once, so that two functions are
//! equal exactly if their references are.
//!
//! A node tests one bit of `seccomp_data`. Bits are tested in one fixed order ([`Var`]), no node
//! has two equal children and no two nodes are alike: what is left is canonical (Bryant 1986, here
//! with more than two leaves). Predicates and verdicts live in the same store; a predicate is a
//! diagram whose leaves are [`Ref::FALSE`] and [`Ref::TRUE`].

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::{Budget, Exhausted};
use crate::data::{Half, Word};

/// One bit of `seccomp_data`. The order in which bits are tested: arch, number, the arguments,
/// the instruction pointer; each from its highest bit down, so that an interval, a mask and a
/// comparison of all 64 bits each take at most a node or two a bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Var(u16);

impl Var {
    /// The first bit of the arch.
    pub(super) const ARCH: Var = Var(0);
    /// The first bit of the number.
    pub(super) const NR: Var = Var(32);
    /// The first bit of argument 0.
    pub(super) const ARGS: Var = Var(64);
    /// One more than the last bit; what a leaf counts as.
    pub(super) const END: Var = Var(512);

    /// The first, highest bit of a word.
    pub(super) fn word(word: Word) -> Var {
        let part = |base: u16, half| Var(base + if half == Half::High { 0 } else { 32 });
        match word {
            Word::Arch => Self::ARCH,
            Word::Nr => Self::NR,
            Word::Arg(index, half) => part(Self::ARGS.0 + 64 * u16::from(index), half),
            Word::InstructionPointer(half) => part(Self::ARGS.0 + 64 * 6, half),
        }
    }

    /// Its place in the order of variables.
    pub(super) fn to_le_bytes(self) -> [u8; 2] {
        self.0.to_le_bytes()
    }

    /// The variable `bits` further down the order.
    pub(super) fn plus(self, bits: u16) -> Var {
        Var(self.0 + bits)
    }

    /// How many bits further down the order this one is than `first`.
    pub(super) fn since(self, first: Var) -> u16 {
        self.0.saturating_sub(first.0)
    }

    /// The first bit of the 32-bit word that holds this one.
    pub(super) fn word_start(self) -> Var {
        Var(self.0 & !31)
    }

    /// The first bit of the 64-bit value that holds this one; for arguments and the instruction
    /// pointer.
    pub(super) fn value_start(self) -> Var {
        Var(self.0 & !63)
    }

    /// Index of the 64-bit value that holds this bit: 0 to 5 are the arguments, 6 the instruction
    /// pointer.
    pub(super) fn value_index(self) -> u16 {
        self.since(Self::ARGS) / 64
    }
}

/// A reference to a node or a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Ref(u32);

impl Ref {
    const LEAF: u32 = 1 << 31;
    pub(super) const FALSE: Ref = Ref(Self::LEAF);
    pub(super) const TRUE: Ref = Ref(Self::LEAF | 1);

    pub(super) fn truth(value: bool) -> Ref {
        if value { Self::TRUE } else { Self::FALSE }
    }

    /// The leaf with this number.
    pub(super) fn leaf(number: usize) -> Ref {
        Ref(Self::LEAF | u32::try_from(number).unwrap_or(Self::LEAF - 1))
    }

    /// The node with this number.
    pub(super) fn node(number: usize) -> Ref {
        Ref(u32::try_from(number).unwrap_or(Self::LEAF - 1))
    }

    /// The number, with the highest bit set for a leaf.
    pub(super) fn to_le_bytes(self) -> [u8; 4] {
        self.0.to_le_bytes()
    }

    /// Whether it is a leaf or a node, and which.
    pub(super) fn target(self) -> Target {
        let number = usize::try_from(self.0 & !Self::LEAF).unwrap_or(usize::MAX);
        if self.0 & Self::LEAF == 0 { Target::Node(number) } else { Target::Leaf(number) }
    }
}

/// What a reference refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Node(usize),
    Leaf(usize),
}

/// Goes to `low` where the bit is 0, to `high` where it is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Node {
    pub(super) var: Var,
    pub(super) low: Ref,
    pub(super) high: Ref,
}

/// Nodes, leaves, and the means to make more of them within a budget.
pub(super) struct Store {
    nodes: Vec<Node>,
    /// Open-addressed index into `nodes`: number + 1, or 0 where free.
    unique: Vec<u32>,
    /// Direct-mapped results of [`Store::ite`]; grows with their number.
    cache: Vec<Cached>,
    cached: usize,
    verdicts: Vec<u32>,
    verdict_leaves: FastMap<u32, Ref>,
    budget: Budget,
    steps: u64,
}

#[derive(Clone, Copy)]
struct Cached {
    key: [Ref; 3],
    result: Ref,
}

const EMPTY: Cached = Cached { key: [Ref::FALSE; 3], result: Ref::FALSE };

/// Leaves 0 and 1 are the truth values; verdicts follow.
const FIRST_VERDICT: usize = 2;

impl Store {
    pub(super) fn new(budget: Budget) -> Store {
        Store {
            nodes: Vec::new(),
            unique: vec![0; 1 << 12],
            cache: vec![EMPTY; 1 << 9],
            cached: 0,
            verdicts: Vec::new(),
            verdict_leaves: FastMap::default(),
            budget,
            steps: 0,
        }
    }

    /// The leaf for this verdict, a number that only the caller understands.
    pub(super) fn verdict(&mut self, verdict: u32) -> Ref {
        if let Some(&leaf) = self.verdict_leaves.get(&verdict) {
            return leaf;
        }
        let leaf = Ref::leaf(FIRST_VERDICT + self.verdicts.len());
        self.verdicts.push(verdict);
        self.verdict_leaves.insert(verdict, leaf);
        leaf
    }

    /// The verdict at a leaf; `None` for nodes and truth values.
    pub(super) fn verdict_of(&self, at: Ref) -> Option<u32> {
        match at.target() {
            Target::Leaf(number) => {
                number.checked_sub(FIRST_VERDICT).and_then(|i| self.verdicts.get(i)).copied()
            }
            Target::Node(_) => None,
        }
    }

    /// The bit that is tested first.
    pub(super) fn var(&self, at: Ref) -> Var {
        match at.target() {
            Target::Node(number) => self.nodes[number].var,
            Target::Leaf(_) => Var::END,
        }
    }

    /// What is left once the bit `var`, which is not below the first one tested, is known.
    pub(super) fn cofactors(&self, at: Ref, var: Var) -> (Ref, Ref) {
        match at.target() {
            Target::Node(number) if self.nodes[number].var == var => {
                (self.nodes[number].low, self.nodes[number].high)
            }
            _ => (at, at),
        }
    }

    /// Counts work against the budget.
    pub(super) fn step(&mut self, steps: u64) -> Result<(), Exhausted> {
        self.steps += steps;
        if self.steps > self.budget.steps {
            return Err(Exhausted::Steps(self.budget.steps));
        }
        Ok(())
    }

    /// The node that tests `var`, which is above everything in `low` and `high`.
    pub(super) fn node(&mut self, var: Var, low: Ref, high: Ref) -> Result<Ref, Exhausted> {
        if low == high {
            return Ok(low);
        }
        let node = Node { var, low, high };
        let mask = self.unique.len() - 1;
        let mut slot = index(hash([u32::from(var.0), low.0, high.0])) & mask;
        while let Some(number) = self.unique[slot].checked_sub(1) {
            let found = Ref(number);
            if let Target::Node(number) = found.target()
                && self.nodes[number] == node
            {
                return Ok(found);
            }
            slot = (slot + 1) & mask;
        }
        let number = self.nodes.len();
        if number >= self.budget.nodes.min(1 << 30) {
            return Err(Exhausted::Nodes(self.budget.nodes));
        }
        let made = Ref::node(number);
        self.nodes.push(node);
        self.unique[slot] = made.0 + 1;
        if self.nodes.len() * 2 > self.unique.len() {
            self.grow_unique();
        }
        Ok(made)
    }

    fn grow_unique(&mut self) {
        let size = self.unique.len() * 4;
        let mask = size - 1;
        self.unique.clear();
        self.unique.resize(size, 0);
        for (number, node) in self.nodes.iter().enumerate() {
            let mut slot = index(hash([u32::from(node.var.0), node.low.0, node.high.0])) & mask;
            while self.unique[slot] != 0 {
                slot = (slot + 1) & mask;
            }
            self.unique[slot] = Ref::node(number).0 + 1;
        }
    }

    /// Notes a result of [`Store::ite`].
    fn remember(&mut self, entry: Cached) {
        self.cached += 1;
        if self.cached > self.cache.len() {
            let size = self.cache.len() * 4;
            let old = std::mem::replace(&mut self.cache, vec![EMPTY; size]);
            self.cached = 0;
            for entry in old.into_iter().filter(|entry| entry.key != EMPTY.key) {
                self.remember(entry);
            }
        }
        let slot = index(hash(entry.key.map(|key| key.0))) & (self.cache.len() - 1);
        self.cache[slot] = entry;
    }

    /// If `when` then `then` else `otherwise`, bit by bit.
    pub(super) fn ite(&mut self, when: Ref, then: Ref, otherwise: Ref) -> Result<Ref, Exhausted> {
        if when == Ref::TRUE || then == otherwise {
            return Ok(then);
        }
        if when == Ref::FALSE {
            return Ok(otherwise);
        }
        if then == Ref::TRUE && otherwise == Ref::FALSE {
            return Ok(when);
        }
        let key = [when, then, otherwise];
        let slot = index(hash(key.map(|key| key.0))) & (self.cache.len() - 1);
        let cached = self.cache[slot];
        if cached.key == key {
            return Ok(cached.result);
        }
        self.step(1)?;
        let var = self.var(when).min(self.var(then)).min(self.var(otherwise));
        let (when_low, when_high) = self.cofactors(when, var);
        let (then_low, then_high) = self.cofactors(then, var);
        let (other_low, other_high) = self.cofactors(otherwise, var);
        let low = self.ite(when_low, then_low, other_low)?;
        let high = self.ite(when_high, then_high, other_high)?;
        let result = self.node(var, low, high)?;
        self.remember(Cached { key, result });
        Ok(result)
    }

    pub(super) fn not(&mut self, a: Ref) -> Result<Ref, Exhausted> {
        self.ite(a, Ref::FALSE, Ref::TRUE)
    }

    pub(super) fn and(&mut self, a: Ref, b: Ref) -> Result<Ref, Exhausted> {
        self.ite(a, b, Ref::FALSE)
    }

    pub(super) fn or(&mut self, a: Ref, b: Ref) -> Result<Ref, Exhausted> {
        self.ite(a, Ref::TRUE, b)
    }

    pub(super) fn xor(&mut self, a: Ref, b: Ref) -> Result<Ref, Exhausted> {
        let not_b = self.not(b)?;
        self.ite(a, not_b, b)
    }

    /// `(value & mask)` against `constant`, where the value is the `bits` bits from `first` on:
    /// `less`, `equal` or `greater`.
    pub(super) fn against(
        &mut self,
        first: Var,
        bits: u16,
        mask: u64,
        constant: u64,
        [less, equal, greater]: [bool; 3],
    ) -> Result<Ref, Exhausted> {
        let mut so_far = Ref::truth(equal);
        for bit in 0..bits {
            let var = first.plus(bits - 1 - bit);
            let looked_at = mask >> bit & 1 == 1;
            so_far = match (constant >> bit & 1 == 1, looked_at) {
                (true, true) => self.node(var, Ref::truth(less), so_far)?,
                (true, false) => Ref::truth(less),
                (false, true) => self.node(var, so_far, Ref::truth(greater))?,
                (false, false) => so_far,
            };
        }
        Ok(so_far)
    }

    /// The same as [`Store::against`] and then [`Store::ite`] over 32 bits, without a predicate in
    /// between: one walk down the bits of `constant`. This is what nearly every instruction of a
    /// filter comes to.
    ///
    /// `None` if that is not possible: a diagram tests something above the word, or a bit of it
    /// that is masked.
    pub(super) fn choose(
        &mut self,
        first: Var,
        mask: u32,
        constant: u32,
        when: [bool; 3],
        [then, otherwise]: [Ref; 2],
    ) -> Result<Option<Ref>, Exhausted> {
        if self.var(then).min(self.var(otherwise)) < first {
            return Ok(None);
        }
        self.step(8)?;
        // What is left of `then` and `otherwise` where all bits so far were those of `constant`.
        let mut equal = [then, otherwise];
        // For each bit that decides: what the other value of the bit leads to.
        let mut beside: [(Ref, bool); 32] = [(Ref::FALSE, false); 32];
        let mut depth = 0;
        for bit in 0..32u16 {
            let var = first.plus(bit);
            let (then, otherwise) = (self.cofactors(equal[0], var), self.cofactors(equal[1], var));
            let constant = constant >> (31 - bit) & 1 == 1;
            if mask >> (31 - bit) & 1 == 0 {
                // A masked bit counts as 0.
                if constant || then.0 != then.1 || otherwise.0 != otherwise.1 {
                    return Ok(None);
                }
                beside[usize::from(bit)] = (Ref::FALSE, false);
            } else if constant {
                let less = if when[0] { then.0 } else { otherwise.0 };
                beside[usize::from(bit)] = (less, true);
                equal = [then.1, otherwise.1];
            } else {
                let greater = if when[2] { then.1 } else { otherwise.1 };
                beside[usize::from(bit)] = (greater, true);
                equal = [then.0, otherwise.0];
            }
            depth = bit + 1;
            if equal[0] == equal[1] {
                break;
            }
        }
        let mut result = if when[1] { equal[0] } else { equal[1] };
        for bit in (0..depth).rev() {
            let (other, decides) = beside[usize::from(bit)];
            let var = first.plus(bit);
            result = match (decides, constant >> (31 - bit) & 1 == 1) {
                (false, _) => result,
                (true, true) => self.node(var, other, result)?,
                (true, false) => self.node(var, result, other)?,
            };
        }
        Ok(Some(result))
    }

    /// Joins two verdict diagrams with `join` at the leaves. Where both are the same diagram
    /// already, the result is `same`, or that diagram if `same` is not given.
    pub(super) fn combine(
        &mut self,
        a: Ref,
        b: Ref,
        same: Option<u32>,
        join: &mut dyn FnMut(u32, u32) -> u32,
    ) -> Result<Ref, Exhausted> {
        let same = same.map(|verdict| self.verdict(verdict));
        self.combine_memo(a, b, same, join, &mut FastMap::default())
    }

    fn combine_memo(
        &mut self,
        a: Ref,
        b: Ref,
        same: Option<Ref>,
        join: &mut dyn FnMut(u32, u32) -> u32,
        memo: &mut FastMap<(Ref, Ref), Ref>,
    ) -> Result<Ref, Exhausted> {
        if a == b {
            return Ok(same.unwrap_or(a));
        }
        if let (Some(a), Some(b)) = (self.verdict_of(a), self.verdict_of(b)) {
            return Ok(self.verdict(join(a, b)));
        }
        if let Some(&known) = memo.get(&(a, b)) {
            return Ok(known);
        }
        self.step(1)?;
        let var = self.var(a).min(self.var(b));
        let (a_low, a_high) = self.cofactors(a, var);
        let (b_low, b_high) = self.cofactors(b, var);
        let low = self.combine_memo(a_low, b_low, same, join, memo)?;
        let high = self.combine_memo(a_high, b_high, same, join, memo)?;
        let result = self.node(var, low, high)?;
        memo.insert((a, b), result);
        Ok(result)
    }

    /// Replaces each verdict.
    pub(super) fn map(
        &mut self,
        at: Ref,
        to: &mut dyn FnMut(u32) -> u32,
    ) -> Result<Ref, Exhausted> {
        self.map_memo(at, to, &mut FastMap::default())
    }

    fn map_memo(
        &mut self,
        at: Ref,
        to: &mut dyn FnMut(u32) -> u32,
        memo: &mut FastMap<Ref, Ref>,
    ) -> Result<Ref, Exhausted> {
        if let Some(verdict) = self.verdict_of(at) {
            return Ok(self.verdict(to(verdict)));
        }
        if let Some(&known) = memo.get(&at) {
            return Ok(known);
        }
        self.step(1)?;
        let var = self.var(at);
        let (low, high) = self.cofactors(at, var);
        let low = self.map_memo(low, to, memo)?;
        let high = self.map_memo(high, to, memo)?;
        let result = self.node(var, low, high)?;
        memo.insert(at, result);
        Ok(result)
    }
}

/// A map whose keys are small numbers that nobody outside chooses.
pub(super) type FastMap<K, V> = HashMap<K, V, BuildHasherDefault<FastHasher>>;

/// Multiplies and folds; keys here are small integers.
#[derive(Default)]
pub(super) struct FastHasher(u64);

impl Hasher for FastHasher {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u16(&mut self, word: u16) {
        self.write_u64(u64::from(word));
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn write_usize(&mut self, word: usize) {
        // Lossless on every target that Rust has.
        self.write_u64(u64::try_from(word).unwrap_or(u64::MAX));
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(MULTIPLIER);
    }
}

/// An odd number with its bits well spread (2⁶⁴ divided by the golden ratio).
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

fn hash(words: [u32; 3]) -> u64 {
    let mut hasher = FastHasher::default();
    for word in words {
        hasher.write_u32(word);
    }
    hasher.finish()
}

fn index(hash: u64) -> usize {
    usize::try_from(hash & 0xffff_ffff).unwrap_or(0)
}
