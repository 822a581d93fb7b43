//! What libseccomp's trees decide once they are a program.
//!
//! A node becomes a block of instructions: it loads its word unless the node before it on the level
//! did, compares, and jumps. Equal blocks, of whatever call, are one. A block that relies on the
//! word of the one before it is made to load it where the block that it is placed after leaves
//! another word, and only there: what it compares depends on how it is reached. So the blocks are
//! placed here as the library places them, and decide what the program decides.

use std::collections::BTreeMap;

use strait_bpf::{Action, Builder, Cmp, Decision, Field, Outcome, Undecided};

use crate::rules::{Arm, Chain, Condition, Op, Test, Width};

use super::tree::{Id, Node, Refused, Tree, Way, Word, WordOp};

/// The blocks of all calls of a filter.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    blocks: Vec<Block>,
    known: BTreeMap<Block, BlockId>,
}

type BlockId = usize;

/// How many blocks a filter may have: more than fit a program.
const MAX_BLOCKS: usize = 1 << 14;

/// Which word the register holds, and which of its bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Register {
    word: Word,
    mask: u32,
}

/// Where a jump leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    Default,
    Action(Action),
    Block(BlockId),
}

/// The instructions of one node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Block {
    loads: bool,
    /// Whether it masks what was loaded.
    masks: bool,
    /// What it relies on, if it does not load: the register as the block before it leaves it.
    relies_on: Option<Register>,
    /// The register where it compares.
    register: Register,
    op: WordOp,
    datum: u32,
    holds: Target,
    fails: Target,
}

impl Blocks {
    /// The first block of a call.
    pub(super) fn of(&mut self, tree: &Tree) -> Result<Target, Refused> {
        match (tree.always(), tree.head()) {
            (Some(action), _) => Ok(Target::Action(action)),
            (None, Some(head)) => self.level(tree, head, Target::Default, None),
            (None, None) => Ok(Target::Default),
        }
    }

    /// The first block of a level; where none of its nodes decides, `next` does.
    fn level(
        &mut self,
        tree: &Tree,
        level: Id,
        next: Target,
        mut register: Option<Register>,
    ) -> Result<Target, Refused> {
        let mut drafts = Vec::new();
        for id in tree.level(level)? {
            let node = tree.node(id)?;
            let draft = draft(node, register);
            register = Some(draft.register);
            drafts.push((draft, node.holds, node.fails));
        }
        let mut next = next;
        for (mut block, holds, fails) in drafts.into_iter().rev() {
            let mut target = |way: Way| match (way.level, way.action) {
                (Some(level), _) => self.level(tree, level, next, Some(block.register)),
                (None, Some(action)) => Ok(Target::Action(action)),
                (None, None) => Ok(next),
            };
            (block.holds, block.fails) = (target(holds)?, target(fails)?);
            next = Target::Block(self.insert(block)?);
        }
        Ok(next)
    }

    fn insert(&mut self, block: Block) -> Result<BlockId, Refused> {
        if let Some(&id) = self.known.get(&block) {
            return Ok(id);
        }
        let id = self.blocks.len();
        if id == MAX_BLOCKS {
            return Err(Refused::Damaged);
        }
        self.known.insert(block.clone(), id);
        self.blocks.push(block);
        Ok(id)
    }

    /// Places the blocks of all calls, in the order of the calls in the program. A jump to a block
    /// that has no place yet gives it one right after the block that jumps; the last such jump of
    /// the program comes first.
    pub(super) fn place(mut self, calls: &[Target]) -> Program {
        let mut placed = vec![false; self.blocks.len()];
        for call in calls.iter().rev() {
            // A call's own test is before its blocks, and everything of the calls after it is done.
            let mut order: Vec<BlockId> = Vec::new();
            self.take(*call, None, &mut placed, &mut order, 0);
            let mut at = order.len();
            while at > 0 {
                at -= 1;
                let from = order[at];
                let Block { holds, fails, register, .. } = self.blocks[from];
                let took = [holds, fails].into_iter().any(|target| {
                    self.take(target, Some(register), &mut placed, &mut order, at + 1)
                });
                if took {
                    at = order.len();
                }
            }
        }
        Program { blocks: self.blocks }
    }

    /// Gives the target its place, if it is a block and has none.
    fn take(
        &mut self,
        target: Target,
        left: Option<Register>,
        placed: &mut [bool],
        order: &mut Vec<BlockId>,
        at: usize,
    ) -> bool {
        let Target::Block(id) = target else { return false };
        if std::mem::replace(&mut placed[id], true) {
            return false;
        }
        let block = &mut self.blocks[id];
        if block.relies_on.is_some() && block.relies_on != left {
            block.loads = true;
        }
        order.insert(at, id);
        true
    }
}

