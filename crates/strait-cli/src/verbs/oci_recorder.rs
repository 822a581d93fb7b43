//! `strait oci-recorder`: the recorder of a container, which its hook starts and nobody waits for.

use std::process::ExitCode;

use strait_runtime::oci::hook::{self, RECORDING};
use strait_runtime::oci::recordings::Destination;
use strait_runtime::oci::spec::Spec;
use strait_runtime::record::{self, Choice, Ready, Request, Target};

use crate::args::OciRecorder;
use crate::failure::Failure;
use crate::output;

/// Records the container and writes the recording when it has ended. What goes wrong before it
/// records is said on standard output, to the hook.
pub fn run(args: &OciRecorder) -> Result<ExitCode, Failure> {
    let destination = Destination::new(&args.recordings, &args.file).map_err(told)?;
    // No terminal and no group of the runtime's reaches it. It is no leader of a group: it was forked.
    let _ = rustix::process::setsid();
    let spec = Spec::read(&args.bundle.join("config.json")).ok().flatten();
    let command = spec.iter().flat_map(Spec::command).map(str::to_owned).collect();
    let called = spec.as_ref().and_then(Spec::called);
    let open = spec.is_some_and(|spec| spec.profile() == Some(&hook::open_profile()));
    let request = Request {
        target: Target::Container { init: args.pid, command, open },
        engine: Choice::Ebpf,
        duration: None,
        ready: Ready::default(),
    };
    let mut running = record::start(&request).map_err(told)?;
    // If the hook is gone, nobody waits for that word; the container is recorded all the same.
    let _ = output::print(RECORDING.as_bytes());
    running.of_container(args.id.clone());
    if let Some(called) = called {
        running.called(called);
    }
    if let Some(release) = args.runtime.as_deref().and_then(hook::release) {
        running.started_by(release);
    }
    let done = running
        .wait()
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

/// Tells the hook.
fn told(error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    let error = anyhow::Error::new(error);
    let _ = output::print(format!("{error:#}\n").as_bytes());
    Failure::refused(error)
}
