//! `strait nri`: a plugin of containerd and CRI-O.

use std::process::ExitCode;
use std::sync::Arc;

use strait_runtime::nri::admission::Admission;
use strait_runtime::nri::{Event, Plugin};
use strait_runtime::oci::bind::Policies;

use super::install::hook_arguments;
use super::oci_hook::runtimes;
use super::oci_runtime::{absolute, program};
use crate::args::Nri;
use crate::failure::Failure;
use crate::libseccomp;
use crate::output;

/// Registers with the runtime and serves it until it goes.
pub fn run(args: &Nri) -> Result<ExitCode, Failure> {
    let mut arguments = hook_arguments(args.runtime, &args.folders)?;
    arguments.push("--confirm".to_owned());
    let admission = Arc::new(Admission {
        policies: Policies::new(&absolute(&args.folders.policies)),
        recordings: absolute(&args.folders.recordings),
        runtimes: runtimes(args.runtime),
        library: libseccomp::newest_known().ok(),
        program: program()?,
        arguments,
    });
    let plugin = Plugin::register(&args.socket, &args.index).map_err(Failure::refused)?;
    plugin.serve(&admission, tell).map(|never| match never {}).map_err(Failure::refused)
}

fn tell(event: Event) {
    output::say(&match event {
        Event::Registered { name, version } => {
            format!("strait: {name} {version} tells of its containers")
        }
        Event::Missed { container, policy } => format!(
            "strait: {container} runs already, and is to be confined by: {policy}; whether it is tells \
             `strait verify --container {container} --policy FILE`"
        ),
        Event::Adjusted { container } => format!("strait: {container} gets what is asked for it"),
        Event::Stopped { container, reason } => {
            format!("strait: {container} is not made: {reason}")
        }
        _ => return,
    });
}
