//! What registers hold during symbolic execution: 32-bit terms over the input words.
//!
//! Comparisons of a masked word with a constant, which is nearly all that real filters do, become
//! predicates directly. Everything else goes by way of one predicate a bit, which is exact for any
//! term and merely large for some (products, quotients, two words against each other).

use super::Exhausted;
use super::store::{FastMap, Ref, Store, Var};
use crate::data::Word;
use crate::insn::{Alu, Jump};

/// A term, by its place in [`Terms`]. Equal terms have equal ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct TermId(u32);

/// What a term says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Term {
    Constant(u32),
    Word(Word),
    Alu(Alu, TermId, TermId),
}

/// One predicate a bit, the lowest first.
type Bits = [Ref; 32];

/// Every term met so far.
#[derive(Default)]
pub(super) struct Terms {
    terms: Vec<Term>,
    ids: FastMap<Term, TermId>,
    bits: FastMap<TermId, Box<Bits>>,
    predicates: FastMap<(Jump, TermId, TermId), Ref>,
}

impl Terms {
    pub(super) fn get(&self, id: TermId) -> Term {
        match usize::try_from(id.0).ok().and_then(|i| self.terms.get(i)) {
            Some(&term) => term,
            None => unreachable!("ids are only made by intern"),
        }
    }

    fn intern(&mut self, term: Term) -> TermId {
        *self.ids.entry(term).or_insert_with(|| {
            self.terms.push(term);
            TermId(u32::try_from(self.terms.len() - 1).unwrap_or(u32::MAX))
        })
    }

    pub(super) fn constant(&mut self, value: u32) -> TermId {
        self.intern(Term::Constant(value))
    }

    pub(super) fn word(&mut self, word: Word) -> TermId {
        self.intern(Term::Word(word))
    }

    /// `a` op `b`. The quotient by 0, which no filter lives to see, is taken to be 0.
    pub(super) fn alu(&mut self, alu: Alu, a: TermId, b: TermId) -> TermId {
        match (alu, self.get(a), self.get(b)) {
            (_, Term::Constant(a), Term::Constant(b)) => {
                self.constant(alu.apply(a, b).unwrap_or(0))
            }
            // a & K & L = a & (K & L)
            (Alu::And, Term::Alu(Alu::And, inner, k), Term::Constant(l)) => match self.get(k) {
                Term::Constant(k) => {
                    let both = self.constant(k & l);
                    self.intern(Term::Alu(Alu::And, inner, both))
                }
                _ => self.intern(Term::Alu(alu, a, b)),
            },
            // K op a = a op K
            (Alu::Add | Alu::And | Alu::Or | Alu::Xor | Alu::Mul, Term::Constant(_), _) => {
                self.alu(alu, b, a)
            }
            _ => self.intern(Term::Alu(alu, a, b)),
        }
    }

    /// `yes` where the test holds, `no` elsewhere.
    pub(super) fn choose(
        &mut self,
        (test, a, b): (Jump, TermId, TermId),
        [yes, no]: [Ref; 2],
        store: &mut Store,
    ) -> Result<Ref, Exhausted> {
        if yes == no {
            return Ok(yes);
        }
        if let Some((word, mask, k, when)) = self.word_test(test, a, b)
            && let Some(chosen) = store.choose(Var::word(word), mask, k, when, [yes, no])?
        {
            return Ok(chosen);
        }
        let holds = self.holds(test, a, b, store)?;
        store.ite(holds, yes, no)
    }

    /// Where the test holds.
    fn holds(
        &mut self,
        test: Jump,
        a: TermId,
        b: TermId,
        store: &mut Store,
    ) -> Result<Ref, Exhausted> {
        if let Some(&known) = self.predicates.get(&(test, a, b)) {
            return Ok(known);
        }
        let predicate = match self.word_test(test, a, b) {
            Some((word, mask, k, when)) => {
                store.against(Var::word(word), 32, u64::from(mask), u64::from(k), when)?
            }
            None => {
                let (a, b) = (self.bits(a, store)?, self.bits(b, store)?);
                compare(test, &a, &b, store)?
            }
        };
        self.predicates.insert((test, a, b), predicate);
        Ok(predicate)
    }

    /// The test as a masked word against a constant, and whether it holds for less, equal and
    /// greater; if it is one.
    fn word_test(&self, test: Jump, a: TermId, b: TermId) -> Option<(Word, u32, u32, [bool; 3])> {
        let (word, mask) = self.masked_word(a)?;
        let Term::Constant(k) = self.get(b) else { return None };
        Some(match test {
            Jump::Eq => (word, mask, k, [false, true, false]),
            Jump::Gt => (word, mask, k, [false, false, true]),
            Jump::Ge => (word, mask, k, [false, true, true]),
            Jump::Set => (word, mask & k, 0, [false, false, true]),
        })
    }

