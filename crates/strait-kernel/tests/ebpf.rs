//! The recorder's programs with several workloads at once, on the running kernel.
#![allow(clippy::unwrap_used, reason = "the functions of a test fail as it does")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, geteuid, pidfd_open};
use strait_abi::Arch;
use strait_kernel::ebpf::{EbpfError, Follow, Namespaces, Phase, Recorder, Workload};
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

/// Of a task that makes calls all the while each is seen to begin, or not at all: otherwise its return
/// would be taken for that of a call which a tracer has replaced.
#[test]
fn who_calls_all_the_while_is_followed_from_the_begin_of_a_call_to_the_end_of_one() {
    let test = "who_calls_all_the_while_is_followed";
    if !geteuid().is_root() || Arch::NATIVE != Some(Arch::X86_64) {
        return skip(test, "eBPF takes root, and x86_64");
    }
    let mut maker = Command::new("unshare")
        .args(["--mount", "--fork", "--kill-child", "dd", "if=/dev/zero", "of=/dev/null", "bs=1"])
        .spawn()
        .unwrap();
    let children = format!("/proc/{0}/task/{0}/children", maker.id());
    let copies = || {
        let first = fs::read_to_string(&children).ok()?.trim().parse::<u32>().ok()?;
        let name = fs::read_to_string(format!("/proc/{first}/comm")).ok()?;
        (name == "dd\n").then_some(first)
    };
    let first = (0..3000).find_map(|_| {
        thread::sleep(Duration::from_millis(10));
        copies()
    });
    let of = fs::metadata(format!("/proc/{}/ns/mnt", first.unwrap())).unwrap().ino();
    let of = Namespaces::new(None, Some(of.try_into().unwrap()), None).unwrap();
    let calls: Vec<_> = (0..10)
        .map(|round| {
            // As it is loaded for what there is, and for what is to come.
            let mut recorder = match round % 2 {
                0 => Recorder::new(&[Follow::Namespaces(Some(of))], &[]).unwrap(),
                _ => {
                    let mut recorder = Recorder::load_for_namespaces(&[]).unwrap();
                    recorder.follow_namespaces(Workload::FIRST, of).unwrap();
                    recorder
                }
            };
            let made = |recorder: &Recorder| -> u64 {
                let counts = recorder.counts(Workload::FIRST).unwrap();
                counts.calls.values().map(|call| call.entered).sum()
            };
            // On a busy machine it may have to wait for a processor.
            for _ in 0..3000 {
                thread::sleep(Duration::from_millis(5));
                if made(&recorder) > 0 {
                    break;
                }
            }
            recorder.detach().unwrap();
            let counts = recorder.counts(Workload::FIRST).unwrap();
            (made(&recorder), counts.statistics.replaced_calls)
        })
        .collect();
    maker.kill().unwrap();
    maker.wait().unwrap();
    assert!(calls.iter().all(|&(made, replaced)| made > 0 && replaced == 0), "{calls:?}");
}
