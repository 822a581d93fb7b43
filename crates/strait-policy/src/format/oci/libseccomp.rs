//! What libseccomp makes of a profile's rules, and runc of that.

use std::collections::BTreeMap;

use strait_abi::{Arch, Syscall};
use strait_bpf::Action;

use super::profile::{Arg, CompareOp, Profile};
use super::{Runtime, Target};
use crate::rules::{Arm, Chain, Condition, Op, Rules, Table, Test, Width};
use crate::signature::register_width;

/// What libseccomp gives to other audit arches and ABIs (`SCMP_FLTATR_ACT_BADARCH`).
const BAD_ARCH: Action = Action::KillThread;
const ENOSYS: Action = Action::Errno(38);
/// The number that a tracer leaves to skip a call; libseccomp takes it for a call of x86_64.
const SKIPPED: u32 = u32::MAX;

/// The rules that the machine's runtime would install.
pub(super) fn install(profile: &Profile, target: &Target) -> Rules {
    let mut arches = profile.listed.clone();
    if !arches.contains(&target.arch) {
        arches.push(target.arch);
    }
    let mut rules = Rules::new(BAD_ARCH);
    for &arch in &arches {
        let table = rules.table(arch.audit_arch()).cloned();
        let mut table = table.unwrap_or_else(|| match arch {
            Arch::X86_64 | Arch::X32 => {
                let mut table = Table::new(BAD_ARCH);
                table.set(SKIPPED, SKIPPED, profile.default);
                table
            }
            _ => Table::new(profile.default),
        });
        match arch {
            Arch::X86_64 => table.set(0, Arch::X32_BIT - 1, profile.default),
            Arch::X32 => table.set(Arch::X32_BIT, u32::MAX, profile.default),
            _ => {}
        }
        for (nr, calls) in by_number(profile, arch) {
            table.set(nr, nr, chain(&calls, profile.default));
        }
        rules = rules.with_table(arch.audit_arch(), table);
    }
    if target.runtime == Runtime::Runc { prepend_enosys_stub(profile, rules) } else { rules }
}

/// What the numbers get that are greater than those of all calls known here.
pub(super) fn beyond_all_names(rules: &Rules, arch: Arch) -> Option<Action> {
    let last = arch.last_number(Arch::tables_as_of());
    Some(rules.table(arch.audit_arch())?.chain(last + 1).otherwise)
}

/// A rule of one number: all of its comparisons hold together.
struct NumberRule {
    action: Action,
    tests: Vec<Test>,
}

/// The rules of each number on one ABI, in order.
fn by_number(profile: &Profile, arch: Arch) -> BTreeMap<u32, Vec<NumberRule>> {
    let mut by_number: BTreeMap<u32, Vec<NumberRule>> = BTreeMap::new();
    let mut add = |nr: u32, action: Action, tests: Vec<Test>| {
        by_number.entry(nr).or_default().push(NumberRule { action, tests });
    };
    for rule in profile.rules.iter().filter(|rule| rule.action != profile.default) {
        // Two conditions on one argument are two rules.
        let twice = |arg: &Arg| rule.args.iter().filter(|a| a.index == arg.index).count() > 1;
        let split: Vec<&[Arg]> = if rule.args.iter().any(twice) {
            rule.args.chunks(1).collect()
        } else {
            vec![&rule.args]
        };
        for args in split {
            let test = |arg: &Arg| test(arg, width(arch));
            if let Some((gate, operation)) = multiplexed(&rule.name, arch) {
                // The operation takes the place of argument 0; what is said of the other
                // arguments stays, though it is now said of a pointer.
                let operation = Arg { index: 0, op: CompareOp::Eq, value: operation, value_two: 0 };
                let others = args.iter().filter(|arg| arg.index != 0);
                add(gate, rule.action, [&operation].into_iter().chain(others).map(test).collect());
            }
            if let Some(nr) = Syscall::from_name(&rule.name).and_then(|call| call.number(arch)) {
                add(nr, rule.action, args.iter().map(test).collect());
            }
        }
    }
    by_number
}

