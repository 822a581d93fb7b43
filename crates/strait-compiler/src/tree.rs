//! Comparison trees: from the value of a word to what comes next.

use crate::graph::{Compare, Graph, NodeId};

/// Consecutive values that have the same thing next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// The first value; the span ends where the next one starts.
    pub(crate) first: u32,
    /// What comes next.
    pub(crate) target: NodeId,
    /// How often.
    pub(crate) weight: u64,
}

/// A tree over spans that together cover every value that the word can have here.
pub(crate) fn tree(graph: &mut Graph, spans: &[Span]) -> NodeId {
    match spans {
        [] => unreachable!("there is at least one span"),
        [one] => one.target,
        _ => {
            let total: u64 = spans.iter().map(|span| span.weight).sum();
            let mut before = spans[0].weight;
            let mut at = 1;
            while at + 1 < spans.len() && (before + spans[at].weight).saturating_mul(2) <= total {
                before += spans[at].weight;
                at += 1;
            }
            let no = tree(graph, &spans[..at]);
            let yes = tree(graph, &spans[at..]);
            graph.test(Compare::AtLeast, spans[at].first, yes, no)
        }
    }
}
