//! What `exec` and `isolation` close in the filter: rules that stand before all others.
//!
//! A filter sees no paths and no processes, so it holds only a part of what these two ask for; the
//! launcher holds the rest, by Landlock. The rules here close the calls that would go around that.

use strait_abi::Syscall;
use strait_bpf::Action;

use crate::lower::Because;
use crate::policy::{Policy, Rule};
use crate::when::When;

const EPERM: Action = Action::Errno(1);
const EACCES: Action = Action::Errno(13);
const ENOSYS: Action = Action::Errno(38);

/// A row: for which calls, when, and what they get.
type Row = (&'static [&'static str], Option<&'static str>, Action);

/// Programs that are in no file system: a memfd that may be executed, and execveat on a descriptor
/// alone.
const EXEC: &[Row] = &[
    (&["memfd_create"], Some("flags & MFD_NOEXEC_SEAL == 0"), EACCES),
    (&["execveat"], Some("flags & AT_EMPTY_PATH != 0"), EACCES),
];

/// What starts a task that a tracer does not get: it would execute what it likes, and nobody would look.
/// clone3 has its flags in memory: libc does with clone.
const STRICT: &[Row] =
    &[(&["clone"], Some("flags & CLONE_UNTRACED != 0"), EPERM), (&["clone3"], None, ENOSYS)];

/// What looks into other processes, their namespaces and their terminals, and what gives the means to
/// do so. clone3 has its flags in memory: libc does with clone.
const OTHER_PROCESSES: &[Row] = &[
    (
        &[
            "add_key",
            "bpf",
            "kcmp",
            "keyctl",
            "perf_event_open",
            "pidfd_getfd",
            "process_madvise",
            "process_vm_readv",
            "process_vm_writev",
            "ptrace",
            "request_key",
            "setns",
            "unshare",
        ],
        None,
        EPERM,
    ),
    (
        &["clone"],
        Some(
            "flags & (CLONE_NEWCGROUP | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID \
             | CLONE_NEWUSER | CLONE_NEWUTS) != 0",
        ),
        EPERM,
    ),
    (&["clone3"], None, ENOSYS),
    (&["ioctl"], Some("cmd in {TIOCSTI, TIOCLINUX}"), EPERM),
    (&["open_by_handle_at"], None, EPERM),
];

/// The rules that stand before those of a policy, and which of its parts asks for them.
pub(crate) fn closings(policy: &Policy) -> Vec<(Because, Rule)> {
    let exec = policy.exec.is_some().then_some((EXEC, Because::Exec));
    let strict = policy.exec.as_ref().is_some_and(|exec| exec.strict);
    let strict = strict.then_some((STRICT, Because::Exec));
    let isolation =
        policy.isolation.other_processes.then_some((OTHER_PROCESSES, Because::Isolation));
    [exec, strict, isolation]
        .into_iter()
        .flatten()
        .flat_map(|(rows, because)| rows.iter().map(move |row| (because, rule(row))))
        .collect()
}

fn rule(&(calls, when, action): &Row) -> Rule {
    let mut rule = Rule::new(calls.iter().filter_map(|name| Syscall::from_name(name)), action);
    // A test reads every row.
    rule.when = when.and_then(|when| When::parse(when).ok());
    rule
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_read_whole() {
        for row in EXEC.iter().chain(STRICT).chain(OTHER_PROCESSES) {
            let rule = rule(row);
            assert_eq!(rule.syscalls.len(), row.0.len(), "{row:?}");
            assert_eq!(rule.when.is_some(), row.1.is_some(), "{row:?}");
        }
    }
}
