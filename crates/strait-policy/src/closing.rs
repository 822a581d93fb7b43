//! What `exec`, `isolation` and `network` close in the filter: rules that stand before all others.
//!
//! A filter sees no paths, no processes and no addresses, so it holds only a part of what these ask
//! for; the launcher holds the rest, by Landlock and by a supervisor. The rules here close the calls
//! that would go around that, and [`narrowed`] says which calls the supervisor is asked about.

use strait_abi::Syscall;
use strait_bpf::Action;

use crate::lower::Because;
use crate::policy::{Policy, Rule};
use crate::rules::{Condition, Op, Test, Width};
use crate::when::When;

const EPERM: Action = Action::Errno(1);
const EACCES: Action = Action::Errno(13);
const EBUSY: Action = Action::Errno(16);
const ENOSYS: Action = Action::Errno(38);
const EPROTONOSUPPORT: Action = Action::Errno(93);
const EAFNOSUPPORT: Action = Action::Errno(97);

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

/// What makes sockets or their connections in ways that no supervisor sees: rings; the one call of i386
/// for all of them; other families than those whose addresses are decided; protocols that connect
/// by themselves to what the other side names (MPTCP) or by options (SCTP); routes that
/// a packet carries; and a filter with a listener, which would be asked in the supervisor's place
/// when that is gone.
const NETWORK: &[Row] = &[
    (&["io_uring_enter", "io_uring_register", "io_uring_setup", "socketcall"], None, ENOSYS),
    (&["socket"], Some("domain not in {AF_UNIX, AF_INET, AF_INET6}"), EAFNOSUPPORT),
    (
        &["socket"],
        Some(
            "domain != AF_UNIX and (type & 0xf not in {SOCK_STREAM, SOCK_DGRAM} \
             or protocol not in {IPPROTO_IP, IPPROTO_TCP, IPPROTO_UDP})",
        ),
        EPROTONOSUPPORT,
    ),
    // IP_OPTIONS; IPV6_2292RTHDR, IPV6_2292PKTOPTIONS, IPV6_RTHDR (linux/in.h, linux/in6.h).
    (&["setsockopt"], Some("level == 0 and optname == 4"), EPERM),
    (&["setsockopt"], Some("level == 41 and optname in {5, 6, 57}"), EPERM),
    (&["seccomp"], Some("op == 1 and flags & 8 != 0"), EBUSY),
];

/// Calls whose addresses a supervisor decides, and, by the index of the argument that points to the
/// address, those that it is asked about only if there is one.
const ADDRESSED: &[(&str, Option<u8>)] = &[
    ("bind", None),
    ("connect", None),
    ("listen", None),
    ("sendmmsg", None),
    ("sendmsg", None),
    ("sendto", Some(4)),
];

/// Whether and when a call that the rules let pass is the supervisor's to decide.
pub(crate) enum Narrowed {
    /// In any case.
    Always,
    /// When this holds.
    When(Condition),
}

/// What `network` of a policy makes of a call that has one of these names.
pub(crate) fn narrowed(
    policy: &Policy,
    mut names: impl Iterator<Item = Syscall>,
) -> Option<Narrowed> {
    policy.network.as_ref()?;
    let (_, argument) =
        names.find_map(|call| ADDRESSED.iter().find(|(name, _)| *name == call.name()))?;
    let test = |argument: &u8| Test::new(*argument, Width::W64, u64::MAX, Op::Ne, 0).ok();
    Some(match argument.as_ref().and_then(test) {
        Some(test) => Narrowed::When(Condition::Test(test)),
        None => Narrowed::Always,
    })
}

/// The rules that stand before those of a policy, and which of its parts asks for them.
pub(crate) fn closings(policy: &Policy) -> Vec<(Because, Rule)> {
    let exec = policy.exec.is_some().then_some((EXEC, Because::Exec));
    let strict = policy.exec.as_ref().is_some_and(|exec| exec.strict);
    let strict = strict.then_some((STRICT, Because::Exec));
    let isolation =
        policy.isolation.other_processes.then_some((OTHER_PROCESSES, Because::Isolation));
    let network = policy.network.is_some().then_some((NETWORK, Because::Network));
    [exec, strict, isolation, network]
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
        for row in EXEC.iter().chain(STRICT).chain(OTHER_PROCESSES).chain(NETWORK) {
            let rule = rule(row);
            assert_eq!(rule.syscalls.len(), row.0.len(), "{row:?}");
            assert_eq!(rule.when.is_some(), row.1.is_some(), "{row:?}");
        }
    }
}
