//! How much attack surface a policy leaves: one number, and what it is made of.
//!
//! The formula and why it is monotone are in `docs/design/045-score.md`.

use strait_abi::{Arch, DangerousValue, Syscall};
use strait_bpf::{Action, Decision, Undecided};

use crate::baseline::{Baseline, docker_default};
use crate::format::{FormatError, bpf};
use crate::policy::{Policy, Rule};
use crate::rules::{Chain, Condition, Op, Rules, Test};
use crate::satisfy::{Claim, can_give, satisfy};
use crate::signature;
use crate::when::When;

/// How much attack surface rules leave.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// What it is made of, the most first; what is closed is not among it.
    pub parts: Vec<Part>,
    /// The points of Docker's default profile on x86_64 alone.
    pub baseline: f64,
}

/// One thing that is open.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// What.
    pub what: Surface,
    /// How much it counts when it is wholly open.
    pub weight: f64,
    /// How far it is open, from 0, not at all, to 1.
    pub open: f64,
    /// Whether Docker's default profile has it closed, which doubles the weight.
    pub beyond_default: bool,
}

impl Part {
    /// What it adds to the score.
    pub fn points(&self) -> f64 {
        self.weight * self.open
    }
}

/// What can be open.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Surface {
    /// A call, by the ABI by which it is open furthest.
    Call(Syscall, Arch),
    /// Dangerous values of an argument of a call that passes.
    Value(&'static DangerousValue, Arch),
    /// An ABI by which anything passes.
    Abi(Arch),
    /// Numbers that newer kernels give to calls.
    NewerCalls(Arch),
}

impl PartialEq for Surface {
    fn eq(&self, other: &Surface) -> bool {
        self.key() == other.key()
    }
}

impl Surface {
    /// What orders and tells them apart: for a person, and in output.
    fn key(&self) -> (u8, String, Arch) {
        match self {
            Surface::Call(call, arch) => (0, call.name().to_owned(), *arch),
            Surface::Value(value, arch) => {
                let call = value.syscall();
                (1, format!("{call}({})", value.values().join(" or ")), *arch)
            }
            Surface::Abi(arch) => (2, format!("any call by {arch}"), *arch),
            Surface::NewerCalls(arch) => (3, "calls that newer kernels bring".to_owned(), *arch),
        }
    }

    /// What it is, in a few words.
    pub fn name(&self) -> String {
        self.key().1
    }

    /// The ABI by which it is open.
    pub fn arch(&self) -> Arch {
        self.key().2
    }

    /// What is dangerous about it, if anything is more than about any call.
    pub fn danger(&self) -> Option<&'static str> {
        match self {
            Surface::Call(call, _) => call.danger().map(strait_abi::Danger::reason),
            Surface::Value(value, _) => Some(value.danger().reason()),
            _ => None,
        }
    }
}

/// Points of a call of which nothing is known to be dangerous.
const ORDINARY: f64 = 1.0;
/// Points for each step of danger's weight.
const DANGER: f64 = 4.0;
/// What is closed by the default profile counts so often.
const BEYOND_DEFAULT: f64 = 2.0;
/// Points of an ABI: the code by which its calls come in.
const ABI: f64 = 5.0;
/// Points of calls that nobody has looked at.
const NEWER: f64 = 20.0;
/// How far open a call is of whose arguments no named ones are left, and of whose all are.
const NARROWED: (f64, f64) = (0.25, 0.75);

impl Score {
    /// The score of rules, over every ABI that is known.
    ///
    /// # Errors
    /// If a condition is too intricate.
    pub fn new(rules: &Rules) -> Result<Score, Undecided> {
        let default = docker_default();
        let baseline = total(&parts(&default_profile(&default), &default)?);
        Ok(Score { parts: parts(rules, &default)?, baseline })
    }

    /// The score of what a program or a stack of filters decides.
    ///
    /// # Errors
    /// If rules cannot say it, or a condition is too intricate.
    pub fn of_decision(decision: &Decision) -> Result<Score, FormatError> {
        let rules = bpf::import_decision(decision)?.policy.lower()?;
        Ok(Score::new(&rules)?)
    }

    /// The sum of all points.
    pub fn points(&self) -> f64 {
        total(&self.parts)
    }

    /// In hundredths of what Docker's default profile leaves on x86_64: 0 is nothing.
    pub fn score(&self) -> f64 {
        100.0 * self.points() / self.baseline
    }
}

