//! `strait man DIR`: the man pages and the completions, for packagers.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::{Cli, Man};
use crate::failure::Failure;
use crate::output;

/// Writes `strait.1`, a page for each verb, and the completions of three shells.
pub fn run(args: &Man) -> Result<ExitCode, Failure> {
    write(&args.dir).map_err(Failure::refused)?;
    Ok(ExitCode::SUCCESS)
}

fn write(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let mut command = Cli::command();
    command.build();
    page(dir, "strait", command.clone())?;
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let name = format!("strait-{}", verb.get_name());
        page(dir, &name, verb.clone())?;
    }
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "strait", &mut script);
        output::write(Some(&dir.join(format!("strait.{shell}"))), &script)?;
    }
    Ok(())
}

fn page(dir: &Path, name: &str, command: clap::Command) -> Result<()> {
    let mut roff = Vec::new();
    clap_mangen::Man::new(command).render(&mut roff)?;
    output::write(Some(&dir.join(format!("{name}.1"))), &roff)
}
