//! `strait oci-hook`: what runs when a container is made.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use serde_json::json;
use strait_policy::format::Runtime;
use strait_runtime::oci::RECORD;
use strait_runtime::oci::bind::{Policies, asking};
use strait_runtime::oci::hook::{self, Created};
use strait_runtime::oci::image::{self, Image};
use strait_runtime::oci::spec::{Spec, Stage};
use strait_runtime::oci::waiting;

use super::oci_runtime::absolute;
use super::{oci_recorder, oci_supervisor};
use crate::args::OciHook;
use crate::failure::Failure;
use crate::libseccomp;
use crate::output;

/// Acts by what stands on standard input: for the configuration of a container that is to be made
/// (`precreate`) it prints the one that it is to have; for the state of one that is made
/// (`createRuntime`) it starts the recorder, if one is asked for.
pub fn run(args: &OciHook) -> Result<ExitCode, Failure> {
    if let Some(reason) = &args.refuse {
        return Err(Failure::bad_input(anyhow!("{reason}")));
    }
    let spec = Spec::from_stream(io::stdin().lock()).map_err(Failure::bad_input)?;
    if spec.is_state() {
        return created(args, &spec);
    }
    let spec = match changed(args, spec.clone()) {
        Ok(changed) => changed,
        Err(failure) => refusing(spec, &failure)?,
    };
    output::print(spec.to_json().as_bytes()).map_err(Failure::refused)?;
    Ok(ExitCode::SUCCESS)
}

/// The configuration with what is asked for it.
fn changed(args: &OciHook, mut spec: Spec) -> Result<Spec, Failure> {
    let policies = Policies::new(&args.folders.policies);
    let choice = policies.choose(&spec, || Image::before_bundle(&spec));
    let choice = choice.map_err(Failure::bad_input)?;
    if choice.record && spec.annotation(RECORD).map_err(Failure::bad_input)?.is_none() {
        let id = image::stored_id(&spec).ok_or_else(|| {
            Failure::bad_input(anyhow!(
                "the container is to be recorded, and what its id is cannot be told before it is made: \
                 name the file by the annotation {RECORD}, or have the engine use `strait oci-runtime`"
            ))
        })?;
        spec.annotate(RECORD, &format!("{id}.json")).map_err(Failure::bad_input)?;
    }
    let destination = hook::destination(&spec, &args.folders.recordings);
    let is_recorded = destination.map_err(Failure::bad_input)?.is_some();
    // First, as it takes a while.
    let engine = rustix::process::getppid();
    let supervised = policies.supervised(&choice, &spec, &runtimes(args.runtime));
    let supervised = supervised.map_err(Failure::bad_input)?;
    let is_waited_for = is_recorded || supervised.is_some();
    let id = is_waited_for.then(|| image::stored_id(&spec)).flatten();
    let recordings = &args.folders.recordings;
    let recorder = engine
        .filter(|_| is_recorded)
        .and_then(|engine| oci_recorder::start_ahead(&mut spec, recordings, engine, id.as_deref()));
    if choice.policy.is_some() {
        let library = libseccomp::newest_known().ok();
        let runtimes = runtimes(args.runtime);
        let profile = policies.profile(&choice, &spec, &runtimes, library);
        if let Some(mut profile) = profile.map_err(Failure::bad_input)? {
            if let Some(policy) = supervised {
                let engine = engine.context("whoever runs this hook is in another pid namespace");
                let engine = engine.map_err(Failure::refused)?;
                let supervisor = oci_supervisor::start(recordings, engine, id.as_deref(), &policy)?;
                profile = asking(profile, &supervisor);
            }
            spec.confine(profile).map_err(Failure::bad_input)?;
        }
    }
    if is_recorded && !spec.is_confined().map_err(Failure::bad_input)? {
        spec.confine(hook::open_profile()).map_err(Failure::bad_input)?;
    }
    oci_recorder::tell_hook(&mut spec, recorder.as_ref());
    Ok(spec)
}

