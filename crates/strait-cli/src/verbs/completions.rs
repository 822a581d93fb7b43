//! `strait completions SHELL`.

use std::process::ExitCode;

use clap::CommandFactory;

use crate::args::{Cli, Completions};
use crate::failure::Failure;
use crate::output;

/// Prints the completions for one shell.
pub fn run(args: &Completions) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "strait", &mut script);
    output::print(&script).map_err(Failure::refused)?;
    Ok(ExitCode::SUCCESS)
}
