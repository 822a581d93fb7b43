//! What a chain makes of the arguments, in a form in which equal functions are one.
//!
//! A [`Function`] is a decision diagram: it looks at one [`View`] of the arguments, a word and
//! which of its bits, and goes on by the span that the value is in. Along every path views come in
//! rising order, neighbouring spans lead to different functions, and equal functions are the same:
//! two chains that say the same of every call become one function, however they are written
//! (unless they look at the same word through different masks; then they may stay two).

use std::collections::BTreeSet;
use std::rc::Rc;

use strait_bpf::Action;
use strait_policy::rules::{Chain, Condition, Op, Test, Width};

use crate::hash::QuickMap;
use crate::plain::halves;

/// A word of the arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Word {
    /// Its high half or its low half. Low halves come first: they tell values apart, and what is
    /// left, that high halves are 0, is then the same for many functions.
    pub(crate) high: bool,
    /// Which argument.
    pub(crate) arg: u8,
}

/// A word and which of its bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct View {
    /// The word.
    pub(crate) word: Word,
    /// The bits.
    pub(crate) mask: u32,
}

/// A function of the arguments, by its place among all [`Functions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Function(u32);

impl Function {
    const FALSE: Function = Function(0);
    const TRUE: Function = Function(1);

    fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a function does first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// A condition that holds, or does not.
    Truth(bool),
    /// Answer with this action.
    Answer(Action),
    /// Look, and go on by what is seen: the first value of each span and what comes next.
    Look(View, Rc<[(u32, Function)]>),
}

/// The functions would grow beyond all measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLarge;

/// Spans that all functions of one compilation may have together.
const LIMIT: usize = 400_000;

/// So many have room from the start; most policies have fewer.
const ROOM: usize = 56;

/// Functions, each one once.
#[derive(Debug)]
pub(crate) struct Functions {
    steps: Vec<Step>,
    ids: QuickMap<Step, Function>,
    selected: QuickMap<(Function, Function, Function), Function>,
    spans: usize,
    /// For each function the last walk that came by it, and how many walks there were.
    walked: Vec<u32>,
    walks: u32,
}

impl Functions {
    /// None but the two truths.
    pub(crate) fn new() -> Functions {
        let mut functions = Functions {
            steps: Vec::with_capacity(ROOM),
            ids: QuickMap::with_capacity_and_hasher(ROOM, Default::default()),
            selected: QuickMap::with_capacity_and_hasher(ROOM, Default::default()),
            spans: 0,
            walked: Vec::with_capacity(ROOM),
            walks: 0,
        };
        let truths = [false, true].map(|truth| functions.add(Step::Truth(truth)));
        debug_assert_eq!(truths, [Function::FALSE, Function::TRUE]);
        functions
    }

    /// What the function does first.
    pub(crate) fn step(&self, function: Function) -> &Step {
        &self.steps[function.index()]
    }

    /// The views that the function looks at, in order.
    pub(crate) fn views(&mut self, function: Function) -> Vec<View> {
        let mut views = Vec::with_capacity(4);
        self.walk(function, |view, _| {
            if !views.contains(&view) {
                views.push(view);
            }
        });
        views.sort_unstable();
        views
    }

    /// The function that answers with `action`.
    pub(crate) fn answer(&mut self, action: Action) -> Function {
        self.add(Step::Answer(action))
    }

    /// What a chain says.
    ///
    /// # Errors
    /// If that takes more than [`LIMIT`] spans.
    pub(crate) fn chain(&mut self, chain: &Chain) -> Result<Function, TooLarge> {
        let mut function = self.answer(chain.otherwise);
        // Arms with the same action that follow each other hold if any of them does.
        for arms in chain.arms.chunk_by(|a, b| a.action == b.action).rev() {
            let conditions =
                arms.iter().map(|arm| self.condition(&arm.when)).collect::<Result<Vec<_>, _>>()?;
            let any = self.any(&conditions)?;
            let action = self.answer(arms[0].action);
            function = self.select(any, action, function)?;
        }
        Ok(function)
    }

