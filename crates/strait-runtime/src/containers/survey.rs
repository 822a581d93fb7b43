//! How each container is confined, and whom it acts as.

use serde::Serialize;

use super::{Container, Found, Member, Origin};
use crate::inspect::{Inspector, Process, Status};
use crate::report::{self, Confinement, Exposure, Identity, Scores};

/// How a container is confined, by what its filters decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confined {
    /// None of its processes is.
    Unconfined,
    /// Some are, and others are not.
    Partly,
    /// Some filter could not be read.
    Unknown,
    /// All are, by an engine's default profile, whoever installed it.
    Default,
    /// All are, otherwise.
    Custom,
}

impl Confined {
    /// The name in output.
    pub const fn name(self) -> &'static str {
        match self {
            Confined::Unconfined => "unconfined",
            Confined::Partly => "partly",
            Confined::Unknown => "unknown",
            Confined::Default => "default",
            Confined::Custom => "custom",
        }
    }

    fn of(processes: &[&Process]) -> Confined {
        let ran = |process: &&&Process| process.status != Status::Zombie;
        let processes: Vec<&&Process> = processes.iter().filter(ran).collect();
        let count = |status: Status| processes.iter().filter(|one| one.status == status).count();
        let unread = processes.iter().filter(|one| one.status == Status::Unknown).count();
        let filters = || processes.iter().flat_map(|one| &one.stacks).flat_map(|one| &one.filters);
        if count(Status::Unconfined) == processes.len() && unread == 0 {
            Confined::Unconfined
        } else if count(Status::Unconfined) > 0 || count(Status::ThreadsDiffer) > 0 {
            Confined::Partly
        } else if unread > 0 {
            Confined::Unknown
        } else if filters().count() > 0
            && filters().all(|filter| {
                filter.known.as_ref().is_some_and(|known| known.name.ends_with(DEFAULT))
            })
        {
            Confined::Default
        } else {
            Confined::Custom
        }
    }
}

/// How the names of engines' default profiles end ([`crate::inspect::Known`]).
const DEFAULT: &str = "default profile";

/// A container, and what the kernel enforces on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Surveyed {
    /// The container.
    #[serde(flatten)]
    pub container: Container,
    /// How it is confined.
    pub confined: Confined,
    /// As what its filters are known, each once.
    pub known: Vec<String>,
    /// Its processes.
    pub processes: Vec<Seen>,
    /// What the kernel enforces.
    pub confinement: Confinement,
    /// What its least confined thread may call.
    pub exposure: Exposure,
    /// Whom it acts as.
    pub identity: Identity,
}

/// A process of a container, and whether it is confined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// The process, and how it came there.
    #[serde(flatten)]
    pub member: Member,
    /// Its name.
    pub name: String,
    /// What there is to say of it.
    pub status: Status,
}

/// Looks into every container, at `time` in seconds since 1970. One that ends meanwhile is left out.
///
/// # Errors
/// If processes cannot be listed.
pub fn survey(
    inspector: &mut Inspector,
    found: &Found,
    time: i64,
) -> std::io::Result<Vec<Surveyed>> {
    let mut scores = Scores::default();
    let mut all = Vec::with_capacity(found.containers.len());
    for (container, members) in found.with_processes()? {
        let machine = inspector.inspect_these(members.iter().map(|one| one.pid).collect());
        let processes = machine.processes;
        if processes.is_empty() {
            continue;
        }
        let origin = |process: &Process| {
            let member = members.iter().find(|member| member.pid == process.pid);
            member.map_or(Origin::Started, |member| member.origin)
        };
        let seen = processes.iter().map(|process| Seen {
            member: Member { pid: process.pid, origin: origin(process) },
            name: process.name.clone(),
            status: process.status,
        });
        let confinement = report::confinement(&processes);
        let mut known: Vec<String> =
            confinement.filters.iter().filter_map(|filter| filter.known.clone()).collect();
        known.dedup();
        all.push(Surveyed {
            confined: Confined::of(&processes.iter().collect::<Vec<_>>()),
            known,
            processes: seen.collect(),
            confinement,
            exposure: report::exposure(&mut scores, &processes),
            identity: report::identity(&processes, time),
            container: container.clone(),
        });
    }
    Ok(all)
}
