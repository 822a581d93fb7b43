//! The recorder's programs with several workloads at once, on the running kernel.
#![allow(clippy::unwrap_used, reason = "the functions of a test fail as it does")]

use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, PidfdFlags, geteuid, pidfd_open};
use strait_abi::Arch;
use strait_kernel::ebpf::{EbpfError, Follow, Phase, Recorder};
use strait_testkit::{skip, victim};

/// Starts the program that goes through stages, up to where it waits for its input to end.
fn waiting(words: &str) -> Child {
    let mut child = Command::new(victim::stages())
        .args(["ready", "wait"])
        .args(words.split(' '))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    child
}

#[test]
fn workloads_are_told_apart() {
    let test = "workloads_are_told_apart";
    if !geteuid().is_root() || Arch::NATIVE != Some(Arch::X86_64) {
        return skip(test, "eBPF takes root, and x86_64");
    }
    let (getpgrp, getegid, sync) = (111, 108, 162);
    let one = waiting("call 111 0 0 0 0 0 0 call 162 0 0 0 0 0 0");
    let other = waiting("child call,108,0,0,0,0,0,0 call 162 0 0 0 0 0 0 call 162 0 0 0 0 0 0");
    let mut recorder = Recorder::new(&[Follow::Tree, Follow::Process], &[]).unwrap();
    let workloads: Vec<_> = recorder.workloads().collect();
    for (child, workload) in [one, other].into_iter().zip(workloads.clone()) {
        let mut child = child;
        let pid = Pid::from_child(&child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        assert!(recorder.follow(workload, pidfd.as_fd()).unwrap());
        assert!(!recorder.follow(workload, pidfd.as_fd()).unwrap(), "once is enough");
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }
    for &workload in &workloads {
        assert_eq!(recorder.live(workload).unwrap(), 0);
    }
    assert_eq!(recorder.followed(workloads[0]).unwrap(), 1);
    assert_eq!(recorder.followed(workloads[1]).unwrap(), 2);
    let made = |index: usize, nr: u32| {
        let counts = recorder.counts(workloads[index]).unwrap();
        assert_eq!(counts.statistics.lost_calls + counts.statistics.lost_rows, 0);
        let calls = counts.calls.iter().filter(|(call, _)| call.nr == nr);
        calls.map(|(call, outcomes)| (call.phase, outcomes.entered)).collect::<Vec<_>>()
    };
    // A tree begins with its start, a process that runs is past it.
    assert_eq!(made(0, getpgrp), [(Some(Phase::StartUp), 1)]);
    assert_eq!(made(0, sync), [(Some(Phase::StartUp), 1)]);
    assert_eq!(made(0, getegid), []);
    assert_eq!(made(1, getpgrp), []);
    assert_eq!(made(1, sync), [(Some(Phase::Steady), 2)]);
    assert_eq!(made(1, getegid), [(Some(Phase::Steady), 1)]);
}

#[test]
fn as_many_workloads_as_there_is_room_for() {
    let test = "as_many_workloads_as_there_is_room_for";
    if !geteuid().is_root() || Arch::NATIVE != Some(Arch::X86_64) {
        return skip(test, "eBPF takes root, and x86_64");
    }
    for count in [0, 65] {
        let refused = Recorder::new(&vec![Follow::Tree; count], &[]);
        assert!(matches!(refused, Err(EbpfError::Workloads { asked }) if asked == count));
    }
}