/// What a number gets: the first rule without conditions, or else those with, in order.
fn chain(rules: &[NumberRule], default: Action) -> Chain {
    if let Some(rule) = rules.iter().find(|rule| rule.tests.is_empty()) {
        return Chain::from(rule.action);
    }
    let arms = rules.iter().map(|rule| {
        let tests: Vec<Condition> = rule.tests.iter().copied().map(Condition::Test).collect();
        let when = match tests.as_slice() {
            [one] => one.clone(),
            _ => Condition::All(tests),
        };
        Arm { when, action: rule.action }
    });
    Chain { arms: arms.collect(), otherwise: default }
}

/// How much of an argument libseccomp compares: on x32 as on ABIs of 32 bits.
pub(in crate::format) fn width(arch: Arch) -> Width {
    if arch == Arch::X32 { Width::W32 } else { register_width(arch) }
}

/// One condition, over that much of the argument.
pub(in crate::format) fn test(arg: &Arg, width: Width) -> Test {
    let all = width.mask();
    let (op, mask, value) = match arg.op {
        CompareOp::Ne => (Op::Ne, all, arg.value),
        CompareOp::Lt => (Op::Lt, all, arg.value),
        CompareOp::Le => (Op::Le, all, arg.value),
        CompareOp::Eq => (Op::Eq, all, arg.value),
        CompareOp::Ge => (Op::Ge, all, arg.value),
        CompareOp::Gt => (Op::Gt, all, arg.value),
        CompareOp::MaskedEq => (Op::Eq, arg.value & all, arg.value_two & arg.value),
    };
    Test::new(arg.index, width, mask, op, value & all)
        .expect("an index is checked where it is read, and mask and value are cut to the width")
}

/// The number of `socketcall` or `ipc`, and the operation, by which a call can be made too.
pub(in crate::format) fn multiplexed(name: &str, arch: Arch) -> Option<(u32, u64)> {
    if !matches!(arch, Arch::I386 | Arch::Ppc64le | Arch::S390x) {
        return None;
    }
    let find = |gate: &str, table: &[(&str, u64)]| {
        let (_, operation) = table.iter().find(|(call, _)| *call == name)?;
        Some((Syscall::from_name(gate)?.number(arch)?, *operation))
    };
    find("socketcall", SOCKETCALL).or_else(|| find("ipc", IPC))
}

/// `include/uapi/linux/net.h`, `SYS_*`.
const SOCKETCALL: &[(&str, u64)] = &[
    ("socket", 1),
    ("bind", 2),
    ("connect", 3),
    ("listen", 4),
    ("accept", 5),
    ("getsockname", 6),
    ("getpeername", 7),
    ("socketpair", 8),
    ("send", 9),
    ("recv", 10),
    ("sendto", 11),
    ("recvfrom", 12),
    ("shutdown", 13),
    ("setsockopt", 14),
    ("getsockopt", 15),
    ("sendmsg", 16),
    ("recvmsg", 17),
    ("accept4", 18),
    ("recvmmsg", 19),
    ("sendmmsg", 20),
];

/// `include/uapi/linux/ipc.h`.
const IPC: &[(&str, u64)] = &[
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

/// runc's stub: numbers greater than the greatest that the profile names get ENOSYS, on each ABI
/// that it lists.
fn prepend_enosys_stub(profile: &Profile, mut rules: Rules) -> Rules {
    if matches!(profile.default, Action::Allow | Action::Log | Action::Trace(_)) {
        return rules;
    }
    for &arch in &profile.listed {
        let numbers = profile
            .rules
            .iter()
            .filter_map(|rule| Syscall::from_name(&rule.name).and_then(|call| call.number(arch)));
        let Some(last) = numbers.max().filter(|last| *last != 0) else { continue };
        let Some(mut table) = rules.table(arch.audit_arch()).cloned() else { continue };
        // x86_64 and x32 are told apart by the bit alone.
        let ranges: &[(u32, u32)] = match arch {
            Arch::X86_64 => &[(0, 0x3fff_ffff), (0x8000_0000, 0xbfff_ffff)],
            Arch::X32 => &[(0x4000_0000, 0x7fff_ffff), (0xc000_0000, 0xffff_ffff)],
            _ => &[(0, u32::MAX)],
        };
        for &(first, end) in ranges {
            table.set(first.max(last.saturating_add(1)), end, ENOSYS);
        }
        if arch == Arch::S390x {
            // `setup`, by which large numbers come in.
            table.set(0, 0, ENOSYS);
        }
        rules = rules.with_table(arch.audit_arch(), table);
    }
    rules
}
