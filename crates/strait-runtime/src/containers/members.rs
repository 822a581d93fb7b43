//! Which processes are a container's: those in its cgroups, those in its namespaces, and what comes of
//! any of them.
//!
//! A container is told by its first process, by the namespaces that this has and we have not, and by the
//! paths of its cgroups, in every hierarchy. The number of its cgroup of version 2 tells nothing where
//! that version is mounted beside version 1: there it may be that of the root for all.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use rustix::process::Pid;
use serde::Serialize;
use strait_kernel::task::Task;

use crate::inspect::as_number;

/// How a process came into a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// It comes of the container's first process, or is that.
    Started,
    /// It came in later, and is in the container's cgroups: by an engine's `exec`.
    Exec,
    /// It came in later, into the container's namespaces alone: by nsenter(1) or the like.
    Entered,
}

impl Origin {
    /// In words.
    pub const fn text(self) -> &'static str {
        match self {
            Origin::Started => "comes of the container's first process",
            Origin::Exec => "was started in the container later (exec)",
            Origin::Entered => "entered the container's namespaces from outside",
        }
    }
}

/// A process of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// The process.
    #[serde(serialize_with = "as_number")]
    pub pid: Pid,
    /// How it came there.
    pub origin: Origin,
}

/// What tells the processes of a container from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    containers: Arc<[Marks]>,
    own: usize,
}

/// What a container's first process has and we have not.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Marks {
    first: Pid,
    started: u64,
    /// Paths of cgroups, by hierarchy.
    cgroups: BTreeMap<String, String>,
    mount: Option<String>,
    /// The pid namespace, if it was made for this container.
    pid: Option<String>,
}

impl Members {
    /// Those of each of the containers with these first processes, started then.
    pub(super) fn of(first: impl Iterator<Item = (Pid, u64)>) -> Vec<Members> {
        let ours = Process::read("self").unwrap_or_default();
        let marks = first.map(|(pid, started)| Marks::of(pid, started, &ours));
        let containers: Arc<[Marks]> = marks.collect();
        let members = |own| Members { containers: Arc::clone(&containers), own };
        (0..containers.len()).map(members).collect()
    }

    /// The processes that there are now, in ascending order; none once it has ended.
    ///
    /// # Errors
    /// If processes cannot be listed.
    pub fn processes(&self) -> std::io::Result<Vec<Member>> {
        Ok(self.among(&Snapshot::take()?))
    }

    /// The processes that there were.
    pub(super) fn among(&self, snapshot: &Snapshot) -> Vec<Member> {
        let Some(container) = self.containers.get(self.own) else { return Vec::new() };
        let still = |task: Task| task.started == container.started;
        if !Task::read(container.first, container.first).is_ok_and(still) {
            return Vec::new();
        }
        let others = || {
            let others = self.containers.iter().enumerate();
            others.filter(|(index, _)| *index != self.own).map(|(_, marks)| marks)
        };
        let first = container.first.as_raw_pid();
        let mut inside: BTreeMap<i32, bool> = BTreeMap::new();
        for (&pid, process) in &snapshot.0 {
            let by_cgroup = container.has_cgroup_of(process);
            if by_cgroup
                || container.has_mounts_of(process)
                || container.has_pids_of(process)
                    && !others()
                        .any(|other| other.has_cgroup_of(process) || other.has_mounts_of(process))
            {
                inside.insert(pid, by_cgroup);
            }
        }
        inside.entry(first).or_insert(true);
        let comes_of = |mut pid: i32, of: &dyn Fn(i32) -> bool| {
            // Each step goes to a parent; processes that come and go meanwhile make no endless way.
            for _ in 0..=snapshot.0.len() {
                if of(pid) {
                    return true;
                }
                match snapshot.0.get(&pid).map(|process| process.parent) {
                    Some(parent) if parent > 0 => pid = parent,
                    _ => return false,
                }
            }
            false
        };
        let own = i32::try_from(std::process::id()).unwrap_or_default();
        let mut members = Vec::new();
        for &number in snapshot.0.keys() {
            let Some(pid) = Pid::from_raw(number).filter(|_| number != own) else { continue };
            if !comes_of(number, &|pid| inside.contains_key(&pid)) {
                continue;
            }
            let in_cgroup = inside.get(&number).copied().unwrap_or(true);
            let origin = if comes_of(number, &|pid| pid == first) {
                Origin::Started
            } else if in_cgroup || container.cgroups.is_empty() {
                Origin::Exec
            } else {
                Origin::Entered
            };
            members.push(Member { pid, origin });
        }
        members
    }
}

