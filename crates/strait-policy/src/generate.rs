//! Generating: from recordings to the least policy that lets the same happen again.
//!
//! Every call that was seen is allowed on the ABI by which it came in, with what was observed as
//! its necessity, and with its arguments narrowed as `narrow.rs` says. A call that only ever failed
//! may be a probe, and keeps its answer instead of being allowed: where that is ENOSYS, or the call is
//! a dangerous one. An ABI that only ever answered ENOSYS is none that the workload uses, and is not
//! opened. What is there beyond that is in the three tables of `principle.rs`, and declared in the
//! ledger.
//!
//! Generating only ever adds: what policies of two sets of recordings allow, the policy of both
//! together allows.

use std::collections::{BTreeMap, BTreeSet};

use strait_abi::{Arch, KernelVersion, Syscall};
use strait_bpf::Action;

use crate::narrow::{Narrowed, Narrowing, narrowed, narrowed_unseen, text};
use crate::policy::{
    Architectures, Declared, Necessity, Numbers, Observed, Policy, RecordingSource, Rule, Unknown,
};
use crate::principle::{PROBED, STARTS_TASKS, SWAPPED, UNSEEN, WAITS, When};
use crate::recording::{Call, Observation, Outcomes, Phase, Recording, Runtime};
use crate::sets::Set;

/// What a person can decide about a generated policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GenerateOptions {
    /// The policy's name.
    pub name: Option<String>,
    /// Make a policy even of recordings that lost something; the ledger says what.
    pub accept_loss: bool,
    /// Which arguments are narrowed to what was seen.
    pub arguments: Narrowing,
    /// Allow none of the calls that libraries put in place of those that were seen, and answer none
    /// of those that they probe by ENOSYS.
    pub exact: bool,
    /// Only what was done in these phases; everything if there is none here. Calls whose phase is
    /// not known are always in.
    pub phases: Option<BTreeSet<Phase>>,
}

/// Why no policy was made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// No recordings, or none with a call.
    #[error("nothing was recorded: a policy is made of at least one call")]
    Nothing,
    /// A recording lost calls that a policy of it would deny.
    #[error(
        "the recording {digest} is not whole ({}): record again, or accept that the policy may deny what was lost",
        .gaps.join("; ")
    )]
    Lossy {
        /// Which one.
        digest: String,
        /// What was lost.
        gaps: Vec<String>,
    },
    /// A call whose number has no name here, so that no rule can be written for it.
    #[error(
        "number {nr} of {arch} was called, {count} times, and is no known system call: this version of Strait is older than the workload"
    )]
    UnknownNumber {
        /// The ABI.
        arch: Arch,
        /// The number.
        nr: u32,
        /// How often it was called.
        count: u64,
    },
    /// A kernel release without a version in it.
    #[error(
        "the recording {digest} says it was made on kernel `{kernel}`, which has no version in it"
    )]
    Kernel {
        /// Which one.
        digest: String,
        /// The release.
        kernel: String,
    },
}

/// `errno` of a call that the kernel has not.
const ENOSYS: u16 = 38;
/// `errno` of a call that is not permitted.
const EPERM: u16 = 1;
/// What the moment decides: EINTR, EAGAIN, ENOMEM, EBUSY, ENFILE, EMFILE and ENOSPC.
const OF_THE_MOMENT: [u16; 7] = [4, 11, 12, 16, 23, 24, 28];
/// Who declares what is in the tables of principle.
const GENERATOR: &str = "strait generate";

