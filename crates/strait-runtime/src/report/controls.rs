//! Checks of a workload, and the rows of frameworks that they are evidence for.
//!
//! The rows are in `controls.json`, each with its source. A check is satisfied by what the kernel showed
//! and nothing else: a thread's filters and what they decide, its flags, its capabilities. What could
//! not be read satisfies nothing.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use strait_abi::Syscall;

use super::confinement::allowed;
use super::{DriftState, EvidenceKind, ExcessState, Workload};
use crate::inspect::{Process, Status};

/// A check of one workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// Which: the id of a [`CheckKind`].
    pub id: String,
    /// What came of it.
    pub outcome: Outcome,
    /// What was seen.
    pub evidence: String,
}

/// What comes of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It holds, by what the kernel showed.
    Satisfied,
    /// It could not be told.
    Unknown,
    /// It does not.
    NotSatisfied,
}

/// `controls.json`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Catalogue {
    /// The day of the mapping.
    pub version: String,
    /// Where rows are from, by name.
    pub sources: BTreeMap<String, Source>,
    /// The rows.
    pub controls: Vec<Control>,
    /// The checks.
    pub checks: Vec<CheckKind>,
}

/// A framework.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Source {
    /// Its title and edition.
    pub title: String,
    /// Where it is published.
    pub href: String,
}

/// A row of a framework.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Control {
    /// Its id, as people report on it.
    pub id: String,
    /// The framework, by name.
    pub source: String,
    /// What it asks for.
    pub title: String,
    /// What is to be known of the id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A check, and the rows that it is evidence for.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct CheckKind {
    /// Its id.
    pub id: String,
    /// What is so if it is satisfied.
    pub title: String,
    /// How far it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The rows, by id.
    pub controls: Vec<String>,
    /// Calls that have to be denied for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub denied: Vec<String>,
}

/// The catalogue.
///
/// # Panics
/// Never: a test reads the file.
pub fn catalogue() -> &'static Catalogue {
    static CATALOGUE: OnceLock<Catalogue> = OnceLock::new();
    CATALOGUE.get_or_init(|| match serde_json::from_str(include_str!("controls.json")) {
        Ok(catalogue) => catalogue,
        Err(error) => unreachable!("controls.json is part of the program: {error}"),
    })
}

impl Catalogue {
    /// A check by its id.
    pub fn check(&self, id: &str) -> Option<&CheckKind> {
        self.checks.iter().find(|check| check.id == id)
    }
}

/// Every check of a workload, in the order of the catalogue.
pub(super) fn checks(workload: &Workload, processes: &[Process]) -> Vec<Check> {
    let passing = allowed(processes);
    let status = workload.confinement.status_value();
    let is_known = matches!(
        status,
        Status::Filtered | Status::Unconfined | Status::ThreadsDiffer | Status::Strict
    );
    let all = catalogue().checks.iter().map(|kind| {
        let (outcome, evidence) = if kind.denied.is_empty() {
            one(&kind.id, workload, status)
        } else if is_known {
            let open: Vec<&str> = kind
                .denied
                .iter()
                .map(String::as_str)
                .filter(|name| Syscall::from_name(name).is_some_and(|call| passing.contains(&call)))
                .collect();
            match open.as_slice() {
                [] => (
                    Outcome::Satisfied,
                    format!("denied for every thread: {}", kind.denied.join(", ")),
                ),
                open => (Outcome::NotSatisfied, format!("pass: {}", open.join(", "))),
            }
        } else {
            (Outcome::Unknown, UNREAD.to_owned())
        };
        Check { id: kind.id.clone(), outcome, evidence }
    });
    all.collect()
}

const UNREAD: &str = "the filters of some thread could not be read";

