//! The search for the best comparison tree.
//!
//! A tree asks `A >= K` (one border between spans), `A == K` (one value, taken out of the middle
//! of what surrounds it) or `A & K != 0` (a few values at once, taken out likewise). Which
//! questions in which order is dynamic programming over runs of neighbouring spans: the best tree
//! over spans `i..=j` is the best of
//!
//! - one target: no question;
//! - all one target but for single values: `==` for each of them, the most frequent first;
//! - `>=` at the start of some span, then the best trees over both sides;
//! - `==` for the most frequent single value, then the best tree over the rest, in which that
//!   value no longer matters;
//! - `A & !M != 0` where all values under the mask `M` have one target, then the best tree over
//!   the rest.
//!
//! What is least is `executed questions by weight + price · questions`.
//!
//! Runs are looked at by their length, so that every shorter one inside is known already, and
//! every place for a `>=` is tried in each (see [`crate::runs`]).

use crate::graph::{Compare, Graph, NodeId};
use crate::hash::QuickMap;
use crate::runs::{LANES, Runs, UNKNOWN, greater, lanes, lanes_mut, less, narrow, wide};
use crate::tree::{Aim, Asked, Span};

/// The best tree over spans, found but not made.
pub(crate) struct Plan<'a> {
    /// Questions by weight, and the price of each.
    pub(crate) cost: u64,
    search: Search<'a>,
    all: Run,
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
    /// `&` with all bits that this one of the masks lacks.
    Mask(u16),
}

/// Finds the best tree.
pub(crate) fn plan(spans: &[Span], aim: Aim, price: u64) -> Plan<'_> {
    let mut search = Search::new(spans, aim, price);
    search.fill();
    let all = Run { from: 0, to: search.last(), taken: [NONE; TAKEN] };
    Plan { cost: search.best(all), search, all }
}

impl Plan<'_> {
    /// Makes the tree.
    pub(crate) fn build(&self, graph: &mut Graph) -> Asked {
        self.search.build(graph, self.all)
    }

    /// The first question, and its constant; none if there is none or a chain of them.
    pub(crate) fn first(&self) -> Option<(Compare, u32)> {
        let search = &self.search;
        match search.choice(self.all) {
            Choice::Split(at) => Some((Compare::AtLeast, search.span(at).first)),
            Choice::Take(span) => Some((Compare::Equal, search.span(span).first)),
            Choice::Mask(mask) => Some((Compare::AnyBit, search.mask(mask).outside)),
            Choice::Same(_) | Choice::Chain(_) => None,
        }
    }
}

/// Runs of at most so many spans have every good place for a `>=` tried; of longer ones, only the
/// middle of the weight.
const SEARCHED: usize = 120;
/// As many runs are searched at most.
const CELLS: usize = 1 << 18;
/// Places for a `>=` that are tried to each side of the middle of the weight, in runs from which
/// something was taken.
const WINDOW: u16 = 8;
/// As many spans may be taken out by `==` and `&` above a `>=`.
const TAKEN: usize = 4;
/// A value is taken out if it is more than this part of the weight; if size counts, or time does not.
const HEAVY: u64 = 4;
const NOT_SO_HEAVY: u64 = 6;
/// A chain of `==` is at most this long; if only size counts, of any length that pays.
const CHAIN: usize = 4;
const LONG_CHAIN: usize = 32;
/// Values under a mask are looked at one by one if there are at most two to the power of this.
const MASKED: u32 = 6;

/// How many spans behind its first a run has at most that is looked at in order: so many that its
/// cost, in halves at worst, is a cost in a table.
fn longest_run(count: usize, weight: u64, price: u64) -> usize {
    let deepest = u64::from((2 * SEARCHED).ilog2()) + 1;
    let questions = wide(UNKNOWN).saturating_sub(weight * deepest) / price;
    let questions = usize::try_from(questions).unwrap_or(usize::MAX);
    SEARCHED.min(CELLS / count).min(count - 1).min(questions)
}

