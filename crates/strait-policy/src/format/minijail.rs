//! `.policy` files of minijail.
//!
//! There are two readers of such files, and they do not agree: `minijail0 -S` (libminijail), and the
//! compiler `compile_seccomp_policy.py`, which knows more: blocks in braces, actions by name,
//! `@default`. In `read: arg0 == 0; return EBADF` the errno is for calls for which the condition does
//! not hold to the first, and for those for which it holds to the second. A file is read as libminijail
//! reads it, unless something in it is only the compiler's; a note says which was the case where it
//! matters. The sources of both (minijail's `syscall_filter.c`, `bpf.c`, `util.c` and
//! `tools/parser.py`) are the reference; no test runs them.
//!
//! The filter is for the machine's own ABI, and another audit arch gets kill-thread; x32 numbers are
//! numbers like others; arguments are compared as whole registers. What is not listed gets
//! kill-thread, unless `@default` says otherwise. Files that are included are those of
//! [`Target::files`]; `@frequency` says nothing about meaning.

mod constant;
mod export;
mod line;
mod parser;

use std::collections::BTreeMap;

pub use export::export;
use strait_bpf::Action;

use super::{Codec, FormatError, Imported, Note, Target, as_text};
use crate::raise::raise;
use crate::rules::{Arm, Chain, Condition, Rules, Table};

pub(super) const CODEC: Codec = Codec {
    name: "minijail",
    recognises: |sample| {
        // `name: 1`, `name: return X`, `name: arg0 == 1`, or a directive.
        let is_rule = |line: &str| {
            let Some((name, rule)) = line.split_once(':') else { return line.starts_with('@') };
            let rule = rule.trim();
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let starts = ["return", "arg", "allow", "kill", "log", "trap", "{", "user-notify"];
            name.chars().all(is_name) && (rule == "1" || starts.iter().any(|s| rule.starts_with(s)))
        };
        let lines = sample.text.lines().map(str::trim);
        let mut lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.next().is_some_and(is_rule)
    },
    import: |bytes, target| import(as_text(bytes)?, target),
    export,
};

/// What minijail would install on the target, as a policy.
///
/// # Errors
/// If minijail would refuse the text.
pub fn import(text: &str, target: &Target) -> Result<Imported, FormatError> {
    let (rules, default, notes) = install(text, target)?;
    let policy = raise(&rules, target.arch.into(), default, None)?;
    Ok(Imported { policy, notes })
}

/// The rules that minijail makes of a file, its default, and what should be known of it.
fn install(text: &str, target: &Target) -> Result<(Rules, Action, Vec<Note>), FormatError> {
    let said = parser::parse(text, target)?;
    let mut notes = Vec::new();
    let mut chains: BTreeMap<u32, Chain> = BTreeMap::new();
    for statement in &said.statements {
        for &nr in &statement.calls {
            let chain = chains.entry(nr).or_insert_with(|| Chain::from(said.default));
            for filter in &statement.filters {
                let action = filter.action.unwrap_or(said.default);
                match &filter.when {
                    None => chain.otherwise = action,
                    Some(when) if said.compiled => {
                        let action = filter.action.unwrap_or(Action::Allow);
                        chain.arms.push(Arm { when: when.clone(), action });
                    }
                    Some(when) => {
                        chain.arms.push(Arm { when: when.clone(), action: Action::Allow });
                        chain.otherwise = filter.otherwise.unwrap_or(said.default);
                    }
                }
            }
        }
    }
    if let Some(place) = said.ambiguous {
        let (reader, meaning) = if said.compiled {
            ("compile_seccomp_policy.py", "for which the condition holds")
        } else {
            ("minijail0 -S", "for which the condition does not hold")
        };
        let message = format!(
            "`return` after a condition is for calls {meaning}, as {reader} reads it; minijail's other \
             reader takes it the other way"
        );
        notes.push(Note { place: Some(place), message });
    }
    let mut table = Table::new(said.default);
    for (nr, chain) in chains {
        table.set(nr, nr, chain);
    }
    let rules = Rules::new(Action::KillThread).with_table(target.arch.audit_arch(), table);
    Ok((rules, said.default, notes))
}

