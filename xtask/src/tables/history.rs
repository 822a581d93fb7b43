//! When each call appeared: the table of syscalls(2), and for what is missing there, releases by
//! hand.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use strait_abi::KernelVersion;

use super::numbers::Numbers;
use super::sources::{Sources, output};

/// The release in which each call appeared. Of 2.6.x only 2.6 is kept.
pub(super) type History = BTreeMap<String, KernelVersion>;

/// Reads the history of every call in `numbers`; some very old ones have none.
pub(super) fn read(sources: &Sources, numbers: &Numbers) -> Result<History> {
    let page = sources.manual().join("syscalls.2.gz");
    let page = output(Command::new("gzip").arg("-dc").arg(page))?;
    let listed = table(&page)?;
    ensure!(listed.len() > 400, "syscalls(2) lists only {} calls", listed.len());
    let mut history = History::new();
    for call in numbers.keys() {
        let by_hand = BY_HAND.iter().find(|(_, calls)| calls.split_whitespace().any(|c| c == call));
        if let Some((version, _)) = by_hand {
            history.insert(call.clone(), version.parse()?);
        } else if let Some(version) = listed.get(call) {
            history.insert(call.clone(), *version);
        }
    }
    Ok(history)
}

/// What the manual's table does not have, or has with the release of another arch. The releases
/// are those whose tag first has the call in the named file of the kernel's repository.
const BY_HAND: &[(&str, &str)] = &[
    // arch/*/kernel/syscalls/syscall.tbl: the calls with 64-bit time for 32-bit arches
    (
        "5.1",
        "clock_gettime64 clock_settime64 clock_adjtime64 clock_getres_time64 \
         clock_nanosleep_time64 timer_gettime64 timer_settime64 timerfd_gettime64 \
         timerfd_settime64 utimensat_time64 pselect6_time64 ppoll_time64 io_pgetevents_time64 \
         recvmmsg_time64 mq_timedsend_time64 mq_timedreceive_time64 semtimedop_time64 \
         rt_sigtimedwait_time64 futex_time64 sched_rr_get_interval_time64",
    ),
    // arch/x86/entry/syscalls/syscall_64.tbl; before 2.6 they were pread and pwrite
    ("2.2", "pread64 pwrite64"),
    // arch/arm/kernel/calls.S
    ("2.6", "arm_fadvise64_64 arm_sync_file_range"),
    // include/uapi/asm-generic/unistd.h
    ("5.12", "mount_setattr"),
    ("5.14", "quotactl_fd memfd_secret"),
    ("5.15", "process_mrelease"),
    ("5.16", "futex_waitv"),
    ("5.17", "set_mempolicy_home_node"),
    ("6.5", "cachestat"),
    ("6.6", "fchmodat2 map_shadow_stack"),
    ("6.7", "futex_wake futex_wait futex_requeue"),
    ("6.8", "statmount listmount lsm_get_self_attr lsm_set_self_attr lsm_list_modules"),
    ("6.10", "mseal"),
    // scripts/syscall.tbl
    ("6.13", "setxattrat getxattrat listxattrat removexattrat"),
    ("6.15", "open_tree_attr"),
    ("6.17", "file_getattr file_setattr"),
    ("6.19", "listns"),
    ("7.0", "rseq_slice_yield"),
    ("7.3", "fchroot"),
    // arch/x86/entry/syscalls/syscall_64.tbl
    ("6.11", "uretprobe"),
    ("6.18", "uprobe"),
    // arch/riscv/include/uapi/asm/unistd.h
    ("4.15", "riscv_flush_icache"),
    ("6.4", "riscv_hwprobe"),
    // arch/s390/include/uapi/asm/unistd.h, arch/s390/kernel/syscalls/syscall.tbl
    ("4.12", "s390_guarded_storage"),
    ("4.15", "s390_sthyi"),
];

/// The table's rows: names and releases. Cells can be blocks of several lines, `T{ … T}`.
fn table(page: &str) -> Result<BTreeMap<String, KernelVersion>> {
    let (_, rest) = page.split_once("System call\tKernel").context("syscalls(2) has no table")?;
    let body = rest.split("\n.TE").next().unwrap_or_default();
    let mut rows = Vec::new();
    let mut row = String::new();
    let mut inside = false;
    for line in body.lines().skip(1).filter(|line| !line.starts_with(".\\\"")) {
        if inside {
            row.push(' ');
        }
        row.push_str(line);
        let (opened, closed) = (line.ends_with("T{"), line.starts_with("T}"));
        inside = opened || (inside && !closed);
        if !inside {
            rows.push(std::mem::take(&mut row));
        }
    }
    let mut versions = BTreeMap::new();
    for row in rows {
        let mut cells = row.split('\t');
        let (Some(name), Some(version)) = (cells.next(), cells.next()) else { continue };
        let plain = name.replace("\\f[B]", "").replace("\\f[]", "");
        let plain = plain.trim_start_matches("T{").trim().trim_start_matches(".BR").trim();
        let name: String =
            plain.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        let version: String =
            version.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
        let Ok(version) = KernelVersion::from_release(&version) else { continue };
        versions.insert(name, version);
    }
    Ok(versions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_one_line_and_of_blocks_are_read() {
        let page = "x\nSystem call\tKernel\tNotes\n_\n\\f[B]accept4\\f[](2)\t2.6.28\nT{\n.BR bind (2)\n\
                    T}\t2.0\tT{\nSee notes on \\f[B]socketcall\\f[](2)\nT}\n.\\\" 4adeefe\n\
                    \\f[B]bpf\\f[](2)\t3.18\n.TE\n";
        let rows = table(page).unwrap();
        let version = |name: &str| rows.get(name).map(ToString::to_string);
        assert_eq!(version("accept4").as_deref(), Some("2.6"));
        assert_eq!(version("bind").as_deref(), Some("2.0"));
        assert_eq!(version("bpf").as_deref(), Some("3.18"));
        assert_eq!(rows.len(), 3);
    }
}
