//! From functions of the arguments to blocks of instructions: which word to look at first.

use strait_policy::rules::Chain;

use crate::data::Words;
use crate::function::{Function, Functions, Step, TooLarge, View, Word};
use crate::graph::{Compare, Graph, Node, NodeId};
use crate::hash::QuickMap;
use crate::plain;
use crate::tree::{Aim, Span, tree};

/// Of more views than this, only the first is tried.
const VIEWS: usize = 5;
/// When this many blocks were made, only the first view is tried.
const PATIENCE: usize = 20_000;
/// How rare it is, next to a call that passes, that a call does not.
const DENIED: f64 = 1.0 / 64.0;
/// What one more instruction may cost, in executed instructions.
const PRICE: f64 = 1.0 / 128.0;

/// A block and what it costs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    /// Where it starts.
    pub(crate) root: NodeId,
    /// Instructions executed on average, if all ways to pass are taken equally often.
    pub(crate) executed: f64,
    /// What is compared between blocks that do the same; less is better.
    cost: f64,
}

/// Makes blocks; equal ones are the same.
#[derive(Debug)]
pub(crate) struct Blocks {
    functions: Functions,
    words: Words,
    aim: Aim,
    made: QuickMap<(Function, Option<Word>), Block>,
    ways: QuickMap<Function, f64>,
}

impl Blocks {
    /// No block yet.
    pub(crate) fn new(words: Words, aim: Aim) -> Blocks {
        Blocks {
            functions: Functions::new(),
            words,
            aim,
            made: QuickMap::default(),
            ways: QuickMap::default(),
        }
    }

    /// The block that decides as the chain does.
    pub(crate) fn chain(&mut self, graph: &mut Graph, chain: &Chain) -> NodeId {
        if chain.arms.is_empty() {
            return graph.ret(chain.otherwise);
        }
        let block = match self.functions.chain(chain) {
            Ok(function) => self.block(graph, function, None),
            Err(TooLarge) => Err(TooLarge),
        };
        match block {
            Ok(block) => block.root,
            // Its conditions combine in too many ways: one after the other, as they are written.
            Err(TooLarge) => plain::chain(graph, self.words, chain),
        }
    }

    /// The best block for a function, where the accumulator holds the word `held`.
    fn block(
        &mut self,
        graph: &mut Graph,
        function: Function,
        held: Option<Word>,
    ) -> Result<Block, TooLarge> {
        if let Step::Answer(action) = self.functions.step(function) {
            let root = graph.ret(*action);
            return Ok(Block { root, executed: 1.0, cost: 1.0 });
        }
        let views = self.functions.views(function);
        let held = held.filter(|&held| views.iter().any(|view| view.word == held));
        if let Some(&block) = self.made.get(&(function, held)) {
            return Ok(block);
        }
        let all = views.len() <= VIEWS && self.made.len() < PATIENCE;
        let mut best: Option<Block> = None;
        for view in views.into_iter().take(if all { VIEWS } else { 1 }) {
            let block = self.by(graph, function, view, held)?;
            if best.is_none_or(|best| block.cost < best.cost) {
                best = Some(block);
            }
        }
        let Some(best) = best else { unreachable!("what is no answer looks at something") };
        self.made.insert((function, held), best);
        Ok(best)
    }

    /// The block that looks through `view` first.
    fn by(
        &mut self,
        graph: &mut Graph,
        function: Function,
        view: View,
        held: Option<Word>,
    ) -> Result<Block, TooLarge> {
        let parts = self.functions.by(function, view)?;
        let whole = view.mask == u32::MAX;
        let any_bit = matches!(parts[..], [_, (1, _)] if !whole);
        // Keeping some bits loses the others; the other questions leave the word as it is.
        let still_held = (whole || any_bit).then_some(view.word);
        let mut spans = Vec::with_capacity(parts.len());
        let mut below = Vec::with_capacity(parts.len());
        for (index, &(first, next)) in parts.iter().enumerate() {
            let last = parts.get(index + 1).map_or(u32::MAX, |&(next, _)| next - 1);
            let block = self.block(graph, next, still_held)?;
            let ways = self.ways(next);
            spans.push(Span { first, last, target: block.root, weight: weight(ways) });
            below.push((ways, block.executed));
        }
        let (root, questions) = match spans[..] {
            [none, any] if any_bit => {
                (graph.test(Compare::AnyBit, view.mask, any.target, none.target), 1.0)
            }
            _ => {
                let tree = tree(graph, &spans, self.aim);
                (tree.root, tree.questions)
            }
        };
        let (mut root, mut executed) = (root, questions);
        if !whole && !any_bit {
            root = graph.keep(view.mask, root);
            executed += 1.0;
        }
        if held != Some(view.word) {
            root = graph.load(self.words.offset(view.word), root);
            executed += 1.0;
        }
        let ways: f64 = below.iter().map(|&(ways, _)| ways).sum();
        executed += below.iter().map(|&(part, cost)| part / ways * cost).sum::<f64>();
        let length = size(graph, root);
        let cost = match self.aim.size {
            false => executed + PRICE * length,
            true => PRICE * executed + length,
        };
        Ok(Block { root, executed, cost })
    }

    /// In how many ways, by spans of what is seen, a call can pass.
    fn ways(&mut self, function: Function) -> f64 {
        if let Some(&ways) = self.ways.get(&function) {
            return ways;
        }
        let ways = match self.functions.step(function) {
            Step::Truth(_) => 0.0,
            Step::Answer(action) if action.lets_pass() => 1.0,
            Step::Answer(_) => DENIED,
            Step::Look(_, spans) => {
                let spans = spans.clone();
                spans.iter().map(|&(_, next)| self.ways(next)).sum()
            }
        };
        self.ways.insert(function, ways);
        ways
    }
}

/// As an integer, for trees.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range by clamp")]
fn weight(ways: f64) -> u64 {
    (ways * 1024.0).clamp(0.0, 1e12) as u64
}

/// How many instructions there are from `root` on, as a number to weigh.
fn size(graph: &Graph, root: NodeId) -> f64 {
    // What is below a node was made before it.
    let mut seen = vec![false; root.index() + 1];
    let mut stack = vec![root];
    let mut size = 0;
    while let Some(id) = stack.pop() {
        let node = graph.node(id);
        if !matches!(node, Node::Return(_)) && !std::mem::replace(&mut seen[id.index()], true) {
            size += 1;
            stack.extend(node.next());
        }
    }
    f64::from(size)
}