    /// The word and mask, if the term is a word under a constant mask.
    fn masked_word(&self, id: TermId) -> Option<(Word, u32)> {
        match self.get(id) {
            Term::Word(word) => Some((word, u32::MAX)),
            Term::Alu(Alu::And, a, k) => match (self.get(a), self.get(k)) {
                (Term::Word(word), Term::Constant(mask)) => Some((word, mask)),
                _ => None,
            },
            _ => None,
        }
    }

    /// The diagram whose leaf for each input is `verdict` of the term's value there.
    pub(super) fn verdicts(
        &mut self,
        id: TermId,
        verdict: fn(u32) -> u32,
        store: &mut Store,
    ) -> Result<Ref, Exhausted> {
        if let Term::Constant(value) = self.get(id) {
            return Ok(store.verdict(verdict(value)));
        }
        let bits = self.bits(id, store)?;
        split(&bits, 32, 0, Ref::TRUE, verdict, store)
    }

    fn bits(&mut self, id: TermId, store: &mut Store) -> Result<Bits, Exhausted> {
        // A program has at most 4096 operations, and so a term: too deep to recurse.
        let mut todo = vec![id];
        while let Some(&next) = todo.last() {
            if self.bits.contains_key(&next) {
                todo.pop();
                continue;
            }
            let bits = match self.get(next) {
                Term::Constant(value) => constant(value),
                Term::Word(word) => word_bits(word, store)?,
                Term::Alu(alu, a, b) => match (self.bits.get(&a), self.bits.get(&b)) {
                    (Some(bits_a), Some(bits_b)) => {
                        let by = match self.get(b) {
                            Term::Constant(value) => Some(value),
                            _ => None,
                        };
                        operate(alu, bits_a, bits_b, by, store)?
                    }
                    (known_a, known_b) => {
                        todo.extend(known_a.is_none().then_some(a));
                        todo.extend(known_b.is_none().then_some(b));
                        continue;
                    }
                },
            };
            self.bits.insert(next, Box::new(bits));
            todo.pop();
        }
        match self.bits.get(&id) {
            Some(bits) => Ok(**bits),
            None => unreachable!("the loop ends when the first of `todo` is known"),
        }
    }
}

/// Splits the inputs in `care` by the value of `bits` below `bit`; what is answered outside of
/// `care` is of no concern.
fn split(
    bits: &Bits,
    bit: usize,
    above: u32,
    care: Ref,
    verdict: fn(u32) -> u32,
    store: &mut Store,
) -> Result<Ref, Exhausted> {
    let Some(bit) = bit.checked_sub(1) else { return Ok(store.verdict(verdict(above))) };
    // The data of most actions does not matter.
    if bit == 15 && verdict(above) == verdict(above | 0xffff) {
        return Ok(store.verdict(verdict(above)));
    }
    let set = store.and(care, bits[bit])?;
    let clear = store.ite(bits[bit], Ref::FALSE, care)?;
    if set == Ref::FALSE {
        return split(bits, bit, above, care, verdict, store);
    }
    if clear == Ref::FALSE {
        return split(bits, bit, above | 1 << bit, care, verdict, store);
    }
    let high = split(bits, bit, above | 1 << bit, set, verdict, store)?;
    let low = split(bits, bit, above, clear, verdict, store)?;
    store.ite(bits[bit], high, low)
}

fn constant(value: u32) -> Bits {
    std::array::from_fn(|bit| Ref::truth(value >> bit & 1 == 1))
}

fn word_bits(word: Word, store: &mut Store) -> Result<Bits, Exhausted> {
    let mut bits = constant(0);
    let mut var = Var::word(word);
    for bit in bits.iter_mut().rev() {
        *bit = store.node(var, Ref::FALSE, Ref::TRUE)?;
        var = var.plus(1);
    }
    Ok(bits)
}

fn operate(
    alu: Alu,
    a: &Bits,
    b: &Bits,
    by: Option<u32>,
    store: &mut Store,
) -> Result<Bits, Exhausted> {
    match alu {
        Alu::And => bitwise(a, b, store, Store::and),
        Alu::Or => bitwise(a, b, store, Store::or),
        Alu::Xor => bitwise(a, b, store, Store::xor),
        Alu::Add => Ok(add(a, b, Ref::FALSE, store)?.0),
        Alu::Sub => Ok(subtract(a, b, store)?.0),
        Alu::Lsh => shift(a, b, store, |bits, by| {
            std::array::from_fn(|bit| bit.checked_sub(by).map_or(Ref::FALSE, |from| bits[from]))
        }),
        Alu::Rsh => shift(a, b, store, shifted_right),
        Alu::Mul => multiply(a, b, store),
        Alu::Div => match by.filter(|by| by.is_power_of_two()) {
            Some(by) => Ok(shifted_right(a, usize::try_from(by.trailing_zeros()).unwrap_or(0))),
            None => divide(a, b, store),
        },
    }
}