/// Every one of some conditions.
fn all(mut conditions: Vec<Condition>) -> Condition {
    if conditions.len() == 1 { conditions.remove(0) } else { Condition::All(conditions) }
}

#[cfg(test)]
mod tests {
    use strait_abi::{Arch, KernelVersion};

    use super::*;
    use crate::Policy;

    fn target() -> Target {
        let mut target = Target::new(Arch::X86_64, KernelVersion::new(6, 18));
        for (name, text) in [
            ("./base.policy", "read: 1\nwrite: arg0 == 1 || arg0 == 2\n"),
            ("/nested.policy", "@include ./base.policy\n"),
            ("./self.policy", "@include ./self.policy\n"),
            ("./bad.policy", "\nraed: 1\n"),
        ] {
            target.files.insert(name.to_owned(), text.to_owned());
        }
        target
    }

    fn decide(policy: &Policy, call: &str, args: [u64; 6]) -> Action {
        crate::format::decide(policy, Arch::X86_64, call, args)
    }

    /// What the manual (minijail0(5)) and `syscall_filter_unittest.cc` say of each.
    #[test]
    fn lines_are_read_as_libminijail_reads_them() {
        let policy = import(
            "# comment\n@frequency ./x.freq\n@include ./base.policy\n\nclose: return EBADF\n\
             openat: arg2 == O_RDONLY|O_CLOEXEC || \\\n  arg2 & O_DIRECTORY\n\
             mmap: arg2 in ~PROT_EXEC || arg2 in ~PROT_WRITE; return ENOMEM\n\
             socket: arg0 == 0x1 && arg1 != 3 && arg2 <= 017\nioctl: arg1 == -1\nkill: return\n",
            &target(),
        )
        .unwrap();
        let kill = Action::KillThread;
        for (call, args, action) in [
            ("read", [0; 6], Action::Allow),
            ("write", [2, 0, 0, 0, 0, 0], Action::Allow),
            ("write", [3, 0, 0, 0, 0, 0], kill),
            ("write", [1 | 1 << 32, 0, 0, 0, 0, 0], kill),
            ("close", [0; 6], Action::Errno(9)),
            ("openat", [0, 0, 0o2_000_000, 0, 0, 0], Action::Allow),
            ("openat", [0, 0, 0o200_001, 0, 0, 0], Action::Allow),
            ("openat", [0, 0, 1, 0, 0, 0], kill),
            ("mmap", [0, 0, 3, 0, 0, 0], Action::Allow),
            ("mmap", [0, 0, 5, 0, 0, 0], Action::Allow),
            ("mmap", [0, 0, 6, 0, 0, 0], Action::Errno(12)),
            ("socket", [1, 2, 15, 0, 0, 0], Action::Allow),
            ("socket", [1, 3, 15, 0, 0, 0], kill),
            ("socket", [1, 2, 16, 0, 0, 0], kill),
            ("ioctl", [0, u64::MAX, 0, 0, 0, 0], Action::Allow),
            ("ioctl", [0, 0xffff_ffff, 0, 0, 0, 0], kill),
            ("kill", [0; 6], kill),
            ("fork", [0; 6], kill),
        ] {
            assert_eq!(decide(&imported(&policy), call, args), action, "{call} {args:x?}");
        }
        assert!(policy.notes[0].message.contains("minijail0 -S"), "{:?}", policy.notes);
        assert_eq!(policy.notes[0].place.unwrap().line, 8);
    }

    fn imported(imported: &Imported) -> Policy {
        imported.policy.clone()
    }

