//! `strait run --policy P -- CMD…`.

use std::process::ExitCode;

use anyhow::{Context, anyhow};
use strait_abi::Arch;
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
    let (policy, rules) = documents::policy(&args.policy, &args.profile)?;
    // Every call of any program here would end it.
    if !policy.architectures.iter().any(runs_here) {
        let arches: Vec<&str> = policy.architectures.iter().map(Arch::name).collect();
        let error = anyhow!(
            "{} is for {}, and no program of this machine runs by that",
            crate::input::name(&args.policy),
            arches.join(", ")
        );
        return Err(Failure::bad_input(error));
    }
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

/// Whether programs of this ABI run on this machine.
fn runs_here(arch: Arch) -> bool {
    match Arch::NATIVE {
        Some(Arch::X86_64) => matches!(arch, Arch::X86_64 | Arch::X32 | Arch::I386),
        Some(Arch::Aarch64) => matches!(arch, Arch::Aarch64 | Arch::Arm),
        native => native == Some(arch),
    }
}
