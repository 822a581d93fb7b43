//! Whether a supervisor may act for a task where the kernel looks at who acts.
//!
//! Files and ports below 1024 have owners, and a peer is told who its other side is. The supervisor
//! acts for a task only if it is nobody else than the task is: otherwise a workload that has given
//! up its privileges would have those of its supervisor.

use std::fs;
use std::path::Path;

/// What `/proc/TID/status` says of who a task is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Authority {
    users: String,
    groups: String,
    supplementary: String,
    capabilities: u64,
    pub(super) umask: u32,
}

/// CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_NET_BIND_SERVICE, CAP_NET_ADMIN and CAP_NET_RAW: what is
/// looked at when a socket is bound or connected.
const LOOKED_AT: u64 = 1 << 1 | 1 << 2 | 1 << 10 | 1 << 12 | 1 << 13;

/// Who the task is, if it is the same as this thread and the namespaces of users and of mounts and the
/// root folder are.
pub(super) fn shared_with(tid: u32) -> Option<Authority> {
    let (own, theirs) = (Path::new("/proc/thread-self"), format!("/proc/{tid}"));
    let theirs = Path::new(&theirs);
    for what in ["ns/user", "ns/mnt", "root"] {
        if fs::read_link(own.join(what)).ok()? != fs::read_link(theirs.join(what)).ok()? {
            return None;
        }
    }
    let (own, theirs) = (read(own)?, read(theirs)?);
    let same = own.users == theirs.users
        && own.groups == theirs.groups
        && own.supplementary == theirs.supplementary
        && own.capabilities & LOOKED_AT & !theirs.capabilities == 0;
    same.then_some(theirs)
}

fn read(folder: &Path) -> Option<Authority> {
    let status = fs::read_to_string(folder.join("status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(|value| value.trim().to_owned())
    };
    Some(Authority {
        users: field("Uid")?,
        groups: field("Gid")?,
        supplementary: field("Groups")?,
        capabilities: u64::from_str_radix(&field("CapEff")?, 16).ok()?,
        umask: u32::from_str_radix(&field("Umask")?, 8).ok()?,
    })
}
