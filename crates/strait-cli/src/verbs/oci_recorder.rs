//! `strait oci-recorder`: the recorder of a container, which nobody waits for. The container's hook starts
//! it, or it is started ahead, to be loaded by the time that the hook asks for it.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::anyhow;
use rustix::process::Pid;
use strait_runtime::oci::hook::{self, RECORDING, RuntimeFile};
use strait_runtime::oci::makers::Makers;
use strait_runtime::oci::recordings::Destination;
use strait_runtime::oci::socket::SocketName;
use strait_runtime::oci::spec::{Spec, Stage};
use strait_runtime::oci::waiting::{self, Container, Hook, Waiting};
use strait_runtime::record::{Choice, Ready, Recorder, Request, Target};

use crate::args::OciRecorder;
use crate::failure::Failure;

/// Records the container and writes the recording when it has ended. What goes wrong before it
/// records is said to the hook: on standard output, or by the socket.
pub fn run(args: &OciRecorder) -> Result<ExitCode, Failure> {
    // No terminal and no group of the runtime's reaches it. It is no leader of a group: it was forked.
    let _ = rustix::process::setsid();
    let mut recorder = Recorder::new();
    if let (Some(socket), Some(starter)) = (&args.socket, args.starter) {
        // What fails here the hook finds out by itself, when nobody waits for it.
        let waiting = Waiting::new(socket.clone(), starter, Makers::new(&args.id));
        let waiting = waiting.map_err(Failure::refused)?;
        recorder.prepare_for_container(&Ready::default()).map_err(Failure::refused)?;
        let Some((container, hook)) = waiting.container().map_err(Failure::refused)? else {
            return Ok(ExitCode::SUCCESS);
        };
        return record(args, recorder, &container, Some(hook));
    }
    let pid = args.pid.map_or(0, |pid| pid.as_raw_nonzero().get());
    let container = Container {
        pid,
        id: args.id.clone(),
        bundle: args.bundle.clone(),
        runtime: args.runtime.clone(),
        file: args.file.clone(),
    };
    record(args, recorder, &container, None)
}

fn record(
    args: &OciRecorder,
    mut recorder: Recorder,
    container: &Container,
    mut hook: Option<Hook>,
) -> Result<ExitCode, Failure> {
    let mut tell = |said: &[u8]| match &mut hook {
        Some(hook) => hook.tell(said),
        None => io::stdout().write_all(said),
    };
    let spec = Spec::read(&container.bundle.join("config.json")).ok().flatten();
    let command = spec.iter().flat_map(Spec::command).map(str::to_owned).collect();
    let called = spec.as_ref().and_then(Spec::called);
    let open = spec.is_some_and(|spec| spec.profile() == Some(&hook::open_profile()));
    let begun = (|| {
        let destination = Destination::new(&args.recordings, &container.file)?;
        let init = (container.pid > 0).then(|| Pid::from_raw(container.pid)).flatten();
        let init = init.ok_or_else(|| anyhow!("{} is no process id", container.pid))?;
        let request = Request {
            target: Target::Container { init, command, open },
            engine: Choice::Ebpf,
            duration: None,
            ready: Ready::default(),
        };
        Ok((destination, recorder.start(&request)?))
    })();
    let (destination, mut running) = begun.map_err(|error: anyhow::Error| {
        let _ = tell(format!("{error:#}\n").as_bytes());
        Failure::refused(error)
    })?;
    // If the hook is gone, nobody waits for that word; the container is recorded all the same.
    let _ = tell(RECORDING.as_bytes());
    if let Some(hook) = hook {
        hook.release();
    }
    running.of_container(container.id.clone());
    if let Some(called) = called {
        running.called(called);
    }
    let runtime = container.runtime.as_deref().map(RuntimeFile::open);
    if let Some(Ok(runtime)) = runtime {
        running.started_by(runtime);
    }
    let done = recorder
        .wait(running)
        .map_err(anyhow::Error::new)
        .and_then(|recording| Ok(destination.add(&recording)?));
    done.map(|()| ExitCode::SUCCESS).map_err(|error| {
        // Nobody reads what a recorder says: it stands beside where the recording would be.
        let text =
            format!("strait: {} was not recorded: {error:#}\n", destination.path().display());
        let _ = destination.write_error(&text);
        Failure::refused(error)
    })
}

/// What tells the hook of the recorder that waits for it.
const RECORDER: &str = "--recorder";

/// Starts the recorder of a container that is about to be made, unless one waits already. It is for the
/// hook to say which container that is; its id, if it is known, tells whether somebody makes it. Where it
/// cannot be started the hook starts one, and says why it cannot.
pub fn start_ahead(
    spec: &mut Spec,
    recordings: &Path,
    starter: Pid,
    id: Option<&str>,
) -> Option<SocketName> {
    let waits = spec.hook_option(Stage::CreateRuntime, "oci-hook", RECORDER);
    if waits.and_then(|name| name.parse::<SocketName>().ok()).is_some_and(|name| name.exists()) {
        return None;
    }
    let program = super::oci_runtime::program().ok()?;
    let recordings = super::oci_runtime::absolute(recordings);
    let mut words: Vec<&OsStr> =
        vec!["oci-recorder".as_ref(), "--recordings".as_ref(), recordings.as_ref()];
    words.extend(id.into_iter().flat_map(|id| ["--id".as_ref(), OsStr::new(id)]));
    waiting::start(Path::new(&program), &words, starter).ok()
}

/// Tells the hook which recorder waits for it.
pub fn tell_hook(spec: &mut Spec, recorder: Option<&SocketName>) {
    if let Some(name) = recorder {
        spec.tell_hook(Stage::CreateRuntime, "oci-hook", RECORDER, &name.to_string());
    }
}
