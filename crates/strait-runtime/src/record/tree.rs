//! The eBPF engine: who is followed, and until when.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use strait_kernel::child::{Child, PendingChild};
use strait_kernel::ebpf::{EbpfError, Follow, Namespaces, Recorder, Workload};

use super::counted::Counted;
use super::ending::{Demand, Ending};
use super::{Ready, RecordError, Request, Target};
use crate::launch::Verified;

/// How often at most and at least it is looked whether the last task has ended.
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(50);

const UNDER_WAY: &str = "calls that were under way when the recording began, a server's wait for \
                         its clients among them";

/// A recording by eBPF.
#[derive(Debug)]
pub(super) struct Observer {
    recorder: Recorder,
    workload: Followed,
    ending: Ending,
    filtered: bool,
    /// When the workload is ready, if by time.
    ready_at: Option<Instant>,
}

/// A container that is followed from before its start.
#[derive(Debug)]
struct Created {
    /// Whether the filter that it gets lets everything pass.
    open: bool,
}

#[derive(Debug)]
enum Followed {
    Command { child: Child, status: Option<ExitStatus> },
    Process,
    Cgroup { path: PathBuf, was_populated: bool },
    Namespaces { of: Namespaces, first: OwnedFd, over: bool, container: Option<Created> },
}

/// Attaches the programs that this target takes, unless they are loaded already. What is `loaded`
/// is for commands.
pub(super) fn attach(
    request: &Request<'_>,
    loaded: Option<Recorder>,
) -> Result<Recorder, RecordError> {
    let follow = match &request.target {
        Target::Command { .. } => Follow::Tree,
        Target::Process(_) => Follow::Process,
        Target::Cgroup(path) => {
            Follow::Cgroup { path, populated: is_populated(path).unwrap_or(false) }
        }
        &(Target::Namespaces(pid) | Target::Container { init: pid, .. }) => Follow::Namespaces(
            namespaces(pid).ok_or(RecordError::Namespaces { pid: pid.as_raw_nonzero().get() })?,
        ),
    };
    let ready = match &request.ready {
        Ready::Calls(calls) => calls.as_slice(),
        Ready::After(_) => &[],
    };
    match loaded {
        Some(loaded) if follow == Follow::Tree && loaded.ready_calls() == ready => Ok(loaded),
        _ => Ok(Recorder::new(&[follow], ready)?),
    }
}

/// The namespaces of a process that are not this one's too; `None` where there are none.
fn namespaces(pid: Pid) -> Option<Namespaces> {
    let id = |of: &str, name: &str| {
        let inode = fs::metadata(format!("/proc/{of}/ns/{name}")).ok()?.ino();
        u32::try_from(inode).ok()
    };
    let pid = pid.as_raw_nonzero().to_string();
    let own = |name| id(&pid, name).filter(|&there| id("self", name) != Some(there));
    Namespaces::new(own("pid"), own("mnt"), own("net"))
}

/// Whether there is a process in these namespaces.
fn is_inhabited(wanted: Namespaces) -> bool {
    fs::read_dir("/proc").into_iter().flatten().flatten().any(|entry| {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        pid.and_then(Pid::from_raw).and_then(namespaces) == Some(wanted)
    })
}

/// Names the target to the programs, and runs the command.
pub(super) fn start(
    mut recorder: Recorder,
    request: &Request<'_>,
    pending: Option<PendingChild>,
    ending: Ending,
) -> Result<(Observer, Option<Verified>), RecordError> {
    let mut filtered = has_filter(None);
    let mut verified = None;
    let workload = match (&request.target, pending) {
        (Target::Command { enforcement, .. }, Some(pending)) => {
            recorder.follow_from_exec(Workload::FIRST, pending.pidfd())?;
            let child = match enforcement {
                None => pending.exec(None)?,
                Some(enforcement) => {
                    let started = enforcement.start(pending)?;
                    verified = Some(started.verified);
                    started.child
                }
            };
            Followed::Command { child, status: None }
        }
        (Target::Cgroup(path), _) => Followed::Cgroup { path: path.clone(), was_populated: false },
        (&Target::Process(pid), _) => {
            filtered = has_filter(Some(pid));
            follow_tree(&mut recorder, pid)?;
            Followed::Process
        }
        (&(Target::Namespaces(pid) | Target::Container { init: pid, .. }), _) => {
            let gone = |errno: rustix::io::Errno| RecordError::NoProcess {
                pid: pid.as_raw_nonzero().get(),
                source: errno.into(),
            };
            filtered = has_filter(Some(pid));
            let first = pidfd_open(pid, PidfdFlags::empty()).map_err(gone)?;
            let of = namespaces(pid).ok_or_else(|| gone(rustix::io::Errno::SRCH))?;
            let container = match request.target {
                Target::Container { open, .. } => Some(Created { open }),
                _ => None,
            };
            Followed::Namespaces { of, first, over: false, container }
        }
        (Target::Command { .. }, None) => unreachable!("a command has been forked"),
    };
    let ready_at = match request.ready {
        // A time that cannot be told never comes.
        Ready::After(time) => Instant::now().checked_add(time),
        Ready::Calls(_) => None,
    };
    Ok((Observer { recorder, workload, ending, filtered, ready_at }, verified))
}

