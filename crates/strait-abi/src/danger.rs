//! Which calls are dangerous, and why. Written by hand.
//!
//! A call is here when a workload that has it can do more than its work: reach other processes,
//! the machine or its neighbours, slip past a filter, or reach kernel code that was exploited
//! before from where it should not have been. That a capability guards a call is no reason to
//! leave it out: in a user namespace of its own, or as root of a container, a workload has
//! capabilities.
//!
//! Calls that are dangerous only with some arguments (clone with namespaces, socket with rare
//! families, ioctl that types into a terminal) are not among them: nearly every program needs them,
//! and their arguments are what a policy can narrow. They are the [`DangerousValue`]s.
//!
//! Sources: the manual's pages (section 2) and capabilities(7) for what a call does and what guards
//! it; Docker's documentation of its default seccomp profile ("Significant syscalls blocked by
//! default profile") for the choice. A CVE is here only if the hole was entered by the call itself,
//! or cannot be used without it; each was looked up in a second place besides its entry at cve.org:
//!
//! | CVE | hole | second source |
//! |---|---|---|
//! | CVE-2009-1895 | personality flags survive set-user-id | Ubuntu's kernel tests (`MMAP_PAGE_ZERO`) |
//! | CVE-2010-0415 | `do_pages_move` takes node numbers unchecked | the exploit "sieve" (Spender) |
//! | CVE-2013-2094 | `perf_swevent_init` and a negative event number | RHSA-2013:0830 |
//! | CVE-2014-4699 | ptrace, and a return by sysret | Docker's "security non-events" |
//! | CVE-2016-0728 | KEYCTL_JOIN_SESSION_KEYRING leaks a reference | the fix's title in Oracle's kernel: "KEYS: Fix keyring ref leak in join_session_keyring()" |
//! | CVE-2017-15274 | add_key with no payload and a length | Linux Test Project, `cve-2017-15274` (add_key02) |
//! | CVE-2017-16995, CVE-2020-8835, CVE-2021-3490, CVE-2022-23222 | bpf's verifier | their exploits' write-ups; ZDI for 2020-8835 |
//! | CVE-2018-18397 | userfaultfd passes the permissions of tmpfs by | oss-security, December 2018; RHSA-2019:0163 |
//! | CVE-2019-13272 | PTRACE_TRACEME keeps stale credentials | write-ups of its exploits |
//! | CVE-2021-41073 | io_uring, `loop_rw_iter` | oss-security, September 2021 (fix 16c8d2df7ec0) |
//! | CVE-2022-0185 | fsconfig, `legacy_parse_param` | Linux Test Project, fsconfig03 |
//! | CVE-2022-0492 | cgroup v1 `release_agent` | USN-5362-1; needs a namespace and a mount |
//! | CVE-2022-29582 | io_uring's timeouts | the finders' write-up |
//! | CVE-2023-0386 | overlayfs copies up what FUSE says | the finders' write-up; needs mount |
//! | CVE-2023-2598 | io_uring's registered buffers | lists of exploits of io_uring |
//! | CVE-2017-5226 | TIOCSTI out of a sandbox | bubblewrap's issue 142 |
//! | CVE-2017-7308, CVE-2020-14386 | AF_PACKET's rings | Linux Test Project, `cve-2017-7308`, and its test of `tpacket_rcv` |

use crate::{Arch, Syscall};

/// Why a call is dangerous.
#[derive(Debug)]
pub struct Danger {
    class: DangerClass,
    weight: u8,
    reason: &'static str,
    cves: &'static [&'static str],
}

