//! What a hook does when a container is created: it starts the container's recorder, and returns when
//! that records.
//!
//! The recorder is a process of its own that nobody waits for. It outlives the hook and the runtime,
//! writes the recording when the last process of the container has ended, and ends.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Pid;
use serde_json::{Value, json};
use strait_policy::format::Runtime;

use super::RECORD;
use super::recordings::{Destination, DestinationError, file_of};
use super::spec::{Spec, SpecError};

/// What the recorder says on its standard output when it records.
pub const RECORDING: &str = "recording\n";

/// Why a container is not recorded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HookError {
    /// What the hook was given cannot be used.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// It cannot be recorded there.
    #[error("annotation {RECORD}")]
    Destination(#[from] DestinationError),
    /// The state does not tell the container's process.
    #[error("the state that the runtime gives has no process id")]
    NoProcess,
    /// The recorder cannot be started.
    #[error("cannot start the recorder {}", path.display())]
    Start {
        /// The program.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The recorder says nothing: it hangs, or is stopped.
    #[error(
        "the container cannot be recorded: its recorder has not answered within {} s", ANSWER.as_secs()
    )]
    Silent,
    /// The recorder has ended at once.
    #[error("the container cannot be recorded: {0}")]
    Recorder(String),
}

/// A container that the runtime has created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// Its first process.
    pub pid: Pid,
    /// Its id.
    pub id: String,
    /// Its bundle.
    pub bundle: PathBuf,
}

impl Created {
    /// The container whose state a runtime has given to a hook.
    ///
    /// # Errors
    /// If there is no process in it.
    pub fn new(state: &Spec) -> Result<Created, HookError> {
        let pid = state.number("pid").and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.filter(|&pid| pid > 0).and_then(Pid::from_raw).ok_or(HookError::NoProcess)?;
        let bundle = state.text("bundle").unwrap_or_default().into();
        let id = state.text("id").unwrap_or_default().to_owned();
        Ok(Created { pid, id, bundle })
    }

    /// Starts `program`, which is this one, as the recorder of the container, with these arguments.
    /// When this returns the container is recorded.
    ///
    /// # Errors
    /// If it is not; no recorder is left.
    pub fn start_recorder<A: AsRef<OsStr>>(
        &self,
        program: &Path,
        arguments: &[A],
    ) -> Result<(), HookError> {
        let failed = |source| HookError::Start { path: program.to_owned(), source };
        let mut recorder = Command::new(program)
            .args(arguments)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let said =
            recorder.stdout.as_mut().map_or(Ok(Some(Vec::new())), |output| answer(output, ANSWER));
        let Some(said) = said.map_err(failed)? else {
            let _ = recorder.kill();
            let _ = recorder.wait();
            return Err(HookError::Silent);
        };
        if said == RECORDING.as_bytes() {
            return Ok(());
        }
        let status = recorder.wait().map_err(failed)?;
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        Err(HookError::Recorder(if said.is_empty() {
            format!("its recorder ended with {status}")
        } else {
            said
        }))
    }
}

/// How long a recorder may take to say whether it records: the engine waits meanwhile.
pub(super) const ANSWER: Duration = Duration::from_secs(60);

