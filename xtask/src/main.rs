//! Project chores: `cargo xtask CHORE`.
#![forbid(unsafe_code)]

mod bench;
mod bench_record;
mod ebpf;
mod man;
mod supervisor;
mod systemd;
mod tables;
mod test;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

const USAGE: &str = "\
Project chores.

  cargo xtask test [ARGS…]     install what the tests need (root on Debian), run all of them;
                               ARGS go to the test runner
  cargo xtask tidy             the rules of the house that no compiler checks
  cargo xtask tables [--check] the tables of strait-abi, from the headers of Debian's packages
  cargo xtask systemd [--check]
                               the groups of system calls that systemd knows, from the systemd
                               that is installed
  cargo xtask ebpf [--check]   the recorder's eBPF object from its source, or a comparison of both
  cargo xtask supervisor [--check]
                               the programs of the supervisor's own policy
  cargo xtask bench filters [FOLDER]
                               what compiled filters cost, counted, next to what other compilers
                               make of the same policies
  cargo xtask bench tighten    what Strait adds to a command that does nothing
  cargo xtask bench calls      what recording costs several calls and a server, next to programs that
                               do nothing and to strace
  cargo xtask bench run        what a loop, a connect and a start cost under `strait run`
  cargo xtask bench record     what recording a call costs, next to strace
  cargo xtask bench inspect    what inspecting 2,000 confined processes costs, next to ps
  cargo xtask man [DIR]        man pages and shell completions into DIR (target/man)
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match chore(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn chore(args: &[String]) -> Result<()> {
    let (name, rest) = match args.split_first() {
        Some((name, rest)) => (name.as_str(), rest),
        None => ("help", args),
    };
    match name {
        "ebpf" => ebpf::run(rest),
        "test" => test::run(rest),
        "tidy" => tidy::run(rest),
        "supervisor" => supervisor::run(rest),
        "man" => man::run(rest),
        "systemd" => systemd::run(rest),
        "tables" => tables::run(rest),
        "bench" => bench::run(rest),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            Ok(())
        }
        other => bail!("there is no chore `{other}`\n\n{USAGE}"),
    }
}

/// The folder of the workspace.
fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// The cargo that runs this chore.
fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    cargo
}

/// Runs a command to its end and fails unless it succeeds.
fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed: {status}");
    }
    Ok(())
}