/// The configuration with what no runtime starts: an action that there is not, whose name is the
/// reason. Engines show what a runtime says, but not what a hook says before there is a runtime; and
/// of a hook that it runs itself crun does not say it. A hook that fails is there for runtimes that
/// would not load a profile.
fn refusing(mut spec: Spec, failure: &Failure) -> Result<Spec, Failure> {
    let program = super::oci_runtime::program()?;
    let reason = failure.to_string();
    // Or these would fail first, and say nothing.
    spec.forget(RECORD);
    spec.remove_hook(Stage::CreateRuntime, "oci-hook");
    spec.confine(json!({"defaultAction": reason})).map_err(Failure::bad_input)?;
    let reason = reason.strip_prefix("strait: ").unwrap_or(&reason);
    spec.add_hook(Stage::CreateContainer, &program, &["strait", "oci-hook", "--refuse", reason])
        .map_err(Failure::bad_input)?;
    Ok(spec)
}

/// Demands that the runtime has been told of what the container is to have: who has asked for it, a
/// plugin of NRI or the hook at `precreate`, does not learn what has become of that.
fn confirm(args: &OciHook, container: &Created, records: bool) -> Result<(), Failure> {
    let file = container.bundle.join("config.json");
    let spec = Spec::read(&file).map_err(Failure::bad_input)?;
    let spec = spec.ok_or_else(|| Failure::bad_input(anyhow!("there is no {}", file.display())))?;
    let policies = Policies::new(&args.folders.policies);
    let image = || Image::of(&spec, &container.bundle, &container.id);
    let choice = policies.choose(&spec, image).map_err(Failure::bad_input)?;
    if choice.policy.is_some() {
        let library = libseccomp::newest_known().ok();
        let confirmed = policies.confirm(&choice, &spec, &runtimes(args.runtime), library);
        confirmed.map_err(Failure::bad_input)?;
    }
    if records && spec.profile().is_none() {
        return Err(Failure::bad_input(anyhow!(
            "annotation {RECORD}: a container without a seccomp profile cannot be recorded, as it is \
             the loading of one that tells what is the runtime's: give it RuntimeDefault, or have the \
             engine use `strait oci-runtime` as its runtime"
        )));
    }
    Ok(())
}

/// This runtime, or each that is known.
pub fn runtimes(one: Option<Runtime>) -> Vec<Runtime> {
    one.map_or_else(|| Runtime::ALL.to_vec(), |runtime| vec![runtime])
}

fn created(args: &OciHook, state: &Spec) -> Result<ExitCode, Failure> {
    let container = Created::new(state).map_err(Failure::bad_input)?;
    let recordings = absolute(&args.folders.recordings);
    let destination = hook::destination(state, &recordings).map_err(Failure::bad_input)?;
    if args.confirm {
        confirm(args, &container, destination.is_some())?;
    }
    let Some(destination) = destination else { return Ok(ExitCode::SUCCESS) };
    let runtime = hook::runtime();
    if let Some(recorder) = &args.recorder {
        let handed = waiting::Container {
            pid: container.pid.as_raw_nonzero().get(),
            id: container.id.clone(),
            bundle: container.bundle.clone(),
            runtime: runtime.clone(),
            file: destination.name().to_owned(),
        };
        if waiting::hand_over(recorder, &handed).map_err(Failure::refused)? {
            return Ok(ExitCode::SUCCESS);
        }
    }
    let program = super::oci_runtime::program()?;
    let pid = container.pid.as_raw_nonzero().to_string();
    let mut arguments: Vec<&OsStr> = vec![
        "oci-recorder".as_ref(),
        "--pid".as_ref(),
        pid.as_ref(),
        "--id".as_ref(),
        container.id.as_ref(),
        "--bundle".as_ref(),
        container.bundle.as_ref(),
        "--recordings".as_ref(),
        recordings.as_ref(),
        "--file".as_ref(),
        destination.name().as_ref(),
    ];
    if let Some(runtime) = &runtime {
        arguments.extend([OsStr::new("--runtime"), runtime.as_os_str()]);
    }
    container.start_recorder(Path::new(&program), &arguments).map_err(Failure::refused)?;
    Ok(ExitCode::SUCCESS)
}