    /// The spans of what is seen through `view`, each with what the function is once the value is
    /// known to be in it.
    ///
    /// # Errors
    /// As for [`Functions::chain`].
    pub(crate) fn by(
        &mut self,
        function: Function,
        view: View,
    ) -> Result<Vec<(u32, Function)>, TooLarge> {
        let known_with = |other: View| view.mask == u32::MAX && other.word == view.word;
        let alone = self.views(function).iter().all(|&v| v == view || !known_with(v));
        if let Step::Look(top, spans) = self.step(function)
            && *top == view
            && alone
        {
            return Ok(spans.to_vec());
        }
        let mut firsts = BTreeSet::from([0]);
        self.walk(function, |other, spans| {
            if other == view {
                firsts.extend(spans.iter().map(|&(first, _)| first));
            }
        });
        if !alone {
            // Below and above a single value lie others.
            firsts.extend(firsts.clone().iter().filter_map(|first| first.checked_add(1)));
        }
        let lasts = firsts.iter().skip(1).map(|next| next - 1).chain([view.mask]);
        let cells: Vec<(u32, u32)> = firsts.iter().copied().zip(lasts).collect();
        let mut spans: Vec<(u32, Function)> = Vec::with_capacity(cells.len());
        for (first, last) in cells {
            let value = |other: View| {
                if other == view {
                    return Some(first);
                }
                (first == last && known_with(other)).then_some(first & other.mask)
            };
            let within = self.given(function, &value, &mut QuickMap::default())?;
            if spans.last().is_none_or(|&(_, before)| before != within) {
                spans.push((first, within));
            }
        }
        Ok(spans)
    }

    /// Calls `visit` for each look below `function`, each one once.
    fn walk(&mut self, function: Function, mut visit: impl FnMut(View, &[(u32, Function)])) {
        let Functions { steps, walked, walks, .. } = self;
        walked.resize(steps.len(), 0);
        *walks += 1;
        let mut stack = Vec::with_capacity(16);
        stack.push(function);
        while let Some(function) = stack.pop() {
            if let Step::Look(view, spans) = &steps[function.index()]
                && std::mem::replace(&mut walked[function.index()], *walks) != *walks
            {
                visit(*view, spans);
                stack.extend(spans.iter().map(|&(_, next)| next));
            }
        }
    }

    /// What the function is once `value` says what some views show.
    fn given(
        &mut self,
        function: Function,
        value: &dyn Fn(View) -> Option<u32>,
        known: &mut QuickMap<Function, Function>,
    ) -> Result<Function, TooLarge> {
        let Step::Look(view, spans) = self.step(function) else { return Ok(function) };
        if let Some(&function) = known.get(&function) {
            return Ok(function);
        }
        let view = *view;
        let given = match value(view) {
            Some(value_here) => {
                let next = self.next(function, value_here);
                self.given(next, value, known)?
            }
            None => {
                let mut spans = spans.to_vec();
                for (_, next) in &mut spans {
                    *next = self.given(*next, value, known)?;
                }
                self.look(view, spans)?
            }
        };
        known.insert(function, given);
        Ok(given)
    }

    /// What comes next where the first look shows `value`.
    fn next(&self, function: Function, value: u32) -> Function {
        match self.step(function) {
            Step::Look(_, spans) => {
                spans[spans.partition_point(|&(first, _)| first <= value) - 1].1
            }
            _ => function,
        }
    }

    fn condition(&mut self, condition: &Condition) -> Result<Function, TooLarge> {
        match condition {
            Condition::Test(test) => self.test(test),
            Condition::All(all) => {
                let mut function = Function::TRUE;
                for one in all.iter().rev() {
                    let one = self.condition(one)?;
                    function = self.select(one, function, Function::FALSE)?;
                }
                Ok(function)
            }
            Condition::Any(any) => {
                let any =
                    any.iter().map(|one| self.condition(one)).collect::<Result<Vec<_>, _>>()?;
                self.any(&any)
            }
            Condition::Not(one) => {
                let one = self.condition(one)?;
                self.select(one, Function::FALSE, Function::TRUE)
            }
        }
    }

