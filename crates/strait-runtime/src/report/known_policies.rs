//! What is known of workloads: policies, profiles and recordings, and which of them are for which.

use std::collections::BTreeSet;

use strait_abi::{Arch, Syscall};
use strait_bpf::Undecided;
use strait_policy::format::Target;
use strait_policy::{Policy, Recording, Rules};

use super::Key;
use crate::rendering::Original;
use crate::verdict::Intent;

/// The label of a policy that names the workload which it is for.
const LABEL: &str = "strait.dev/workload";

/// A policy that is known.
#[derive(Clone, Debug)]
pub struct KnownPolicy {
    /// Where it is from, for a person.
    pub source: String,
    /// The policy.
    pub policy: Policy,
    pub(super) rules: Rules,
    pub(super) intent: Intent,
    pub(super) original: Original,
}

impl KnownPolicy {
    /// A policy with what it means; `profile` is the text of the OCI profile that it was, if it was,
    /// and `target` what that was resolved for.
    ///
    /// # Errors
    /// If its conditions are too intricate to be decided.
    pub fn new(
        source: String,
        policy: Policy,
        rules: Rules,
        profile: Option<String>,
        target: Target,
    ) -> Result<KnownPolicy, Undecided> {
        let intent = Intent::new(&rules)?;
        let original = Original::new(policy.clone(), profile, target);
        Ok(KnownPolicy { source, policy, rules, intent, original })
    }
}

/// What is known of workloads.
#[derive(Clone, Debug, Default)]
pub struct Library {
    /// The policies.
    pub policies: Vec<KnownPolicy>,
    /// The recordings, each with where it is from.
    pub recordings: Vec<(String, Recording)>,
}

/// What is known of one workload.
#[derive(Debug)]
pub(super) struct Known<'l> {
    pub(super) policies: Vec<&'l KnownPolicy>,
    pub(super) recordings: Vec<&'l (String, Recording)>,
}

impl Library {
    /// What is known of a workload: policies and recordings that have its name, or that of its program,
    /// or name it by a label.
    pub(super) fn known_for(&self, name: &str, key: &Key, program: Option<&str>) -> Known<'_> {
        let file = program.and_then(|program| program.rsplit('/').next());
        let bare = name.strip_suffix(".service").unwrap_or(name);
        let key = key.to_string();
        let is_it = |called: &str| {
            [Some(name), Some(bare), file, program, Some(key.as_str())]
                .into_iter()
                .flatten()
                .any(|known| known == called)
        };
        let policies = self.policies.iter().filter(|known| {
            let metadata = &known.policy.metadata;
            match metadata.labels.get(LABEL) {
                Some(label) => is_it(label),
                None => metadata.name.as_deref().is_some_and(is_it),
            }
        });
        let recordings = self.recordings.iter().filter(|(_, recording)| {
            let command = recording.command().first().map(String::as_str);
            recording.name().is_some_and(is_it)
                || command.is_some_and(|command| {
                    is_it(command) || command.rsplit('/').next().is_some_and(is_it)
                })
        });
        Known { policies: policies.collect(), recordings: recordings.collect() }
    }
}

impl Known<'_> {
    /// The calls of this machine's ABI that recordings saw or policies let pass; `None` where there is
    /// neither.
    pub(super) fn needed(&self, arch: Arch) -> Option<BTreeSet<Syscall>> {
        if self.policies.is_empty() && self.recordings.is_empty() {
            return None;
        }
        let seen = self.recordings.iter().flat_map(|(_, recording)| recording.calls());
        let mut needed: BTreeSet<Syscall> = seen.filter_map(|call| call.syscall()).collect();
        for known in &self.policies {
            let Some(table) = known.rules.table(arch.audit_arch()) else { continue };
            needed.extend(Syscall::all().filter(|call| {
                call.number(arch).is_some_and(|nr| {
                    let chain = table.chain(nr);
                    let arms = chain.arms.iter().map(|arm| arm.action);
                    arms.chain([chain.otherwise]).any(|action| action.lets_pass())
                })
            }));
        }
        Some(needed)
    }
}
