//! `strait run --policy P -- CMD…`.

use std::process::ExitCode;

use anyhow::Context;
use strait_compiler::Options;
use strait_kernel::child::PendingChild;
use strait_kernel::seccomp::LoadOptions;
use strait_kernel::signal::{self, Relay};
use strait_runtime::launch::Enforcement;
use strait_runtime::wait;

use crate::args::Run;
use crate::documents;
use crate::failure::Failure;
use crate::verbs::record;

/// Confines and executes a command, and passes on how it ended.
pub fn run(args: &Run) -> Result<ExitCode, Failure> {
    confined(args).map_err(Failure::of_launcher)
}

fn confined(args: &Run) -> Result<ExitCode, Failure> {
    let (_, rules) = documents::policy(&args.policy)?;
    let command = record::command(&args.command)?;
    let enforcement = Enforcement::new(&rules, &Options::default(), LoadOptions::default())
        .with_context(|| crate::input::name(&args.policy))
        .map_err(Failure::bad_input)?;
    let child = PendingChild::fork(&command).map_err(Failure::refused)?;
    let relay = Relay::install().map_err(Failure::refused)?;
    let started = enforcement.start(child).map_err(|error| {
        let status = error.exit_status();
        Failure::with_status(status, error)
    })?;
    let ended = wait::until_end(&started.child, &relay).map_err(Failure::refused)?;
    drop(relay);
    signal::end_as(ended.status)
}
