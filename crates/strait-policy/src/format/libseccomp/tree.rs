//! What becomes of several rules for one call: libseccomp merges them into a tree.
//!
//! Every rule is a path of comparisons of 32-bit words, argument after argument; a comparison of
//! 64 bits is two or three of them. A node says for each outcome of its comparison what is done, or
//! which level of nodes is asked next. The nodes of a level are asked in a fixed order, which has
//! nothing to do with the order of the rules; where none of them leads to an action, the level
//! above goes on with its next node, and at the end the default is done.
//!
//! What overlapping rules mean is nowhere stated but in how paths are merged, so this is a model of
//! that, node by node, of libseccomp 2.5: a path joins nodes that are equal to its own, an
//! action takes the place of a level below it, a rule that another includes is left out or takes
//! the other's nodes away. The tests compare it with the library.

use std::cmp::Ordering;

use strait_bpf::Action;

use super::{Arg, CompareOp};
use crate::rules::Width;

/// What libseccomp has of one call.
#[derive(Debug, Default)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    head: Option<Id>,
    /// The action of a rule without comparisons, which then is all there is.
    always: Option<Action>,
    /// How many nodes the library counts.
    count: usize,
}

/// Why a rule is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The library answers EEXIST: a rule that stands there does something else.
    Conflict,
    /// The library's own lists would be damaged, and what it does then cannot be known.
    Damaged,
    /// No program has room for what stands there already.
    TooLarge,
}

/// How many nodes a tree may have: each takes an instruction at least (`BPF_MAXINSNS`). The time that
/// a rule takes to be merged grows with them.
const MAX_NODES: usize = 4096;

/// `arg & mask OP datum`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Comparison {
    pub(super) arg: u8,
    pub(super) op: CompareOp,
    pub(super) mask: u64,
    pub(super) datum: u64,
}

impl From<&Arg> for Comparison {
    fn from(arg: &Arg) -> Comparison {
        let (mask, datum) = match arg.op {
            CompareOp::MaskedEq => (arg.value, arg.value_two),
            _ => (u64::MAX, arg.value),
        };
        Comparison { arg: arg.index, op: arg.op, mask, datum }
    }
}

pub(super) type Id = usize;

/// One comparison of a word.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) word: Word,
    pub(super) op: WordOp,
    pub(super) mask: u32,
    pub(super) datum: u32,
    /// The operator and the value that the rule has.
    of: CompareOp,
    of_datum: u64,
    pub(super) holds: Way,
    pub(super) fails: Way,
    /// Its neighbours on the level.
    before: Option<Id>,
    after: Option<Id>,
    /// How many nodes and pointers refer to it; none, and it is gone.
    references: usize,
}

/// Half of an argument; on ABIs of 32 bits there is only the low one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Word {
    pub(super) arg: u8,
    pub(super) high: bool,
}