    /// Whether any holds: in halves, so that a long list costs its length times its logarithm.
    fn any(&mut self, any: &[Function]) -> Result<Function, TooLarge> {
        match any {
            [] => Ok(Function::FALSE),
            [one] => Ok(*one),
            _ => {
                let (left, right) = any.split_at(any.len() / 2);
                let left = self.any(left)?;
                let right = self.any(right)?;
                self.select(left, Function::TRUE, right)
            }
        }
    }

    fn test(&mut self, test: &Test) -> Result<Function, TooLarge> {
        let (mask_high, mask_low) = halves(test.mask());
        let (value_high, value_low) = halves(test.value());
        let low = |op| Look { word: Word { arg: test.arg(), high: false }, mask: mask_low, op };
        let high = |op| Look { word: Word { arg: test.arg(), high: true }, mask: mask_high, op };
        let differ = match test.op() {
            _ if test.width() == Width::W32 => return self.compare(&low(test.op()), value_low),
            Op::Eq => Function::FALSE,
            Op::Ne => Function::TRUE,
            Op::Lt | Op::Le => self.compare(&high(Op::Lt), value_high)?,
            Op::Gt | Op::Ge => self.compare(&high(Op::Gt), value_high)?,
        };
        let low = self.compare(&low(test.op()), value_low)?;
        let same = self.compare(&high(Op::Eq), value_high)?;
        self.select(same, low, differ)
    }

    /// Whether `(word & mask) OP value`.
    fn compare(&mut self, look: &Look, value: u32) -> Result<Function, TooLarge> {
        let &Look { word, mask, op } = look;
        // As the first of the values that are in, and the first behind them.
        let (inside, first, behind) = match op {
            Op::Eq => (true, Some(value), value.checked_add(1)),
            Op::Ne => (false, Some(value), value.checked_add(1)),
            Op::Ge => (true, Some(value), None),
            Op::Lt => (false, Some(value), None),
            Op::Gt => (true, value.checked_add(1), None),
            Op::Le => (false, value.checked_add(1), None),
        };
        let (inside, outside) = match inside {
            true => (Function::TRUE, Function::FALSE),
            false => (Function::FALSE, Function::TRUE),
        };
        // A mask of the upper bits alone: `x & !0xff == 0x300` is `0x300 <= x < 0x400`.
        let upper = mask.leading_ones() + mask.trailing_zeros() == u32::BITS && mask != 0;
        let shown = if upper { u32::MAX } else { mask };
        let bound = |value| match upper {
            true => least_shown(mask, value),
            false => least_bound(mask, value),
        };
        let mut spans = Vec::with_capacity(3);
        spans.push((0, outside));
        let bounds = [(first.and_then(bound), inside), (behind.and_then(bound), outside)];
        for (first, next) in bounds.into_iter().filter_map(|(first, next)| Some((first?, next))) {
            match spans.last_mut() {
                Some(last) if last.0 == first => last.1 = next,
                _ => spans.push((first, next)),
            }
        }
        self.look(View { word, mask: shown }, spans)
    }

    /// `condition ? yes : no`, where the condition ends in truths.
    fn select(
        &mut self,
        condition: Function,
        yes: Function,
        no: Function,
    ) -> Result<Function, TooLarge> {
        match condition {
            Function::TRUE => return Ok(yes),
            Function::FALSE => return Ok(no),
            _ if yes == no => return Ok(yes),
            _ if (yes, no) == (Function::TRUE, Function::FALSE) => return Ok(condition),
            _ => {}
        }
        if let Some(&function) = self.selected.get(&(condition, yes, no)) {
            return Ok(function);
        }
        let three = [condition, yes, no];
        let view = three.iter().filter_map(|&function| self.first_view(function)).min();
        let Some(view) = view else { unreachable!("a condition that is no truth looks first") };
        let parts = three.map(|function| match self.step(function) {
            Step::Look(first, spans) if *first == view => spans.clone(),
            _ => Rc::from([(0, function)]),
        });
        let mut at = [0; 3];
        let mut spans = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
        let mut first = 0;
        loop {
            let [condition, yes, no] = [0, 1, 2].map(|part| parts[part][at[part]].1);
            spans.push((first, self.select(condition, yes, no)?));
            let next = (0..3).filter_map(|part| Some(parts[part].get(at[part] + 1)?.0)).min();
            let Some(next) = next else { break };
            first = next;
            for part in 0..3 {
                if parts[part].get(at[part] + 1).is_some_and(|&(start, _)| start == next) {
                    at[part] += 1;
                }
            }
        }
        let function = self.look(view, spans)?;
        self.selected.insert((condition, yes, no), function);
        Ok(function)
    }

