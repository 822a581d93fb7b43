//! `strait oci-supervisor`: the supervisor of a container that is bound in the mode `notify`. The wrapper or the
//! hook starts it, before the runtime makes the container.
//!
//! It is two processes. The one that answers is confined, and may not take files away: the other does nothing
//! but wait for its end, and takes the socket away then.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use rustix::process::{
    DumpableBehavior, Pid, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};
use strait_policy::Policy;
use strait_runtime::oci::makers::Makers;
use strait_runtime::oci::recordings::Destination;
use strait_runtime::oci::socket::SocketName;
use strait_runtime::oci::supervising::{self, Supervising};
use strait_runtime::supervise::Answering;

use super::oci_runtime::{absolute, program};
use crate::args::{Denials, OciSupervisor};
use crate::denials::Teller;
use crate::failure::Failure;
use crate::supervisor;

/// Answers until the container has ended. Denials are told in `ID.denials.json` in the folder for recordings.
pub fn run(args: &OciSupervisor) -> Result<ExitCode, Failure> {
    // No terminal and no group of the runtime's reaches it. It is no leader of a group: it was forked.
    let _ = rustix::process::setsid();
    if args.answer {
        return answer(args);
    }
    let answering = Command::new(program()?)
        .args(["oci-supervisor", "--answer", "--socket", &args.socket.to_string()])
        .args(["--starter", &args.starter.as_raw_pid().to_string(), "--recordings"])
        .arg(&args.recordings)
        .args(["--id", &args.id])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    args.socket.remove();
    answering.map_err(Failure::refused)?;
    Ok(ExitCode::SUCCESS)
}

fn answer(args: &OciSupervisor) -> Result<ExitCode, Failure> {
    let told = Supervising::new(args.starter, Makers::new(&args.id)).map_err(Failure::refused)?;
    let told = told.told().map_err(Failure::refused)?;
    // Where nothing can be told the container is not to start.
    if let Err(error) = Destination::new(&args.recordings, &file("container")) {
        told.refuse(&format!("{:#}", anyhow::Error::new(error)));
        return Ok(ExitCode::FAILURE);
    }
    let policy = told.policy().clone();
    let begin = |container: &supervising::Container| {
        let destination = Destination::new(&args.recordings, &file(&container.id));
        let file = destination.map_err(io::Error::other)?.append()?;
        let teller = Teller::new(Denials::Json, Some(file), Answering::Enforce, &policy)?;
        // One for each process that is executed in the container.
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
        // What it has read is no business of the container's.
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
        supervisor::confine_for_container()
            .map_err(|failure| io::Error::other(failure.to_string()))?;
        Ok(teller)
    };
    let served = told.serve(begin, |teller: &mut Teller, denial| teller.tell(denial));
    if let Some((mut teller, counted, others)) = served.map_err(Failure::refused)? {
        teller.sum_up(&counted, others);
    }
    Ok(ExitCode::SUCCESS)
}

/// The file in which the denials of a container are told.
fn file(container: &str) -> String {
    format!("{container}.denials.json")
}

/// Starts the supervisor of a container that the process `starter` is about to make. Its id, if it is known,
/// tells whether somebody makes it.
pub fn start(
    recordings: &Path,
    starter: Pid,
    id: Option<&str>,
    policy: &Policy,
) -> Result<SocketName, Failure> {
    let recordings = absolute(recordings);
    let mut words: Vec<&OsStr> =
        vec!["oci-supervisor".as_ref(), "--recordings".as_ref(), recordings.as_ref()];
    words.extend(id.into_iter().flat_map(|id| ["--id".as_ref(), OsStr::new(id)]));
    supervising::start(Path::new(&program()?), &words, starter, policy).map_err(Failure::refused)
}