/// What a recorder says, up to that it records; `None` where it does not in this time.
fn answer(recorder: &mut (impl Read + AsFd), within: Duration) -> io::Result<Option<Vec<u8>>> {
    let deadline = Instant::now() + within;
    let mut said = Vec::new();
    // A byte at a time: the recorder goes on and does not close it.
    let mut byte = [0];
    while said != RECORDING.as_bytes() && said.len() < 4096 {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(recorder, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        match recorder.read(&mut byte) {
            Ok(0) => break,
            Ok(_) => said.push(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Some(said))
}

/// The file of the runtime that has run this hook, its parent; `None` where that is none that is known.
pub fn runtime() -> Option<PathBuf> {
    let process = format!("/proc/{}", rustix::process::getppid()?.as_raw_nonzero());
    let running = fs::metadata(format!("{process}/exe")).ok()?;
    let link = fs::read_link(format!("{process}/exe")).ok();
    // crun runs from a mount of its own, in which its file is the root.
    let line = fs::read(format!("{process}/cmdline")).ok()?;
    let first = line.split(|&byte| byte == 0).next().map(OsStr::from_bytes).map(PathBuf::from);
    link.into_iter().chain(first).find(|file| {
        let name = file.file_name().and_then(OsStr::to_str);
        let is_it = |file: fs::Metadata| (file.dev(), file.ino()) == (running.dev(), running.ino());
        Runtime::ALL.iter().any(|known| Some(known.name()) == name)
            && file.is_absolute()
            && fs::metadata(file).is_ok_and(is_it)
    })
}

/// The file of a runtime, held open: an update may put another one in its place.
#[derive(Debug)]
pub struct RuntimeFile(File);

impl RuntimeFile {
    /// The file that has this path now.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(path: &Path) -> io::Result<RuntimeFile> {
        File::open(path).map(RuntimeFile)
    }

    /// What it says it is: `runc 1.1.5` of `runc version 1.1.5+ds1`.
    pub fn release(&self) -> Option<String> {
        release(Path::new(&format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())))
    }
}

fn release(runtime: &Path) -> Option<String> {
    let output = Command::new(runtime).arg("--version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (name, version) = text.lines().next()?.split_once(" version ")?;
    let version = version.split(|c: char| !c.is_ascii_alphanumeric() && c != '.').next()?;
    let known = Runtime::ALL.iter().any(|known| known.name() == name);
    (known && !version.is_empty()).then(|| format!("{name} {version}"))
}

/// Where a container is to be recorded, if it is: looked at before anything is started. In a pod the file is
/// the container's own ([`file_of`]).
///
/// # Errors
/// If the annotation names no file in the folder.
pub fn destination(spec: &Spec, folder: &Path) -> Result<Option<Destination>, HookError> {
    let Some(file) = spec.annotation(RECORD)? else { return Ok(None) };
    let file = file_of(file, spec.called().as_ref());
    Ok(Some(Destination::new(folder, &file)?))
}

/// A profile that lets everything pass. A container without any is recorded under this one, as it
/// is the loading of a filter that tells what a runtime calls for itself from what it has to be let do.
pub fn open_profile() -> Value {
    json!({"defaultAction": "SCMP_ACT_ALLOW"})
}

/// The hook configuration that has Podman and CRI-O run this program, with these arguments, for each
/// container that asks for something of Strait's, or for every one (containers/common, oci-hooks(5)).
pub fn podman_hook(program: &Path, arguments: &[String], always: bool) -> Value {
    let when = match always {
        true => json!({"always": true}),
        false => json!({"annotations": {"^io\\.strait\\.(record|policy|mode)$": ".*"}}),
    };
    let args: Vec<String> =
        std::iter::once("strait".to_owned()).chain(arguments.iter().cloned()).collect();
    json!({
        "version": "1.0.0",
        "hook": {"path": program, "args": args},
        "when": when,
        "stages": ["precreate", "createRuntime"],
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_recorder_that_says_nothing_is_not_waited_for_for_ever() {
        let (mut reader, mut writer) = io::pipe().unwrap();
        assert_eq!(answer(&mut reader, Duration::from_millis(1)).unwrap(), None);
        writer.write_all(&RECORDING.as_bytes()[..1]).unwrap();
        assert_eq!(answer(&mut reader, Duration::from_millis(1)).unwrap(), None);
        writer.write_all(RECORDING.as_bytes()).unwrap();
        assert_eq!(answer(&mut reader, ANSWER).unwrap(), Some(RECORDING.into()));
        writer.write_all(b"no").unwrap();
        drop(writer);
        assert_eq!(answer(&mut reader, ANSWER).unwrap(), Some(b"no".to_vec()));
    }

    #[test]
    fn a_state_names_the_process_and_the_bundle() {
        let state = |text: &str| Created::new(&Spec::parse(text.as_bytes()).unwrap());
        let created = state(
            r#"{"ociVersion":"1.0.2","id":"x","status":"created","pid":17,"bundle":"/b",
                "annotations":{"x":"y"}}"#,
        );
        let created = created.unwrap();
        assert_eq!(created.pid.as_raw_nonzero().get(), 17);
        assert_eq!((created.id.as_str(), created.bundle.to_str()), ("x", Some("/b")));
        for text in ["{}", r#"{"pid":0}"#, r#"{"pid":-1}"#, r#"{"pid":"1"}"#] {
            assert!(matches!(state(text), Err(HookError::NoProcess)), "{text}");
        }
    }

    #[test]
    fn a_runtime_says_what_it_is() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("runc");
        for (said, is) in [
            ("runc version 1.1.5+ds1\ncommit: 1", Some("runc 1.1.5")),
            ("crun version 1.8.1\n", Some("crun 1.8.1")),
            ("other version 1", None),
            ("", None),
        ] {
            fs::write(&file, format!("#!/bin/sh\necho '{said}'\n")).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
            let opened = RuntimeFile::open(&file).unwrap();
            // What is there by then is another's.
            fs::remove_file(&file).unwrap();
            assert_eq!(opened.release().as_deref(), is);
        }
        assert_eq!(runtime(), None, "no runtime runs this test");
    }

    #[test]
    fn a_recorder_that_fails_is_told_by_its_words() {
        let created = Created { pid: Pid::INIT, id: "x".to_owned(), bundle: PathBuf::new() };
        let shell = |script: &str| created.start_recorder(Path::new("/bin/sh"), &["-c", script]);
        shell("echo recording").unwrap();
        let error = shell("echo no privilege; exit 3").unwrap_err().to_string();
        assert_eq!(error, "the container cannot be recorded: no privilege");
        assert!(shell("exit 3").unwrap_err().to_string().contains("exit status: 3"));
        assert!(created.start_recorder(Path::new("/no/such"), &[""]).is_err());
    }
}
