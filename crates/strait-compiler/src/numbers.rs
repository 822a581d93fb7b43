//! From rules to a graph: the audit arch, then the number, then the arguments.

use strait_abi::{Arch, AuditArch};
use strait_policy::Rules;
use strait_policy::rules::{Chain, Table};

use crate::blocks::Blocks;
use crate::data::{ARCH, NR, Words};
use crate::graph::{Graph, NodeId};
use crate::tree::{Aim, Span, tree};
use crate::{Frequencies, Options};

/// Where nothing is known of an arch's calls, numbers below this are taken for calls.
const NUMBERS: u32 = 512;

/// The best graph for rules.
pub(crate) fn rules(
    graph: &mut Graph,
    rules: &Rules,
    words: Words,
    aim: Aim,
    options: &Options,
) -> NodeId {
    let mut blocks = Blocks::new(words, aim);
    let foreign = graph.ret(rules.foreign());
    let mut spans = vec![Span { first: 0, last: u32::MAX, target: foreign, weight: 0 }];
    for (arch, table) in rules.tables() {
        let (target, weight) = numbers(graph, &mut blocks, arch, table, aim, options);
        let target = graph.load(NR, target);
        let Some(rest) = spans.pop() else { unreachable!("the last span stays") };
        let arch = arch.raw();
        if rest.first < arch {
            spans.push(Span { last: arch - 1, ..rest });
        }
        spans.push(Span { first: arch, last: arch, target, weight });
        if let Some(first) = arch.checked_add(1) {
            spans.push(Span { first, ..rest });
        }
    }
    let root = tree(graph, &spans, aim).root;
    graph.load(ARCH, root)
}

/// The tree over the numbers of one audit arch, and how often it is asked.
fn numbers(
    graph: &mut Graph,
    blocks: &mut Blocks,
    arch: AuditArch,
    table: &Table,
    aim: Aim,
    options: &Options,
) -> (NodeId, u64) {
    let calls = Calls::of(arch, aim, options);
    let mut left = &calls.counts[..];
    let mut spans = Vec::with_capacity(table.spans().size_hint().0);
    for (first, last, chain) in table.spans() {
        let target = blocks.chain(graph, chain);
        let within;
        (within, left) = left.split_at(left.partition_point(|&(nr, _)| nr <= last));
        calls.cut(first, last, chain, within, |first, last, weight| {
            spans.push(Span { first, last, target, weight });
        });
    }
    let total = spans.iter().map(|span| span.weight).sum();
    let spans = set_apart(graph, spans, aim);
    (tree(graph, &spans, aim).root, total)
}

/// Makes one span of all numbers of another ABI, with a tree of its own, so that no native call
/// pays for how they are told apart.
///
/// before: `…, [x32] -> a, [x32 + 1] -> b, …`  after: `…, [x32..] -> tree`
fn set_apart(graph: &mut Graph, mut spans: Vec<Span>, aim: Aim) -> Vec<Span> {
    let at = spans.partition_point(|span| span.first < Arch::X32_BIT);
    if spans.len() - at > 2 {
        let others = spans.split_off(at);
        let target = tree(graph, &others, aim).root;
        let weight = others.iter().map(|span| span.weight).sum();
        spans.push(Span { first: others[0].first, last: u32::MAX, target, weight });
    }
    spans
}

/// The calls of one audit arch, and how often each is made.
struct Calls {
    counts: Vec<(u32, u64)>,
    /// Whether they were counted, denied ones too, rather than assumed.
    counted: bool,
    /// Whether each is to have a span of its own.
    apart: bool,
}

impl Calls {
    fn of(arch: AuditArch, aim: Aim, options: &Options) -> Calls {
        let counts = match &options.frequencies {
            Some(Frequencies { calls }) => calls
                .range((arch, 0)..=(arch, u32::MAX))
                .map(|(&(_, nr), &count)| (nr, count.min(1 << 32) << 8))
                .collect(),
            None => {
                // A kernel for 64 bits mostly runs programs for 64 bits.
                let often = if arch.raw() & 0x8000_0000 != 0 { 1 << 16 } else { 1 << 8 };
                let mut counts = Vec::with_capacity(NUMBERS as usize);
                match arch.arch() {
                    Some(arch) => arch.numbers().for_each(|nr| counts.push((nr, often))),
                    None => counts.extend((0..NUMBERS).map(|nr| (nr, often))),
                }
                counts
            }
        };
        let counted = options.frequencies.is_some();
        Calls { counts, counted, apart: counted || aim.thorough }
    }

    /// Cuts a span of numbers at the calls `within` that are made often, so that each can have a
    /// question of its own; the rest of them stay together.
    fn cut(
        &self,
        first: u32,
        last: u32,
        chain: &Chain,
        within: &[(u32, u64)],
        mut part: impl FnMut(u32, u32, u64),
    ) {
        let made = self.counted || !chain.arms.is_empty() || chain.otherwise.lets_pass();
        let counts = if made { within } else { &[] };
        if !self.apart {
            part(first, last, counts.iter().map(|&(_, count)| count).sum());
            return;
        }
        let mut next = first;
        for &(nr, count) in counts {
            if nr > next {
                part(next, nr - 1, 0);
            }
            part(nr, nr, count);
            let Some(after) = nr.checked_add(1) else { return };
            next = after;
        }
        if next <= last {
            part(next, last, 0);
        }
    }
}
