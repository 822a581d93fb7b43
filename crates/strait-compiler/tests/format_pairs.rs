//! Every format out and in again, and from each to every other: the decisions are the same, and
//! where they are not, that was listed. A format joins by a row. A program is a format that the compiler
//! writes, and so this stands here.

#![allow(clippy::unwrap_used, reason = "these are tests, and their helpers fail with them")]

use proptest::prelude::*;
use strait_abi::{Arch, KernelVersion, Syscall};
use strait_bpf::{Action, Decision, Difference, Relation};
use strait_compiler::{Options, compile};
use strait_policy::format::{Exported, Format, FormatError, Runtime, Target};
use strait_policy::policy::{Architectures, Rule, Unknown};
use strait_policy::{Policy, When};
use strait_testkit::effort;

/// A format, the runtime that reads it, and policies that go through it without a loss.
struct Row {
    format: Format,
    runtime: Runtime,
    arches: &'static [Arch],
    defaults: &'static [Action],
    actions: &'static [Action],
    conditions: &'static [&'static str],
    /// What other audit arches get.
    foreign: Action,
    /// Calls of which it cannot say everything.
    not: &'static [&'static str],
}

const ANY_ACTION: &[Action] = &[
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
];

const STRAIT: Row = Row {
    format: Format::Strait,
    runtime: Runtime::Crun,
    arches: &[Arch::X86_64, Arch::X32, Arch::I386],
    defaults: ANY_ACTION,
    actions: ANY_ACTION,
    conditions: CONDITIONS,
    foreign: Action::KillProcess,
    not: &[],
};

/// Of several conditions that hold libseccomp chooses another than the first. On x32 it compares half
/// of a register, and where there is socketcall, a rule for a socket call is one for that too.
const OCI: Row = Row {
    format: Format::Oci,
    arches: &[Arch::X86_64, Arch::I386],
    conditions: &["arg0 == 1"],
    foreign: Action::KillThread,
    not: &["socket"],
    ..STRAIT
};

const ROWS: &[Row] = &[
    STRAIT,
    Row { format: Format::Bpf, ..STRAIT },
    // runc answers to new calls whatever the profile says.
    Row { runtime: Runtime::Runc, defaults: &[], ..OCI },
    OCI,
    Row { format: Format::Spo, ..OCI },
    Row {
        format: Format::Seccompiler,
        arches: &[Arch::X86_64],
        // With a default that lets calls pass, seccompiler lets those of x32 pass too.
        defaults: &[Action::Errno(1), Action::KillThread, Action::KillProcess, Action::Trap(0)],
        actions: &[Action::Allow],
        foreign: Action::KillProcess,
        not: &[],
        ..OCI
    },
    Row {
        format: Format::Systemd,
        arches: &[Arch::X86_64],
        defaults: &[Action::Allow, Action::Errno(1), Action::KillProcess],
        actions: &[Action::Allow, Action::Errno(38), Action::Log],
        conditions: &[],
        not: &[],
        ..OCI
    },
    Row {
        format: Format::Minijail,
        arches: &[Arch::X86_64],
        defaults: &[Action::KillThread, Action::KillProcess, Action::Trap(0), Action::Notify],
        actions: &[Action::Allow, Action::Errno(38), Action::KillThread, Action::Log],
        conditions: CONDITIONS,
        not: &[],
        ..OCI
    },
    Row {
        format: Format::Kafel,
        arches: &[Arch::X86_64],
        // With a default that lets calls pass, Kafel lets those of x32 pass too.
        defaults: &[
            Action::Errno(1),
            Action::KillThread,
            Action::Trap(3),
            Action::Trace(4),
            Action::Notify,
        ],
        actions: &[
            Action::Allow,
            Action::Errno(38),
            Action::KillProcess,
            Action::Log,
            Action::Trap(5),
            Action::Trace(6),
            Action::Notify,
        ],
        conditions: CONDITIONS,
        not: &[],
        ..OCI
    },
    Row {
        format: Format::Lxc,
        arches: &[Arch::X86_64, Arch::X32, Arch::I386],
        defaults: &[Action::Allow, Action::Errno(1), Action::KillThread, Action::Trap(0)],
        actions: &[Action::Allow, Action::Errno(38), Action::KillThread],
        conditions: &[],
        ..OCI
    },
];

