//! Seccomp profiles of LXC, versions 1 and 2.
//!
//! What LXC 5.0 loads is the reference:
//!
//! - version 1 is a list of numbers that are allowed on the machine's own ABI; all else gets
//!   kill-thread;
//! - version 2 is a list of calls that are allowed or denied, or get an action of their own, on each ABI
//!   of the machine. **The section of an ABI, such as `[x86]`, is for all of them**: that of another
//!   machine's ABI is skipped, that of one of this machine's changes nothing;
//! - what libseccomp makes of the rules of a call counts; a rule that it refuses keeps the container
//!   from starting;
//! - a name that libseccomp does not know is skipped.

mod export;
mod parser;

pub use export::export;
use strait_abi::{Arch, Syscall};
use strait_bpf::Action;

use super::libseccomp::{Filter, FilterRule, Why, number};
use super::{Codec, FormatError, Imported, Note, Target, as_text};
use crate::policy::Architectures;
use crate::raise::raise;
use crate::rules::Rules;
use crate::text::{Fault, LineIndex, Problem, Span, check_size};

pub(super) const CODEC: Codec = Codec {
    name: "lxc",
    recognises: |sample| {
        let mut lines = sample.text.lines().map(str::trim).filter(|line| !line.is_empty());
        let is_version = |line: &str| matches!(line, "1" | "2");
        let is_kind = |line: &str| {
            ["allowlist", "denylist", "whitelist", "blacklist"]
                .iter()
                .any(|kind| line.starts_with(kind))
        };
        lines.next().is_some_and(is_version) && lines.next().is_some_and(is_kind)
    },
    import: |bytes, target| import(as_text(bytes)?, target),
    export,
};

/// What LXC would install on the target, as a policy.
///
/// # Errors
/// If the text is no profile, or one with which LXC would start no container.
pub fn import(text: &str, target: &Target) -> Result<Imported, FormatError> {
    let mut notes = Vec::new();
    let (rules, default, arches) = install(text, target, &mut notes)?;
    let policy = raise(&rules, arches, default, None)?;
    let index = LineIndex::new(text);
    let note = |(span, message)| Note { place: Some(index.place(span)), message };
    Ok(Imported { policy, notes: notes.into_iter().map(note).collect() })
}

/// The rules that LXC makes of a profile, its default, and the ABIs that it is for.
fn install(
    text: &str,
    target: &Target,
    notes: &mut Vec<(Span, String)>,
) -> Result<(Rules, Action, Architectures), FormatError> {
    let arch = target.arch;
    let Some(compat) = compat(arch) else {
        return Err(FormatError::Inexpressible {
            what: format!("a filter for {arch}"),
            right: "LXC has none for this architecture".to_owned(),
        });
    };
    let wrong = |fault: Fault| fault.in_text(text);
    check_size(text).map_err(wrong)?;
    let said = parser::parse(text, target, notes).map_err(wrong)?;
    if said.version == 1 {
        let filter = Filter::new(said.default, Action::KillThread).with_arch(arch, Vec::new());
        let mut rules = filter.rules_taken();
        if let Some(mut table) = rules.table(arch.audit_arch()).cloned() {
            said.numbers.iter().for_each(|nr| table.set(*nr, *nr, Action::Allow));
            rules = rules.with_table(arch.audit_arch(), table);
        }
        return Ok((rules, said.default, arch.into()));
    }
    let arches: Vec<Arch> = std::iter::once(arch).chain(compat.iter().copied()).collect();
    let mut filter = Filter::new(said.default, Action::KillThread);
    // For each ABI which rules it has.
    let mut indexes: Vec<Vec<usize>> = Vec::new();
    for &arch in &arches {
        let is_here = |rule: &FilterRule| {
            // libseccomp has no number for what is made by `socketcall` or `ipc`.
            Syscall::from_name(&rule.name).is_some_and(|call| {
                number(call, arch, target.library).is_some() && call.multiplexer(arch).is_none()
            })
        };
        let here = said.rules.iter().enumerate().filter(|(_, (_, rule))| is_here(rule));
        let (own, rules): (Vec<usize>, Vec<FilterRule>) =
            here.map(|(index, (_, rule))| (index, rule.clone())).unzip();
        indexes.push(own);
        filter = filter.with_arch(arch, rules);
    }
    let rules = filter.rules().map_err(|refusal| {
        let index = indexes.iter().find_map(|indexes| indexes.get(refusal.rule));
        let span = index.and_then(|index| said.rules.get(*index)).map_or(Span::default(), |(span, _)| *span);
        let what = match refusal.why {
            Why::Contradicts => "an earlier rule of this call says something else for the same: LXC starts no container",
            Why::Intricate => "what libseccomp makes of the rules of this call is too intricate",
        };
        wrong(span.fault(Problem::Syntax { what: what.to_owned() }))
    })?;
    let architectures = Architectures::new(arches).unwrap_or_else(|| arch.into());
    Ok((rules, said.default, architectures))
}

