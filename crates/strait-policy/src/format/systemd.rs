//! Units of systemd: `SystemCallFilter=` and the other settings that load seccomp filters.
//!
//! What systemd 252 loads is the reference, and its groups of calls (`@system-service`) are meant:
//!
//! - the first `SystemCallFilter=` says whether the list is of what is allowed, and then the group
//!   `@default` is in it too, or of what is not; later ones add to it and take from it;
//! - each setting is a filter of its own, for each ABI of the machine, and the most restrictive
//!   answer counts;
//! - what systemd does not understand it passes over with a warning;
//! - a call of another ABI is allowed, unless `SystemCallArchitectures=` says otherwise.
//!
//! Settings that have nothing to do with system calls are not looked at.

mod export;
mod group;
mod install;
mod settings;
mod unit;

use strait_abi::Arch;
use strait_bpf::Action;

pub use export::export;

use super::{Codec, FormatError, Imported, Note, Target, as_text};
use crate::policy::Architectures;
use crate::raise::raise;
use crate::rules::{Rules, Table};
use crate::text::{LineIndex, check_size};

pub(super) const CODEC: Codec = Codec {
    name: "systemd",
    recognises: |sample| {
        let mut lines = sample.text.lines().map(str::trim);
        lines.any(|line| matches!(line, "[Service]" | "[Unit]" | "[Socket]" | "[Mount]" | "[Swap]"))
    },
    import: |bytes, target| import(as_text(bytes)?, target),
    export,
};

/// What systemd would install for a unit on the target, as a policy.
///
/// # Errors
/// If the text is no unit.
pub fn import(text: &str, target: &Target) -> Result<Imported, FormatError> {
    check_size(text).map_err(|fault| fault.in_text(text))?;
    let mut notes = Vec::new();
    let assignments = unit::read(text, &mut notes).map_err(|fault| fault.in_text(text))?;
    let (arch, library) = (target.arch, target.library);
    let mut reader = settings::Reader { arch, library, notes: &mut notes, expanded: 0 };
    let settings = reader.settings(&assignments).map_err(|fault| fault.in_text(text))?;
    let rules = install::rules(&settings, arch, library);
    let (rules, architectures) = split(rules, arch);
    let policy = raise(&rules, architectures, install::default(&settings), None)?;
    let index = LineIndex::new(text);
    let note = |(span, message)| Note { place: Some(index.place(span)), message };
    let mut notes: Vec<Note> = notes.into_iter().map(note).collect();
    notes.sort();
    Ok(Imported { policy, notes })
}

/// The rules without tables that say no more than that a call is foreign, and the ABIs that are
/// left.
fn split(rules: Rules, native: Arch) -> (Rules, Architectures) {
    let foreign = rules.foreign();
    let says_more = |arch: Arch| {
        let table = rules.table(arch.audit_arch());
        let own = |first: u32, last: u32| match arch {
            Arch::X86_64 => first < Arch::X32_BIT,
            Arch::X32 => first < 2 * Arch::X32_BIT && last >= Arch::X32_BIT,
            _ => true,
        };
        let says = |table: &Table| {
            table.spans().any(|(first, last, chain)| {
                own(first, last) && (!chain.arms.is_empty() || chain.otherwise != foreign)
            })
        };
        foreign == Action::Allow || table.is_some_and(says)
    };
    let mut arches: Vec<Arch> = install::local_arches(native);
    arches.extend(Arch::ALL.iter().filter(|arch| rules.table(arch.audit_arch()).is_some()));
    arches.retain(|arch| *arch == native || says_more(*arch));
    let mut kept = Rules::new(foreign);
    for (arch, table) in rules.tables() {
        if arches.iter().any(|known| known.audit_arch() == arch) {
            kept = kept.with_table(arch, table.clone());
        }
    }
    (kept, Architectures::new(arches).unwrap_or_else(|| native.into()))
}

#[cfg(test)]
mod tests {
    use strait_abi::KernelVersion;

    use super::*;
    use crate::Policy;
    use crate::format::decide;

    fn target() -> Target {
        let mut target = Target::new(Arch::X86_64, KernelVersion::new(6, 18));
        target.library = Some(KernelVersion::new(6, 7));
        target
    }

    fn unit(settings: &str) -> Imported {
        import(&format!("[Service]\n{settings}\n"), &target()).unwrap()
    }

    #[test]
    fn units_are_read() {
        let policy = unit(
            "SystemCallArchitectures=native\nSystemCallFilter=@system-service\n\
             SystemCallFilter=~@resources kcmp:ENOSYS\nSystemCallErrorNumber=EPERM\n\
             RestrictAddressFamilies=AF_UNIX\nMemoryDenyWriteExecute=yes",
        )
        .policy;
        assert_eq!(policy.architectures.iter().collect::<Vec<_>>(), [Arch::X86_64]);
        assert_eq!((policy.default, policy.foreign), (Action::Errno(1), Action::KillThread));
        let decide = |call, args| decide(&policy, Arch::X86_64, call, args);
        assert_eq!(decide("openat", [0; 6]), Action::Allow);
        assert_eq!(decide("setpriority", [0; 6]), Action::Errno(1));
        assert_eq!(decide("kcmp", [0; 6]), Action::Errno(38));
        assert_eq!(decide("socket", [1, 0, 0, 0, 0, 0]), Action::Allow);
        assert_eq!(decide("socket", [2, 0, 0, 0, 0, 0]), Action::Errno(97));
        assert_eq!(decide("mmap", [0, 0, 7, 0, 0, 0]), Action::Errno(1));
    }