impl Observer {
    /// Waits for the end and reads what was counted. Gives back what was loaded if another command
    /// can be recorded by it.
    pub(super) fn wait_and_keep(mut self) -> Result<(Counted, Option<Recorder>), RecordError> {
        let mut pause = SHORTEST;
        while !self.ended()? {
            if self.ready_at.is_some_and(|at| at <= Instant::now()) {
                self.ready_at = None;
                self.recorder.ready(Workload::FIRST)?;
            }
            let Some(demand) = self.ending.demand() else {
                self.pause(pause)?;
                if self.only_descendants() {
                    pause = (pause * 2).min(LONGEST);
                }
                continue;
            };
            match (&self.workload, demand) {
                (Followed::Command { child, status: None }, Demand::Send(signal)) => {
                    child.signal(signal).map_err(RecordError::Wait)?;
                }
                (Followed::Command { status: None, .. }, Demand::Sent) => {}
                _ => break,
            }
        }
        let finished = matches!(self.workload, Followed::Command { .. }) && !self.ending.early();
        if !finished {
            // What still runs is not to be counted while the counts are read.
            self.recorder.detach()?;
        }
        let status = match &self.workload {
            Followed::Command { status, .. } => *status,
            _ => None,
        };
        let mut counts = self.recorder.counts(Workload::FIRST)?;
        let denied = counts.calls.values().any(|outcomes| outcomes.denied > 0);
        if let Followed::Namespaces { container: Some(Created { open: true }), .. } = self.workload
            && !denied
        {
            // What these tasks had was that filter: no call was kept from being seen.
            counts.statistics.filtered_tasks = 0;
        }
        let counted = Counted {
            counts,
            status,
            interrupted: self.ending.early(),
            filtered: self.filtered,
            sees_results: true,
            lost: Vec::new(),
            blind_spots: match self.workload {
                Followed::Command { .. } | Followed::Namespaces { container: Some(_), .. } => {
                    Vec::new()
                }
                _ => vec![UNDER_WAY.to_owned()],
            },
        };
        let kept = finished && self.recorder.clear()?;
        Ok((counted, kept.then_some(self.recorder)))
    }

    /// Whether there is nothing left to wait for.
    fn ended(&mut self) -> Result<bool, RecordError> {
        match &mut self.workload {
            Followed::Command { child, status } => {
                if status.is_none() && readable(&*child).map_err(RecordError::Wait)? {
                    *status = Some(child.wait().map_err(RecordError::Wait)?);
                }
                if status.is_none() {
                    return Ok(false);
                }
                Ok(self.ending.early() || self.recorder.live()? == 0)
            }
            Followed::Process => Ok(self.recorder.live()? == 0),
            Followed::Cgroup { path, was_populated } => {
                let populated = is_populated(path)?;
                // Between two looks a cgroup can be populated and empty again.
                *was_populated |= populated || self.recorder.followed()? > 0;
                Ok(*was_populated && !populated && self.recorder.live()? == 0)
            }
            Followed::Namespaces { of, first, over, .. } => {
                // It is looked for others only when the first is gone: that takes a while.
                *over =
                    *over || (readable(&*first).map_err(RecordError::Wait)? && !is_inhabited(*of));
                Ok(*over && self.recorder.live()? == 0)
            }
        }
    }

    /// Whether the end shows by nothing but looking.
    fn only_descendants(&self) -> bool {
        !matches!(self.workload, Followed::Command { status: None, .. })
    }

    /// Waits until something may have happened.
    fn pause(&self, pause: Duration) -> Result<(), RecordError> {
        let ready = self.ready_at.map(|at| at.saturating_duration_since(Instant::now()));
        let mut timeout = self.ending.patience().into_iter().chain(ready).min();
        let mut fds = vec![PollFd::new(&self.ending, PollFlags::IN)];
        match &self.workload {
            Followed::Command { child, status: None } => {
                fds.push(PollFd::new(child, PollFlags::IN));
            }
            _ => timeout = Some(timeout.map_or(pause, |patience| patience.min(pause))),
        }
        // A time that does not fit is centuries from now.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => Err(RecordError::Wait(errno.into())),
        }
    }
}

fn readable(fd: &impl AsFd) -> io::Result<bool> {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    Ok(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? > 0)
}

/// Follows a process and its descendants: those that it starts from now on by the programs, those
/// that it has by looking for them until no more are found.
fn follow_tree(recorder: &mut Recorder, root: Pid) -> Result<(), RecordError> {
    let pidfd = pidfd_open(root, PidfdFlags::empty()).map_err(|errno| RecordError::NoProcess {
        pid: root.as_raw_nonzero().get(),
        source: errno.into(),
    })?;
    recorder.follow(Workload::FIRST, pidfd.as_fd())?;
    loop {
        let mut found = false;
        for pid in descendants(root) {
            // One that has ended meanwhile is none any more.
            let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
            match recorder.follow(Workload::FIRST, pidfd.as_fd()) {
                Ok(new) => found |= new,
                Err(EbpfError::Follow(error))
                    if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if !found {
            return Ok(());
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

/// Whether there are processes in a cgroup or below it (cgroups(7)).
fn is_populated(cgroup: &Path) -> Result<bool, RecordError> {
    let path = cgroup.join("cgroup.events");
    match fs::read_to_string(&path) {
        Ok(events) => Ok(events.lines().any(|line| line == "populated 1")),
        // It has been removed, so there is nobody in it.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !cgroup.exists() => Ok(false),
        Err(source) => Err(RecordError::Cgroup { path, source }),
    }
}