/// Spans that were taken out, in rising order, then [`NONE`].
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

    fn is_whole(self) -> bool {
        self.taken[0] == NONE
    }

    /// Its spans.
    fn live(self) -> impl DoubleEndedIterator<Item = u16> + Clone {
        let taken = self.taken;
        (self.from..=self.to).filter(move |span| !taken.contains(span))
    }

    /// What is below the start of span `at` and what is above it.
    fn split(self, at: u16) -> (Run, Run) {
        let (mut below, mut above) = ([NONE; TAKEN], [NONE; TAKEN]);
        let middle = self.taken.partition_point(|&taken| taken < at);
        below[..middle].copy_from_slice(&self.taken[..middle]);
        above[..TAKEN - middle].copy_from_slice(&self.taken[middle..]);
        let below = Run { to: at - 1, taken: below, ..self };
        (below.trimmed(), Run { from: at, taken: above, ..self }.trimmed())
    }

    /// The same without these spans, if no more are out then than may be, and some are left.
    fn without(mut self, spans: &[u16]) -> Option<Run> {
        for &span in spans {
            if self.taken[TAKEN - 1] != NONE {
                return None;
            }
            self.taken[TAKEN - 1] = span;
            self.taken.sort_unstable();
        }
        let run = self.trimmed();
        (!run.taken.contains(&run.from)).then_some(run)
    }

    /// The same run, beginning and ending with spans that were not taken.
    fn trimmed(mut self) -> Run {
        while self.taken[0] == self.from && self.from < self.to {
            self.taken.copy_within(1.., 0);
            self.taken[TAKEN - 1] = NONE;
            self.from += 1;
        }
        while let Some(last) = self.taken.iter().rposition(|&taken| taken != NONE)
            && self.taken[last] == self.to
            && self.from < self.to
        {
            self.taken[last] = NONE;
            self.to -= 1;
        }
        self
    }
}

/// Spans, all of one target, that hold the values under a mask and no others.
#[derive(Debug)]
struct Mask {
    /// The bits that none of them has.
    outside: u32,
    spans: Vec<u16>,
    weight: u64,
}

struct Search<'a> {
    spans: &'a [Span],
    size: bool,
    price: u64,
    /// What part of the weight a value has to be more than for it to be taken out.
    heavy: u64,
    /// How long a chain of `==` may be.
    longest: usize,
    /// Sum of the weights of the spans before each.
    before: Vec<u64>,
    /// For each span the last one of those after it that have its target too.
    same: Vec<u16>,
    masks: Vec<Mask>,
    /// What was found for runs from which nothing was taken, as far as that was looked at.
    runs: Runs,
    /// What was found for others.
    found: QuickMap<Run, (u64, Choice)>,
}

impl<'a> Search<'a> {
    fn new(spans: &'a [Span], aim: Aim, price: u64) -> Search<'a> {
        let count = spans.len();
        let mut before = Vec::with_capacity(count + 1);
        let mut sum = 0;
        before.push(sum);
        before.extend(spans.iter().map(|span| {
            sum += span.weight;
            sum
        }));
        let mut same: Vec<u16> = (0..NONE).take(count).collect();
        for index in (1..count).rev() {
            if spans[index - 1].target == spans[index].target {
                same[index - 1] = same[index];
            }
        }
        let runs = Runs::new(count, longest_run(count, sum, price));
        let longest = if aim.size { LONG_CHAIN } else { CHAIN };
        let masks = masks(spans);
        let found = QuickMap::default();
        let size = aim.size;
        let heavy = if aim.size || aim.thorough { NOT_SO_HEAVY } else { HEAVY };
        Search { spans, size, price, heavy, longest, before, same, masks, runs, found }
    }

    fn last(&self) -> u16 {
        u16::try_from(self.spans.len() - 1).unwrap_or(NONE)
    }

    fn span(&self, index: u16) -> &'a Span {
        &self.spans[usize::from(index)]
    }

    fn mask(&self, index: u16) -> &Mask {
        &self.masks[usize::from(index)]
    }

