//! What `exec.strict` of a policy demands: that the file that really runs, and not the one whose name was
//! given, is one that may be executed.
//!
//! The files are known by what the kernel says of them when the workload starts: device and inode number,
//! size, and the time of their last change, which nobody can set back. A file that was changed since is
//! another. A program is looked at when it stands at its first instruction, by `/proc/PID/exe`: what is
//! there cannot be exchanged any more, and its bytes cannot be written while it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::Pid;
use sha2::{Digest, Sha256};
use strait_policy::policy::{Exec, FileDigest};

use crate::domain::{self, ContainError};

/// The files that may be executed.
#[derive(Debug)]
pub struct ExecCheck {
    files: BTreeSet<FileKey>,
    digests: BTreeSet<FileDigest>,
    /// What was found out by digest, so that each file is read once.
    known: BTreeMap<FileKey, bool>,
}

/// A program that may not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} may not be executed: {why}", path.display())]
pub struct NotAllowed {
    /// Its file, as far as the kernel has a name for it.
    pub path: PathBuf,
    /// Why.
    pub why: &'static str,
}

/// What tells a file, as it is, from every other and from what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct FileKey {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl ExecCheck {
    /// Looks up the files that a policy names, and those in the folders that it names, without the shells
    /// and interpreters that it denies.
    ///
    /// # Errors
    /// If one of them cannot be read.
    pub fn new(exec: &Exec) -> Result<ExecCheck, ContainError> {
        let paths = domain::every_executable(exec)?;
        let key = |path: PathBuf| match fs::metadata(&path) {
            Ok(metadata) => Ok(FileKey::of(&metadata)),
            Err(source) => Err(ContainError::Path { path, source }),
        };
        Ok(ExecCheck {
            files: paths.into_iter().map(key).collect::<Result<_, _>>()?,
            digests: exec.digests.clone(),
            known: BTreeMap::new(),
        })
    }

    /// Whether a process that stands at the first instruction of its program may run it.
    ///
    /// # Errors
    /// If not, or if that cannot be told.
    pub fn check(&mut self, process: Pid) -> Result<(), NotAllowed> {
        let link = PathBuf::from(format!("/proc/{}/exe", process.as_raw_nonzero()));
        let refused = |why| NotAllowed { path: fs::read_link(&link).unwrap_or_default(), why };
        let metadata =
            fs::metadata(&link).map_err(|_| refused("which file it is cannot be found out"))?;
        let key = FileKey::of(&metadata);
        if self.files.contains(&key) {
            return Ok(());
        }
        if !self.digests.is_empty() {
            let known = match self.known.get(&key) {
                Some(known) => *known,
                None => {
                    let digest = digest(&link)
                        .map_err(|_| refused("its file cannot be read for its digest"))?;
                    *self.known.entry(key).or_insert(self.digests.contains(&digest))
                }
            };
            if known {
                return Ok(());
            }
        }
        Err(refused("`exec.allow` has no such file, as it is now"))
    }
}

impl FileKey {
    fn of(metadata: &Metadata) -> FileKey {
        FileKey {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

fn digest(path: &Path) -> io::Result<FileDigest> {
    let (mut file, mut hasher) = (File::open(path)?, Sha256::new());
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(FileDigest(hasher.finalize().into())),
            read => hasher.update(&buffer[..read]),
        }
    }
}
