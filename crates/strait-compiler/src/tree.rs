//! Comparison trees: from the value of a word to what comes next, in the fewest steps.
//!
//! A tree asks `A >= K` (one boundary between spans) or `A == K` (one value, taken out of the
//! middle of what surrounds it). Which questions in which order is dynamic programming over runs
//! of neighbouring spans: the best tree over spans `i..=j` is the best of
//!
//! - one target: no question;
//! - all one target but for single values: `==` for each of them, the most frequent first;
//! - `>=` at the start of some span, then the best trees over both sides;
//! - `==` for the most frequent single value, then the best tree over the rest, in which that
//!   value no longer matters.
//!
//! What is least is `executed questions by weight + price · questions`.

use std::collections::HashMap;

use crate::graph::{Compare, Graph, NodeId};

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
    fn is_single(&self) -> bool {
        self.first == self.last
    }
}

/// What a tree is to be good at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aim {
    /// Few questions on the way, by weight.
    Speed,
    /// Few questions in all.
    Size,
}

/// A tree and what it costs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tree {
    /// Where it starts.
    pub(crate) root: NodeId,
    /// How many questions are asked on average.
    pub(crate) questions: f64,
}

/// More spans than this are halved by weight until few enough are left for the search.
const SEARCHED: usize = 120;
/// As many values may be taken out by `==` above a `>=`.
const TAKEN: usize = 3;
/// A chain of `==` is at most this long.
const CHAIN: usize = 8;
/// Split points that are tried to each side of the middle of the weight.
const WINDOW: usize = 8;
/// Weights are scaled to about this sum, so that products of them stay small.
const SCALE: u64 = 1 << 24;

/// The best tree over spans, which together cover every value that the word can have here.
pub(crate) fn tree(graph: &mut Graph, spans: &[Span], aim: Aim) -> Tree {
    let spans = scaled(&joined(spans));
    let total: u64 = spans.iter().map(|span| span.weight).sum();
    let price = match aim {
        Aim::Speed => total >> 7,
        Aim::Size => total << 8,
    };
    let Asked { root, questions } = halve(graph, &spans, aim, price.max(1));
    Tree { root, questions: float(questions) / float(total) }
}

/// A tree and the sum over its spans of weight times questions.
struct Asked {
    root: NodeId,
    questions: u64,
}

/// As a number to weigh: sums of weights stay far below 2^53, so this is exact.
#[expect(clippy::cast_precision_loss, reason = "sums of scaled weights are below 2^53")]
fn float(sum: u64) -> f64 {
    sum as f64
}

/// Makes one span of neighbours with one target, unless one of them is a single value that is
/// worth a question of its own.
///
/// before: `[0..=3] -> a, [4..=9] -> a`  after: `[0..=9] -> a`
fn joined(spans: &[Span]) -> Vec<Span> {
    let total: u64 = spans.iter().map(|span| span.weight).sum();
    let hot = |span: &Span| span.is_single() && span.weight > total >> 8;
    let mut joined: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match joined.last_mut() {
            Some(before) if before.target == span.target && !hot(before) && !hot(span) => {
                before.last = span.last;
                before.weight += span.weight;
            }
            _ => joined.push(*span),
        }
    }
    joined
}

/// Brings the sum of weights near [`SCALE`] and gives each span at least 1: even what never
/// happens should not lie at the end of a long chain.
fn scaled(spans: &[Span]) -> Vec<Span> {
    let total: u64 = spans.iter().map(|span| span.weight).sum();
    let scale = |weight: u64| match total {
        0 => 1,
        _ => {
            let scaled = u128::from(weight) * u128::from(SCALE) / u128::from(total);
            u64::try_from(scaled).unwrap_or(SCALE) + 1
        }
    };
    spans.iter().map(|span| Span { weight: scale(span.weight), ..*span }).collect()
}

