//! The bypass suite on the running kernel: nothing is open under a policy that closes everything,
//! and each hole that is put back is found, and no other.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use strait_policy::Policy;
use strait_runtime::attack::{Finding, Outcome, attack};

/// Everything is allowed but what the classes need, a line or a few for each.
const CLOSED: &[(&str, &str)] = &[
    ("foreign", "kill-process"),
    ("connect", "{syscalls: [connect], action: notify}"),
    ("seccomp", "{syscalls: [seccomp], action: errno(EPERM)}"),
    (
        "io_uring",
        "{syscalls: [io_uring_setup, io_uring_enter, io_uring_register], action: errno(ENOSYS)}",
    ),
    (
        "netlink",
        "{syscalls: [socket], when: \"domain == AF_NETLINK\", action: errno(EAFNOSUPPORT)}",
    ),
    (
        "inet",
        "{syscalls: [socket], when: \"domain == AF_INET and type & 0xf == SOCK_DGRAM\", action: errno(EPERM)}",
    ),
    (
        "datagram",
        "{syscalls: [socket], when: \"domain == AF_UNIX and type & 0xf == SOCK_DGRAM\", action: errno(EPERM)}",
    ),
    (
        "fast-open",
        "{syscalls: [sendto], when: \"flags & MSG_FASTOPEN != 0\", action: errno(EOPNOTSUPP)}",
    ),
    (
        "datagram-to",
        "{syscalls: [sendto], when: \"flags == 0 and addrlen == 16\", action: errno(EACCES)}",
    ),
    ("messages", "{syscalls: [sendmsg, sendmmsg], action: errno(EACCES)}"),
    ("ioctl", "{syscalls: [ioctl], when: \"cmd == TIOCSTI\", action: errno(EPERM)}"),
    ("unshare", "{syscalls: [unshare, setns, kcmp, ptrace], action: errno(EPERM)}"),
    ("clone", "{syscalls: [clone], when: \"flags & CLONE_NEWUSER != 0\", action: errno(EPERM)}"),
    ("clone3", "{syscalls: [clone3], action: errno(ENOSYS)}"),
    ("openat", "{syscalls: [openat], action: errno(EACCES)}"),
    ("openat2", "{syscalls: [openat2], action: errno(ENOSYS)}"),
    ("open", "{syscalls: [open, creat], action: errno(EACCES)}"),
    ("handle", "{syscalls: [open_by_handle_at], action: errno(EPERM)}"),
    ("execve", "{syscalls: [execve], action: errno(EACCES)}"),
    ("execveat", "{syscalls: [execveat], action: errno(EACCES)}"),
    (
        "mmap",
        "{syscalls: [mmap], when: \"prot & PROT_EXEC != 0 and flags & MAP_ANONYMOUS != 0\", action: errno(EPERM)}",
    ),
    ("mprotect", "{syscalls: [mprotect], when: \"prot & PROT_EXEC != 0\", action: errno(EPERM)}"),
    ("pread64", "{syscalls: [pread64], action: errno(EPERM)}"),
    ("vm", "{syscalls: [process_vm_readv], action: errno(EPERM)}"),
    ("getfd", "{syscalls: [pidfd_getfd], action: errno(EPERM)}"),
];

