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

use crate::bits;
use crate::graph::{Compare, Graph, NodeId};
use crate::hash::QuickMap;

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
pub(crate) struct Aim {
    /// Few questions in all, rather than few on the way.
    pub(crate) size: bool,
    /// Whether questions about bits are tried too, at many times the work.
    pub(crate) thorough: bool,
    /// Split points that are tried to each side of the middle of the weight.
    pub(crate) window: u16,
}

/// A tree and what it costs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tree {
    /// Where it starts.
    pub(crate) root: NodeId,
    /// How many questions are asked on average.
    pub(crate) questions: f64,
}

/// Of longer runs only the middle is tried as the place for a `>=`.
const SEARCHED: usize = 120;
/// More spans are not searched at all.
const MOST: usize = 1 << 15;
/// As many values may be taken out by `==` above a `>=`.
const TAKEN: usize = 3;
/// A value is taken out if it is more than this part of the weight.
const HEAVY: u64 = 6;
/// A chain of `==` is at most this long; if only size counts, of any length that pays.
const CHAIN: usize = 8;
const LONG_CHAIN: usize = 32;
/// Weights are scaled to about this sum, so that products of them stay small.
const SCALE: u64 = 1 << 24;

/// The best tree over spans, which together cover every value that the word can have here.
pub(crate) fn tree(graph: &mut Graph, spans: &[Span], aim: Aim) -> Tree {
    if spans.len() > MOST {
        // Far more than any program has room for; how good the tree is no longer matters.
        let (below, above) = spans.split_at(spans.len() / 2);
        let (no, yes) = (tree(graph, below, aim), tree(graph, above, aim));
        let root = graph.test(Compare::AtLeast, above[0].first, yes.root, no.root);
        return Tree { root, questions: 1.0 + no.questions.max(yes.questions) };
    }
    let spans = scaled(spans);
    let total: u64 = spans.iter().map(|span| span.weight).sum();
    let price = if aim.size { total << 8 } else { total >> 7 }.max(1);
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
    pub(crate) root: NodeId,
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
    let mut joined: Vec<Span> = Vec::new();
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

/// The best tree over spans, found but not made.
pub(crate) struct Plan<'a> {
    /// Questions by weight, and the price of each.
    pub(crate) cost: u64,
    search: Search<'a>,
    all: Run,
}

/// Finds the best tree.
pub(crate) fn plan(spans: &[Span], aim: Aim, price: u64) -> Plan<'_> {
    let mut search = Search::new(spans, aim, price);
    let to = u16::try_from(spans.len() - 1).unwrap_or(NONE);
    let all = Run { from: 0, to, taken: [NONE; TAKEN] };
    Plan { cost: search.best(all), search, all }
}

impl Plan<'_> {
    /// Makes the tree.
    pub(crate) fn build(&self, graph: &mut Graph) -> Asked {
        self.search.build(graph, self.all)
    }

    /// The first question.
    pub(crate) fn first(&self) -> Choice {
        self.search.choice(self.all)
    }
}

/// Up to [`TAKEN`] spans that were taken out by `==`, in rising order, then [`NONE`].
type Taken = [u16; TAKEN];

/// No span.
const NONE: u16 = u16::MAX;

/// Neighbouring spans, but for those that were taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Run {
    from: u16,
    to: u16,
    taken: Taken,
}

impl Run {
    /// How many spans lie between its first and its last.
    fn reach(self) -> usize {
        usize::from(self.to - self.from)
    }

    /// Its spans.
    fn live(self) -> impl Iterator<Item = u16> + Clone {
        let taken = self.taken;
        (self.from..=self.to).filter(move |span| taken[0] == NONE || !taken.contains(span))
    }

    /// What is below the start of span `at` and what is above it.
    fn split(self, at: u16) -> (Run, Run) {
        let (mut below, mut above) = (self.taken, self.taken);
        if self.taken[0] != NONE {
            (below, above) = ([NONE; TAKEN], [NONE; TAKEN]);
            let middle = self.taken.partition_point(|&taken| taken < at);
            below[..middle].copy_from_slice(&self.taken[..middle]);
            above[..TAKEN - middle].copy_from_slice(&self.taken[middle..]);
        }
        (Run { to: at - 1, taken: below, ..self }, Run { from: at, taken: above, ..self })
    }

    /// The same without this span.
    fn without(mut self, span: u16) -> Run {
        self.taken[TAKEN - 1] = span;
        self.taken.sort_unstable();
        self
    }
}

