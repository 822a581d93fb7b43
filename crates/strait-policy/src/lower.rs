//! Lowering: what a policy means, as [`Rules`].
//!
//! For each ABI of the policy, and each number of a call on it, in this order:
//!
//! 1. of the rules that name the call and are for the ABI, the first whose condition holds;
//! 2. a set of `include` that has the call: allow;
//! 3. `unknown.action`, if the call is newer than `unknown.after`;
//! 4. `default`.
//!
//! A number that no known call has is newer than `unknown.after` if it is greater than every
//! number that was a call then; otherwise it is a hole, and gets `default`.
//!
//! What belongs to no ABI of the policy gets kill-process: other audit arches, numbers with the
//! x32 bit, or without it where only x32 is listed, and numbers that are negative to the kernel.

use std::collections::BTreeMap;

use strait_abi::{Arch, KernelVersion, Syscall};
use strait_bpf::Action;

use crate::policy::{Policy, Rule};
use crate::rules::{Chain, Rules, Table};
use crate::text::nearest;

/// Why a policy has no rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LowerError {
    /// A set that is not known.
    #[error("`{name}` is no known set{}", .nearest.as_ref().map(|name| format!("; did you mean `{name}`?")).unwrap_or_default())]
    UnknownSet {
        /// The set.
        name: String,
        /// One that it may be meant to be.
        nearest: Option<String>,
    },
}

/// What belongs to no ABI of a policy.
const FOREIGN: Action = Action::KillProcess;
/// Where numbers begin that are negative to the kernel, which has them as `int`.
const NEGATIVE: u32 = 0x8000_0000;
/// Where arm's private calls begin (`arch/arm/include/uapi/asm/unistd.h`, `__ARM_NR_BASE`).
const ARM_PRIVATE: u32 = 0x000f_0000;

impl Policy {
    /// What the policy means, for all of its ABIs.
    ///
    /// # Errors
    /// If it names something that cannot be resolved.
    pub fn lower(&self) -> Result<Rules, LowerError> {
        if let Some(name) = self.include.first() {
            let nearest = nearest(name, []);
            return Err(LowerError::UnknownSet { name: name.clone(), nearest });
        }
        let mut rules = Rules::new(FOREIGN);
        for arch in self.architectures.iter() {
            let table = rules.table(arch.audit_arch()).cloned();
            let mut table = table.unwrap_or_else(|| Table::new(FOREIGN));
            self.fill(&mut table, arch);
            rules = rules.with_table(arch.audit_arch(), table);
        }
        Ok(rules)
    }

    /// Gives every number of `arch` what the policy says of it.
    fn fill(&self, table: &mut Table, arch: Arch) {
        let (first, last) = range(arch);
        table.set(first, last, self.default);
        if let Some(unknown) = self.unknown {
            let newest_old = Syscall::all()
                .filter(|call| !is_newer(*call, unknown.after))
                .filter_map(|call| call.number(arch))
                .filter(|nr| arch != Arch::Arm || *nr < ARM_PRIVATE)
                .max();
            table.set(newest_old.map_or(first, |nr| nr + 1), last, unknown.action);
        }
        let mut names: BTreeMap<u32, Vec<Syscall>> = BTreeMap::new();
        for call in Syscall::all() {
            if let Some(nr) = call.number(arch) {
                names.entry(nr).or_default().push(call);
            }
        }
        for (nr, names) in names {
            table.set(nr, nr, self.chain(&names, arch));
        }
    }

    /// What one number gets on one ABI: a call that a few ABIs have under two names, and a rule
    /// that has either is about it.
    fn chain(&self, names: &[Syscall], arch: Arch) -> Chain {
        let applies = |rule: &Rule| names.iter().any(|&call| rule.applies_to(call, arch));
        let rule = self.rules.iter().find(|rule| applies(rule));
        let fallback = match self.unknown {
            Some(unknown) if names.iter().all(|&call| is_newer(call, unknown.after)) => {
                unknown.action
            }
            _ => self.default,
        };
        Chain::from(rule.map_or(fallback, |rule| rule.action))
    }
}

/// The numbers that belong to an ABI, of those that its audit arch has.
fn range(arch: Arch) -> (u32, u32) {
    match arch {
        Arch::X86_64 => (0, Arch::X32_BIT - 1),
        Arch::X32 => (Arch::X32_BIT, NEGATIVE - 1),
        _ => (0, NEGATIVE - 1),
    }
}

