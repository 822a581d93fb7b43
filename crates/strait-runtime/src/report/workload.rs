//! Which processes are one workload: those of a container, of a systemd unit, or of a process group.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use crate::containers::Container;
use crate::inspect::{Process, Status};
use crate::scope::components;

/// What a workload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A container: its cgroup has the name that engines give, or it has namespaces of its own.
    Container,
    /// A unit of systemd.
    Unit,
    /// A process group.
    Processes,
}

impl Kind {
    /// The name in output.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Container => "container",
            Kind::Unit => "unit",
            Kind::Processes => "processes",
        }
    }
}

/// What tells a workload from others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A container by the id that its engine gave it.
    Container(String),
    /// A container that nobody gave an id: processes in a pid namespace of their own, by the
    /// namespace.
    Namespace(String),
    /// A unit.
    Unit(String),
    /// A process group, by the program of its first process and its user.
    Group {
        /// The program, or the name of the process where that cannot be read.
        program: String,
        /// The user.
        user: u32,
    },
}

impl Key {
    /// What the workload is.
    pub fn kind(&self) -> Kind {
        match self {
            Key::Container(_) | Key::Namespace(_) => Kind::Container,
            Key::Unit(_) => Kind::Unit,
            Key::Group { .. } => Kind::Processes,
        }
    }

    /// What it is called: the container's name, or its id, shortened, the unit's name, or the
    /// program's.
    pub(super) fn name(
        &self,
        processes: &[Process],
        program: Option<&str>,
        named: &BTreeMap<i32, &Container>,
    ) -> String {
        match self {
            Key::Container(id) => {
                let known = processes.iter().find_map(|one| named.get(&one.pid.as_raw_pid()));
                let name = known.map(|container| container.name());
                name.filter(|name| *name != id).map_or_else(|| short(id), str::to_owned)
            }
            Key::Unit(unit) => unit.clone(),
            Key::Namespace(_) | Key::Group { .. } => {
                let file = program.and_then(|program| program.rsplit('/').next());
                let name = processes.first().map(|process| process.name.as_str());
                file.or(name).unwrap_or_default().to_owned()
            }
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Container(id) => write!(f, "container/{id}"),
            Key::Namespace(namespace) => write!(f, "namespace/{namespace}"),
            Key::Unit(unit) => write!(f, "unit/{unit}"),
            Key::Group { program, user } => write!(f, "processes/{user}{program}"),
        }
    }
}

/// The first twelve digits of an id of digits; others are somebody's words.
fn short(id: &str) -> String {
    let digits = id.bytes().all(|byte| byte.is_ascii_hexdigit());
    id.get(..12).filter(|_| digits).unwrap_or(id).to_owned()
}

/// The processes by workload; `named` are those of containers that engines know. Threads of the kernel and zombies belong to none.
pub(super) fn group(
    processes: Vec<Process>,
    named: &BTreeMap<i32, &Container>,
) -> BTreeMap<Key, Vec<Process>> {
    let own = pid_namespace("self");
    let leaders: BTreeMap<i32, (String, u32)> = processes
        .iter()
        .map(|process| {
            let program = program(process.pid).unwrap_or_else(|| format!("/{}", process.name));
            (process.pid.as_raw_pid(), (program, process.user))
        })
        .collect();
    let mut workloads: BTreeMap<Key, Vec<Process>> = BTreeMap::new();
    for process in processes {
        if matches!(process.status, Status::Kernel | Status::Zombie) {
            continue;
        }
        let pid = process.pid.as_raw_pid();
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let namespace = pid_namespace(&pid.to_string()).filter(|found| own.as_ref() != Some(found));
        let known = named.get(&pid).map(|container| container.full_id());
        let key = match (known.or_else(|| container(&groups)), unit(&groups), namespace) {
            (Some(id), ..) => Key::Container(id),
            (_, Some(unit), None) => Key::Unit(unit),
            (_, _, Some(namespace)) => Key::Namespace(namespace),
            _ => {
                // A group may outlive its leader; then it is called by who is left.
                let leader = process_group(pid).and_then(|leader| leaders.get(&leader));
                let (program, user) = leader.or(leaders.get(&pid)).cloned().unwrap_or_default();
                Key::Group { program, user }
            }
        };
        workloads.entry(key).or_default().push(process);
    }
    workloads
}

/// The program that a process runs, as it sees it; what was deleted is told without that.
pub(super) fn program(pid: Pid) -> Option<String> {
    let path = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let text = path.to_string_lossy().into_owned();
    Some(text.strip_suffix(" (deleted)").unwrap_or(&text).to_owned())
}

fn pid_namespace(who: &str) -> Option<String> {
    let link = fs::read_link(format!("/proc/{who}/ns/pid")).ok()?;
    Some(link.to_string_lossy().into_owned())
}

/// `pgrp`, field 5 of `/proc/PID/stat`.
fn process_group(pid: i32) -> Option<i32> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat).into_owned();
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(2)?.parse().ok()
}

/// The id of the container that a process is in: engines call its cgroup by it, alone or after their
/// own name, and it is 64 hexadecimal digits (32 with a dash and 10 more on ECS).
fn container(groups: &str) -> Option<String> {
    let id = |component: &str| -> Option<String> {
        let name = component.strip_suffix(".scope").unwrap_or(component);
        let name = name.rsplit(['-', ':']).next()?;
        (name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .then(|| name.to_owned())
    };
    components(groups).find_map(id)
}

/// The unit of systemd that a process is in; sessions of users are none.
fn unit(groups: &str) -> Option<String> {
    let named = components(groups).filter(|component| component.ends_with(".service"));
    // Of a user's own service the innermost counts.
    named.last().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_and_units_are_told_by_their_cgroups() {
        let id = "0123456789abcdef".repeat(4);
        for group in [
            format!("0::/docker/{id}"),
            format!("0::/system.slice/docker-{id}.scope"),
            format!("3:pids:/libpod_parent/libpod-{id}\n1:name=systemd:/x"),
            format!("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"),
        ] {
            assert_eq!(container(&group), Some(id.clone()), "{group}");
            assert_eq!(unit(&group), None);
        }
        let nginx = "0::/system.slice/nginx.service";
        assert_eq!((container(nginx), unit(nginx).as_deref()), (None, Some("nginx.service")));
        let user = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.service";
        assert_eq!(unit(user).as_deref(), Some("x.service"));
        assert_eq!((container("0::/"), unit("0::/user.slice/session-1.scope")), (None, None));
    }
}