/// The question to ask first.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Choice {
    /// None: all have this span's target.
    Same(u16),
    /// `==` for each span that has another target than this span.
    Chain(u16),
    /// `>=` at the start of this span.
    Split(u16),
    /// `==` for this span.
    Take(u16),
}

struct Search<'a> {
    spans: &'a [Span],
    aim: Aim,
    price: u64,
    /// How long a chain of `==` may be.
    longest: usize,
    /// Sum of the weights of the spans before each.
    before: Vec<u64>,
    /// For each span the last one of those after it that have its target too.
    same: Vec<u16>,
    /// The weight of the heaviest single value.
    heaviest: u64,
    /// What was found for runs from which nothing was taken, by first and last span.
    whole: Vec<Option<(u64, Choice)>>,
    /// What was found for others.
    found: QuickMap<Run, (u64, Choice)>,
}

impl<'a> Search<'a> {
    fn new(spans: &'a [Span], aim: Aim, price: u64) -> Search<'a> {
        let mut before = Vec::with_capacity(spans.len() + 1);
        let mut sum = 0;
        before.push(sum);
        before.extend(spans.iter().map(|span| {
            sum += span.weight;
            sum
        }));
        let mut same: Vec<u16> = (0..=NONE).take(spans.len()).collect();
        for index in (1..spans.len()).rev() {
            if spans[index - 1].target == spans[index].target {
                same[index - 1] = same[index];
            }
        }
        let singles = spans.iter().filter(|span| span.is_single());
        let heaviest = singles.map(|span| span.weight).max().unwrap_or(0);
        let whole = if spans.len() <= SEARCHED { spans.len() * spans.len() } else { 0 };
        let (whole, found) = (vec![None; whole], QuickMap::default());
        let longest = if aim.size { LONG_CHAIN } else { CHAIN };
        Search { spans, aim, price, longest, before, same, heaviest, whole, found }
    }

    fn span(&self, index: u16) -> &'a Span {
        &self.spans[usize::from(index)]
    }

    fn weight(&self, run: Run) -> u64 {
        let all = self.before[usize::from(run.to) + 1] - self.before[usize::from(run.from)];
        if run.taken[0] == NONE {
            return all;
        }
        let taken = run.taken.iter().take_while(|&&taken| taken != NONE);
        all - taken.map(|&span| self.span(span).weight).sum::<u64>()
    }

    /// The place in `whole`, if it is one.
    fn place(&self, run: Run) -> Option<usize> {
        let place = usize::from(run.from) * self.spans.len() + usize::from(run.to);
        (run.taken[0] == NONE && place < self.whole.len()).then_some(place)
    }

    /// The least cost of a tree over this run.
    fn best(&mut self, run: Run) -> u64 {
        let place = self.place(run);
        let known = match place {
            Some(place) => self.whole[place],
            None => self.found.get(&run).copied(),
        };
        if let Some((cost, _)) = known {
            return cost;
        }
        let best = self.search(run);
        match place {
            Some(place) => self.whole[place] = Some(best),
            None => drop(self.found.insert(run, best)),
        }
        best.0
    }

    /// A span with the target of all, if it is one.
    fn one_target(&self, run: Run) -> Option<u16> {
        if self.same[usize::from(run.from)] >= run.to {
            return Some(run.from);
        }
        if run.taken[0] == NONE {
            return None;
        }
        let Some(first) = run.live().next() else { return Some(run.from) };
        let target = self.span(first).target;
        run.live().all(|span| self.span(span).target == target).then_some(first)
    }

    fn search(&mut self, run: Run) -> (u64, Choice) {
        if let Some(same) = self.one_target(run) {
            return (0, Choice::Same(same));
        }
        let weight = self.weight(run);
        let question = weight + self.price;
        let mut best = self.chain(run).unwrap_or((u64::MAX, Choice::Same(run.from)));
        if self.heaviest * HEAVY > weight
            && run.reach() > 2
            && run.taken[TAKEN - 1] == NONE
            && let Some(span) = self.heaviest(run)
            && self.span(span).weight * HEAVY > weight
        {
            let cost = question + self.best(run.without(span));
            if cost < best.0 {
                best = (cost, Choice::Take(span));
            }
        }
        let (first, middle, last) = self.splits(run);
        // The middle first: what is found there cuts the others short.
        for at in std::iter::once(middle).chain(first..middle).chain(middle + 1..=last) {
            let (below, above) = run.split(at);
            let (least_below, least_above) = (self.least(below), self.least(above));
            if question + least_below + least_above >= best.0 {
                continue;
            }
            let below = self.best(below);
            if question + below + least_above >= best.0 {
                continue;
            }
            let cost = question + below + self.best(above);
            if cost < best.0 {
                best = (cost, Choice::Split(at));
            }
        }
        best
    }