/// The least policy under which what was recorded can happen again.
///
/// # Errors
/// If nothing was recorded, something was lost and that is not accepted, or a call has no name.
pub fn generate(
    recordings: &[Recording],
    options: &GenerateOptions,
) -> Result<Policy, GenerateError> {
    let mut seen = Seen { x32_is_closed: !uses_x32(recordings), ..Seen::default() };
    let mut sources = BTreeMap::new();
    let mut newest = None;
    for recording in recordings {
        let digest = recording.digest();
        // The same recording twice is no second observation.
        if sources.contains_key(&digest) {
            continue;
        }
        if recording.completeness().is_lossy() && !options.accept_loss {
            let gaps = recording.completeness().gaps();
            return Err(GenerateError::Lossy { digest, gaps });
        }
        let kernel = KernelVersion::from_release(recording.kernel()).map_err(|_| {
            let kernel = recording.kernel().to_owned();
            GenerateError::Kernel { digest: digest.clone(), kernel }
        })?;
        newest = newest.max(Some(kernel));
        seen.add(recording, &digest, options)?;
        let source = RecordingSource {
            digest: digest.clone(),
            engine: recording.engine().name.clone(),
            kernel: recording.kernel().to_owned(),
            gaps: recording.completeness().gaps(),
        };
        sources.insert(digest, source);
    }
    let named = seen.observations.keys().map(|&(_, arch)| arch);
    let arches: BTreeSet<Arch> = named.chain(seen.numbers.keys().copied()).collect();
    let architectures = Architectures::new(arches).ok_or(GenerateError::Nothing)?;

    let mut policy = Policy::new(architectures, Action::Errno(EPERM));
    policy.metadata.name = options.name.clone();
    policy.unknown = newest.map(|after| Unknown { after, action: Action::Errno(ENOSYS) });
    policy.recordings = sources.into_values().collect();

    if !options.exact {
        seen.complete_runtimes();
    }
    let answers = seen.answers(&policy.architectures, options);
    policy.rules = rules(&answers, &policy.architectures);
    policy.rules.extend(seen.numbers.iter().map(|(&arch, numbers)| Rule {
        numbers: numbers.clone(),
        arch: BTreeSet::from([arch]),
        ..Rule::new([], Action::Errno(ENOSYS))
    }));
    policy.necessity = seen.ledger(&policy.architectures, &answers);
    Ok(policy)
}

/// What each call gets on each ABI.
type Answers = BTreeMap<(Syscall, Arch), Answer>;

/// What a call gets on an ABI.
#[derive(Clone, Debug)]
struct Answer {
    action: Action,
    /// For which arguments, if not for all.
    narrowed: Option<Narrowed>,
    /// The principle by which it does, if it was not seen.
    principle: Option<String>,
}

impl Answer {
    fn by_principle(action: Action, reason: impl Into<String>) -> Answer {
        Answer { action, narrowed: None, principle: Some(reason.into()) }
    }
}

/// An argument's values as a person writes them; none where not all are known.
type Texts = Option<BTreeSet<String>>;

/// What was seen.
#[derive(Default)]
struct Seen {
    observations: BTreeMap<(Syscall, Arch), Observation>,
    /// By call and recording.
    observed: BTreeMap<(Syscall, String), Observed>,
    /// The same calls' values, by argument.
    values: BTreeMap<(Syscall, String), BTreeMap<String, Texts>>,
    /// Numbers that are no calls here and answered ENOSYS, by the ABI that says so in the policy.
    numbers: BTreeMap<Arch, Numbers>,
    /// What came in as x32 is no more than numbers that answered ENOSYS.
    x32_is_closed: bool,
    /// The language runtimes of the programs that made calls.
    runtimes: BTreeSet<Runtime>,
    /// The container runtimes that have started the workload, and what they need for that.
    needed: BTreeMap<String, BTreeSet<Syscall>>,
}

