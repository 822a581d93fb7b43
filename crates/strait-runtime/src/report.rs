//! The report: every workload of a machine, the identity that it acts as, and whether it is confined.
//!
//! ```text
//! inspect every process -> group into workloads -> for each: identity, confinement, exposure,
//!                                                  excess, drift, controls -> sorted by risk
//! ```
//!
//! What is said of secrets is where they are, never what they are: no value of a variable, no byte of a
//! file and no argument of a command is in a [`Report`].

pub mod baseline;
mod confinement;
pub mod controls;
mod identity;
mod jwt;
mod known_policies;
mod risk;
mod workload;

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};

use crate::containers::{self, Container, Sources};
use crate::inspect::{Depth, Inspector, Machine, Missed, Process, Stops};

pub use confinement::{Confinement, Dangerous, Drift, DriftState, Excess, ExcessState, Exposure};
pub(crate) use confinement::{Scores, confinement, exposure};
pub use controls::{Check, Outcome};
pub(crate) use identity::identity;
pub use identity::{Evidence, EvidenceKind, Identity, Token};
pub use known_policies::{KnownPolicy, Library};
pub use workload::{Key, Kind};

/// `apiVersion` of reports.
pub const API_VERSION: &str = "strait.dev/v1alpha1";

/// Every workload of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// [`API_VERSION`].
    pub api_version: String,
    /// `Report`.
    pub kind: String,
    /// When it was made, in seconds since 1970.
    pub time: i64,
    /// The machine.
    pub machine: About,
    /// The workloads, that of the highest risk first.
    pub workloads: Vec<Workload>,
    /// How many processes are not in it, by why: they vanished, or cannot be read.
    pub missed: BTreeMap<String, usize>,
    /// The container engines that could not be asked, each with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_asked: Vec<String>,
    /// For how long threads were stopped.
    pub stops: StopTimes,
}

/// The machine that a report is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct About {
    /// Its name.
    pub host: String,
    /// Its kernel's release.
    pub kernel: String,
    /// The version of Strait.
    pub strait: String,
}

/// [`Stops`], as it stands in reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StopTimes {
    /// How many threads were stopped.
    pub threads: usize,
    /// The median, in microseconds.
    pub median_microseconds: u64,
    /// The longest, in microseconds.
    pub longest_microseconds: u64,
}

impl From<Stops> for StopTimes {
    fn from(stops: Stops) -> StopTimes {
        StopTimes {
            threads: stops.threads,
            median_microseconds: stops.median_microseconds,
            longest_microseconds: stops.longest_microseconds,
        }
    }
}

/// A container, a unit or a group of processes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// What it is called.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// What tells it from others, and is the same in the next report.
    pub key: String,
    /// Its processes.
    pub processes: Vec<i32>,
    /// The program of its first process, where that can be read.
    pub program: Option<String>,
    /// Whom it acts as.
    pub identity: Identity,
    /// What the kernel enforces on it.
    pub confinement: Confinement,
    /// What its least confined thread may call.
    pub exposure: Exposure,
    /// What it may call and was never seen or meant to.
    pub excess: Excess,
    /// Whether the kernel decides as the policy that is known for it.
    pub drift: Drift,
    /// Who answers for it, where a policy says so.
    pub owner: Option<String>,
    /// From 0 to 100; see docs/report.md for how it is reckoned.
    pub risk: u8,
    /// The checks, each with its evidence.
    pub checks: Vec<Check>,
}

/// Makes the report of this machine, at `time` in seconds since 1970, with what is known of its
/// workloads. It is for root: what cannot be read is counted.
///
/// Containers are called as the engines in `sources` call them.
///
/// # Errors
/// If the processes cannot be listed.
pub fn report(
    library: &Library,
    sources: &Sources,
    time: i64,
    version: &str,
) -> io::Result<Report> {
    let found = containers::find(sources);
    let mut named = BTreeMap::new();
    for (container, members) in found.with_processes()? {
        for member in members {
            named.insert(member.pid.as_raw_pid(), container);
        }
    }
    let mut inspector = Inspector::new(Depth::Filters).with_profiles();
    let Machine { processes, missed, stops } = inspector.inspect_all()?;
    let mut scores = Scores::default();
    let mut workloads: Vec<Workload> = workload::group(processes, &named)
        .into_iter()
        .map(|(key, processes)| {
            describe(&mut inspector, &mut scores, library, &named, time, &key, &processes)
        })
        .collect();
    workloads.sort_by(|a, b| b.risk.cmp(&a.risk).then_with(|| a.key.cmp(&b.key)));
    let uname = rustix::system::uname();
    Ok(Report {
        api_version: API_VERSION.to_owned(),
        kind: "Report".to_owned(),
        time,
        machine: About {
            host: uname.nodename().to_string_lossy().into_owned(),
            kernel: uname.release().to_string_lossy().into_owned(),
            strait: version.to_owned(),
        },
        workloads,
        missed: counted(&missed),
        not_asked: found.unreachable.iter().map(ToString::to_string).collect(),
        stops: stops.into(),
    })
}

fn counted(missed: &[Missed]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for Missed { status, .. } in missed {
        *counts.entry(status.name().to_owned()).or_default() += 1;
    }
    counts
}

fn describe(
    inspector: &mut Inspector,
    scores: &mut Scores,
    library: &Library,
    named: &BTreeMap<i32, &Container>,
    time: i64,
    key: &Key,
    processes: &[Process],
) -> Workload {
    let program = processes.iter().find_map(|process| workload::program(process.pid));
    let name = key.name(processes, program.as_deref(), named);
    let identity = identity(processes, time);
    let confinement = confinement(processes);
    let exposure = exposure(scores, processes);
    let known = library.known_for(&name, key, program.as_deref());
    let excess = confinement::excess(processes, &known);
    let drift = confinement::drift(inspector, processes, &known);
    let owner =
        known.policies.iter().find_map(|known| known.policy.identity.as_ref()?.owner.clone());
    let risk = risk::risk(&identity, &confinement, &exposure, &drift);
    let mut workload = Workload {
        name,
        kind: key.kind(),
        key: key.to_string(),
        processes: processes.iter().map(|process| process.pid.as_raw_pid()).collect(),
        program,
        identity,
        confinement,
        exposure,
        excess,
        drift,
        owner,
        risk,
        checks: Vec::new(),
    };
    workload.checks = controls::checks(&workload, processes);
    workload
}
