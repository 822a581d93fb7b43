//! Lowering: what a policy means, as [`Rules`].
//!
//! For each number that a call can have, on each audit arch of the policy, in this order:
//!
//! 0. what `exec`, `isolation` and `network` close, whatever the rules say;
//! 1. of the rules that are for the ABI and have the call, by name or by number, the first whose
//!    condition holds for the arguments;
//! 2. `foreign`, if the number belongs to no ABI of the policy: it has the x32 bit where x32 is
//!    not listed, or has not where only x32 is, or is negative to the kernel;
//! 3. a set of `include` that has the call: allow;
//! 4. `unknown.action`, if the call is newer than `unknown.after`. A number that is no known call
//!    is newer if it is greater than the number of every call that is not; otherwise it is a hole;
//! 5. `default`.
//!
//! Where `network` has a supervisor decide, what would let a call pass has it notified instead.
//!
//! Every other audit arch gets `foreign`.

use std::collections::{BTreeMap, BTreeSet};

use strait_abi::{Arch, AuditArch, KernelVersion, Syscall};
use strait_bpf::Action;

use crate::closing::{Narrowed, closings, narrowed};
use crate::policy::{Policy, Rule};
use crate::rules::{Arm, Chain, Condition, Rules, Table};
use crate::sets::Set;
use crate::text::nearest;
use crate::when::WhenError;

/// Why a policy has no rules.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
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
    /// A condition that has no meaning for a call that it is about.
    #[error("the condition of rule {rule} means nothing for call {nr} of {arch}")]
    When {
        /// Index of the rule, from 0.
        rule: usize,
        /// The number of the call.
        nr: u32,
        /// The ABI.
        arch: Arch,
        /// Why.
        source: WhenError,
    },
}

/// Where numbers begin that are negative to the kernel, which has them as `int`.
const NEGATIVE: u32 = 0x8000_0000;
impl Policy {
    /// What the policy means, for all of its ABIs.
    ///
    /// # Errors
    /// If it names something that cannot be resolved.
    pub fn lower(&self) -> Result<Rules, LowerError> {
        self.check_sets()?;
        let audit_arches: BTreeSet<AuditArch> =
            self.architectures.iter().map(Arch::audit_arch).collect();
        let mut rules = Rules::new(self.foreign);
        for audit_arch in audit_arches {
            let scope = Scope::new(self, audit_arch);
            let spans = scope.spans().into_iter();
            let chains = spans.map(|(first, _)| Ok((first, scope.chain(first)?)));
            let table = Table::from_ascending(chains.collect::<Result<Vec<_>, LowerError>>()?);
            rules = rules.with_table(audit_arch, table);
        }
        Ok(rules)
    }

    /// What each of some numbers of an audit arch gets, in the order in which it is tried.
    pub(crate) fn steps(
        &self,
        arch: AuditArch,
        numbers: impl IntoIterator<Item = u32>,
    ) -> Result<Vec<Vec<Step>>, LowerError> {
        self.check_sets()?;
        let scope = Scope::new(self, arch);
        let foreign = || vec![Step { when: None, action: self.foreign, because: Because::Foreign }];
        let steps = |nr| if scope.abis.is_empty() { Ok(foreign()) } else { scope.steps(nr) };
        numbers.into_iter().map(steps).collect()
    }

    fn check_sets(&self) -> Result<(), LowerError> {
        match self.include.iter().find(|name| Set::from_name(name).is_none()) {
            None => Ok(()),
            Some(name) => {
                let nearest = nearest(name, Set::ALL.iter().map(Set::name));
                Err(LowerError::UnknownSet { name: name.clone(), nearest })
            }
        }
    }
}

/// One thing that is tried for a number.
pub(crate) struct Step {
    /// When it applies; always if there is none.
    pub(crate) when: Option<Condition>,
    /// What is done then.
    pub(crate) action: Action,
    /// Which part of the policy says so.
    pub(crate) because: Because,
}

/// Which part of a policy decides on a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Because {
    /// `exec`: the call would go around what may be executed.
    Exec,
    /// `isolation`: the call reaches other processes.
    Isolation,
    /// `network`: the call leads to an address, or goes around those that are decided.
    Network,
    /// A rule, by its index from 0.
    Rule(usize),
    /// `foreign`: the call belongs to no ABI of the policy.
    Foreign,
    /// A set of `include`, by its index from 0.
    Include(usize),
    /// `unknown`: the call is newer than the policy.
    Unknown,
    /// `default`.
    Default,
}