/// Whether the call appeared in a later kernel than `after`: not known yet, so every call that has
/// a name here is taken to be old.
fn is_newer(_call: Syscall, _after: KernelVersion) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use strait_bpf::SeccompData;

    use super::*;
    use crate::policy::Architectures;

    fn decide(policy: &str, arch: Arch, nr: u32) -> Action {
        let rules = Policy::parse(policy).unwrap().lower().unwrap();
        let arch = arch.audit_arch();
        rules.decide(&SeccompData { nr, arch, instruction_pointer: 0, args: [0; 6] })
    }

    fn policy(spec: &str) -> String {
        format!("apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec: {spec}\n")
    }

    #[test]
    fn what_belongs_to_no_listed_abi_ends_the_process() {
        let only = policy("{architectures: [x86_64], default: log}");
        assert_eq!(decide(&only, Arch::X86_64, 0), Action::Log);
        assert_eq!(decide(&only, Arch::X86_64, Arch::X32_BIT - 1), Action::Log);
        assert_eq!(decide(&only, Arch::X86_64, Arch::X32_BIT), Action::KillProcess);
        assert_eq!(decide(&only, Arch::X86_64, u32::MAX), Action::KillProcess);
        assert_eq!(decide(&only, Arch::I386, 0), Action::KillProcess);
        let x32 = policy("{architectures: [x32], default: log}");
        assert_eq!(decide(&x32, Arch::X86_64, 0), Action::KillProcess);
        assert_eq!(decide(&x32, Arch::X86_64, Arch::X32_BIT), Action::Log);
        let both = policy("{architectures: [x86_64, x32], default: log}");
        assert_eq!(decide(&both, Arch::X86_64, 0), Action::Log);
        assert_eq!(decide(&both, Arch::X86_64, Arch::X32_BIT), Action::Log);
        assert_eq!(decide(&both, Arch::X86_64, 0x8000_0000), Action::KillProcess);
    }

    #[test]
    fn the_first_rule_that_applies_decides_on_each_abi_for_itself() {
        let text = policy(
            "{architectures: [x86_64, i386], default: log, rules: [\
             {syscalls: [read], arch: [i386], action: kill-thread},\
             {syscalls: [read], action: allow}, {syscalls: [read], action: notify}]}",
        );
        assert_eq!(decide(&text, Arch::X86_64, 0), Action::Allow);
        assert_eq!(decide(&text, Arch::I386, 3), Action::KillThread);
        assert_eq!(decide(&text, Arch::I386, 0), Action::Log);
    }

    #[test]
    fn a_second_name_of_a_number_is_the_same_call() {
        for name in ["sync_file_range2", "arm_sync_file_range"] {
            let rules = format!("rules: [{{syscalls: [{name}], action: allow}}]");
            let text = policy(&format!("{{architectures: [arm], default: log, {rules}}}"));
            let nr = Syscall::from_name(name).unwrap().number(Arch::Arm).unwrap();
            assert_eq!(decide(&text, Arch::Arm, nr), Action::Allow, "{name}");
        }
    }

    #[test]
    fn numbers_beyond_those_known_are_unknown() {
        let text = policy(
            "{architectures: [x86_64], default: log, unknown: {after: \"6.18\", action: notify}}",
        );
        assert_eq!(decide(&text, Arch::X86_64, 100_000), Action::Notify);
        assert_eq!(decide(&text, Arch::X86_64, 400), Action::Log);
        assert_eq!(decide(&text, Arch::X86_64, 0), Action::Log);
    }

    #[test]
    fn every_abi_can_be_listed() {
        let architectures = Architectures::new(Arch::ALL.iter().copied()).unwrap();
        let mut policy = Policy::new(architectures, Action::Errno(1));
        policy.rules.push(Rule::new(Syscall::all(), Action::Allow));
        let rules = policy.lower().unwrap();
        for &arch in Arch::ALL {
            for call in Syscall::all() {
                if let Some(nr) = call.number(arch) {
                    let table = rules.table(arch.audit_arch()).unwrap();
                    assert_eq!(table.chain(nr).otherwise, Action::Allow, "{call} of {arch}");
                }
            }
        }
    }
}
