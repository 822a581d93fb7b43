//! Two decisions side by side: equal, tighter, looser or neither, and on which calls they differ.

use std::cmp::Ordering;

use strait_abi::{Arch, AuditArch};

use super::diagram::Diagram;
use super::store::{FastMap, Ref, Store, Var};
use super::{Budget, Decision, Undecided};
use crate::{Action, SeccompData};

/// How one decision relates to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// They are the same.
    Equal,
    /// The first is nowhere more permissive and somewhere less.
    Tighter,
    /// The first is nowhere less permissive and somewhere more.
    Looser,
    /// Neither: each is more permissive somewhere, or they differ only in what is equally
    /// restrictive (two errno values).
    Incomparable,
}

impl Relation {
    /// The relation of the second to the first.
    #[must_use]
    pub const fn reversed(self) -> Relation {
        match self {
            Relation::Tighter => Relation::Looser,
            Relation::Looser => Relation::Tighter,
            same => same,
        }
    }
}

/// What came of comparing a first with a second decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// By the kernel's order of actions ([`Action::restriction_cmp`]). Equal means exactly equal,
    /// in the data of each action too.
    pub order: Relation,
    /// By the set of calls that pass ([`Action::lets_pass`]) alone.
    pub allowed: Relation,
    /// Calls that they answer differently: for every arch and number where they do, at least one
    /// in the span of its neighbours that differ alike, up to the limit. Known arches come first.
    /// Never empty if they differ, unless the limit is 0.
    pub differences: Vec<Difference>,
    /// Whether the list holds every span that differs. If not, there are more of them than the
    /// limit, or more spans than can be looked through.
    pub complete: bool,
}

/// A span of calls that two decisions answer differently, with a witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The arches of the span, first and last.
    pub arches: (AuditArch, AuditArch),
    /// The numbers of the span, first and last.
    pub calls: (u32, u32),
    /// One call of the span, with the least arguments that show the difference.
    pub witness: SeccompData,
    /// What the first decision does with the witness.
    pub first: Action,
    /// What the second decision does with it.
    pub second: Action,
}

/// The verdict where both decisions agree; others are 1 + the index of a pair of actions.
const AGREE: u32 = 0;

/// How many pairs of actions are shown of one span.
const PAIRS_PER_SPAN: usize = 8;

/// How many spans of arches and numbers are looked through, in all: a decision on single bits of a
/// number may have 2³¹ of them.
const SPANS: usize = 1 << 18;

impl Decision {
    /// How many differences [`Decision::compare`] lists at most.
    pub const DIFFERENCES: usize = 1024;

    /// Compares this decision, the first, with another.
    ///
    /// # Errors
    /// If that is too much for [`Budget::DEFAULT`]. (Whether they are equal at all never is: use
    /// `==`.)
    pub fn compare(&self, second: &Decision) -> Result<Comparison, Undecided> {
        self.compare_listing(second, Self::DIFFERENCES)
    }

    /// The same, with at most `limit` differences listed.
    ///
    /// # Errors
    /// As for [`Decision::compare`].
    pub fn compare_listing(
        &self,
        second: &Decision,
        limit: usize,
    ) -> Result<Comparison, Undecided> {
        let mut store = Store::new(Budget::DEFAULT);
        let (a, b) = (self.diagram.import(&mut store)?, second.diagram.import(&mut store)?);
        let mut pairs: Vec<(u32, u32)> = Vec::new();
        let mut ids: FastMap<(u32, u32), u32> = FastMap::default();
        let root = store.combine(a, b, Some(AGREE), &mut |a, b| {
            *ids.entry((a, b)).or_insert_with(|| {
                pairs.push((a, b));
                u32::try_from(pairs.len()).unwrap_or(u32::MAX)
            })
        })?;
        let pairs: Vec<(Action, Action)> =
            pairs.iter().map(|&(a, b)| (Action::from_raw(a), Action::from_raw(b))).collect();
        let by_restriction = pairs.iter().map(|(a, b)| a.restriction_cmp(*b));
        let by_passing = pairs.iter().map(|(a, b)| a.lets_pass().cmp(&b.lets_pass()));
        let allowed = match relation(by_passing) {
            // Differences in what is done with calls that do not pass.
            Relation::Incomparable if pairs.iter().all(|(a, b)| a.lets_pass() == b.lets_pass()) => {
                Relation::Equal
            }
            relation => relation,
        };
        let order = relation(by_restriction);
        let diagram = Diagram::export(&store, root);
        let mut list =
            List { diagram: &diagram, pairs: &pairs, limit, spans: SPANS, found: Vec::new() };
        let complete = list.differences();
        if list.found.is_empty() && limit > 0 {
            list.any();
        }
        Ok(Comparison { order, allowed, differences: list.found, complete })
    }
}

