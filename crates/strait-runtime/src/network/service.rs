//! The threads that answer: as many as have calls to make, and one that waits for the next.
//!
//! A connect that waits for its peer must not keep others waiting. Whoever receives a call makes it, and
//! has another thread wait for the next one before it does: so nothing is handed over, and a call
//! that returns at once costs no more than with one thread. When a call cannot be made any more
//! because the threads are at their bound, it fails with ENOBUFS.
//!
//! The kernel keeps a task whose call was received waiting whatever signals come
//! (`SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`), so that nothing is sent twice. For a call that blocks
//! this is looked after here: a task that has a signal to take gets EINTR, and a call whose task has
//! died is given up.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::Pid;
use strait_abi::Arch;
use strait_bpf::Action;
use strait_kernel::caller::{self, Caller};
use strait_kernel::seccomp::{Listener, Notification};
use strait_kernel::supervision::is_over;
use strait_kernel::waker::Waker;
use strait_policy::call::abi;
use strait_policy::network::Network;

use super::call::Call;
use super::hand::{Hand, Reach, Refused};
use crate::steps::Steps;
use crate::supervise::{Answering, Counted, Denial, Supervisor};

/// Who is told of denials, from whatever thread.
pub type Tell = Box<dyn FnMut(&Denial) + Send>;

/// A supervisor with threads of its own. They end with the process, or when the last task of the workload
/// has ended.
#[derive(Debug)]
pub struct Service(Arc<Shared>);

struct Shared {
    listener: Arc<Listener>,
    network: Network,
    steps: Arc<Steps>,
    answering: Answering,
    workload: Pid,
    state: Mutex<(Supervisor, Tell)>,
    /// How many threads there are, and how many of them wait for a call.
    threads: AtomicUsize,
    idle: AtomicUsize,
    /// The calls that are being made, by the id of their notification.
    pending: Mutex<BTreeMap<u64, Pending>>,
    began: Condvar,
    /// Whether the watch sleeps until a call begins.
    asleep: AtomicBool,
    /// Whether the last task of the workload has ended, so that no call comes any more.
    over: AtomicBool,
}

struct Pending {
    tid: u32,
    waker: Waker,
    /// What the call gets if it returns because of the waker; 0 as long as it is to go on.
    interrupted: Arc<AtomicU16>,
}

/// How many threads there are at most: calls that are made at one time.
const MAX_THREADS: usize = 512;
/// How many wait for calls when there is nothing to do.
const MAX_IDLE: usize = 3;
/// The stack of one, in bytes.
const STACK: usize = 256 << 10;
/// How often calls that block are looked after.
const WATCH: Duration = Duration::from_millis(50);
/// What denied calls get, as with Landlock.
pub(super) const DENIED: u16 = 13;

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("network", &self.network).finish_non_exhaustive()
    }
}

impl Service {
    /// Starts answering.
    ///
    /// # Errors
    /// If there are no threads to be had; whoever calls has to end the workload then.
    pub fn start(supervisor: Supervisor, network: Network, tell: Tell) -> io::Result<Service> {
        let listener = supervisor.listener();
        listener.stay_on_cpu();
        let shared = Arc::new(Shared {
            listener,
            network,
            steps: supervisor.steps(),
            answering: supervisor.answering(),
            workload: supervisor.workload(),
            state: Mutex::new((supervisor, tell)),
            threads: AtomicUsize::new(0),
            idle: AtomicUsize::new(0),
            pending: Mutex::default(),
            began: Condvar::new(),
            asleep: AtomicBool::new(false),
            over: AtomicBool::new(false),
        });
        let watched = Arc::clone(&shared);
        let named = thread::Builder::new().name("strait-watch".to_owned()).stack_size(STACK);
        named.spawn(move || watched.watch())?;
        shared.another()?;
        Ok(Service(shared))
    }