    fn weight(&self, run: Run) -> u64 {
        let all = self.before[usize::from(run.to) + 1] - self.before[usize::from(run.from)];
        let taken = run.taken.iter().take_while(|&&taken| taken != NONE);
        all - taken.map(|&span| self.span(span).weight).sum::<u64>()
    }

    /// Finds what the best tree costs for every run from which nothing was taken, up to some length:
    /// the shorter ones first.
    fn fill(&mut self) {
        let longest = self.runs.longest();
        self.fill_chains(longest);
        self.runs.finish(0);
        // Behind the last span as many as are looked at together.
        let padded = || self.spans.iter().map(Some).chain([None; LANES]);
        let single = |span: Option<&Span>| {
            span.filter(|span| span.is_single())
                .map_or(0.0, |span| narrow(span.weight * self.heavy))
        };
        let singles: Vec<f32> = padded().map(single).collect();
        let before: Vec<f32> =
            self.before.iter().map(|&sum| narrow(sum)).chain([0.0; LANES]).collect();
        let mut heaviest = singles.clone();
        for reach in 1..=longest {
            self.fill_row(reach, &before, &singles, &mut heaviest);
            self.runs.finish(reach);
        }
    }

    /// All runs of so many spans: what those before the start of each span weigh in sum, what single
    /// values count, and the most that one does in each run.
    fn fill_row(&mut self, reach: usize, before: &[f32], singles: &[f32], heaviest: &mut [f32]) {
        let price = narrow(self.price);
        let count = self.spans.len() - reach;
        for first in (0..count).step_by(LANES) {
            let splits = self.runs.splits(first, reach);
            let (starts, ends) = (lanes(&before[first..]), lanes(&before[first + reach + 1..]));
            let behind = lanes(&singles[first + reach..]);
            let heaviest = lanes_mut(&mut heaviest[first..]);
            let costs = self.runs.lanes(first, reach);
            let mut excess = [0.0; LANES];
            for lane in 0..LANES {
                let weight = ends[lane] - starts[lane];
                heaviest[lane] = greater(heaviest[lane], behind[lane]);
                // A chain is nothing but values taken out.
                let heavy = if costs[lane] < UNKNOWN { 0.0 } else { heaviest[lane] };
                excess[lane] = heavy - weight;
                let cost = weight + price + splits[lane];
                costs[lane] = less(cost, costs[lane]);
            }
            if excess.iter().any(|&excess| excess > 0.0) {
                for (from, excess) in (first..count).zip(&excess) {
                    if *excess > 0.0 {
                        self.take_out(from, reach);
                    }
                }
            }
        }
        self.take_out_masks(reach);
    }

    /// Sets the cost of this run right if it is better to take its heaviest single value out.
    fn take_out(&mut self, from: usize, reach: usize) {
        let run = self.run(from, reach);
        if let Some(span) = self.heaviest(run) {
            let question = self.weight(run) + self.price;
            let known = (wide(self.runs.at_most(from, reach)), Choice::Take(span));
            let (cost, _) = self.take(run, question, span, known);
            self.runs.set(from, reach, narrow(cost));
        }
    }

    /// The same with masks. All masks are about the value 0.
    fn take_out_masks(&mut self, reach: usize) {
        if !self.masks.is_empty() {
            let run = self.run(0, reach);
            let question = self.weight(run) + self.price;
            let known = (wide(self.runs.at_most(0, reach)), Choice::Mask(0));
            let (cost, _) = self.take_masks(run, question, known);
            self.runs.set(0, reach, narrow(cost));
        }
    }

    /// Sets what runs of one target cost, and chains.
    fn fill_chains(&mut self, longest: usize) {
        let mut chains = Chains::new();
        for last in 0..self.spans.len() {
            self.runs.set(last, 0, 0.0);
            let to = u16::try_from(last).unwrap_or(NONE);
            chains.restart(self.span(to).target, to);
            for from in (last.saturating_sub(longest)..last).rev() {
                if chains.none {
                    break;
                }
                let run = self.run(from, last - from);
                chains.extend(self, run, run.from);
                if chains.possible != [false; 2] {
                    let weight = self.before[last + 1] - self.before[from];
                    let (cost, _) = chains.best(weight, self.price);
                    self.runs.set(from, last - from, narrow(cost));
                }
            }
        }
    }

