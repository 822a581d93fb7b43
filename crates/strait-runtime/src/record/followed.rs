//! A workload that the eBPF engine follows: how the programs find it, and whether it has ended.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use strait_kernel::child::{Child, PendingChild};
use strait_kernel::ebpf::{EbpfError, Follow, Namespaces, Recorder, Workload};

use super::tree::{descendants, has_filter};
use super::{RecordError, Target};
use crate::launch::Verified;
use crate::scope::Scope;

/// A workload that is followed.
#[derive(Debug)]
pub(super) enum Followed {
    /// A command that has been started, and how it ended.
    Command { child: Child, status: Option<ExitStatus> },
    /// A process that runs already.
    Process,
    /// Who is in a cgroup.
    Cgroup { path: PathBuf, was_populated: bool },
    /// Who is in some namespaces.
    Namespaces { of: Namespaces, first: OwnedFd, over: bool, container: Option<Created> },
}

/// A container that is followed from before its start.
#[derive(Debug)]
pub(super) struct Created {
    /// Whether the filter that it gets lets everything pass.
    pub(super) open: bool,
}

/// A workload that is followed from now on, and what is known of its begin.
pub(super) struct Begun {
    pub(super) followed: Followed,
    /// There were filters on it already.
    pub(super) filtered: bool,
    pub(super) verified: Option<Verified>,
}

/// How the programs find a target.
pub(super) fn follow<'a>(target: &'a Target<'_>) -> Result<Follow<'a>, RecordError> {
    Ok(match target {
        Target::Command { .. } => Follow::Tree,
        Target::Process(_) => Follow::Process,
        Target::Cgroup(path) => {
            Follow::Cgroup { path, populated: is_populated(path).unwrap_or(false) }
        }
        &(Target::Namespaces(pid) | Target::Container { init: pid, .. }) => {
            let of = namespaces(pid).ok_or(RecordError::Namespaces { pid: number(pid) })?;
            Follow::Namespaces(Some(of))
        }
    })
}