/// The relation, from the order at every kind of difference.
fn relation(differences: impl Iterator<Item = Ordering>) -> Relation {
    let (mut any, mut less, mut greater) = (false, false, false);
    for order in differences {
        any = true;
        less |= order == Ordering::Less;
        greater |= order == Ordering::Greater;
    }
    match (any, less, greater) {
        (false, ..) => Relation::Equal,
        (_, true, false) => Relation::Tighter,
        (_, false, true) => Relation::Looser,
        _ => Relation::Incomparable,
    }
}

struct List<'d> {
    diagram: &'d Diagram,
    pairs: &'d [(Action, Action)],
    limit: usize,
    /// How many more spans are looked at.
    spans: usize,
    found: Vec<Difference>,
}

impl List<'_> {
    /// Lists the differences; whether that was all.
    fn differences(&mut self) -> bool {
        let mut known: Vec<AuditArch> = Arch::ALL.iter().map(|arch| arch.audit_arch()).collect();
        known.sort();
        known.dedup();
        let root = self.diagram.root();
        let mut complete = true;
        for &arch in &known {
            let calls = self.diagram.with_word(root, Var::ARCH, arch.raw());
            complete &= self.calls((arch, arch), arch, calls);
        }
        let diagram = self.diagram;
        for (first, last, calls) in diagram.intervals(root, Var::ARCH, 32) {
            if !self.look() {
                return false;
            }
            // The known ones have been dealt with; any other of the span stands for it.
            let Some(arch) = (first..=last)
                .filter_map(|raw| u32::try_from(raw).ok())
                .map(AuditArch::from_raw)
                .find(|arch| known.binary_search(arch).is_err())
            else {
                continue;
            };
            let end = |raw| AuditArch::from_raw(u32::try_from(raw).unwrap_or(u32::MAX));
            complete &= self.calls((end(first), end(last)), arch, calls);
        }
        complete
    }

    /// Lists one difference, if there is any, wherever it is.
    fn any(&mut self) {
        let base = SeccompData::new(AuditArch::from_raw(0), 0);
        // At most one of two verdicts is that they agree.
        for (verdict, witness) in self.diagram.witnesses(self.diagram.root(), base, 2) {
            let (arches, calls) = ((witness.arch, witness.arch), (witness.nr, witness.nr));
            if let Some((first, second)) = self.pair(verdict) {
                self.found.push(Difference { arches, calls, witness, first, second });
                return;
            }
        }
    }

    /// The actions of a verdict, unless it is that they agree.
    fn pair(&self, verdict: u32) -> Option<(Action, Action)> {
        let index = usize::try_from(verdict).ok()?.checked_sub(1)?;
        self.pairs.get(index).copied()
    }

    /// Whether another span may be looked at.
    fn look(&mut self) -> bool {
        let left = self.spans.checked_sub(1);
        self.spans = left.unwrap_or(0);
        left.is_some()
    }

    /// Lists the differences of some arches; whether that was all.
    fn calls(&mut self, arches: (AuditArch, AuditArch), arch: AuditArch, calls: Ref) -> bool {
        let diagram = self.diagram;
        for (first, last, at) in diagram.intervals(calls, Var::NR, 32) {
            if !self.look() {
                return false;
            }
            if self.diagram.verdict(at) == Some(AGREE) {
                continue;
            }
            let number = |raw| u32::try_from(raw).unwrap_or(u32::MAX);
            let calls = (number(first), number(last));
            let base = SeccompData::new(arch, calls.0);
            for (verdict, witness) in self.diagram.witnesses(at, base, PAIRS_PER_SPAN) {
                let Some((first, second)) = self.pair(verdict) else { continue };
                if self.found.len() == self.limit {
                    return false;
                }
                self.found.push(Difference { arches, calls, witness, first, second });
            }
        }
        true
    }
}
