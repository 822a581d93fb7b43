//! Every call that the kernel has and that does no harm, each a number of times of its own.
//!
//! All arguments are -1: that is no descriptor, no address, no process, and as flags or a command one of
//! too many bits. Most calls refuse it, and none waits.

use std::collections::BTreeMap;
use std::ffi::c_long;

use strait_abi::{Arch, Syscall};

use crate::{call, print};

/// Those that end the process, return to nowhere, wait or make another process; that leave something on
/// the machine; and those that would do damage were this kernel not to refuse them.
const LEFT_OUT: &[&str] = &[
    "exit",
    "exit_group",
    "rt_sigreturn",
    "uretprobe",
    "uprobe",
    "pause",
    "fork",
    "vfork",
    "msgget",
    "semget",
    "shmget",
    "sync",
    "vhangup",
    "kill",
    "reboot",
    "init_module",
    "finit_module",
    "delete_module",
    "kexec_load",
    "kexec_file_load",
];

/// The k-th of seven calls is made k times `times`.
pub(crate) fn every(times: u64) {
    let numbers = Syscall::all()
        .filter(|call| !LEFT_OUT.contains(&call.name()))
        .filter_map(|call| call.number(Arch::NATIVE?));
    let numbers: Vec<c_long> = numbers.map(c_long::from).collect();
    let mut results = Vec::with_capacity(numbers.len());
    for (&nr, share) in numbers.iter().zip((1..=7).cycle()) {
        let mut errnos: BTreeMap<i32, u64> = BTreeMap::new();
        let entered = times * share;
        for _ in 0..entered {
            if let Err(errno) = call(nr, [-1; 6]) {
                *errnos.entry(errno).or_default() += 1;
            }
        }
        let errnos: Vec<(i32, u64)> = errnos.into_iter().collect();
        let failed: u64 = errnos.iter().map(|&(_, count)| count).sum();
        results.push((nr, entered, entered - failed, errnos));
    }
    for (nr, entered, succeeded, errnos) in results {
        print("x86_64", nr, entered, succeeded, 0, &errnos);
    }
}