fn total(parts: &[Part]) -> f64 {
    parts.iter().map(Part::points).sum()
}

fn parts(rules: &Rules, default: &Baseline) -> Result<Vec<Part>, Undecided> {
    let mut parts: Vec<Part> = Vec::new();
    let mut add = |what: Surface, weight: f64, open: f64, beyond_default: bool| {
        if open > 0.0 {
            let weight = if beyond_default { weight * BEYOND_DEFAULT } else { weight };
            parts.push(Part { what, weight, open, beyond_default });
        }
    };
    let closed = Chain::from(rules.foreign());
    let chain = |arch: Arch, nr: u32| {
        rules.table(arch.audit_arch()).map_or(&closed, |table| table.chain(nr))
    };
    for call in Syscall::all() {
        let mut furthest: Option<(f64, Arch)> = None;
        for &arch in Arch::ALL {
            let Some(nr) = call.number(arch) else { continue };
            let open = openness(chain(arch, nr), call, arch)?;
            if furthest.is_none_or(|(most, _)| open > most) {
                furthest = Some((open, arch));
            }
        }
        let Some((open, arch)) = furthest else { continue };
        let danger = call.danger().map_or(0.0, |danger| f64::from(danger.weight()));
        add(Surface::Call(call, arch), ORDINARY + DANGER * danger, open, !default.allows(call));
    }
    for value in DangerousValue::all() {
        let call = value.syscall();
        let mut furthest: Option<(f64, Arch)> = None;
        for &arch in Arch::ALL {
            let Some(nr) = call.number(arch) else { continue };
            let open = halves(|wanted| has_value(chain(arch, nr), value, arch, wanted))?;
            if furthest.is_none_or(|(most, _)| open > most) {
                furthest = Some((open, arch));
            }
        }
        let Some((open, arch)) = furthest else { continue };
        let weight = DANGER * f64::from(value.danger().weight());
        add(Surface::Value(value, arch), weight, open, default.denies(value));
    }
    let mut newer: Option<(f64, Arch)> = None;
    for &arch in Arch::ALL {
        let mut most: f64 = 0.0;
        for nr in Syscall::all().filter_map(|call| call.number(arch)) {
            most = most.max(halves(|wanted| Ok(part(can_give(chain(arch, nr), wanted)?)))?);
        }
        add(Surface::Abi(arch), ABI, most, false);
        let next = arch.last_number(Arch::tables_as_of()).saturating_add(1);
        let open = halves(|wanted| Ok(part(can_give(chain(arch, next), wanted)?)))?;
        if newer.is_none_or(|(most, _)| open > most) {
            newer = Some((open, arch));
        }
    }
    if let Some((open, arch)) = newer {
        add(Surface::NewerCalls(arch), NEWER, open, true);
    }
    parts.sort_by(|one, other| {
        let points = other.points().total_cmp(&one.points());
        points.then_with(|| one.what.key().cmp(&other.what.key()))
    });
    Ok(parts)
}

/// A half for what passes, and a half for what passes or that somebody else decides on.
fn halves(
    mut open: impl FnMut(fn(Action) -> bool) -> Result<f64, Undecided>,
) -> Result<f64, Undecided> {
    let not_denied = |action: Action| action >= Action::Notify;
    Ok((open(Action::lets_pass)? + open(not_denied)?) / 2.0)
}

fn part(open: bool) -> f64 {
    if open { 1.0 } else { 0.0 }
}

/// How far a call is open.
fn openness(chain: &Chain, call: Syscall, arch: Arch) -> Result<f64, Undecided> {
    halves(|wanted| {
        if !can_give(chain, wanted)? {
            return Ok(0.0);
        }
        if !can_give(chain, |action| !wanted(action))? {
            return Ok(1.0);
        }
        let (none, all) = NARROWED;
        Ok(none + (all - none) * named_values(chain, call, arch, wanted)?)
    })
}

