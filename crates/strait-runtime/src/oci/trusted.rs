//! Files that nobody but root can have written, or the user that this process is of: what they say is
//! the administrator's word.
//!
//! As sshd and sudo do it, the whole way is looked at, links with it, and not only its end: whoever may
//! write into a folder may put another file in a file's place. It is walked descriptor by descriptor, and
//! what was looked at is what is read, so nobody can exchange anything in between.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, open, openat, readlinkat};
use rustix::io::Errno;

/// No way has more symbolic links: path_resolution(7).
const LINKS: usize = 40;

/// Why what is there is not the administrator's word.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// Somebody else could change it.
    #[error(
        "what {} says is not followed: {} belongs to user {owner}: make root its owner (chown root)",
        wanted.display(), path.display()
    )]
    Owner {
        /// What was to be read.
        wanted: PathBuf,
        /// What is somebody else's: that, or something on the way there.
        path: PathBuf,
        /// Whose, by user id.
        owner: u32,
    },
    /// Others could change it.
    #[error(
        "what {} says is not followed: {} may be written by {} (mode {mode:04o}): take that away \
         (chmod go-w)", wanted.display(), path.display(), writers(*mode)
    )]
    Writable {
        /// What was to be read.
        wanted: PathBuf,
        /// What they may write: that, or something on the way there.
        path: PathBuf,
        /// The permissions of that.
        mode: u32,
    },
    /// The links on the way there come to no end.
    #[error("the way to {} has more than {LINKS} symbolic links", wanted.display())]
    Links {
        /// What was to be read.
        wanted: PathBuf,
    },
    /// There is something else that has the name.
    #[error("{} is no regular file", path.display())]
    NoFile {
        /// It.
        path: PathBuf,
    },
    /// It cannot be looked at.
    #[error("cannot look at {}", path.display())]
    Look {
        /// It.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

fn writers(mode: u32) -> &'static str {
    if mode & 0o002 != 0 { "everybody" } else { "its group" }
}

/// A folder in which nobody else can put or change anything.
#[derive(Debug)]
pub struct Folder(Place);

/// A file in such a folder, or that a link there names, which nobody else can have written.
#[derive(Debug)]
pub struct TrustedFile(Place);

/// Something that was looked at, and the whole way to it.
#[derive(Debug)]
struct Place {
    /// Opened with `O_PATH`.
    descriptor: OwnedFd,
    path: PathBuf,
    is_file: bool,
}

impl Folder {
    /// The folder with this path; `None` where there is none.
    ///
    /// # Errors
    /// If somebody else may write there, or exchange it or anything on the way to it.
    pub fn open(path: &Path) -> Result<Option<Folder>, TrustError> {
        let look = |source: io::Error| TrustError::Look { path: path.to_owned(), source };
        let whole = std::path::absolute(path).map_err(look)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = open("/", flags, Mode::empty()).map_err(|errno| look(errno.into()))?;
        let root = Place { descriptor: root, path: PathBuf::from("/"), is_file: false };
        match walk(root, &whole, path)? {
            Some(place) if place.is_file => Err(look(Errno::NOTDIR.into())),
            place => Ok(place.map(Folder)),
        }
    }

    /// The regular file of this name; `None` where nothing has the name.
    ///
    /// # Errors
    /// If somebody else may have written it, or it is something else. So of everything on the way to it,
    /// where it is a link.
    pub fn file(&self, name: &str) -> Result<Option<TrustedFile>, TrustError> {
        let path = self.0.path.join(name);
        let again = self.0.descriptor.try_clone();
        let again = again.map_err(|source| TrustError::Look { path: path.clone(), source })?;
        let from = Place { descriptor: again, path: self.0.path.clone(), is_file: false };
        let place = walk(from, Path::new(name), &path)?;
        match place {
            Some(place) if !place.is_file => Err(TrustError::NoFile { path }),
            place => Ok(place.map(TrustedFile)),
        }
    }
}

impl TrustedFile {
    /// What is in it.
    ///
    /// # Errors
    /// If it cannot be read, or has more than this many bytes: a part of it may well say something else.
    pub fn read(&self, limit: u64) -> io::Result<Vec<u8>> {
        // The very file that was looked at, whatever has its name by now.
        let file = File::open(format!("/proc/self/fd/{}", self.0.descriptor.as_raw_fd()))?;
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes)?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
            return Err(io::Error::other(format!("it is larger than {} MiB", limit >> 20)));
        }
        Ok(bytes)
    }
}