/// What the danger is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DangerClass {
    /// Code that runs as the kernel: modules, another kernel.
    KernelCode,
    /// What is mounted where, and thus what any path leads to.
    Mount,
    /// Namespaces: capabilities over code that only root reached before, or another container.
    Namespace,
    /// Memory, registers or descriptors of other processes.
    ProcessInspection,
    /// Complex kernel code with a record of holes.
    KernelAttackSurface,
    /// Work that the kernel does without a filter seeing it.
    FilterBypass,
    /// Kernel keyrings, which containers share.
    Keyring,
    /// Files outside of what paths and mounts allow.
    FileAccess,
    /// Hardware without a driver in between.
    RawIo,
    /// The clock of the machine.
    Time,
    /// The machine as a whole: power, swap, quotas, accounting, its name.
    Machine,
    /// Programs that are in no file that a control of execution knows.
    Execution,
    /// Protections of the process's own memory.
    Hardening,
    /// Long superseded; kept for old programs, hardly tested.
    Obsolete,
}

impl DangerClass {
    /// The name in output, in kebab case.
    pub const fn name(self) -> &'static str {
        match self {
            DangerClass::KernelCode => "kernel-code",
            DangerClass::Mount => "mount",
            DangerClass::Namespace => "namespace",
            DangerClass::ProcessInspection => "process-inspection",
            DangerClass::KernelAttackSurface => "kernel-attack-surface",
            DangerClass::FilterBypass => "filter-bypass",
            DangerClass::Keyring => "keyring",
            DangerClass::FileAccess => "file-access",
            DangerClass::RawIo => "raw-io",
            DangerClass::Time => "time",
            DangerClass::Machine => "machine",
            DangerClass::Execution => "execution",
            DangerClass::Hardening => "hardening",
            DangerClass::Obsolete => "obsolete",
        }
    }
}

impl std::fmt::Display for DangerClass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Danger {
    /// What the danger is of.
    pub const fn class(&self) -> DangerClass {
        self.class
    }

    /// How much the call weighs against others, from 1 to 10: 9 and 10 hand over the kernel, 7 and
    /// 8 lead out of a container or into another process, 5 and 6 are a common way to the kernel,
    /// 3 and 4 change what others rely on, 1 and 2 are rarely needed and worth a look.
    pub const fn weight(&self) -> u8 {
        self.weight
    }

    /// One sentence for a person: what a workload can do with the call.
    pub const fn reason(&self) -> &'static str {
        self.reason
    }

    /// Well-known holes that were reached through the call; a sample, not a list of all.
    pub const fn cves(&self) -> &'static [&'static str] {
        self.cves
    }
}

/// Values of an argument with which a call is dangerous that nearly every program needs.
#[derive(Debug)]
pub struct DangerousValue {
    call: &'static str,
    arg: &'static str,
    values: &'static [&'static str],
    test: Test,
    danger: Danger,
}

/// How an argument is compared with the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Test {
    /// It is one of them.
    Equals,
    /// It has one of their bits.
    HasBits,
}

impl DangerousValue {
    /// Every one, by call.
    pub fn all() -> impl Iterator<Item = &'static DangerousValue> {
        DANGEROUS_VALUES.iter()
    }

    /// The call.
    ///
    /// # Panics
    /// Never: a test demands that each is a call.
    pub fn syscall(&self) -> Syscall {
        Syscall::from_name(self.call).expect("a test looks every call of the table up")
    }

    /// The name of the argument, which is the same on every arch.
    pub const fn arg(&self) -> &'static str {
        self.arg
    }

    /// The values' names, any of which is enough.
    pub const fn values(&self) -> &'static [&'static str] {
        self.values
    }

    /// Mask and value of each value on `arch`: the danger is there where the argument's bits in one
    /// of the masks are that value. Values that the arch has not are left out.
    pub fn tests(&self, arch: Arch) -> Vec<(u64, u64)> {
        let Some((_, arg)) = self.syscall().arg(arch, self.arg) else { return Vec::new() };
        let all = arg.width(arch).mask();
        let Some(constants) = arg.constants() else { return Vec::new() };
        let known = self.values.iter().filter_map(|name| constants.value(arch, name));
        known
            .map(|value| match self.test {
                Test::Equals => (all, value & all),
                Test::HasBits => (value & all, value & all),
            })
            .collect()
    }

    /// What is dangerous about them.
    pub const fn danger(&self) -> &Danger {
        &self.danger
    }
}

