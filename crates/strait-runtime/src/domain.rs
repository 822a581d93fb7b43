//! What `exec`, `isolation` and `network` of a policy ask of Landlock, and what holds then and what does not.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use object::Endianness;
use object::elf::FileHeader64;
use object::read::elf::{FileHeader, ProgramHeader};
use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;
use strait_abi::{Arch, Syscall};
use strait_kernel::caller::Caller;
use strait_kernel::landlock::{self, Domain, LandlockError, Wanted};
use strait_kernel::seccomp::waits_patiently;
use strait_kernel::task::Task;
use strait_policy::policy::Exec;
use strait_policy::{Policy, Query};

/// A domain for a policy, and what a person should know of it.
#[derive(Debug)]
pub struct Contained {
    /// The domain; `None` where the policy asks for none.
    pub domain: Option<Domain>,
    /// What the policy asks for and this does not hold, a sentence each.
    pub gaps: Vec<String>,
}

/// Why there is no domain.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContainError {
    /// A file or folder that may be executed cannot be read.
    #[error("`exec.allow` has {}, which cannot be read", path.display())]
    Path {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A supervisor cannot make calls in the place of a task.
    #[error(
        "`network` cannot be held: the memory and the descriptors of a task are out of reach; that takes \
         Linux 5.6 with CONFIG_CROSS_MEMORY_ATTACH, and no filter on Strait itself that forbids it"
    )]
    Supervision(#[source] io::Error),
    /// The kernel gives no such domain.
    #[error(transparent)]
    Landlock(#[from] LandlockError),
}

/// Makes the domain of a policy.
///
/// # Errors
/// If a file of `exec.allow` is not there, or the kernel lacks what is asked for.
pub fn contain(policy: &Policy) -> Result<Contained, ContainError> {
    let mut gaps = Vec::new();
    let execute = match &policy.exec {
        None => None,
        // A file that is told by what is in it may be anywhere.
        Some(exec) if !exec.digests.is_empty() => {
            gaps.push(
                "`exec.allow` has digests, so execve of other files is not refused: the program is \
                 killed before its first instruction"
                    .to_owned(),
            );
            None
        }
        Some(exec) => {
            let files = executables(exec)?;
            let (paths, loaders) = with_loaders(files);
            // By itself it is killed at exec, unless it is named.
            if !loaders.is_empty() && may_execute(policy) && !exec.strict {
                gaps.push(format!(
                    "{} may be executed, as the programs need it, and it runs any file that it can \
                     read",
                    shown(&loaders)
                ));
            }
            gaps.push("code that is mapped from a file is not execution to Landlock".to_owned());
            Some(paths.into_iter().collect())
        }
    };
    let apart = policy.isolation.other_processes;
    let no_tcp = policy.network.is_some();
    if no_tcp {
        supervision(policy, &mut gaps)?;
    }
    let domain = landlock::domain(&Wanted { execute, apart, no_tcp })?;
    if apart && domain.as_ref().is_some_and(|domain| !domain.is_scoped()) {
        gaps.push(
            "signals to other processes and their abstract sockets are in reach: that takes Linux \
             6.12"
                .to_owned(),
        );
    }
    if apart && policy.network.is_none() && passes(policy, "connect") {
        let sockets = in_reach(ENGINE_SOCKETS.iter().map(PathBuf::from));
        if !sockets.is_empty() {
            gaps.push(format!(
                "whoever connects to {} can start containers as root: to keep the command from that takes \
                 `network`, whose `unix` lists the sockets that it needs",
                shown(&sockets)
            ));
        }
    }
    Ok(Contained { domain, gaps })
}

/// Where container engines listen, for whoever may write to the socket.
const ENGINE_SOCKETS: [&str; 4] = [
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/docker.sock",
    "/run/podman/podman.sock",
];

/// Those of these sockets that are there, and that this process may connect to.
fn in_reach(sockets: impl Iterator<Item = PathBuf>) -> BTreeSet<PathBuf> {
    let is_socket = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
            && accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS).is_ok()
    };
    sockets.filter(is_socket).collect()
}

