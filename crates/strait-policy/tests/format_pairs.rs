//! Every format out and in again, and from each to every other: the decisions are the same, and
//! where they are not, that was listed. A format joins by a row.

#![allow(clippy::unwrap_used, reason = "these are tests, and their helpers fail with them")]

use proptest::prelude::*;
use strait_abi::{Arch, KernelVersion, Syscall};
use strait_bpf::{Action, Decision, Difference, Relation};
use strait_policy::format::{Exported, Format, FormatError, Runtime, Target};
use strait_policy::policy::{Architectures, Rule, Unknown};
use strait_policy::{Policy, When};
use strait_testkit::effort;

/// A format, the runtime that reads it, and what it can say of simple policies: these then go
/// through it without a loss.
struct Row {
    format: Format,
    runtime: Runtime,
    /// Allows of whole calls.
    says_calls: bool,
    /// Allows for some arguments.
    says_arguments: bool,
    /// Several actions besides the default.
    says_actions: bool,
    /// Several ABIs.
    says_arches: bool,
}

const ALL: Row = Row {
    format: Format::Strait,
    runtime: Runtime::Crun,
    says_calls: true,
    says_arguments: true,
    says_actions: true,
    says_arches: true,
};

const ROWS: &[Row] = &[
    ALL,
    // runc answers to new calls whatever the profile says.
    Row { format: Format::Oci, runtime: Runtime::Runc, says_calls: false, ..ALL },
    Row { format: Format::Oci, ..ALL },
    Row { format: Format::Spo, ..ALL },
    Row { format: Format::Seccompiler, says_actions: false, says_arches: false, ..ALL },
];

/// Formats that go out and back in `out_and_back.rs`, and not yet to every other. Systemd's export
/// answers for some policies with an error of its reader, where it should list a loss.
const ELSEWHERE: &[Format] = &[Format::Systemd, Format::Kafel, Format::Lxc, Format::Minijail];

impl Row {
    fn target(&self) -> Target {
        let mut target = Target::new(Arch::X86_64, KernelVersion::new(6, 18));
        target.runtime = self.runtime;
        target
    }

    /// The policy in the format, and what comes back; nothing if the format has no place for it.
    fn round(&self, policy: &Policy) -> Option<(Exported, Policy)> {
        let exported = match self.format.export(policy, &self.target()) {
            Ok(exported) => exported,
            Err(FormatError::Inexpressible { .. }) => return None,
            Err(error) => panic!("{}: {error}\n{policy}", self.format),
        };
        assert_eq!(Format::detect(exported.text.as_bytes()), self.format, "{}", exported.text);
        let again = self.format.import(exported.text.as_bytes(), &self.target());
        let again =
            again.unwrap_or_else(|error| panic!("{}: {error}\n{}", self.format, exported.text));
        Some((exported, again.policy))
    }
}

fn decision(policy: &Policy) -> Decision {
    policy.lower().unwrap().decision().unwrap()
}

/// Demands that what differs was listed, and that what was listed differs.
fn honest(row: &Row, policy: &Policy, exported: &Exported, again: &Policy) {
    let (intended, installed) = (decision(policy), decision(again));
    let context = || format!("{}:\n{policy}\n{}", row.format, exported.text);
    for loss in &exported.losses {
        assert_eq!(intended.decide(&loss.witness), loss.first, "{}", context());
        assert_eq!(installed.decide(&loss.witness), loss.second, "{}", context());
    }
    let comparison = intended.compare(&installed).unwrap();
    if exported.losses.is_empty() && exported.notes.is_empty() {
        assert_eq!(
            comparison.order,
            Relation::Equal,
            "{:#x?}\n{}",
            comparison.differences,
            context()
        );
    }
    let is_call = |difference: &Difference| {
        let arches = policy.architectures.iter();
        let mut here = arches.filter(|arch| arch.audit_arch() == difference.witness.arch);
        here.any(|arch| arch.syscall(difference.witness.nr).is_some())
    };
    let passes_otherwise = |difference: &Difference| {
        difference.witness.nr < 0x8000_0000
            && difference.first.lets_pass() != difference.second.lets_pass()
    };
    for difference in &comparison.differences {
        if is_call(difference) || passes_otherwise(difference) {
            let witness = &difference.witness;
            let listed = exported.losses.iter().any(|loss| {
                (loss.arches.0..=loss.arches.1).contains(&witness.arch)
                    && (loss.calls.0..=loss.calls.1).contains(&witness.nr)
            });
            assert!(listed, "{difference:#x?} is not listed\n{}", context());
        } else {
            assert!(!exported.notes.is_empty(), "{difference:#x?}\n{}", context());
        }
    }
}

const CALLS: [&str; 9] =
    ["read", "write", "socket", "openat", "mount", "clone3", "personality", "mseal", "exit_group"];
