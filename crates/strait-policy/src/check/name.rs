//! Names that are no system call: what they may be meant to be.

use strait_abi::{Arch, Syscall};

use crate::text::nearest;

/// What a name that is no call may be meant to be.
pub(super) fn hint(name: &str, arch: Arch) -> String {
    if let Some((_, calls)) = LIBC.iter().find(|(function, _)| *function == name) {
        return format!("`{name}` is a function of libc, which calls {calls}");
    }
    if let Some((first, second)) = run_together(name) {
        return format!("`{first}` and `{second}` run together? A comma is missing between them");
    }
    if let Some(nr) = number(name) {
        return match arch.syscall(nr) {
            Some(call) => format!("number {nr} is `{call}` on {arch}: write the name"),
            None => format!(
                "this is how tracers print number {nr}, which is no call of {arch}: a policy of \
                 Strait can name it in `numbers`"
            ),
        };
    }
    if Syscall::exists_elsewhere(name) {
        return "it is a call of other architectures only".to_owned();
    }
    match nearest(name, Syscall::all().map(Syscall::name)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "runtimes skip it without a word: remove it".to_owned(),
    }
}

/// Functions that are taken for system calls, and what they call.
const LIBC: &[(&str, &str)] = &[
    ("abort", "`tgkill`"),
    ("fopen", "`openat`"),
    ("free", "`munmap` and `brk`"),
    ("getaddrinfo", "`socket`, `connect` and others"),
    ("initgroups", "`setgroups`"),
    ("isatty", "`ioctl`"),
    ("malloc", "`brk` and `mmap`"),
    ("popen", "`clone3` or `clone`, and `execve`"),
    ("posix_spawn", "`clone3` or `clone`, and `execve`"),
    ("pthread_create", "`clone3` or `clone`"),
    ("raise", "`tgkill`"),
    ("sleep", "`clock_nanosleep`"),
    ("system", "`clone3` or `clone`, and `execve`"),
    ("wait", "`wait4`"),
];

/// Two calls that were written without a comma between them.
fn run_together(name: &str) -> Option<(&str, &str)> {
    let splits = (1..name.len()).filter_map(|at| name.split_at_checked(at));
    let known = |name: &str| Syscall::from_name(name).is_some();
    splits.into_iter().find(|(first, second)| known(first) && known(second))
}

/// The number in `syscall_1f4`, `syscall_0x1f4` (strace) or `SYS_500`.
fn number(name: &str) -> Option<u32> {
    let hex = |digits: &str| u32::from_str_radix(digits, 16).ok();
    let digits = |prefix: &str| name.strip_prefix(prefix).filter(|rest| !rest.is_empty());
    digits("syscall_0x")
        .and_then(hex)
        .or_else(|| digits("syscall_").and_then(hex))
        .or_else(|| digits("SYS_").and_then(|rest| rest.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_in_the_field_is_explained() {
        let hint = |name| hint(name, Arch::X86_64);
        assert!(hint("setsidaccept4").contains("`setsid` and `accept4`"));
        assert!(hint("initgroups").contains("calls `setgroups`"));
        assert!(hint("syscall_1f4").contains("number 500"));
        assert!(hint("syscall_0x101").contains("`openat`"));
        assert!(hint("opneat").contains("did you mean `openat`?"));
        assert!(hint("sysmips").contains("other architectures"));
        assert!(hint("frobnicate").contains("remove it"));
        assert!(hint("").contains("remove it"));
        assert!(hint("é").contains("remove it"));
    }
}