/// Which part of the named values of its arguments a call can have; the product over arguments.
fn named_values(
    chain: &Chain,
    call: Syscall,
    arch: Arch,
    wanted: fn(Action) -> bool,
) -> Result<f64, Undecided> {
    let mut product = 1.0;
    for arg in call.args(arch).unwrap_or_default() {
        let Some(argument) = signature::argument(Some(call), arch, arg.name()) else { continue };
        let looked_at = chain.arms.iter().flat_map(|arm| arm.when.tests());
        let Some(constants) = arg.constants() else { continue };
        // Of what no rule looks at every value is open.
        if !looked_at.into_iter().any(|test| test.arg() == argument.index) {
            continue;
        }
        let field = constants.field_mask() & argument.bits;
        let (mut possible, mut known) = (0.0, 0.0);
        for (_, value) in constants.iter(arch) {
            let value = value & argument.bits;
            // A number is compared as the field that it is, a flag as its own bits.
            let mask = if value & field == value && field != 0 { field } else { value };
            let Ok(test) = Test::new(argument.index, argument.width(), mask, Op::Eq, value) else {
                continue;
            };
            let has = Condition::Test(test);
            known += 1.0;
            let claims = [Claim::Holds(&has), Claim::Gives(chain, &wanted)];
            possible += part(satisfy(&claims)?.is_some());
        }
        if known > 0.0 {
            product *= possible / known;
        }
    }
    Ok(product)
}

/// Whether a call can have one of these values.
fn has_value(
    chain: &Chain,
    value: &DangerousValue,
    arch: Arch,
    wanted: fn(Action) -> bool,
) -> Result<f64, Undecided> {
    let Some(argument) = signature::argument(Some(value.syscall()), arch, value.arg()) else {
        return Ok(0.0);
    };
    let tests = value.tests(arch).into_iter().filter_map(|(mask, wanted)| {
        Test::new(argument.index, argument.width(), mask, Op::Eq, wanted).ok()
    });
    let any = Condition::Any(tests.map(Condition::Test).collect());
    Ok(part(satisfy(&[Claim::Holds(&any), Claim::Gives(chain, &wanted)])?.is_some()))
}

impl Baseline {
    /// Whether it denies these values of a call that it allows otherwise.
    fn denies(&self, value: &DangerousValue) -> bool {
        let closed = ["CLONE_NEWCGROUP", "AF_ALG", "AF_VSOCK"];
        value.values().first().is_some_and(|first| closed.contains(first))
    }
}