fn bitwise(
    a: &Bits,
    b: &Bits,
    store: &mut Store,
    op: fn(&mut Store, Ref, Ref) -> Result<Ref, Exhausted>,
) -> Result<Bits, Exhausted> {
    let mut result = *a;
    for (bit, &b) in result.iter_mut().zip(b) {
        *bit = op(store, *bit, b)?;
    }
    Ok(result)
}

/// The sum and the carry out of it.
fn add(a: &Bits, b: &Bits, carry: Ref, store: &mut Store) -> Result<(Bits, Ref), Exhausted> {
    let mut sum = *a;
    let mut carry = carry;
    for (bit, &b) in sum.iter_mut().zip(b) {
        let a = *bit;
        let differ = store.xor(a, b)?;
        *bit = store.xor(differ, carry)?;
        carry = store.ite(differ, carry, a)?;
    }
    Ok((sum, carry))
}

/// The difference, and whether `a >= b`.
fn subtract(a: &Bits, b: &Bits, store: &mut Store) -> Result<(Bits, Ref), Exhausted> {
    let mut inverted = *b;
    for bit in &mut inverted {
        *bit = store.not(*bit)?;
    }
    add(a, &inverted, Ref::TRUE, store)
}

/// `then` or `otherwise`, bit by bit.
fn select(when: Ref, then: &Bits, otherwise: &Bits, store: &mut Store) -> Result<Bits, Exhausted> {
    let mut result = *then;
    for (bit, &other) in result.iter_mut().zip(otherwise) {
        *bit = store.ite(when, *bit, other)?;
    }
    Ok(result)
}

fn shifted_right(bits: &Bits, by: usize) -> Bits {
    std::array::from_fn(|bit| bits.get(bit + by).copied().unwrap_or(Ref::FALSE))
}

/// Shifts by each power of two that is set in the lowest five bits of `by`.
fn shift(
    a: &Bits,
    by: &Bits,
    store: &mut Store,
    shifted: fn(&Bits, usize) -> Bits,
) -> Result<Bits, Exhausted> {
    let mut result = *a;
    for (power, &set) in by[..5].iter().enumerate() {
        let moved = shifted(&result, 1 << power);
        result = select(set, &moved, &result, store)?;
    }
    Ok(result)
}

/// Adds `a` shifted to each bit that is set in `b`.
fn multiply(a: &Bits, b: &Bits, store: &mut Store) -> Result<Bits, Exhausted> {
    let mut product = constant(0);
    for (place, &set) in b.iter().enumerate() {
        if set == Ref::FALSE {
            continue;
        }
        let mut addend = constant(0);
        for (to, &from) in addend[place..].iter_mut().zip(a) {
            *to = store.and(set, from)?;
        }
        product = add(&product, &addend, Ref::FALSE, store)?.0;
    }
    Ok(product)
}

/// Long division; by 0 it gives 0.
fn divide(a: &Bits, b: &Bits, store: &mut Store) -> Result<Bits, Exhausted> {
    let mut quotient = constant(0);
    let mut rest = constant(0);
    for place in (0..32).rev() {
        // The rest is below b, so doubled it needs one bit more than it has.
        let top = rest[31];
        rest.rotate_right(1);
        rest[0] = a[place];
        let (difference, not_less) = subtract(&rest, b, store)?;
        let fits = store.or(top, not_less)?;
        quotient[place] = fits;
        rest = select(fits, &difference, &rest, store)?;
    }
    let zero = compare(Jump::Eq, b, &constant(0), store)?;
    select(zero, &constant(0), &quotient, store)
}

fn compare(test: Jump, a: &Bits, b: &Bits, store: &mut Store) -> Result<Ref, Exhausted> {
    let mut holds = Ref::truth(matches!(test, Jump::Eq | Jump::Ge));
    for (&a, &b) in a.iter().zip(b) {
        holds = match test {
            Jump::Eq => {
                let differ = store.xor(a, b)?;
                store.ite(differ, Ref::FALSE, holds)?
            }
            Jump::Gt | Jump::Ge => {
                let differ = store.xor(a, b)?;
                store.ite(differ, a, holds)?
            }
            Jump::Set => {
                let both = store.and(a, b)?;
                store.or(both, holds)?
            }
        };
    }
    Ok(holds)
}
