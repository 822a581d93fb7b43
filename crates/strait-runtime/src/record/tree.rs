//! The eBPF engine: workloads that are followed by programs in the kernel, until each has ended.

use std::fs;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Pid;
use strait_abi::Syscall;
use strait_kernel::child::{Child, PendingChild};
use strait_kernel::ebpf::{Follow, Recorder, Workload};

use super::counted::Counted;
use super::ending::{Demand, Ending};
use super::followed::{Created, Followed, follow};
use super::{Ready, RecordError, Request, Target};
use crate::launch::Verified;

/// How often at most and at least it is looked whether the last task has ended.
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(50);

const UNDER_WAY: &str = "calls that were under way when the recording began, a server's wait for \
                         its clients among them";

/// Recordings by eBPF: of one command, or of any workloads that run already.
#[derive(Debug)]
pub(super) struct Observer {
    recorder: Recorder,
    /// Those that are not read yet, in order.
    running: Vec<One>,
    ending: Ending,
    /// When the workloads are ready, if by time.
    ready_at: Option<Instant>,
}

/// One of the workloads.
#[derive(Debug)]
struct One {
    /// Its place in what was asked for.
    place: usize,
    workload: Workload,
    followed: Followed,
    filtered: bool,
}

/// Loads the programs for a container that is to come.
pub(super) fn load_for_container(ready: &Ready) -> Result<Recorder, RecordError> {
    Ok(Recorder::load_for_namespaces(ready_calls(ready))?)
}

