//! Supervision: denials that are seen at once, or only looked at.
//!
//! What a policy answers with an errno can be answered by a supervisor just as well: the filter
//! notifies, and the supervisor works out the policy's answer from the registers that the kernel
//! gives it, says what was denied, and gives that answer. It never reads what an argument points
//! to, so there is nothing that could change after it was looked at.
//!
//! ```text
//! enforce   errno(E) -> notify, answered with E     kill, trap, trace stay as they are
//! observe   whatever does not pass -> notify, let pass, counted
//! ```
//!
//! If the supervisor dies, the kernel answers notified calls with ENOSYS: nothing is opened. A
//! workload that may call seccomp(2) could then load a filter with a listener of its own and let
//! its denied calls pass, as of filters that agree the newest one's listener is asked. Where denials
//! are enforced, such a filter is therefore refused with EBUSY, which is what the kernel itself
//! answers as long as the supervisor lives.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Pid;
use strait_abi::{Arch, AuditArch, Syscall};
use strait_bpf::{Action, SeccompData};
use strait_kernel::caller::Caller;
use strait_kernel::seccomp::{Listener, Notification};
use strait_policy::rules::{Arm, Chain, Condition, Op, Test, Width};
use strait_policy::{Because, Policy, Query, Rules, call};

use crate::mode::map_actions;
use crate::network::Reach;
use crate::steps::{Steps, Trigger};
use crate::wait::Attended;

/// What a supervisor does with calls that the policy does not let pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answering {
    /// They get what the policy says.
    Enforce,
    /// They pass, and are counted.
    Observe,
}

/// The rules that are loaded so that a supervisor is asked.
pub fn notifying(rules: &Rules, answering: Answering) -> Rules {
    match answering {
        Answering::Observe => map_actions(rules, |action| match action {
            Action::Allow | Action::Log => action,
            _ => Action::Notify,
        }),
        Answering::Enforce => {
            let rules = map_actions(rules, |action| match action {
                Action::Errno(_) => Action::Notify,
                _ => action,
            });
            refuse_listeners(rules)
        }
    }
}

/// The rules that an OCI runtime is to load so that a supervisor is asked where denials are enforced. A profile
/// may have no words for the arguments that ask for a listener, so whoever loads a filter is asked about.
pub fn notifying_by_profile(rules: &Rules) -> Rules {
    let rules = map_actions(rules, |action| match action {
        Action::Errno(_) => Action::Notify,
        _ => action,
    });
    let Some(seccomp) = Syscall::from_name("seccomp") else { return rules };
    Arch::ALL.iter().fold(rules, |rules, &abi| {
        let arch = abi.audit_arch();
        let (Some(nr), Some(table)) = (seccomp.number(abi), rules.table(arch)) else {
            return rules;
        };
        let chain = table.chain(nr);
        let actions = chain.arms.iter().map(|arm| arm.action).chain([chain.otherwise]);
        if !actions.into_iter().any(Action::lets_pass) {
            return rules;
        }
        let mut table = table.clone();
        table.set(nr, nr, Action::Notify);
        rules.with_table(arch, table)
    })
}

/// A call that the policy does not let pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The thread that made it; 0 where it is not visible from here.
    pub tid: u32,
    /// Who made it.
    pub process: Process,
    /// The call.
    pub data: SeccompData,
    /// What the policy answers.
    pub action: Action,
    /// Which part of the policy says so, where the call is one that is known.
    pub because: Option<Because>,
    /// The step that took it away, if it was not the policy's own answer from the start.
    pub step: Option<String>,
    /// Where it led to, if that is what was denied.
    pub reach: Option<Reach>,
    /// How often this process image has been denied this call with such arguments until now.
    pub times: u64,
}

impl Denial {
    /// The rule that would let this call pass, to be put before the others, or the entry of a list of
    /// `network`; `None` for a call that has no name, and for what no policy can permit.
    pub fn permit(&self) -> Option<String> {
        if let Some(reach) = &self.reach {
            let (list, entry) = reach.permit.as_ref()?;
            return Some(format!("network.{list}: [\"{entry}\"]"));
        }
        // What a step takes away no rule gives back.
        if self.step.is_some() {
            return None;
        }
        let name = call::name(&self.data)?.name();
        Some(match call::narrowest(&self.data) {
            Some(when) => format!("{{syscalls: [{name}], when: \"{when}\", action: allow}}"),
            None => format!("{{syscalls: [{name}], action: allow}}"),
        })
    }
}

