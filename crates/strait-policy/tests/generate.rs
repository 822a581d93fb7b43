//! Generated policies: narrowing, what is put in place of what, and that recordings only ever add.
#![allow(clippy::unwrap_used, reason = "the functions of a test fail as it does")]

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use strait_abi::{Arch, Syscall};
use strait_bpf::{Action, SeccompData};
use strait_policy::policy::Necessity;
use strait_policy::recording::{Engine, Observation, Outcomes, Phase, Site};
use strait_policy::{GenerateOptions, Narrowing, Policy, Recording, Rules, generate};

const EPERM: Action = Action::Errno(1);
const ENOSYS: Action = Action::Errno(38);

/// A call that was seen to succeed, or to answer ENOSYS, with these registers.
#[derive(Clone, Debug)]
struct Made {
    name: &'static str,
    arch: Arch,
    args: [u64; 6],
    enosys: bool,
    /// Whether the engine looked at arguments.
    looked_at: bool,
    phase: Option<Phase>,
}

fn made(name: &'static str, args: &[u64]) -> Made {
    let mut registers = [0; 6];
    registers[..args.len()].copy_from_slice(args);
    let arch = Arch::X86_64;
    Made { name, arch, args: registers, enosys: false, looked_at: true, phase: None }
}

fn recording(calls: &[Made]) -> Recording {
    let mut builder =
        Recording::builder(Engine { name: "ebpf".into(), reason: "test".into() }, "6.18.1");
    for made in calls {
        let call = Syscall::from_name(made.name).unwrap();
        let Some(nr) = call.number(made.arch) else { continue };
        let mut outcomes = Outcomes { count: 1, ..Outcomes::default() };
        match made.enosys {
            true => drop(outcomes.errnos.insert(38, 1)),
            false => outcomes.succeeded = 1,
        }
        let mut observation = Observation { outcomes, times: None, arguments: BTreeMap::new() };
        for (place, arg) in call.args_of_interest(made.arch).filter(|_| made.looked_at) {
            observation.see(made.arch, arg, made.args[place]);
        }
        let site = Site { image: "/bin/x".into(), phase: made.phase, arch: made.arch, nr };
        builder.observe(site, &observation);
    }
    builder.build()
}

fn policy(calls: &[Made], arguments: Narrowing) -> Policy {
    let options = GenerateOptions { arguments, ..GenerateOptions::default() };
    generate(&[recording(calls)], &options).unwrap()
}

fn decide(policy: &Policy, made: &Made) -> Action {
    decided(&policy.lower().unwrap(), made)
}

fn decided(rules: &Rules, made: &Made) -> Action {
    let nr = Syscall::from_name(made.name).unwrap().number(made.arch).unwrap();
    let data =
        SeccompData { nr, arch: made.arch.audit_arch(), instruction_pointer: 0, args: made.args };
    rules.decide(&data)
}

#[test]
fn what_was_seen_of_a_domain_is_allowed_and_what_may_take_its_place() {
    let inet = policy(&[made("socket", &[2, 1, 0])], Narrowing::Safe);
    // AF_UNIX, AF_INET, AF_INET6, AF_NETLINK; any type, as another release asks for other flags.
    for domain in [1, 2, 10, 16] {
        assert_eq!(decide(&inet, &made("socket", &[domain, 3, 9])), Action::Allow, "{domain}");
    }
    for domain in [17, 38, 40, 17 | 1 << 32] {
        assert_eq!(decide(&inet, &made("socket", &[domain, 1, 0])), EPERM, "{domain}");
    }
    // The kernel does not look at bit 32.
    assert_eq!(decide(&inet, &made("socket", &[2 | 1 << 32, 1, 0])), Action::Allow);
    let unix = policy(&[made("socket", &[1, 1, 0])], Narrowing::Safe);
    assert_eq!(decide(&unix, &made("socket", &[2, 1, 0])), EPERM);
    let socket = Syscall::from_name("socket").unwrap();
    let [Necessity::Observed(observed), Necessity::Declared(declared)] =
        inet.necessity[&socket].as_slice()
    else {
        panic!("{:?}", inet.necessity[&socket])
    };
    assert_eq!(observed.args, [("domain".to_owned(), vec!["AF_INET".to_owned()])].into());
    assert!(declared.reason.contains("domain is narrowed"), "{}", declared.reason);
    assert_eq!(Policy::parse(&inet.to_string()).unwrap(), inet);
}

