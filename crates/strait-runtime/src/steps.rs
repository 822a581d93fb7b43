//! Moving on: the steps of a workload that runs.
//!
//! Nobody can load a filter into another process, and a workload is many. So the filter that it starts
//! with has every call notified that a later step decides otherwise, and the supervisor answers by the
//! step that the workload is at. To move on is to change that: at once, and for every thread of
//! every process. The supervisor decides by registers alone, which nobody can change any more.
//!
//! ```text
//! the same at every step      the kernel alone, as without steps
//! decided otherwise later     notify: let pass or denied, as the step says
//! prctl(OPTION, name)         notify: to move on                                strait_kernel::step
//! the next step's `ready`     notify: let pass, and moved on with the first
//! ```
//!
//! When the supervisor dies, what it was asked about fails with ENOSYS: all that a later step denies.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::process::Pid;
use strait_abi::Syscall;
use strait_bpf::{Action, Relation, SeccompData, Undecided};
use strait_kernel::step;
use strait_kernel::task::{self, Mode, Task};
use strait_policy::rules::{Arm, Chain, Condition, Op, Table, Test, Width};
use strait_policy::{Policy, Rules, StepError, action_text, call};

use crate::scope::Scope;
use crate::supervise::refuse_listeners;

/// The steps that a workload can be at, and which it is at.
pub struct Steps {
    at: AtomicUsize,
    steps: Vec<At>,
    loaded: Rules,
    tell: Mutex<Option<Tell>>,
}

struct At {
    /// `None` before the first step.
    name: Option<String>,
    /// The calls of which the first moves on to it from the step before.
    ready: BTreeSet<Syscall>,
    rules: Rules,
}

/// Who is told of moves.
pub type Tell = Box<dyn FnMut(&Moved) + Send>;

/// Why a workload cannot move on by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StepsError {
    /// There is no such step, or the policy has no meaning.
    #[error(transparent)]
    Step(#[from] StepError),
    /// Nobody can ask for it.
    #[error(
        "no call can ask for step `{0}`: the name has more than 32 bytes; shorten it, or `--stay`"
    )]
    Name(String),
    /// It denies in a way that is the kernel's alone.
    #[error(
        "step `{step}` answers with {}, which a filter can and a supervisor cannot: use an errno or \
         kill-process, start at that step, or `--stay`",
        action_text(*action)
    )]
    Action {
        /// The step.
        step: String,
        /// What it answers with.
        action: Action,
    },
    /// What the rules decide cannot be worked out.
    #[error("the policy is too intricate for its steps to be checked against what is loaded")]
    Undecided(#[from] Undecided),
    /// What would be loaded does not ask about everything that a step denies. It is Strait's fault.
    #[error("what would be loaded does not hold step `{0}`; this is a defect of Strait")]
    Open(String),
}

/// A workload has moved on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The step that it was at; `None` before the first.
    pub from: Option<String>,
    /// The step that it is at.
    pub to: String,
    /// What made it move.
    pub by: Trigger,
    /// The tasks that were looked at afterwards.
    pub tasks: u32,
    /// Those of them that have no filter: none, or the move does not hold.
    pub bare: Vec<Pid>,
}

/// What makes a workload move on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trigger {
    /// This thread asked for it.
    Asked(u32),
    /// This thread made a call for which the step waits.
    Called(u32, Syscall),
}

impl Steps {
    /// The steps from this one on, or from before the first; with no later step the workload stays.
    ///
    /// # Errors
    /// If it cannot move on to all of them.
    pub fn of(policy: &Policy, from: Option<&str>) -> Result<Steps, StepsError> {
        let rules = match from {
            Some(from) => policy.lower_at(from)?,
            None => policy.lower().map_err(StepError::from)?,
        };
        let mut steps = Steps::only(rules);
        steps.steps[0].name = from.map(str::to_owned);
        let later = policy.steps_after(from)?;
        if later.is_empty() {
            return Ok(steps);
        }
        for step in later {
            if step::encode(&step.name).is_none() {
                return Err(StepsError::Name(step.name.clone()));
            }
            let unable = |action: &Action| matches!(action, Action::Trap(_) | Action::Trace(_));
            if let Some(action) = step.rules.iter().map(|rule| rule.action).find(unable) {
                return Err(StepsError::Action { step: step.name.clone(), action });
            }
            let rules = policy.lower_at(&step.name)?;
            let (name, ready) = (Some(step.name.clone()), step.ready.clone());
            steps.steps.push(At { name, ready, rules });
        }
        let ready: BTreeSet<Syscall> =
            later.iter().flat_map(|step| step.ready.iter().copied()).collect();
        let moving = take_ready(policy.lower_moving(from)?, policy, &ready);
        steps.loaded = refuse_listeners(take_moves(moving, policy));
        steps.prove()?;
        Ok(steps)
    }

