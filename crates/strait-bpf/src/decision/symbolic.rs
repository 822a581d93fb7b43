//! Symbolic execution: what a program answers, for all inputs at once.
//!
//! Programs only jump forward, so one pass in the order of instructions meets every instruction
//! after all that lead to it. It finds with which register contents, as terms over the input
//! words, each jump target is reached; registers that are not read any more are forgotten, so that
//! paths which differ in nothing that matters come together. A second pass backward turns each of
//! these visits into a diagram of what is answered from there on.

use super::store::{FastMap, Ref, Store};
use super::terms::{Term, TermId, Terms};
use super::{Exhausted, Undecided};
use crate::data::Word;
use crate::insn::{Alu, Cell, Jump, Op, Operand};
use crate::program::forward;
use crate::stack::rank;
use crate::{Action, Program};

/// A budget counts in steps of diagram work; following one instruction is worth this many.
const STEPS_PER_INSN: u64 = 2;

/// And remembering a state this many, for the room that it takes.
const STEPS_PER_VISIT: u64 = 32;

/// The diagram of the program's verdicts: for each input, [`verdict`] of what it returns.
pub(super) fn execute(program: &Program, store: &mut Store) -> Result<Ref, Undecided> {
    let mut run = Execution::new(program);
    run.forward(store)?;
    run.backward(store)
}

/// What matters to the kernel of a filter's return value: which action, with its data if it has
/// any. A value that the kernel does not know kills the process, but in a stack it ranks by its
/// number (`seccomp_run_filters`), so it stays apart until the stack has been decided.
pub(super) fn verdict(raw: u32) -> u32 {
    match Action::from_raw(raw) {
        Action::KillProcess if raw < 0x8000_0000 => raw & 0xffff_0000,
        action => action.raw(),
    }
}

/// Which of an older and a newer filter's verdicts is left: as [`crate::run_stack`] has it.
pub(super) fn most_restrictive(older: u32, newer: u32) -> u32 {
    if rank(older) < rank(newer) { older } else { newer }
}

/// Scratch memory, as terms.
type Memory = [TermId; Cell::COUNT];

/// The registers and cells, as terms; those that are dead hold the constant 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    a: TermId,
    x: TermId,
    /// Index into [`Execution::memories`]: nearly all filters have only one.
    mem: usize,
}

/// One jump target reached with one state, and how it goes on from there.
struct Visit {
    at: usize,
    state: State,
    step: Step,
}

/// How a stretch of instructions without a symbolic decision ends.
enum Step {
    /// Not followed yet.
    Pending,
    /// A return of this value.
    Answer(TermId),
    /// A jump.
    Branch { at: usize, test: Jump, a: TermId, b: TermId, yes: usize, no: usize },
    /// A division that ends the filter if the divisor is 0.
    Divide { at: usize, by: TermId, next: usize },
}

struct Execution<'p> {
    program: &'p Program,
    live: Vec<Live>,
    terms: Terms,
    visits: Vec<Visit>,
    /// By instruction, the visits that start there.
    at: Vec<Vec<usize>>,
    known: FastMap<(usize, State), usize>,
    memories: Vec<Memory>,
    memory_ids: FastMap<Memory, usize>,
}

impl<'p> Execution<'p> {
    fn new(program: &'p Program) -> Self {
        Execution {
            program,
            live: liveness(program.ops()),
            terms: Terms::default(),
            visits: Vec::new(),
            at: vec![Vec::new(); program.ops().len()],
            known: FastMap::default(),
            memories: Vec::new(),
            memory_ids: FastMap::default(),
        }
    }

    fn forward(&mut self, store: &mut Store) -> Result<(), Undecided> {
        let zero = self.terms.constant(0);
        let mem = self.memory([zero; Cell::COUNT]);
        self.visit(0, State { a: zero, x: zero, mem });
        for start in 0..self.at.len() {
            for visit in std::mem::take(&mut self.at[start]) {
                store.step(STEPS_PER_VISIT).map_err(|e| e.at(start))?;
                let state = self.visits[visit].state;
                self.visits[visit].step = self.follow(start, state, store)?;
            }
        }
        Ok(())
    }

