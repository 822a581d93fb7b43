//! A policy that a format can say is the same after it was written in the format and read again; of
//! one that it cannot say all of, what it loses is listed.

#![allow(clippy::unwrap_used, reason = "these are tests, and their helpers fail with them")]

use proptest::prelude::*;
use strait_abi::{Arch, KernelVersion};
use strait_bpf::Action;
use strait_policy::Policy;
use strait_policy::format::{Format, Target};
use strait_policy::policy::Architectures;

/// What policies a format can say all of.
struct Row {
    format: Format,
    arches: &'static [&'static str],
    defaults: &'static [&'static str],
    actions: &'static [&'static str],
    conditions: &'static [&'static str],
}

const ANY: &[&str] = &[
    "arg0 == 1",
    "arg1 != 7 and arg0 < 5",
    "arg2 & 0xff == 3 or arg2 > 0x100000001",
    "not (arg0 & 6 == 6)",
    "arg0 in {1, 2, 8} and arg1 & 0xf00000000 != 0",
];

const ROWS: &[Row] = &[
    Row {
        format: Format::Systemd,
        arches: &["x86_64"],
        defaults: &["allow", "errno(EPERM)", "kill-process"],
        actions: &["allow", "errno(ENOSYS)", "log"],
        conditions: &[],
    },
    Row {
        format: Format::Minijail,
        arches: &["x86_64"],
        defaults: &["kill-thread", "kill-process", "trap(0)", "notify"],
        actions: &["allow", "errno(ENOSYS)", "kill-thread", "log"],
        conditions: ANY,
    },
    Row {
        format: Format::Kafel,
        arches: &["x86_64"],
        // With a default that lets calls pass, Kafel lets those of x32 pass too.
        defaults: &["errno(EPERM)", "kill-thread", "trap(3)", "trace(4)", "notify"],
        actions: &[
            "allow",
            "errno(ENOSYS)",
            "kill-process",
            "log",
            "trap(5)",
            "trace(6)",
            "notify",
        ],
        conditions: ANY,
    },
    Row {
        format: Format::Lxc,
        arches: &["x86_64", "x32", "i386"],
        defaults: &["allow", "errno(EPERM)", "kill-thread", "trap(0)"],
        actions: &["allow", "errno(ENOSYS)", "kill-thread"],
        conditions: &[],
    },
];

const CALLS: &[&str] =
    &["read", "openat", "kill", "ioctl", "personality", "clone3", "ptrace", "mount", "exit_group"];

/// A rule for one call: which, for which arguments, and what it gets.
type Choice = (usize, usize, usize);

fn policy(row: &Row, default: usize, choices: &[Choice]) -> Policy {
    let mut text = format!(
        "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec:\n  architectures: [{}]\n  \
         foreign: kill-thread\n  default: {}\n",
        row.arches.join(", "),
        row.defaults[default % row.defaults.len()],
    );
    if !choices.is_empty() {
        text.push_str("  rules:\n");
    }
    for (call, condition, action) in choices {
        let call = CALLS[call % CALLS.len()];
        let action = row.actions[action % row.actions.len()];
        let conditions = row.conditions;
        let when = match conditions.get(condition % (conditions.len() + 1)) {
            Some(condition) => (*condition).to_owned(),
            None => String::new(),
        };
        let when = if when.is_empty() { when } else { format!("when: \"{when}\", ") };
        text.push_str(&format!("    - {{syscalls: [{call}], {when}action: {action}}}\n"));
    }
    Policy::parse(&text).unwrap()
}

fn target() -> Target {
    Target::new(Arch::X86_64, KernelVersion::new(6, 18))
}

/// Where the two decide otherwise for a call of the first one's architectures.
fn differences(one: &Policy, other: &Policy) -> Vec<String> {
    let decision = |policy: &Policy| policy.lower().unwrap().decision().unwrap();
    let compared = decision(one).compare(&decision(other)).unwrap();
    let arches: &Architectures = &one.architectures;
    let is_call = |arch: Arch, audit, nr| arch.audit_arch() == audit && arch.syscall(nr).is_some();
    let of_call = compared.differences.into_iter().filter(|difference| {
        let (audit, nr) = (difference.witness.arch, difference.witness.nr);
        arches.iter().any(|arch| is_call(arch, audit, nr))
    });
    of_call.map(|difference| format!("{difference:x?}")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_a_format_can_say_comes_back(
        row in 0..ROWS.len(),
        default in 0usize..8,
        choices in prop::collection::vec((0usize..9, 0usize..8, 0usize..8), 0..6),
    ) {
        let row = &ROWS[row];
        let policy = policy(row, default, &choices);
        let exported = row.format.export(&policy, &target()).unwrap();
        prop_assert!(exported.losses.is_empty(), "{policy}\n{}\n{:?}", exported.text, exported.losses);
        let again = row.format.import(exported.text.as_bytes(), &target()).unwrap().policy;
        let differences = differences(&policy, &again);
        prop_assert!(differences.is_empty(), "{policy}\n{}\n{differences:?}", exported.text);
        // Where nothing is said, nothing shows the format.
        if !exported.text.is_empty() {
            prop_assert_eq!(Format::detect(exported.text.as_bytes()), row.format);
        }
    }

    /// Whatever the policy, and whichever the format: a difference is a loss that is listed.
    #[test]
    fn what_a_format_cannot_say_is_listed(
        of in 0..ROWS.len(),
        to in 0..ROWS.len(),
        default in 0usize..8,
        choices in prop::collection::vec((0usize..9, 0usize..8, 0usize..8), 0..6),
    ) {
        let policy = policy(&ROWS[of], default, &choices);
        let format = ROWS[to].format;
        // A default that the format has no word for is refused as a whole.
        let Ok(exported) = format.export(&policy, &target()) else { return Ok(()) };
        let again = format.import(exported.text.as_bytes(), &target()).unwrap().policy;
        let differences = differences(&policy, &again);
        prop_assert!(
            differences.is_empty() || !exported.losses.is_empty(),
            "{policy}\n{}\n{differences:?}",
            exported.text
        );
    }
}

#[test]
fn the_rows_are_of_every_format_that_is_written_here() {
    for format in [Format::Systemd, Format::Minijail, Format::Kafel, Format::Lxc] {
        assert!(ROWS.iter().any(|row| row.format == format), "{format}");
    }
    let default = policy(&ROWS[0], 1, &[]).default;
    assert_eq!(default, Action::Errno(1));
}
