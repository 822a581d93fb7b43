//! `cargo xtask bench tighten`: what Strait adds to the command that it runs.
//!
//! Wall time, so the medians of many interleaved runs, and meant as the order of magnitude.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{cargo, root, succeed};

const ROUNDS: usize = 41;

/// Measures the release binary on a command that does nothing.
pub(super) fn run() -> Result<()> {
    succeed(cargo().args(["build", "--release", "--quiet", "--package", "strait-cli"]))?;
    let strait = root().join("target/release/strait");
    let size = std::fs::metadata(&strait)?.len();
    let policy = std::env::temp_dir().join(format!("strait-bench-{}.yaml", std::process::id()));
    let commands: [(&str, Vec<&str>); 4] = [
        ("true", vec![]),
        ("strait --version", vec!["--version"]),
        ("strait run -- true", vec!["run", "--policy", path(&policy)?, "--", "true"]),
        ("strait tighten -- true", vec!["tighten", "--json", "-o", path(&policy)?, "--", "true"]),
    ];
    // The policy that `run` takes.
    time(&strait, &commands[3].1)?;
    let mut times: [Vec<Duration>; 4] = Default::default();
    for _ in 0..ROUNDS {
        for ((name, args), times) in commands.iter().zip(&mut times) {
            let program = if *name == "true" { Path::new("true") } else { strait.as_path() };
            times.push(time(program, args)?);
        }
    }
    std::fs::remove_file(&policy)?;
    let medians = times.map(|mut times| {
        times.sort_unstable();
        times[ROUNDS / 2]
    });
    println!("release binary: {:.1} MiB, one file", size as f64 / 1_048_576.0);
    for ((name, _), median) in commands.iter().zip(medians) {
        println!("{name:<24} {:>8.2} ms", ms(median));
    }
    let [bare, _, run, tighten] = medians;
    println!("{:<24} {:>8.2} ms", "run adds", ms(run.saturating_sub(bare)));
    let rest = tighten.saturating_sub(bare * 2);
    println!("{:<24} {:>8.2} ms", "tighten adds to two runs", ms(rest));
    Ok(())
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("the temporary folder's name is not UTF-8")
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn time(program: &Path, args: &[&str]) -> Result<Duration> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let start = Instant::now();
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    let taken = start.elapsed();
    if !status.success() {
        bail!("{command:?} failed: {status}");
    }
    Ok(taken)
}