/// Who made a call.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// The program file; empty where it cannot be read.
    pub image: PathBuf,
    /// The thread's name, as the kernel has it.
    pub name: String,
}

/// Answers the calls that a filter notifies.
#[derive(Debug)]
pub struct Supervisor {
    listener: Arc<Listener>,
    policy: Policy,
    steps: Arc<Steps>,
    workload: Pid,
    answering: Answering,
    counts: Arc<Mutex<Counts>>,
}

/// How often calls were denied.
#[derive(Debug, Default)]
struct Counts {
    kinds: BTreeMap<Kind, u64>,
    /// Denied calls of kinds for which there was no room any more.
    others: u64,
}

/// What is counted as one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    image: PathBuf,
    arch: AuditArch,
    nr: u32,
    /// The arguments that have names.
    arguments: Option<String>,
    reach: Option<String>,
    action: Action,
}

/// A kind of denied call and how often there was one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The program file; empty where it could not be read.
    pub image: PathBuf,
    /// The audit arch.
    pub arch: AuditArch,
    /// The number.
    pub nr: u32,
    /// The arguments that have names, as a condition.
    pub arguments: Option<String>,
    /// Where the call led to, if that is what was denied.
    pub reach: Option<String>,
    /// What the policy answers.
    pub action: Action,
    /// How often.
    pub count: u64,
}

/// How many kinds are kept apart; memory is bounded whatever the workload does.
const MAX_KINDS: usize = 4096;

impl Supervisor {
    /// A supervisor for what comes of this process, whose filter was made from the rules of this
    /// policy: those that the steps ask for ([`Steps::loaded`]), or what [`notifying`] makes of them.
    pub fn new(
        listener: Listener,
        workload: Pid,
        policy: Policy,
        steps: Steps,
        answering: Answering,
    ) -> Supervisor {
        Supervisor {
            listener: Arc::new(listener),
            policy,
            steps: Arc::new(steps),
            workload,
            answering,
            counts: Arc::default(),
        }
    }

    /// A supervisor for a process that was put into the same workload, and given such a filter with a listener
    /// of its own. What is denied is counted together.
    #[must_use]
    pub fn beside(&self, listener: Listener) -> Supervisor {
        Supervisor {
            listener: Arc::new(listener),
            policy: self.policy.clone(),
            steps: Arc::clone(&self.steps),
            workload: self.workload,
            answering: self.answering,
            counts: Arc::clone(&self.counts),
        }
    }

    pub(crate) fn listener(&self) -> Arc<Listener> {
        Arc::clone(&self.listener)
    }

    pub(crate) fn steps(&self) -> Arc<Steps> {
        Arc::clone(&self.steps)
    }

    pub(crate) fn answering(&self) -> Answering {
        self.answering
    }

    /// The first process of the workload.
    pub(crate) fn workload(&self) -> Pid {
        self.workload
    }

    /// Answers every call that waits, and tells of those that the policy does not let pass. Never
    /// waits for more.
    ///
    /// Returns whether there may come more: not once the last task of the workload has ended.
    ///
    /// # Errors
    /// If the listener fails.
    pub fn serve(&mut self, tell: &mut dyn FnMut(&Denial)) -> io::Result<bool> {
        loop {
            let mut fds = [PollFd::new(&*self.listener, PollFlags::IN)];
            match poll(&mut fds, Some(&Timespec::default())) {
                Ok(0) => return Ok(true),
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            }
            let events = fds[0].revents();
            if events.contains(PollFlags::IN) {
                match self.listener.receive() {
                    Ok(notification) => self.answer(&notification, tell)?,
                    // The call is gone: its task was interrupted or has died.
                    Err(error) if gone(&error) => {}
                    Err(error) => return Err(error),
                }
            } else if events.intersects(PollFlags::HUP | PollFlags::ERR) {
                return Ok(false);
            }
        }
    }

