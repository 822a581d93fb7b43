//! The throw-away child that an attack is tried in, and what its parent reads off afterwards.

use std::any::Any;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::ptr;
use std::time::{Duration, Instant};

use super::fixture::Fixture;
use super::script::{self, Board, Expect, Script, State, Step, TRIES};
use super::{Attack, Attempt, AttemptError, Confinement, MayRun, Supervise, scripts};
use crate::child::Change;
use crate::landlock::Domain;
use crate::seccomp::{self, Listener};
use crate::shared::Shared;
use crate::watch::{Watch, Watched};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, Signal, WaitOptions, kill_process, pidfd_getfd, pidfd_open,
    pidfd_send_signal, waitpid,
};

/// How long an attack may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// See [`super::attempt`].
pub(super) fn attempt(
    attack: Attack,
    confinement: Confinement<'_>,
) -> Result<Attempt, AttemptError> {
    let supervise = confinement.filter.and(confinement.supervise);
    // The listener of its filter.
    let more = RawFd::from(supervise.is_some());
    let fixture = Fixture::new(attack.aimed_at(), more).map_err(AttemptError::Fixture)?;
    let board: Shared<Board> = Shared::new().map_err(AttemptError::Fixture)?;
    let script = scripts::script(&attack, &fixture, &board);
    debug_assert!(script.steps.len() <= script::MAX_STEPS);
    board.fill(&script.memory);
    let mut insns = confinement.filter.map(seccomp::sock_filters).unwrap_or_default();
    let plan = Plan {
        attack,
        script: &script,
        board: &board,
        terminal: fixture.terminal.as_ref().map(AsRawFd::as_raw_fd),
        domain: confinement.domain,
        notifies: supervise.is_some(),
        is_attended: supervise.is_some() || confinement.may_run.is_some(),
        fprog: libc::sock_fprog {
            // A program has at most 4096 instructions.
            len: u16::try_from(insns.len()).unwrap_or(0),
            filter: insns.as_mut_ptr(),
        },
        stack: vec![0; STACK],
    };
    // SAFETY: the child runs `Plan::run` alone, which never returns, allocates nothing, locks nothing
    // and makes raw calls only.
    match unsafe { libc::fork() } {
        -1 => Err(AttemptError::Fork(io::Error::last_os_error())),
        0 => plan.run(),
        pid => {
            let pid = Pid::from_raw(pid).ok_or(AttemptError::Unsupported)?;
            let child = Running { pid, ended: false };
            let Attended { watch, supervisor } =
                attend(pid, &board, supervise, confinement.may_run)?;
            let status = child.wait(watch).map_err(AttemptError::Fork)?;
            drop(supervisor);
            outcome(&script, &board, status)
        }
    }
}

impl Attack {
    /// The address of this machine that it is made on.
    fn aimed_at(&self) -> Ipv4Addr {
        match *self {
            Attack::Connect(to)
            | Attack::ConnectMultipath(to)
            | Attack::ConnectInherited(to)
            | Attack::SendInherited { to, .. }
            | Attack::RewriteAddress { to, .. }
            | Attack::FastOpen(to) => to,
            _ => Ipv4Addr::LOCALHOST,
        }
    }
}

/// Bytes of the early thread's stack.
const STACK: usize = 64 << 10;

/// What the child needs, all of it made before the fork.
struct Plan<'a> {
    attack: Attack,
    script: &'a Script,
    board: &'a Board,
    terminal: Option<i32>,
    domain: Option<&'a Domain>,
    /// Whether its filter has a listener.
    notifies: bool,
    /// Whether it waits, before the attack, for whoever attends to it.
    is_attended: bool,
    fprog: libc::sock_fprog,
    stack: Vec<u8>,
}

