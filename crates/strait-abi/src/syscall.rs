//! System calls by name and number.

use std::fmt;

use crate::Arch;
use crate::tables::{ELSEWHERE, NONE, NUMBERS};

/// A system call known here, on any arch. Ordered by name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Syscall(u16);

/// A name that no known arch has as a system call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownSyscall(
    /// The name as it was given.
    pub String,
);

impl fmt::Display for UnknownSyscall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no system call", self.0)
    }
}

impl std::error::Error for UnknownSyscall {}

impl Syscall {
    /// Every known call, by name.
    pub fn all() -> impl ExactSizeIterator<Item = Syscall> {
        (0..COUNT).map(Syscall)
    }

    /// The call of that name, as the kernel's `__NR_` macros spell it (and `__ARM_NR_` for the
    /// calls that only 32-bit Arm has).
    pub fn from_name(name: &str) -> Option<Syscall> {
        let row = NUMBERS.binary_search_by(|row| row.0.cmp(name)).ok()?;
        u16::try_from(row).ok().map(Syscall)
    }

    /// Whether `name`, which [`Syscall::from_name`] does not know, is a call of an arch that has no
    /// table here: Alpha, ARC, m68k, MIPS, PA-RISC, 32-bit Power, SuperH or SPARC. A profile for
    /// many arches may have it; on the arches here it means nothing.
    pub fn exists_elsewhere(name: &str) -> bool {
        ELSEWHERE.binary_search(&name).is_ok()
    }