/// One audit arch of a policy.
struct Scope<'a> {
    policy: &'a Policy,
    /// What stands before the rules.
    closings: Vec<(Because, Rule)>,
    /// The ABIs of the policy that it carries; only x86_64 carries two.
    abis: Vec<Arch>,
    /// The calls that they have, in the order of their numbers: a few numbers have two names.
    names: Vec<(u32, Syscall)>,
    /// For each ABI the greatest number that is not newer than `unknown.after`.
    newest: BTreeMap<Arch, u32>,
}

impl<'a> Scope<'a> {
    fn new(policy: &'a Policy, audit_arch: AuditArch) -> Scope<'a> {
        let abis = policy.architectures.iter().filter(|arch| arch.audit_arch() == audit_arch);
        let abis: Vec<Arch> = abis.collect();
        let mut scope = Scope {
            policy,
            closings: closings(policy),
            abis,
            names: Vec::new(),
            newest: BTreeMap::new(),
        };
        for &arch in &scope.abis {
            let numbered = |call: Syscall| Some((call.number(arch)?, call));
            scope.names.extend(Syscall::all().filter_map(numbered));
            if let Some(unknown) = policy.unknown {
                scope.newest.insert(arch, arch.last_number(unknown.after));
            }
        }
        scope.names.sort_by_key(|(nr, _)| *nr);
        scope
    }

    /// The calls that have a number.
    fn names(&self, nr: u32) -> &[(u32, Syscall)] {
        let from = &self.names[self.names.partition_point(|(other, _)| *other < nr)..];
        &from[..from.iter().take_while(|(other, _)| *other == nr).count()]
    }

    /// Ranges of numbers that together are all, and in each of which all numbers get the same.
    fn spans(&self) -> Vec<(u32, u32)> {
        let mut starts = vec![0, Arch::X32_BIT, NEGATIVE];
        let named = self.names.iter().map(|(nr, _)| nr);
        for &nr in named.chain(self.newest.values()) {
            starts.extend([Some(nr), nr.checked_add(1)].into_iter().flatten());
        }
        for (first, last) in self.policy.rules.iter().flat_map(|rule| rule.numbers.ranges()) {
            starts.extend([Some(first), last.checked_add(1)].into_iter().flatten());
        }
        starts.sort_unstable();
        starts.dedup();
        let ends = starts.iter().skip(1).map(|next| next - 1).chain([u32::MAX]);
        starts.iter().copied().zip(ends).collect()
    }

    /// The ABI that a number belongs to.
    fn abi(&self, nr: u32) -> Option<Arch> {
        let has_x32_bit = nr & Arch::X32_BIT != 0;
        self.abis.iter().copied().filter(|_| nr < NEGATIVE).find(|arch| match arch {
            Arch::X86_64 => !has_x32_bit,
            Arch::X32 => has_x32_bit,
            _ => true,
        })
    }

    /// What a number gets.
    fn chain(&self, nr: u32) -> Result<Chain, LowerError> {
        let mut arms = Vec::new();
        let when = |when, action, _| arms.push(Arm { when, action });
        let (otherwise, _) = self.decide(nr, when)?;
        Ok(Chain { arms, otherwise })
    }

    /// What a number gets, in the order in which it is tried; the last step, and only that, has no
    /// condition.
    fn steps(&self, nr: u32) -> Result<Vec<Step>, LowerError> {
        let mut steps = Vec::new();
        let when = |when, action, because| {
            steps.push(Step { when: Some(when), action, because });
        };
        let (action, because) = self.decide(nr, when)?;
        steps.push(Step { when: None, action, because });
        Ok(steps)
    }

    /// What a number gets if no condition holds, where `network` narrows what is let pass; the
    /// conditions are handed over in the order in which they are tried.
    fn decide(
        &self,
        nr: u32,
        mut when_holds: impl FnMut(Condition, Action, Because),
    ) -> Result<(Action, Because), LowerError> {
        let names = self.names(nr).iter().map(|(_, call)| *call);
        let notified = (Action::Notify, Because::Network);
        match narrowed(self.policy, names) {
            None => self.decide_unnarrowed(nr, when_holds),
            Some(Narrowed::Always) => {
                let narrow = |action: Action, because| {
                    if action.lets_pass() { notified } else { (action, because) }
                };
                let (action, because) = self.decide_unnarrowed(nr, |when, action, because| {
                    let (action, because) = narrow(action, because);
                    when_holds(when, action, because);
                })?;
                Ok(narrow(action, because))
            }
            Some(Narrowed::When(condition)) => {
                let (action, because) = self.decide_unnarrowed(nr, |when, action, because| {
                    if action.lets_pass() {
                        let both = Condition::All(vec![when.clone(), condition.clone()]);
                        when_holds(both, Action::Notify, Because::Network);
                    }
                    when_holds(when, action, because);
                })?;
                if action.lets_pass() {
                    when_holds(condition, Action::Notify, Because::Network);
                }
                Ok((action, because))
            }
        }
    }

    /// What a number gets if no condition holds; the conditions are handed over in the order in which
    /// they are tried.
    fn decide_unnarrowed(
        &self,
        nr: u32,
        mut when_holds: impl FnMut(Condition, Action, Because),
    ) -> Result<(Action, Because), LowerError> {
        let abi = self.abi(nr);
        let names = self.names(nr);
        let closings = self.closings.iter().map(|(because, rule)| (*because, rule));
        let rules = self.policy.rules.iter().enumerate();
        let rules = rules.map(|(index, rule)| (Because::Rule(index), rule));
        for (index, (because, rule)) in closings.chain(rules).enumerate() {
            let named = abi.and_then(|arch| {
                let mut calls = names.iter().map(|(_, call)| *call);
                Some((arch, calls.find(|call| rule.applies_to(*call, arch))?))
            });
            let numbered = || {
                let arch = *self.abis.iter().find(|&&arch| rule.is_for(arch))?;
                rule.numbers.contains(nr).then_some(abi.unwrap_or(arch))
            };
            let (arch, call) = match (named, rule.numbers.is_empty()) {
                (Some((arch, call)), _) => (arch, Some(call)),
                (None, true) => continue,
                (None, false) => match numbered() {
                    Some(arch) => (arch, None),
                    None => continue,
                },
            };
            let Some(when) = &rule.when else {
                return Ok((rule.action, because));
            };
            let condition = match call {
                Some(call) => when.condition(call, arch),
                None => when.register_condition(arch),
            };
            let when = condition.map_err(|source| LowerError::When {
                rule: index.saturating_sub(self.closings.len()),
                nr,
                arch,
                source,
            })?;
            when_holds(when, rule.action, because);
        }
        Ok(self.otherwise(abi, nr, names))
    }

    /// What a number gets that no rule decides.
    fn otherwise(&self, abi: Option<Arch>, nr: u32, names: &[(u32, Syscall)]) -> (Action, Because) {
        let Some(arch) = abi else { return (self.policy.foreign, Because::Foreign) };
        let has = |name: &String| {
            Set::from_name(name)
                .is_some_and(|set| names.iter().any(|(_, call)| set.contains(*call)))
        };
        if let Some(index) = self.policy.include.iter().position(has) {
            return (Action::Allow, Because::Include(index));
        }
        let default = (self.policy.default, Because::Default);
        let Some(unknown) = self.policy.unknown else { return default };
        let newer = match names {
            [] => self.newest.get(&arch).is_none_or(|&newest| nr > newest),
            names => names.iter().all(|(_, call)| is_newer(*call, unknown.after)),
        };
        if newer { (unknown.action, Because::Unknown) } else { default }
    }
}

/// Whether the call appeared in a later kernel than `after`; calls of unknown age are old.
fn is_newer(call: Syscall, after: KernelVersion) -> bool {
    call.since().is_some_and(|since| since > after)
}

#[cfg(test)]
mod tests {
    use strait_bpf::SeccompData;