/// A hole: which line of [`CLOSED`] is replaced, by what, and which classes that opens.
const HOLES: &[(&str, &str, &[&str])] = &[
    ("foreign", "allow", &["i386-entry"]),
    ("seccomp", "", &["nested-listener"]),
    ("io_uring", "", &["io-uring-open", "io-uring-socket"]),
    (
        "netlink",
        "{syscalls: [socket], when: arg0 == 16, action: errno(EAFNOSUPPORT)}",
        &["high-bits-socket"],
    ),
    ("datagram", "", &["unix-datagram"]),
    ("datagram-to", "", &["inherited-datagram"]),
    ("messages", "", &["inherited-datagram"]),
    (
        "connect",
        "{syscalls: [socket], when: \"domain == AF_INET and type & 0xf == SOCK_STREAM\", action: errno(EACCES)}",
        &["inherited-socket"],
    ),
    ("fast-open", "", &["fast-open"]),
    ("ioctl", "", &["tiocsti"]),
    (
        "ioctl",
        "{syscalls: [ioctl], when: arg1 == 0x5412, action: errno(EPERM)}",
        &["high-bits-ioctl"],
    ),
    ("unshare", "{syscalls: [unshare, setns, kcmp], action: errno(EPERM)}", &["ptrace"]),
    ("unshare", "{syscalls: [unshare, setns, ptrace], action: errno(EPERM)}", &["kcmp"]),
    ("clone", "", &["clone-namespace"]),
    ("clone3", "", &["clone3-namespace"]),
    ("openat2", "", &["openat2"]),
    ("open", "", &["open-twin"]),
    ("handle", "", &["open-by-handle"]),
    ("execveat", "", &["execveat"]),
    // A condition that the launcher's own kind of call fulfils, and an attacker's need not.
    ("execve", "{syscalls: [execve], when: arg5 == 1, action: errno(EACCES)}", &["memfd-exec"]),
    ("mmap", "", &["map-executable"]),
    ("mprotect", "", &["protect-executable"]),
    (
        "openat",
        "{syscalls: [openat], when: \"flags != O_RDWR | O_CREAT\", action: errno(EACCES)}",
        &["map-file-executable"],
    ),
    (
        "openat",
        "{syscalls: [openat], when: \"flags != O_RDWR\", action: errno(EACCES)}",
        &["proc-self-mem"],
    ),
    (
        "openat",
        "{syscalls: [openat], when: \"flags != O_DIRECTORY\", action: errno(EACCES)}",
        &["proc-root"],
    ),
    (
        "openat",
        "{syscalls: [openat], when: \"flags != 0\", action: errno(EACCES)}",
        &["proc-environ"],
    ),
    (
        "openat",
        "{syscalls: [openat], when: \"flags != O_CREAT\", action: errno(EACCES)}",
        &["create-read-only"],
    ),
    (
        "openat",
        "{syscalls: [openat], when: \"flags != O_TRUNC\", action: errno(EACCES)}",
        &["empty-read-only"],
    ),
    ("vm", "", &["process-vm-readv"]),
    ("getfd", "", &["pidfd-getfd"]),
];

/// The policy with one line replaced; an empty one is left out.
fn policy(hole: Option<(&str, &str)>) -> Policy {
    let line = |&(name, line): &(&'static str, &'static str)| match hole {
        Some((other, put)) if other == name => put.to_owned(),
        _ => line.to_owned(),
    };
    let foreign = line(&CLOSED[0]);
    let rules: Vec<String> = CLOSED[1..].iter().map(line).filter(|line| !line.is_empty()).collect();
    let text = format!(
        "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec:\n  architectures: [x86_64]\n  \
         default: allow\n  foreign: {foreign}\n  rules:\n    - {}\n",
        rules.join("\n    - ")
    );
    Policy::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn findings(policy: &Policy) -> Vec<Finding> {
    attack(policy, None).unwrap()
}

fn open(findings: &[Finding]) -> BTreeSet<&'static str> {
    let open = findings.iter().filter(|finding| matches!(finding.outcome, Outcome::Open { .. }));
    open.map(|finding| finding.class.name).collect()
}

#[test]
fn nothing_is_open_where_everything_is_closed() {
    let findings = findings(&policy(None));
    assert_eq!(open(&findings), BTreeSet::new());
    // And it is blocked by the policy, not by the machine: what is not applicable is known.
    let not_applicable: Vec<_> = findings
        .iter()
        .filter_map(|finding| match &finding.outcome {
            Outcome::NotApplicable { reason } => Some((finding.class.name, reason.as_str())),
            _ => None,
        })
        .collect();
    // These are for `isolation`, `exec` and `network`, which have tests of their own.
    let asked_for = [
        "signal-outside",
        "abstract-socket",
        "exec-outside",
        "loader",
        "connect-outside",
        "argument-rewrite",
        "mptcp",
    ];
    for (class, reason) in not_applicable.iter().filter(|(class, _)| !asked_for.contains(class)) {
        assert!(reason.starts_with("this machine refuses it by itself"), "{class}: {reason}");
        strait_testkit::skip(&format!("attack {class}"), reason);
    }
}

#[test]
fn each_hole_that_is_put_back_is_found_and_no_other() {
    let baseline = findings(&policy(None));
    let skipped: BTreeSet<&str> = baseline
        .iter()
        .filter(|finding| matches!(finding.outcome, Outcome::NotApplicable { .. }))
        .map(|finding| finding.class.name)
        .collect();
    for &(line, put, classes) in HOLES {
        let expected: BTreeSet<&str> =
            classes.iter().copied().filter(|class| !skipped.contains(class)).collect();
        assert_eq!(open(&findings(&policy(Some((line, put))))), expected, "{line} -> {put:?}");
    }
}

