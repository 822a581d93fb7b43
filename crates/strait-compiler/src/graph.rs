//! The form between rules and instructions: a graph without cycles, in which equal parts are one.
//!
//! A node is what is left to do at one point of the program. Children exist before their
//! parents, so a larger [`NodeId`] never is below a smaller one, and a program in falling order of
//! ids jumps only forward. Equal nodes are the same node: that is how leaves and whole blocks of
//! argument checks come to be shared.

use strait_bpf::Action;

use crate::hash::QuickMap;

/// A node of a [`Graph`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId(u32);

impl NodeId {
    /// The position among all nodes, in order of making.
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// How a test compares the accumulator with its constant; all unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Compare {
    /// `A == K`
    Equal,
    /// `A >= K`
    AtLeast,
    /// `A > K`
    Above,
    /// `A & K != 0`
    AnyBit,
}

/// What is done at one point of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Node {
    /// Answer with this action.
    Return(Action),
    /// Load the word at this byte of `seccomp_data`, then go on.
    Load(u32, NodeId),
    /// Keep these bits of the word, then go on.
    Keep(u32, NodeId),
    /// Go on in one of two ways.
    Test {
        /// The comparison.
        compare: Compare,
        /// Its constant.
        constant: u32,
        /// Where to go if it holds.
        yes: NodeId,
        /// Where to go if it does not.
        no: NodeId,
    },
}

impl Node {
    /// The nodes that may come next.
    pub(crate) fn next(self) -> impl Iterator<Item = NodeId> {
        let (first, second) = match self {
            Node::Return(_) => (None, None),
            Node::Load(_, next) | Node::Keep(_, next) => (Some(next), None),
            Node::Test { yes, no, .. } => (Some(yes), Some(no)),
        };
        first.into_iter().chain(second)
    }
}

/// Nodes, each one once.
#[derive(Debug)]
pub(crate) struct Graph {
    nodes: Vec<Node>,
    ids: QuickMap<Node, NodeId>,
}

/// So many nodes have room from the start; most programs have fewer.
const ROOM: usize = 200;

impl Default for Graph {
    fn default() -> Graph {
        let ids = QuickMap::with_capacity_and_hasher(ROOM, Default::default());
        Graph { nodes: Vec::with_capacity(ROOM), ids }
    }
}

impl Graph {
    /// The node with this id.
    pub(crate) fn node(&self, id: NodeId) -> Node {
        self.nodes[id.index()]
    }

    /// How many nodes there are.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The leaf that answers with `action`.
    pub(crate) fn ret(&mut self, action: Action) -> NodeId {
        self.add(Node::Return(action))
    }

    /// A load of the word at byte `offset`.
    pub(crate) fn load(&mut self, offset: u32, next: NodeId) -> NodeId {
        match self.node(next) {
            // What answers or loads anew needs no word.
            Node::Return(_) | Node::Load(..) => next,
            Node::Keep(..) | Node::Test { .. } => self.add(Node::Load(offset, next)),
        }
    }

    /// Drops all bits of the word but `mask`.
    pub(crate) fn keep(&mut self, mask: u32, next: NodeId) -> NodeId {
        match self.node(next) {
            Node::Return(_) | Node::Load(..) => next,
            _ if mask == u32::MAX => next,
            Node::Keep(..) | Node::Test { .. } => self.add(Node::Keep(mask, next)),
        }
    }

    /// A test; none where both ways are one or the answer is known.
    pub(crate) fn test(
        &mut self,
        compare: Compare,
        constant: u32,
        yes: NodeId,
        no: NodeId,
    ) -> NodeId {
        match (compare, constant) {
            _ if yes == no => yes,
            (Compare::AtLeast, 0) => yes,
            (Compare::Above, u32::MAX) | (Compare::AnyBit, 0) => no,
            _ => self.add(Node::Test { compare, constant, yes, no }),
        }
    }

    fn add(&mut self, node: Node) -> NodeId {
        let next = NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        let id = *self.ids.entry(node).or_insert(next);
        if id == next {
            self.nodes.push(node);
        }
        id
    }
}