impl Followed {
    /// Names a target to the programs, and runs the command.
    pub(super) fn begin(
        recorder: &mut Recorder,
        workload: Workload,
        target: &Target<'_>,
        pending: Option<PendingChild>,
    ) -> Result<Begun, RecordError> {
        let mut filtered = has_filter(None);
        let mut verified = None;
        let followed = match (target, pending) {
            (Target::Command { enforcement, .. }, Some(pending)) => {
                recorder.follow_from_exec(workload, pending.pidfd())?;
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
            (Target::Cgroup(path), _) => {
                Followed::Cgroup { path: path.clone(), was_populated: false }
            }
            (&Target::Process(pid), _) => {
                filtered = has_filter(Some(pid));
                follow_tree(recorder, workload, pid)?;
                Followed::Process
            }
            (&(Target::Namespaces(pid) | Target::Container { init: pid, .. }), _) => {
                filtered = has_filter(Some(pid));
                let first = pidfd_open(pid, PidfdFlags::empty()).map_err(gone(pid))?;
                let of = namespaces(pid).ok_or_else(|| gone(pid)(Errno::SRCH))?;
                let container = match target {
                    &Target::Container { open, .. } => Some(Created { open }),
                    _ => None,
                };
                Followed::Namespaces { of, first, over: false, container }
            }
            (Target::Command { .. }, None) => unreachable!("a command has been forked"),
        };
        Ok(Begun { followed, filtered, verified })
    }

    /// Whether there is nothing left to wait for. `early`: what a command has started is not waited
    /// for.
    pub(super) fn ended(
        &mut self,
        recorder: &Recorder,
        workload: Workload,
        early: bool,
    ) -> Result<bool, RecordError> {
        match self {
            Followed::Command { child, status } => {
                if status.is_none() && readable(&*child).map_err(RecordError::Wait)? {
                    *status = Some(child.wait().map_err(RecordError::Wait)?);
                }
                if status.is_none() {
                    return Ok(false);
                }
                Ok(early || recorder.live(workload)? == 0)
            }
            Followed::Process => Ok(recorder.live(workload)? == 0),
            Followed::Cgroup { path, was_populated } => {
                let populated = is_populated(path)?;
                // Between two looks a cgroup can be populated and empty again.
                *was_populated |= populated || recorder.followed(workload)? > 0;
                Ok(*was_populated && !populated && recorder.live(workload)? == 0)
            }
            Followed::Namespaces { of, first, over, .. } => {
                // It is looked for others only when the first is gone: that takes a while.
                *over =
                    *over || (readable(&*first).map_err(RecordError::Wait)? && !is_inhabited(*of));
                Ok(*over && recorder.live(workload)? == 0)
            }
        }
    }

    /// Whether calls that were under way when it was followed can have been missed.
    pub(super) fn ran_already(&self) -> bool {
        match self {
            Followed::Command { .. } | Followed::Namespaces { container: Some(_), .. } => false,
            Followed::Process | Followed::Cgroup { .. } | Followed::Namespaces { .. } => true,
        }
    }
}

/// The first two targets that have processes in common, by their places. Each task is followed for
/// one workload, so one of the two would miss what the other has.
pub(super) fn overlap(targets: &[Target<'_>]) -> Option<(usize, usize)> {
    let reaches: Vec<Reach> = targets.iter().map(Reach::of).collect();
    reaches.iter().enumerate().find_map(|(second, of)| {
        let first = reaches.iter().take(second).position(|other| other.meets(of))?;
        Some((first, second))
    })
}

/// Which processes a target is about.
struct Reach {
    /// Those that there are now.
    processes: BTreeSet<i32>,
    /// Those that will be.
    place: Place,
}

/// Where processes come to belong to a target.
enum Place {
    /// Below one that does.
    Tree,
    /// In the cgroup of this directory, as the kernel calls it.
    Cgroup(PathBuf),
    Namespaces(Namespaces),
}

impl Reach {
    fn of(target: &Target<'_>) -> Reach {
        // What cannot be read is said when it is to be followed.
        let (processes, place) = match target {
            Target::Command { .. } => (Vec::new(), Place::Tree),
            &Target::Process(pid) => {
                (descendants(pid).into_iter().chain([pid]).collect(), Place::Tree)
            }
            Target::Cgroup(path) => {
                let members = Scope::Cgroup(path.clone()).processes().unwrap_or_default();
                let path = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
                (members, Place::Cgroup(path))
            }
            &(Target::Namespaces(pid) | Target::Container { init: pid, .. }) => {
                match namespaces(pid) {
                    Some(of) => (inhabitants(of).collect(), Place::Namespaces(of)),
                    None => (vec![pid], Place::Tree),
                }
            }
        };
        Reach { processes: processes.into_iter().map(number).collect(), place }
    }

    fn meets(&self, other: &Reach) -> bool {
        let places = match (&self.place, &other.place) {
            (Place::Cgroup(one), Place::Cgroup(other)) => {
                one.starts_with(other) || other.starts_with(one)
            }
            (Place::Namespaces(one), Place::Namespaces(other)) => one.meet(other),
            _ => false,
        };
        places || !self.processes.is_disjoint(&other.processes)
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

/// The processes in these namespaces.
fn inhabitants(wanted: Namespaces) -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| {
        Pid::from_raw(entry.file_name().to_str().and_then(|name| name.parse().ok())?)
    });
    pids.filter(move |&pid| namespaces(pid).is_some_and(|of| wanted.contain(&of)))
}

/// Whether there is a process in these namespaces.
fn is_inhabited(wanted: Namespaces) -> bool {
    inhabitants(wanted).next().is_some()
}

/// Follows a process and its descendants: those that it starts from now on by the programs, those
/// that it has by looking for them until no more are found.
fn follow_tree(recorder: &mut Recorder, workload: Workload, root: Pid) -> Result<(), RecordError> {
    let pidfd = pidfd_open(root, PidfdFlags::empty()).map_err(gone(root))?;
    recorder.follow(workload, pidfd.as_fd())?;
    loop {
        let mut found = false;
        for pid in descendants(root) {
            // One that has ended meanwhile is none any more.
            let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
            match recorder.follow_descendant(workload, pidfd.as_fd()) {
                Ok(new) => found |= new,
                Err(EbpfError::Follow(error))
                    if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if !found {
            return Ok(());
        }
    }
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

fn readable(fd: &impl AsFd) -> io::Result<bool> {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    Ok(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? > 0)
}

fn gone(pid: Pid) -> impl Fn(Errno) -> RecordError {
    move |errno| RecordError::NoProcess { pid: number(pid), source: errno.into() }
}

fn number(pid: Pid) -> i32 {
    pid.as_raw_nonzero().get()
}