impl Plan<'_> {
    /// The child's whole life.
    fn run(&self) -> ! {
        end_with_parent();
        // A child that is killed leaves no core file.
        raw(libc::SYS_setrlimit, [u64::from(libc::RLIMIT_CORE), [0_u64; 2].as_ptr() as u64, 0]);
        if let Some(terminal) = self.terminal {
            raw(libc::SYS_setsid, [0; 3]);
            let terminal = i64::from(terminal).cast_unsigned();
            raw(libc::SYS_ioctl, [terminal, libc::TIOCSCTTY, 0]);
        }
        let early = matches!(self.attack, Attack::EarlyThread(_));
        if early || self.script.rewritten.is_some() {
            let entry = if early { early_thread } else { rewriting_thread };
            let end = self.stack.as_ptr_range().end.cast_mut();
            let top = end.wrapping_sub(end.addr() % 16);
            // SAFETY: the stack is this process's own copy of a vector that nobody else uses; the
            // entry makes raw calls only and never unwinds.
            unsafe { script::thread(top, entry, ptr::from_ref(self).cast()) };
        }
        raw(libc::SYS_prctl, [libc::PR_SET_NO_NEW_PRIVS as u64, 1, 0]);
        let mut listener = -1;
        if let Some(domain) = self.domain
            && let Err(errno) = domain.enter()
        {
            self.board.not_restricted(errno);
            script::end();
        }
        if self.fprog.len > 0 {
            let fprog = ptr::from_ref(&self.fprog) as u64;
            let load = u64::from(libc::SECCOMP_SET_MODE_FILTER);
            let mut flags = libc::SECCOMP_FILTER_FLAG_TSYNC;
            if self.notifies {
                flags |=
                    libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH;
            }
            let done = raw(libc::SYS_seccomp, [load, flags, fprog]);
            // Without a listener what is not 0 is a thread that could not be had.
            if done < 0 || done > 0 && !self.notifies {
                self.board.not_loaded(i32::try_from(-done).unwrap_or(libc::ESRCH));
                script::end();
            }
            listener = if self.notifies { i32::try_from(done).unwrap_or(-1) } else { -1 };
        }
        if self.is_attended {
            self.board.wait_to_be_attended(listener);
        }
        if early {
            self.board.go_and_wait();
        } else {
            self.attack();
        }
        script::end()
    }

    fn attack(&self) {
        // SAFETY: this is a process that was forked for it, or a thread of one, and ends after it.
        unsafe { self.board.run(&self.script.steps) }
    }
}

/// The early thread: waits until the filter is there, and attacks.
extern "C" fn early_thread(plan: *const ()) -> ! {
    // SAFETY: the thread was started by `Plan::run` with its own plan, which outlives the process's
    // threads, as the main thread waits and then ends them all.
    let plan = unsafe { &*plan.cast::<Plan<'_>>() };
    plan.board.wait_for_go();
    plan.attack();
    script::end()
}

/// The thread that exchanges what a call points to.
extern "C" fn rewriting_thread(plan: *const ()) -> ! {
    // SAFETY: as for the early thread.
    let plan = unsafe { &*plan.cast::<Plan<'_>>() };
    if let Some((at, values)) = plan.script.rewritten {
        // SAFETY: the word is one of the script's memory, which is the board's.
        unsafe { plan.board.rewrite(at, values) };
    }
    script::end()
}

/// A call of the child's own, before the filter.
fn raw(nr: i64, args: [u64; 3]) -> i64 {
    let [a, b, c] = args;
    // SAFETY: every caller here passes what the call takes, to memory that lives as long.
    unsafe { script::syscall(nr.cast_unsigned(), [a, b, c, 0, 0, 0]) }
}

/// Has the calling child killed when its parent ends.
pub(super) fn end_with_parent() {
    let kill = libc::SIGKILL as u64;
    raw(libc::SYS_prctl, [libc::PR_SET_PDEATHSIG as u64, kill, 0]);
}

/// A child that is killed if nobody waited for its end.
struct Running {
    pid: Pid,
    ended: bool,
}

/// What goes on beside an attack, until this is dropped.
struct Attended<'a> {
    watch: Option<Looked<'a>>,
    supervisor: Option<Box<dyn Any>>,
}

/// What is executed, and who is asked about it.
type Looked<'a> = (Watch, &'a MayRun<'a>);

/// Takes up what the child is to be attended by, and lets it go on.
fn attend<'a>(
    pid: Pid,
    board: &Board,
    supervise: Option<&Supervise<'_>>,
    may_run: Option<&'a MayRun<'a>>,
) -> Result<Attended<'a>, AttemptError> {
    let mut attended = Attended { watch: None, supervisor: None };
    if supervise.is_none() && may_run.is_none() {
        return Ok(attended);
    }
    let failed = AttemptError::Supervise;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|errno| failed(errno.into()))?;
    let until = Instant::now() + PATIENCE;
    let listener = loop {
        if let Some(listener) = board.waits_with() {
            break listener;
        }
        // It could not be confined, which the board says, or has not come to that.
        if board.state() != State::Running || Instant::now() > until {
            return Ok(attended);
        }
        let pause = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        let _ = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&pause));
    };
    if let Some(may_run) = may_run {
        attended.watch = Some((Watch::seize(pid).map_err(failed)?, may_run));
    }
    if let Some(supervise) = supervise {
        let listener = pidfd_getfd(&pidfd, listener, PidfdGetfdFlags::empty())
            .map_err(|errno| failed(errno.into()))?;
        attended.supervisor = Some(supervise(Listener::from_fd(listener), pid).map_err(failed)?);
    }
    board.attend();
    Ok(attended)
}