    #[test]
    fn what_only_the_compiler_takes_is_read_as_it_reads_it() {
        let text = "@default kill-process\n@include /nested.policy\n\
            {close, dup}: { arg0 == 0; return EBADF, arg0 > 5; log, allow } # comment\n\
            fork[arch=arm]: allow\nkill: arg1 == 9; return EPERM\nfcntl: user-notify\n";
        let read = import(text, &target()).unwrap();
        let decide = |call, args| decide(&read.policy, call, args);
        assert_eq!(decide("close", [0; 6]), Action::Errno(9));
        assert_eq!(decide("dup", [6, 0, 0, 0, 0, 0]), Action::Log);
        assert_eq!(decide("dup", [1, 0, 0, 0, 0, 0]), Action::Allow);
        assert_eq!(decide("fork", [0; 6]), Action::KillProcess);
        assert_eq!(decide("kill", [0, 9, 0, 0, 0, 0]), Action::Errno(1));
        assert_eq!(decide("kill", [0; 6]), Action::KillProcess);
        assert_eq!(decide("fcntl", [0; 6]), Action::Notify);
        assert_eq!(decide("read", [0; 6]), Action::Allow);
        assert!(read.notes[0].message.contains("compile_seccomp_policy.py"), "{:?}", read.notes);
        let denied = import("@denylist\nmount: return EPERM\n", &target()).unwrap().policy;
        assert_eq!((denied.default, denied.rules.len()), (Action::Allow, 2));
    }

    #[test]
    fn faults_are_pointed_at() {
        for (text, message) in [
            (
                "read: 1\nraed: 1\n",
                "line 2, column 1: `raed` is no known system call; did you mean `read`?",
            ),
            ("openat: arg2 == O_RDNLY\n", "did you mean `O_RDONLY`?"),
            ("read: arg6 == 1\n", "arg0 to arg5"),
            ("read: arg0 = 1\n", "==, !=, <"),
            ("read 1\n", "where `:` was expected"),
            ("read: 1\nread: 1\n", "for all arguments already"),
            ("read: allw\n", "did you mean `allow`?"),
            ("@default allow\n", "a default is kill"),
            ("@include base.policy\n", "begins with `/` or `./`"),
            ("@include ./none\n", "`./none`, which is not beside it"),
            ("@include ./self.policy\n", "more than 10 deep"),
            ("@include ./bad.policy\n", "in `./bad.policy`, line 2, column 1: `raed`"),
            ("read: arg0 == 0x10000000000000000\n", "has 64 bits"),
            ("sig_return: 1\n", "no known system call"),
        ] {
            let error = import(text, &target()).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn policies_are_written_and_read_back() {
        for (text, plain) in [
            ("read: 1\nwrite: arg0 == 1; return EBADF\nclone3: return ENOSYS\n", true),
            (
                "socket: arg0 == 1 || arg0 == 2 && arg1 & 0x800\nmmap: arg2 in 3\nioctl: arg1 < 5\n",
                true,
            ),
            (
                "@default trap\nread: { arg0 == 0; kill-thread, arg0 > 7; return EPERM, allow }\n",
                false,
            ),
            ("@denylist\nmount: return EPERM\nsocket: arg0 == 16; return EAFNOSUPPORT\n", false),
        ] {
            let policy = import(text, &target()).unwrap().policy;
            let exported = export(&policy, &target()).unwrap();
            let again = import(&exported.text, &target()).unwrap().policy;
            let decision = |policy: &Policy| policy.lower().unwrap().decision().unwrap();
            let compared = decision(&policy).compare(&decision(&again)).unwrap();
            assert_eq!(compared.differences, [], "{}", exported.text);
            assert_eq!(exported.losses, [], "{}", exported.text);
            assert_eq!(!exported.text.contains(['{', '@']), plain, "{}", exported.text);
        }
        // Parts of arguments, and an errno for all other calls.
        let policy = Policy::parse(
            "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec:\n  architectures: [x86_64]\n  \
             default: errno(EPERM)\n  rules:\n  - {syscalls: [read], action: allow}\n  \
             - {syscalls: [socket], when: \"domain in {AF_UNIX, AF_INET6}\", action: allow}\n",
        )
        .unwrap();
        let exported = export(&policy, &target()).unwrap();
        // A call that no kernel has so far cannot be named, so it is killed.
        assert_eq!(exported.losses.len(), 1, "{:?}", exported.losses);
        let again = import(&exported.text, &target()).unwrap().policy;
        assert_eq!(decide(&again, "socket", [1 | 5 << 32, 0, 0, 0, 0, 0]), Action::Allow);
        assert_eq!(decide(&again, "socket", [2, 0, 0, 0, 0, 0]), Action::Errno(1));
    }
}