/// Docker's default profile on x86_64, in its conditions too.
fn default_profile(default: &Baseline) -> Rules {
    let mut policy = Policy::new(Arch::X86_64.into(), Action::Errno(1));
    policy.rules.push(Rule::new(default.allowed.iter().copied(), Action::Allow));
    for (name, when) in [
        (
            "clone",
            "flags & (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | \
             CLONE_NEWPID | CLONE_NEWNET) == 0",
        ),
        ("personality", "persona in {0, 8, 0x20000, 0x20008, 0xffffffff}"),
        ("socket", "domain not in {AF_ALG, AF_VSOCK}"),
    ] {
        let mut rule = Rule::new(Syscall::from_name(name), Action::Allow);
        rule.when = When::parse(when).ok();
        policy.rules.push(rule);
    }
    policy.lower().expect("its calls and conditions are of x86_64, which a test looks at")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(spec: &str) -> Policy {
        let head = "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec: ";
        Policy::parse(&format!("{head}{spec}\n")).unwrap()
    }

    fn score(spec: &str) -> f64 {
        let rules = policy(spec).lower().unwrap();
        let score = Score::new(&rules).unwrap();
        // What is decided has the score of the rules that decide it.
        let decided = Score::of_decision(&rules.decision().unwrap()).unwrap();
        assert!((score.score() - decided.score()).abs() < 1e-9, "{spec}: {decided:?}");
        score.score()
    }

    fn allowing(rules: &str) -> f64 {
        score(&format!("{{architectures: [x86_64], default: errno(EPERM), rules: [{rules}]}}"))
    }

    #[test]
    fn the_default_profile_is_a_hundred_and_nothing_is_nothing() {
        let rules = default_profile(&docker_default());
        assert!((Score::new(&rules).unwrap().score() - 100.0).abs() < 1e-9);
        assert_eq!(score("{architectures: [x86_64], default: kill-process}"), 0.0);
        assert!(score("{architectures: [x86_64], default: allow}") > 200.0);
        for (name, _) in [("clone", 0), ("personality", 0), ("socket", 0)] {
            let call = Syscall::from_name(name).unwrap();
            let nr = call.number(Arch::X86_64).unwrap();
            let chain = rules.table(Arch::X86_64.audit_arch()).unwrap().chain(nr);
            assert_eq!(chain.arms.len(), 1, "{name} has its condition");
        }
    }

    #[test]
    fn what_is_dangerous_weighs_more_and_what_is_narrow_less() {
        let one = |call: &str| allowing(&format!("{{syscalls: [{call}], action: allow}}"));
        assert!(one("getpid") < one("ptrace") && one("ptrace") < one("init_module"));
        // Docker's default profile has the one and not the other, of the same weight.
        assert!(one("ptrace") < one("mount"));
        let socket = |when: &str| {
            allowing(&format!("{{syscalls: [socket], when: \"{when}\", action: allow}}"))
        };
        assert!(socket("domain == AF_UNIX") < socket("domain in {AF_UNIX, AF_INET}"));
        assert!(socket("domain != AF_ALG") < one("socket"));
        assert!(socket("domain == AF_UNIX") < socket("domain == AF_VSOCK"));
        let notified = allowing("{syscalls: [getpid], action: notify}");
        assert!(0.0 < notified && notified < one("getpid"));
        assert_eq!(allowing("{syscalls: [getpid], action: errno(EPERM)}"), 0.0);
        let both = score(
            "{architectures: [x86_64, i386], default: errno(EPERM), rules: [{syscalls: [getpid], \
             action: allow}]}",
        );
        assert!(both > one("getpid"), "a second ABI is more");
    }

    #[test]
    fn the_parts_say_what_is_open() {
        let rules = policy(
            "{architectures: [x86_64], default: errno(EPERM), rules: [{syscalls: [ptrace, read], \
             action: allow}, {syscalls: [clone], when: flags & CLONE_NEWNET == 0, action: allow}]}",
        );
        let score = Score::new(&rules.lower().unwrap()).unwrap();
        let names: Vec<String> = score.parts.iter().map(|part| part.what.name()).collect();
        assert!(names[0].starts_with("clone(CLONE_NEWCGROUP"), "{names:?}");
        assert_eq!(names[1..4], ["ptrace", "any call by x86_64", "read"]);
        assert!(score.parts[0].beyond_default && !score.parts[1].beyond_default);
    }

    /// Rules for a few calls, with conditions and actions of every rank.
    fn rule() -> impl Strategy<Value = String> {
        let call = prop::sample::select(
            &[
                "read",
                "clone",
                "socket",
                "ioctl",
                "ptrace",
                "personality",
                "openat",
                "mount",
                "unshare",
                "prctl",
            ][..],
        );
        let action = prop::sample::select(
            &["allow", "log", "trace(1)", "notify", "errno(EPERM)", "trap(1)", "kill-process"][..],
        );
        let op = prop::sample::select(&["==", "!=", "<", ">="][..]);
        let value = prop::sample::select(&[0_u64, 1, 2, 16, 38, 0x5412, 0x1000_0000, 1 << 32][..]);
        let mask = prop::sample::select(&[u64::MAX, 0xffff_ffff, 0x7e02_0000, 0xf][..]);
        (call, 0..3, mask, op, value, action, any::<bool>()).prop_map(
            |(call, arg, mask, op, value, action, always)| {
                let when = format!(", when: \"arg{arg} & {mask:#x} {op} {}\"", value & mask);
                let when = if always { String::new() } else { when };
                format!("{{syscalls: [{call}]{when}, action: {action}}}")
            },
        )
    }

    fn rules(default: &str, rules: &[String]) -> Policy {
        policy(&format!(
            "{{architectures: [x86_64], default: {default}, rules: [{}]}}",
            rules.join(", ")
        ))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..Default::default() })]

        /// Of two policies one of which is made to be tighter: the least restrictive of both, and
        /// the same with a rule in front that denies.
        #[test]
        fn a_tighter_policy_never_scores_worse(
            one in prop::collection::vec(rule(), 0..5),
            other in prop::collection::vec(rule(), 0..5),
            denied in rule(),
        ) {
            let (one, other) = (rules("errno(EPERM)", &one), rules("kill-process", &other));
            let score = |policy: &Policy| Score::new(&policy.lower().unwrap()).unwrap().points();
            let close = 1e-9;
            if let Ok(both) = one.merge(&other) {
                prop_assert!(score(&one) <= score(&both) + close, "{one}\n{both}");
                prop_assert!(score(&other) <= score(&both) + close, "{other}\n{both}");
            }
            let mut tighter = one.clone();
            let mut first = rules("errno(EPERM)", &[denied]).rules.remove(0);
            first.action = Action::KillProcess;
            tighter.rules.insert(0, first);
            prop_assert!(score(&tighter) <= score(&one) + close, "{tighter}\n{one}");
        }
    }
}
