//! What is lost where a policy is written in a format that cannot say all of it.

use std::collections::BTreeSet;

use strait_abi::{Arch, Syscall};
use strait_bpf::{Action, Difference, Undecided};

use super::{Exported, FormatError};
use crate::policy::{Architectures, Isolation};
use crate::rules::{Rules, Table};
use crate::{Policy, action_text};

impl Exported {
    /// A profile that was written for a policy that means `intended`, and that its own tools make
    /// `installed` of.
    pub(crate) fn new(
        text: String,
        intended: &Rules,
        installed: &Rules,
        architectures: &Architectures,
    ) -> Result<Exported, FormatError> {
        let mut losses = compare(intended, installed, architectures)?;
        let mut notes = BTreeSet::new();
        // Whatever else they differ in is no call of the policy's architectures.
        let elsewhere = with_calls_of(installed, intended, architectures);
        let (one, other) = (intended.decision()?, elsewhere.decision()?);
        for difference in one.compare(&other)?.differences {
            let Difference { witness, first, second, .. } = difference;
            // Numbers are `int` to the kernel, and none below 0 is ever a call.
            let is_call = witness.nr < 0x8000_0000;
            if is_call && first.lets_pass() != second.lets_pass() {
                losses.push(difference);
            } else {
                notes.insert(format!(
                    "what is no call of the policy's architectures gets {} and not {}",
                    action_text(second),
                    action_text(first),
                ));
            }
        }
        Ok(Exported { text, losses, demands: Vec::new(), notes: notes.into_iter().collect() })
    }
}

/// What a policy demands that no filter can hold, a sentence each: only Strait's own document can say
/// it.
pub fn demands(policy: &Policy) -> Vec<String> {
    let mut demands = Vec::new();
    if policy.exec.is_some() {
        demands.push("what may be executed (`exec`) is left out".to_owned());
    }
    if policy.isolation != Isolation::default() {
        demands.push("the isolation from other processes (`isolation`) is left out".to_owned());
    }
    if policy.network.is_some() {
        demands.push(
            "a supervisor decides where sockets lead to (`network`): without one such calls fail"
                .to_owned(),
        );
    }
    demands
}

/// What no profile can carry, for it is no part of a decision.
pub(super) fn beside_decisions(policy: &Policy) -> Vec<String> {
    let mut notes = Vec::new();
    if !policy.necessity.is_empty() {
        let calls = policy.necessity.len();
        notes.push(format!("the ledger is left out: why {calls} calls are in the policy"));
    }
    if let Some(identity) = &policy.identity {
        notes.push(format!("the identity is left out: `{}`", identity.name));
    }
    if !policy.metadata.labels.is_empty() || !policy.metadata.annotations.is_empty() {
        notes.push("labels and annotations are left out".to_owned());
    }
    notes
}

/// Where two sets of rules give calls of these ABIs different answers. Numbers are only looked at
/// if they are calls, or that of the call that comes next: what a filter answers to a
/// number that no kernel has ever had is nobody's loss.
pub(crate) fn compare(
    one: &Rules,
    other: &Rules,
    architectures: &Architectures,
) -> Result<Vec<Difference>, Undecided> {
    let nothing = architectures.iter().fold(Rules::new(Action::Allow), |rules, arch| {
        rules.with_table(arch.audit_arch(), Table::new(Action::Allow))
    });
    let one = with_calls_of(&nothing, one, architectures).decision()?;
    let other = with_calls_of(&nothing, other, architectures).decision()?;
    if one == other { Ok(Vec::new()) } else { Ok(one.compare(&other)?.differences) }
}

/// `rules`, with the chains of `theirs` for each call of these ABIs and for the number that the
/// next new call will have.
fn with_calls_of(rules: &Rules, theirs: &Rules, architectures: &Architectures) -> Rules {
    let mut mixed = rules.clone();
    for arch in architectures.iter() {
        let foreign = Table::new(theirs.foreign());
        let from = theirs.table(arch.audit_arch()).unwrap_or(&foreign);
        let known = mixed.table(arch.audit_arch()).cloned();
        let mut table = known.unwrap_or_else(|| Table::new(rules.foreign()));
        let calls = Syscall::all().filter_map(|call| call.number(arch));
        for nr in calls.chain([arch.last_number(Arch::tables_as_of()) + 1]) {
            table.set(nr, nr, from.chain(nr).clone());
        }
        mixed = mixed.with_table(arch.audit_arch(), table);
    }
    mixed
}
