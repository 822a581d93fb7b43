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
use strait_testkit::{effort, skip};

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

/// What libseccomp makes of rules.
enum Made {
    /// A filter with this decision.
    Filter(Decision),
    /// Nothing: it refuses them.
    Refused,
    /// Nothing: they are too much for it.
    Undefined,
}

fn libseccomp(oracle: &PathBuf, input: &str) -> Made {
    let mut child = Command::new(oracle)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the oracle was built");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    match output.status.code() {
        Some(0) => {
            Made::Filter(Decision::of(&Program::from_bytes(&output.stdout).unwrap()).unwrap())
        }
        Some(3) => Made::Refused,
        Some(_) => panic!("{:?}", output.status),
        None => Made::Undefined,
    }
}

fn machine() -> Target {
    let mut machine = Target::new(Arch::X86_64, KernelVersion::new(6, 18));
    machine.runtime = Runtime::Crun;
    machine
}

/// What the import makes of it, or none if it refuses.
fn imported(json: &serde_json::Value) -> Result<Decision, String> {
    let policy = match oci::import(&json.to_string(), &machine()) {
        Ok(imported) => imported.policy,
        Err(error) => return Err(error.to_string()),
    };
    Ok(policy.lower().unwrap().decision().unwrap())
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
        // Two conditions on one argument are added one by one by the runtimes.
        let twice = |index: &u8| rule.args.iter().filter(|arg| arg.0 == *index).count() > 1;
        let each = if rule.args.iter().any(|arg| twice(&arg.0)) { 1 } else { 6 };
        let mut parts: Vec<_> = rule.args.chunks(each).collect();
        if parts.is_empty() {
            parts.push(&[]);
        }
        for args in parts {
            text.push_str(&format!("rule {:x} {}", rule.action.raw(), rule.name));
            for (index, op, a, b) in args {
                text.push_str(&format!(" {index} {} {a} {b}", op + 1));
            }
            text.push('\n');
        }
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
    // As in every profile of the field, some call of each ABI has no conditions.
    let action = if default == Action::Allow { Action::Log } else { Action::Allow };
    let first = Rule { name: "close", action, args: Vec::new() };
    let rules: Vec<Rule> = [first].into_iter().chain(rules.iter().cloned()).collect();
    let rules = &rules;
    let theirs = libseccomp(oracle, &input(default, arches, rules));
    let (ours, theirs) = match (imported(&json(default, arches, rules)), theirs) {
        (Ok(ours), Made::Filter(theirs)) => (ours, theirs),
        (Err(_), Made::Refused | Made::Undefined) => return Ok(()),
        (Err(error), Made::Filter(_)) => return Err(TestCaseError::fail(error)),
        (Ok(_), _) => return Err(TestCaseError::fail("only libseccomp refuses")),
    };
    if ours != theirs {
        let comparison = ours.compare(&theirs).unwrap();
        let first: Vec<_> = comparison.differences.iter().take(4).collect();
        return Err(TestCaseError::fail(format!("{first:#x?}")));
    }
    Ok(())
}

const NAMES: [&str; 8] =
    ["read", "socket", "personality", "clone", "semop", "openat", "umount", "socketcall"];

/// Rules of all kinds, several of them for one call.
fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let few =
        prop::sample::select(&[0, 1, 2, 3, 0xff, 1 << 32, 1 << 32 | 1, 0xffff_ffff, u64::MAX][..]);
    let value = || prop_oneof![4 => few.clone(), 1 => any::<u64>()];
    let arg = (0u8..3, 0usize..7, value(), value());
    let args = prop::collection::vec(arg, 0..=3);
    let action =
        prop_oneof![3 => Just(Action::Allow), 1 => Just(Action::Log), 1 => Just(Action::Errno(13))];
    let rule = (prop::sample::select(&NAMES[..]), action, args)
        .prop_map(|(name, action, args)| Rule { name, action, args });
    prop::collection::vec(rule, 0..7)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: u32::try_from(effort(160)).unwrap_or(u32::MAX), failure_persistence: None, ..Default::default() })]

    #[test]
    fn profiles_are_read_as_libseccomp_builds_them(
        rules in rules(),
        arches in prop::sample::subsequence(vec![Arch::X86_64, Arch::X32, Arch::I386], 0..=3),
        default in prop_oneof![Just(Action::Errno(1)), Just(Action::Log), Just(Action::Allow)],
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
    let arches = [Arch::X86_64, Arch::X32, Arch::I386];
    let rule = |call: Syscall| Rule { name: call.name(), action: Action::Allow, args: Vec::new() };
    // With a rule for each, a name that the library does not know leaves the default.
    let all: Vec<Rule> = Syscall::all().map(rule).collect();
    let made = libseccomp(oracle, &input(Action::Errno(1), &arches, &all));
    let Made::Filter(theirs) = made else { panic!("it makes no filter of all names") };
    let is_known = |call: &Syscall| {
        let here = |arch: &Arch| Some((arch.audit_arch(), call.number(*arch)?));
        let mut numbers = arches.iter().filter_map(here).peekable();
        // Calls of other machines alone show nowhere.
        numbers.peek().is_some()
            && numbers.any(|(arch, nr)| {
                theirs.decide(&strait_bpf::SeccompData::new(arch, nr)) == Action::Allow
            })
    };
    // A call of x32 too since Linux 6.10; libseccomp 2.5 took it for one of x86_64 alone.
    let known: Vec<Syscall> =
        Syscall::all().filter(is_known).filter(|call| call.name() != "map_shadow_stack").collect();
    assert!(known.len() > 400, "{} names", known.len());
    // Any two names stand apart in one of these halves.
    for bit in 0..known.len().ilog2() + 1 {
        for half in [0, 1] {
            let rules = known.iter().enumerate().filter(|(index, _)| index >> bit & 1 == half);
            let rules: Vec<Rule> = rules.map(|(_, call)| rule(*call)).collect();
            agree(Action::Errno(1), &arches, &rules).unwrap();
        }
    }
}
