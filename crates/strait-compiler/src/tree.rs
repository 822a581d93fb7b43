//! Comparison trees: from the value of a word to what comes next, in the fewest steps.
//!
//! What the best tree is, [`crate::search`] finds; with [`Aim::thorough`], [`crate::bits`] does.

use crate::bits;
use crate::graph::{Compare, Graph, NodeId};
use crate::search::plan;

/// Consecutive values that have the same thing next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// The first value.
    pub(crate) first: u32,
    /// The last value; the next span starts behind it.
    pub(crate) last: u32,
    /// What comes next.
    pub(crate) target: NodeId,
    /// How often.
    pub(crate) weight: u64,
}

impl Span {
    /// Whether it is one value.
    pub(crate) fn is_single(&self) -> bool {
        self.first == self.last
    }
}

/// What a tree is to be good at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Aim {
    /// Few questions in all, rather than few on the way.
    pub(crate) size: bool,
    /// Whether questions about bits are tried too, at many times the work.
    pub(crate) thorough: bool,
}

/// A tree and what it costs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tree {
    /// Where it starts.
    pub(crate) root: NodeId,
    /// How many questions are asked on average.
    pub(crate) questions: f64,
}

/// Of more spans than this the middle is asked for first, unsearched. No program has room for
/// them: a question takes away two borders between spans at most, so they need more than 4096.
const MOST: usize = 1 << 13;
/// Weights are scaled to about this sum, so that what a tree costs stays below 2^30; where a question
/// outweighs all of them, to less.
const SCALE: u64 = 1 << 17;
const SIZE_SCALE: u64 = 1 << 10;

/// The best tree over spans, which together cover every value that the word can have here.
pub(crate) fn tree(graph: &mut Graph, spans: &[Span], aim: Aim) -> Tree {
    match spans {
        [one] => return Tree { root: one.target, questions: 0.0 },
        [below, above] => {
            let root = match aim.size && below.is_single() {
                true => graph.test(Compare::Equal, below.first, below.target, above.target),
                false => graph.test(Compare::AtLeast, above.first, above.target, below.target),
            };
            return Tree { root, questions: 1.0 };
        }
        _ => {}
    }
    if spans.len() > MOST {
        let (below, above) = spans.split_at(spans.len() / 2);
        let (no, yes) = (tree(graph, below, aim), tree(graph, above, aim));
        let root = graph.test(Compare::AtLeast, above[0].first, yes.root, no.root);
        return Tree { root, questions: 1.0 + no.questions.max(yes.questions) };
    }
    let spans = scaled(spans, if aim.size { SIZE_SCALE } else { SCALE });
    let total: u64 = spans.iter().map(|span| span.weight).sum();
    let price = if aim.size { total << 6 } else { total >> 8 }.max(1);
    let with_bits = match aim.thorough {
        true => bits::tree(graph, &bits::atoms(&spans), price, aim),
        false => None,
    };
    let Asked { root, questions } =
        with_bits.unwrap_or_else(|| plan(&joined(spans.iter().copied()), aim, price).build(graph));
    Tree { root, questions: float(questions) / float(total) }
}

/// A tree that was made, and the sum over its spans of weight times questions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// Where it starts.
    pub(crate) root: NodeId,
    /// How many questions are asked, by weight.
    pub(crate) questions: u64,
}

/// As a number to weigh.
#[expect(clippy::cast_precision_loss, reason = "sums of scaled weights are far below 2^53")]
fn float(sum: u64) -> f64 {
    sum as f64
}

/// Makes one span of neighbours with one target, unless one of them is a single value that is
/// worth a question of its own.
///
/// before: `[0..=3] -> a, [4..=9] -> a`  after: `[0..=9] -> a`
pub(crate) fn joined(spans: impl Iterator<Item = Span> + Clone) -> Vec<Span> {
    let total: u64 = spans.clone().map(|span| span.weight).sum();
    let hot = |span: &Span| span.is_single() && span.weight > total >> 8;
    let mut joined: Vec<Span> = Vec::with_capacity(spans.size_hint().0);
    for span in spans {
        match joined.last_mut() {
            Some(before) if before.target == span.target && !hot(before) && !hot(&span) => {
                before.last = span.last;
                before.weight += span.weight;
            }
            _ => joined.push(span),
        }
    }
    joined
}

/// Brings the sum of weights near this one and gives each span at least 1: even what never
/// happens should not lie at the end of a long chain.
fn scaled(spans: &[Span], sum: u64) -> Vec<Span> {
    let total: u64 = spans.iter().map(|span| span.weight).sum();
    let scale = |weight: u64| match total {
        0 => 1,
        _ => {
            let scaled = u128::from(weight) * u128::from(sum) / u128::from(total);
            u64::try_from(scaled).unwrap_or(sum) + 1
        }
    };
    spans.iter().map(|span| Span { weight: scale(span.weight), ..*span }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Node;
    use strait_bpf::Action;

    /// Where a value gets to.
    fn decide(graph: &Graph, mut at: NodeId, value: u32) -> NodeId {
        while let Node::Test { compare, constant, yes, no } = graph.node(at) {
            let holds = match compare {
                Compare::Equal => value == constant,
                Compare::AtLeast => value >= constant,
                Compare::Above => value > constant,
                Compare::AnyBit => value & constant != 0,
            };
            at = if holds { yes } else { no };
        }
        at
    }

    #[test]
    fn any_number_of_spans_and_any_weights() {
        let weights: [fn(u64) -> u64; 3] =
            [|_| 1 << 48, |index| 1 << (index % 48), |index| u64::from(index == 7) << 60];
        for (count, size) in [1, 2, 3, 120, 122, 5000, MOST, MOST + 1]
            .into_iter()
            .flat_map(|n| [(n, false), (n, true)])
        {
            for weight in weights {
                let mut graph = Graph::default();
                let targets = [1, 2, 3].map(|errno| graph.ret(Action::Errno(errno)));
                // Every other one is alone, and three targets leave no chain.
                let spans: Vec<Span> = (0..u32::try_from(count).unwrap_or(u32::MAX))
                    .map(|index| Span {
                        first: index * 3 / 2,
                        last: (index + 1) * 3 / 2 - 1,
                        target: targets[usize::from(index % 5 == 0) + usize::from(index % 2 == 0)],
                        weight: weight(index.into()),
                    })
                    .collect();
                let tree = tree(&mut graph, &spans, Aim { size, thorough: false });
                for span in &spans {
                    for value in [span.first, span.last] {
                        let target = decide(&graph, tree.root, value);
                        assert_eq!(target, span.target, "{count} spans, size {size}, {value}");
                    }
                }
            }
        }
    }
}
