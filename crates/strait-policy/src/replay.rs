//! Replaying: what a policy would have denied of what was recorded.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use strait_abi::Arch;
use strait_bpf::Action;

use crate::principle::fallback;
use crate::query::{Query, known};
use crate::recording::{Call, Outcomes, Phase, Recording};
use crate::rules::{Chain, Rules, Test};
use crate::satisfy::{Claim, satisfy};

/// A call that was made, or several alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The program file that made it.
    pub image: String,
    /// The ABI by which it came in.
    pub arch: Arch,
    /// Its number.
    pub nr: u32,
    /// Its arguments, as far as they are known.
    pub args: [Option<u64>; 6],
    /// How often, and with which results; where there are alternatives, all of them together.
    pub outcomes: Outcomes,
    /// How the arguments are known.
    pub arguments: Arguments,
    /// The line of the trace that shows it, from 1, where it was a trace.
    pub line: Option<usize>,
}

/// How the arguments of a call are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arguments {
    /// Every such call had them.
    All,
    /// Some of the calls had them.
    Some,
    /// Each of them was seen, and perhaps never all in one call.
    Apart,
}

/// How many combinations of values are tried of one recorded call.
const COMBINATIONS: usize = 256;

impl Recording {
    /// What was recorded and a filter decides on, in the order in which it was first seen where
    /// that is known: each call once for each combination of the values that were seen of its
    /// arguments.
    pub fn attempts(&self) -> Vec<Attempt> {
        let mut calls: Vec<&Call> =
            self.calls().iter().filter(|call| call.phase != Some(Phase::BeforeFilter)).collect();
        calls.sort_by_key(|call| call.times.map_or(0, |times| times.first_us));
        calls.into_iter().flat_map(|call| self.combinations(call)).collect()
    }

    fn combinations(&self, call: &Call) -> Vec<Attempt> {
        let known: Vec<(usize, Vec<u64>)> = call
            .arguments
            .iter()
            .filter(|(_, values)| !values.overflowed())
            .filter_map(|(name, values)| {
                let (at, _) = call.syscall()?.arg(call.arch, name)?;
                Some((at, values.iter().collect()))
                    .filter(|(_, values): &(_, Vec<u64>)| !values.is_empty())
            })
            .collect();
        let count = known.iter().try_fold(1_usize, |count, (_, values)| {
            count.checked_mul(values.len()).filter(|count| *count <= COMBINATIONS)
        });
        let mut all = vec![[None; 6]];
        // More than can be tried is as if nothing were known.
        for (at, values) in known.iter().filter(|_| count.is_some()) {
            let with = |args: &[Option<u64>; 6]| {
                let mut args = *args;
                values
                    .iter()
                    .map(move |value| {
                        args[*at] = Some(*value);
                        args
                    })
                    .collect::<Vec<_>>()
            };
            all = all.iter().flat_map(with).collect();
        }
        let arguments = match known.iter().filter(|(_, values)| values.len() > 1).count() {
            0 => Arguments::All,
            1 => Arguments::Some,
            _ => Arguments::Apart,
        };
        let attempt = |args| Attempt {
            image: self.images()[call.image].path.clone(),
            arch: call.arch,
            nr: call.nr,
            args,
            outcomes: call.outcomes.clone(),
            arguments,
            line: None,
        };
        all.into_iter().map(attempt).collect()
    }
}

/// A call that rules would not have let pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The first such call; the count is that of all with this image, number and arguments.
    pub first: Attempt,
    /// What it would have got.
    pub action: Action,
    /// Whether such a call was made and would have got that; if not, arguments decide that are not
    /// known, or not known together.
    pub certain: bool,
    /// What the program would have made of it.
    pub fallback: Fallback,
}

impl Denial {
    /// The call as a person writes it, or its number where it has no name.
    pub fn call(&self) -> String {
        let Attempt { arch, nr, args, .. } = self.first;
        match arch.syscall(nr) {
            Some(syscall) => Query { syscall, arch, args }.to_string(),
            None => format!("number {nr}"),
        }
    }
}