impl Seen {
    fn add(
        &mut self,
        recording: &Recording,
        digest: &str,
        options: &GenerateOptions,
    ) -> Result<(), GenerateError> {
        let wanted = |call: &&Call| match (&options.phases, call.phase) {
            (Some(phases), Some(phase)) => phases.contains(&phase),
            _ => true,
        };
        for call in recording.calls().iter().filter(wanted) {
            let (arch, nr, count) = (call.arch, call.nr, call.outcomes.count);
            if arch == Arch::X32 && self.x32_is_closed {
                self.numbers.entry(Arch::X86_64).or_default().insert(nr, nr);
                continue;
            }
            let Some(syscall) = call.syscall() else {
                // The kernel has no such call either: the answer stays what it was.
                if only_enosys(&call.outcomes) {
                    self.numbers.entry(arch).or_default().insert(nr, nr);
                    continue;
                }
                return Err(GenerateError::UnknownNumber { arch, nr, count });
            };
            let observation = self.observations.entry((syscall, arch)).or_default();
            observation.add(&call.observation());
            let image = &recording.images()[call.image];
            if call.phase == Some(Phase::Runtime) {
                let needed = self.needed.entry(image.as_runtime().to_owned()).or_default();
                needed.insert(syscall);
                continue;
            }
            let key = (syscall, digest.to_owned());
            let args = self.values.entry(key.clone()).or_default();
            for (name, values) in &call.arguments {
                let of_this = syscall.arg(arch, name).filter(|_| !values.overflowed());
                let texts = of_this.map(|(_, arg)| values.iter().map(|it| text(arg, arch, it)));
                let sum = args.entry(name.clone()).or_insert_with(|| Some(BTreeSet::new()));
                *sum = sum
                    .take()
                    .zip(texts)
                    .map(|(sum, texts)| sum.into_iter().chain(texts).collect());
            }
            let observed = self.observed.entry(key).or_default();
            observed.recording = digest.to_owned();
            observed.arch.insert(arch);
            observed.count = Some(observed.count.unwrap_or(0).saturating_add(count));
            self.runtimes.extend(image.runtime);
            if !observed.images.contains(&image.path) {
                observed.images.push(image.path.clone());
            }
        }
        Ok(())
    }

    /// What the runtimes need in other circumstances than those that were recorded: with privileges
    /// to give up or none, and by their own timing.
    fn complete_runtimes(&mut self) {
        let mut prctl = None;
        for (release, needed) in &mut self.needed {
            needed.extend(Set::seen_of_runtime(release).filter_map(Syscall::from_name));
            prctl = prctl.or_else(|| needed.iter().copied().find(|call| call.name() == "prctl"));
        }
        // What the workload makes of it alone would have it narrowed to that.
        let of_prctl = self.observations.iter_mut().filter(|((call, _), _)| Some(*call) == prctl);
        for options in of_prctl.filter_map(|(_, seen)| seen.arguments.get_mut("option")) {
            GIVING_UP.iter().for_each(|&option| options.insert(option));
        }
    }

    fn answers(&self, architectures: &Architectures, options: &GenerateOptions) -> Answers {
        let mut answers = Answers::new();
        for (&(call, arch), observation) in &self.observations {
            let answer = match probed(call, &observation.outcomes) {
                Some(errno) => {
                    Answer { action: Action::Errno(errno), narrowed: None, principle: None }
                }
                None => {
                    let narrowed = narrowed(options.arguments, call, arch, observation);
                    Answer { action: Action::Allow, narrowed, principle: None }
                }
            };
            answers.insert((call, arch), answer);
        }
        for arch in architectures.iter() {
            let mut on_this = answers.iter().filter(|((_, of), _)| *of == arch);
            let used = on_this.any(|(_, answer)| answer.action == Action::Allow);
            if !options.exact {
                allow_swapped(&mut answers, arch, options.arguments);
            }
            let made = |names: &[&str]| {
                let mut calls = names.iter().filter_map(|name| Syscall::from_name(name));
                calls.any(|call| self.observations.contains_key(&(call, arch)))
            };
            let (starts_tasks, waits) = (made(STARTS_TASKS), made(WAITS));
            for &(name, when, reason) in UNSEEN {
                let applies = used
                    && match when {
                        When::Always => true,
                        When::Tasks => starts_tasks,
                        When::Go => self.runtimes.contains(&Runtime::Go),
                        When::PythonChildren => waits && self.runtimes.contains(&Runtime::Python),
                    };
                if let Some(call) = on_arch(name, arch).filter(|_| applies) {
                    allow(&mut answers, (call, arch), reason);
                }
            }
            for &call in self.needed.values().flatten().filter(|_| used) {
                let key = (call, arch);
                let has = answers.get(&key).is_some_and(|answer| answer.action == Action::Allow);
                if call.number(arch).is_some() && !has {
                    answers.insert(
                        key,
                        Answer { action: Action::Allow, narrowed: None, principle: None },
                    );
                }
            }
            for &(name, reason) in PROBED.iter().filter(|_| !options.exact) {
                if let Some(call) = on_arch(name, arch) {
                    let none = || Answer::by_principle(Action::Errno(ENOSYS), reason);
                    answers.entry((call, arch)).or_insert_with(none);
                }
            }
        }
        answers
    }

