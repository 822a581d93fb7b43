//! Merging: a policy that lets pass what either of two policies does, with the reasons of both.

use std::collections::{BTreeMap, BTreeSet};

use strait_abi::{Arch, KernelVersion};
use strait_bpf::Action;

use crate::format::product::chain_products;
use crate::lower::LowerError;
use crate::network::Network;
use crate::policy::{Architectures, Exec, Necessity, Policy, Unknown};
use crate::raise::raise;
use crate::rules::{Arm, Chain, Condition, Rules, Table, Test};

/// Why two policies were not merged.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// One of them has no meaning.
    #[error(transparent)]
    Lower(#[from] LowerError),
    /// Both have conditions for one call, and together too many.
    #[error("the conditions of both policies for call {nr} of {arch} are too many to be joined")]
    TooIntricate {
        /// The number.
        nr: u32,
        /// The ABI.
        arch: Arch,
    },
}

impl Policy {
    /// The policy that gives every call the less restrictive of what this and `other` give it; of
    /// answers that are equally restrictive, the greater value. Ledgers are joined.
    ///
    /// Which of the two comes first only matters for the name and the identity.
    ///
    /// # Errors
    /// If one of them has no meaning, or conditions are too intricate to be combined.
    pub fn merge(&self, other: &Policy) -> Result<Policy, MergeError> {
        // Where sockets lead to is not in what is lowered for others: both lists are joined below.
        let bare = |policy: &Policy| Policy { network: None, ..policy.clone() }.lower();
        let (one, two) = (bare(self)?, bare(other)?);
        let arches: BTreeSet<Arch> =
            self.architectures.iter().chain(other.architectures.iter()).collect();
        let mut rules = Rules::new(self.foreign.max(other.foreign));
        for &arch in &arches {
            let foreign = |rules: &Rules| Table::new(rules.foreign());
            let table = |rules: &Rules| {
                rules.table(arch.audit_arch()).cloned().unwrap_or_else(|| foreign(rules))
            };
            rules = rules.with_table(arch.audit_arch(), tables(&table(&one), &table(&two), arch)?);
        }
        let architectures =
            Architectures::new(arches).unwrap_or_else(|| self.architectures.clone());
        let default = self.default.max(other.default);
        let unknown = newest(self.unknown, other.unknown);
        let mut merged = raise(&rules, architectures, default, unknown)?;
        merged.metadata = self.metadata.clone();
        merged.identity = self.identity.clone().or_else(|| other.identity.clone());
        // What only one of them asks for is not asked for where either will do.
        merged.isolation.other_processes =
            self.isolation.other_processes && other.isolation.other_processes;
        if self.steps == other.steps {
            merged.steps.clone_from(&self.steps);
        }
        if let (Some(one), Some(two)) = (&self.exec, &other.exec) {
            merged.exec = Some(Exec {
                allow: one.allow.union(&two.allow).cloned().collect(),
                shells: one.shells || two.shells,
                interpreters: one.interpreters || two.interpreters,
                strict: one.strict && two.strict,
                digests: match one.strict && two.strict {
                    true => one.digests.union(&two.digests).copied().collect(),
                    // Nobody looks at digests then; what has one is no longer on the list.
                    false => BTreeSet::new(),
                },
            });
        }
        if let (Some(one), Some(two)) = (&self.network, &other.network) {
            merged.network = Some(Network {
                connect: one.connect.union(&two.connect).copied().collect(),
                listen: one.listen.union(&two.listen).copied().collect(),
                unix: one.unix.union(&two.unix).cloned().collect(),
            });
        }
        let recordings: BTreeMap<&str, _> = self
            .recordings
            .iter()
            .chain(&other.recordings)
            .map(|source| (source.digest.as_str(), source))
            .collect();
        merged.recordings = recordings.into_values().cloned().collect();
        for (&call, reasons) in self.necessity.iter().chain(&other.necessity) {
            let known = merged.necessity.entry(call).or_default();
            for reason in reasons {
                if !known.contains(reason) {
                    known.push(reason.clone());
                }
            }
        }
        // Whichever policy came first, the ledger reads the same.
        merged.necessity.values_mut().for_each(|reasons| reasons.sort_by_key(order));
        Ok(merged)
    }
}