/// The block of a node without its jumps, after one that left the register so.
fn draft(node: &Node, register: Option<Register>) -> Block {
    let needs = Register { word: node.word, mask: node.mask };
    let kept = register.filter(|has| has.word == needs.word && needs.mask & has.mask == needs.mask);
    let has = kept.map_or(u32::MAX, |has| has.mask);
    Block {
        loads: kept.is_none(),
        masks: has != needs.mask,
        relies_on: kept,
        register: needs,
        op: node.op,
        datum: node.datum,
        holds: Target::Default,
        fails: Target::Default,
    }
}

/// Blocks that have their places.
pub(super) struct Program {
    blocks: Vec<Block>,
}

impl Program {
    /// What is decided from a call's first block on.
    pub(super) fn decision(&self, call: Target, default: Action) -> Result<Decision, Undecided> {
        let mut builder = Builder::new();
        let mut known: BTreeMap<(BlockId, Option<Register>), Outcome> = BTreeMap::new();
        // Not by recursion: there may be thousands of blocks in a row.
        let mut todo: Vec<(BlockId, Option<Register>)> = Vec::new();
        if let Target::Block(id) = call {
            todo.push((id, None));
        }
        while let Some(&(id, left)) = todo.last() {
            if known.contains_key(&(id, left)) {
                todo.pop();
                continue;
            }
            let block = &self.blocks[id];
            let register = block.register_after(left);
            let mut decided = |target| match target {
                Target::Default => Ok(builder.action(default)),
                Target::Action(action) => Ok(builder.action(action)),
                Target::Block(id) => {
                    let next = (id, Some(register));
                    known.get(&next).copied().ok_or(next)
                }
            };
            let (holds, fails) = match (decided(block.holds), decided(block.fails)) {
                (Ok(holds), Ok(fails)) => (holds, fails),
                (holds, fails) => {
                    todo.extend([holds, fails].into_iter().filter_map(Result::err));
                    continue;
                }
            };
            let cmp = match block.op {
                WordOp::Eq | WordOp::MaskedEq => Cmp::Eq,
                WordOp::Gt => Cmp::Gt,
                WordOp::Ge => Cmp::Ge,
            };
            let field = Field::Arg(register.word.arg);
            let (mask, value) = (register.word.of(register.mask), register.word.of(block.datum));
            let when = builder.masked(field, mask, cmp, value)?;
            known.insert((id, left), builder.select(when, holds, fails)?);
        }
        let outcome = match call {
            Target::Default => builder.action(default),
            Target::Action(action) => builder.action(action),
            Target::Block(id) => known[&(id, None)],
        };
        Ok(builder.build(outcome))
    }

    /// The same as a chain with an arm for each way through the blocks; none if these are too many.
    pub(super) fn chain(&self, call: Target, default: Action) -> Option<Chain> {
        let mut arms = Vec::new();
        self.arms(call, None, default, &mut Vec::new(), &mut arms)?;
        Some(Chain { arms, otherwise: default })
    }

    fn arms(
        &self,
        target: Target,
        left: Option<Register>,
        default: Action,
        under: &mut Vec<Condition>,
        arms: &mut Vec<Arm>,
    ) -> Option<()> {
        let action = match target {
            Target::Default => default,
            Target::Action(action) => action,
            Target::Block(id) => {
                let block = &self.blocks[id];
                let register = block.register_after(left);
                for (target, holds) in [(block.holds, true), (block.fails, false)] {
                    under.push(block.condition(register, holds)?);
                    self.arms(target, Some(register), default, under, arms)?;
                    under.pop();
                }
                return Some(());
            }
        };
        arms.push(Arm { when: Condition::All(under.clone()), action });
        (arms.len() <= MAX_ARMS).then_some(())
    }
}

/// How many ways through its blocks a call may have.
const MAX_ARMS: usize = 1024;

impl Block {
    /// The register where the block compares, if it was left so before it.
    fn register_after(&self, left: Option<Register>) -> Register {
        let loaded = match (self.loads, left) {
            (false, Some(left)) => left,
            // What was relied on is made again, or the whole word is taken.
            _ => self.relies_on.unwrap_or(Register { mask: u32::MAX, ..self.register }),
        };
        let mask = if self.masks { loaded.mask & self.register.mask } else { loaded.mask };
        Register { mask, ..loaded }
    }

    /// The comparison, or its negation.
    fn condition(&self, register: Register, holds: bool) -> Option<Condition> {
        let op = match (self.op, holds) {
            (WordOp::Eq | WordOp::MaskedEq, true) => Op::Eq,
            (WordOp::Eq | WordOp::MaskedEq, false) => Op::Ne,
            (WordOp::Gt, true) => Op::Gt,
            (WordOp::Gt, false) => Op::Le,
            (WordOp::Ge, true) => Op::Ge,
            (WordOp::Ge, false) => Op::Lt,
        };
        let Register { word, mask } = register;
        let width = if word.high { Width::W64 } else { Width::W32 };
        Test::new(word.arg, width, word.of(mask), op, word.of(self.datum)).ok().map(Condition::Test)
    }
}
