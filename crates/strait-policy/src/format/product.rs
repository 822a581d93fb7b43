//! Chains as sums of products: what formats can say that know no order and no `not`.

use std::collections::BTreeMap;

use strait_bpf::Action;

use crate::rules::{Chain, Condition, Op, Test, Width};

/// Tests that hold together, and what is done then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Product {
    /// At most one for each bit; equalities of one argument are joined.
    pub(crate) tests: Vec<Test>,
    /// What is done.
    pub(crate) action: Action,
}

/// How many products a chain may become.
const MAX_PRODUCTS: usize = 256;

/// The chain as products, of which those that overlap have the same action; where none holds,
/// `default` is done. `None` if that would be too many, or a test has no such form.
///
/// Comparisons of less than a register, if `register` is how many bits it has, become equalities,
/// which all formats can say.
pub(crate) fn chain_products(
    chain: &Chain,
    default: Action,
    register: Option<Width>,
) -> Option<Vec<Product>> {
    let mut products: Vec<Product> = Vec::new();
    let mut before: Vec<(&Condition, Action)> = Vec::new();
    let always = Condition::All(Vec::new());
    let last = (&always, chain.otherwise);
    for (when, action) in chain.arms.iter().map(|arm| (&arm.when, arm.action)).chain([last]) {
        if action != default {
            // Arms before this one with the same action need not be kept apart from it.
            let mut sum = sum(when, true, register)?;
            for (earlier, _) in before.iter().filter(|(_, theirs)| *theirs != action) {
                sum = times(&sum, &self::sum(earlier, false, register)?)?;
            }
            products.extend(sum.into_iter().map(|tests| Product { tests, action }));
        }
        before.push((when, action));
    }
    // Where an arm gives the default, later arms were kept apart from it above.
    let mut unique: Vec<Product> = Vec::new();
    for product in products {
        let always = unique.iter().any(|p| p.tests.is_empty() && p.action == product.action);
        if !always && !unique.contains(&product) {
            unique.push(product);
        }
    }
    if let Some(always) = unique.iter().find(|product| product.tests.is_empty()).cloned() {
        unique.retain(|product| product.action != always.action);
        unique.push(always);
    }
    (unique.len() <= MAX_PRODUCTS).then_some(unique)
}

/// Products of tests, of which at least one holds.
type Sum = Vec<Vec<Test>>;

/// The condition, or its negation, as a sum.
fn sum(condition: &Condition, holds: bool, register: Option<Width>) -> Option<Sum> {
    match (condition, holds) {
        (Condition::Test(test), holds) => equalities(test, holds, register),
        (Condition::Not(inner), holds) => sum(inner, !holds, register),
        (Condition::All(parts), true) | (Condition::Any(parts), false) => {
            parts.iter().try_fold(vec![Vec::new()], |product, part| {
                times(&product, &sum(part, holds, register)?)
            })
        }
        (Condition::Any(parts), true) | (Condition::All(parts), false) => {
            let mut sums = Sum::new();
            for part in parts {
                sums.extend(sum(part, holds, register)?);
                if sums.len() > MAX_PRODUCTS {
                    return None;
                }
            }
            Some(sums)
        }
    }
}

/// Both hold.
fn times(one: &Sum, other: &Sum) -> Option<Sum> {
    if one.len().saturating_mul(other.len()) > MAX_PRODUCTS {
        return None;
    }
    let mut products = Sum::new();
    for one in one {
        for other in other {
            products.extend(join(one.iter().chain(other)));
        }
    }
    Some(products)
}

/// One product of all tests, in which equalities of the same argument are one; none if two of
/// them contradict each other.
fn join<'a>(tests: impl Iterator<Item = &'a Test>) -> Option<Vec<Test>> {
    let mut equal: BTreeMap<u8, (u64, u64)> = BTreeMap::new();
    let mut others: Vec<Test> = Vec::new();
    for test in tests {
        if test.op() != Op::Eq {
            if !others.contains(test) {
                others.push(*test);
            }
            continue;
        }
        let (mask, value) = equal.entry(test.arg()).or_default();
        if (*value ^ test.value()) & *mask & test.mask() != 0 {
            return None;
        }
        *mask |= test.mask();
        *value |= test.value();
    }
    let mut joined: Vec<Test> = Vec::new();
    for (arg, (mask, value)) in equal {
        let width = if mask >> 32 == 0 { Width::W32 } else { Width::W64 };
        joined.push(Test::new(arg, width, mask, Op::Eq, value).ok()?);
    }
    // An equality of all bits decides every other test of that argument.
    for test in others {
        let known = joined.iter().find(|known| {
            known.op() == Op::Eq && known.arg() == test.arg() && test.mask() & !known.mask() == 0
        });
        let Some(known) = known else {
            joined.push(test);
            continue;
        };
        let mut args = [0; 6];
        args[usize::from(test.arg())] = known.value();
        if !test.holds(&args) {
            return None;
        }
    }
    joined.sort();
    Some(joined)
}

