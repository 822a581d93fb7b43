//! The program that is plainly right: spans one after the other, conditions as they are written.
//!
//! This is [`Level::None`](crate::Level::None), and what every better program is compared with.

use strait_policy::Rules;
use strait_policy::rules::{Chain, Condition, Op, Table, Test, Width};

use crate::data::{ARCH, NR, Words};
use crate::graph::{Compare, Graph, NodeId};

/// Tests for one audit arch after the other; what none of them is, is foreign.
pub(crate) fn rules(graph: &mut Graph, rules: &Rules, words: Words) -> NodeId {
    let mut node = graph.ret(rules.foreign());
    for (arch, table) in rules.tables() {
        let native = self::table(graph, words, table);
        node = graph.test(Compare::Equal, arch.raw(), native, node);
    }
    graph.load(ARCH, node)
}

/// `nr >= first of the last span ? its chain : nr >= first of the one before ? …`
fn table(graph: &mut Graph, words: Words, table: &Table) -> NodeId {
    let mut spans = table.spans();
    let mut node = match spans.next() {
        Some((_, _, first)) => chain(graph, words, first),
        None => unreachable!("a table covers every number"),
    };
    for (first, _, next) in spans {
        let next = chain(graph, words, next);
        node = graph.test(Compare::AtLeast, first, next, node);
    }
    graph.load(NR, node)
}

/// The arms in their order, then the action where none holds.
pub(crate) fn chain(graph: &mut Graph, words: Words, chain: &Chain) -> NodeId {
    let mut node = graph.ret(chain.otherwise);
    for arm in chain.arms.iter().rev() {
        let action = graph.ret(arm.action);
        node = condition(graph, words, &arm.when, action, node);
    }
    node
}

/// Goes to `yes` or `no`, looking at no more conditions than it must.
fn condition(graph: &mut Graph, words: Words, when: &Condition, yes: NodeId, no: NodeId) -> NodeId {
    match when {
        Condition::Test(test) => self::test(graph, words, test, yes, no),
        Condition::All(all) => {
            all.iter().rev().fold(yes, |next, one| condition(graph, words, one, next, no))
        }
        Condition::Any(any) => {
            any.iter().rev().fold(no, |next, one| condition(graph, words, one, yes, next))
        }
        Condition::Not(one) => condition(graph, words, one, no, yes),
    }
}

/// One comparison, over one word or two.
fn test(graph: &mut Graph, words: Words, test: &Test, yes: NodeId, no: NodeId) -> NodeId {
    let (compare, yes, no) = match test.op() {
        Op::Eq => (Compare::Equal, yes, no),
        Op::Ne => (Compare::Equal, no, yes),
        Op::Ge => (Compare::AtLeast, yes, no),
        Op::Lt => (Compare::AtLeast, no, yes),
        Op::Gt => (Compare::Above, yes, no),
        Op::Le => (Compare::Above, no, yes),
    };
    let (mask_high, mask_low) = halves(test.mask());
    let (value_high, value_low) = halves(test.value());
    let low = graph.test(compare, value_low, yes, no);
    let low = graph.keep(mask_low, low);
    let low = graph.load(words.low(test.arg()), low);
    match test.width() {
        Width::W32 => low,
        Width::W64 => {
            // The high halves decide unless they are equal.
            let differ = match compare {
                Compare::Equal => no,
                _ => graph.test(Compare::Above, value_high, yes, no),
            };
            let high = graph.test(Compare::Equal, value_high, low, differ);
            let high = graph.keep(mask_high, high);
            graph.load(words.high(test.arg()), high)
        }
    }
}

/// The high and the low 32 bits.
#[expect(clippy::cast_possible_truncation, reason = "taking the halves apart is the purpose")]
pub(crate) fn halves(value: u64) -> (u32, u32) {
    ((value >> 32) as u32, value as u32)
}