/// What a supervisor needs of the kernel, and what it does not hold.
fn supervision(policy: &Policy, gaps: &mut Vec<String>) -> Result<(), ContainError> {
    let own = rustix::process::getpid();
    let probe = || {
        let caller = Caller::new(own.as_raw_nonzero().get().cast_unsigned())?;
        // Descriptor 0 need not be open.
        match caller.descriptor(0) {
            Ok(_) | Err(Errno::BADF) => {}
            Err(errno) => return Err(errno),
        }
        let mut byte = [0];
        caller.read(u64::try_from(std::ptr::from_ref(&own).addr()).unwrap_or(0), &mut byte)
    };
    probe().map_err(|errno| ContainError::Supervision(errno.into()))?;
    if !waits_patiently() {
        gaps.push(
            "a call that a signal interrupts may be made twice: that takes Linux 5.19".to_owned(),
        );
    }
    /// CAP_NET_ADMIN.
    const ADMIN: u64 = 1 << 12;
    if Task::read(own, own).is_ok_and(|task| task.capabilities.effective & ADMIN != 0) {
        gaps.push(
            "the command has CAP_NET_ADMIN, and can have the kernel send elsewhere what it sends to \
             a permitted address"
                .to_owned(),
        );
    }
    if passes(policy, "pidfd_getfd") {
        gaps.push(
            "sockets of other processes that the command may trace are in reach: that takes \
             `isolation: {other-processes: deny}`"
                .to_owned(),
        );
    }
    Ok(())
}

/// Whether the filter lets any execve of this machine's ABI pass, after the command's own.
fn may_execute(policy: &Policy) -> bool {
    passes(policy, "execve")
}

/// Whether the filter lets any such call of this machine's ABI pass.
fn passes(policy: &Policy, name: &str) -> bool {
    let query = Arch::NATIVE
        .zip(Syscall::from_name(name))
        .map(|(arch, call)| policy.explain(&Query::any(call, arch)));
    // Where that is not known it is told rather than not.
    !matches!(query, Some(Ok(explained)) if !explained.actions().iter().any(|a| a.lets_pass()))
}

/// File names of shells, and beginnings of names of interpreters: what runs whatever text it is
/// given.
const SHELLS: &[&str] = &[
    "ash", "bash", "busybox", "csh", "dash", "elvish", "fish", "ksh", "ksh93", "mksh", "nu",
    "rbash", "rksh", "sh", "tcsh", "toybox", "xonsh", "yash", "zsh",
];
const INTERPRETERS: &[&str] = &[
    "awk", "bun", "deno", "emacs", "erl", "expect", "gawk", "gdb", "guile", "irb", "java",
    "jshell", "julia", "lua", "mawk", "nawk", "node", "nodejs", "perl", "php", "pypy", "python",
    "ruby", "sed", "tclsh", "vim", "wish",
];

/// Every file that may be executed, one by one: those in folders too.
pub(crate) fn every_executable(exec: &Exec) -> Result<BTreeSet<PathBuf>, ContainError> {
    let mut files = BTreeSet::new();
    for path in executables(exec)? {
        let read = |source| ContainError::Path { path: path.clone(), source };
        let real = fs::canonicalize(&path).map_err(read)?;
        if real.is_dir() {
            list(&real, exec, &mut BTreeSet::new(), &mut files).map_err(read)?;
        } else {
            files.insert(real);
        }
    }
    Ok(files)
}

/// What may be executed: the entries themselves, or, where shells or interpreters are excepted, the
/// files of the folders without these.
fn executables(exec: &Exec) -> Result<BTreeSet<PathBuf>, ContainError> {
    let mut files = BTreeSet::new();
    for entry in &exec.allow {
        let path = PathBuf::from(entry);
        let read = |source| ContainError::Path { path: path.clone(), source };
        let metadata = fs::metadata(&path).map_err(read)?;
        if metadata.is_dir() && !(exec.shells && exec.interpreters) {
            let real = fs::canonicalize(&path).map_err(read)?;
            list(&real, exec, &mut BTreeSet::new(), &mut files).map_err(read)?;
        } else {
            files.insert(path);
        }
    }
    Ok(files)
}

/// Adds the files below a folder that are no excepted programs, by what they are called and by what
/// the file that a link leads to is called. Links lead to folders that were seen already.
fn list(
    folder: &Path,
    exec: &Exec,
    seen: &mut BTreeSet<PathBuf>,
    files: &mut BTreeSet<PathBuf>,
) -> io::Result<()> {
    if !seen.insert(folder.to_owned()) {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let Ok(real) = fs::canonicalize(&path) else { continue };
        let Ok(metadata) = fs::metadata(&real) else { continue };
        if metadata.is_dir() {
            // A link to a folder elsewhere is not below this one.
            if real.starts_with(folder) {
                list(&real, exec, seen, files)?;
            }
            continue;
        }
        if metadata.is_file() && ![&path, &real].into_iter().any(|path| is_excepted(path, exec)) {
            files.insert(real);
        }
    }
    Ok(())
}