    fn run(&self, from: usize, reach: usize) -> Run {
        let index = |index| u16::try_from(index).unwrap_or(NONE);
        Run { from: index(from), to: index(from + reach), taken: [NONE; TAKEN] }
    }

    /// What was found for a run from which nothing was taken, if it was not too long.
    fn known(&self, run: Run) -> Option<u64> {
        if !run.is_whole() {
            return None;
        }
        self.runs.known(usize::from(run.from), run.reach())
    }

    /// The least cost of a tree over this run.
    fn best(&mut self, run: Run) -> u64 {
        if let Some(cost) = self.known(run) {
            return cost;
        }
        if let Some(&(cost, _)) = self.found.get(&run) {
            return cost;
        }
        let best = self.search(run);
        self.found.insert(run, best);
        best.0
    }

    /// The better of what is known and `==` for this span first.
    fn take(&mut self, run: Run, question: u64, span: u16, known: (u64, Choice)) -> (u64, Choice) {
        match run.without(&[span]) {
            Some(rest) if question < known.0 => {
                let cost = question + self.best(rest);
                if cost < known.0 { (cost, Choice::Take(span)) } else { known }
            }
            _ => known,
        }
    }

    /// The best of what is known and a question about each of the masks first.
    ///
    /// before: `A == 0 ? a : A == 4 ? a : b`  after: `A & !4 != 0 ? b : a`
    fn take_masks(&mut self, run: Run, question: u64, mut best: (u64, Choice)) -> (u64, Choice) {
        // The last ones, which hold the most, leave the others nothing to gain.
        for index in (0..self.masks.len()).rev() {
            let Mask { spans, weight, .. } = &self.masks[index];
            let inside = spans[spans.len() - 1] <= run.to
                && (run.is_whole() || !spans.iter().any(|span| run.taken.contains(span)));
            if inside
                && weight * self.heavy + self.price > question
                && let Some(rest) = run.without(spans)
                && question + self.least(rest) < best.0
            {
                let cost = question + self.best(rest);
                if cost < best.0 {
                    best = (cost, Choice::Mask(u16::try_from(index).unwrap_or(NONE)));
                }
            }
        }
        best
    }

    /// A span with the target of all, if it is one.
    fn one_target(&self, run: Run) -> Option<u16> {
        if self.same[usize::from(run.from)] >= run.to {
            return Some(run.from);
        }
        if run.is_whole() {
            return None;
        }
        let target = self.span(run.from).target;
        run.live().all(|span| self.span(span).target == target).then_some(run.from)
    }

