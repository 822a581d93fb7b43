//! Sockets by which Strait's own processes find each other: in a folder that is root's alone, or the user's whose
//! containers these are, with random names that whoever may annotate a container neither chooses nor learns.

use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::trusted::is_in_user_namespace;

/// Where the sockets are.
const FOLDER: &str = "/run/strait";

/// Where they are here: a user without privileges has a folder for such things, which the variable names (the XDG
/// Base Directory Specification). To root that says nothing.
fn folder() -> PathBuf {
    let is_root = rustix::process::geteuid().is_root() && !is_in_user_namespace();
    let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|own| !is_root && !own.is_empty());
    own.map_or_else(|| PathBuf::from(FOLDER), |own| Path::new(&own).join("strait"))
}

/// The name of a socket: 32 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketName(String);

/// A text that names no socket.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name of a socket of Strait's: 32 hexadecimal digits")]
pub struct InvalidSocketName(String);

impl FromStr for SocketName {
    type Err = InvalidSocketName;

    fn from_str(text: &str) -> Result<SocketName, InvalidSocketName> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        match text.len() == 32 && text.bytes().all(is_digit) {
            true => Ok(SocketName(text.to_owned())),
            false => Err(InvalidSocketName(text.chars().take(80).collect())),
        }
    }
}

impl fmt::Display for SocketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl SocketName {
    /// Whether somebody listens there, as far as the folder tells.
    pub fn exists(&self) -> bool {
        self.path().exists()
    }

    /// One that nobody knows.
    fn random() -> io::Result<SocketName> {
        let mut bytes = [0; 16];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(SocketName(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// The socket's path.
    pub fn path(&self) -> PathBuf {
        folder().join(&self.0)
    }

    /// The name of the socket that has this path, if it is one of the folder.
    pub fn of(path: &Path) -> Option<SocketName> {
        let name = path.strip_prefix(folder()).ok()?;
        name.to_str()?.parse().ok()
    }

    /// Takes the socket's file away, if it is there.
    pub fn remove(&self) {
        let _ = fs::remove_file(self.path());
    }
}

/// A socket in the folder, which is made if need be.
pub(super) fn listen() -> io::Result<(SocketName, UnixListener)> {
    let path = folder();
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let folder = fs::symlink_metadata(&path)?;
    let own = rustix::process::geteuid().as_raw();
    if !folder.is_dir() || folder.uid() != own || folder.mode() & 0o077 != 0 {
        let text = format!("{} is not a folder that nobody else can look into", path.display());
        return Err(io::Error::other(text));
    }
    let name = SocketName::random()?;
    let listener = UnixListener::bind(name.path())?;
    Ok((name, listener))
}