    fn memory(&mut self, mem: Memory) -> usize {
        *self.memory_ids.entry(mem).or_insert_with(|| {
            self.memories.push(mem);
            self.memories.len() - 1
        })
    }

    /// `mem` with this term in a cell.
    fn written(&mut self, mem: usize, cell: Cell, term: TermId) -> usize {
        let mut mem = self.memories[mem];
        mem[cell.index()] = term;
        self.memory(mem)
    }

    /// What is known where `A` turned out to be the constant `b`, if it is one: every register and
    /// cell that holds the same term is that constant too.
    fn equal(&mut self, s: State, b: TermId) -> State {
        if !matches!(self.terms.get(b), Term::Constant(_)) {
            return s;
        }
        let replaced = |term: TermId| if term == s.a { b } else { term };
        let before = self.memories[s.mem];
        let mem = before.map(replaced);
        let mem = if mem == before { s.mem } else { self.memory(mem) };
        State { a: b, x: replaced(s.x), mem }
    }

    /// The visit of `at` with this state.
    fn visit(&mut self, at: usize, mut state: State) -> usize {
        let zero = self.terms.constant(0);
        let live = self.live[at];
        let mut mem = self.memories[state.mem];
        let mut forgotten = false;
        for (cell, term) in mem.iter_mut().enumerate() {
            if live & 1 << cell == 0 && *term != zero {
                *term = zero;
                forgotten = true;
            }
        }
        if forgotten {
            state.mem = self.memory(mem);
        }
        if live & LIVE_A == 0 {
            state.a = zero;
        }
        if live & LIVE_X == 0 {
            state.x = zero;
        }
        *self.known.entry((at, state)).or_insert_with(|| {
            self.visits.push(Visit { at, state, step: Step::Pending });
            self.at[at].push(self.visits.len() - 1);
            self.visits.len() - 1
        })
    }

    /// Follows the instructions from `pc` on until something depends on the input.
    fn follow(
        &mut self,
        mut pc: usize,
        mut s: State,
        store: &mut Store,
    ) -> Result<Step, Undecided> {
        loop {
            store.step(STEPS_PER_INSN).map_err(|e| e.at(pc))?;
            let at = pc;
            pc += 1;
            let operand = |terms: &mut Terms, operand| match operand {
                Operand::K(k) => terms.constant(k),
                Operand::X => s.x,
            };
            match self.program.ops()[at] {
                Op::Load(offset) => match Word::at(offset, self.program.byte_order()) {
                    Some(word) => s.a = self.terms.word(word),
                    None => unreachable!("Insn::op accepts no other offset"),
                },
                Op::LoadImm(k) => s.a = self.terms.constant(k),
                Op::LoadLen => s.a = self.terms.constant(crate::SeccompData::SIZE),
                Op::LoadMem(cell) => s.a = self.memories[s.mem][cell.index()],
                Op::LoadXImm(k) => s.x = self.terms.constant(k),
                Op::LoadXLen => s.x = self.terms.constant(crate::SeccompData::SIZE),
                Op::LoadXMem(cell) => s.x = self.memories[s.mem][cell.index()],
                Op::Store(cell) => s.mem = self.written(s.mem, cell, s.a),
                Op::StoreX(cell) => s.mem = self.written(s.mem, cell, s.x),
                Op::Neg => {
                    let zero = self.terms.constant(0);
                    s.a = self.terms.alu(Alu::Sub, zero, s.a);
                }
                Op::Tax => s.x = s.a,
                Op::Txa => s.a = s.x,
                Op::Alu(Alu::Div, Operand::X) => match self.terms.get(s.x) {
                    Term::Constant(0) => return Ok(Step::Answer(self.terms.constant(0))),
                    Term::Constant(_) => s.a = self.terms.alu(Alu::Div, s.a, s.x),
                    _ => {
                        let by = s.x;
                        s.a = self.terms.alu(Alu::Div, s.a, by);
                        return Ok(Step::Divide { at, by, next: self.visit(pc, s) });
                    }
                },
                Op::Alu(alu, by) => {
                    let by = operand(&mut self.terms, by);
                    s.a = self.terms.alu(alu, s.a, by);
                }
                Op::Jump(skip) => pc = forward(pc, skip),
                Op::Branch { test, operand: with, jt, jf } => {
                    let b = operand(&mut self.terms, with);
                    let (yes, no) = (pc + usize::from(jt), pc + usize::from(jf));
                    match (self.terms.get(s.a), self.terms.get(b)) {
                        (Term::Constant(a), Term::Constant(b)) => {
                            pc = if test.holds(a, b) { yes } else { no };
                        }
                        _ if yes == no => pc = yes,
                        _ => {
                            let no = self.visit(no, s);
                            let equal = if test == Jump::Eq { self.equal(s, b) } else { s };
                            let yes = self.visit(yes, equal);
                            return Ok(Step::Branch { at, test, a: s.a, b, yes, no });
                        }
                    }
                }
                Op::Ret(raw) => return Ok(Step::Answer(self.terms.constant(raw))),
                Op::RetA => return Ok(Step::Answer(s.a)),
            }
        }
    }