    /// The best tree over a run that [`Search::fill`] did not look at.
    fn search(&mut self, run: Run) -> (u64, Choice) {
        if let Some(same) = self.one_target(run) {
            return (0, Choice::Same(same));
        }
        let weight = self.weight(run);
        let question = weight + self.price;
        let mut best = self.chain(run, weight);
        if question >= best.0 {
            return best;
        }
        let no_chain = best.0 == u64::MAX;
        if no_chain
            && let Some(span) = self.heaviest(run)
            && self.span(span).weight * self.heavy > weight
        {
            best = self.take(run, question, span, best);
        }
        if run.from == 0 {
            best = self.take_masks(run, question, best);
        }
        let (first, middle, last) = self.around(run);
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

    /// What a tree over the run costs at least: what is known, else nothing or one question.
    fn least(&self, run: Run) -> u64 {
        match self.known(run) {
            Some(cost) => cost,
            None if self.one_target(run).is_some() => 0,
            None => self.weight(run) + self.price,
        }
    }

    /// The middle of the weight and what is around it, from the first to the last.
    fn around(&self, run: Run) -> (u16, u16, u16) {
        let (low, high) = (run.from + 1, run.to);
        let around = match run.reach() {
            reach if reach > SEARCHED => 0,
            _ if self.size => NONE,
            _ => WINDOW,
        };
        let sums = &self.before[usize::from(run.from)..=usize::from(run.to) + 1];
        let middle = sums[0].midpoint(sums[sums.len() - 1]);
        let at = u16::try_from(sums.partition_point(|&sum| sum < middle)).unwrap_or(NONE);
        let at = run.from.saturating_add(at).clamp(low, high);
        (at.saturating_sub(around).max(low), at, at.saturating_add(around).min(high))
    }

    /// All one target but for single values.
    ///
    /// before: `A >= 7 ? (A >= 8 ? a : b) : a`  after: `A == 7 ? b : a`
    fn chain(&self, run: Run, weight: u64) -> (u64, Choice) {
        let mut chains = Chains::new();
        chains.restart(self.span(run.to).target, run.to);
        for from in run.live().rev().skip(1) {
            if chains.none {
                return NO_CHAIN;
            }
            chains.extend(self, run, from);
        }
        chains.best(weight, self.price)
    }

    fn heaviest(&self, run: Run) -> Option<u16> {
        let singles = run.live().filter(|&span| self.span(span).is_single());
        singles.max_by_key(|&span| (self.span(span).weight, NONE - span))
    }

    /// The first question of the best tree over a run that was searched.
    fn choice(&self, run: Run) -> Choice {
        let found = match self.known(run) {
            Some(cost) => self.choice_at(run, cost),
            None => self.found.get(&run).map(|&(_, choice)| choice),
        };
        found.unwrap_or_else(|| unreachable!("what a choice leads to was searched"))
    }

    /// The first question of a tree over a run from which nothing was taken, which costs this much.
    fn choice_at(&self, run: Run, cost: u64) -> Option<Choice> {
        if cost == 0 {
            return Some(Choice::Same(run.from));
        }
        let weight = self.weight(run);
        let chain = || {
            let (least, chain) = self.chain(run, weight);
            (least == cost).then_some(chain)
        };
        let left = cost.checked_sub(weight + self.price);
        let question = || self.question_at(run, left?);
        // Of what costs the same a chain is shared with others more often, and found later.
        match self.size {
            true => chain().or_else(question),
            false => question().or_else(chain),
        }
    }

    /// The first question of a tree over such a run, if what it leaves costs this much.
    fn question_at(&self, run: Run, left: u64) -> Option<Choice> {
        let split = self.runs.split(usize::from(run.from), run.reach(), left);
        let split = split.and_then(|at| u16::try_from(at).ok());
        let take = || {
            let span = self.heaviest(run)?;
            self.is_left(run, &[span], left).then_some(Choice::Take(span))
        };
        let mask = || {
            let masks = (0..NONE).zip(&self.masks);
            let mut fitting = masks.filter(|(_, mask)| self.is_left(run, &mask.spans, left));
            fitting.next().map(|(mask, _)| Choice::Mask(mask))
        };
        split.map(Choice::Split).or_else(take).or_else(mask)
    }

    /// Whether the tree over the run without these spans was found to cost this.
    fn is_left(&self, run: Run, spans: &[u16], cost: u64) -> bool {
        let rest = run.without(spans);
        let found = |rest| self.known(rest).or_else(|| Some(self.found.get(&rest)?.0));
        rest.and_then(found) == Some(cost)
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
                let &Span { first, target, .. } = self.span(span);
                let no = self.rest(graph, run, &[span]);
                Asked {
                    root: graph.test(Compare::Equal, first, target, no.root),
                    questions: self.weight(run) + no.questions,
                }
            }
            Choice::Mask(mask) => {
                let Mask { outside, spans, .. } = self.mask(mask);
                let yes = self.rest(graph, run, spans);
                let no = self.span(spans[0]).target;
                Asked {
                    root: graph.test(Compare::AnyBit, *outside, yes.root, no),
                    questions: self.weight(run) + yes.questions,
                }
            }
        }
    }

    /// The nodes for a run without these spans.
    fn rest(&self, graph: &mut Graph, run: Run, spans: &[u16]) -> Asked {
        match run.without(spans) {
            Some(rest) => self.build(graph, rest),
            None => unreachable!("only what can be taken was chosen"),
        }
    }
}