/// A test as a sum: whole registers are compared as they are, parts of them by equality.
fn equalities(test: &Test, holds: bool, register: Option<Width>) -> Option<Sum> {
    let op = if holds { test.op() } else { negated(test.op()) };
    let (arg, width, mask, value) = (test.arg(), test.width(), test.mask(), test.value());
    let eq = |mask: u64, value: u64| Test::new(arg, width, mask, Op::Eq, value).ok();
    if value & !mask != 0 {
        return match op {
            Op::Eq => Some(Sum::new()),
            Op::Ne => Some(vec![Vec::new()]),
            _ => None,
        };
    }
    if register.is_none_or(|register| width == register && mask == register.mask()) {
        return Some(vec![vec![Test::new(arg, width, mask, op, value).ok()?]]);
    }
    // The bits from the highest: a number is less if at some bit of `value` it first has 0.
    let bits = || (0..64).rev().map(|bit| 1u64 << bit).filter(|bit| mask & bit != 0);
    let prefixes = |greater: bool| -> Option<Sum> {
        let differing = bits().filter(|bit| (value & bit == 0) == greater);
        differing
            .map(|bit| {
                let above = mask & !(bit | (bit - 1));
                let own = if greater { bit } else { 0 };
                Some(vec![eq(above | bit, value & above | own)?])
            })
            .collect()
    };
    Some(match op {
        Op::Eq => vec![vec![eq(mask, value)?]],
        Op::Ne => bits().map(|bit| Some(vec![eq(bit, !value & bit)?])).collect::<Option<Sum>>()?,
        Op::Lt => prefixes(false)?,
        Op::Gt => prefixes(true)?,
        Op::Le => prefixes(false)?.into_iter().chain([vec![eq(mask, value)?]]).collect(),
        Op::Ge => prefixes(true)?.into_iter().chain([vec![eq(mask, value)?]]).collect(),
    })
}

fn negated(op: Op) -> Op {
    match op {
        Op::Eq => Op::Ne,
        Op::Ne => Op::Eq,
        Op::Lt => Op::Ge,
        Op::Le => Op::Gt,
        Op::Gt => Op::Le,
        Op::Ge => Op::Lt,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rules::Arm;

    fn test() -> impl Strategy<Value = Condition> {
        let ops = prop_oneof![
            Just(Op::Eq),
            Just(Op::Ne),
            Just(Op::Lt),
            Just(Op::Le),
            Just(Op::Gt),
            Just(Op::Ge)
        ];
        (0u8..2, any::<bool>(), prop_oneof![Just(u64::MAX), Just(0xff), Just(0xf0)], ops, 0u64..20)
            .prop_map(|(arg, wide, mask, op, value)| {
                let width = if wide { Width::W64 } else { Width::W32 };
                Condition::Test(Test::new(arg, width, mask & width.mask(), op, value).unwrap())
            })
    }

    fn condition() -> impl Strategy<Value = Condition> {
        test().prop_recursive(2, 6, 2, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Condition::All),
                prop::collection::vec(inner.clone(), 0..3).prop_map(Condition::Any),
                inner.prop_map(|inner| Condition::Not(Box::new(inner))),
            ]
        })
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![Just(Action::Allow), Just(Action::Log), Just(Action::Errno(1))]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn products_say_what_the_chain_says(
            arms in prop::collection::vec((condition(), action()), 0..3),
            otherwise in action(),
            register in prop_oneof![Just(Some(Width::W64)), Just(Some(Width::W32)), Just(None)],
            values in prop::collection::vec(prop_oneof![0u64..24, any::<u64>()], 12),
        ) {
            let arms = arms.into_iter().map(|(when, action)| Arm { when, action }).collect();
            let chain = Chain { arms, otherwise };
            let Some(products) = chain_products(&chain, Action::Errno(1), register) else { return Ok(()) };
            for pair in values.windows(2) {
                let args = [pair[0], pair[1], 0, 0, 0, 0];
                let mut actions = products
                    .iter()
                    .filter(|product| product.tests.iter().all(|test| test.holds(&args)))
                    .map(|product| product.action);
                let action = actions.next().unwrap_or(Action::Errno(1));
                prop_assert!(actions.all(|other| other == action));
                prop_assert_eq!(action, chain.decide(&args));
            }
        }
    }
}