    /// As [`Supervisor::counted`].
    pub fn counted(&self) -> (Vec<Counted>, u64) {
        self.0.state().0.counted()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, (Supervisor, Tell)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pending(&self) -> MutexGuard<'_, BTreeMap<u64, Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts one thread more.
    fn another(self: &Arc<Shared>) -> io::Result<()> {
        if self.threads.fetch_add(1, Ordering::SeqCst) >= MAX_THREADS {
            self.threads.fetch_sub(1, Ordering::SeqCst);
            return Err(Errno::NOBUFS.into());
        }
        self.idle.fetch_add(1, Ordering::SeqCst);
        let shared = Arc::clone(self);
        let named = thread::Builder::new().name("strait-answer".to_owned()).stack_size(STACK);
        named.spawn(move || shared.serve()).map(drop).inspect_err(|_| {
            self.idle.fetch_sub(1, Ordering::SeqCst);
            self.threads.fetch_sub(1, Ordering::SeqCst);
        })
    }

    /// Answers calls until there come no more, or others do it.
    fn serve(self: Arc<Shared>) {
        let waker = Waker::by_urgent_signal();
        // Where this is refused, sockets with a path cannot be bound: see `call`.
        let own_folder = caller::own_folder_and_umask().is_ok();
        loop {
            match self.listener.receive() {
                Ok(notification) => {
                    self.idle.fetch_sub(1, Ordering::SeqCst);
                    // The kernel alone knows of a listener that answers with anything else than that
                    // the call is gone; the call waits, and is not let pass.
                    let _ = self.answer(&notification, waker, own_folder);
                    if self.idle.fetch_add(1, Ordering::SeqCst) >= MAX_IDLE {
                        break;
                    }
                }
                Err(_) if is_over(&self.listener) => {
                    self.end_watch();
                    break;
                }
                Err(error) if is_passing(&error) => {}
                Err(_) => thread::sleep(WATCH),
            }
        }
        self.idle.fetch_sub(1, Ordering::SeqCst);
        self.threads.fetch_sub(1, Ordering::SeqCst);
    }

    fn answer(
        self: &Arc<Shared>,
        notification: &Notification,
        waker: Waker,
        own_folder: bool,
    ) -> io::Result<()> {
        let &Notification { id, tid, data } = notification;
        let call = match self.steps.decide(&data) {
            Action::Notify => Call::new(&data),
            _ => None,
        };
        let Some(call) = call else {
            let (supervisor, tell) = &mut *self.state();
            return supervisor.answer(notification, tell);
        };
        if matches!(call, Call::Bind { .. }) && !own_folder {
            return self.listener.fail_call(id, DENIED);
        }
        let makes = self.answering == Answering::Enforce;
        let spare = self.idle.load(Ordering::SeqCst) > 0 || self.another().is_ok();
        if makes && !spare {
            return self.listener.fail_call(id, errno(Errno::NOBUFS));
        }
        let interrupted = Arc::new(AtomicU16::new(0));
        if makes {
            let pending = Pending { tid, waker, interrupted: Arc::clone(&interrupted) };
            self.pending().insert(id, pending);
            if self.asleep.swap(false, Ordering::SeqCst) {
                self.began.notify_one();
            }
        }
        let native = abi(data.arch, data.nr) == Arch::NATIVE;
        let made = Caller::new(tid).map_err(Refused::from).and_then(|caller| {
            let hand = Hand {
                network: &self.network,
                caller: &caller,
                tid,
                native,
                waits: &|| self.listener.is_waiting(id),
                interrupted: &|| interrupted.load(Ordering::SeqCst) != 0,
                makes,
            };
            hand.make(&call)
        });
        if makes {
            self.pending().remove(&id);
        }
        if made.is_ok() {
            self.steps.ready(&data, tid, self.workload);
        }
        match (made, makes) {
            (Err(Refused::Denied(reach)), _) => self.deny(notification, reach),
            // Only looked at: whatever else is wrong with it, the kernel will say.
            (_, false) => self.listener.continue_call(id),
            (Ok(value), true) => self.listener.return_from_call(id, value),
            (Err(Refused::Errno(Errno::INTR)), true) => {
                self.listener.fail_call(id, interrupted.load(Ordering::SeqCst))
            }
            (Err(Refused::Errno(refused)), true) => self.listener.fail_call(id, errno(refused)),
            (Err(Refused::Gone), true) => self.listener.fail_call(id, errno(Errno::INTR)),
        }
    }

    fn deny(&self, notification: &Notification, reach: Reach) -> io::Result<()> {
        let (supervisor, tell) = &mut *self.state();
        supervisor.deny(notification, Action::Errno(DENIED), Some(reach), tell)
    }

    /// Has the watch end, once the last call that is being made has returned.
    fn end_watch(&self) {
        self.over.store(true, Ordering::SeqCst);
        // Between its look at `over` and its sleep the watch holds the calls, so it is told either way.
        drop(self.pending());
        self.began.notify_one();
    }

    /// Gives calls up that block and that nobody waits for, or whose task has a signal to take.
    fn watch(&self) {
        loop {
            let mut pending = self.pending();
            while pending.is_empty() {
                if self.over.load(Ordering::SeqCst) {
                    return;
                }
                // Each time again: the call that woke it may be over, and the next must wake it too.
                self.asleep.store(true, Ordering::SeqCst);
                pending = self.began.wait(pending).unwrap_or_else(PoisonError::into_inner);
            }
            self.asleep.store(false, Ordering::SeqCst);
            let before: Vec<u64> = pending.keys().copied().collect();
            drop(pending);
            thread::sleep(WATCH);
            let blocked: Vec<(u64, u32)> = {
                let pending = self.pending();
                before.iter().filter_map(|id| Some((*id, pending.get(id)?.tid))).collect()
            };
            for (id, tid) in blocked {
                let interrupted = match self.listener.is_waiting(id) {
                    true => interruption(tid),
                    false => Some(EINTR),
                };
                let pending = self.pending();
                if let (Some(interrupted), Some(pending)) = (interrupted, pending.get(&id)) {
                    pending.interrupted.store(interrupted, Ordering::SeqCst);
                    pending.waker.wake();
                }
            }
        }
    }
}

/// What the call of a task gets that has a signal to take; `None` if there is none.
///
/// It is what the kernel's own call would return, and means that a call is made again unless there
/// is a handler that says otherwise. It never gets to the program where the task does take a signal;
/// one of a process with several threads may be taken by another, so these get EINTR.
fn interruption(tid: u32) -> Option<u16> {
    let Ok(status) = fs::read_to_string(format!("/proc/{tid}/status")) else { return Some(EINTR) };
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(str::trim)
    };
    let mask = |name: &str| field(name).and_then(|mask| u64::from_str_radix(mask, 16).ok());
    let blocked = mask("SigBlk").unwrap_or(0);
    let (own, shared) = (mask("SigPnd").unwrap_or(0), mask("ShdPnd").unwrap_or(0));
    if own & !blocked != 0 || (shared & !blocked != 0 && field("Threads") == Some("1")) {
        return Some(ERESTARTSYS);
    }
    (shared & !blocked != 0).then_some(EINTR)
}

const EINTR: u16 = 4;
/// include/linux/errno.h: of the kernel's own.
const ERESTARTSYS: u16 = 512;

fn errno(errno: Errno) -> u16 {
    u16::try_from(errno.raw_os_error()).unwrap_or(DENIED)
}

/// Whether to receive again.
fn is_passing(error: &io::Error) -> bool {
    [Errno::NOENT, Errno::INTR]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