    use super::*;
    use crate::policy::{Architectures, Rule};

    fn decide(policy: &str, arch: Arch, nr: u32) -> Action {
        let rules = Policy::parse(policy).unwrap().lower().unwrap();
        let arch = arch.audit_arch();
        rules.decide(&SeccompData { nr, arch, instruction_pointer: 0, args: [0; 6] })
    }

    fn policy(spec: &str) -> String {
        format!("apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec: {spec}\n")
    }

    #[test]
    fn what_passes_and_leads_to_an_address_is_the_supervisors_to_decide() {
        let text = policy(
            "{architectures: [x86_64, i386], default: errno(EPERM), include: ['set:io'], \
             network: {connect: ['*:80']}, rules: [\
             {syscalls: [connect, io_uring_setup, socket], action: allow},\
             {syscalls: [bind], action: kill-process},\
             {syscalls: [sendto], when: 'flags == 0', action: log}]}",
        );
        let rules = Policy::parse(&text).unwrap().lower().unwrap();
        let decide = |call: &str, args: [u64; 6]| {
            let nr = Syscall::from_name(call).unwrap().number(Arch::X86_64).unwrap();
            let arch = Arch::X86_64.audit_arch();
            rules.decide(&SeccompData { nr, arch, instruction_pointer: 0, args })
        };
        assert_eq!(decide("connect", [0; 6]), Action::Notify);
        assert_eq!(decide("bind", [0; 6]), Action::KillProcess);
        assert_eq!(decide("listen", [0; 6]), Action::Errno(1));
        assert_eq!(decide("io_uring_setup", [0; 6]), Action::Errno(38));
        assert_eq!(decide("sendto", [0, 0, 0, 0, 7, 0]), Action::Notify);
        assert_eq!(decide("sendto", [0, 0, 0, 0, 1 << 32, 0]), Action::Notify);
        assert_eq!(decide("sendto", [0; 6]), Action::Log);
        assert_eq!(decide("sendto", [0, 0, 0, 1, 7, 0]), Action::Errno(1));
        for (socket, expected) in [
            ([1, 1, 0], Action::Allow),
            ([1, 5, 0], Action::Allow),
            ([2, 0o2000001, 0], Action::Allow),
            ([10, 2, 17], Action::Allow),
            ([2, 5, 0], Action::Errno(93)),
            ([2, 1, 262], Action::Errno(93)),
            ([2, 1, 132], Action::Errno(93)),
            ([2, 3, 0], Action::Errno(93)),
            ([16, 3, 0], Action::Errno(97)),
            ([17, 3, 0], Action::Errno(97)),
            ([40, 1, 0], Action::Errno(97)),
        ] {
            let [domain, kind, protocol] = socket;
            assert_eq!(decide("socket", [domain, kind, protocol, 0, 0, 0]), expected, "{socket:?}");
        }
        let socketcall = Syscall::from_name("socketcall").unwrap().number(Arch::I386).unwrap();
        let call = SeccompData::new(Arch::I386.audit_arch(), socketcall);
        assert_eq!(rules.decide(&call), Action::Errno(38));
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
    fn sets_allow_what_no_rule_decides() {
        let text = policy(
            "{architectures: [x86_64], default: errno(EPERM), include: ['set:io'], rules: [\
             {syscalls: [write], action: log}]}",
        );
        assert_eq!(decide(&text, Arch::X86_64, 0), Action::Allow);
        assert_eq!(decide(&text, Arch::X86_64, 1), Action::Log);
        assert_eq!(decide(&text, Arch::X86_64, 2), Action::Errno(1));
        let mut policy = Policy::parse(&text).unwrap();
        policy.include = vec!["set:oi".to_owned()];
        assert!(policy.lower().unwrap_err().to_string().contains("did you mean `set:io`?"));
    }

    #[test]
    fn numbers_reach_what_has_no_name_and_no_abi() {
        let text = policy(
            "{architectures: [x86_64], foreign: kill-thread, default: log, rules: [\
             {syscalls: [read], action: notify},\
             {numbers: [0, '400-401', 0xffffffff], arch: [x86_64], action: allow}]}",
        );
        assert_eq!(decide(&text, Arch::X86_64, 0), Action::Notify);
        assert_eq!(decide(&text, Arch::X86_64, 399), Action::Log);
        assert_eq!(decide(&text, Arch::X86_64, 400), Action::Allow);
        assert_eq!(decide(&text, Arch::X86_64, 402), Action::Log);
        assert_eq!(decide(&text, Arch::X86_64, u32::MAX), Action::Allow);
        assert_eq!(decide(&text, Arch::X86_64, u32::MAX - 1), Action::KillThread);
        assert_eq!(decide(&text, Arch::I386, 0), Action::KillThread);
        let read = Policy::parse(&text).unwrap();
        assert_eq!(Policy::parse(&read.to_string()).unwrap(), read);
    }

    #[test]
    fn conditions_are_tried_in_order() {
        let text = policy(
            "{architectures: [x86_64], default: log, rules: [\
             {syscalls: [read], when: 'arg0 == 3', action: notify},\
             {syscalls: [read], when: 'arg0 <= 3', action: allow}]}",
        );
        let rules = Policy::parse(&text).unwrap().lower().unwrap();
        let decide = |fd| {
            let arch = Arch::X86_64.audit_arch();
            let args = [fd, 0, 0, 0, 0, 0];
            rules.decide(&SeccompData { nr: 0, arch, instruction_pointer: 0, args })
        };
        assert_eq!([0, 3, 4].map(decide), [Action::Allow, Action::Notify, Action::Log]);
        assert_eq!(decide(1 << 32), Action::Log, "a register is compared as a whole");
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
            "{architectures: [x86_64], default: log, unknown: {after: \"6.11\", action: notify}}",
        );
        let nr = |name| Syscall::from_name(name).unwrap().number(Arch::X86_64).unwrap();
        // Of 6.11 and of 6.13; `uretprobe` (335) is of 6.11 though its number is far lower.
        assert_eq!(decide(&text, Arch::X86_64, nr("mseal")), Action::Log);
        assert_eq!(decide(&text, Arch::X86_64, nr("uretprobe")), Action::Log);
        assert_eq!(decide(&text, Arch::X86_64, nr("setxattrat")), Action::Notify);
        assert_eq!(decide(&text, Arch::X86_64, nr("uprobe")), Action::Notify);
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