/// The cost where no chain is possible.
const NO_CHAIN: (u64, Choice) = (u64::MAX, Choice::Chain(NONE));

/// Chains of `==` over a run that grows downwards, each around one target that what is left of the
/// run has.
struct Chains {
    /// Around the target of the last span, and around the first other one met; if a span is more
    /// than one value, only around its target.
    around: [Chain; 2],
    /// Which of them are possible.
    possible: [bool; 2],
    /// Whether a second target was met.
    second: bool,
    /// Whether there is none, however the run grows.
    none: bool,
}

impl Chains {
    fn new() -> Chains {
        let none = Chain {
            target: NodeId::default(),
            rest: NONE,
            weights: [0; LONG_CHAIN],
            count: 0,
            sum: 0,
            asked: 0,
        };
        Chains { around: [none; 2], possible: [false; 2], second: false, none: true }
    }

    /// Begins anew with a run of one span.
    fn restart(&mut self, target: NodeId, span: u16) {
        self.around[0].restart(target, span);
        self.possible = [true, false];
        (self.second, self.none) = (false, false);
    }

    /// Adds this span of the run, all above which were added before.
    fn extend(&mut self, search: &Search<'_>, run: Run, from: u16) {
        let span = search.span(from);
        let [first, second] = &mut self.around;
        self.possible[0] = self.possible[0] && first.extend(span, search.longest);
        self.possible[1] = self.possible[1] && second.extend(span, search.longest);
        let other = self.around[0].target != span.target;
        if other && !self.second {
            self.second = true;
            self.possible[1] = self.around[1].over(search, run, from);
        } else if !span.is_single() && self.possible == [false; 2] {
            self.possible[0] = self.around[0].over(search, run, from);
            self.none = !self.possible[0];
        }
    }

    /// The least cost, in a run of this weight, and around which span.
    fn best(&self, weight: u64, price: u64) -> (u64, Choice) {
        let mut best = NO_CHAIN;
        for (chain, possible) in self.around.iter().zip(&self.possible) {
            if *possible {
                let cost = chain.cost(weight, price);
                if cost < best.0 {
                    best = (cost, Choice::Chain(chain.rest));
                }
            }
        }
        best
    }
}

/// A chain of `==` for the spans that do not have one target.
#[derive(Clone, Copy)]
struct Chain {
    target: NodeId,
    /// A span that has it.
    rest: u16,
    /// The weights of the others, the heaviest first.
    weights: [u32; LONG_CHAIN],
    count: u8,
    /// Their sum.
    sum: u64,
    /// The sum of each of them times its place from 1 on.
    asked: u64,
}

impl Chain {
    /// Begins anew, without a question, around the target of this span.
    fn restart(&mut self, target: NodeId, rest: u16) {
        (self.target, self.rest) = (target, rest);
        (self.count, self.sum, self.asked) = (0, 0, 0);
    }

    /// Begins anew with all of the run from this span on, around its target. Whether that is
    /// possible.
    fn over(&mut self, search: &Search<'_>, run: Run, from: u16) -> bool {
        self.restart(search.span(from).target, from);
        let mut spans = Run { from, ..run }.live().rev();
        spans.all(|span| self.extend(search.span(span), search.longest))
    }

    /// Adds a question for this span, if it needs one. Whether that was possible.
    fn extend(&mut self, span: &Span, longest: usize) -> bool {
        if span.target == self.target {
            return true;
        }
        let count = usize::from(self.count);
        if !span.is_single() || count == longest {
            return false;
        }
        let weight = u32::try_from(span.weight).unwrap_or(u32::MAX);
        let (mut at, mut after) = (count, 0);
        while let Some(lighter) = at.checked_sub(1)
            && self.weights[lighter] <= weight
        {
            self.weights[at] = self.weights[lighter];
            after += u64::from(self.weights[lighter]);
            at = lighter;
        }
        self.weights[at] = weight;
        self.asked += after + span.weight * (u64::try_from(at).unwrap_or(0) + 1);
        self.sum += span.weight;
        self.count += 1;
        true
    }

