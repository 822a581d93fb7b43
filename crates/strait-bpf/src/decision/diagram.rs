//! Finished diagrams: what came out of the workshop, in canonical form, to be read.

use strait_abi::AuditArch;

use super::Exhausted;
use super::store::{FastMap, Node, Ref, Store, Target, Var};
use crate::SeccompData;

/// A total function from [`SeccompData`] to verdicts: numbers that only the owner understands.
/// Two of them are equal exactly if they are the same function.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Diagram {
    /// Children before parents, in the order of a walk from the root, low side first.
    nodes: Box<[Node]>,
    /// The verdicts, in the order of the same walk.
    leaves: Box<[u32]>,
    root: Ref,
}

impl Diagram {
    pub(super) fn constant(verdict: u32) -> Diagram {
        Diagram { nodes: Box::new([]), leaves: Box::new([verdict]), root: Ref::leaf(0) }
    }

    /// Copies what is below `root` out of the workshop.
    pub(super) fn export(store: &Store, root: Ref) -> Diagram {
        let mut export =
            Export { store, nodes: Vec::new(), leaves: Vec::new(), done: FastMap::default() };
        let root = export.visit(root);
        Diagram { nodes: export.nodes.into(), leaves: export.leaves.into(), root }
    }

    /// Copies the diagram into a workshop.
    pub(super) fn import(&self, store: &mut Store) -> Result<Ref, Exhausted> {
        let leaves: Vec<Ref> = self.leaves.iter().map(|&verdict| store.verdict(verdict)).collect();
        let mut nodes: Vec<Ref> = Vec::with_capacity(self.nodes.len());
        let imported = |nodes: &[Ref], at: Ref| match at.target() {
            Target::Leaf(number) => leaves[number],
            Target::Node(number) => nodes[number],
        };
        for node in &self.nodes {
            let (low, high) = (imported(&nodes, node.low), imported(&nodes, node.high));
            nodes.push(store.node(node.var, low, high)?);
        }
        Ok(imported(&nodes, self.root))
    }

    pub(super) fn root(&self) -> Ref {
        self.root
    }

    /// How many nodes there are.
    pub(super) fn size(&self) -> usize {
        self.nodes.len()
    }

    /// Leaves, nodes and root, each counted, all little-endian. Equal exactly for equal diagrams, as
    /// nodes and leaves have canonical places.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = b"strait decision 1\n".to_vec();
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes();
        bytes.extend(count(self.leaves.len()));
        bytes.extend(self.leaves.iter().flat_map(|leaf| leaf.to_le_bytes()));
        bytes.extend(count(self.nodes.len()));
        for Node { var, low, high } in &self.nodes {
            bytes.extend(var.to_le_bytes());
            bytes.extend(low.to_le_bytes());
            bytes.extend(high.to_le_bytes());
        }
        bytes.extend(self.root.to_le_bytes());
        bytes
    }

    /// Every verdict, each once.
    pub(super) fn verdicts(&self) -> &[u32] {
        &self.leaves
    }

    /// The verdict on one call.
    pub(super) fn decide(&self, data: &SeccompData) -> u32 {
        let mut at = self.root;
        loop {
            match at.target() {
                Target::Leaf(number) => return self.leaves[number],
                Target::Node(number) => {
                    let node = self.nodes[number];
                    at = if bit(data, node.var) { node.high } else { node.low };
                }
            }
        }
    }

    /// The bit that is tested first.
    pub(super) fn var(&self, at: Ref) -> Var {
        match at.target() {
            Target::Node(number) => self.nodes[number].var,
            Target::Leaf(_) => Var::END,
        }
    }

    /// What is left once the bit `var`, which is not below the first one tested, is known.
    pub(super) fn cofactors(&self, at: Ref, var: Var) -> (Ref, Ref) {
        match at.target() {
            Target::Node(number) if self.nodes[number].var == var => {
                (self.nodes[number].low, self.nodes[number].high)
            }
            _ => (at, at),
        }
    }

    /// The verdict, at a leaf.
    pub(super) fn verdict(&self, at: Ref) -> Option<u32> {
        match at.target() {
            Target::Leaf(number) => self.leaves.get(number).copied(),
            Target::Node(_) => None,
        }
    }

    /// What is left once the 32 bits from `first` on are known to be `value`; tests above them must
    /// be done already.
    pub(super) fn with_word(&self, mut at: Ref, first: Var, value: u32) -> Ref {
        for bit in 0..32 {
            let (low, high) = self.cofactors(at, first.plus(bit));
            at = if value >> (31 - bit) & 1 == 1 { high } else { low };
        }
        at
    }

    /// The values of the `bits` bits from `first` on, in intervals after each of which something
    /// else is left; in order, covering all, and as lazy as the caller.
    pub(super) fn intervals(&self, at: Ref, first: Var, bits: u16) -> Intervals<'_> {
        Intervals { diagram: self, first, bits, todo: vec![(at, 0, 0)], joined: None }
    }

    /// The verdicts below a reference, at most `limit` of them, each with the least call (unset
    /// bits where nothing is tested) that gets it, starting from what `base` has above.
    pub(super) fn witnesses(
        &self,
        at: Ref,
        base: SeccompData,
        limit: usize,
    ) -> Vec<(u32, SeccompData)> {
        let mut seen: FastMap<Ref, ()> = FastMap::default();
        let mut todo = vec![(at, base)];
        let mut found = Vec::new();
        while let Some((at, data)) = todo.pop() {
            if found.len() == limit || seen.insert(at, ()).is_some() {
                continue;
            }
            match at.target() {
                Target::Leaf(number) => found.push((self.leaves[number], data)),
                Target::Node(number) => {
                    let node = self.nodes[number];
                    let mut high = data;
                    set_bit(&mut high, node.var);
                    todo.push((node.high, high));
                    todo.push((node.low, data));
                }
            }
        }
        found
    }
}

