//! What each rule for a call does, among the other rules for it.

use std::collections::BTreeMap;

use strait_bpf::{Action, Builder, Outcome, Predicate, Undecided};

use crate::meaning::holds;
use crate::rules::Condition;

/// What a rule does for a call on an ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It decides on some calls, and otherwise than without it; or how much it decides is not known.
    Decides,
    /// It decides, and the answer would be the same without it.
    Redundant,
    /// An earlier rule for all arguments, or with the same condition, decides instead.
    Behind(usize),
    /// The earlier rules together leave it nothing.
    Shadowed,
    /// Its condition never holds.
    Impossible,
}

/// A rule that is for a call.
pub(super) struct Applying {
    /// The rule.
    pub(super) index: usize,
    /// When; none for always.
    pub(super) when: Option<Condition>,
    /// What it answers.
    pub(super) action: Action,
}

/// What each of these rules does, in their order, before `fallback` answers. The time for it is in
/// proportion to their number: one workshop has what all of them mean.
pub(super) fn effects(rules: &[Applying], fallback: Action) -> Vec<(usize, Effect)> {
    let mut found: Vec<(usize, Effect)> =
        rules.iter().map(|rule| (rule.index, Effect::Decides)).collect();
    let mut first_with: BTreeMap<&Condition, usize> = BTreeMap::new();
    let mut unconditional = None;
    for (rule, (_, effect)) in rules.iter().zip(&mut found) {
        let earlier = rule.when.as_ref().and_then(|when| first_with.get(when)).copied();
        let earlier = unconditional.into_iter().chain(earlier).min();
        match (earlier, &rule.when) {
            (Some(earlier), _) => *effect = Effect::Behind(earlier),
            (None, Some(when)) => drop(first_with.insert(when, rule.index)),
            (None, None) => unconditional = Some(rule.index),
        }
    }
    // What is too intricate is left as it is: that it decides.
    let _ = among_others(rules, fallback, &mut found);
    found
}

/// The same of those that no single one stands before.
fn among_others(
    rules: &[Applying],
    fallback: Action,
    found: &mut [(usize, Effect)],
) -> Result<(), Undecided> {
    let mut builder = Builder::new();
    let (always, never) = (builder.always(true), builder.always(false));
    let mut meanings: Vec<Predicate> = Vec::with_capacity(rules.len());
    for rule in rules {
        let meaning = rule.when.as_ref().map(|when| holds(&mut builder, when)).transpose()?;
        meanings.push(meaning.unwrap_or(always));
    }
    // What calls would get from the rules behind each.
    let mut behind: Vec<Outcome> = Vec::with_capacity(rules.len());
    let mut rest = builder.action(fallback);
    for (rule, meaning) in rules.iter().zip(&meanings).rev() {
        behind.push(rest);
        let action = builder.action(rule.action);
        rest = builder.select(*meaning, action, rest)?;
    }
    let mut left = always;
    for (((rule, &meaning), rest), (_, effect)) in
        rules.iter().zip(&meanings).zip(behind.into_iter().rev()).zip(found)
    {
        let reached = builder.and(meaning, left)?;
        let own = builder.action(rule.action);
        if matches!(effect, Effect::Behind(_)) {
        } else if meaning == never {
            *effect = Effect::Impossible;
        } else if reached == never {
            *effect = Effect::Shadowed;
        } else if builder.select(reached, rest, own)? == own {
            *effect = Effect::Redundant;
        }
        let not = builder.not(meaning)?;
        left = builder.and(left, not)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::rules::{Op, Test, Width};

    fn rule(index: usize, when: Option<(Op, u64)>, action: Action) -> Applying {
        let test = |(op, value)| Test::new(0, Width::W64, u64::MAX, op, value).unwrap();
        Applying { index, when: when.map(test).map(Condition::Test), action }
    }

    #[test]
    fn each_kind_of_effect_is_told() {
        let (allow, errno) = (Action::Allow, Action::Errno(1));
        let rules = [
            rule(10, Some((Op::Lt, 5)), allow),
            rule(11, Some((Op::Lt, 5)), errno),
            rule(12, Some((Op::Eq, 3)), errno),
            rule(13, Some((Op::Lt, 0)), errno),
            rule(14, Some((Op::Ge, 9)), errno),
            rule(15, Some((Op::Ge, 5)), allow),
            rule(16, Some((Op::Ge, 3)), errno),
            rule(17, None, allow),
            rule(18, None, errno),
        ];
        let wanted = [
            (10, Effect::Decides),
            (11, Effect::Behind(10)),
            (12, Effect::Shadowed),
            (13, Effect::Impossible),
            (14, Effect::Decides),
            (15, Effect::Decides),
            (16, Effect::Shadowed),
            (17, Effect::Shadowed),
            (18, Effect::Behind(17)),
        ];
        assert_eq!(effects(&rules, errno), wanted);
        // Without rule 15 those from 5 on get the same from 17.
        let rules = [rule(0, Some((Op::Ge, 5)), allow), rule(1, None, allow)];
        assert_eq!(effects(&rules, errno), [(0, Effect::Redundant), (1, Effect::Decides)]);
        assert_eq!(effects(&[rule(0, None, errno)], errno), [(0, Effect::Redundant)]);
        assert_eq!(effects(&[], errno), []);
    }
}
