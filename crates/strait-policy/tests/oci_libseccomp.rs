//! What an OCI profile is read as, against the filter that libseccomp makes of the same rules.
//!
//! The oracle is the library itself, by a small C program that is built here; without a compiler
//! or the library's headers the tests are skipped.

#![allow(clippy::unwrap_used, reason = "these are tests, and their helpers fail with them")]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use proptest::prelude::*;
use strait_abi::{Arch, KernelVersion, Syscall};
use strait_bpf::{Action, Decision, Program};
use strait_policy::format::{Runtime, Target, oci};
use strait_testkit::skip;

fn oracle() -> Option<&'static PathBuf> {
    static ORACLE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let oracle = ORACLE.get_or_init(|| {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/libseccomp.c");
        let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("libseccomp-oracle-{}", std::process::id()));
        let built = Command::new("cc")
            .args(["-O1", "-o"])
            .arg(&target)
            .args([source, "-lseccomp"])
            .stderr(Stdio::null())
            .status();
        built.is_ok_and(|status| status.success()).then_some(target)
    });
    oracle.as_ref()
}

/// The decision of the filter, or none if libseccomp refuses the rules.
fn libseccomp(oracle: &PathBuf, input: &str) -> Option<Decision> {
    let mut child = Command::new(oracle)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the oracle was built");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    if output.status.code() == Some(3) {
        return None;
    }
    assert!(output.status.success(), "{:?}", output.status);
    Some(Decision::of(&Program::from_bytes(&output.stdout).unwrap()).unwrap())
}

fn machine() -> Target {
    let mut machine = Target::new(Arch::X86_64, KernelVersion::new(6, 18));
    machine.runtime = Runtime::Crun;
    machine
}

fn imported(json: &serde_json::Value) -> Decision {
    let policy = oci::import(&json.to_string(), &machine()).unwrap().policy;
    policy.lower().unwrap().decision().unwrap()
}

const OPS: [&str; 7] = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];

#[derive(Clone, Debug)]
struct Rule {
    name: &'static str,
    action: Action,
    args: Vec<(u8, usize, u64, u64)>,
}

fn input(default: Action, arches: &[Arch], rules: &[Rule]) -> String {
    let mut text = format!("default {:x}\n", default.raw());
    for arch in arches {
        let name = arch.oci_name().trim_start_matches("SCMP_ARCH_").to_lowercase();
        text.push_str(&format!("arch {name}\n"));
    }
    for rule in rules.iter().filter(|rule| rule.action != default) {
        text.push_str(&format!("rule {:x} {}", rule.action.raw(), rule.name));
        for (index, op, a, b) in &rule.args {
            text.push_str(&format!(" {index} {} {a} {b}", op + 1));
        }
        text.push('\n');
    }
    text
}

fn action_json(action: Action) -> (&'static str, Option<u16>) {
    match action {
        Action::Allow => ("SCMP_ACT_ALLOW", None),
        Action::Log => ("SCMP_ACT_LOG", None),
        Action::Errno(errno) => ("SCMP_ACT_ERRNO", Some(errno)),
        other => panic!("{other} is not generated"),
    }
}

fn json(default: Action, arches: &[Arch], rules: &[Rule]) -> serde_json::Value {
    let rules: Vec<serde_json::Value> = rules
        .iter()
        .map(|rule| {
            let (action, errno) = action_json(rule.action);
            let args: Vec<serde_json::Value> = rule
                .args
                .iter()
                .map(|(index, op, a, b)| {
                    let op = format!("SCMP_CMP_{}", OPS[*op]);
                    serde_json::json!({"index": index, "op": op, "value": a, "valueTwo": b})
                })
                .collect();
            serde_json::json!(
                {"names": [rule.name], "action": action, "errnoRet": errno, "args": args}
            )
        })
        .collect();
    let (action, errno) = action_json(default);
    let arches: Vec<&str> = arches.iter().map(|arch| arch.oci_name()).collect();
    serde_json::json!({"defaultAction": action, "defaultErrnoRet": errno,
        "architectures": arches, "syscalls": rules})
}