    /// One step, at which a workload stays.
    pub fn only(rules: Rules) -> Steps {
        let loaded = rules.clone();
        let steps = vec![At { name: None, ready: BTreeSet::new(), rules }];
        Steps { at: AtomicUsize::new(0), steps, loaded, tell: Mutex::new(None) }
    }

    /// Has this told of moves.
    pub fn telling(self, tell: Tell) -> Steps {
        Steps { tell: Mutex::new(Some(tell)), ..self }
    }

    /// The rules that are to be loaded for them.
    pub fn loaded(&self) -> &Rules {
        &self.loaded
    }

    /// Whether there is a step to move on to from the first.
    pub fn can_move(&self) -> bool {
        self.steps.len() > 1
    }

    /// What a call gets at the step that the workload is at.
    pub fn decide(&self, data: &SeccompData) -> Action {
        self.now().rules.decide(data)
    }

    /// The step that a call's answer is from, if it is not the policy's own.
    pub(crate) fn because(&self, data: &SeccompData) -> Option<&str> {
        let at = self.at.load(Ordering::SeqCst);
        let answer = self.steps[at].rules.decide(data);
        let first = self.steps[..=at].iter().rev();
        let first = first.take_while(|step| step.rules.decide(data) == answer).last()?;
        // That of the first is as much the policy's.
        if std::ptr::eq(first, &self.steps[0]) { None } else { first.name.as_deref() }
    }

    /// The step that a call asks for; `None` if it is another call.
    pub(crate) fn asked(&self, data: &SeccompData) -> Option<String> {
        let abi = call::abi(data.arch, data.nr)?;
        let is_asking = self.can_move()
            && abi.syscall(data.nr)?.name() == "prctl"
            && data.args[0] & u64::from(u32::MAX) == u64::from(step::OPTION);
        is_asking.then(|| step::decode(&data.args, abi.is_64_bit()).unwrap_or_default())
    }

    /// The step that waits for this call, if it is the next one; and the call.
    fn readied(&self, data: &SeccompData) -> Option<(&str, Syscall)> {
        let next = self.steps.get(self.at.load(Ordering::SeqCst) + 1)?;
        let call = call::abi(data.arch, data.nr)?.syscall(data.nr)?;
        let name = next.name.as_deref().filter(|_| next.ready.contains(&call))?;
        Some((name, call))
    }

    /// Moves on if the next step waits for this call, which is let pass and has not returned. Whether it
    /// holds is told.
    pub(crate) fn ready(&self, data: &SeccompData, tid: u32, workload: Pid) {
        if let Some((name, call)) = self.readied(data) {
            // There is such a step, it is none of the past, and nobody asked who is to be told.
            let _ = self.move_to(name, Trigger::Called(tid, call), workload);
        }
    }

    /// Moves on to a step, and looks whether it holds for everything that comes of this process.
    /// From the return on every call is decided by it.
    ///
    /// # Errors
    /// What to answer to who has asked.
    pub(crate) fn move_to(&self, name: &str, by: Trigger, workload: Pid) -> Result<(), u16> {
        let is_named = |step: &At| step.name.as_deref() == Some(name);
        let to = self.steps.iter().position(is_named).ok_or(step::UNKNOWN)?;
        let from = self.at.fetch_max(to, Ordering::SeqCst);
        if to < from {
            return Err(step::PAST);
        }
        let (tasks, bare) = look(workload);
        let held = bare.is_empty();
        if to > from || !held {
            let from = self.steps[from].name.clone();
            let moved = Moved { from, to: name.to_owned(), by, tasks, bare };
            let mut tell = self.tell.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(tell) = &mut *tell {
                tell(&moved);
            }
        }
        if held { Ok(()) } else { Err(step::NOT_HELD) }
    }

    fn now(&self) -> &At {
        &self.steps[self.at.load(Ordering::SeqCst)]
    }

