//! Ways around a rule: another call, ABI or interface that does the same and is not filtered so.
//!
//! Whether the other way is open is decided over all arguments: what the rule says of the first
//! call's arguments is said of the other's by their names, and then there is a call that passes by
//! the one way and not by the other, or there is none.

use strait_abi::{Arch, Syscall};
use strait_bpf::Action;

use super::rules::{map_tests, narrowed};
use super::{Checker, Code, Finding};
use crate::query::Query;
use crate::rules::{Arm, Chain, Condition, Op, Test, Width};
use crate::satisfy::{Claim, satisfy};
use crate::signature::register_width;

/// When the second call of a pair being open says that a rule for the first was gone around.
#[derive(Clone, Copy, PartialEq, Eq)]
enum If {
    /// Whenever the first does not pass: nobody means to allow the second alone.
    Always,
    /// If a rule names the first; that a list of what is allowed lacks it means nothing.
    Named,
    /// If a rule names the first, and it never passes.
    NeverPasses,
}

/// Pairs of calls: who filters the first must filter the second. Where both are older and newer
/// forms of one thing, only the way from what programs use is here: to deny openat2 and allow
/// openat is how libraries are made to fall back.
const TWINS: &[(If, &str, &[&str])] = &[
    (If::Always, "openat", &["openat2"]),
    (If::Named, "openat", &["open", "creat", "open_by_handle_at"]),
    (If::Named, "open", &["openat", "openat2", "creat", "open_by_handle_at"]),
    (If::Always, "clone", &["clone3"]),
    (If::NeverPasses, "clone", &["fork", "vfork"]),
    (If::NeverPasses, "fork", &["vfork", "clone", "clone3"]),
    (If::NeverPasses, "unshare", &["clone", "clone3"]),
    (If::Always, "execve", &["execveat"]),
    (If::Always, "mprotect", &["pkey_mprotect"]),
    (If::Named, "mmap", &["mmap2"]),
    (If::Named, "mmap2", &["mmap"]),
    (If::NeverPasses, "mount", &["fsmount", "move_mount", "open_tree", "mount_setattr"]),
    (If::NeverPasses, "umount2", &["umount"]),
    (If::NeverPasses, "chroot", &["pivot_root"]),
    (If::NeverPasses, "ptrace", &["process_vm_readv", "process_vm_writev", "pidfd_getfd"]),
    (If::NeverPasses, "process_vm_readv", &["ptrace"]),
    (If::NeverPasses, "process_vm_writev", &["ptrace"]),
    (If::Named, "kill", &["tgkill", "tkill", "pidfd_send_signal", "rt_sigqueueinfo"]),
    (If::Named, "init_module", &["finit_module"]),
    (If::Named, "kexec_load", &["kexec_file_load"]),
    (If::Named, "accept", &["accept4"]),
    (If::Named, "accept4", &["accept"]),
    (If::Named, "sendto", &["sendmsg", "sendmmsg"]),
    (If::Named, "sendmsg", &["sendto", "sendmmsg"]),
    (If::Named, "dup2", &["dup3"]),
    (If::Named, "chmod", &["fchmod", "fchmodat", "fchmodat2"]),
    (If::Named, "fchmodat", &["chmod", "fchmod", "fchmodat2"]),
    (If::Named, "chown", &["lchown", "fchown", "fchownat"]),
    (If::Named, "fchownat", &["chown", "lchown", "fchown"]),
    (If::Named, "unlink", &["unlinkat"]),
    (If::Named, "unlinkat", &["unlink", "rmdir"]),
    (If::Named, "rename", &["renameat", "renameat2"]),
    (If::Named, "renameat", &["rename", "renameat2"]),
    (If::Named, "renameat2", &["rename", "renameat"]),
    (If::Named, "mkdir", &["mkdirat"]),
    (If::Named, "mkdirat", &["mkdir"]),
    (If::Named, "mknod", &["mknodat"]),
    (If::Named, "mknodat", &["mknod"]),
    (If::Named, "link", &["linkat"]),
    (If::Named, "linkat", &["link"]),
    (If::Named, "symlink", &["symlinkat"]),
    (If::Named, "symlinkat", &["symlink"]),
    (If::Named, "setxattr", &["lsetxattr", "fsetxattr", "setxattrat"]),
    (If::Named, "setuid", &["setreuid", "setresuid", "setfsuid"]),
    (If::Named, "setgid", &["setregid", "setresgid", "setfsgid"]),
    (If::Named, "setrlimit", &["prlimit64"]),
    (If::Named, "prlimit64", &["setrlimit"]),
    (If::Named, "settimeofday", &["clock_settime", "stime", "adjtimex", "clock_adjtime"]),
    (If::Named, "clock_settime", &["settimeofday", "stime", "adjtimex", "clock_adjtime"]),
    (If::Named, "swapon", &["swapoff"]),
];