impl Word {
    /// A value of the word, where it stands in the argument.
    pub(super) fn of(self, value: u32) -> u64 {
        u64::from(value) << if self.high { 32 } else { 0 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum WordOp {
    Eq,
    MaskedEq,
    Gt,
    Ge,
}

/// What follows on one outcome.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Way {
    pub(super) level: Option<Id>,
    pub(super) action: Option<Action>,
}

/// A pointer to a node of a level: the tree's own, or that of a node's outcome.
#[derive(Clone, Copy, Debug)]
enum Pointer {
    Head,
    Way(Id, bool),
}

impl Tree {
    /// Adds a rule: with comparisons in the order of their arguments, at most one of each.
    pub(super) fn add(
        &mut self,
        action: Action,
        comparisons: &[Comparison],
        width: Width,
    ) -> Result<(), Refused> {
        if self.always.is_some() {
            return Ok(());
        }
        if self.count > MAX_NODES {
            return Err(Refused::TooLarge);
        }
        let (path, count) = self.path(action, comparisons, width);
        let Some(path) = path else {
            *self = Tree { always: Some(action), ..Tree::default() };
            return Ok(());
        };
        if self.head.is_some() {
            let mut found = Found::default();
            let gone = self.prune(self.head, Some(path), action, &mut found)?;
            self.count = self.count.saturating_sub(gone);
            if gone == 0 && found.matches && found.old_ends && found.new_is_longer {
                // What stands there includes it.
                return Ok(());
            }
            if self.head.is_some() || gone == 0 {
                self.merge(Pointer::Head, path)?;
                // The path's hold on its first node ends; what was not taken over is gone.
                let unused = self.release_level(path)?;
                self.count = (self.count + count).saturating_sub(unused);
                return Ok(());
            }
        }
        self.head = Some(path);
        self.count = count;
        Ok(())
    }

    /// What is done always, if no argument matters.
    pub(super) fn always(&self) -> Option<Action> {
        self.always
    }

    /// A node of the first level, if there is one.
    pub(super) fn head(&self) -> Option<Id> {
        self.head
    }

    /// How many nodes the library counts, by which it orders calls.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The nodes of a new rule, from the last argument to the first; the first node, to which the
    /// rule has one reference, and how many they are. None if no comparison could fail.
    fn path(
        &mut self,
        action: Action,
        comparisons: &[Comparison],
        width: Width,
    ) -> (Option<Id>, usize) {
        let before = self.nodes.len();
        let needed = comparisons.iter().filter(|comparison| {
            comparison.op != CompareOp::MaskedEq || comparison.mask & width.mask() != 0
        });
        let mut then = Way { level: None, action: Some(action) };
        for comparison in needed.rev() {
            let first = match width {
                Width::W32 => self.compare_word(comparison, then),
                Width::W64 => self.compare_words(comparison, then),
            };
            then = Way { level: Some(first), action: None };
        }
        if let Some(first) = then.level {
            self.nodes[first].references += 1;
        }
        (then.level, self.nodes.len() - before)
    }

    /// One argument of 32 bits, and what follows where the comparison holds.
    fn compare_word(&mut self, comparison: &Comparison, then: Way) -> Id {
        let (op, holds) = match comparison.op {
            CompareOp::Ne => (WordOp::Eq, false),
            CompareOp::Lt => (WordOp::Ge, false),
            CompareOp::Le => (WordOp::Gt, false),
            CompareOp::Eq => (WordOp::Eq, true),
            CompareOp::Ge => (WordOp::Ge, true),
            CompareOp::Gt => (WordOp::Gt, true),
            CompareOp::MaskedEq => (WordOp::MaskedEq, true),
        };
        let ways = if holds { (then, Way::default()) } else { (Way::default(), then) };
        self.insert(comparison, false, op, ways)
    }

    /// One argument of 64 bits.
    fn compare_words(&mut self, comparison: &Comparison, then: Way) -> Id {
        let none = Way::default();
        let level = |id: Id| Way { level: Some(id), action: None };
        match comparison.op {
            CompareOp::Eq | CompareOp::MaskedEq => {
                let op = match comparison.op {
                    CompareOp::Eq => WordOp::Eq,
                    _ => WordOp::MaskedEq,
                };
                let low = self.insert(comparison, false, op, (then, none));
                self.insert(comparison, true, op, (level(low), none))
            }
            CompareOp::Ne => {
                let low = self.insert(comparison, false, WordOp::Eq, (none, then));
                self.insert(comparison, true, WordOp::Eq, (level(low), then))
            }
            CompareOp::Gt | CompareOp::Ge => {
                let op = if comparison.op == CompareOp::Gt { WordOp::Gt } else { WordOp::Ge };
                let low = self.insert(comparison, false, op, (then, none));
                let equal = self.insert(comparison, true, WordOp::Eq, (level(low), none));
                self.insert(comparison, true, WordOp::Gt, (then, level(equal)))
            }
            CompareOp::Lt | CompareOp::Le => {
                let op = if comparison.op == CompareOp::Lt { WordOp::Ge } else { WordOp::Gt };
                let low = self.insert(comparison, false, op, (none, then));
                let equal = self.insert(comparison, true, WordOp::Eq, (level(low), then));
                self.insert(comparison, true, WordOp::Gt, (none, level(equal)))
            }
        }
    }

    /// A new node, alone on its level.
    fn insert(
        &mut self,
        comparison: &Comparison,
        high: bool,
        op: WordOp,
        (holds, fails): (Way, Way),
    ) -> Id {
        for level in [holds.level, fails.level].into_iter().flatten() {
            self.nodes[level].references += 1;
        }
        let half = |value: u64| {
            let value = if high { value >> 32 } else { value & Width::W32.mask() };
            u32::try_from(value).unwrap_or(u32::MAX)
        };
        let mask = half(comparison.mask);
        self.nodes.push(Node {
            word: Word { arg: comparison.arg, high },
            op,
            mask,
            datum: half(comparison.datum) & mask,
            of: comparison.op,
            of_datum: comparison.datum,
            holds,
            fails,
            before: None,
            after: None,
            references: 0,
        });
        self.nodes.len() - 1
    }
}

/// Merging: where a new path joins what stands there.
impl Tree {
    /// Merges one new node, with all below it, into the level that `at` points into.
    fn merge(&mut self, at: Pointer, new: Id) -> Result<(), Refused> {
        let mut old = self.target(at)?.ok_or(Refused::Damaged)?;
        for _ in 0..=self.nodes.len() {
            if self.same(old, new)? {
                return self.merge_equal(old, new);
            }
            if self.precedes(old, new)? {
                return self.put_before(at, old, new);
            }
            let Some(after) = self.node(old)?.after else {
                return self.put_last(old, new);
            };
            old = after;
        }
        Err(Refused::Damaged)
    }

    /// An old node with the same comparison takes over what the new one leads to.
    fn merge_equal(&mut self, old: Id, new: Id) -> Result<(), Refused> {
        for outcome in OUTCOMES {
            let Some(action) = self.way(new, outcome)?.action else { continue };
            let Way { level, action: theirs } = self.way(old, outcome)?;
            match theirs {
                None => {
                    if !self.does_only(level, action)? {
                        return Err(Refused::Conflict);
                    }
                    if let Some(level) = level {
                        self.count = self.count.saturating_sub(self.release(level)?.0);
                    }
                    *self.way_mut(old, outcome)? = Way { level: None, action: Some(action) };
                }
                Some(theirs) if theirs != action => {
                    let (new, older) = (self.node(new)?, self.node(old)?);
                    let is_leaf = new.is_leaf() || older.is_leaf();
                    // Of two values with the same high word, that of the greater one.
                    if outcome && new.word.high && new.of_datum > older.of_datum {
                        self.way_mut(old, outcome)?.action = Some(action);
                    }
                    if is_leaf {
                        return Err(Refused::Conflict);
                    }
                }
                Some(_) => {}
            }
        }
        for outcome in OUTCOMES {
            let Some(below) = self.way(new, outcome)?.level else { continue };
            match self.way(old, outcome)? {
                Way { level: Some(_), .. } => self.merge(Pointer::Way(old, outcome), below)?,
                Way { action: None, .. } => {
                    self.hold(below)?;
                    self.way_mut(old, outcome)?.level = Some(below);
                }
                // The old action includes it, and the other outcome is not looked at.
                Way { action: Some(_), .. } => return Ok(()),
            }
        }
        Ok(())
    }

    /// Puts a new node on a level, after the last old one.
    fn put_last(&mut self, old: Id, new: Id) -> Result<(), Refused> {
        self.hold(old)?;
        self.node_mut(new)?.before = Some(old);
        self.hold(new)?;
        self.node_mut(old)?.after = Some(new);
        Ok(())
    }

    /// Puts a new node on a level, before an old one.
    fn put_before(&mut self, at: Pointer, old: Id, new: Id) -> Result<(), Refused> {
        let before = self.node(old)?.before;
        match before {
            Some(before) => {
                self.hold(new)?;
                self.node_mut(before)?.after = Some(new);
            }
            None => self.hold(old)?,
        }
        self.node_mut(new)?.before = before;
        self.node_mut(new)?.after = Some(old);
        self.hold(new)?;
        self.node_mut(old)?.before = Some(new);
        if self.target(at)? == Some(old) {
            self.hold(new)?;
            self.point(at, Some(new))?;
            self.release(old)?;
        }
        Ok(())
    }

    /// Whether all that a level leads to is this action.
    fn does_only(&self, level: Option<Id>, action: Action) -> Result<bool, Refused> {
        let Some(level) = level else { return Ok(true) };
        for id in self.level(level)? {
            let node = self.node(id)?;
            for way in [node.holds, node.fails] {
                if way.action.is_some_and(|theirs| theirs != action)
                    || !self.does_only(way.level, action)?
                {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

/// How a new path lies to the nodes that stand there.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    /// The node that was looked at last has an equal one.
    matches: bool,
    /// Some node has.
    matched_once: bool,
    /// The old path ends.
    old_ends: bool,
    /// The new path ends.
    new_ends: bool,
    /// The old path has nodes before the first equal one.
    old_is_longer: bool,
    /// The new path has.
    new_is_longer: bool,
}

impl Found {
    fn and(self, other: Found) -> Found {
        Found {
            matches: self.matches || other.matches,
            matched_once: self.matched_once || other.matched_once,
            old_ends: self.old_ends || other.old_ends,
            new_ends: self.new_ends || other.new_ends,
            old_is_longer: self.old_is_longer || other.old_is_longer,
            new_is_longer: self.new_is_longer || other.new_is_longer,
        }
    }

    fn matching(self) -> Found {
        Found { matches: true, matched_once: true, ..self }
    }
}

/// Whether to go on along a level.
enum Search {
    Next,
    /// No: with what was found.
    End,
}

/// Pruning: what a new path includes is taken away, or it is itself included.
impl Tree {
    /// Prunes a level and all below it; how many nodes are gone.
    fn prune(
        &mut self,
        level: Option<Id>,
        new: Option<Id>,
        action: Action,
        found: &mut Found,
    ) -> Result<usize, Refused> {
        let (Some(level), Some(new)) = (level, new) else { return Ok(0) };
        if found.matched_once && !found.matches {
            return Ok(0);
        }
        let mut prune = Prune { new, action, above: *found, now: *found, gone: 0 };
        let mut next = Some(self.first(level)?);
        let mut ended = false;
        let mut asked = 0;
        while let Some(old) = next.filter(|_| !ended) {
            asked += 1;
            if asked > self.nodes.len() {
                return Err(Refused::Damaged);
            }
            next = self.node(old)?.after;
            let search = if self.same(old, new)? {
                self.prune_equal(old, &mut prune)?
            } else if self.precedes(old, new)? {
                self.prune_below_old(old, &mut prune)?
            } else {
                self.prune_below_new(old, &mut prune)?
            };
            ended = matches!(search, Search::End);
        }
        if ended && prune.now.matches {
            *found = found.and(prune.now);
        } else {
            found.matches = false;
        }
        Ok(prune.gone)
    }

    /// The new node has an equal one: what is below both, and whether one of them is superfluous.
    fn prune_equal(&mut self, old: Id, prune: &mut Prune) -> Result<Search, Refused> {
        let (new, older) = (self.node(prune.new)?, self.node(old)?);
        prune.now = prune.now.matching();
        prune.now.new_ends |= new.is_leaf();
        prune.now.old_ends |= older.is_leaf();
        let leads_on = |way: Way| way.level.is_some() || way.action.is_some();
        let is_more = |old: Way, new: Way| leads_on(old) && !leads_on(new);
        if is_more(older.holds, new.holds) || is_more(older.fails, new.fails) {
            return Ok(Search::End);
        }
        let actions = |node: &Node| (node.holds.action, node.fails.action);
        if prune.now.new_ends && prune.now.old_ends && actions(new) != actions(older) {
            return Ok(Search::End);
        }
        let mut old = old;
        for outcome in OUTCOMES {
            let Some(below) = self.way(prune.new, outcome)?.level else { continue };
            let mut found = prune.above.matching();
            self.hold(old)?;
            let level = self.way(old, outcome)?.level;
            prune.gone += self.prune(level, Some(below), prune.action, &mut found)?;
            let left = self.let_go(old, &mut prune.gone)?;
            if found.matches {
                prune.now = prune.now.and(found);
            }
            match left {
                Some(left) => old = left,
                None => return Ok(Search::Next),
            }
        }
        let Found { matches, new_ends, old_ends, old_is_longer, new_is_longer, .. } = prune.now;
        if !matches || !self.does_only(Some(old), prune.action)? {
            return Ok(Search::Next);
        }
        if new_ends && old_is_longer {
            prune.gone += self.remove(Pointer::Head, old)?;
            if self.head.is_none() {
                return Ok(Search::End);
            }
        } else if old_ends && new_is_longer {
            return Ok(Search::End);
        }
        Ok(Search::Next)
    }

    /// The old node is of a later argument or value: the new path may lie below it.
    fn prune_below_old(&mut self, old: Id, prune: &mut Prune) -> Result<Search, Refused> {
        if prune.above.new_is_longer {
            return Ok(Search::End);
        }
        let mut old = old;
        for outcome in OUTCOMES {
            let Some(level) = self.way(old, outcome)?.level else { continue };
            let mut found = Found { matches: false, old_is_longer: true, ..prune.above };
            self.hold(old)?;
            prune.gone += self.prune(Some(level), Some(prune.new), prune.action, &mut found)?;
            let left = self.let_go(old, &mut prune.gone)?;
            if found.matches {
                prune.now = prune.now.and(found);
                return Ok(Search::End);
            }
            match left {
                Some(left) => old = left,
                None => return Ok(Search::Next),
            }
        }
        Ok(Search::Next)
    }

    /// The new node is: the old path may lie below it.
    fn prune_below_new(&mut self, old: Id, prune: &mut Prune) -> Result<Search, Refused> {
        if prune.above.old_is_longer {
            return Ok(Search::End);
        }
        let mut old = old;
        for outcome in OUTCOMES {
            let Some(below) = self.way(prune.new, outcome)?.level else { continue };
            let mut found = Found { matches: false, new_is_longer: true, ..prune.above };
            self.hold(old)?;
            prune.gone += self.prune(Some(old), Some(below), prune.action, &mut found)?;
            let left = self.let_go(old, &mut prune.gone)?;
            if found.matches {
                prune.now = prune.now.and(found);
                return Ok(Search::End);
            }
            match left {
                Some(left) => old = left,
                None => return Ok(Search::Next),
            }
        }
        Ok(Search::Next)
    }

    /// Takes a node away wherever it stands below `at`, and with it nodes that lead to nothing; how
    /// many are gone.
    fn remove(&mut self, at: Pointer, node: Id) -> Result<usize, Refused> {
        let Some(level) = self.target(at)? else { return Ok(0) };
        let mut gone = 0;
        let mut next = Some(self.first(level)?);
        while let Some(id) = next.filter(|_| gone == 0) {
            if id != node {
                for outcome in OUTCOMES {
                    gone += self.remove(Pointer::Way(id, outcome), node)?;
                }
            }
            let Node { holds, fails, before, after, .. } = *self.node(id)?;
            let leads_to_nothing =
                self.node(id)?.is_leaf() && holds.action.is_none() && fails.action.is_none();
            if id == node || leads_to_nothing {
                if self.target(at)? == Some(id) {
                    self.point(at, before.or(after))?;
                }
                if let Some(before) = before {
                    self.node_mut(before)?.after = after;
                }
                if let Some(after) = after {
                    self.node_mut(after)?.before = before;
                }
                self.node_mut(id)?.before = None;
                self.node_mut(id)?.after = None;
                return Ok(gone + self.release(id)?.0);
            }
            next = after;
        }
        Ok(gone)
    }
}

/// A search for what a new node includes, along one level.
struct Prune {
    new: Id,
    action: Action,
    /// What was found above the level.
    above: Found,
    /// What was found so far.
    now: Found,
    /// How many nodes are gone.
    gone: usize,
}

/// References: a node lives as long as somebody refers to it.
impl Tree {
    fn hold(&mut self, id: Id) -> Result<(), Refused> {
        self.node_mut(id)?.references += 1;
        Ok(())
    }

    /// Ends a reference; the node if it is left, or the neighbour that takes its place.
    fn let_go(&mut self, id: Id, gone: &mut usize) -> Result<Option<Id>, Refused> {
        let (freed, left) = self.release(id)?;
        *gone += freed;
        Ok(left)
    }

    /// Ends a reference, and with the last one the node: how many nodes are gone, and which is left
    /// in its place.
    fn release(&mut self, id: Id) -> Result<(usize, Option<Id>), Refused> {
        let node = self.node_mut(id)?;
        node.references -= 1;
        if node.references > 0 {
            return Ok((0, Some(id)));
        }
        let Node { holds, fails, before, after, .. } = *node;
        let mut gone = 1;
        if let Some(before) = before {
            self.node_mut(before)?.after = None;
        }
        if let Some(after) = after {
            self.node_mut(after)?.before = None;
        }
        let mut left = [before, after];
        for neighbour in left.iter_mut() {
            if let Some(id) = *neighbour {
                *neighbour = self.let_go(id, &mut gone)?;
            }
        }
        let [before, after] = left;
        if let Some(before) = before {
            after.map_or(Ok(()), |after| self.hold(after))?;
            self.node_mut(before)?.after = after;
        }
        if let Some(after) = after {
            before.map_or(Ok(()), |before| self.hold(before))?;
            self.node_mut(after)?.before = before;
        }
        for way in [holds, fails] {
            if let Some(level) = way.level {
                gone += self.release_level(level)?;
            }
        }
        Ok((gone, before.or(after)))
    }

    /// Ends a reference to a node of a level, and with the last one from outside the level.
    fn release_level(&mut self, id: Id) -> Result<usize, Refused> {
        let (mut gone, left) = self.release(id)?;
        let Some(left) = left else { return Ok(gone) };
        let level = self.level(left)?;
        for &id in &level {
            let node = self.node(id)?;
            let neighbours = usize::from(node.before.is_some()) + usize::from(node.after.is_some());
            if node.references > neighbours {
                return Ok(gone);
            }
        }
        let mut next = level.first().copied();
        while let Some(id) = next {
            next = self.let_go(id, &mut gone)?;
        }
        Ok(gone)
    }
}

/// Nodes and pointers.
impl Tree {
    /// A node that is not gone.
    pub(super) fn node(&self, id: Id) -> Result<&Node, Refused> {
        self.nodes.get(id).filter(|node| node.references > 0).ok_or(Refused::Damaged)
    }

    fn node_mut(&mut self, id: Id) -> Result<&mut Node, Refused> {
        self.nodes.get_mut(id).filter(|node| node.references > 0).ok_or(Refused::Damaged)
    }

    fn way(&self, id: Id, outcome: bool) -> Result<Way, Refused> {
        let node = self.node(id)?;
        Ok(if outcome { node.holds } else { node.fails })
    }

    fn way_mut(&mut self, id: Id, outcome: bool) -> Result<&mut Way, Refused> {
        let node = self.node_mut(id)?;
        Ok(if outcome { &mut node.holds } else { &mut node.fails })
    }

    fn target(&self, at: Pointer) -> Result<Option<Id>, Refused> {
        match at {
            Pointer::Head => Ok(self.head),
            Pointer::Way(id, outcome) => Ok(self.way(id, outcome)?.level),
        }
    }

    fn point(&mut self, at: Pointer, to: Option<Id>) -> Result<(), Refused> {
        match at {
            Pointer::Head => self.head = to,
            Pointer::Way(id, outcome) => self.way_mut(id, outcome)?.level = to,
        }
        Ok(())
    }

    /// The first node of a level.
    fn first(&self, level: Id) -> Result<Id, Refused> {
        let mut id = level;
        for _ in 0..=self.nodes.len() {
            match self.node(id)?.before {
                Some(before) => id = before,
                None => return Ok(id),
            }
        }
        Err(Refused::Damaged)
    }

    /// The nodes of a level, from the first.
    pub(super) fn level(&self, level: Id) -> Result<Vec<Id>, Refused> {
        let mut ids = vec![self.first(level)?];
        while let Some(after) = self.node(ids[ids.len() - 1])?.after {
            ids.push(after);
            if ids.len() > self.nodes.len() {
                return Err(Refused::Damaged);
            }
        }
        Ok(ids)
    }

    /// Whether two nodes compare the same.
    fn same(&self, one: Id, other: Id) -> Result<bool, Refused> {
        let of = |node: &Node| (node.word, node.op, node.mask, node.datum);
        Ok(of(self.node(one)?) == of(self.node(other)?))
    }

    /// Whether the first of two nodes is less than the second; the greater is asked first. Later
    /// arguments are greater, then equalities, upper bounds, lower bounds, and then the value is
    /// compared: of upper bounds the lesser is asked first.
    fn precedes(&self, one: Id, other: Id) -> Result<bool, Refused> {
        let (one, other) = (self.node(one)?, self.node(other)?);
        let key = |node: &Node| (node.word, node.rank());
        Ok(match key(one).cmp(&key(other)) {
            Ordering::Equal if one.rank() == UPPER_BOUND => one.datum > other.datum,
            Ordering::Equal => one.datum < other.datum,
            order => order == Ordering::Less,
        })
    }
}

/// The rank of nodes of an upper bound; equalities have a higher one, lower bounds a lower.
const UPPER_BOUND: u8 = 1;
/// What a comparison can come to, in the order in which it is looked at.
const OUTCOMES: [bool; 2] = [true, false];

impl Node {
    fn is_leaf(&self) -> bool {
        self.holds.level.is_none() && self.fails.level.is_none()
    }

    fn rank(&self) -> u8 {
        match self.of {
            CompareOp::Eq | CompareOp::MaskedEq | CompareOp::Ne => 2,
            CompareOp::Le | CompareOp::Lt => UPPER_BOUND,
            CompareOp::Ge | CompareOp::Gt => 0,
        }
    }
}