    /// What it costs in a run of this weight.
    fn cost(&self, weight: u64, price: u64) -> u64 {
        self.asked + u64::from(self.count) * (weight - self.sum + price)
    }
}

/// The masks all whose values have one target, in two spans at least and as many as can be taken
/// out at most.
fn masks(spans: &[Span]) -> Vec<Mask> {
    let mut masks = Vec::new();
    let zero = spans[0];
    if zero.first > 0 {
        return masks;
    }
    for span in &spans[1..] {
        let mask = span.last;
        if span.target == zero.target
            && zero.last & !mask == 0
            && mask.count_ones() <= MASKED
            && let Some(held) = under(spans, mask)
        {
            let weight = held.iter().map(|&span| spans[usize::from(span)].weight).sum();
            masks.push(Mask { outside: !mask, spans: held, weight });
        }
    }
    masks
}

/// The spans that hold all values under a mask and no others, if there are such, of one target.
fn under(spans: &[Span], mask: u32) -> Option<Vec<u16>> {
    let mut held: Vec<u16> = Vec::new();
    let mut value = 0;
    loop {
        let at = spans.partition_point(|span| span.last < value);
        let span = spans.get(at).filter(|span| span.target == spans[0].target)?;
        let index = u16::try_from(at).ok()?;
        let all_inside = (span.first..=span.last).take(1 << MASKED).all(|value| value & !mask == 0);
        if span.first > value || span.last > mask || !all_inside {
            return None;
        }
        if held.last() != Some(&index) {
            held.push(index);
        }
        if held.len() > TAKEN {
            return None;
        }
        value = value.wrapping_sub(mask) & mask;
        if value == 0 {
            return Some(held);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use strait_bpf::Action;

    fn spans(graph: &mut Graph, parts: &[(u32, u64, Action)]) -> Vec<Span> {
        let ends = parts.iter().skip(1).map(|part| part.0 - 1).chain([u32::MAX]);
        let spans = parts.iter().zip(ends).map(|(&(first, weight, action), last)| Span {
            first,
            last,
            target: graph.ret(action),
            weight,
        });
        spans.collect()
    }

    fn cost(spans: &[Span]) -> u64 {
        plan(spans, Aim { size: false, thorough: false }, 1).cost
    }

    #[test]
    fn values_under_a_mask_are_one_question() {
        let (no, yes) = (Action::Errno(1), Action::Allow);
        let mut graph = Graph::default();
        let two = [(0, 10, yes), (1, 1, no), (4096, 10, yes), (4097, 1, no)];
        assert_eq!(cost(&spans(&mut graph, &two)), 23);
        let four = [(0, 9, yes), (2, 1, no), (8, 9, yes), (10, 1, no)];
        let four = spans(&mut graph, &four);
        assert_eq!(masks(&four).iter().map(|mask| mask.outside).collect::<Vec<_>>(), [!9]);
        assert_eq!(cost(&four), 21);
        // 9 is under the mask too.
        let three = [(0, 9, yes), (2, 1, no), (8, 9, yes), (9, 1, no)];
        assert!(masks(&spans(&mut graph, &three)).is_empty());
    }

    #[test]
    fn runs_are_trimmed() {
        let run = Run { from: 3, to: 9, taken: [NONE; TAKEN] };
        let rest = run.without(&[3, 5]).and_then(|run| run.without(&[4, 9]));
        assert_eq!(rest, Some(Run { from: 6, to: 8, taken: [NONE; TAKEN] }));
        let one = Run { from: 3, to: 4, taken: [NONE; TAKEN] };
        assert_eq!(one.without(&[3, 4]), None);
    }
}