/// Of these two the second does what the first does only if this argument, by its index, is not 0: sendto
/// without an address is a write.
const ONLY_WITH: &[(&str, &str, u8)] = &[("sendmsg", "sendto", 4)];

/// What 32-bit ABIs add to the name of a call for wider arguments.
const WIDER: &[&str] = &["32", "64", "_time64"];

/// Calls whose work io_uring does without a filter seeing it (`IORING_OP_*` in
/// `include/uapi/linux/io_uring.h`).
const BY_IO_URING: &[&str] = &[
    "accept4",
    "bind",
    "connect",
    "fallocate",
    "fsetxattr",
    "ftruncate",
    "linkat",
    "listen",
    "mkdirat",
    "openat",
    "openat2",
    "recvmsg",
    "renameat2",
    "sendmsg",
    "setxattr",
    "shutdown",
    "socket",
    "statx",
    "symlinkat",
    "unlinkat",
];

/// ABIs that a kernel of the first runs too.
const COMPAT: &[(Arch, Arch)] =
    &[(Arch::X86_64, Arch::I386), (Arch::X86_64, Arch::X32), (Arch::Aarch64, Arch::Arm)];

impl Checker<'_> {
    pub(super) fn twins(&mut self) {
        for arch in self.policy.architectures.iter() {
            let on_arch =
                |name: &str| Syscall::from_name(name).filter(|call| call.number(arch).is_some());
            for &(when, one, others) in TWINS {
                for other in others {
                    if let (Some(one), Some(other)) = (on_arch(one), on_arch(other)) {
                        self.twin(when, one, other, arch);
                    }
                }
            }
            for one in Syscall::all().filter(|call| call.number(arch).is_some()) {
                for wider in WIDER.iter().filter_map(|end| on_arch(&format!("{one}{end}"))) {
                    self.twin(If::Named, one, wider, arch);
                    self.twin(If::Named, wider, one, arch);
                }
            }
            for all in ["socketcall", "ipc"].into_iter().filter_map(on_arch) {
                self.multiplexer(all, arch);
            }
            self.io_uring(arch);
        }
        for &(native, compat) in COMPAT {
            let has = |arch| self.policy.architectures.contains(arch);
            if has(native) && has(compat) {
                for call in Syscall::all() {
                    self.compat(call, native, compat);
                }
            }
        }
    }

    fn twin(&mut self, when: If, one: Syscall, other: Syscall, arch: Arch) {
        let applies = match when {
            If::Always => true,
            If::Named => self.is_named(one, arch),
            If::NeverPasses => self.is_named(one, arch) && !self.view.passes(one, arch),
        };
        let (Some(first), Some(second)) =
            (self.view.chain(one, arch), self.view.chain(other, arch))
        else {
            return;
        };
        if !applies || !self.view.passes(other, arch) || !self.view.is_filtered(one, arch) {
            return;
        }
        let only = ONLY_WITH.iter().find(|(a, b, _)| (*a, *b) == (one.name(), other.name()));
        let only = only.and_then(|&(_, _, at)| Test::new(at, Width::W64, u64::MAX, Op::Ne, 0).ok());
        let only = only.map(Condition::Test);
        let open = match translated(first, (one, arch), (other, arch)) {
            Some(first) => passes_besides(&first, second, arch, only.as_ref()),
            // What the first looks at the second has not, or not where a filter sees it.
            None => (!self.view.is_filtered(other, arch)).then_some([0; 6]),
        };
        let Some(args) = open else { return };
        let call = if second.arms.is_empty() && first.arms.is_empty() {
            Query::any(other, arch)
        } else {
            Query { syscall: other, arch, args: args.map(Some) }
        };
        let message = format!(
            "`{one}` is filtered on {arch}, and `{other}`, which does the same, is not: {call} \
             passes"
        );
        let subject = self.subject(other, arch, Action::lets_pass);
        let help = format!("give `{other}` the rule of `{one}`, or answer it with errno(ENOSYS)");
        self.find(Finding::new(Code::TwinLeftOpen, subject, message).about(other).help(help));
    }

    /// Calls on sockets or System V objects that pass by way of the call that does all of them.
    fn multiplexer(&mut self, all: Syscall, arch: Arch) {
        if self.view.is_filtered(all, arch) {
            return;
        }
        let filtered: Vec<&str> = Syscall::all()
            .filter(|call| call.multiplexer(arch) == Some(all))
            .filter(|&call| self.view.is_filtered(call, arch))
            .map(Syscall::name)
            .collect();
        if filtered.is_empty() {
            return;
        }
        let message = format!(
            "on {arch} `{all}` does, with arguments in memory, what is filtered of {}",
            filtered.join(", ")
        );
        let subject = self.subject(all, arch, Action::lets_pass);
        let help = format!("deny `{all}`; libraries of this century do not use it");
        self.find(Finding::new(Code::TwinLeftOpen, subject, message).about(all).help(help));
    }

    fn io_uring(&mut self, arch: Arch) {
        let Some(setup) = Syscall::from_name("io_uring_setup") else { return };
        if !self.view.passes(setup, arch) {
            return;
        }
        let filtered: Vec<&str> = BY_IO_URING
            .iter()
            .copied()
            .filter_map(Syscall::from_name)
            .filter(|&call| self.view.is_filtered(call, arch))
            .map(Syscall::name)
            .collect();
        if !filtered.is_empty() {
            let message = format!(
                "io_uring does the work of {} without a filter seeing it",
                filtered.join(", ")
            );
            let subject = self.subject(setup, arch, Action::lets_pass);
            self.find(Finding::new(Code::IoUring, subject, message).about(setup));
        }
    }

    /// A call that passes by the other ABI and not by the native one.
    fn compat(&mut self, call: Syscall, native: Arch, compat: Arch) {
        let (Some(first), Some(second)) =
            (self.view.chain(call, native), self.view.chain(call, compat))
        else {
            return;
        };
        let message = match translated(first, (call, native), (call, compat)) {
            Some(translated) => match passes_besides(&translated, second, compat, None) {
                None => return,
                Some(_) if first.arms.is_empty() && second.arms.is_empty() => {
                    format!("`{call}` is denied on {native} and allowed on {compat}")
                }
                Some(args) => {
                    let call = Query { syscall: call, arch: compat, args: args.map(Some) };
                    format!("{call} is denied on {native} and allowed on {compat}")
                }
            },
            None if self.view.is_filtered(call, native) && !self.view.is_filtered(call, compat) => {
                format!("`{call}` is filtered on {native} and not on {compat}")
            }
            None => return,
        };
        let subject = self.subject(call, compat, Action::lets_pass);
        self.find(Finding::new(Code::LooserCompat, subject, message).about(call));
    }
}