    fn ledger(
        self,
        architectures: &Architectures,
        answers: &Answers,
    ) -> BTreeMap<Syscall, Vec<Necessity>> {
        let mut ledger: BTreeMap<Syscall, Vec<Necessity>> = BTreeMap::new();
        let mut narrowed: BTreeMap<Syscall, BTreeSet<&str>> = BTreeMap::new();
        for (&(call, _), answer) in answers {
            let arguments = answer.narrowed.iter().flat_map(|it| it.arguments.iter().copied());
            narrowed.entry(call).or_default().extend(arguments);
        }
        let mut values = self.values;
        for (key, mut observed) in self.observed {
            let call = key.0;
            let args = values.remove(&key).unwrap_or_default().into_iter();
            // What is not narrowed is in the recording; here it would only be long.
            observed.args = args
                .filter(|(name, _)| narrowed[&call].contains(name.as_str()))
                .filter_map(|(name, values)| Some((name, values?.into_iter().collect())))
                .collect();
            if architectures.iter().all(|arch| observed.arch.contains(&arch)) {
                observed.arch.clear();
            }
            observed.images.sort();
            ledger.entry(call).or_default().push(Necessity::Observed(observed));
        }
        for (release, needed) in &self.needed {
            for &call in needed.iter().filter(|call| answers.keys().any(|(of, _)| of == *call)) {
                let necessity = Necessity::NeededBy { runtime: release.clone() };
                ledger.entry(call).or_default().push(necessity);
            }
        }
        for (&(call, _), answer) in answers {
            let narrowed = answer.narrowed.as_ref().map(|narrowed| &narrowed.reason);
            for reason in narrowed.into_iter().chain(&answer.principle) {
                let declared = Necessity::Declared(Declared {
                    by: GENERATOR.to_owned(),
                    reason: reason.clone(),
                    expires: None,
                });
                let reasons = ledger.entry(call).or_default();
                if !reasons.contains(&declared) {
                    reasons.push(declared);
                }
            }
        }
        ledger
    }
}
/// Whether every time that the call was made the kernel had no such call.
fn only_enosys(outcomes: &Outcomes) -> bool {
    outcomes.count > 0 && outcomes.errnos.get(&ENOSYS) == Some(&outcomes.count)
}

/// The errno that a call answered whenever it was made, if the workload is to get it from the
/// policy: the program has shown that it does without the call. Of calls that are not dangerous only
/// ENOSYS is such an answer, as others are about arguments or the moment.
fn probed(call: Syscall, outcomes: &Outcomes) -> Option<u16> {
    let (&errno, &count) = outcomes.errnos.first_key_value()?;
    let always = count > 0 && count == outcomes.count;
    let kept = errno == ENOSYS || (call.danger().is_some() && !OF_THE_MOMENT.contains(&errno));
    (always && kept).then_some(errno)
}

/// Whether some call by x32 did anything but answer ENOSYS: a kernel without x32 answers so, and
/// what is negative to the kernel looks like x32 as well. Without calls by x86_64, which x32 is a
/// part of, there is nothing else that could answer for it.
fn uses_x32(recordings: &[Recording]) -> bool {
    let calls = || recordings.iter().flat_map(Recording::calls);
    calls().any(|call| call.arch == Arch::X32 && !only_enosys(&call.outcomes))
        || !calls().any(|call| call.arch == Arch::X86_64)
}

/// Allows what libraries put in the place of what is allowed already.
///
/// By which options of prctl(2) runc and crun give up privileges, where they do so after they have loaded the filter:
/// `PR_SET_KEEPCAPS`, `PR_CAPBSET_DROP` and `PR_CAP_AMBIENT` (include/uapi/linux/prctl.h).
const GIVING_UP: [u64; 3] = [8, 24, 47];