    /// How often each kind of call was denied, most often first; and how many were denied of kinds
    /// for which there was no room.
    pub fn counted(&self) -> (Vec<Counted>, u64) {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counted: Vec<Counted> = counts
            .kinds
            .iter()
            .map(|(kind, &count)| Counted {
                image: kind.image.clone(),
                arch: kind.arch,
                nr: kind.nr,
                arguments: kind.arguments.clone(),
                reach: kind.reach.clone(),
                action: kind.action,
                count,
            })
            .collect();
        counted.sort_by_key(|counted| std::cmp::Reverse(counted.count));
        (counted, counts.others)
    }

    /// Answers a call that is decided by its registers.
    pub(crate) fn answer(
        &mut self,
        notification: &Notification,
        tell: &mut dyn FnMut(&Denial),
    ) -> io::Result<()> {
        let &Notification { id, tid, data } = notification;
        if let Some(step) = self.steps.asked(&data) {
            let moved = self.steps.move_to(&step, Trigger::Asked(tid), self.workload);
            return ignore_gone(match moved {
                Ok(()) => self.listener.return_from_call(id, 0),
                Err(errno) => self.listener.fail_call(id, errno),
            });
        }
        let action = self.steps.decide(&data);
        if action.lets_pass() {
            self.steps.ready(&data, tid, self.workload);
            // The kernel would refuse it as long as this process lives, which may be too short.
            return ignore_gone(
                match asks_for_listener(&data) && self.answering == Answering::Enforce {
                    true => self.listener.fail_call(id, EBUSY),
                    false => self.listener.continue_call(id),
                },
            );
        }
        self.deny(notification, action, None, tell)
    }

    /// Answers a call that is not permitted, for where it leads to or by its registers alone.
    pub(crate) fn deny(
        &mut self,
        notification: &Notification,
        action: Action,
        reach: Option<Reach>,
        tell: &mut dyn FnMut(&Denial),
    ) -> io::Result<()> {
        let &Notification { id, tid, data } = notification;
        let process = process(tid);
        // What was read is of this task only if its call still waits.
        let process = if self.listener.is_waiting(id) { process } else { Process::default() };
        let answered = match (self.answering, action) {
            (Answering::Observe, _) => self.listener.continue_call(id),
            (Answering::Enforce, Action::Errno(errno)) => self.listener.fail_call(id, errno),
            // Of a step that came later than the filter, or the kernel would have done it.
            (Answering::Enforce, Action::KillThread | Action::KillProcess) => self.kill(id, tid),
            // The policy's own notify, and nobody is there who was to be asked: as the kernel says.
            (Answering::Enforce, _) => self.listener.fail_call(id, ENOSYS),
        };
        match answered {
            Ok(()) => {}
            // Interrupted: it was not answered, and will be made again if it is made at all.
            Err(error) if gone(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
        let times = self.count(&process, &data, action, reach.as_ref());
        let step = self.steps.because(&data).map(str::to_owned);
        let because = match (&reach, &step) {
            (Some(_), _) => Some(Because::Network),
            (None, Some(_)) => None,
            (None, None) => self.because(&data),
        };
        tell(&Denial { tid, process, data, action, because, step, reach, times });
        Ok(())
    }

    /// Ends the process that waits with this call; where that may not be done the call fails.
    fn kill(&self, id: u64, tid: u32) -> io::Result<()> {
        // The process is the caller's if its call still waits after it was got hold of.
        let killed = Caller::new(tid)
            .is_ok_and(|caller| self.listener.is_waiting(id) && caller.kill().is_ok());
        // Gone, as it should be, if the kernel was quick.
        match self.listener.fail_call(id, EPERM) {
            Err(error) if killed && gone(&error) => Ok(()),
            failed => failed,
        }
    }

    fn count(
        &mut self,
        process: &Process,
        data: &SeccompData,
        action: Action,
        reach: Option<&Reach>,
    ) -> u64 {
        let kind = Kind {
            image: process.image.clone(),
            arch: data.arch,
            nr: data.nr,
            arguments: call::narrowest(data),
            reach: reach.map(|reach| reach.what.clone()),
            action,
        };
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(times) = counts.kinds.get_mut(&kind) {
            *times = times.saturating_add(1);
            return *times;
        }
        if counts.kinds.len() < MAX_KINDS {
            counts.kinds.insert(kind, 1);
            return 1;
        }
        counts.others = counts.others.saturating_add(1);
        counts.others
    }

    fn because(&self, data: &SeccompData) -> Option<Because> {
        let arch = call::abi(data.arch, data.nr)?;
        let syscall = arch.syscall(data.nr)?;
        let query = Query { syscall, arch, args: data.args.map(Some) };
        let explained = self.policy.explain(&query).ok()?;
        explained.outcomes.first().map(|outcome| outcome.because)
    }
}

impl AsFd for Supervisor {
    /// Readable when a call waits; hung up when no task has the filter any more.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// A supervisor that is served while its workload is waited for.
pub struct Telling<'a> {
    /// The supervisor.
    pub supervisor: &'a mut Supervisor,
    /// Who is told of denials.
    pub tell: &'a mut dyn FnMut(&Denial),
}

impl Attended for Telling<'_> {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.supervisor.listener.as_fd()
    }