/// What has this path, seen from there, where nobody else could put another thing in the place of anything
/// on the way; `None` where there is nothing.
fn walk(from: Place, path: &Path, wanted: &Path) -> Result<Option<Place>, TrustError> {
    let mut at = from;
    let mut rest: Vec<OsString> = Vec::new();
    go_on(&mut rest, path);
    let mut links = 0;
    // A folder that others may write to with the sticky bit, as /tmp, is one in which nobody can move or
    // remove what is not his own: so what is there and root's stays what it is, if root's it is.
    let look_at = |at: &Place, is_last: bool| -> Result<FileType, TrustError> {
        let look = |errno: Errno| TrustError::Look { path: at.path.clone(), source: errno.into() };
        let stat = fstat(&at.descriptor).map_err(look)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let (wanted, path) = (wanted.to_owned(), at.path.clone());
        if !is_ours(&stat) {
            return Err(TrustError::Owner { wanted, path, owner: stat.st_uid });
        }
        let mode = stat.st_mode & 0o7777;
        let holds = mode & 0o022 == 0 || mode & 0o1000 != 0 && !is_last && kind.is_dir();
        match holds || kind.is_symlink() {
            true => Ok(kind),
            false => Err(TrustError::Writable { wanted, path, mode }),
        }
    };
    look_at(&at, rest.is_empty())?;
    while let Some(name) = rest.pop() {
        let mut path = at.path.clone();
        match name == ".." {
            true => _ = path.pop(),
            false => path.push(&name),
        }
        let look = |errno: Errno| TrustError::Look { path: path.clone(), source: errno.into() };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let next = match openat(&at.descriptor, &name, flags, Mode::empty()) {
            Ok(descriptor) => Place { descriptor, path: path.clone(), is_file: false },
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(look(errno)),
        };
        let kind = look_at(&next, rest.is_empty())?;
        if !kind.is_symlink() {
            at = Place { is_file: kind.is_file(), ..next };
            continue;
        }
        links += 1;
        if links > LINKS {
            return Err(TrustError::Links { wanted: wanted.to_owned() });
        }
        let target = readlinkat(&next.descriptor, "", Vec::new()).map_err(look)?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        if target.is_absolute() {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let descriptor = open("/", flags, Mode::empty()).map_err(look)?;
            at = Place { descriptor, path: PathBuf::from("/"), is_file: false };
        }
        go_on(&mut rest, &target);
        look_at(&at, rest.is_empty())?;
    }
    Ok(Some(at))
}

/// What is to be walked next, the first name last.
fn go_on(rest: &mut Vec<OsString>, path: &Path) {
    let names = path.components().rev().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    rest.extend(names);
}

/// Whether it is root's or this user's.
fn is_ours(stat: &Stat) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stat.st_uid == 0 || stat.st_uid == own || is_outside(stat.st_uid)
}

/// Whether this is how the kernel calls users of outside, to a process in a user namespace that they are
/// not in: root is one of them, and which one it is cannot be told (user_namespaces(7)).
fn is_outside(uid: u32) -> bool {
    let overflow = std::fs::read_to_string("/proc/sys/kernel/overflowuid").ok();
    let overflow = overflow.and_then(|text| text.trim().parse().ok());
    Some(uid) == overflow && is_in_user_namespace()
}