impl Syscall {
    /// Why the call is dangerous; `None` for most calls, and for those whose arguments decide.
    pub fn danger(self) -> Option<&'static Danger> {
        let row = DANGERS.binary_search_by(|row| row.0.cmp(self.name())).ok()?;
        Some(&DANGERS[row].1)
    }
}

use DangerClass::{
    Execution, FileAccess, FilterBypass, Hardening, KernelAttackSurface, KernelCode, Keyring,
    Machine, Mount, Namespace, Obsolete, ProcessInspection, RawIo, Time,
};

const fn danger(class: DangerClass, weight: u8, reason: &'static str) -> Danger {
    Danger { class, weight, reason, cves: &[] }
}

const fn cves(danger: Danger, cves: &'static [&'static str]) -> Danger {
    Danger { cves, ..danger }
}

const SETS_TIME: &str =
    "sets the clock of the machine, on which logs, certificates and others rely";
const OLD_MODULES: &str = "is from the module loader before Linux 2.6 and gone since";
const READS_MEMORY: &str = "reads the memory of another process, with its secrets";
const NEW_MOUNT: &str = "is a step of mounting by descriptors, which rules on mount do not stop";
const RING: &str = "lets the kernel open, connect, read and write without a filter seeing it";
const PORTS: &str = "gives access to I/O ports, and through them to hardware";
const VM86: &str = "runs 16-bit code through rarely used parts of the kernel's entry code";

/// By call.
static DANGEROUS_VALUES: &[DangerousValue] = &[
    DangerousValue {
        call: "clone",
        arg: "flags",
        values: &[
            "CLONE_NEWCGROUP",
            "CLONE_NEWIPC",
            "CLONE_NEWNET",
            "CLONE_NEWNS",
            "CLONE_NEWPID",
            "CLONE_NEWUSER",
            "CLONE_NEWUTS",
        ],
        test: Test::HasBits,
        danger: cves(
            danger(Namespace, 6, "makes namespaces, in which the caller has every capability"),
            &["CVE-2022-0185", "CVE-2022-0492"],
        ),
    },
    DangerousValue {
        call: "ioctl",
        arg: "cmd",
        values: &["TIOCSTI", "TIOCLINUX"],
        test: Test::Equals,
        danger: cves(
            danger(
                ProcessInspection,
                5,
                "types into the terminal, as if whoever started the workload did",
            ),
            &["CVE-2017-5226"],
        ),
    },
    DangerousValue {
        call: "socket",
        arg: "domain",
        values: &["AF_ALG"],
        test: Test::Equals,
        danger: danger(KernelAttackSurface, 4, "reaches the kernel's own cryptography"),
    },
    DangerousValue {
        call: "socket",
        arg: "domain",
        values: &["AF_PACKET"],
        test: Test::Equals,
        danger: cves(
            danger(KernelAttackSurface, 5, "reads and writes whole network frames"),
            &["CVE-2017-7308", "CVE-2020-14386"],
        ),
    },
    DangerousValue {
        call: "socket",
        arg: "domain",
        values: &["AF_VSOCK"],
        test: Test::Equals,
        danger: danger(
            KernelAttackSurface,
            5,
            "talks to the hypervisor and other machines on it, past network namespaces",
        ),
    },
];