/// A policy that allows every call, with more fields of `spec`.
fn open_policy(more: &str) -> Policy {
    let text = format!(
        "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec:\n  architectures: [x86_64]\n  \
         default: allow\n{more}"
    );
    Policy::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[test]
fn isolation_closes_what_no_filter_can() {
    if strait_kernel::landlock::abi() < 6 {
        return strait_testkit::skip("isolation", "signals are kept in since Landlock ABI 6");
    }
    let others: BTreeSet<&str> = [
        "abstract-socket",
        "clone-namespace",
        "clone3-namespace",
        "kcmp",
        "open-by-handle",
        "pidfd-getfd",
        "proc-environ",
        "proc-mem",
        "proc-root",
        "process-vm-readv",
        "ptrace",
        "setns",
        "signal-outside",
        "tiocsti",
    ]
    .into();
    let open_without = open(&findings(&open_policy("")));
    assert!(open_without.contains("proc-environ") && open_without.contains("ptrace"));
    let findings = findings(&open_policy("  isolation: {other-processes: deny}\n"));
    assert!(open(&findings).is_disjoint(&others), "{findings:?}");
    let not_applicable = findings.iter().filter(|finding| {
        matches!(&finding.outcome, Outcome::NotApplicable { reason } if !reason.starts_with("this machine"))
    });
    let names: BTreeSet<&str> = not_applicable.map(|finding| finding.class.name).collect();
    // clone and clone3 aim at what unshare may not.
    assert!(names.is_disjoint(&others), "{names:?}");
}

#[test]
fn a_list_of_executables_holds_for_all_but_the_loader_and_mapped_files() {
    if strait_kernel::landlock::abi() < 2 {
        return strait_testkit::skip("a list of executables", "it takes Landlock ABI 2");
    }
    let findings = findings(&open_policy("  exec: {allow: [/bin/true]}\n"));
    let open = open(&findings);
    for class in ["exec-outside", "memfd-exec", "execveat", "proc-self-mem"] {
        let finding = findings.iter().find(|finding| finding.class.name == class).unwrap();
        assert!(matches!(finding.outcome, Outcome::Blocked { .. }), "{finding:?}");
    }
    // What the launcher says that it does not hold.
    assert!(open.contains("loader") && open.contains("map-file-executable"), "{open:?}");
    let gaps = strait_runtime::domain::contain(&open_policy("  exec: {allow: [/bin/true]}\n"));
    assert_eq!(gaps.unwrap().gaps.len(), 2);
}

#[test]
fn who_looks_at_what_is_executed_holds_for_the_loader_too() {
    if strait_kernel::landlock::abi() < 2 {
        return strait_testkit::skip("exec.strict", "it takes Landlock ABI 2");
    }
    let findings = findings(&open_policy("  exec: {allow: [/bin/true], strict: true}\n"));
    for class in ["exec-outside", "memfd-exec", "execveat", "loader"] {
        let finding = findings.iter().find(|finding| finding.class.name == class).unwrap();
        assert!(matches!(finding.outcome, Outcome::Blocked { .. }), "{finding:?}");
    }
    let loader = findings.iter().find(|finding| finding.class.name == "loader").unwrap();
    let Outcome::Blocked { by } = &loader.outcome else { unreachable!() };
    assert!(by.contains("before its first instruction"), "{by}");
    // Code that is mapped is not executed.
    assert!(open(&findings).contains("map-file-executable"));
}

#[test]
fn the_loader_is_no_gap_where_nothing_may_be_executed() {
    if strait_kernel::landlock::abi() < 2 {
        return strait_testkit::skip("the loader is no gap", "it takes Landlock ABI 2");
    }
    let denied = "  rules: [{syscalls: [execve], action: errno(EACCES)}]\n";
    let policy = open_policy(&format!("  exec: {{allow: [/bin/true]}}\n{denied}"));
    let gaps = strait_runtime::domain::contain(&policy).unwrap().gaps;
    assert!(gaps.iter().all(|gap| !gap.contains("ld-linux")), "{gaps:?}");
}