/// Whether this process is in a user namespace that not all users are in, so that its root is not the machine's.
pub(super) fn is_in_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let words: Vec<&str> = map.split_whitespace().collect();
    // Who reads nothing there has no user namespaces.
    !words.is_empty() && words != ["0", "0", "4294967295"]
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};

    use super::*;

    /// A folder of this user's with a file in it, below /tmp, which everybody may write to.
    fn folder() -> (tempfile::TempDir, PathBuf) {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("policies");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("web.yaml"), "text").unwrap();
        chmod(&folder, 0o755);
        chmod(&folder.join("web.yaml"), 0o644);
        (outer, folder)
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// What the file says, as far as it is followed.
    fn read(folder: &Path) -> Result<Option<Vec<u8>>, TrustError> {
        let Some(folder) = Folder::open(folder)? else { return Ok(None) };
        Ok(folder.file("web.yaml")?.map(|file| file.read(4).unwrap()))
    }

    #[track_caller]
    fn is_refused(folder: &Path, at: &Path, said: &str) {
        let error = read(folder).unwrap_err().to_string();
        let at = fs::canonicalize(at).unwrap();
        assert!(error.contains(&format!("{} {said}", at.display())), "{error}");
    }

    #[test]
    fn what_is_this_users_alone_is_read() {
        let (outer, folder) = folder();
        assert_eq!(read(&folder).unwrap(), Some(b"text".into()));
        assert_eq!(read(&outer.path().join("none")).unwrap(), None);
        assert_eq!(
            read(&outer.path().join("policies/../policies/.")).unwrap(),
            Some("text".into())
        );
        fs::write(folder.join("web.yaml"), "texts").unwrap();
        let file = Folder::open(&folder).unwrap().unwrap().file("web.yaml").unwrap().unwrap();
        assert!(file.read(4).is_err(), "a part is not what it says");
        fs::remove_file(folder.join("web.yaml")).unwrap();
        fs::create_dir(folder.join("web.yaml")).unwrap();
        assert!(matches!(read(&folder), Err(TrustError::NoFile { .. })));
        assert!(matches!(read(Path::new("/dev/null")), Err(TrustError::Writable { .. })));
        assert!(matches!(read(Path::new("/proc/version")), Err(TrustError::Look { .. })));
    }

    #[test]
    fn what_others_may_write_is_not_followed() {
        let (outer, folder) = folder();
        let file = folder.join("web.yaml");
        for (path, mode, whole) in [
            (&file, 0o664, 0o644),
            (&file, 0o646, 0o644),
            (&folder, 0o775, 0o755),
            (&folder, 0o757, 0o755),
            // They could put a file there that there is none of.
            (&folder, 0o1777, 0o755),
            (&outer.path().to_owned(), 0o770, 0o700),
        ] {
            chmod(path, mode);
            let who = if mode & 0o002 != 0 { "everybody" } else { "its group" };
            is_refused(&folder, path, &format!("may be written by {who} (mode {mode:04o})"));
            chmod(path, whole);
            assert!(read(&folder).unwrap().is_some());
        }
        // In it, what is this user's stays what it is.
        chmod(outer.path(), 0o1777);
        assert!(read(&folder).unwrap().is_some());
    }

    #[test]
    fn what_is_somebody_elses_is_not_followed() {
        if !rustix::process::geteuid().is_root() {
            return strait_testkit::skip(
                "somebody else's policies",
                "giving files away needs root",
            );
        }
        let (outer, folder) = folder();
        let file = folder.join("web.yaml");
        for path in [&file, &folder, &outer.path().to_owned()] {
            chown(path, Some(12345), None).unwrap();
            is_refused(&folder, path, "belongs to user 12345");
            chown(path, Some(0), None).unwrap();
            assert!(read(&folder).unwrap().is_some());
        }
    }

    #[test]
    fn links_are_followed_where_the_whole_way_is_safe() {
        let (outer, folder) = folder();
        let link = outer.path().join("link");
        for target in ["policies", "./policies/../policies", folder.to_str().unwrap()] {
            symlink(target, &link).unwrap();
            assert_eq!(read(&link).unwrap(), Some(b"text".into()), "{target}");
            fs::remove_file(&link).unwrap();
        }
        // As a config map's files are.
        let file = folder.join("web.yaml");
        fs::create_dir(folder.join("data")).unwrap();
        fs::rename(&file, folder.join("data/web.yaml")).unwrap();
        symlink("data/web.yaml", &file).unwrap();
        assert_eq!(read(&folder).unwrap(), Some(b"text".into()));
        chmod(&folder.join("data"), 0o777);
        is_refused(&folder, &folder.join("data"), "may be written by everybody");
        chmod(&folder.join("data"), 0o755);
        if rustix::process::geteuid().is_root() {
            lchown(&file, Some(12345), None).unwrap();
            let error = read(&folder).unwrap_err().to_string();
            assert!(error.contains("web.yaml belongs to user 12345"), "{error}");
        }
        symlink("loop", outer.path().join("loop")).unwrap();
        let end = read(&outer.path().join("loop"));
        assert!(matches!(end, Err(TrustError::Links { .. })), "{end:?}");
    }

    /// What was looked at is what is read.
    #[test]
    fn what_takes_its_place_is_not_read() {
        let (outer, folder) = folder();
        let opened = Folder::open(&folder).unwrap().unwrap();
        let file = opened.file("web.yaml").unwrap().unwrap();
        fs::rename(&folder, outer.path().join("moved")).unwrap();
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("web.yaml"), "evil").unwrap();
        assert_eq!(file.read(4).unwrap(), b"text");
        assert_eq!(opened.file("web.yaml").unwrap().unwrap().read(4).unwrap(), b"text");
    }
}