/// What libraries make of a call that is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// They do without it, and how.
    Works(&'static str),
    /// They would do without it, and how, if the answer were ENOSYS.
    NeedsEnosys(&'static str),
    /// Nothing that is known: the program sees the error, or is ended.
    None,
}

/// What denials are told apart by: image, ABI, number and arguments.
type Key = (String, Arch, u32, [Option<u64>; 6]);

/// What `rules` would have denied, once for each image, ABI, number and the arguments that the rules
/// look at, in the order in which that was first attempted. A call that the kernel answered with an errno every time is
/// denied by rules only if they answer it otherwise.
pub fn replay(rules: &Rules, attempts: impl IntoIterator<Item = Attempt>) -> Vec<Denial> {
    let mut denials: Vec<Denial> = Vec::new();
    // The place in the list, or none of what passes.
    let mut known: BTreeMap<Key, Option<usize>> = BTreeMap::new();
    for attempt in attempts {
        let mut args = attempt.args;
        if let Some(table) = rules.table(attempt.arch.audit_arch()) {
            let looked_at = arguments(table.chain(attempt.nr));
            (0..).zip(&mut args).filter(|(at, _)| !looked_at.contains(at)).for_each(|(_, arg)| {
                *arg = None;
            });
        }
        let key = (attempt.image.clone(), attempt.arch, attempt.nr, args);
        match known.entry(key) {
            // What passed before may have failed in another way this time.
            Entry::Occupied(entry) if entry.get().is_some() => {
                let denial = entry.get().and_then(|index| denials.get_mut(index));
                // Alternatives have one count together.
                if let Some(denial) = denial.filter(|_| attempt.arguments == Arguments::All) {
                    denial.first.outcomes.add(&attempt.outcomes);
                }
            }
            Entry::Occupied(mut entry) => {
                let denial = denied(rules, attempt);
                *entry.get_mut() = denial.as_ref().map(|_| denials.len());
                denials.extend(denial);
            }
            Entry::Vacant(entry) => {
                let denial = denied(rules, attempt);
                entry.insert(denial.as_ref().map(|_| denials.len()));
                denials.extend(denial);
            }
        }
    }
    denials
}

/// The arguments that a chain looks at.
fn arguments(chain: &Chain) -> BTreeSet<u8> {
    chain.arms.iter().flat_map(|arm| arm.when.tests()).map(Test::arg).collect()
}

/// What rules would have done instead of letting it pass.
fn denied(rules: &Rules, attempt: Attempt) -> Option<Denial> {
    let always = Chain::from(rules.foreign());
    let chain =
        rules.table(attempt.arch.audit_arch()).map_or(&always, |table| table.chain(attempt.nr));
    let outcomes = &attempt.outcomes;
    let is_denied = |action: Action| match action {
        Action::Allow | Action::Log => false,
        Action::Errno(errno) => {
            outcomes.count == 0 || outcomes.errnos.get(&errno) != Some(&outcomes.count)
        }
        _ => true,
    };
    let known = known(&attempt.args);
    let gives = |wanted: &dyn Fn(Action) -> bool| {
        // What cannot be decided is possible.
        satisfy(&[Claim::Holds(&known), Claim::Gives(chain, wanted)]).map_or(true, |w| w.is_some())
    };
    let mut actions: Vec<Action> =
        chain.arms.iter().map(|arm| arm.action).chain([chain.otherwise]).collect();
    actions.sort();
    actions.dedup();
    let mut denying = actions.into_iter().filter(|action| is_denied(*action));
    let action = denying.find(|action| gives(&|given| given == *action))?;
    let certain = attempt.arguments != Arguments::Apart && !gives(&|given| given != action);
    let name = attempt.arch.syscall(attempt.nr).map_or("", |call| call.name());
    let fallback = match (fallback(name), action) {
        (Some(how), Action::Errno(38)) => Fallback::Works(how),
        (Some(how), Action::Errno(_)) => Fallback::NeedsEnosys(how),
        _ => Fallback::None,
    };
    Some(Denial { first: attempt, action, certain, fallback })
}

#[cfg(test)]
mod tests {
    use strait_abi::Syscall;

    use super::*;
    use crate::Policy;
    use crate::log::strace;
    use crate::recording::{Engine, Observation, Site};

    fn rules() -> Rules {
        let policy = Policy::parse(
            "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec: {architectures: [x86_64],\
             default: errno(EPERM), rules: [{syscalls: [read, execve], action: allow},\
             {syscalls: [write], when: fd == 1, action: allow},\
             {syscalls: [clone3, rseq], action: errno(ENOSYS)}]}",
        );
        policy.unwrap().lower().unwrap()
    }

    #[test]
    fn what_would_be_denied_is_named_with_its_answer() {
        let engine = Engine { name: "ptrace".into(), reason: "test".into() };
        let mut recording = Recording::builder(engine, "6.18.1");
        let nr = |name| Syscall::from_name(name).unwrap().number(Arch::X86_64).unwrap();
        let good = Outcomes { count: 2, succeeded: 2, ..Outcomes::default() };
        let probe = Outcomes { count: 2, errnos: [(38, 2)].into(), ..Outcomes::default() };
        for (name, outcomes) in [
            ("read", &good),
            ("mount", &good),
            ("clone3", &good),
            ("statx", &good),
            ("rseq", &probe),
            ("write", &good),
        ] {
            recording.call("/bin/x", Arch::X86_64, nr(name), outcomes);
        }
        recording.call("/bin/y", Arch::I386, 3, &good);
        let recording = recording.build();
        let denials = replay(&rules(), recording.attempts());
        let seen: Vec<_> =
            denials.iter().map(|one| (one.call(), one.action, one.certain, one.fallback)).collect();
        let text = |text: &str| text.to_owned();
        let (eperm, enosys) = (Action::Errno(1), Action::Errno(38));
        assert_eq!(
            seen,
            [
                (text("write(...)"), eperm, false, Fallback::None),
                (text("mount(...)"), eperm, true, Fallback::None),
                (
                    text("statx(...)"),
                    eperm,
                    true,
                    Fallback::NeedsEnosys("libc falls back to fstatat")
                ),
                (text("clone3(...)"), enosys, true, Fallback::Works("glibc falls back to clone")),
                (text("read(...)"), Action::KillProcess, true, Fallback::None),
            ]
        );
    }

    #[test]
    fn recorded_values_are_tried_and_what_was_before_the_filter_is_not() {
        let engine = Engine { name: "ebpf".into(), reason: "test".into() };
        let mut recording = Recording::builder(engine, "6.18.1");
        let socket = Syscall::from_name("socket").unwrap();
        let nr = |name| Syscall::from_name(name).unwrap().number(Arch::X86_64).unwrap();
        let mut seen = Observation {
            outcomes: Outcomes { count: 3, ..Outcomes::default() },
            ..Observation::default()
        };
        for value in [1, 2, 16] {
            seen.see(Arch::X86_64, socket.arg(Arch::X86_64, "domain").unwrap().1, value);
        }
        let site = |phase, nr| Site { image: "/x".into(), phase, arch: Arch::X86_64, nr };
        recording.observe(site(None, nr("socket")), &seen);
        recording.observe(site(Some(Phase::BeforeFilter), nr("mount")), &seen);
        let policy = Policy::parse(
            "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec: {architectures: [x86_64],\
             default: errno(EPERM), rules: [{syscalls: [socket], when: domain != AF_NETLINK, \
             action: allow}]}",
        );
        let denials = replay(&policy.unwrap().lower().unwrap(), recording.build().attempts());
        assert_eq!(denials.len(), 1, "{denials:?}");
        assert_eq!(denials[0].call(), "socket(AF_NETLINK, ...)");
        assert_eq!((denials[0].certain, denials[0].first.arguments), (true, Arguments::Some));
    }

    #[test]
    fn a_trace_has_arguments_and_an_order() {
        let trace = "execve(\"/bin/x\", [\"x\"], 0x7ffe /* 1 var */) = 0\n\
                     write(1, \"a\", 1) = 1\n\
                     write(2, \"b\", 1) = 1\n\
                     mount(\"/\", \"/mnt\", NULL, MS_BIND, NULL) = -1 EPERM (Operation not permitted)\n\
                     write(2, \"c\", 1) = 1\n\
                     write(3, \"d\", 1) = -1 EBADF (Bad file descriptor)\n";
        let (attempts, unreadable) = strace::attempts(trace, Arch::X86_64);
        assert_eq!(unreadable, 0);
        let denials = replay(&rules(), attempts);
        let seen: Vec<_> = denials
            .iter()
            .map(|one| (one.call(), one.first.line, one.first.outcomes.count, one.certain))
            .collect();
        assert_eq!(
            seen,
            [
                ("write(2, _, 1, ...)".to_owned(), Some(3), 2, true),
                ("write(3, _, 1, ...)".to_owned(), Some(6), 1, true),
            ]
        );
        assert!(denials.iter().all(|one| one.first.image == "/bin/x"));
    }
}