/// The walk that gives nodes and leaves their canonical places.
struct Export<'s> {
    store: &'s Store,
    nodes: Vec<Node>,
    leaves: Vec<u32>,
    done: FastMap<Ref, Ref>,
}

impl Export<'_> {
    /// Recursion is at most as deep as there are bits.
    fn visit(&mut self, at: Ref) -> Ref {
        if let Some(&done) = self.done.get(&at) {
            return done;
        }
        let exported = match self.store.verdict_of(at) {
            Some(verdict) => {
                self.leaves.push(verdict);
                Ref::leaf(self.leaves.len() - 1)
            }
            None => {
                let var = self.store.var(at);
                let (low, high) = self.store.cofactors(at, var);
                let (low, high) = (self.visit(low), self.visit(high));
                self.nodes.push(Node { var, low, high });
                Ref::node(self.nodes.len() - 1)
            }
        };
        self.done.insert(at, exported);
        exported
    }
}

/// See [`Diagram::intervals`].
#[derive(Clone, Debug)]
pub(super) struct Intervals<'d> {
    diagram: &'d Diagram,
    first: Var,
    bits: u16,
    /// What is left, the lowest value that leads there, and how many bits are known.
    todo: Vec<(Ref, u64, u16)>,
    /// An interval that the next one may continue.
    joined: Option<(u64, u64, Ref)>,
}

impl Iterator for Intervals<'_> {
    /// First and last value, and what is left.
    type Item = (u64, u64, Ref);

    fn next(&mut self) -> Option<(u64, u64, Ref)> {
        while let Some((at, value, known)) = self.todo.pop() {
            if known < self.bits && self.diagram.var(at) < self.first.plus(self.bits) {
                let (low, high) = self.diagram.cofactors(at, self.first.plus(known));
                let rest = self.bits - known - 1;
                self.todo.push((high, value | 1 << rest, known + 1));
                self.todo.push((low, value, known + 1));
                continue;
            }
            let rest = self.bits - known;
            let last = value | 1u64.checked_shl(u32::from(rest)).unwrap_or(0).wrapping_sub(1);
            match self.joined {
                Some((first, _, before)) if before == at => self.joined = Some((first, last, at)),
                _ => {
                    if let Some(done) = self.joined.replace((value, last, at)) {
                        return Some(done);
                    }
                }
            }
        }
        self.joined.take()
    }
}

/// One bit of a call.
fn bit(data: &SeccompData, var: Var) -> bool {
    let (value, bits, first) = if var < Var::NR {
        (u64::from(data.arch.raw()), 32, Var::ARCH)
    } else if var < Var::ARGS {
        (u64::from(data.nr), 32, Var::NR)
    } else {
        let values = data.args.iter().chain(std::iter::once(&data.instruction_pointer));
        let value = values.copied().nth(usize::from(var.value_index())).unwrap_or(0);
        (value, 64, var.value_start())
    };
    value >> (bits - 1 - var.since(first)) & 1 == 1
}

/// Sets one bit of a call.
fn set_bit(data: &mut SeccompData, var: Var) {
    if var < Var::NR {
        data.arch = AuditArch::from_raw(data.arch.raw() | 1 << (31 - var.since(Var::ARCH)));
    } else if var < Var::ARGS {
        data.nr |= 1 << (31 - var.since(Var::NR));
    } else {
        let bit = 1 << (63 - var.since(var.value_start()));
        match data.args.get_mut(usize::from(var.value_index())) {
            Some(arg) => *arg |= bit,
            None => data.instruction_pointer |= bit,
        }
    }
}