/// A call that has an allowed one beside it is not narrowed to what was seen of it: another release
/// would make the calls that now are the other's.
fn allow_swapped(answers: &mut Answers, arch: Arch, narrowing: Narrowing) {
    for group in SWAPPED {
        let calls: Vec<Syscall> = group.iter().filter_map(|name| on_arch(name, arch)).collect();
        let allowed: Vec<Syscall> = calls
            .iter()
            .copied()
            .filter(|&call| answers.get(&(call, arch)).is_some_and(|it| it.action == Action::Allow))
            .collect();
        let Some(&seen) = allowed.first() else { continue };
        let reason = format!("other releases of libraries make it in place of {seen}");
        let probed = |call: Syscall| PROBED.iter().any(|&(name, _)| name == call.name());
        for call in calls.into_iter().filter(|&call| !probed(call)) {
            let unseen = narrowed_unseen(narrowing, call, arch);
            if !allowed.contains(&call) {
                allow(answers, (call, arch), &reason);
                answers.entry((call, arch)).and_modify(|answer| answer.narrowed = unseen);
            } else if allowed.len() > 1 && unseen.is_none() {
                answers.entry((call, arch)).and_modify(|answer| answer.narrowed = None);
            }
        }
    }
}

/// Allows a call by principle, with whatever arguments, unless it is allowed so already. That a
/// kernel had none does not count then: another one may.
fn allow(answers: &mut Answers, key: (Syscall, Arch), reason: &str) {
    match answers.get_mut(&key) {
        Some(answer) if answer.action == Action::Allow => answer.narrowed = None,
        _ => drop(answers.insert(key, Answer::by_principle(Action::Allow, reason))),
    }
}

fn on_arch(name: &str, arch: Arch) -> Option<Syscall> {
    Syscall::from_name(name).filter(|call| call.number(arch).is_some())
}