/// The order of reasons in a merged ledger.
fn order(reason: &Necessity) -> (u8, String) {
    let rank = match reason {
        Necessity::Observed(_) => 0,
        Necessity::Reachable(_) => 1,
        Necessity::NeededBy { .. } => 2,
        Necessity::Declared(_) => 3,
    };
    (rank, format!("{reason:?}"))
}

fn newest(one: Option<Unknown>, two: Option<Unknown>) -> Option<Unknown> {
    let (Some(one), Some(two)) = (one, two) else { return one.or(two) };
    let after: KernelVersion = one.after.max(two.after);
    Some(Unknown { after, action: one.action.max(two.action) })
}

fn tables(one: &Table, two: &Table, arch: Arch) -> Result<Table, MergeError> {
    let starts: BTreeSet<u32> = one.spans().chain(two.spans()).map(|(first, _, _)| first).collect();
    let mut merged = Table::new(Action::KillProcess);
    for first in starts {
        let chain = chains(one.chain(first), two.chain(first))
            .ok_or(MergeError::TooIntricate { nr: first, arch })?;
        merged.set(first, u32::MAX, chain);
    }
    Ok(merged)
}

/// The less restrictive of two chains, for each call; none if that is too intricate. Whichever
/// chain comes first, the result is the same.
fn chains(one: &Chain, two: &Chain) -> Option<Chain> {
    if one == two {
        return Some(one.clone());
    }
    let actions: BTreeSet<Action> = [one, two]
        .into_iter()
        .flat_map(|chain| chain.arms.iter().map(|arm| arm.action).chain([chain.otherwise]))
        .collect();
    // Either gives at least this much: for the most permissive first, then for all below it.
    let mut arms = Vec::new();
    for &action in actions.iter().rev() {
        let mut sum = at_least(one, action)?;
        sum.extend(at_least(two, action)?);
        if sum.iter().any(Vec::is_empty) {
            return Some(Chain { arms, otherwise: action });
        }
        let whole = sum.clone();
        sum.retain(|tests| {
            let implied = |other: &Vec<Test>| {
                other.len() < tests.len() && other.iter().all(|test| tests.contains(test))
            };
            !whole.iter().any(implied)
        });
        sum.sort();
        sum.dedup();
        let all =
            |tests: Vec<Test>| Condition::All(tests.into_iter().map(Condition::Test).collect());
        let when = Condition::Any(sum.into_iter().map(all).collect());
        arms.push(Arm { when, action });
    }
    unreachable!("both chains always give at least the most restrictive of their actions")
}

/// When a chain gives at least `action`, as products.
fn at_least(chain: &Chain, action: Action) -> Option<Vec<Vec<Test>>> {
    let (yes, no) = (Action::Allow, Action::KillProcess);
    let given = |given: Action| if given >= action { yes } else { no };
    let arm = |arm: &Arm| Arm { when: arm.when.clone(), action: given(arm.action) };
    let arms = chain.arms.iter().map(arm).collect();
    let chain = Chain { arms, otherwise: given(chain.otherwise) };
    let products = chain_products(&chain, no, None)?;
    Some(products.into_iter().map(|product| product.tests).collect())
}

#[cfg(test)]
mod tests {
    use strait_bpf::SeccompData;

    use super::*;
    use crate::recording::{Engine, Outcomes, Recording};
    use crate::{GenerateOptions, generate};

    fn policy(spec: &str) -> Policy {
        let head = "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec: ";
        Policy::parse(&format!("{head}{spec}\n")).unwrap()
    }

