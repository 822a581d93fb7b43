//! When calls appeared, and which numbers a kernel knew.

use std::ops::RangeInclusive;

use crate::tables::{AS_OF, NUMBERS};
use crate::{Arch, KernelVersion, Syscall};

impl Syscall {
    /// The release in which the call first appeared on any arch, where that is known; it is for
    /// every call newer than 3.0. Of the releases 2.6.x this is 2.6.
    ///
    /// From syscalls(2), and for what is not there, from the kernel's tags (see
    /// `xtask/src/tables/history.rs`).
    pub fn since(self) -> Option<KernelVersion> {
        NUMBERS[self.row()].1
    }
}

impl Arch {
    /// The kernel whose headers the tables are from. A call that appeared later is not known to
    /// this build.
    pub const fn tables_as_of() -> KernelVersion {
        AS_OF
    }

    /// The greatest number that Linux `version` knew on this arch, as `seccomp_data.nr` shows it
    /// (for x32 with [`Arch::X32_BIT`]). A greater number is a newer call, or none, or one of
    /// [`Arch::special_numbers`], which are not counted in sequence.
    ///
    /// Numbers are given out in order, so a call that came to this arch later than to others
    /// counts from the introduction of the calls numbered before it. A few were not given out in
    /// order (`close_range`, `uretprobe`, …); they never raise the result for a kernel that lacks
    /// calls with smaller numbers. From 5.1 on, where all arches number alike, the result is exact;
    /// before that it can be too great by calls that an arch wired up late. For a `version` after
    /// [`Arch::tables_as_of`] it is what the tables have.
    pub fn last_number(self, version: KernelVersion) -> u32 {
        let mut calls: Vec<(u32, Syscall)> = Syscall::all()
            .filter_map(|call| Some((call.number(self)?, call)))
            .filter(|(nr, _)| self.special_numbers().is_none_or(|special| !special.contains(nr)))
            .collect();
        calls.sort_unstable();
        let mut last = 0;
        for (nr, call) in calls {
            let late = call.since().is_some_and(|since| since > version);
            if late && !OUT_OF_ORDER.contains(&call.name()) {
                break;
            }
            if !late {
                last = nr;
            }
        }
        last
    }

    /// Numbers that are no part of the arch's sequence: the private calls of 32-bit Arm
    /// (`__ARM_NR_*`), and the calls that x32 alone has (512 to 547), above which the sequence goes
    /// on one day.
    pub const fn special_numbers(self) -> Option<RangeInclusive<u32>> {
        match self {
            Arch::Arm => Some(0xf_0000..=0xf_ffff),
            Arch::X32 => Some((Arch::X32_BIT | 512)..=(Arch::X32_BIT | 547)),
            _ => None,
        }
    }
}

/// Calls whose number is less than that of older ones: 436 was reserved for close_range while
/// later numbers were merged, and quotactl_fd took that of a call which was taken back. The others
/// fill gaps.
const OUT_OF_ORDER: &[&str] =
    &["close_range", "quotactl_fd", "riscv_flush_icache", "riscv_hwprobe", "uprobe", "uretprobe"];

#[cfg(test)]
mod tests {
    use super::*;

    fn last(arch: Arch, version: &str) -> u32 {
        arch.last_number(version.parse().unwrap())
    }

    fn name(arch: Arch, version: &str) -> &'static str {
        arch.syscall(last(arch, version)).unwrap().name()
    }

    #[test]
    fn releases_are_those_of_the_manual_and_the_tags() {
        let since = |call: &str| Syscall::from_name(call).unwrap().since().unwrap().to_string();
        assert_eq!(since("read"), "1.0");
        assert_eq!(since("seccomp"), "3.17");
        assert_eq!(since("clone3"), "5.3");
        assert_eq!(since("openat2"), "5.6");
        assert_eq!(since("mseal"), "6.10");
        assert_eq!(since("file_setattr"), "6.17");
    }

    #[test]
    fn every_call_of_this_century_has_a_release() {
        // The first call after 3.0 is process_vm_readv (3.2), 310 on x86_64 and 270 on aarch64.
        for (arch, first) in [(Arch::X86_64, 310), (Arch::Aarch64, 270), (Arch::I386, 347)] {
            for call in Syscall::all() {
                if call.number(arch).is_some_and(|nr| nr >= first) {
                    assert!(call.since().is_some(), "{call}");
                }
            }
        }
    }

    #[test]
    fn no_call_is_newer_than_the_tables() {
        assert!(Syscall::all().all(|call| call.since() <= Some(Arch::tables_as_of())));
    }

    #[test]
    fn the_last_number_is_that_of_the_release() {
        // The last line of arch/x86/entry/syscalls/syscall_64.tbl at these tags.
        for (version, call) in [
            ("4.18", "rseq"),
            ("5.2", "fspick"),
            ("5.3", "clone3"),
            ("5.6", "pidfd_getfd"),
            ("5.8", "faccessat2"),
            ("5.10", "process_madvise"),
            ("5.13", "landlock_restrict_self"),
            ("6.1", "set_mempolicy_home_node"),
            ("6.6", "map_shadow_stack"),
            ("6.12", "mseal"),
            ("6.18", "file_setattr"),
        ] {
            assert_eq!(name(Arch::X86_64, version), call, "{version}");
        }
        // From 5.1 on all arches number alike.
        for &arch in Arch::ALL.iter().filter(|arch| **arch != Arch::X32) {
            assert_eq!(last(arch, "6.18"), 469, "{arch}");
            assert_eq!(last(arch, "6.12"), 462, "{arch}");
        }
        assert_eq!(last(Arch::X32, "6.18"), Arch::X32_BIT | 469);
        assert_eq!(last(Arch::Riscv64, "6.3"), 450);
        assert_eq!(last(Arch::X86_64, "255.0"), 472);
    }

    #[test]
    fn a_number_after_the_last_is_a_newer_call() {
        for &arch in Arch::ALL {
            for version in ["5.4", "5.10", "5.15", "6.1", "6.6", "6.12", "6.18", "7.0"] {
                let last = last(arch, version);
                let version: KernelVersion = version.parse().unwrap();
                for call in Syscall::all() {
                    let Some(nr) = call.number(arch) else { continue };
                    let special = arch.special_numbers().is_some_and(|range| range.contains(&nr));
                    if nr > last && !special {
                        assert!(call.since() > Some(version), "{call} on {arch} after {version}");
                    }
                }
            }
        }
    }

    #[test]
    fn special_numbers_are_out_of_sequence() {
        let set_tls = Syscall::from_name("set_tls").unwrap().number(Arch::Arm).unwrap();
        assert!(Arch::Arm.special_numbers().unwrap().contains(&set_tls));
        let execve = Syscall::from_name("execve").unwrap().number(Arch::X32).unwrap();
        assert!(Arch::X32.special_numbers().unwrap().contains(&execve));
        assert_eq!(Arch::X86_64.special_numbers(), None);
    }
}
