//! Where containers may be recorded into: files in one folder of the administrator's, and nowhere else,
//! whatever a container's annotation says. Recorders run as root.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, flock, fsync, openat, renameat, statat,
    unlinkat,
};
use rustix::io::Errno;
use strait_policy::Recording;
use strait_policy::recording::Container;

use super::trusted::{Folder, TrustError};

/// Where recordings are written, unless told otherwise.
pub const RECORDINGS: &str = "/var/lib/strait/recordings";

/// No recording is larger, in bytes.
const LIMIT: u64 = 256 << 20;
/// No name of a file is longer, in bytes. What is written beside it has a longer one, and 255 is what
/// file systems take.
const NAME: usize = 230;

/// A file in the folder for recordings, which need not be there yet.
#[derive(Debug)]
pub struct Destination {
    folder: OwnedFd,
    path: PathBuf,
    name: String,
}

/// Why nothing may be recorded there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DestinationError {
    /// The folder cannot be opened.
    #[error(
        "the folder for recordings cannot be used: {}: make it, owned by root and writable by nobody \
         else", path.display()
    )]
    Folder {
        /// It.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Others can put links into the folder.
    #[error(
        "the folder for recordings is not root's alone: {}: make root its owner, and nobody else able \
         to write there", path.display()
    )]
    Shared {
        /// It.
        path: PathBuf,
    },
    /// Others can put another folder in its place.
    #[error("the folder for recordings cannot be used")]
    Way(#[source] TrustError),
    /// The file is not in the folder.
    #[error("{file:?} is no file in {}: recordings are written there and nowhere else", folder.display())]
    Outside {
        /// What was asked for.
        file: String,
        /// The folder.
        folder: PathBuf,
    },
    /// There is something else that has this name.
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

/// The file of a container that is to be recorded into this one. In a pod its name begins with those of
/// the pod's namespace, the pod and the container (`shop_web_app.FILE`): what is asked for a pod is asked for
/// each container of each of its replicas, and nobody names the files of another namespace. No name of
/// Kubernetes has `_` in it.
pub fn file_of(file: &str, container: Option<&Container>) -> String {
    let Some(Container { pod: Some(pod), name, .. }) = container else { return file.to_owned() };
    let (folder, file) = file.rsplit_once('/').map_or(("", file), |(folder, file)| (folder, file));
    let slash = if folder.is_empty() { "" } else { "/" };
    let (namespace, pod) = pod.split_once('/').unwrap_or(("", pod));
    let name = name.as_deref().map(|name| format!("_{name}")).unwrap_or_default();
    let begin = format!("{namespace}_{pod}{name}.");
    // It may be that this was done already.
    let begin = if file.starts_with(&begin) { "" } else { &begin };
    format!("{folder}{slash}{begin}{file}")
}

impl Destination {
    /// The file of this name in the folder, or with this path if that is in the folder.
    ///
    /// # Errors
    /// If that is not a file, or not surely one in the folder.
    pub fn new(folder: &Path, file: &str) -> Result<Destination, DestinationError> {
        let outside = || DestinationError::Outside {
            file: file.chars().take(200).collect(),
            folder: folder.to_owned(),
        };
        let inside = match file.strip_prefix('/') {
            None => file,
            Some(_) => {
                let folder = folder.to_str().ok_or_else(outside)?.trim_end_matches('/');
                let below = file.strip_prefix(folder).and_then(|file| file.strip_prefix('/'));
                below.ok_or_else(outside)?
            }
        };
        // One name: then there is no folder on the way that could be a link.
        let is_name = (1..=NAME).contains(&inside.len())
            && !inside.starts_with('.')
            && !inside.contains(|c: char| c == '/' || c.is_control());
        if !is_name {
            return Err(outside());
        }
        let path = folder.to_owned();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = match rustix::fs::open(folder, flags, Mode::empty()) {
            Ok(opened) => opened,
            Err(errno) => return Err(DestinationError::Folder { path, source: errno.into() }),
        };
        let stat = rustix::fs::fstat(&opened).map_err(|errno| DestinationError::Folder {
            path: path.clone(),
            source: errno.into(),
        })?;
        let own = rustix::process::geteuid().as_raw();
        if (stat.st_uid != 0 && stat.st_uid != own) || stat.st_mode & 0o022 != 0 {
            return Err(DestinationError::Shared { path });
        }
        // Who may write to a folder on the way could have had it lead to another one of root's.
        Folder::open(folder).map_err(DestinationError::Way)?;
        let path = folder.join(inside);
        match statat(&opened, inside, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_file() => {}
            Err(Errno::NOENT) => {}
            Ok(_) => return Err(DestinationError::NoFile { path }),
            Err(errno) => return Err(DestinationError::Look { path, source: errno.into() }),
        }
        Ok(Destination { folder: opened, path, name: inside.to_owned() })
    }

    /// The file's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the recording of a container. If one of the same container is there, what was recorded
    /// when it ran before, the file is of all its runs then; anything else is replaced. What a kubelet
    /// starts again is another container, by the same name in the same pod and of the same image.
    ///
    /// # Errors
    /// If it cannot be written, or what is there cannot be read; that stays then.
    pub fn add(&self, recording: &Recording) -> io::Result<()> {
        // Its next run may end while this one is written. Who holds the folder gives it back.
        flock(&self.folder, FlockOperation::LockExclusive)?;
        let before = self.read()?.and_then(|text| Recording::from_json(&text).ok());
        let is_same = |before: &Recording| {
            let in_pod = before.container().is_some_and(|of| of.pod.is_some() && of.name.is_some());
            before.name().is_some() && before.name() == recording.name()
                || in_pod && before.container() == recording.container()
        };
        let same = before.filter(is_same);
        let written = match same {
            Some(before) => self.write(before.merge(recording).to_json().as_bytes()),
            None => self.write(recording.to_json().as_bytes()),
        };
        // The descriptor's end gives it back as well.
        let _ = flock(&self.folder, FlockOperation::Unlock);
        written
    }

    /// What is in the file, if that is text.
    fn read(&self) -> io::Result<Option<String>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(&self.folder, &self.name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let size = file.metadata()?.len();
        if size > LIMIT {
            let text = format!("{} is larger than {} MiB", self.path.display(), LIMIT >> 20);
            return Err(io::Error::other(text));
        }
        let mut bytes = Vec::new();
        file.take(LIMIT).read_to_end(&mut bytes)?;
        Ok(String::from_utf8(bytes).ok())
    }

    /// Replaces the file as a whole: written beside it, synced, then renamed.
    ///
    /// # Errors
    /// If it cannot be written; what was there stays then.
    pub fn write(&self, bytes: &[u8]) -> io::Result<()> {
        self.write_as(&self.name, bytes)
    }

    /// The file, to write behind what is there.
    ///
    /// # Errors
    /// If it cannot be made or opened.
    pub fn append(&self) -> io::Result<File> {
        let flags = OFlags::WRONLY
            | OFlags::APPEND
            | OFlags::CREATE
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::CLOEXEC;
        Ok(File::from(openat(&self.folder, &self.name, flags, Mode::from(0o600))?))
    }

    /// Says beside the file, in `FILE.error`, why it is not written.
    ///
    /// # Errors
    /// As for [`Destination::write`].
    pub fn write_error(&self, text: &str) -> io::Result<()> {
        self.write_as(&format!("{}.error", self.name), text.as_bytes())
    }

    fn write_as(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (partial, mut file) = self.partial(name)?;
        let written = (|| {
            file.write_all(bytes)?;
            file.sync_all()?;
            renameat(&self.folder, &partial, &self.folder, name)?;
            Ok(())
        })();
        if written.is_err() {
            // The first error is the one to report.
            let _ = unlinkat(&self.folder, &partial, AtFlags::empty());
            return written;
        }
        // Not every file system can sync a folder.
        let _ = fsync(&self.folder);
        Ok(())
    }

    /// A new file for what is to have this name. One that was killed and had the same process id may have left
    /// one.
    fn partial(&self, name: &str) -> io::Result<(String, File)> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for left in 0..100 {
            let partial = format!(".{name}.{}-{left}", std::process::id());
            match openat(&self.folder, &partial, flags, Mode::from(0o600)) {
                Ok(file) => return Ok((partial, File::from(file))),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(Errno::EXIST.into())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use strait_abi::Arch;
    use strait_policy::recording::{Engine, Outcomes};

    use super::*;

    #[test]
    fn a_file_in_the_folder_is_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.json");
        for (file, text) in [("web.json", "one"), (path.to_str().unwrap(), "two")] {
            let destination = Destination::new(folder.path(), file).unwrap();
            assert_eq!(destination.path(), path);
            destination.write(text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        // What one has left that had this process id and was killed keeps nobody from writing.
        fs::write(folder.path().join(format!(".web.json.{}-0", std::process::id())), "half")
            .unwrap();
        Destination::new(folder.path(), "web.json").unwrap().write(b"three").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "three");
    }

    #[test]
    fn a_container_that_runs_again_adds_to_its_recording() {
        let folder = tempfile::tempdir().unwrap();
        let run = |id: &str, nr: u32| {
            let engine = Engine { name: "ebpf".to_owned(), reason: "test".to_owned() };
            let mut recording = Recording::builder(engine, "6.18.0");
            recording.name(id).call("/bin/x", Arch::X86_64, nr, &Outcomes::default());
            recording.build()
        };
        let destination = Destination::new(folder.path(), "web.json").unwrap();
        let numbers = || {
            let text = fs::read_to_string(destination.path()).unwrap();
            let recording = Recording::from_json(&text).unwrap();
            recording.calls().iter().map(|call| call.nr).collect::<Vec<_>>()
        };
        destination.write(b"no recording").unwrap();
        for (id, nr, there) in
            [("one", 1, &[1][..]), ("one", 2, &[1, 2]), ("one", 3, &[1, 2, 3]), ("other", 4, &[4])]
        {
            destination.add(&run(id, nr)).unwrap();
            assert_eq!(numbers(), there, "{id}");
        }
        // Runs that end together are all there.
        std::thread::scope(|scope| {
            for nr in 5..9 {
                let (folder, run) = (folder.path(), &run);
                scope.spawn(move || {
                    Destination::new(folder, "web.json").unwrap().add(&run("other", nr)).unwrap();
                });
            }
        });
        assert_eq!(numbers(), [4, 5, 6, 7, 8]);
        fs::File::create(destination.path()).unwrap().set_len(LIMIT + 1).unwrap();
        assert!(destination.add(&run("other", 9)).is_err(), "what cannot be read stays");
        assert_eq!(fs::metadata(destination.path()).unwrap().len(), LIMIT + 1);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_container_of_a_pod_has_a_file_of_its_own() {
        let of = |pod: &str, name: Option<&str>| Container {
            pod: Some(pod.to_owned()),
            name: name.map(str::to_owned),
            image: None,
        };
        let (app, pause) = (of("shop/web-0", Some("app")), of("shop/web-0", None));
        let path = "/var/lib/strait/recordings/web.json";
        let its = "/var/lib/strait/recordings/shop_web-0_app.web.json";
        for (file, container, is) in [
            ("web.json", None, "web.json"),
            ("web.json", Some(&Container::default()), "web.json"),
            ("web.json", Some(&app), "shop_web-0_app.web.json"),
            ("web.json", Some(&pause), "shop_web-0.web.json"),
            // The plugin has done it, and the hook does it again.
            ("shop_web-0_app.web.json", Some(&app), "shop_web-0_app.web.json"),
            (path, Some(&app), its),
            (its, Some(&app), its),
            // Those of another namespace, pod or container are not to be had.
            ("prod_web-0_app.web.json", Some(&app), "shop_web-0_app.prod_web-0_app.web.json"),
            ("shop_web-0_ap.x", Some(&app), "shop_web-0_app.shop_web-0_ap.x"),
            ("../x", Some(&app), "../shop_web-0_app.x"),
        ] {
            assert_eq!(file_of(file, container), is, "{file} {container:?}");
        }
        let folder = tempfile::tempdir().unwrap();
        let run = |id: &str, nr: u32, image: &str| {
            let engine = Engine { name: "ebpf".to_owned(), reason: "test".to_owned() };
            let mut recording = Recording::builder(engine, "6.18.0");
            let container = Container { image: Some(image.to_owned()), ..app.clone() };
            recording.name(id).container(container);
            recording.call("/bin/x", Arch::X86_64, nr, &Outcomes::default());
            recording.build()
        };
        // A kubelet has another container made where one has ended.
        let destination = Destination::new(folder.path(), "shop_web-0_app.web.json").unwrap();
        for (id, nr, image, there) in [
            ("one", 1, "web:1", &[1][..]),
            ("two", 2, "web:1", &[1, 2]),
            ("three", 3, "web:1", &[1, 2, 3]),
            ("four", 4, "web:2", &[4]),
        ] {
            destination.add(&run(id, nr, image)).unwrap();
            let text = fs::read_to_string(destination.path()).unwrap();
            let recording = Recording::from_json(&text).unwrap();
            let numbers: Vec<u32> = recording.calls().iter().map(|call| call.nr).collect();
            assert_eq!(numbers, there, "{id}");
        }
    }

    #[test]
    fn the_longest_name_leaves_room_for_what_is_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let name = "x".repeat(NAME);
        let destination = Destination::new(folder.path(), &name).unwrap();
        destination.write(b"recording").unwrap();
        destination.write_error("error").unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        assert!(Destination::new(folder.path(), &format!("{name}x")).is_err());
    }

    #[test]
    fn everything_else_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("recordings");
        fs::create_dir(&folder).unwrap();
        symlink("/etc/passwd", folder.join("link")).unwrap();
        fs::create_dir(folder.join("below")).unwrap();
        let beside = format!("{}x/y", folder.display());
        let above = format!("{}/../y", folder.display());
        let long = "x".repeat(5000);
        let files = [
            "",
            ".",
            "..",
            "../x",
            "/etc/passwd",
            "a/b",
            "below/x",
            ".hidden",
            "a\0b",
            "a\nb",
            &long,
            &beside,
            &above,
            "./x",
        ];
        for file in files {
            let refused = Destination::new(&folder, file);
            assert!(
                matches!(refused, Err(DestinationError::Outside { .. })),
                "{file:?}: {refused:?}"
            );
        }
        for file in ["link", "below"] {
            let refused = Destination::new(&folder, file);
            assert!(matches!(refused, Err(DestinationError::NoFile { .. })), "{file}: {refused:?}");
        }
        let link = parent.path().join("link");
        symlink(&folder, &link).unwrap();
        assert!(matches!(Destination::new(&link, "x"), Err(DestinationError::Folder { .. })));
        let mode = |path: &Path, mode: u32| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(parent.path(), 0o777);
        assert!(matches!(Destination::new(&folder, "x"), Err(DestinationError::Way(_))));
        mode(parent.path(), 0o1777);
        assert!(Destination::new(&folder, "x").is_ok());
        mode(&folder, 0o777);
        assert!(matches!(Destination::new(&folder, "x"), Err(DestinationError::Shared { .. })));
    }
}