#[test]
fn namespaces_are_allowed_only_where_they_were_seen() {
    const NEWUSER: u64 = 0x1000_0000;
    let threads = policy(&[made("clone", &[0x3d_0f00])], Narrowing::Safe);
    assert_eq!(decide(&threads, &made("clone", &[17])), Action::Allow);
    assert_eq!(decide(&threads, &made("clone", &[17 | NEWUSER])), EPERM);
    // fork was not seen, and another libc makes it: it takes no flags.
    assert_eq!(decide(&threads, &made("fork", &[])), Action::Allow);
    assert_eq!(decide(&threads, &made("clone3", &[])), ENOSYS);
    let sandbox = policy(&[made("clone", &[17 | NEWUSER])], Narrowing::Safe);
    assert_eq!(decide(&sandbox, &made("clone", &[17 | NEWUSER])), Action::Allow);
    // A release that makes clone in place of clone3 finds it, with no namespaces.
    let newer = policy(&[made("clone3", &[])], Narrowing::Safe);
    assert_eq!(decide(&newer, &made("clone", &[17])), Action::Allow);
    assert_eq!(decide(&newer, &made("clone", &[17 | NEWUSER])), EPERM);
}

#[test]
fn nothing_is_narrowed_of_which_not_all_is_known() {
    let many: Vec<Made> = (0..17).map(|cmd| made("ioctl", &[3, 0x8000 + cmd])).collect();
    let few: Vec<Made> = many[..16].to_vec();
    let other = made("ioctl", &[3, 0x5412]);
    assert_eq!(decide(&policy(&few, Narrowing::Safe), &other), EPERM);
    assert_eq!(decide(&policy(&many, Narrowing::Safe), &other), Action::Allow);
    let blind = Made { looked_at: false, ..few[0].clone() };
    let partly = policy(&[few[1].clone(), blind], Narrowing::Safe);
    assert_eq!(decide(&partly, &other), Action::Allow);
    assert_eq!(decide(&policy(&few, Narrowing::Off), &other), Action::Allow);
}

#[test]
fn all_means_exactly_what_was_seen() {
    let exact = policy(&[made("socket", &[1, 0x80001, 0]), made("fcntl", &[3, 1])], Narrowing::All);
    assert_eq!(decide(&exact, &made("socket", &[1, 0x80001, 0])), Action::Allow);
    assert_eq!(decide(&exact, &made("socket", &[1, 1, 0])), EPERM);
    assert_eq!(decide(&exact, &made("socket", &[2, 0x80001, 0])), EPERM);
    assert_eq!(decide(&exact, &made("fcntl", &[9, 1])), Action::Allow);
    assert_eq!(decide(&exact, &made("fcntl", &[3, 2])), EPERM);
}

#[test]
fn libraries_may_swap_calls_unless_it_is_to_be_exact() {
    let seen = [made("openat", &[0]), made("newfstatat", &[0]), made("epoll_wait", &[0])];
    let robust = policy(&seen, Narrowing::Safe);
    for name in ["open", "stat", "fstat", "epoll_pwait", "exit_group", "rt_sigreturn"] {
        assert_eq!(decide(&robust, &made(name, &[])), Action::Allow, "{name}");
    }
    for name in ["openat2", "statx", "epoll_pwait2"] {
        assert_eq!(decide(&robust, &made(name, &[])), ENOSYS, "{name}");
    }
    for call in robust.rules.iter().flat_map(|rule| &rule.syscalls) {
        assert!(!robust.necessity[call].is_empty(), "{call}");
    }
    let options = GenerateOptions { exact: true, ..GenerateOptions::default() };
    let exact = generate(&[recording(&seen)], &options).unwrap();
    for name in ["open", "stat", "epoll_pwait", "openat2", "statx"] {
        assert_eq!(decide(&exact, &made(name, &[])), EPERM, "{name}");
    }
    for name in ["openat", "exit_group", "rt_sigreturn", "restart_syscall"] {
        assert_eq!(decide(&exact, &made(name, &[])), Action::Allow, "{name}");
    }
}

#[test]
fn what_was_done_before_the_filter_can_be_left_out() {
    let at = |phase, name| Made { phase: Some(phase), ..made(name, &[]) };
    let calls = [
        at(Phase::BeforeFilter, "mount"),
        at(Phase::Runtime, "capset"),
        at(Phase::Steady, "read"),
        made("write", &[]),
    ];
    let phases = Phase::ALL.iter().copied().filter(|&phase| phase != Phase::BeforeFilter);
    let options = GenerateOptions { phases: Some(phases.collect()), ..GenerateOptions::default() };
    let policy = generate(&[recording(&calls)], &options).unwrap();
    assert_eq!(decide(&policy, &made("mount", &[])), EPERM);
    for name in ["capset", "read", "write"] {
        assert_eq!(decide(&policy, &made(name, &[])), Action::Allow, "{name}");
    }
}