/// Every process of the machine, as it was at one moment.
#[derive(Debug)]
pub(super) struct Snapshot(BTreeMap<i32, Process>);

impl Snapshot {
    pub(super) fn take() -> std::io::Result<Snapshot> {
        let process = |entry: fs::DirEntry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            Some((pid, Process::read(&pid.to_string())?))
        };
        Ok(Snapshot(fs::read_dir("/proc")?.flatten().filter_map(process).collect()))
    }
}

impl Marks {
    /// What tells the container that this is the first process of.
    fn of(first: Pid, started: u64, ours: &Process) -> Marks {
        // One that has ended has none.
        let process = Process::read(&first.to_string()).unwrap_or_default();
        // A cgroup that its parent is in too was not made for it, and the root is nobody's.
        let parent = Process::read(&process.parent.to_string()).unwrap_or_default();
        let is_own = |hierarchy: &String, path: &String| {
            path != "/"
                && ours.cgroups.get(hierarchy) != Some(path)
                && parent.cgroups.get(hierarchy) != Some(path)
        };
        let cgroups = process.cgroups.into_iter().filter(|(name, path)| is_own(name, path));
        let mount = process.mount.filter(|own| ours.mount.as_ref() != Some(own));
        let pid = process.pid.filter(|own| process.is_first && ours.pid.as_ref() != Some(own));
        Marks { first, started, cgroups: cgroups.collect(), mount, pid }
    }

    fn has_cgroup_of(&self, process: &Process) -> bool {
        self.cgroups.iter().any(|(hierarchy, own)| {
            let path = process.cgroups.get(hierarchy);
            path.and_then(|path| path.strip_prefix(own.as_str()))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    fn has_mounts_of(&self, process: &Process) -> bool {
        self.mount.is_some() && self.mount == process.mount
    }

    fn has_pids_of(&self, process: &Process) -> bool {
        self.pid.is_some() && self.pid == process.pid
    }
}

/// What `/proc` tells of where a process belongs.
#[derive(Debug, Default)]
struct Process {
    parent: i32,
    cgroups: BTreeMap<String, String>,
    mount: Option<String>,
    pid: Option<String>,
    /// Whether it is the first of its pid namespace.
    is_first: bool,
}

impl Process {
    fn read(who: &str) -> Option<Process> {
        let status = fs::read(format!("/proc/{who}/status")).ok()?;
        let status = String::from_utf8_lossy(&status).into_owned();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        let groups = fs::read_to_string(format!("/proc/{who}/cgroup")).unwrap_or_default();
        let groups = groups.lines().filter_map(|line| {
            // Number, controllers and path (cgroups(7)).
            let (hierarchy, rest) = line.split_once(':')?;
            Some((hierarchy.to_owned(), rest.split_once(':')?.1.to_owned()))
        });
        let namespace = |name: &str| {
            let link = fs::read_link(format!("/proc/{who}/ns/{name}")).ok()?;
            Some(link.to_string_lossy().into_owned())
        };
        let innermost = field("NSpid:").and_then(|ids| ids.split_ascii_whitespace().last());
        Some(Process {
            parent: field("PPid:")?.trim().parse().ok()?,
            cgroups: groups.collect(),
            mount: namespace("mnt"),
            pid: namespace("pid"),
            is_first: innermost == Some("1"),
        })
    }
}

/// Whether a process is in a mount or pid namespace that we are not in.
pub(super) fn is_apart(pid: Pid) -> bool {
    is_apart_from(pid, rustix::process::getpid())
}

/// Whether a process is in a mount or pid namespace that another one is not in.
pub(super) fn is_apart_from(pid: Pid, other: Pid) -> bool {
    let read = |pid: Pid| Process::read(&pid.to_string());
    let (Some(process), Some(other)) = (read(pid), read(other)) else { return false };
    process.mount.is_some() && process.mount != other.mount
        || process.pid.is_some() && process.pid != other.pid
}
