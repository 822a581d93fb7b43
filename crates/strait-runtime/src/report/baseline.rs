//! Two reports side by side: what got better or worse since.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Report, Workload};

/// What became of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// Which workload.
    pub key: String,
    /// What it is called.
    pub name: String,
    /// What became of it.
    pub what: What,
    /// In words.
    pub details: Vec<String>,
}

/// Whether something is better or worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// Its risk is higher, or a check that was satisfied is not any more.
    Worse,
    /// It was not there.
    New,
    /// Its risk is lower, or a check is satisfied that was not.
    Better,
    /// It is not there any more.
    Gone,
}

impl What {
    /// The name in output.
    pub const fn name(self) -> &'static str {
        match self {
            What::Worse => "worse",
            What::New => "new",
            What::Better => "better",
            What::Gone => "gone",
        }
    }
}

/// What changed, the worst first.
pub fn changes(before: &Report, now: &Report) -> Vec<Change> {
    let old: BTreeMap<&str, &Workload> = by_key(before);
    let new: BTreeMap<&str, &Workload> = by_key(now);
    let mut changes: Vec<Change> = Vec::new();
    let change = |workload: &Workload, what, details| Change {
        key: workload.key.clone(),
        name: workload.name.clone(),
        what,
        details,
    };
    for workload in &now.workloads {
        let Some(old) = old.get(workload.key.as_str()) else {
            let risk = vec![format!("risk {}", workload.risk)];
            changes.push(change(workload, What::New, risk));
            continue;
        };
        let (worse, better) = compare(old, workload);
        // What is worse in one respect is worse.
        if !worse.is_empty() {
            changes.push(change(workload, What::Worse, worse));
        } else if !better.is_empty() {
            changes.push(change(workload, What::Better, better));
        }
    }
    for workload in &before.workloads {
        if !new.contains_key(workload.key.as_str()) {
            changes.push(change(workload, What::Gone, Vec::new()));
        }
    }
    changes.sort_by(|a, b| a.what.cmp(&b.what).then_with(|| a.key.cmp(&b.key)));
    changes
}

fn by_key(report: &Report) -> BTreeMap<&str, &Workload> {
    report.workloads.iter().map(|workload| (workload.key.as_str(), workload)).collect()
}

/// What is worse and what is better.
fn compare(before: &Workload, now: &Workload) -> (Vec<String>, Vec<String>) {
    let (mut worse, mut better) = (Vec::new(), Vec::new());
    let mut note = |is_worse: bool, text: String| {
        if is_worse { worse.push(text) } else { better.push(text) }
    };
    if before.risk != now.risk {
        note(now.risk > before.risk, format!("risk {} to {}", before.risk, now.risk));
    }
    let (old, new) = (&before.exposure, &now.exposure);
    if old.allowed != new.allowed {
        let text = format!("calls that pass {} to {}", old.allowed, new.allowed);
        note(new.allowed > old.allowed, text);
    }
    if old.score != new.score {
        note(new.score > old.score, format!("score {} to {}", old.score, new.score));
    }
    if before.drift.state != now.drift.state {
        let text = format!("{} to {}", before.drift.state.name(), now.drift.state.name());
        note(now.drift.state > before.drift.state, text);
    }
    for check in &now.checks {
        let old = before.checks.iter().find(|old| old.id == check.id);
        if let Some(old) = old.filter(|old| old.outcome != check.outcome) {
            let text = format!("{}: {}", check.id, check.evidence);
            note(check.outcome > old.outcome, text);
        }
    }
    (worse, better)
}