impl Row {
    fn target(&self) -> Target {
        let mut target = Target::new(Arch::X86_64, KernelVersion::new(6, 18));
        target.runtime = self.runtime;
        target
    }

    /// The policy in the format, by the compiler if it is a program.
    fn export(&self, policy: &Policy) -> Result<Exported, FormatError> {
        if self.format != Format::Bpf {
            return self.format.export(policy, &self.target());
        }
        let compiled = compile(&policy.lower().unwrap(), &Options::default()).unwrap();
        Ok(Exported { text: compiled.program.to_hex(), ..Exported::default() })
    }

    /// The policy in the format, and what comes back; nothing if the format has no place for it.
    fn round(&self, policy: &Policy) -> Option<(Exported, Policy)> {
        let exported = match self.export(policy) {
            Ok(exported) => exported,
            Err(FormatError::Inexpressible { .. }) => return None,
            Err(error) => panic!("{}: {error}\n{policy}", self.format),
        };
        // Where nothing is said, nothing shows the format.
        if !exported.text.is_empty() {
            assert_eq!(Format::detect(exported.text.as_bytes()), self.format, "{}", exported.text);
        }
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
const CONDITIONS: &[&str] = &[
    "arg0 == 1",
    "arg0 & 0xff == 3",
    "arg0 < 5 and arg1 != 2",
    "arg1 in {1, 2, 7}",
    "not (arg0 == 1)",
    "arg2 >= 4096",
    WIDE[0],
    WIDE[1],
];
/// Conditions that only ABIs with registers of 64 bits have.
const WIDE: &[&str] =
    &["arg2 & 0xff == 3 or arg2 > 0x100000001", "arg0 in {1, 2, 8} and arg1 & 0xf00000000 != 0"];

fn actions() -> impl Strategy<Value = Action> {
    prop::sample::select(ANY_ACTION)
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
    (calls, prop::option::of(prop::sample::select(CONDITIONS)), actions()).prop_map(
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
            narrow(&mut policy);
            policy
        },
    )
}

/// The policy with what the row cannot say replaced by what it can.
fn expressible(row: &Row, policy: &mut Policy) {
    fn one<T: Copy>(of: &[T], by: usize) -> Option<T> {
        Some(of[by.checked_rem(of.len())?])
    }
    policy.unknown = None;
    policy.foreign = row.foreign;
    policy.architectures = Architectures::new(row.arches.iter().copied()).unwrap();
    let place = |action: Action| ANY_ACTION.iter().position(|one| *one == action).unwrap();
    policy.default = one(row.defaults, place(policy.default)).unwrap();
    let not: Vec<Syscall> = row.not.iter().map(|name| Syscall::from_name(name).unwrap()).collect();
    // One rule for a call.
    let mut seen = std::collections::BTreeSet::new();
    for rule in &mut policy.rules {
        rule.syscalls.retain(|call| seen.insert(*call) && !not.contains(call));
        rule.action = one(row.actions, place(rule.action)).unwrap();
        let place =
            |when: &When| CONDITIONS.iter().position(|one| When::parse(one).as_ref() == Ok(when));
        let when = rule.when.as_ref().and_then(place).and_then(|at| one(row.conditions, at));
        rule.when = when.map(|when| When::parse(when).unwrap());
    }
    policy.rules.retain(|rule| !rule.syscalls.is_empty());
    narrow(policy);
}

/// Without conditions that an ABI of the policy does not have.
fn narrow(policy: &mut Policy) {
    let is_wide = |when: &When| WIDE.iter().any(|wide| When::parse(wide).as_ref() == Ok(when));
    if policy.architectures.contains(Arch::I386) {
        for rule in &mut policy.rules {
            rule.when = rule.when.take().filter(|when| !is_wide(when));
        }
    }
}

#[test]
fn every_format_has_a_row() {
    for &format in Format::ALL {
        assert!(ROWS.iter().any(|row| row.format == format), "{format} has no row");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: u32::try_from(effort(3)).unwrap_or(u32::MAX),
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
        for row in ROWS.iter().filter(|row| !row.defaults.is_empty()) {
            let mut policy = policy.clone();
            expressible(row, &mut policy);
            let (exported, again) = row.round(&policy).unwrap();
            honest(row, &policy, &exported, &again);
            prop_assert!(exported.losses.is_empty(), "{}: {:#x?}\n{policy}\n{}", row.format, exported.losses, exported.text);
        }
    }
}