/// `>=` at the middle of the weight while there are too many spans to search.
fn halve(graph: &mut Graph, spans: &[Span], aim: Aim, price: u64) -> Asked {
    if spans.len() <= SEARCHED {
        let mut search = Search::new(spans, aim, price);
        let all = Run { from: 0, to: spans.len() - 1, taken: Taken::default() };
        search.best(all);
        return search.build(graph, all);
    }
    let total: u64 = spans.iter().map(|span| span.weight).sum();
    let mut before = 0;
    let at = spans.iter().position(|span| {
        before += span.weight;
        before * 2 >= total
    });
    let at = at.unwrap_or(0).clamp(1, spans.len() - 1);
    let no = halve(graph, &spans[..at], aim, price);
    let yes = halve(graph, &spans[at..], aim, price);
    Asked {
        root: graph.test(Compare::AtLeast, spans[at].first, yes.root, no.root),
        questions: total + yes.questions + no.questions,
    }
}

/// Up to [`TAKEN`] spans that were taken out by `==`, in rising order, then `u16::MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Taken([u16; TAKEN]);

impl Default for Taken {
    fn default() -> Taken {
        Taken([u16::MAX; TAKEN])
    }
}

impl Taken {
    fn has(self, span: usize) -> bool {
        self.0.iter().any(|&taken| usize::from(taken) == span)
    }

    fn count(self) -> usize {
        self.0.iter().filter(|&&taken| taken != u16::MAX).count()
    }

    fn with(mut self, span: usize) -> Taken {
        if let Some(free) = self.0.last_mut() {
            *free = u16::try_from(span).unwrap_or(u16::MAX);
        }
        self.0.sort_unstable();
        self
    }

    /// Those of `from..=to`.
    fn within(self, from: usize, to: usize) -> Taken {
        let mut within = self.0.map(|taken| match usize::from(taken) {
            taken_span if (from..=to).contains(&taken_span) => taken,
            _ => u16::MAX,
        });
        within.sort_unstable();
        Taken(within)
    }
}

/// Neighbouring spans, but for those that were taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Run {
    from: usize,
    to: usize,
    taken: Taken,
}

impl Run {
    fn split(self, at: usize) -> (Run, Run) {
        (
            Run { to: at - 1, taken: self.taken.within(self.from, at - 1), ..self },
            Run { from: at, taken: self.taken.within(at, self.to), ..self },
        )
    }
}

/// The question to ask first.
#[derive(Clone, Copy, Debug)]
enum Choice {
    /// None: all have this span's target.
    Same(usize),
    /// `==` for each span that has another target than this span.
    Chain(usize),
    /// `>=` at the start of this span.
    Split(usize),
    /// `==` for this span.
    Take(usize),
}

struct Search<'a> {
    spans: &'a [Span],
    aim: Aim,
    price: u64,
    /// Sum of the weights of the spans before each.
    before: Vec<u64>,
    found: HashMap<Run, (u64, Choice)>,
}