impl Running {
    /// Waits for the child to end, or ends it.
    fn wait(mut self, watch: Option<Looked<'_>>) -> io::Result<Option<ExitStatus>> {
        let pidfd = pidfd_open(self.pid, PidfdFlags::empty())?;
        let until = Instant::now() + PATIENCE;
        let mut stuck = false;
        let mut watch = watch;
        loop {
            if let Some((watch, may_run)) = &mut watch {
                match watch.attend(&mut |process| may_run(process))? {
                    Watched::Changed(Change::Ended(status)) => {
                        self.ended = true;
                        return Ok((!stuck).then_some(status));
                    }
                    Watched::Changed(Change::Stopped) | Watched::Nothing | Watched::Done => {}
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() && !stuck {
                stuck = true;
                pidfd_send_signal(&pidfd, Signal::KILL)?;
            }
            // Who is watched says nothing by this; its end takes as long as it takes.
            let pause = match (&watch, stuck) {
                (Some(_), _) => Duration::from_millis(1),
                (None, false) => left,
                (None, true) => PATIENCE,
            };
            let pause = Timespec {
                tv_sec: pause.as_secs().cast_signed(),
                tv_nsec: pause.subsec_nanos().into(),
            };
            let ready = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&pause));
            if watch.is_none() && ready == Ok(1) {
                let status = reap(self.pid)?;
                self.ended = true;
                return Ok(status.filter(|_| !stuck));
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            let _ = kill_process(self.pid, Signal::KILL);
            let _ = reap(self.pid);
        }
    }
}

/// The end of the child, which has ended.
fn reap(pid: Pid) -> io::Result<Option<ExitStatus>> {
    loop {
        match waitpid(Some(pid), WaitOptions::empty()) {
            Ok(status) => {
                return Ok(status.map(|(_, status)| ExitStatus::from_raw(status.as_raw())));
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Reads off what the child left; no status is a child that had to be ended.
fn outcome(
    script: &Script,
    board: &Board,
    status: Option<ExitStatus>,
) -> Result<Attempt, AttemptError> {
    let at = board.at();
    let step = script.steps.get(at);
    let call = step.map_or("the attack", Step::name);
    let signal = status.and_then(|status| status.signal());
    Ok(match board.state() {
        State::NotLoaded => {
            let errno = i32::try_from(board.result(0)).unwrap_or(libc::EINVAL);
            return Err(seccomp::LoadError::from_errno(errno).into());
        }
        State::NotRestricted => {
            let errno = i32::try_from(board.result(0)).unwrap_or(libc::EINVAL);
            return Err(AttemptError::Landlock(io::Error::from_raw_os_error(errno)));
        }
        State::Done => Attempt::Succeeded,
        State::Refused => {
            let errno = i32::try_from(-board.result(at)).unwrap_or(0).clamp(0, 4095);
            Attempt::Refused { call, errno }
        }
        State::Running => match (signal, step) {
            // A program that ends well where only one that was executed can.
            (None, Some(Step::Call { expect: Expect::ExecWell, .. }))
                if status.and_then(|status| status.code()) == Some(0) =>
            {
                Attempt::Succeeded
            }
            (None, _) if status.is_some() => Attempt::Refused { call, errno: 0 },
            (None, _) => match script.repeated(at) {
                // Each try returns, and there is no time for all of them.
                Some(call) if board.tries() >= TRIES => Attempt::Refused { call, errno: 0 },
                _ => Attempt::Stuck { call },
            },
            (Some(libc::SIGILL), Some(Step::Call { expect: Expect::Exec, .. })) => {
                Attempt::Succeeded
            }
            (Some(signal), _) => Attempt::Killed { call, signal },
        },
    })
}