const CONDITIONS: [&str; 6] = [
    "arg0 == 1",
    "arg0 & 0xff == 3",
    "arg0 < 5 and arg1 != 2",
    "arg1 in {1, 2, 7}",
    "not (arg0 == 1)",
    "arg2 >= 4096",
];

fn actions() -> impl Strategy<Value = Action> {
    prop::sample::select(
        &[
            Action::Allow,
            Action::Errno(1),
            Action::Errno(13),
            Action::Errno(38),
            Action::Log,
            Action::KillProcess,
            Action::KillThread,
            Action::Trap(0),
            Action::Trace(7),
            Action::Notify,
        ][..],
    )
}

fn arches() -> impl Strategy<Value = Architectures> {
    let sets = [
        vec![Arch::X86_64],
        vec![Arch::X86_64, Arch::I386],
        vec![Arch::X86_64, Arch::X32, Arch::I386],
    ];
    prop::sample::select(sets.to_vec()).prop_map(|arches| Architectures::new(arches).unwrap())
}

fn rule() -> impl Strategy<Value = Rule> {
    let calls = prop::sample::subsequence(CALLS.to_vec(), 1..4);
    (calls, prop::option::of(prop::sample::select(&CONDITIONS[..])), actions()).prop_map(
        |(calls, when, action)| {
            let calls = calls.into_iter().map(|name| Syscall::from_name(name).unwrap());
            let when = when.map(|when| When::parse(when).unwrap());
            Rule { when, ..Rule::new(calls, action) }
        },
    )
}

/// Policies of all kinds.
fn policies() -> impl Strategy<Value = Policy> {
    let unknown = prop::option::of(prop::sample::select(vec!["6.1", "6.18"]));
    let foreign =
        prop::sample::select(vec![Action::KillProcess, Action::KillThread, Action::Errno(1)]);
    (arches(), actions(), foreign, unknown, prop::collection::vec(rule(), 0..5)).prop_map(
        |(arches, default, foreign, unknown, rules)| {
            let mut policy = Policy::new(arches, default);
            policy.foreign = foreign;
            policy.unknown = unknown
                .map(|after| Unknown { after: after.parse().unwrap(), action: Action::Errno(38) });
            policy.rules = rules;
            policy
        },
    )
}

/// What a row says that it can express.
fn expressible(row: &Row, policy: &mut Policy) {
    policy.unknown = None;
    policy.default = Action::Errno(1);
    if !row.says_arches {
        policy.architectures = Arch::X86_64.into();
    }
    for rule in &mut policy.rules {
        if !row.says_arguments {
            rule.when = None;
        }
        if !row.says_actions {
            rule.action = Action::Allow;
        }
    }
    // One rule a call, and of its conditions one that every format with conditions has.
    let mut seen = std::collections::BTreeSet::new();
    for rule in &mut policy.rules {
        rule.syscalls.retain(|call| seen.insert(*call));
        let simple = || When::parse("arg0 == 1").unwrap();
        rule.when = rule.when.take().map(|_| simple());
    }
    // On x32 libseccomp compares half of a register.
    if row.format != Format::Strait && policy.architectures.contains(Arch::X32) {
        policy.architectures = Architectures::new([Arch::X86_64, Arch::I386]).unwrap();
    }
    // Where there is socketcall, a rule for a socket call is one for that too.
    let socket = Syscall::from_name("socket").unwrap();
    if policy.architectures.contains(Arch::I386) && row.format != Format::Strait {
        for rule in &mut policy.rules {
            rule.syscalls.retain(|call| *call != socket);
        }
    }
    policy.rules.retain(|rule| !rule.syscalls.is_empty());
}

#[test]
fn every_format_has_a_row() {
    for &format in Format::ALL.iter().filter(|format| **format != Format::Bpf) {
        let has_row = ROWS.iter().any(|row| row.format == format);
        assert!(has_row || ELSEWHERE.contains(&format), "{format} has no row");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: u32::try_from(effort(8)).unwrap_or(u32::MAX),
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn from_each_format_to_every_other_losses_are_what_differs(policy in policies()) {
        for from in ROWS {
            let Some((exported, again)) = from.round(&policy) else { continue };
            honest(from, &policy, &exported, &again);
            for to in ROWS {
                let Some((exported, other)) = to.round(&again) else { continue };
                honest(to, &again, &exported, &other);
            }
        }
    }

    #[test]
    fn what_a_format_can_say_is_not_lost(policy in policies()) {
        for row in ROWS.iter().filter(|row| row.says_calls) {
            let mut policy = policy.clone();
            expressible(row, &mut policy);
            let (exported, again) = row.round(&policy).unwrap();
            honest(row, &policy, &exported, &again);
            prop_assert!(exported.losses.is_empty(), "{}: {:#x?}\n{policy}\n{}", row.format, exported.losses, exported.text);
        }
    }
}
