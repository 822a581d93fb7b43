//! Landlock: which files may be executed, and a task that has no business with others.
//!
//! A Landlock domain is made by the parent as a ruleset and put on by the child itself, before its
//! filter and its exec; it stays on everything that the child starts. What each right means is in
//! landlock(7) and `Documentation/userspace-api/landlock.rst`; two things follow from having any
//! domain at all: a task in it may not trace tasks outside of it nor look into their
//! `/proc/PID/{mem,environ,root,cwd,fd,ns}`, and it may not change mounts once rights on files are
//! handled. Reading is let pass all the same for CAP_PERFMON and CAP_SYS_ADMIN (`may_access_mm` in
//! `kernel/fork.c`), so a domain that keeps apart takes these from the task.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use landlock::{
    AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, PathFdError, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};
use rustix::io::Errno;
use rustix::thread::{self, CapabilitySet};

/// What a domain is to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The files, and folders with all that is in them, that may be executed; everything if there is
    /// no list. A script needs its interpreter on it, and a dynamically linked program its loader.
    /// With a list nothing below `/proc` can be written, where `/proc/self/mem` would put code into
    /// a program that runs already.
    pub execute: Option<Vec<PathBuf>>,
    /// No tracing of tasks outside, no signals to them and no connection to their abstract sockets.
    pub apart: bool,
    /// No connecting and no binding of TCP sockets by the task itself, where the kernel has rights on
    /// that (ABI 4, Linux 6.7): for a task whose supervisor does both for it.
    pub no_tcp: bool,
}

/// A domain that can be put on a child ([`crate::command::Command::landlock`]).
#[derive(Debug)]
pub struct Domain {
    fd: OwnedFd,
    apart: bool,
    scoped: bool,
}

impl Domain {
    /// Whether signals to tasks outside and their abstract sockets are out of reach, as the kernel
    /// has it since Linux 6.12 (ABI 6). Tracing is in any case.
    pub fn is_scoped(&self) -> bool {
        self.scoped
    }

    /// Puts it on the calling task, or gives the errno. Allocates nothing; `no_new_privs` must be
    /// set, or the task must have CAP_SYS_ADMIN.
    pub(crate) fn enter(&self) -> Result<(), i32> {
        if self.apart {
            drop_sight()?;
        }
        restrict_self(self.fd.as_raw_fd())
    }
}

impl AsFd for Domain {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Why there is no domain.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LandlockError {
    /// The kernel lacks what the policy cannot do without.
    #[error(
        "this kernel has Landlock ABI {has}, and {what} needs {needs} (0: not built in or not switched on)"
    )]
    Unsupported {
        /// What was wanted.
        what: &'static str,
        /// The version that it needs.
        needs: u32,
        /// The version that there is.
        has: u32,
    },
    /// A file that is to be executable cannot be opened.
    #[error("{} cannot be put on the list of what may be executed", path.display())]
    Path {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: PathFdError,
    },
    /// The kernel refused the ruleset.
    #[error("the kernel does not take the Landlock ruleset")]
    Ruleset(#[from] RulesetError),
}

/// The version of Landlock's interface that the kernel has; 0 for none.
pub fn abi() -> u32 {
    const VERSION: libc::c_ulong = 1;
    // SAFETY: with LANDLOCK_CREATE_RULESET_VERSION no memory is read or written.
    let abi = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0_usize,
            VERSION,
        )
    };
    u32::try_from(abi).unwrap_or(0)
}

/// Makes a domain; `None` if nothing is wanted of it.
///
/// # Errors
/// If the kernel lacks what is wanted, or a file is not there.
pub fn domain(wanted: &Wanted) -> Result<Option<Domain>, LandlockError> {
    let has = abi();
    let no_tcp = wanted.no_tcp && has >= 4;
    if wanted.execute.is_none() && !wanted.apart && !no_tcp {
        return Ok(None);
    }
    let scoped = wanted.apart && has >= 6;
    // Without the right to refer (ABI 2) nothing could be renamed from one folder to another.
    let (what, needs) = match wanted.execute {
        Some(_) => ("a list of what may be executed", 2),
        None => ("keeping away from other processes", 2),
    };
    if has < needs && (wanted.execute.is_some() || wanted.apart) {
        return Err(LandlockError::Unsupported { what, needs, has });
    }
    let mut ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    if scoped {
        ruleset = ruleset.scope(Scope::Signal | Scope::AbstractUnixSocket)?;
    }
    if no_tcp {
        // With no rule for any port.
        ruleset = ruleset.handle_access(AccessNet::ConnectTcp | AccessNet::BindTcp)?;
    }
    // A ruleset has to handle something.
    let bare = !scoped && !no_tcp;
    if wanted.execute.is_some() || bare {
        ruleset = ruleset.handle_access(AccessFs::Execute | AccessFs::Refer)?;
    }
    if wanted.execute.is_some() {
        ruleset = ruleset.handle_access(AccessFs::WriteFile)?;
    }
    let mut created = ruleset.create()?;
    match &wanted.execute {
        Some(paths) => {
            created = permit(created, PathBuf::from("/"), AccessFs::Refer)?;
            for path in writable() {
                created = permit(created, path, AccessFs::WriteFile)?;
            }
            for path in paths {
                created = permit(created, path.clone(), AccessFs::Execute)?;
            }
        }
        None if bare => {
            created = permit(created, PathBuf::from("/"), AccessFs::Execute)?;
            created = permit(created, PathBuf::from("/"), AccessFs::Refer)?;
        }
        None => {}
    }
    let fd: Option<OwnedFd> = created.into();
    Ok(fd.map(|fd| Domain { fd, apart: wanted.apart, scoped }))
}

fn permit(
    created: RulesetCreated,
    path: PathBuf,
    access: AccessFs,
) -> Result<RulesetCreated, LandlockError> {
    match PathFd::new(&path) {
        Ok(fd) => Ok(created.add_rule(PathBeneath::new(fd, access))?),
        Err(source) => Err(LandlockError::Path { path, source }),
    }
}

/// What stands in `/`, but for `/proc`: Landlock knows no exceptions.
fn writable() -> Vec<PathBuf> {
    let entries = fs::read_dir("/").into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        // A link leads to what is there too, or to /proc.
        .filter(|path| path != Path::new("/proc") && !path.is_symlink())
        .collect()
}

/// Takes from the calling task the capabilities that see through Landlock into other processes, for
/// good. Allocates nothing.
fn drop_sight() -> Result<(), i32> {
    let errno = Errno::raw_os_error;
    let sight = CapabilitySet::SYS_ADMIN | CapabilitySet::PERFMON;
    let mut sets = thread::capabilities(None).map_err(errno)?;
    if sets.effective.contains(CapabilitySet::SETPCAP) {
        for capability in [CapabilitySet::SYS_ADMIN, CapabilitySet::PERFMON] {
            thread::remove_capability_from_bounding_set(capability).map_err(errno)?;
        }
    }
    sets.effective -= sight;
    sets.permitted -= sight;
    sets.inheritable -= sight;
    thread::set_capabilities(None, sets).map_err(errno)
}

fn restrict_self(fd: i32) -> Result<(), i32> {
    // SAFETY: the call takes a descriptor and flags, and touches no memory.
    let done = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, fd, 0) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error().raw_os_error().unwrap_or(0)) }
}