    fn attend(&mut self) -> io::Result<bool> {
        self.supervisor.serve(self.tell)
    }
}

const EPERM: u16 = 1;
const ENOSYS: u16 = 38;
const EBUSY: u16 = 16;
/// `SECCOMP_SET_MODE_FILTER` and `SECCOMP_FILTER_FLAG_NEW_LISTENER` (linux/seccomp.h).
const SET_MODE_FILTER: u64 = 1;
const NEW_LISTENER: u64 = 8;

/// Refuses filters with a listener, for every ABI of the rules.
pub(crate) fn refuse_listeners(mut rules: Rules) -> Rules {
    let Some(seccomp) = Syscall::from_name("seccomp") else { return rules };
    for &abi in Arch::ALL {
        let arch = abi.audit_arch();
        let (Some(nr), Some(table)) = (seccomp.number(abi), rules.table(arch)) else { continue };
        let mut table = table.clone();
        let chain = table.chain(nr);
        let tests = [
            Test::new(0, Width::W32, u32::MAX.into(), Op::Eq, SET_MODE_FILTER),
            Test::new(1, Width::W32, NEW_LISTENER, Op::Eq, NEW_LISTENER),
        ];
        let Ok(tests) = tests.into_iter().collect::<Result<Vec<_>, _>>() else { continue };
        let passes = |action: Action| action.lets_pass();
        if !chain.arms.iter().any(|arm| passes(arm.action)) && !passes(chain.otherwise) {
            continue;
        }
        let when = Condition::All(tests.into_iter().map(Condition::Test).collect());
        let arm = Arm { when, action: Action::Errno(EBUSY) };
        let arms = std::iter::once(arm).chain(chain.arms.iter().cloned()).collect();
        let otherwise = chain.otherwise;
        table.set(nr, nr, Chain { arms, otherwise });
        rules = rules.with_table(arch, table);
    }
    rules
}

/// Whether a call loads a filter with a listener.
fn asks_for_listener(data: &SeccompData) -> bool {
    let low = |index: usize| data.args[index] & u64::from(u32::MAX);
    call::name(data).is_some_and(|call| call.name() == "seccomp")
        && low(0) == SET_MODE_FILTER
        && low(1) & NEW_LISTENER != 0
}

/// Who a thread is, as far as can be read.
fn process(tid: u32) -> Process {
    let image = fs::read_link(format!("/proc/{tid}/exe")).unwrap_or_default();
    let name = fs::read(format!("/proc/{tid}/comm")).unwrap_or_default();
    Process { image, name: String::from_utf8_lossy(&name).trim_end().to_owned() }
}

fn gone(error: &io::Error) -> bool {
    [Errno::NOENT, Errno::INTR]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn ignore_gone(answered: io::Result<()>) -> io::Result<()> {
    match answered {
        Err(error) if gone(&error) => Ok(()),
        answered => answered,
    }
}