    #[test]
    fn what_systemd_passes_over_is_said() {
        for (settings, message) in [
            ("SystemCallFilter=raed", "line 2, column 18: `raed` is no system call"),
            ("SystemCallFilter=~x @file-sytem", "did you mean `@file-system`?"),
            ("SystemCallFilter=read:EPERM", "it takes no errno"),
            ("SystemCallFilter=~read:EPREM", "did you mean `EPERM`?"),
            ("SystemCallErrorNumber=0", "`0` is no errno"),
            ("SystemCallArchitectures=x86_64", "did you mean `x86-64`?"),
            ("RestrictAddressFamilies=AF_INT", "did you mean `AF_INET`?"),
            ("RestrictNamespaces=users", "did you mean `user`?"),
            ("MemoryDenyWriteExecute=", "neither yes nor no"),
            ("Personality=x87", "no personality"),
            ("SystemCallFilters=read", "not `SystemCallFilter`"),
            ("[Sevrice]", "did you mean `Service`?"),
        ] {
            let notes = unit(settings).notes;
            let said = |note: &Note| format!("{}: {}", note.place.unwrap(), note.message);
            assert!(notes.iter().any(|note| said(note).contains(message)), "{settings}: {notes:?}");
        }
        assert_eq!(unit("Description=x\nExecStart=/bin/true").notes, []);
    }

    #[test]
    fn what_systemd_does_not_start_is_refused() {
        for (settings, message) in [
            ("DynamicUser=maybe", "yes or no"),
            ("SystemCallFilter=read\nSystemCallFilter=~read:kill", "leave the errno out"),
        ] {
            let error = import(&format!("[Service]\n{settings}\n"), &target()).unwrap_err();
            assert!(error.to_string().contains(message), "{error}");
        }
    }

    /// systemd does not start a unit in which a call is refused by a word of its own as all others are.
    #[test]
    fn what_is_refused_as_the_rest_is_written_without_a_refusal_of_its_own() {
        for (default, action, lost) in [
            (Action::KillProcess, Action::KillThread, 1),
            (Action::Trap(0), Action::KillThread, 1),
            (Action::Notify, Action::KillProcess, 0),
            (Action::Errno(1), Action::Errno(1), 0),
            (Action::Errno(0), Action::KillProcess, 0),
            (Action::KillProcess, Action::Errno(0), 0),
        ] {
            let mut policy = Policy::new(Arch::X86_64.into(), default);
            policy.foreign = Action::KillThread;
            // One that systemd allows unasked, and one that it does not.
            for call in ["futex", "personality"] {
                let call = strait_abi::Syscall::from_name(call);
                policy.rules.push(crate::policy::Rule::new(call, action));
            }
            let exported = export(&policy, &target()).unwrap();
            let again = import(&exported.text, &target()).unwrap().policy;
            for call in ["futex", "personality"] {
                let installed = decide(&again, Arch::X86_64, call, [0; 6]);
                assert!(!installed.lets_pass(), "{call}\n{}", exported.text);
                let nr = strait_abi::Syscall::from_name(call).unwrap().number(Arch::X86_64);
                let is_listed = exported.losses.iter().any(|loss| {
                    nr.is_some_and(|nr| (loss.calls.0..=loss.calls.1).contains(&nr))
                        && loss.first == action
                        && loss.second == installed
                });
                assert_eq!(is_listed, lost == 1, "{call}\n{}", exported.text);
            }
        }
    }

    #[test]
    fn units_are_written_and_read_back() {
        for settings in [
            "SystemCallFilter=~@mount:ENOSYS @clock:EPERM reboot:kill",
            "SystemCallFilter=@system-service\nSystemCallErrorNumber=EPERM",
            "SystemCallFilter=@system-service\nSystemCallFilter=~kcmp:ENOSYS\nSystemCallArchitectures=native",
            "SystemCallFilter=read\nSystemCallErrorNumber=EPERM\nRestrictAddressFamilies=AF_UNIX AF_INET",
            "SystemCallFilter=@system-service\nRestrictNamespaces=yes\nMemoryDenyWriteExecute=yes\n\
             RestrictRealtime=yes\nLockPersonality=yes\nRestrictSUIDSGID=yes\nRestrictAddressFamilies=none\n\
             SystemCallArchitectures=native",
            "RestrictNamespaces=~user mnt\nRestrictAddressFamilies=~AF_PACKET",
            "SystemCallLog=@file-system",
            "SystemCallLog=~read write",
            "SystemCallFilter=@system-service\nSystemCallLog=@file-system\nSystemCallErrorNumber=EACCES",
        ] {
            let policy = unit(settings).policy;
            let exported = export(&policy, &target()).unwrap();
            let again = import(&exported.text, &target()).unwrap();
            let decision = |policy: &Policy| policy.lower().unwrap().decision().unwrap();
            let compared = decision(&policy).compare(&decision(&again.policy)).unwrap();
            assert_eq!(compared.differences, [], "{settings}\n{}", exported.text);
            assert_eq!(exported.losses, []);
            assert_eq!(again.notes, []);
        }
    }
}
