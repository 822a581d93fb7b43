//! The throw-away child that an attack is tried in, and what its parent reads off afterwards.

use std::io;
use std::os::fd::AsRawFd;
use std::ptr;
use std::time::Duration;

use super::fixture::Fixture;
use super::script::{self, Board, Expect, Script, State, Step};
use super::{Attack, Attempt, AttemptError, Confinement, scripts};
use crate::landlock::Domain;
use crate::seccomp;
use crate::shared::Shared;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, pidfd_open, pidfd_send_signal, waitpid,
};

/// How long an attack may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// See [`super::attempt`].
pub(super) fn attempt(
    attack: Attack,
    confinement: Confinement<'_>,
) -> Result<Attempt, AttemptError> {
    let fixture = Fixture::new().map_err(AttemptError::Fixture)?;
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
            let status = wait(pid).map_err(AttemptError::Fork)?;
            outcome(&script, &board, status)
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
        if early {
            let end = self.stack.as_ptr_range().end.cast_mut();
            let top = end.wrapping_sub(end.addr() % 16);
            // SAFETY: the stack is this process's own copy of a vector that nobody else uses; the
            // entry makes raw calls only and never unwinds.
            unsafe { script::thread(top, early_thread, ptr::from_ref(self).cast()) };
        }
        raw(libc::SYS_prctl, [libc::PR_SET_NO_NEW_PRIVS as u64, 1, 0]);
        if let Some(domain) = self.domain
            && let Err(errno) = domain.enter()
        {
            self.board.not_restricted(errno);
            script::end();
        }
        if self.fprog.len > 0 {
            let fprog = ptr::from_ref(&self.fprog) as u64;
            let load = u64::from(libc::SECCOMP_SET_MODE_FILTER);
            let flags = libc::SECCOMP_FILTER_FLAG_TSYNC;
            let done = raw(libc::SYS_seccomp, [load, flags, fprog]);
            if done != 0 {
                self.board.not_loaded(i32::try_from(-done).unwrap_or(libc::ESRCH));
                script::end();
            }
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

/// Waits for the child to end, or ends it.
fn wait(pid: Pid) -> io::Result<Option<WaitStatus>> {
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let patience = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&patience));
    let stuck = ready == Ok(0);
    if stuck {
        pidfd_send_signal(&pidfd, Signal::KILL)?;
    }
    loop {
        match waitpid(Some(pid), WaitOptions::empty()) {
            Ok(status) => return Ok(status.map(|(_, status)| status).filter(|_| !stuck)),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Reads off what the child left; no status is a child that had to be ended.
fn outcome(
    script: &Script,
    board: &Board,
    status: Option<WaitStatus>,
) -> Result<Attempt, AttemptError> {
    let at = board.at();
    let step = script.steps.get(at);
    let call = step.map_or("the attack", Step::name);
    let signal = status.and_then(WaitStatus::terminating_signal);
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
                if status.and_then(WaitStatus::exit_status) == Some(0) =>
            {
                Attempt::Succeeded
            }
            (None, _) if status.is_some() => Attempt::Refused { call, errno: 0 },
            (None, _) => Attempt::Stuck { call },
            (Some(libc::SIGILL), Some(Step::Call { expect: Expect::Exec, .. })) => {
                Attempt::Succeeded
            }
            (Some(signal), _) => Attempt::Killed { call, signal },
        },
    })
}