/// By name.
static DANGERS: &[(&str, Danger)] = &[
    (
        "_sysctl",
        danger(Obsolete, 2, "changes kernel settings; superseded by /proc/sys, gone since 5.5"),
    ),
    (
        "acct",
        danger(Machine, 4, "switches the accounting of processes, hiding or filling its file"),
    ),
    (
        "add_key",
        cves(
            danger(
                Keyring,
                5,
                "puts keys into keyrings, which are no part of any namespace by default",
            ),
            &["CVE-2017-15274"],
        ),
    ),
    ("adjtimex", danger(Time, 2, "tunes the clock of the machine")),
    ("bdflush", danger(Obsolete, 1, "does nothing since 2.6, gone since 5.15")),
    (
        "bpf",
        cves(
            danger(
                KernelAttackSurface,
                8,
                "loads programs that run in the kernel behind a verifier",
            ),
            &["CVE-2017-16995", "CVE-2020-8835", "CVE-2021-3490", "CVE-2022-23222"],
        ),
    ),
    (
        "chroot",
        danger(Namespace, 3, "changes what paths mean, and leads out of a chroot if done twice"),
    ),
    ("clock_adjtime", danger(Time, 2, "tunes the clock of the machine")),
    ("clock_adjtime64", danger(Time, 2, "tunes the clock of the machine")),
    ("clock_settime", danger(Time, 4, SETS_TIME)),
    ("clock_settime64", danger(Time, 4, SETS_TIME)),
    (
        "clone3",
        danger(
            Namespace,
            4,
            "makes namespaces as clone does, with flags in memory that no filter sees",
        ),
    ),
    ("create_module", danger(Obsolete, 2, OLD_MODULES)),
    ("delete_module", danger(KernelCode, 8, "removes code from the kernel")),
    (
        "fanotify_init",
        danger(FileAccess, 4, "watches, and can hold up, what every process does to files"),
    ),
    ("fchroot", danger(Namespace, 3, "changes what paths mean, as chroot does, by a descriptor")),
    ("finit_module", danger(KernelCode, 10, "loads code into the kernel")),
    ("fsconfig", cves(danger(Mount, 6, NEW_MOUNT), &["CVE-2022-0185"])),
    ("fsmount", danger(Mount, 6, NEW_MOUNT)),
    ("fsopen", danger(Mount, 6, NEW_MOUNT)),
    ("fspick", danger(Mount, 6, NEW_MOUNT)),
    ("get_kernel_syms", danger(Obsolete, 2, OLD_MODULES)),
    ("init_module", danger(KernelCode, 10, "loads code into the kernel")),
    ("io_uring_enter", cves(danger(FilterBypass, 7, RING), &["CVE-2021-41073", "CVE-2022-29582"])),
    ("io_uring_register", cves(danger(FilterBypass, 7, RING), &["CVE-2023-2598"])),
    (
        "io_uring_setup",
        cves(danger(FilterBypass, 7, RING), &["CVE-2021-41073", "CVE-2022-29582", "CVE-2023-2598"]),
    ),
    ("ioperm", danger(RawIo, 9, PORTS)),
    ("iopl", danger(RawIo, 9, PORTS)),
    ("kcmp", danger(ProcessInspection, 3, "tells which kernel objects other processes share")),
    ("kexec_file_load", danger(KernelCode, 10, "puts another kernel in the place of this one")),
    ("kexec_load", danger(KernelCode, 10, "puts another kernel in the place of this one")),
    (
        "keyctl",
        cves(
            danger(
                Keyring,
                5,
                "reads and changes keys, which are no part of any namespace by default",
            ),
            &["CVE-2016-0728"],
        ),
    ),
    ("lookup_dcookie", danger(Obsolete, 2, "tells paths of files to an old profiler, gone since")),
    (
        "memfd_create",
        danger(Execution, 2, "makes a file in memory that can be executed, past controls of paths"),
    ),
    (
        "migrate_pages",
        danger(ProcessInspection, 2, "moves the memory of other processes between nodes"),
    ),
    (
        "modify_ldt",
        danger(
            KernelAttackSurface,
            4,
            "changes the segments of x86, through rarely used entry code",
        ),
    ),
    (
        "mount",
        cves(
            danger(Mount, 8, "changes what paths lead to, and reaches the parsers of filesystems"),
            &["CVE-2022-0492", "CVE-2023-0386"],
        ),
    ),
    ("mount_setattr", danger(Mount, 6, "takes read-only, nosuid and noexec from mounts")),
    ("move_mount", danger(Mount, 6, NEW_MOUNT)),
    (
        "move_pages",
        cves(
            danger(ProcessInspection, 2, "moves the memory of other processes between nodes"),
            &["CVE-2010-0415"],
        ),
    ),
    ("nfsservctl", danger(Obsolete, 1, "steered the kernel's NFS server, gone since 3.1")),
    (
        "open_by_handle_at",
        danger(FileAccess, 8, "opens any file of a filesystem by number, past paths and mounts"),
    ),
    ("open_tree", danger(Mount, 5, NEW_MOUNT)),
    ("open_tree_attr", danger(Mount, 6, NEW_MOUNT)),
    ("pciconfig_iobase", danger(RawIo, 5, "tells where PCI devices are in memory")),
    ("pciconfig_read", danger(RawIo, 7, "reads the configuration of PCI devices")),
    ("pciconfig_write", danger(RawIo, 9, "writes the configuration of PCI devices")),
    (
        "perf_event_open",
        cves(
            danger(KernelAttackSurface, 6, "watches other processes and the kernel, by much code"),
            &["CVE-2013-2094"],
        ),
    ),
    (
        "personality",
        cves(
            danger(
                Hardening,
                3,
                "switches off address randomisation or makes readable memory executable",
            ),
            &["CVE-2009-1895"],
        ),
    ),
    (
        "pidfd_getfd",
        danger(ProcessInspection, 7, "takes open files and sockets out of another process"),
    ),
    ("pivot_root", danger(Mount, 6, "changes the root of every process in the mount namespace")),
    (
        "process_madvise",
        danger(ProcessInspection, 3, "drops or moves the memory of another process"),
    ),
    ("process_vm_readv", danger(ProcessInspection, 7, READS_MEMORY)),
    (
        "process_vm_writev",
        danger(ProcessInspection, 8, "writes into the memory of another process"),
    ),
    (
        "ptrace",
        cves(
            danger(
                ProcessInspection,
                8,
                "reads and steers another process, and before 4.8 led past seccomp filters",
            ),
            &["CVE-2014-4699", "CVE-2019-13272"],
        ),
    ),
    ("query_module", danger(Obsolete, 2, OLD_MODULES)),
    ("quotactl", danger(Machine, 4, "changes what users may store on a filesystem")),
    ("quotactl_fd", danger(Machine, 4, "changes what users may store on a filesystem")),
    ("reboot", danger(Machine, 8, "stops or restarts the machine or its PID namespace")),
    (
        "request_key",
        danger(Keyring, 5, "looks for keys, and has the kernel start a program to make them"),
    ),
    ("rtas", danger(RawIo, 9, "calls the firmware of Power machines")),
    ("s390_pci_mmio_read", danger(RawIo, 6, "reads the memory of PCI devices")),
    ("s390_pci_mmio_write", danger(RawIo, 8, "writes the memory of PCI devices")),
    ("setdomainname", danger(Machine, 3, "renames the machine or its UTS namespace")),
    ("sethostname", danger(Machine, 3, "renames the machine or its UTS namespace")),
    ("setns", danger(Namespace, 7, "enters another container's namespaces, or the machine's")),
    ("settimeofday", danger(Time, 4, SETS_TIME)),
    (
        "socketcall",
        danger(
            FilterBypass,
            2,
            "makes any socket call, with arguments in memory that no filter sees",
        ),
    ),
    ("stime", danger(Time, 4, SETS_TIME)),
    ("swapoff", danger(Machine, 4, "takes swap from the machine, which can run out of memory")),
    ("swapon", danger(Machine, 5, "has the machine write memory to a file of the caller's choice")),
    ("sysfs", danger(Obsolete, 1, "lists filesystem types; superseded by /proc/filesystems")),
    (
        "syslog",
        danger(ProcessInspection, 3, "reads the kernel's log, with addresses, and empties it"),
    ),
    ("umount", danger(Mount, 5, "uncovers what a mount hides")),
    ("umount2", danger(Mount, 5, "uncovers what a mount hides")),
    (
        "unshare",
        cves(
            danger(Namespace, 6, "makes namespaces, in which the caller has every capability"),
            &["CVE-2022-0185", "CVE-2022-0492"],
        ),
    ),
    ("uselib", danger(Obsolete, 2, "maps a library as programs before ELF did")),
    (
        "userfaultfd",
        cves(
            danger(
                KernelAttackSurface,
                5,
                "halts the kernel at a page of choice, which makes races certain",
            ),
            &["CVE-2018-18397"],
        ),
    ),
    ("ustat", danger(Obsolete, 1, "tells of a filesystem; superseded by statfs")),
    ("vhangup", danger(Machine, 2, "takes the terminal from everyone on it")),
    ("vm86", danger(KernelAttackSurface, 4, VM86)),
    ("vm86old", danger(KernelAttackSurface, 4, VM86)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_a_call_and_found() {
        assert!(DANGERS.is_sorted_by(|a, b| a.0 < b.0));
        for (name, entry) in DANGERS {
            let call = Syscall::from_name(name).unwrap_or_else(|| panic!("{name}"));
            assert!(std::ptr::eq(call.danger().unwrap(), entry));
        }
    }

    #[test]
    fn dangerous_values_are_values_of_their_arguments() {
        assert!(DANGEROUS_VALUES.is_sorted_by_key(|value| (value.call, value.arg)));
        for value in DangerousValue::all() {
            assert!(value.syscall().danger().is_none(), "{}", value.call);
            for &arch in Arch::ALL.iter().filter(|arch| value.syscall().number(**arch).is_some()) {
                let tests = value.tests(arch);
                assert_eq!(tests.len(), value.values.len(), "{} on {arch}", value.call);
                assert!(tests.iter().all(|(mask, wanted)| wanted & mask == *wanted));
            }
        }
        let newuser = DangerousValue::all().next().unwrap().tests(Arch::X86_64);
        assert!(newuser.contains(&(0x1000_0000, 0x1000_0000)));
    }

    #[test]
    fn weights_and_reasons_have_their_form() {
        let of_values = DANGEROUS_VALUES.iter().map(|value| (value.call, &value.danger));
        for (name, entry) in DANGERS.iter().map(|(name, entry)| (*name, entry)).chain(of_values) {
            assert!((1..=10).contains(&entry.weight), "{name}");
            let starts = entry.reason.starts_with(|c: char| c.is_ascii_lowercase());
            assert!(starts && !entry.reason.ends_with('.'), "{name}: reads as `{name} …`");
            for cve in entry.cves {
                let (year, number) =
                    cve.strip_prefix("CVE-").and_then(|rest| rest.split_once('-')).unwrap();
                assert!(year.len() == 4 && year.parse::<u16>().is_ok(), "{cve}");
                assert!(number.len() >= 4 && number.parse::<u32>().is_ok(), "{cve}");
            }
        }
    }

    #[test]
    fn the_families_are_whole() {
        let dangerous = |name: &str| Syscall::from_name(name).unwrap().danger().is_some();
        for name in [
            "mount",
            "umount2",
            "fsopen",
            "fsconfig",
            "fsmount",
            "move_mount",
            "open_tree",
            "mount_setattr",
            "pivot_root",
            "ptrace",
            "process_vm_readv",
            "process_vm_writev",
            "bpf",
            "keyctl",
            "add_key",
            "request_key",
            "userfaultfd",
            "unshare",
            "setns",
            "clone3",
            "io_uring_setup",
            "io_uring_enter",
            "io_uring_register",
            "kexec_load",
            "kexec_file_load",
            "init_module",
            "finit_module",
            "delete_module",
            "perf_event_open",
            "open_by_handle_at",
            "pidfd_getfd",
            "kcmp",
            "reboot",
            "swapon",
            "swapoff",
        ] {
            assert!(dangerous(name), "{name}");
        }
        for name in ["read", "openat", "execve", "clone", "seccomp", "memfd_secret", "prctl"] {
            assert!(!dangerous(name), "{name}");
        }
    }
}