fn one(id: &str, workload: &Workload, status: Status) -> (Outcome, String) {
    let confinement = &workload.confinement;
    let told = |holds: bool, evidence: String| {
        (if holds { Outcome::Satisfied } else { Outcome::NotSatisfied }, evidence)
    };
    let filtered = || {
        let digests: Vec<&str> = confinement
            .filters
            .iter()
            .map(|filter| filter.sha256.get(..16).unwrap_or(&filter.sha256))
            .collect();
        format!(
            "{} of {} threads have filters read from the kernel{}{}",
            confinement.filtered,
            confinement.threads,
            if digests.is_empty() { "" } else { ": sha256 " },
            digests.join(", ")
        )
    };
    // A filter that lets everything dangerous pass is none for these purposes.
    let exposure = &workload.exposure;
    let denies = exposure.danger < exposure.danger_of_all;
    let vacuous = || format!("{}; they deny no dangerous call", filtered());
    match id {
        "filtered" => match status {
            Status::Filtered | Status::Strict if !denies => told(false, vacuous()),
            Status::Filtered | Status::Strict => told(true, filtered()),
            Status::Unconfined | Status::ThreadsDiffer => told(false, filtered()),
            _ => (Outcome::Unknown, UNREAD.to_owned()),
        },
        "least-privilege" => match workload.excess.state {
            ExcessState::Known => told(
                workload.excess.calls.is_empty(),
                format!("{} calls pass that nothing known needs", workload.excess.calls.len()),
            ),
            ExcessState::NeverRecorded => {
                (Outcome::Unknown, "never recorded, and no policy is known".to_owned())
            }
            ExcessState::Unknown => (Outcome::Unknown, UNREAD.to_owned()),
        },
        "as-intended" => match workload.drift.state {
            DriftState::Holds | DriftState::Tighter => {
                told(true, format!("every thread's decision: {}", workload.drift.state.name()))
            }
            DriftState::FailsOtherwise | DriftState::PermitsMore => {
                told(false, workload.drift.witness.clone().unwrap_or_default())
            }
            DriftState::NoPolicy => (Outcome::Unknown, "no policy is known".to_owned()),
            DriftState::Unknown => (Outcome::Unknown, UNREAD.to_owned()),
        },
        "no-new-privileges" => told(
            confinement.no_new_privs,
            format!(
                "NoNewPrivs is {} for {} threads",
                if confinement.no_new_privs { "1" } else { "not 1" },
                confinement.threads
            ),
        ),
        "few-capabilities" => {
            let more: Vec<&str> = confinement
                .capabilities
                .iter()
                .map(String::as_str)
                .filter(|name| *name != "CAP_NET_BIND_SERVICE")
                .collect();
            let evidence = match more.len() {
                0 => "CapEff of every thread has no other".to_owned(),
                few if few <= 6 => format!("in effect: {}", more.join(", ")),
                many => format!("{many} in effect"),
            };
            told(more.is_empty(), evidence)
        }
        "secrets-behind-a-filter" => {
            let count = workload.identity.evidence.len();
            match (count, status) {
                (0, _) => told(true, "no secret was seen within its reach".to_owned()),
                (_, Status::Filtered | Status::Strict) if !denies => told(false, vacuous()),
                (_, Status::Filtered | Status::Strict) => told(true, filtered()),
                (_, Status::Unconfined | Status::ThreadsDiffer) => {
                    told(false, format!("{count} secrets within reach; {}", filtered()))
                }
                _ => (Outcome::Unknown, UNREAD.to_owned()),
            }
        }
        "no-secrets-in-environment" => {
            let named = workload.identity.evidence.iter();
            let named: Vec<&str> = named
                .filter(|evidence| evidence.kind == EvidenceKind::SecretVariable)
                .map(|evidence| evidence.what.as_str())
                .collect();
            match (named.as_slice(), workload.identity.unreadable) {
                ([], 0) => told(true, "of the names in /proc/PID/environ none says so".to_owned()),
                ([], _) => (Outcome::Unknown, "some environment could not be read".to_owned()),
                (named, _) => told(false, named.join(", ")),
            }
        }
        _ => (Outcome::Unknown, "this version of Strait does not know the check".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_catalogue_refers_to_what_is_in_it_and_every_row_is_used() {
        let catalogue = catalogue();
        let rows: BTreeSet<&str> = catalogue.controls.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(rows.len(), catalogue.controls.len());
        let mut used = BTreeSet::new();
        for check in &catalogue.checks {
            for control in &check.controls {
                assert!(rows.contains(control.as_str()), "{control}");
                used.insert(control.as_str());
            }
            for call in &check.denied {
                assert!(Syscall::from_name(call).is_some(), "{call}");
            }
        }
        assert_eq!(used, rows);
        for control in &catalogue.controls {
            assert!(catalogue.sources.contains_key(&control.source), "{}", control.source);
        }
    }
}