    /// What a tree over the run costs at least: nothing, or one question.
    fn least(&self, run: Run) -> u64 {
        match self.one_target(run) {
            Some(_) => 0,
            None => self.weight(run) + self.price,
        }
    }

    /// Where a split is worth a try: the middle of the weight and what is around it, from the
    /// first to the last.
    fn splits(&self, run: Run) -> (u16, u16, u16) {
        let (low, high) = (run.from + 1, run.to);
        let around = match run.reach() {
            reach if reach > SEARCHED => 0,
            _ if self.aim.size => NONE,
            _ => self.aim.window,
        };
        let sum = |span: u16| self.before[usize::from(span)];
        let middle = sum(run.from).midpoint(sum(run.to + 1));
        let (mut at, mut end) = (low, high);
        while at < end {
            let half = at.midpoint(end);
            match sum(half) < middle {
                true => at = half + 1,
                false => end = half,
            }
        }
        (at.saturating_sub(around).max(low), at, at.saturating_add(around).min(high))
    }

    /// All one target but for single values.
    ///
    /// before: `A >= 7 ? (A >= 8 ? a : b) : a`  after: `A == 7 ? b : a`
    fn chain(&self, run: Run) -> Option<(u64, Choice)> {
        if run.reach() > 2 * self.longest + TAKEN {
            return None;
        }
        let mut wide = run.live().filter(|&span| !self.span(span).is_single());
        match wide.next() {
            Some(rest) => self.chain_around(run, rest),
            None => {
                let rests = run.live().take(2);
                rests.filter_map(|rest| self.chain_around(run, rest)).min_by_key(|&(cost, _)| cost)
            }
        }
    }

    fn chain_around(&self, run: Run, rest: u16) -> Option<(u64, Choice)> {
        let target = self.span(rest).target;
        let mut weights = [0; LONG_CHAIN];
        let mut count = 0;
        for span in run.live() {
            let span = self.span(span);
            if span.target != target {
                if !span.is_single() || count == self.longest {
                    return None;
                }
                // The heaviest first.
                let at = weights[..count].partition_point(|&weight| weight > span.weight);
                weights.copy_within(at..count, at + 1);
                weights[at] = span.weight;
                count += 1;
            }
        }
        let mut left = self.weight(run);
        let mut cost = 0;
        for weight in &weights[..count] {
            cost += left + self.price;
            left -= weight;
        }
        Some((cost, Choice::Chain(rest)))
    }

    fn heaviest(&self, run: Run) -> Option<u16> {
        let singles = run.live().filter(|&span| self.span(span).is_single());
        singles.max_by_key(|&span| (self.span(span).weight, NONE - span))
    }

    /// The first question of the best tree over a run that was searched.
    fn choice(&self, run: Run) -> Choice {
        let known = match self.place(run) {
            Some(place) => self.whole[place],
            None => self.found.get(&run).copied(),
        };
        match known {
            Some((_, choice)) => choice,
            None => unreachable!("what a choice leads to was searched"),
        }
    }

    /// The nodes of the best tree over a run that was searched.
    fn build(&self, graph: &mut Graph, run: Run) -> Asked {
        match self.choice(run) {
            Choice::Same(span) => Asked { root: self.span(span).target, questions: 0 },
            Choice::Chain(rest) => {
                let rest = self.span(rest).target;
                let mut asked = Asked { root: rest, questions: 0 };
                let live = run.live().map(|span| *self.span(span));
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
                    root: graph.test(Compare::AtLeast, self.span(at).first, yes.root, no.root),
                    questions: self.weight(run) + no.questions + yes.questions,
                }
            }
            Choice::Take(span) => {
                let no = self.build(graph, run.without(span));
                let &Span { first, target, .. } = self.span(span);
                Asked {
                    root: graph.test(Compare::Equal, first, target, no.root),
                    questions: self.weight(run) + no.questions,
                }
            }
        }
    }
}