    fn first_view(&self, function: Function) -> Option<View> {
        match self.step(function) {
            Step::Look(view, _) => Some(*view),
            _ => None,
        }
    }

    /// A look, with neighbours joined that lead to the same; none if all do.
    fn look(&mut self, view: View, mut spans: Vec<(u32, Function)>) -> Result<Function, TooLarge> {
        spans.dedup_by(|next, before| next.1 == before.1);
        if let [(_, only)] = spans[..] {
            return Ok(only);
        }
        self.spans += spans.len();
        if self.spans > LIMIT {
            return Err(TooLarge);
        }
        Ok(self.add(Step::Look(view, spans.into())))
    }

    fn add(&mut self, step: Step) -> Function {
        if let Some(&function) = self.ids.get(&step) {
            return function;
        }
        let function = Function(u32::try_from(self.steps.len()).unwrap_or(u32::MAX));
        self.steps.push(step.clone());
        self.ids.insert(step, function);
        function
    }
}

/// One comparison of one word.
struct Look {
    word: Word,
    mask: u32,
    op: Op,
}

/// For a mask of upper bits: the least value that, masked, is `bound` or more.
fn least_shown(mask: u32, bound: u32) -> Option<u32> {
    match bound & !mask {
        0 => Some(bound),
        _ => (bound | !mask).checked_add(1),
    }
}

/// The least of the bounds that mean the same for values under the mask: one more than the
/// largest such value below `bound`. None if no value under the mask is `bound` or more.
///
/// With mask 4, `>= 3` is `>= 1`: there is nothing between 0 and 4.
fn least_bound(mask: u32, bound: u32) -> Option<u32> {
    if bound > mask {
        return None;
    }
    let Some(below) = bound.checked_sub(1) else { return Some(0) };
    // The largest part of the mask that is not above `below`.
    let excess = below & !mask;
    let fits = match excess {
        0 => below,
        _ => {
            // From the highest bit that the mask lacks, everything under it may be set.
            let under = (1 << excess.ilog2()) - 1;
            mask & (below & !under & mask | under)
        }
    };
    Some(fits + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_under_a_mask_are_the_least_that_mean_the_same() {
        for mask in 0..64_u32 {
            for bound in 0..80 {
                let below = (0..64).filter(|value| value & !mask == 0 && *value < bound).max();
                let expected = match (0..64).any(|value| value & !mask == 0 && value >= bound) {
                    true => Some(below.map_or(0, |below| below + 1)),
                    false => None,
                };
                assert_eq!(least_bound(mask, bound), expected, "mask {mask:#b}, bound {bound}");
            }
        }
    }

    #[test]
    fn equal_functions_are_one() {
        let mut functions = Functions::new();
        let test =
            |op, value| Condition::Test(Test::new(0, Width::W64, u64::MAX, op, value).unwrap());
        let range = Condition::All(vec![test(Op::Ge, 5), test(Op::Lt, 7)]);
        let values = Condition::Any(vec![test(Op::Eq, 6), test(Op::Eq, 5)]);
        let not = Condition::Not(Box::new(Condition::Any(vec![test(Op::Lt, 5), test(Op::Gt, 6)])));
        let [range, values, not] = [range, values, not].map(|c| functions.condition(&c));
        assert_eq!(range, values);
        assert_eq!(range, not);
    }
}