fn agree(default: Action, arches: &[Arch], rules: &[Rule]) -> Result<(), TestCaseError> {
    let Some(oracle) = oracle() else { return Ok(()) };
    // libseccomp 2.5.4 does not load the number where the first call of an audit arch has
    // arguments; calls without stand before it.
    let first = Rule { name: "close", action: Action::Allow, args: Vec::new() };
    let rules: Vec<Rule> = [first].into_iter().chain(rules.iter().cloned()).collect();
    let rules = &rules;
    let Some(theirs) = libseccomp(oracle, &input(default, arches, rules)) else { return Ok(()) };
    let ours = imported(&json(default, arches, rules));
    if ours != theirs {
        let comparison = ours.compare(&theirs).unwrap();
        let first: Vec<_> = comparison.differences.iter().take(4).collect();
        return Err(TestCaseError::fail(format!("{first:#x?}")));
    }
    Ok(())
}

const NAMES: [&str; 8] =
    ["read", "socket", "personality", "clone", "semop", "openat", "umount", "socketcall"];

/// Rules of one action, besides the default: then the order in which libseccomp tests does not
/// matter. Each call has one rule. With several the import is known to be wrong: `socket`
/// allowed for argument 2 != 2^32, and again for argument 2 != 0, is allowed always, by the rules
/// and by libseccomp 2.5.4, and not by what the import makes of it.
fn rules(action: Action) -> impl Strategy<Value = Vec<Rule>> {
    let value = || prop_oneof![0u64..4, Just(1 << 32), Just(u64::from(u32::MAX)), any::<u64>()];
    let arg = (0u8..3, 0usize..7, value(), value());
    let args = prop::collection::vec(arg, 0..2);
    let rule = (prop::sample::select(&NAMES[..]), args).prop_map(move |(name, args)| Rule {
        name,
        action,
        args,
    });
    prop::collection::vec(rule, 0..5).prop_map(|mut rules| {
        let mut seen = std::collections::BTreeSet::new();
        rules.retain(|rule| seen.insert(rule.name));
        rules
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn profiles_of_one_action_are_read_as_libseccomp_builds_them(
        rules in rules(Action::Allow),
        arches in prop::sample::subsequence(vec![Arch::X86_64, Arch::X32, Arch::I386], 0..=3),
        default in prop_oneof![Just(Action::Errno(1)), Just(Action::Log)],
    ) {
        agree(default, &arches, &rules)?;
    }
}

#[test]
fn unconditional_rules_are_read_as_libseccomp_builds_them() {
    if oracle().is_none() {
        return skip("oci_libseccomp", "no C compiler, or no headers of libseccomp");
    }
    let rule =
        |name, action, args: &[(u8, usize, u64, u64)]| Rule { name, action, args: args.to_vec() };
    let (allow, log, errno) = (Action::Allow, Action::Log, Action::Errno(13));
    for rules in [
        // The first without conditions decides, wherever it stands.
        vec![rule("read", allow, &[]), rule("read", errno, &[])],
        vec![
            rule("read", errno, &[(0, 3, 1, 0)]),
            rule("read", allow, &[]),
            rule("read", log, &[]),
        ],
        vec![rule("read", allow, &[]), rule("read", errno, &[(0, 3, 1, 0)])],
        // Conditions that exclude each other.
        vec![rule("read", allow, &[(0, 3, 1, 0)]), rule("read", errno, &[(0, 3, 2, 0)])],
    ] {
        agree(Action::Errno(1), &[Arch::X86_64, Arch::I386, Arch::X32], &rules).unwrap();
    }
}

#[test]
fn every_name_that_libseccomp_knows_has_the_same_number_here() {
    let Some(oracle) = oracle() else {
        return skip("oci_libseccomp", "no C compiler, or no headers of libseccomp");
    };
    // Each name alone: a name that the library does not know leaves the default everywhere.
    let arches = [Arch::X86_64, Arch::X32, Arch::I386];
    let mut unknown = Vec::new();
    for call in Syscall::all() {
        let rules = [Rule { name: call.name(), action: Action::Allow, args: Vec::new() }];
        let theirs = libseccomp(oracle, &input(Action::Errno(1), &arches, &rules)).unwrap();
        if !theirs.actions().contains(&Action::Allow) {
            unknown.push(call);
            continue;
        }
        // A call of x32 too since Linux 6.6; libseccomp 2.5 took it for one of x86_64 alone.
        if call.name() == "map_shadow_stack" {
            continue;
        }
        agree(Action::Errno(1), &arches, &rules).unwrap_or_else(|error| panic!("{call}: {error}"));
    }
    assert!(unknown.len() < 250, "{} names: {unknown:?}", unknown.len());
}