    #[test]
    fn what_either_lets_pass_passes_and_which_comes_first_is_all_one() {
        let one = policy(
            "{architectures: [x86_64], default: errno(EPERM), rules: [\
             {syscalls: [read], action: allow}, {syscalls: [write], when: fd == 1, action: allow},\
             {syscalls: [socket], when: domain == AF_UNIX, action: allow}]}",
        );
        let two = policy(
            "{architectures: [x86_64, i386], default: errno(ENOSYS), rules: [\
             {syscalls: [read], action: kill-process}, {syscalls: [write], action: log},\
             {syscalls: [socket], when: domain == AF_INET, action: allow},\
             {syscalls: [socket], when: domain == AF_UNIX, action: kill-thread}]}",
        );
        let (merged, reversed) = (one.merge(&two).unwrap(), two.merge(&one).unwrap());
        assert_eq!(merged.to_string(), reversed.to_string());
        let (ones, twos, both) =
            (one.lower().unwrap(), two.lower().unwrap(), merged.lower().unwrap());
        for arch in [Arch::X86_64, Arch::I386, Arch::Aarch64] {
            for nr in (0..480).chain([Arch::X32_BIT, u32::MAX]) {
                for word in [0, 1, 2, 3] {
                    let arch = arch.audit_arch();
                    let args = [word; 6];
                    let data = SeccompData { nr, arch, instruction_pointer: 0, args };
                    let expected = ones.decide(&data).max(twos.decide(&data));
                    assert_eq!(both.decide(&data), expected, "{data:?}\n{merged}");
                }
            }
        }
        assert_eq!(merged.merge(&merged).unwrap().lower(), merged.lower());
    }

    #[test]
    fn addresses_of_both_are_permitted_and_no_others() {
        let with = |network: &str| {
            policy(&format!("{{architectures: [x86_64], default: allow, network: {network}}}"))
        };
        let (one, two) = (
            with("{connect: ['10.0.0.1:1'], unix: [/a]}"),
            with("{connect: ['10.0.0.2:2'], listen: ['*:3']}"),
        );
        let both = with("{connect: ['10.0.0.1:1', '10.0.0.2:2'], listen: ['*:3'], unix: [/a]}");
        let merged = one.merge(&two).unwrap();
        assert_eq!(merged.network, both.network);
        assert_eq!(merged.lower(), both.lower());
        // Where one of them asks for nothing, either will do.
        let merged = one.merge(&policy("{architectures: [x86_64], default: allow}")).unwrap();
        assert_eq!(merged.network, None);
        let connect = strait_abi::Syscall::from_name("connect").unwrap();
        let nr = connect.number(Arch::X86_64).unwrap();
        let call = SeccompData::new(Arch::X86_64.audit_arch(), nr);
        assert_eq!(merged.lower().unwrap().decide(&call), Action::Allow);
    }

    #[test]
    fn ledgers_join() {
        let recording = |calls: &[u32]| {
            let engine = Engine { name: "ptrace".into(), reason: "test".into() };
            let mut recording = Recording::builder(engine, "6.18.1");
            for &nr in calls {
                let once = Outcomes { count: 1, succeeded: 1, ..Outcomes::default() };
                recording.call("/bin/x", Arch::X86_64, nr, &once);
            }
            recording.build()
        };
        let (one, two) = (recording(&[0, 1]), recording(&[1, 2]));
        let generate =
            |recordings: &[Recording]| generate(recordings, &GenerateOptions::default()).unwrap();
        let merged = generate(std::slice::from_ref(&one))
            .merge(&generate(std::slice::from_ref(&two)))
            .unwrap();
        let together = generate(&[one, two]);
        assert_eq!(merged.lower().unwrap(), together.lower().unwrap());
        assert_eq!(merged.recordings, together.recordings);
        let write = strait_abi::Syscall::from_name("write").unwrap();
        assert_eq!(merged.necessity[&write].len(), 2);
        assert!(merged.excess(&merged.lower().unwrap()).is_empty());
    }
}