/// Calls that the tables know, and some that they do not.
const KNOWN: &[&str] = &[
    "open",
    "openat",
    "creat",
    "stat",
    "newfstatat",
    "statx",
    "clone",
    "clone3",
    "fork",
    "futex",
    "poll",
    "ppoll",
    "socket",
    "ioctl",
    "prctl",
    "unshare",
    "personality",
    "mmap",
    "kill",
    "read",
    "epoll_wait",
    "epoll_pwait2",
    "rseq",
    "clock_gettime",
    "madvise",
];

/// Any of them, with few and many values, and some that they do not.
fn some_call() -> impl Strategy<Value = Made> {
    let names = proptest::sample::select(KNOWN);
    let value = prop_oneof![
        0..3_u64,
        proptest::sample::select(vec![
            2,
            10,
            16,
            17,
            0x1000_0000,
            0x1000_0011,
            0x5401,
            0x5413,
            u64::MAX
        ]),
    ];
    let arch = prop_oneof![4 => Just(Arch::X86_64), 1 => Just(Arch::I386)];
    let flags = (proptest::bool::weighted(0.2), proptest::bool::weighted(0.8));
    (names, arch, [value.clone(), value.clone(), value], flags).prop_map(
        |(name, arch, [a, b, c], (enosys, looked_at))| Made {
            arch,
            enosys,
            looked_at,
            ..made(name, &[a, b, c])
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// What the policy of A or that of B allows, the policy of both allows; and so does the one of
    /// the merged recording.
    #[test]
    fn recordings_only_ever_add(
        a in vec(some_call(), 1..12),
        b in vec(some_call(), 1..12),
        exact in any::<bool>(),
        arguments in proptest::sample::select(vec![Narrowing::Off, Narrowing::Safe, Narrowing::All]),
    ) {
        let options = GenerateOptions { exact, arguments, ..GenerateOptions::default() };
        let (one, other) = (recording(&a), recording(&b));
        prop_assume!(!one.calls().is_empty() && !other.calls().is_empty());
        let merged = one.merge(&other);
        let alone = [&one, &other].map(|it| generate(std::slice::from_ref(it), &options).unwrap());
        let together = generate(&[one, other], &options).unwrap();
        let of_merged = generate(&[merged], &options).unwrap();
        let rules = |policy: &Policy| policy.lower().unwrap();
        let alone = alone.each_ref().map(rules);
        let (together, of_merged) = (rules(&together), rules(&of_merged));
        let values = [0, 1, 2, 10, 16, 17, 38, 0x1000_0000, 0x1000_0011, 0x5401, 0x5412, 1 << 32, u64::MAX];
        for arch in [Arch::X86_64, Arch::I386] {
            for call in Syscall::all() {
                let Some(nr) = call.number(arch) else { continue };
                // Of calls that no table knows, two values tell all.
                let known = KNOWN.contains(&call.name());
                let values = if known { &values[..] } else { &values[..2] };
                for (x, y) in values.iter().flat_map(|&x| values.iter().map(move |&y| (x, y))) {
                    let data = SeccompData {
                        nr,
                        arch: arch.audit_arch(),
                        instruction_pointer: 0,
                        args: [x, y, x, 0, 0, 0],
                    };
                    if alone.iter().any(|rules| rules.decide(&data) == Action::Allow) {
                        prop_assert_eq!(together.decide(&data), Action::Allow, "{} {:?}", call, data);
                        prop_assert_eq!(of_merged.decide(&data), Action::Allow, "{} {:?}", call, data);
                    }
                }
            }
        }
    }

    /// What was seen to be done can be done again.
    #[test]
    fn what_was_seen_is_allowed(calls in vec(some_call(), 1..20), exact in any::<bool>()) {
        prop_assume!(!recording(&calls).calls().is_empty());
        for arguments in [Narrowing::Off, Narrowing::Safe, Narrowing::All] {
            let options = GenerateOptions { exact, arguments, ..GenerateOptions::default() };
            let policy = generate(&[recording(&calls)], &options).unwrap();
            prop_assert_eq!(&Policy::parse(&policy.to_string()).unwrap(), &policy);
            let made = |made: &&Made| Syscall::from_name(made.name).unwrap().number(made.arch).is_some();
            let rules = policy.lower().unwrap();
            for made in calls.iter().filter(made).filter(|made| !made.enosys) {
                prop_assert_eq!(decided(&rules, made), Action::Allow, "{:?}\n{}", made, policy);
            }
        }
    }
}