/// The other ABIs of a machine for which LXC makes a filter; none if it makes none at all.
fn compat(arch: Arch) -> Option<&'static [Arch]> {
    match arch {
        Arch::X86_64 => Some(&[Arch::I386, Arch::X32]),
        Arch::Aarch64 => Some(&[Arch::Arm]),
        Arch::I386 | Arch::Arm | Arch::Ppc64le | Arch::S390x => Some(&[]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use strait_abi::KernelVersion;

    use super::*;
    use crate::Policy;
    use crate::format::decide;

    fn target() -> Target {
        Target::new(Arch::X86_64, KernelVersion::new(6, 18))
    }

    #[test]
    fn profiles_are_read() {
        let text = "2\ndenylist\nreject_force_umount  # comment\n[x86]\nkexec_load errno 1\n[s390]\nread\n\
            [all]\nioctl errno 7 [1,0x9400,SCMP_CMP_MASKED_EQ,0xff00]\nraed\n";
        let Imported { policy, notes } = import(text, &target()).unwrap();
        for (arch, call, args, action) in [
            (Arch::X86_64, "umount2", [0, 3, 0, 0, 0, 0], Action::Errno(13)),
            (Arch::X86_64, "umount2", [0, 2, 0, 0, 0, 0], Action::Allow),
            (Arch::X86_64, "kexec_load", [0; 6], Action::Errno(1)),
            (Arch::X32, "kexec_load", [0; 6], Action::Errno(1)),
            (Arch::I386, "kexec_load", [0; 6], Action::Errno(1)),
            (Arch::I386, "ioctl", [0, 0x1234_9401, 0, 0, 0, 0], Action::Errno(7)),
            (Arch::X86_64, "read", [0; 6], Action::Allow),
            (Arch::Aarch64, "read", [0; 6], Action::KillThread),
        ] {
            assert_eq!(decide(&policy, arch, call, args), action, "{call} on {arch}");
        }
        let notes: Vec<String> =
            notes.iter().map(|note| format!("{}: {}", note.place.unwrap(), note.message)).collect();
        assert!(notes[0].starts_with("line 4, column 1: LXC takes the rules"), "{notes:?}");
        assert!(notes[1].starts_with("line 6, column 1: LXC skips this section"), "{notes:?}");
        assert!(notes[2].contains("did you mean `read`?"), "{notes:?}");
    }

    #[test]
    fn faults_are_pointed_at() {
        for (text, message) in [
            ("", "begins with a line that is 1 or 2"),
            ("2\n", "allowlist or denylist must follow"),
            ("2\ngraylist\n", "line 2, column 1: this line begins with"),
            ("2\ndenylist\nread errno EPERM\n", "line 3, column 1: `errno` takes a number"),
            ("2\ndenylist\nread [0,1,==]\n", "`[0,1,==]` is no known action"),
            ("2\ndenylist\nread kil\n", "did you mean `kill`?"),
            ("2\ndenylist\nread kill [0,1,=]\n", "a condition is [index,value,op]"),
            ("2\ndenylist\nread kill [0,1,==] #\n", "behind the last condition"),
            ("2\ndenylist\nread allow\n", "what is done anyway"),
            ("2\ndenylist\n[x68]\n", "did you mean `[x86]`?"),
            ("1\nallowlist\nread\n", "the number of a call on each line"),
        ] {
            let error = import(text, &target()).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn profiles_are_written_and_read_back() {
        for text in [
            "1\nallowlist\n0\n1\n60\n",
            "2\nallowlist errno 1\nread\nwrite\nclone3 errno 38\npersonality allow [0,8,==]\n",
            "2\ndenylist\nkexec_load errno 1\nreboot\nioctl errno 1 [1,0x5412,&=,0xffffffff]\n",
            "2\nallowlist trap\nread\nptrace notify\nmmap kill [2,4,>]\n",
        ] {
            let policy = import(text, &target()).unwrap().policy;
            let exported = export(&policy, &target()).unwrap();
            let again = import(&exported.text, &target()).unwrap().policy;
            let decision = |policy: &Policy| policy.lower().unwrap().decision().unwrap();
            let compared = decision(&policy).compare(&decision(&again)).unwrap();
            assert_eq!(compared.differences, [], "{}", exported.text);
            assert_eq!(exported.losses, [], "{}", exported.text);
        }
    }
}