    /// The kernel's name of the call.
    pub fn name(self) -> &'static str {
        NUMBERS[self.row()].0
    }

    /// Its number on `arch` as `seccomp_data.nr` shows it (for x32 with [`Arch::X32_BIT`]), or
    /// `None` where that arch has no such call.
    ///
    /// Two names of one number exist: `sync_file_range2` is an alias on [`Arch::Arm`].
    pub fn number(self, arch: Arch) -> Option<u32> {
        match NUMBERS[self.row()].2[arch as usize] {
            NONE => None,
            number if matches!(arch, Arch::X32) => Some(number | Arch::X32_BIT),
            number => Some(number),
        }
    }

    /// The call of this arch through which another way leads to the same work: `socketcall` for
    /// the calls on sockets and `ipc` for those of System V, on arches that have them (`net/socket.c`
    /// and `ipc/syscall.c`). What a filter says of `socket` says nothing of `socketcall`, whose
    /// arguments are in memory.
    pub fn multiplexer(self, arch: Arch) -> Option<Syscall> {
        let multiplexer = match self.name() {
            "socket" | "bind" | "connect" | "listen" | "accept" | "getsockname" | "getpeername"
            | "socketpair" | "send" | "recv" | "sendto" | "recvfrom" | "shutdown"
            | "setsockopt" | "getsockopt" | "sendmsg" | "recvmsg" | "accept4" | "recvmmsg"
            | "sendmmsg" => "socketcall",
            "semop" | "semget" | "semctl" | "semtimedop" | "msgsnd" | "msgrcv" | "msgget"
            | "msgctl" | "shmat" | "shmdt" | "shmget" | "shmctl" => "ipc",
            _ => return None,
        };
        Syscall::from_name(multiplexer).filter(|call| call.number(arch).is_some())
    }

    pub(crate) fn row(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Debug for Syscall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Syscall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Arch {
    /// The call that has this number, as `seccomp_data.nr` shows it. Where a number has two
    /// names, the one that the kernel's own table has.
    pub fn syscall(self, nr: u32) -> Option<Syscall> {
        let nr = match self {
            Arch::X32 if nr & Arch::X32_BIT == 0 => return None,
            Arch::X32 => nr & !Arch::X32_BIT,
            _ => nr,
        };
        if let Some(private) = nr.checked_sub(ARM_PRIVATE).filter(|_| self == Arch::Arm) {
            let row = *ARM_PRIVATE_CALLS.get(usize::try_from(private).ok()?)?;
            return (row != NO_CALL).then_some(Syscall(row));
        }
        let row = *BY_NUMBER[self as usize].get(usize::try_from(nr).ok()?)?;
        (row != NO_CALL).then_some(Syscall(row))
    }

    /// The numbers that are calls, each once and in rising order, as `seccomp_data.nr` shows them.
    pub fn numbers(self) -> impl Iterator<Item = u32> {
        let (base, private): (u32, &[u16]) = match self {
            Arch::X32 => (Arch::X32_BIT, &[]),
            Arch::Arm => (0, &ARM_PRIVATE_CALLS),
            _ => (0, &[]),
        };
        let calls = (base..).zip(&BY_NUMBER[self as usize]);
        let calls = calls.chain((ARM_PRIVATE..).zip(private));
        calls.filter(|&(_, &row)| row != NO_CALL).map(|(number, _)| number)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "asserted beside it")]
const COUNT: u16 = {
    assert!(NUMBERS.len() < NO_CALL as usize);
    NUMBERS.len() as u16
};

const NO_CALL: u16 = u16::MAX;

/// `__ARM_NR_BASE`: where the calls that only 32-bit Arm has are numbered from.
const ARM_PRIVATE: u32 = 0xf_0000;

/// One more than the greatest number of any arch but for the private ones of Arm.
const NUMBER_LIMIT: usize = {
    let mut limit = 0;
    let mut row = 0;
    while row < NUMBERS.len() {
        let mut arch = 0;
        while arch < Arch::ALL.len() {
            let number = NUMBERS[row].2[arch];
            if number < ARM_PRIVATE && number as usize >= limit {
                limit = number as usize + 1;
            }
            arch += 1;
        }
        row += 1;
    }
    limit
};

/// The row of each number, by arch. Where two rows have one number, the first in order of name.
static BY_NUMBER: [[u16; NUMBER_LIMIT]; Arch::ALL.len()] = {
    let mut table = [[NO_CALL; NUMBER_LIMIT]; Arch::ALL.len()];
    let mut row = COUNT;
    while row > 0 {
        row -= 1;
        let mut arch = 0;
        while arch < Arch::ALL.len() {
            let number = NUMBERS[row as usize].2[arch];
            if number < ARM_PRIVATE {
                table[arch][number as usize] = row;
            }
            arch += 1;
        }
    }
    table
};

/// The row of each number from [`ARM_PRIVATE`] on.
static ARM_PRIVATE_CALLS: [u16; 8] = {
    let mut table = [NO_CALL; 8];
    let mut row = 0;
    while row < COUNT {
        let number = NUMBERS[row as usize].2[Arch::Arm as usize];
        if number != NONE && number >= ARM_PRIVATE {
            table[(number - ARM_PRIVATE) as usize] = row;
        }
        row += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn number(name: &str, arch: Arch) -> Option<u32> {
        Syscall::from_name(name).unwrap().number(arch)
    }

    #[test]
    fn names_are_sorted_and_found() {
        let names: Vec<&str> = Syscall::all().map(Syscall::name).collect();
        assert!(names.is_sorted_by(|a, b| a < b));
        for call in Syscall::all() {
            assert_eq!(Syscall::from_name(call.name()), Some(call));
        }
        assert_eq!(Syscall::from_name("setsidaccept4"), None);
        assert_eq!(Syscall::from_name(""), None);
    }

    #[test]
    fn calls_of_other_arches_are_known_as_such() {
        assert!(ELSEWHERE.is_sorted_by(|a, b| a < b));
        assert!(Syscall::exists_elsewhere("sysmips"));
        assert!(Syscall::exists_elsewhere("osf_sigstack"));
        assert!(!Syscall::exists_elsewhere("initgroups"));
        assert!(ELSEWHERE.iter().all(|name| Syscall::from_name(name).is_none()));
    }

    #[test]
    fn every_number_leads_back_to_its_call() {
        for &arch in Arch::ALL {
            let calls = Syscall::all().filter(|call| call.number(arch).is_some()).count();
            assert!(calls > 300, "{arch} has {calls}");
            for call in Syscall::all() {
                let Some(nr) = call.number(arch) else { continue };
                assert_eq!(nr & Arch::X32_BIT != 0, arch == Arch::X32, "{call} on {arch}");
                let back = arch.syscall(nr).unwrap();
                let alias = (call.name(), arch) == ("sync_file_range2", Arch::Arm);
                assert!(back == call || alias, "{call} is {nr} on {arch}, which is {back}");
            }
        }
    }

    #[test]
    fn numbers_are_those_of_the_calls_in_order() {
        for arch in Arch::ALL {
            let calls: BTreeSet<u32> =
                Syscall::all().filter_map(|call| call.number(*arch)).collect();
            assert!(arch.numbers().eq(calls), "{arch}");
        }
    }

    #[test]
    fn numbers_are_those_of_the_specifications() {
        // System V ABI and syscall_64.tbl
        assert_eq!(number("read", Arch::X86_64), Some(0));
        assert_eq!(number("rseq_slice_yield", Arch::X86_64), Some(471));
        assert_eq!(number("uprobe", Arch::X86_64), Some(336));
        // syscall_64.tbl, rows of ABI x32
        assert_eq!(number("read", Arch::X32), Some(0x4000_0000));
        assert_eq!(number("execve", Arch::X32), Some(0x4000_0000 + 520));
        assert_eq!(number("execve", Arch::X86_64), Some(59));
        // syscall_32.tbl
        assert_eq!(number("socketcall", Arch::I386), Some(102));
        assert_eq!(number("mmap2", Arch::I386), Some(192));
        assert_eq!(number("_llseek", Arch::I386), Some(140));
        // scripts/syscall.tbl
        assert_eq!(number("openat", Arch::Aarch64), Some(56));
        assert_eq!(number("open", Arch::Aarch64), None);
        assert_eq!(number("execve", Arch::Riscv64), Some(221));
        assert_eq!(number("riscv_hwprobe", Arch::Riscv64), Some(258));
        assert_eq!(number("clone3", Arch::Loongarch64), Some(435));
        // arch/arm/tools/syscall.tbl and uapi/asm/unistd.h
        assert_eq!(number("ugetrlimit", Arch::Arm), Some(191));
        assert_eq!(number("arm_fadvise64_64", Arch::Arm), Some(270));
        assert_eq!(number("set_tls", Arch::Arm), Some(0xf0005));
        assert_eq!(number("breakpoint", Arch::Arm), Some(0xf0001));
        // arch/powerpc and arch/s390
        assert_eq!(number("clone", Arch::Ppc64le), Some(120));
        assert_eq!(number("mmap", Arch::S390x), Some(90));
        assert_eq!(number("s390_pci_mmio_read", Arch::S390x), Some(353));
    }

    #[test]
    fn multiplexers_are_those_of_the_arch() {
        let through = |call: &str, arch| {
            Syscall::from_name(call).unwrap().multiplexer(arch).map(Syscall::name)
        };
        assert_eq!(through("socket", Arch::I386), Some("socketcall"));
        assert_eq!(through("shmget", Arch::S390x), Some("ipc"));
        assert_eq!(through("socket", Arch::X86_64), None);
        assert_eq!(through("socket", Arch::Arm), None, "the EABI has none");
        assert_eq!(through("read", Arch::I386), None);
    }

    #[test]
    fn a_number_that_is_none_leads_nowhere() {
        for &arch in Arch::ALL {
            assert_eq!(arch.syscall(u32::MAX), None);
            assert_eq!(arch.syscall(9_999), None);
        }
        assert_eq!(Arch::X32.syscall(0), None, "without the bit it is no x32 call");
        assert_eq!(Arch::X86_64.syscall(Arch::X32_BIT), None);
        assert_eq!(Arch::Arm.syscall(0xf0000), None);
        assert_eq!(Arch::I386.syscall(0xf0005), None);
    }
}