impl<'a> Search<'a> {
    fn new(spans: &'a [Span], aim: Aim, price: u64) -> Search<'a> {
        let mut before = Vec::with_capacity(spans.len() + 1);
        before.push(0);
        for (span, index) in spans.iter().zip(0..) {
            before.push(before[index] + span.weight);
        }
        Search { spans, aim, price, before, found: HashMap::new() }
    }

    fn live(&self, run: Run) -> impl Iterator<Item = usize> + Clone + use<> {
        (run.from..=run.to).filter(move |&span| !run.taken.has(span))
    }

    fn weight(&self, run: Run) -> u64 {
        let all = self.before[run.to + 1] - self.before[run.from];
        let taken = run.taken.0.iter().filter_map(|&taken| self.spans.get(usize::from(taken)));
        all - taken.map(|span| span.weight).sum::<u64>()
    }

    /// The least cost of a tree over this run.
    fn best(&mut self, run: Run) -> u64 {
        if let Some(&(cost, _)) = self.found.get(&run) {
            return cost;
        }
        let best = self.search(run);
        self.found.insert(run, best);
        best.0
    }

    fn search(&mut self, run: Run) -> (u64, Choice) {
        let Some(first) = self.live(run).next() else { return (0, Choice::Same(run.from)) };
        let target = self.spans[first].target;
        if self.live(run).all(|span| self.spans[span].target == target) {
            return (0, Choice::Same(first));
        }
        let question = self.weight(run) + self.price;
        let mut best = self.chain(run).unwrap_or((u64::MAX, Choice::Same(first)));
        if run.taken.count() < TAKEN
            && let Some(span) = self.heaviest(run)
            && self.spans[span].weight * 8 > self.weight(run)
        {
            let cost = question + self.best(Run { taken: run.taken.with(span), ..run });
            if cost < best.0 {
                best = (cost, Choice::Take(span));
            }
        }
        let (low, high) = self.window(run);
        for at in low..=high {
            let (below, above) = run.split(at);
            let mut cost = question;
            for side in [below, above] {
                if cost < best.0 {
                    cost += self.best(side);
                }
            }
            if cost < best.0 {
                best = (cost, Choice::Split(at));
            }
        }
        best
    }

    /// Where a split is worth a try: around the middle of the weight.
    fn window(&self, run: Run) -> (usize, usize) {
        let (low, high) = (run.from + 1, run.to);
        if self.aim == Aim::Size {
            return (low, high);
        }
        let middle = self.before[run.from].midpoint(self.before[run.to + 1]);
        let at = self.before.partition_point(|&before| before < middle).clamp(low, high);
        (at.saturating_sub(WINDOW).max(low), (at + WINDOW).min(high))
    }

    /// All one target but for single values.
    ///
    /// before: `A >= 7 ? (A >= 8 ? a : b) : a`  after: `A == 7 ? b : a`
    fn chain(&self, run: Run) -> Option<(u64, Choice)> {
        if run.to - run.from > 2 * CHAIN + TAKEN {
            return None;
        }
        let mut wide = self.live(run).filter(|&span| !self.spans[span].is_single());
        match wide.next() {
            Some(rest) => self.chain_around(run, rest),
            None => {
                let rests = self.live(run).take(2);
                rests.filter_map(|rest| self.chain_around(run, rest)).min_by_key(|&(cost, _)| cost)
            }
        }
    }

    fn chain_around(&self, run: Run, rest: usize) -> Option<(u64, Choice)> {
        let mut weights = [0; CHAIN];
        let mut count = 0;
        for span in self.live(run) {
            if self.spans[span].target != self.spans[rest].target {
                if !self.spans[span].is_single() || count == CHAIN {
                    return None;
                }
                weights[count] = self.spans[span].weight;
                count += 1;
            }
        }
        let weights = &mut weights[..count];
        weights.sort_unstable_by(|a, b| b.cmp(a));
        let mut left = self.weight(run);
        let mut cost = 0;
        for weight in weights {
            cost += left + self.price;
            left -= *weight;
        }
        Some((cost, Choice::Chain(rest)))
    }

    fn heaviest(&self, run: Run) -> Option<usize> {
        let singles = self.live(run).filter(|&span| self.spans[span].is_single());
        singles.max_by_key(|&span| (self.spans[span].weight, usize::MAX - span))
    }

    /// The nodes of the best tree over a run that was searched.
    fn build(&self, graph: &mut Graph, run: Run) -> Asked {
        let Some(&(_, choice)) = self.found.get(&run) else {
            unreachable!("what a choice leads to was searched")
        };
        match choice {
            Choice::Same(span) => Asked { root: self.spans[span].target, questions: 0 },
            Choice::Chain(rest) => {
                let rest = self.spans[rest].target;
                let mut asked = Asked { root: rest, questions: 0 };
                let live = self.live(run).map(|span| self.spans[span]);
                let mut others: Vec<Span> = live.filter(|span| span.target != rest).collect();
                others.sort_by_key(|span| span.weight);
                let mut below = self.weight(run) - others.iter().map(|o| o.weight).sum::<u64>();
                for span in others {
                    below += span.weight;
                    asked.questions += below;
                    asked.root = graph.test(Compare::Equal, span.first, span.target, asked.root);
                }
                asked
            }
            Choice::Split(at) => {
                let (below, above) = run.split(at);
                let no = self.build(graph, below);
                let yes = self.build(graph, above);
                Asked {
                    root: graph.test(Compare::AtLeast, self.spans[at].first, yes.root, no.root),
                    questions: self.weight(run) + no.questions + yes.questions,
                }
            }
            Choice::Take(span) => {
                let no = self.build(graph, Run { taken: run.taken.with(span), ..run });
                let Span { first, target, .. } = self.spans[span];
                Asked {
                    root: graph.test(Compare::Equal, first, target, no.root),
                    questions: self.weight(run) + no.questions,
                }
            }
        }
    }
}
