//! From a graph to instructions: order, jump distances, long jumps.
//!
//! The program is written from its end. What a node jumps to is then already in place, at a known
//! distance, so nothing moves afterwards and no second pass is needed.

use strait_bpf::Insn;

use crate::graph::{Compare, Graph, Node, NodeId};

// Classic BPF (include/uapi/linux/bpf_common.h): class | size or operation | mode or source.
const LD_W_ABS: u16 = 0x20;
const AND_K: u16 = 0x54;
const JA: u16 = 0x05;
const JEQ_K: u16 = 0x15;
const JGT_K: u16 = 0x25;
const JGE_K: u16 = 0x35;
const JSET_K: u16 = 0x45;
const RET_K: u16 = 0x06;

/// How far a conditional jump reaches: its distance is 8 bits wide.
const REACH: usize = 255;

/// The instructions that do what the graph says from `root` on.
pub(crate) fn lay_out(graph: &Graph, root: NodeId) -> Vec<Insn> {
    let mut layout = Layout {
        graph,
        reversed: Vec::with_capacity(graph.len()),
        places: vec![None; graph.len()],
    };
    for id in order(graph, root) {
        layout.put(id);
    }
    layout.reversed.reverse();
    layout.reversed
}

/// The nodes that are reached from `root`, children before parents: depth first, so that what
/// belongs together stands together.
fn order(graph: &Graph, root: NodeId) -> Vec<NodeId> {
    let mut order = Vec::with_capacity(graph.len());
    let mut seen = vec![false; graph.len()];
    let mut stack = vec![(root, false)];
    while let Some((id, children_done)) = stack.pop() {
        if children_done {
            order.push(id);
        } else if !std::mem::replace(&mut seen[id.index()], true) {
            stack.push((id, true));
            stack.extend(graph.node(id).next().map(|next| (next, false)));
        }
    }
    order
}

struct Layout<'a> {
    graph: &'a Graph,
    /// Instructions, the last one first.
    reversed: Vec<Insn>,
    /// The nearest place of each node, or of a jump to it: an index into `reversed`.
    places: Vec<Option<usize>>,
}

impl Layout<'_> {
    fn put(&mut self, id: NodeId) {
        match self.graph.node(id) {
            Node::Return(action) => self.push(RET_K, 0, 0, action.raw()),
            Node::Load(offset, next) => {
                self.fall_into(next);
                self.push(LD_W_ABS, 0, 0, offset);
            }
            Node::Keep(mask, next) => {
                self.fall_into(next);
                self.push(AND_K, 0, 0, mask);
            }
            Node::Test { compare, constant, yes, no } => {
                if self.distance(yes).max(self.distance(no)) > REACH {
                    // A stand-in for one side moves the other side one further away.
                    self.bring_near(yes, REACH - 1);
                    self.bring_near(no, REACH - 1);
                }
                let code = match compare {
                    Compare::Equal => JEQ_K,
                    Compare::AtLeast => JGE_K,
                    Compare::Above => JGT_K,
                    Compare::AnyBit => JSET_K,
                };
                let (jt, jf) = (self.distance(yes), self.distance(no));
                self.push(code, short(jt), short(jf), constant);
            }
        }
        self.places[id.index()] = Some(self.reversed.len() - 1);
    }

    /// Instructions between the next one to be written and `id`.
    fn distance(&self, id: NodeId) -> usize {
        match self.places[id.index()] {
            Some(place) => self.reversed.len() - 1 - place,
            None => unreachable!("children are placed before their parents"),
        }
    }

    /// The next instruction to be written has no jump of its own: `next` must follow it.
    fn fall_into(&mut self, next: NodeId) {
        if self.distance(next) > 0 {
            self.stand_in(next);
        }
    }

    /// Long jumps: where `id` is out of reach, puts something near that does the same.
    ///
    /// before: `jeq K, far, …`  after: `jeq K, near, …; …; near: ja far`
    fn bring_near(&mut self, id: NodeId, reach: usize) {
        if self.distance(id) > reach {
            self.stand_in(id);
            self.places[id.index()] = Some(self.reversed.len() - 1);
        }
    }

    /// One instruction that does what `id` does: a second copy of a leaf, else a jump.
    fn stand_in(&mut self, id: NodeId) {
        match self.graph.node(id) {
            Node::Return(action) => self.push(RET_K, 0, 0, action.raw()),
            _ => {
                let distance = u32::try_from(self.distance(id)).unwrap_or(u32::MAX);
                self.push(JA, 0, 0, distance);
            }
        }
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) {
        self.reversed.push(Insn { code, jt, jf, k });
    }
}

/// A distance that [`Layout::bring_near`] has made short.
fn short(distance: usize) -> u8 {
    u8::try_from(distance).unwrap_or_else(|_| unreachable!("{distance} is beyond reach"))
}