/// Attaches the programs that these targets take, unless they are `loaded` already: for commands, or for a
/// container that was to come.
pub(super) fn attach(
    targets: &[Target<'_>],
    ready: &Ready,
    loaded: Option<Recorder>,
) -> Result<Recorder, RecordError> {
    let follow: Vec<Follow<'_>> = targets.iter().map(follow).collect::<Result<_, _>>()?;
    let ready = ready_calls(ready);
    match (loaded.filter(|loaded| loaded.ready_calls() == ready), follow.as_slice()) {
        (Some(loaded), [Follow::Tree]) if !loaded.awaits_namespaces() => Ok(loaded),
        (Some(mut loaded), [Follow::Namespaces(Some(of))]) if loaded.awaits_namespaces() => {
            loaded.follow_namespaces(Workload::FIRST, *of)?;
            Ok(loaded)
        }
        _ => Ok(Recorder::new(&follow, ready)?),
    }
}

/// The calls of which the first makes the workloads ready.
fn ready_calls(ready: &Ready) -> &[Syscall] {
    match ready {
        Ready::Calls(calls) => calls,
        Ready::After(_) => &[],
    }
}

/// Names the target to the programs, and runs the command.
pub(super) fn start(
    mut recorder: Recorder,
    request: &Request<'_>,
    pending: Option<PendingChild>,
    ending: Ending,
) -> Result<(Observer, Option<Verified>), RecordError> {
    let begun = Followed::begin(&mut recorder, Workload::FIRST, &request.target, pending)?;
    let one = One {
        place: 0,
        workload: Workload::FIRST,
        followed: begun.followed,
        filtered: begun.filtered,
    };
    Ok((Observer::new(recorder, vec![one], ending, &request.ready), begun.verified))
}

/// Names targets that run already to the programs, one workload each.
pub(super) fn start_several(
    mut recorder: Recorder,
    targets: &[Target<'_>],
    ending: Ending,
    ready: &Ready,
) -> Result<Observer, RecordError> {
    let mut running = Vec::new();
    for ((place, target), workload) in targets.iter().enumerate().zip(recorder.workloads()) {
        let begun = Followed::begin(&mut recorder, workload, target, None)?;
        let (followed, filtered) = (begun.followed, begun.filtered);
        running.push(One { place, workload, followed, filtered });
    }
    Ok(Observer::new(recorder, running, ending, ready))
}

impl Observer {
    fn new(recorder: Recorder, running: Vec<One>, ending: Ending, ready: &Ready) -> Observer {
        let ready_at = match ready {
            // A time that cannot be told never comes.
            &Ready::After(time) => Instant::now().checked_add(time),
            Ready::Calls(_) => None,
        };
        Observer { recorder, running, ending, ready_at }
    }

    /// Waits until a workload has ended, reads what was counted of it, and says which one it is.
    /// `None` when all have.
    pub(super) fn next_ended(&mut self) -> Result<Option<(usize, Counted)>, RecordError> {
        let mut pause = SHORTEST;
        while !self.running.is_empty() {
            if let Some(ended) = self.ended()? {
                return self.take(ended).map(Some);
            }
            if self.ready_at.is_some_and(|at| at <= Instant::now()) {
                self.ready_at = None;
                for one in &self.running {
                    self.recorder.ready(one.workload)?;
                }
            }
            let Some(demand) = self.ending.demand() else {
                self.pause(pause)?;
                if self.command().is_none() {
                    pause = (pause * 2).min(LONGEST);
                }
                continue;
            };
            match (self.command(), demand) {
                (Some(child), Demand::Send(signal)) => {
                    child.signal(signal).map_err(RecordError::Wait)?;
                }
                (Some(_), Demand::Sent(_)) => {}
                // What still runs is not to be counted while the counts are read.
                (None, _) => self.recorder.detach()?,
            }
        }
        Ok(None)
    }

    /// Waits for the end of the one workload and reads what was counted. Gives back what was loaded
    /// if another command can be recorded by it.
    pub(super) fn wait_and_keep(mut self) -> Result<(Counted, Option<Recorder>), RecordError> {
        let is_command = self.command().is_some();
        let Some((_, counted)) = self.next_ended()? else { unreachable!("there is one workload") };
        let kept = is_command && !self.ending.early() && self.recorder.clear()?;
        Ok((counted, kept.then_some(self.recorder)))
    }

    /// The first of those that are left for which there is nothing to wait for any more.
    fn ended(&mut self) -> Result<Option<usize>, RecordError> {
        if !self.recorder.is_attached() {
            return Ok(Some(0));
        }
        let early = self.ending.early();
        for (index, one) in self.running.iter_mut().enumerate() {
            if one.followed.ended(&self.recorder, one.workload, early)? {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// What was counted of one of those that are left.
    fn take(&mut self, index: usize) -> Result<(usize, Counted), RecordError> {
        let One { place, workload, followed, filtered } = self.running.remove(index);
        let early = self.ending.early();
        if early {
            self.recorder.detach()?;
        }
        let mut counts = self.recorder.counts(workload)?;
        let denied = counts.calls.values().any(|outcomes| outcomes.denied > 0);
        if let Followed::Namespaces { container: Some(Created { open: true }), .. } = followed
            && !denied
        {
            // What these tasks had was that filter: no call was kept from being seen.
            counts.statistics.filtered_tasks = 0;
        }
        let under_way = followed.ran_already().then(|| UNDER_WAY.to_owned());
        let counted = Counted {
            counts,
            status: match &followed {
                Followed::Command { status, .. } => *status,
                _ => None,
            },
            interrupted: early,
            filtered,
            sees_results: true,
            lost: Vec::new(),
            blind_spots: under_way.into_iter().collect(),
        };
        Ok((place, counted))
    }

    /// The command, while it runs. There are no others beside one.
    fn command(&self) -> Option<&Child> {
        match self.running.first().map(|one| &one.followed) {
            Some(Followed::Command { child, status: None }) => Some(child),
            _ => None,
        }
    }

    /// Waits until something may have happened.
    fn pause(&self, pause: Duration) -> Result<(), RecordError> {
        let ready = self.ready_at.map(|at| at.saturating_duration_since(Instant::now()));
        let mut timeout = self.ending.patience().into_iter().chain(ready).min();
        let mut fds = vec![PollFd::new(&self.ending, PollFlags::IN)];
        match self.command() {
            Some(child) => fds.push(PollFd::new(child, PollFlags::IN)),
            // The end shows by nothing but looking.
            None => timeout = Some(timeout.map_or(pause, |patience| patience.min(pause))),
        }
        // A time that does not fit is centuries from now.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => Err(RecordError::Wait(errno.into())),
        }
    }
}

/// The processes below `root` now, as far as they can be seen.
pub(super) fn descendants(root: Pid) -> Vec<Pid> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        let Some(pid) = pid.and_then(Pid::from_raw) else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // pid (name) state parent; the name may hold anything (proc_pid_stat(5)).
        let after = stat.rsplit_once(") ").map(|(_, after)| after);
        let parent = after.and_then(|after| after.split(' ').nth(1)?.parse::<i32>().ok());
        if let Some(parent) = parent.and_then(Pid::from_raw) {
            parents.push((pid, parent));
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(parents.iter().filter(|&&(_, of)| of == parent).map(|&(pid, _)| pid));
        next += 1;
    }
    found.split_off(1)
}

/// Whether there is a filter on a process; on this one, which a command inherits it from.
pub(super) fn has_filter(pid: Option<Pid>) -> bool {
    let path = match pid {
        Some(pid) => format!("/proc/{}/status", pid.as_raw_nonzero()),
        None => "/proc/thread-self/status".to_owned(),
    };
    let status = fs::read(path).unwrap_or_default();
    let mode = status.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"Seccomp:"));
    mode.is_some_and(|mode| mode.trim_ascii() != b"0")
}
