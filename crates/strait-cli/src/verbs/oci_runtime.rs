//! `strait oci-runtime`: an OCI runtime that lets another do the work.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, anyhow};
use jiff::Timestamp;
use rustix::fs::Access;
use serde_json::json;
use strait_policy::format::Runtime;
use strait_runtime::oci::RECORD;
use strait_runtime::oci::bind::{Policies, asking};
use strait_runtime::oci::hook;
use strait_runtime::oci::image::Image;
use strait_runtime::oci::invocation::{Create, Invocation};
use strait_runtime::oci::spec::{Spec, Stage};

use super::{oci_recorder, oci_supervisor};
use crate::args::{Folders, OciRuntime};
use crate::failure::Failure;
use crate::libseccomp;

/// Prepares the bundle of a container that is to be made, and becomes the real runtime.
pub fn run(args: &OciRuntime) -> Result<ExitCode, Failure> {
    let folder = std::env::current_dir().unwrap_or_default();
    let invocation = Invocation::parse(&args.arguments, &folder);
    let done = match &invocation.create {
        Some(create) => prepare(create, args),
        None => Ok(()),
    };
    let failure = done.err().unwrap_or_else(|| become_runtime(args));
    log(&invocation, &failure);
    Err(failure.of_launcher())
}

/// Becomes the real runtime; comes back only if that cannot be.
fn become_runtime(args: &OciRuntime) -> Failure {
    let error = Command::new(file_of(&args.runtime)).args(&args.arguments).exec();
    let status = if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 };
    let error = anyhow!(error).context(format!("cannot run {}", args.runtime.display()));
    Failure::with_status(status, error)
}

/// The file of a program that is given by its name: the first one in PATH. A hook that the runtime
/// runs finds by it which runtime that is.
fn file_of(program: &OsStr) -> PathBuf {
    let path = std::env::var_os("PATH").filter(|_| !program.as_encoded_bytes().contains(&b'/'));
    let mut files = path.iter().flat_map(std::env::split_paths).map(|dir| dir.join(program));
    let is_program =
        |file: &PathBuf| rustix::fs::access(file, Access::EXEC_OK).is_ok() && file.is_file();
    files.find(is_program).unwrap_or_else(|| program.into())
}

/// Writes into the container's configuration what is asked for it. One that asks for nothing is not
/// touched.
fn prepare(create: &Create, args: &OciRuntime) -> Result<(), Failure> {
    let Folders { policies, recordings } = &args.folders;
    // Where there is no configuration, the runtime says so as it always does.
    let read = Spec::read(&create.config).map_err(Failure::bad_input)?;
    let Some(mut spec) = read else { return Ok(()) };
    let image =
        |spec: &Spec| Image::of(spec, &absolute(&create.bundle), &create.id.to_string_lossy());
    let policies = Policies::new(policies);
    let choice = policies.choose(&spec, || image(&spec)).map_err(Failure::bad_input)?;
    if choice.record && spec.annotation(RECORD).map_err(Failure::bad_input)?.is_none() {
        let file = format!("{}.json", create.id.to_string_lossy());
        spec.annotate(RECORD, &file).map_err(Failure::bad_input)?;
    }
    let destination = hook::destination(&spec, recordings).map_err(Failure::bad_input)?;
    if choice.policy.is_none() && destination.is_none() {
        return Ok(());
    }
    // First, as it takes a while. The runtime that is about to be is this process.
    let recorder = destination.as_ref().and_then(|_| {
        oci_recorder::start_ahead(&mut spec, recordings, rustix::process::getpid(), None)
    });
    if choice.policy.is_some() {
        let runtimes = [kind(&args.runtime)?];
        let library = libseccomp::newest_known().ok();
        let profile = policies.profile(&choice, &spec, &runtimes, library);
        if let Some(mut profile) = profile.map_err(Failure::bad_input)? {
            let supervised = policies.supervised(&choice, &spec, &runtimes);
            if let Some(policy) = supervised.map_err(Failure::bad_input)? {
                // It lives as long as the runtime at least, which is about to be this process.
                let starter = rustix::process::getpid();
                let supervisor = oci_supervisor::start(recordings, starter, None, &policy)?;
                profile = asking(profile, &supervisor);
            }
            spec.confine(profile).map_err(Failure::bad_input)?;
        }
    }
    if destination.is_some() {
        if !spec.is_confined().map_err(Failure::bad_input)? {
            spec.confine(hook::open_profile()).map_err(Failure::bad_input)?;
        }
        add_hook(&mut spec, recordings)?;
        oci_recorder::tell_hook(&mut spec, recorder.as_ref());
    }
    spec.write(&create.config).map_err(Failure::refused)
}

/// The hook that starts the recorder, unless the engine has been told of it as well.
fn add_hook(spec: &mut Spec, recordings: &Path) -> Result<(), Failure> {
    if spec.has_hook(Stage::CreateRuntime, "oci-hook") {
        return Ok(());
    }
    let recordings = absolute(recordings);
    let text =
        recordings.to_str().with_context(|| format!("{} is not UTF-8", recordings.display()));
    let words = ["strait", "oci-hook", "--recordings", text.map_err(Failure::bad_input)?];
    spec.add_hook(Stage::CreateRuntime, &program()?, &words).map_err(Failure::bad_input)
}

/// This program's file.
pub fn program() -> Result<String, Failure> {
    let program =
        std::env::current_exe().context("which file this program is").map_err(Failure::refused)?;
    let text = program.to_str().with_context(|| format!("{} is not UTF-8", program.display()));
    text.map(str::to_owned).map_err(Failure::refused)
}

/// A path that means the same in every folder.
pub fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Which runtime that is: by its name, else by what it says of itself.
fn kind(runtime: &OsStr) -> Result<Runtime, Failure> {
    let by_name = |name: &str| Runtime::ALL.iter().copied().find(|known| known.name() == name);
    let file = Path::new(runtime).file_name().and_then(OsStr::to_str);
    if let Some(known) = file.and_then(by_name) {
        return Ok(known);
    }
    // `runc version 1.1.5`, `crun version 1.8.1`.
    let asked = Command::new(runtime).arg("--version").stdin(Stdio::null()).output();
    let said = asked.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let said = said.unwrap_or_default();
    said.split_whitespace().next().and_then(by_name).ok_or_else(|| {
        Failure::bad_input(anyhow!(
            "{} is neither runc nor crun: what it calls itself when it starts a container is not \
             known, so no policy can be bound",
            runtime.display()
        ))
    })
}

/// Says it where the engine reads the errors of runtimes, besides standard error.
fn log(invocation: &Invocation, failure: &Failure) {
    let Some(path) = &invocation.log else { return };
    let text = failure.to_string();
    let line = if invocation.log_is_json {
        let time = Timestamp::now().to_string();
        json!({"level": "error", "msg": text, "time": time}).to_string()
    } else {
        format!("level=error msg={text:?}")
    };
    // Where this cannot be written, standard error has it.
    if let Ok(mut file) = OpenOptions::new().create(true).append(true).open(path) {
        let _ = file.write_all(format!("{line}\n").as_bytes());
    }
}