fn is_excepted(path: &Path, exec: &Exec) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
    // python3.11, perl5.36.0 and lua5.4 are python, perl and lua.
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    (!exec.shells && SHELLS.contains(&name))
        || (!exec.interpreters && (INTERPRETERS.contains(&name) || INTERPRETERS.contains(&stem)))
}

/// The files and the loaders that they name, without which they do not start; and the loaders alone.
fn with_loaders(files: BTreeSet<PathBuf>) -> (BTreeSet<PathBuf>, BTreeSet<PathBuf>) {
    let mut loaders: BTreeSet<PathBuf> =
        files.iter().filter(|path| path.is_file()).filter_map(|path| loader(path)).collect();
    if files.iter().any(|path| path.is_dir()) {
        let usual = [
            "/lib64/ld-linux-x86-64.so.2",
            "/lib/ld-linux.so.2",
            "/lib/ld-linux-aarch64.so.1",
            "/lib/ld-musl-x86_64.so.1",
        ];
        loaders.extend(usual.into_iter().map(PathBuf::from).filter(|path| path.exists()));
    }
    let all = files.union(&loaders).cloned().collect();
    (all, loaders)
}

/// How much of a program file is read, in bytes.
const HEADERS: u64 = 16 << 10;

/// The loader that a program file names (`PT_INTERP`).
fn loader(path: &Path) -> Option<PathBuf> {
    // Linkers put the headers and the name of the loader first.
    let mut data = Vec::new();
    File::open(path).ok()?.take(HEADERS).read_to_end(&mut data).ok()?;
    let header = FileHeader64::<Endianness>::parse(&*data).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, &*data).ok()?;
    let interpreter =
        segments.iter().find_map(|segment| segment.interpreter(endian, &*data).ok()?)?;
    let interpreter = std::str::from_utf8(interpreter).ok()?;
    Some(PathBuf::from(interpreter))
}

fn shown(paths: &BTreeSet<PathBuf>) -> String {
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(", ")
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn sockets_are_in_reach_if_they_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("file"), "").unwrap();
        let _listener = UnixListener::bind(path("socket")).unwrap();
        let names = ["file", "socket", "nothing"].into_iter();
        assert_eq!(in_reach(names.map(path)), BTreeSet::from([path("socket")]));
    }

    fn exec(shells: bool, interpreters: bool) -> Exec {
        Exec {
            allow: BTreeSet::new(),
            digests: BTreeSet::new(),
            shells,
            interpreters,
            strict: false,
        }
    }

    #[test]
    fn shells_and_interpreters_are_told_by_name_with_their_versions() {
        let excepted = |path: &str, exec: &Exec| is_excepted(Path::new(path), exec);
        let (no_shells, no_interpreters) = (exec(false, true), exec(true, false));
        for path in ["/bin/sh", "/usr/bin/bash", "/x/busybox"] {
            assert!(excepted(path, &no_shells) && !excepted(path, &no_interpreters), "{path}");
        }
        for path in ["/usr/bin/python3.11", "/usr/bin/perl", "/usr/bin/lua5.4", "/usr/bin/node"] {
            assert!(!excepted(path, &no_shells) && excepted(path, &no_interpreters), "{path}");
        }
        for path in ["/usr/bin/git", "/usr/bin/ssh", "/usr/bin/ls"] {
            assert!(!excepted(path, &no_shells) && !excepted(path, &no_interpreters), "{path}");
        }
    }

    #[test]
    fn a_folder_is_listed_without_what_is_excepted_however_it_is_called() {
        let dir = tempfile::tempdir().unwrap();
        let folder = fs::canonicalize(dir.path()).unwrap();
        for name in ["tool", "bash"] {
            fs::write(folder.join(name), "").unwrap();
        }
        std::os::unix::fs::symlink("bash", folder.join("innocent")).unwrap();
        std::os::unix::fs::symlink("tool", folder.join("sh")).unwrap();
        // As in /usr/bin, where X11 leads to the folder itself.
        std::os::unix::fs::symlink(".", folder.join("X11")).unwrap();
        let mut files = BTreeSet::new();
        list(&folder, &exec(false, true), &mut BTreeSet::new(), &mut files).unwrap();
        assert_eq!(files, [folder.join("tool")].into());
    }
}
