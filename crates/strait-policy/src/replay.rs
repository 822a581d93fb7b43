//! Replaying: what a policy would have denied of what was recorded.

use std::collections::BTreeMap;

use strait_abi::Arch;
use strait_bpf::Action;

use crate::explain::holds;
use crate::principle::PROBED;
use crate::recording::Recording;
use crate::rules::{Chain, Rules};

/// A recorded call that rules would not have let pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The program file that made it.
    pub image: String,
    /// The ABI by which it came in.
    pub arch: Arch,
    /// Its number.
    pub nr: u32,
    /// How often it was made.
    pub count: u64,
    /// What it would have got.
    pub action: Action,
    /// Whether every such call would have got that; if not, its arguments decide, and they were
    /// not recorded.
    pub certain: bool,
    /// Whether libraries do without the call when they get this answer.
    pub falls_back: bool,
}

/// What `rules` would have denied of a recording, by image, ABI and number. A call that the kernel
/// answered with an errno every time is denied by rules only if they answer it otherwise.
pub fn replay(rules: &Rules, recording: &Recording) -> Vec<Denial> {
    let mut denials: BTreeMap<(String, Arch, u32), Denial> = BTreeMap::new();
    for call in recording.calls() {
        let always = Chain::from(rules.foreign());
        let chain =
            rules.table(call.arch.audit_arch()).map_or(&always, |table| table.chain(call.nr));
        let outcomes = possible(chain);
        let denied = |action: &&Action| match **action {
            Action::Allow | Action::Log => false,
            Action::Errno(errno) => call.outcomes.errnos.get(&errno) != Some(&call.outcomes.count),
            _ => true,
        };
        let Some(&action) = outcomes.iter().find(denied) else { continue };
        let image = recording.images()[call.image].path.clone();
        let name = call.syscall().map_or("", |syscall| syscall.name());
        let denial = Denial {
            image: image.clone(),
            arch: call.arch,
            nr: call.nr,
            count: call.outcomes.count,
            action,
            certain: outcomes.len() == 1,
            falls_back: action == Action::Errno(38)
                && PROBED.iter().any(|(probed, _)| *probed == name),
        };
        denials.insert((image, call.arch, call.nr), denial);
    }
    denials.into_values().collect()
}

/// Everything that a chain can answer when nothing is known of the arguments, the last first.
fn possible(chain: &Chain) -> Vec<Action> {
    let mut actions = Vec::new();
    let always = chain.arms.iter().position(|arm| holds(&arm.when, &[None; 6]) == Some(true));
    let arms = always.map_or(&chain.arms[..], |index| &chain.arms[..=index]);
    let open = arms.iter().filter(|arm| holds(&arm.when, &[None; 6]) != Some(false));
    actions.extend(open.map(|arm| arm.action));
    actions.extend(always.is_none().then_some(chain.otherwise));
    actions.reverse();
    actions.dedup();
    actions
}

#[cfg(test)]
mod tests {
    use strait_abi::Syscall;

    use super::*;
    use crate::Policy;
    use crate::recording::{Engine, Outcomes};

    #[test]
    fn what_would_be_denied_is_named_with_its_answer() {
        let engine = Engine { name: "ptrace".into(), reason: "test".into() };
        let mut recording = Recording::builder(engine, "6.18.1");
        let nr = |name| Syscall::from_name(name).unwrap().number(Arch::X86_64).unwrap();
        let good = Outcomes { count: 2, succeeded: 2, ..Outcomes::default() };
        let probe = Outcomes { count: 2, errnos: [(38, 2)].into(), ..Outcomes::default() };
        for (name, outcomes) in [
            ("read", &good),
            ("mount", &good),
            ("clone3", &good),
            ("rseq", &probe),
            ("write", &good),
        ] {
            recording.call("/bin/x", Arch::X86_64, nr(name), outcomes);
        }
        recording.call("/bin/y", Arch::I386, 3, &good);
        let recording = recording.build();
        let policy = Policy::parse(
            "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec: {architectures: [x86_64],\
             default: errno(EPERM), rules: [{syscalls: [read], action: allow},\
             {syscalls: [write], when: fd == 1, action: allow},\
             {syscalls: [clone3, rseq], action: errno(ENOSYS)}]}",
        );
        let denials = replay(&policy.unwrap().lower().unwrap(), &recording);
        let seen: Vec<_> = denials
            .iter()
            .map(|one| (one.arch, one.nr, one.action, one.certain, one.falls_back))
            .collect();
        assert_eq!(
            seen,
            [
                (Arch::X86_64, nr("write"), Action::Errno(1), false, false),
                (Arch::X86_64, nr("mount"), Action::Errno(1), true, false),
                (Arch::X86_64, nr("clone3"), Action::Errno(38), true, true),
                (Arch::I386, 3, Action::KillProcess, true, false),
            ]
        );
    }
}