/// One rule for each action, condition and set of ABIs.
fn rules(answers: &Answers, architectures: &Architectures) -> Vec<Rule> {
    type Said<'a> = (std::cmp::Reverse<Action>, Option<&'a str>);
    let mut arches_of: BTreeMap<(Syscall, Said<'_>), BTreeSet<Arch>> = BTreeMap::new();
    for (&(call, arch), answer) in answers {
        let when = answer.narrowed.as_ref().map(|narrowed| narrowed.when.as_str());
        let said = (std::cmp::Reverse(answer.action), when);
        arches_of.entry((call, said)).or_default().insert(arch);
    }
    let mut grouped: BTreeMap<(Said<'_>, BTreeSet<Arch>), BTreeSet<Syscall>> = BTreeMap::new();
    for ((call, said), mut arches) in arches_of {
        if arches.len() == architectures.iter().len() {
            arches.clear();
        }
        grouped.entry((said, arches)).or_default().insert(call);
    }
    let rule = |(((action, when), arch), syscalls): ((Said<'_>, _), _)| {
        let when = when.and_then(|when| crate::when::When::parse(when).ok());
        Rule { arch, when, ..Rule::new(syscalls, action.0) }
    };
    grouped.into_iter().map(rule).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::{Engine, Image, Site};
    use strait_bpf::SeccompData;

    fn call(name: &str) -> Syscall {
        Syscall::from_name(name).unwrap()
    }

    /// A recording of calls that succeeded once, and of probes that answered ENOSYS.
    fn engine() -> Engine {
        Engine { name: "ptrace".into(), reason: "test".into() }
    }

    fn recording(succeeded: &[&str], probes: &[&str], lost: u64) -> Recording {
        let mut recording = Recording::builder(engine(), "6.18.44");
        for name in succeeded {
            let outcomes = Outcomes { count: 1, succeeded: 1, ..Outcomes::default() };
            let nr = call(name).number(Arch::X86_64).unwrap();
            recording.call("/bin/x", Arch::X86_64, nr, &outcomes);
        }
        for name in probes {
            let errnos = BTreeMap::from([(ENOSYS, 2)]);
            let nr = call(name).number(Arch::X86_64).unwrap();
            let outcomes = Outcomes { count: 2, succeeded: 0, errnos, denied: 0 };
            recording.call("/bin/x", Arch::X86_64, nr, &outcomes);
        }
        recording.lost("map", lost);
        recording.build()
    }

    fn decide(policy: &Policy, nr: u32) -> Action {
        let data = SeccompData {
            nr,
            arch: Arch::X86_64.audit_arch(),
            instruction_pointer: 0,
            args: [0; 6],
        };
        policy.lower().unwrap().decide(&data)
    }

    fn decide_name(policy: &Policy, name: &str) -> Action {
        decide(policy, call(name).number(Arch::X86_64).unwrap())
    }

    #[test]
    fn what_was_seen_is_allowed_and_what_was_not_is_denied() {
        let recording = recording(&["read", "openat"], &["quotactl"], 0);
        let policy = generate(&[recording], &GenerateOptions::default()).unwrap();
        assert_eq!(decide_name(&policy, "read"), Action::Allow);
        assert_eq!(decide_name(&policy, "exit_group"), Action::Allow);
        assert_eq!(decide_name(&policy, "quotactl"), Action::Errno(ENOSYS));
        assert_eq!(decide_name(&policy, "statx"), Action::Errno(ENOSYS));
        assert_eq!(decide_name(&policy, "mount"), Action::Errno(EPERM));
        assert_eq!(decide_name(&policy, "futex"), Action::Errno(EPERM));
        assert_eq!(decide(&policy, 100_000), Action::Errno(ENOSYS));
        assert_eq!(decide(&policy, Arch::X32_BIT), Action::KillProcess);
        assert_eq!(decide(&policy, u32::MAX), Action::KillProcess);
    }

    fn outcome(nr_of: &str, arch: Arch, errno: Option<u16>) -> (Arch, u32, Outcomes) {
        (arch, call(nr_of).number(arch).unwrap(), outcomes(errno))
    }

    fn outcomes(errno: Option<u16>) -> Outcomes {
        let errnos = errno.map(|errno| (errno, 2)).into_iter().collect();
        Outcomes { count: 2, succeeded: if errno.is_none() { 2 } else { 0 }, errnos, denied: 0 }
    }

    fn policy_of(calls: &[(Arch, u32, Outcomes)]) -> Policy {
        let mut recording = Recording::builder(engine(), "6.18.44");
        for (arch, nr, outcomes) in calls {
            recording.call("/bin/x", *arch, *nr, outcomes);
        }
        generate(&[recording.build()], &GenerateOptions::default()).unwrap()
    }

    #[test]
    fn an_abi_that_only_answered_enosys_is_not_opened() {
        let read = outcome("read", Arch::X86_64, None);
        let x32 = |errno| outcome("getppid", Arch::X32, errno);
        let hole = (Arch::X86_64, 400, outcomes(Some(ENOSYS)));
        let negative = (Arch::X32, u32::MAX - 4, outcomes(Some(ENOSYS)));
        let policy = policy_of(&[read.clone(), x32(Some(ENOSYS)), hole, negative]);
        assert_eq!(policy.architectures, Arch::X86_64.into());
        for nr in [x32(None).1, 400, u32::MAX - 4] {
            assert_eq!(decide(&policy, nr), Action::Errno(ENOSYS), "{nr:#x}");
        }
        assert_eq!(decide(&policy, 401), Action::Errno(EPERM));
        assert_eq!(decide(&policy, x32(None).1 + 1), Action::KillProcess);
        assert_eq!(decide(&policy, u32::MAX), Action::KillProcess);
        assert_eq!(Policy::parse(&policy.to_string()).unwrap(), policy, "{policy}");

        let policy = policy_of(&[read, x32(None), outcome("getpid", Arch::X32, Some(ENOSYS))]);
        assert!(policy.architectures.contains(Arch::X32));
        assert_eq!(decide(&policy, x32(None).1), Action::Allow);
    }

    #[test]
    fn nothing_is_allowed_on_an_abi_of_which_all_is_probed() {
        let policy = policy_of(&[
            outcome("read", Arch::X86_64, None),
            outcome("clone3", Arch::I386, Some(ENOSYS)),
        ]);
        let rules = policy.lower().unwrap();
        let decide = |nr| rules.decide(&SeccompData::new(Arch::I386.audit_arch(), nr));
        assert!((0..600).all(|nr| decide(nr) != Action::Allow));
        assert_eq!(decide(435), Action::Errno(ENOSYS));
    }

    #[test]
    fn a_dangerous_call_that_always_failed_keeps_its_answer() {
        let policy = |name, errno| policy_of(&[outcome(name, Arch::X86_64, Some(errno))]);
        for errno in [EPERM, 14, 22, ENOSYS] {
            let policy = policy("io_uring_setup", errno);
            assert_eq!(decide_name(&policy, "io_uring_setup"), Action::Errno(errno));
            assert!(policy.necessity.contains_key(&call("io_uring_setup")));
        }
        // What the moment decides, and what is not dangerous.
        assert_eq!(decide_name(&policy("unshare", 28), "unshare"), Action::Allow);
        assert_eq!(decide_name(&policy("openat", 2), "openat"), Action::Allow);
        let both = policy_of(&[
            outcome("mount", Arch::X86_64, Some(EPERM)),
            outcome("mount", Arch::X86_64, Some(22)),
        ]);
        assert_eq!(decide_name(&both, "mount"), Action::Allow);
    }

    #[test]
    fn tasks_bring_what_contention_needs() {
        let policy =
            generate(&[recording(&["clone"], &[], 0)], &GenerateOptions::default()).unwrap();
        assert_eq!(decide_name(&policy, "futex"), Action::Allow);
    }

    #[test]
    fn go_brings_what_its_runtime_does_by_timing_and_nobody_else_gets_it() {
        let of = |runtime| {
            let mut recording = Recording::builder(engine(), "6.18.44");
            let image = Image { runtime, ..Image::from("/bin/x") };
            let read = Syscall::from_name("read").unwrap().number(Arch::X86_64).unwrap();
            let once = Outcomes { count: 1, succeeded: 1, ..Outcomes::default() };
            recording.call(image, Arch::X86_64, read, &once);
            generate(&[recording.build()], &GenerateOptions::default()).unwrap()
        };
        assert_eq!(decide_name(&of(Some(Runtime::Go)), "tgkill"), Action::Allow);
        assert_eq!(decide_name(&of(None), "tgkill"), Action::Errno(EPERM));
    }

    #[test]
    fn a_container_runtime_has_what_it_needs_in_the_ledger_and_in_other_circumstances() {
        let mut recording = Recording::builder(engine(), "6.18.44");
        let once = Outcomes { count: 1, succeeded: 1, ..Outcomes::default() };
        let release = Some("crun 1.8.1".to_owned());
        let crun = Image { release, ..Image::from("/crun") };
        for (image, phase, name) in [
            (&crun, Phase::Runtime, "execve"),
            (&Image::from("/bwrap"), Phase::Runtime, "uname"),
            (&Image::from("/web"), Phase::StartUp, "getcwd"),
            (&Image::from("/web"), Phase::StartUp, "execve"),
        ] {
            let nr = call(name).number(Arch::X86_64).unwrap();
            let site = Site { image: image.clone(), phase: Some(phase), arch: Arch::X86_64, nr };
            recording.observe(site, &Observation::from(&once));
        }
        let recording = recording.build();
        let policy =
            generate(std::slice::from_ref(&recording), &GenerateOptions::default()).unwrap();
        let needed = |name: &str| -> Vec<&str> {
            let ledger = policy.necessity.get(&call(name)).into_iter().flatten();
            let runtimes = ledger.filter_map(|necessity| match necessity {
                Necessity::NeededBy { runtime } => Some(runtime.as_str()),
                _ => None,
            });
            runtimes.collect()
        };
        assert_eq!(needed("execve"), ["crun 1.8.1"]);
        assert_eq!(policy.necessity[&call("execve")].len(), 2, "the workload makes it too");
        assert_eq!(needed("uname"), ["bwrap"]);
        assert!(needed("getcwd").is_empty());
        // With privileges to give up it needs this too, as is known of it; of releases it is not.
        assert_eq!(needed("capset"), ["crun 1.8.1"]);
        assert_eq!(decide_name(&policy, "capset"), Action::Allow);
        assert_eq!(decide_name(&policy, "mount"), Action::Errno(EPERM));
        let exact = GenerateOptions { exact: true, ..GenerateOptions::default() };
        let exact = generate(&[recording], &exact).unwrap();
        assert_eq!(decide_name(&exact, "capset"), Action::Errno(EPERM));
    }

    /// Recorded with no_new_privs, where the runtime gives up its privileges before it loads the filter.
    #[test]
    fn what_a_workload_makes_of_prctl_keeps_no_runtime_from_giving_up_privileges() {
        let prctl = call("prctl");
        let nr = prctl.number(Arch::X86_64).unwrap();
        let once = Outcomes { count: 1, succeeded: 1, ..Outcomes::default() };
        let recording = |runtime: &str| {
            let mut recording = Recording::builder(engine(), "6.18.44");
            let release = Some(runtime.to_owned());
            let execve = call("execve").number(Arch::X86_64).unwrap();
            for (image, phase, nr) in [
                (Image { release, ..Image::from("/runtime") }, Phase::Runtime, execve),
                (Image::from("/web"), Phase::StartUp, nr),
            ] {
                let site = Site { image, phase: Some(phase), arch: Arch::X86_64, nr };
                let mut seen = Observation::from(&once);
                if site.image.path == "/web" {
                    seen.see(Arch::X86_64, &prctl.args(Arch::X86_64).unwrap()[0], 15);
                }
                recording.observe(site, &seen);
            }
            recording.build()
        };
        let passes = |runtime: &str, exact: bool| -> Vec<u64> {
            let options = GenerateOptions { exact, ..GenerateOptions::default() };
            let rules = generate(&[recording(runtime)], &options).unwrap().lower().unwrap();
            let decide = |option: u64| {
                let mut data = SeccompData::new(Arch::X86_64.audit_arch(), nr);
                data.args[0] = option;
                rules.decide(&data)
            };
            [8, 15, 24, 35, 47].into_iter().filter(|&it| decide(it) == Action::Allow).collect()
        };
        for runtime in ["runc 1.1.5", "crun 1.8.1"] {
            assert_eq!(passes(runtime, false), [8, 15, 24, 47], "{runtime}");
            assert_eq!(passes(runtime, true), [15], "{runtime}");
        }
        assert_eq!(passes("bwrap", false), [15]);
    }

    #[test]
    fn python_that_waits_for_processes_may_end_them() {
        let of = |runtime, name| {
            let mut recording = Recording::builder(engine(), "6.18.44");
            let image = Image { runtime, ..Image::from("/bin/x") };
            let nr = call(name).number(Arch::X86_64).unwrap();
            recording.call(image, Arch::X86_64, nr, &outcomes(None));
            let policy = generate(&[recording.build()], &GenerateOptions::default()).unwrap();
            decide_name(&policy, "kill")
        };
        assert_eq!(of(Some(Runtime::Python), "wait4"), Action::Allow);
        assert_eq!(of(Some(Runtime::Python), "read"), Action::Errno(EPERM));
        assert_eq!(of(Some(Runtime::Go), "wait4"), Action::Errno(EPERM));
        assert_eq!(of(None, "wait4"), Action::Errno(EPERM));
    }

    #[test]
    fn every_rule_has_its_necessity() {
        let policy =
            generate(&[recording(&["clone", "read"], &["bpf"], 0)], &GenerateOptions::default())
                .unwrap();
        for rule in &policy.rules {
            for call in &rule.syscalls {
                assert!(!policy.necessity[call].is_empty(), "{call}");
            }
        }
        let text = policy.to_string();
        assert_eq!(Policy::parse(&text).unwrap(), policy, "{text}");
    }

    #[test]
    fn losses_are_refused_unless_accepted() {
        let lossy = [recording(&["read"], &[], 3)];
        let refused = generate(&lossy, &GenerateOptions::default());
        assert!(matches!(refused, Err(GenerateError::Lossy { .. })));
        let options = GenerateOptions { accept_loss: true, ..GenerateOptions::default() };
        let policy = generate(&lossy, &options).unwrap();
        assert_eq!(policy.recordings[0].gaps, ["lost in map: 3"]);
        assert_eq!(generate(&[], &options), Err(GenerateError::Nothing));
    }

    #[test]
    fn two_recordings_allow_what_each_allows() {
        let (first, second) =
            (recording(&["read"], &["statx"], 0), recording(&["write", "statx"], &[], 0));
        let policy = generate(&[first, second], &GenerateOptions::default()).unwrap();
        for name in ["read", "write", "statx"] {
            assert_eq!(decide_name(&policy, name), Action::Allow, "{name}");
        }
        assert_eq!(policy.recordings.len(), 2);
    }
}