    /// That what is loaded, with a supervisor that denies whatever it is asked about, lets nothing pass
    /// that a step does not: then what is let pass at a step is what that step lets pass.
    fn prove(&self) -> Result<(), StepsError> {
        let denying = |action| if action == Action::Notify { Action::KillProcess } else { action };
        let kernel = self.loaded.decision()?.map(denying)?;
        for step in &self.steps {
            let at = step.rules.decision()?;
            if !matches!(kernel.compare(&at)?.allowed, Relation::Equal | Relation::Tighter) {
                return Err(StepsError::Open(step.name.clone().unwrap_or_default()));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.steps.iter().map(|step| &step.name).collect();
        f.debug_struct("Steps").field("at", &self.now().name).field("steps", &names).finish()
    }
}

/// The rules with these calls notified where they are let pass, for every ABI of the policy.
fn take_ready(mut rules: Rules, policy: &Policy, ready: &BTreeSet<Syscall>) -> Rules {
    let notified = |action: Action| if action.lets_pass() { Action::Notify } else { action };
    for (abi, call) in
        policy.architectures.iter().flat_map(|abi| ready.iter().map(move |c| (abi, c)))
    {
        let arch = abi.audit_arch();
        let (Some(nr), Some(table)) = (call.number(abi), rules.table(arch)) else { continue };
        let (mut table, mut chain) = (table.clone(), table.chain(nr).clone());
        chain.arms.iter_mut().for_each(|arm| arm.action = notified(arm.action));
        chain.otherwise = notified(chain.otherwise);
        table.set(nr, nr, chain);
        rules = rules.with_table(arch, table);
    }
    rules
}

/// The rules with the call that asks for a move, for every ABI of the policy.
fn take_moves(mut rules: Rules, policy: &Policy) -> Rules {
    let Some(prctl) = Syscall::from_name("prctl") else { return rules };
    for abi in policy.architectures.iter() {
        let arch = abi.audit_arch();
        // The option is an int.
        let test = Test::new(0, Width::W32, u32::MAX.into(), Op::Eq, step::OPTION.into());
        let (Some(nr), Ok(test)) = (prctl.number(abi), test) else { continue };
        let mut table: Table = match rules.table(arch) {
            Some(table) => table.clone(),
            None => continue,
        };
        let chain = table.chain(nr);
        let arm = Arm { when: Condition::Test(test), action: Action::Notify };
        let arms = std::iter::once(arm).chain(chain.arms.iter().cloned()).collect();
        let otherwise = chain.otherwise;
        table.set(nr, nr, Chain { arms, otherwise });
        rules = rules.with_table(arch, table);
    }
    rules
}

/// How many tasks come of a process, itself among them, and which of them have no filter.
///
/// A filter cannot be taken off and is inherited, so there are none, unless something that restores
/// checkpoints made one. Tasks whose parents have ended are not found.
fn look(workload: Pid) -> (u32, Vec<Pid>) {
    let (mut tasks, mut bare) = (0, Vec::new());
    for process in Scope::Tree(workload).processes().unwrap_or_default() {
        for thread in task::threads(process).unwrap_or_default() {
            // Gone meanwhile: it calls nothing any more.
            let Ok(task) = Task::read(process, thread) else { continue };
            tasks += 1;
            if task.mode != Mode::Filter && !matches!(task.state, 'Z' | 'X') {
                bare.push(thread);
            }
        }
    }
    (tasks, bare)
}

#[cfg(test)]
mod tests {
    use strait_abi::Arch;

    use super::*;

    fn policy() -> Policy {
        Policy::parse(
            "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec:\n  architectures: [x86_64, i386]\n  \
             default: allow\n  rules: [{syscalls: [prctl], action: errno(EPERM)}]\n  steps:\n    release:\n      rules:\n        \
             - {syscalls: [socket], when: \"domain == AF_NETLINK\", action: errno(EACCES)}\n    drain:\n      \
             after: release\n      rules: [{syscalls: [mkdir], action: kill-process}]\n",
        )
        .unwrap()
    }

    fn call(abi: Arch, name: &str, args: [u64; 6]) -> SeccompData {
        let nr = Syscall::from_name(name).unwrap().number(abi).unwrap();
        SeccompData::new(abi.audit_arch(), nr).with_args(args)
    }

    #[test]
    fn what_is_loaded_is_proved_to_hold_every_step() {
        let mut steps = Steps::of(&policy(), None).unwrap();
        // A defect: nobody would be asked about what the steps deny.
        steps.loaded = policy().lower().unwrap();
        assert!(matches!(steps.prove(), Err(StepsError::Open(step)) if step == "release"));
        steps.loaded = policy().lower_at("release").unwrap();
        assert!(matches!(steps.prove(), Err(StepsError::Open(step)) if step == "drain"));
    }

    #[test]
    fn a_move_is_asked_for_by_the_calls_of_every_abi_and_by_no_other() {
        let steps = Steps::of(&policy(), None).unwrap();
        let word = |text: &[u8; 4]| u64::from(u32::from_le_bytes(*text));
        let option = u64::from(step::OPTION);
        let wide = [option | 1 << 40, u64::from_le_bytes(*b"release\0"), 0, 0, 0, 9];
        let narrow = [option, word(b"rele"), word(b"ase\0"), 0, 0, 0];
        for (abi, args) in [(Arch::X86_64, wide), (Arch::I386, narrow)] {
            let ask = call(abi, "prctl", args);
            assert_eq!(steps.loaded().decide(&ask), Action::Notify);
            assert_eq!(steps.asked(&ask).unwrap(), "release");
            let other = call(abi, "prctl", [15, 0, 0, 0, 0, 0]);
            assert_eq!(steps.loaded().decide(&other), Action::Errno(1));
            assert_eq!(steps.asked(&other), None);
        }
        assert_eq!(
            Steps::of(&policy(), Some("drain")).unwrap().asked(&call(Arch::X86_64, "prctl", wide)),
            None
        );
    }

    #[test]
    fn only_the_next_step_is_begun_by_a_call_that_is_let_pass() {
        let mut policy = policy();
        policy.steps[0].ready = BTreeSet::from([Syscall::from_name("listen").unwrap()]);
        policy.steps[1].ready =
            ["listen", "accept4", "prctl"].map(|name| Syscall::from_name(name).unwrap()).into();
        let steps = Steps::of(&policy, None).unwrap();
        let me = rustix::process::getpid();
        for abi in [Arch::X86_64, Arch::I386] {
            let listen = call(abi, "listen", [0; 6]);
            assert_eq!(steps.loaded().decide(&listen), Action::Notify, "{abi}");
            // What is denied stays the kernel's to deny.
            let prctl = call(abi, "prctl", [15, 0, 0, 0, 0, 0]);
            assert_eq!(steps.loaded().decide(&prctl), Action::Errno(1), "{abi}");
        }
        let at = || steps.now().name.clone();
        steps.ready(&call(Arch::X86_64, "accept4", [0; 6]), 1, me);
        steps.ready(&call(Arch::X86_64, "socket", [0; 6]), 1, me);
        assert_eq!(at(), None, "the step after the next, and a call that none waits for");
        steps.ready(&call(Arch::I386, "listen", [0; 6]), 1, me);
        assert_eq!(at().as_deref(), Some("release"));
        steps.ready(&call(Arch::X86_64, "accept4", [0; 6]), 1, me);
        assert_eq!(at().as_deref(), Some("drain"));
        steps.ready(&call(Arch::X86_64, "listen", [0; 6]), 1, me);
        assert_eq!(at().as_deref(), Some("drain"));
    }

    #[test]
    fn an_answer_is_of_the_step_that_brought_it() {
        let steps = Steps::of(&policy(), None).unwrap();
        let me = rustix::process::getpid();
        let netlink = call(Arch::X86_64, "socket", [16, 3, 0, 0, 0, 0]);
        let mkdir = call(Arch::X86_64, "mkdir", [0; 6]);
        let prctl = call(Arch::X86_64, "prctl", [15, 0, 0, 0, 0, 0]);
        assert_eq!((steps.decide(&netlink), steps.because(&netlink)), (Action::Allow, None));
        // This process has no filter, which is said, and the move is made all the same.
        assert_eq!(steps.move_to("drain", Trigger::Asked(1), me), Err(step::NOT_HELD));
        assert_eq!(steps.because(&netlink), Some("release"));
        assert_eq!(steps.because(&mkdir), Some("drain"));
        assert_eq!((steps.decide(&prctl), steps.because(&prctl)), (Action::Errno(1), None));
        assert_eq!(steps.move_to("release", Trigger::Asked(1), me), Err(step::PAST));
        assert_eq!(steps.move_to("nothing", Trigger::Asked(1), me), Err(step::UNKNOWN));
        assert_eq!(steps.decide(&mkdir), Action::KillProcess);
    }
}