/// Arguments, of those for which `only` holds, with which the second chain lets a call of `arch` pass and
/// the first does not.
fn passes_besides(
    first: &Chain,
    second: &Chain,
    arch: Arch,
    only: Option<&Condition>,
) -> Option<[u64; 6]> {
    let denied = |action: Action| !action.lets_pass();
    let width = register_width(arch).mask();
    let register = |at| Test::new(at, Width::W64, u64::MAX, Op::Le, width).map(Condition::Test);
    let registers = Condition::All((0..6).filter_map(|at| register(at).ok()).collect());
    let claims = [
        Claim::Holds(&registers),
        Claim::Gives(second, &Action::lets_pass),
        Claim::Gives(first, &denied),
    ];
    let claims: Vec<Claim<'_>> = claims.into_iter().chain(only.map(Claim::Holds)).collect();
    satisfy(&claims).ok()?
}

/// What a chain says of a call, as the kernel takes its arguments, said of the arguments of the same
/// names of another, as far as the other's registers go; none if the other has not all that the
/// chain looks at.
fn translated(chain: &Chain, from: (Syscall, Arch), to: (Syscall, Arch)) -> Option<Chain> {
    let (args, others) = (from.0.args(from.1), to.0.args(to.1));
    let index = |at: u8| -> Option<u8> {
        let name = args?.get(usize::from(at))?.name();
        let other =
            others?.iter().position(|arg| arg.name() == name || arg.aliases().contains(&name))?;
        u8::try_from(other).ok()
    };
    let looked_at = chain.arms.iter().flat_map(|arm| arm.when.tests());
    if looked_at.into_iter().any(|test| index(test.arg()).is_none()) {
        return None;
    }
    // Bits that the kernel ignores are no other way: that a filter looks at them is a finding of its
    // own.
    let taken = args.unwrap_or_default().iter().enumerate();
    let chain = taken
        .fold(chain.clone(), |chain, (at, arg)| narrowed(&chain, at, arg.width(from.1).mask()));
    let narrow = !to.1.is_64_bit();
    let test = |test: &Test| -> Condition {
        let at = index(test.arg()).unwrap_or(test.arg());
        let fits = test.value() >> 32 == 0;
        let width = if narrow && fits { Width::W32 } else { test.width() };
        let mask = test.mask() & width.mask();
        Test::new(at, width, mask, test.op(), test.value())
            .map_or(Condition::Test(*test), Condition::Test)
    };
    let arms =
        chain.arms.iter().map(|arm| Arm { when: map_tests(&arm.when, &test), action: arm.action });
    let chain = Chain { arms: arms.collect(), otherwise: chain.otherwise };
    Some(chain)
}