    fn backward(mut self, store: &mut Store) -> Result<Ref, Undecided> {
        let mut order: Vec<usize> = (0..self.visits.len()).collect();
        order.sort_by_key(|&visit| std::cmp::Reverse(self.visits[visit].at));
        let mut answers = vec![Ref::FALSE; self.visits.len()];
        for visit in order {
            let (at, answer) = match self.visits[visit].step {
                Step::Pending => unreachable!("the forward pass follows every visit"),
                Step::Answer(term) => {
                    (self.visits[visit].at, self.terms.verdicts(term, verdict, store))
                }
                Step::Branch { at, test, a, b, yes, no } => {
                    let sides = [answers[yes], answers[no]];
                    (at, self.terms.choose((test, a, b), sides, store))
                }
                Step::Divide { at, by, next } => {
                    let zero = self.terms.constant(0);
                    let sides = [store.verdict(verdict(0)), answers[next]];
                    (at, self.terms.choose((Jump::Eq, by, zero), sides, store))
                }
            };
            answers[visit] = answer.map_err(|exhausted: Exhausted| exhausted.at(at))?;
        }
        Ok(answers[0])
    }
}

/// One bit for each scratch cell, then `A` and `X`: what is still read.
type Live = u32;

const LIVE_A: Live = 1 << Cell::COUNT;
const LIVE_X: Live = 2 << Cell::COUNT;

/// What is still read from each instruction on.
fn liveness(ops: &[Op]) -> Vec<Live> {
    let mut live = vec![0; ops.len()];
    let of = |operand| if operand == Operand::X { LIVE_X } else { 0 };
    for (index, &op) in ops.iter().enumerate().rev() {
        let after = live.get(index + 1).copied().unwrap_or(0);
        live[index] = match op {
            Op::Load(_) | Op::LoadImm(_) | Op::LoadLen => after & !LIVE_A,
            Op::LoadMem(cell) => after & !LIVE_A | 1 << cell.index(),
            Op::LoadXImm(_) | Op::LoadXLen => after & !LIVE_X,
            Op::LoadXMem(cell) => after & !LIVE_X | 1 << cell.index(),
            Op::Store(cell) => after & !(1 << cell.index()) | LIVE_A,
            Op::StoreX(cell) => after & !(1 << cell.index()) | LIVE_X,
            Op::Alu(_, operand) => after | LIVE_A | of(operand),
            Op::Neg => after | LIVE_A,
            Op::Tax => after & !LIVE_X | LIVE_A,
            Op::Txa => after & !LIVE_A | LIVE_X,
            Op::Jump(skip) => live[forward(index + 1, skip)],
            Op::Branch { operand, jt, jf, .. } => {
                live[index + 1 + usize::from(jt)]
                    | live[index + 1 + usize::from(jf)]
                    | LIVE_A
                    | of(operand)
            }
            Op::Ret(_) => 0,
            Op::RetA => LIVE_A,
        };
    }
    live
}
