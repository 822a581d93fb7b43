//! `cargo xtask bench run`: what confinement by `strait run` costs: a loop of one allowed call, a connect
//! that the supervisor decides and makes, and the start of a command.
//!
//! Each is the least of many interleaved runs, and a ratio to its peer in the same rounds.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::overhead::{Times, time};
use crate::{cargo, root, succeed};

const ROUNDS: usize = 15;
const STARTS: usize = 41;

/// Measures the release binary.
pub(super) fn run() -> Result<()> {
    succeed(cargo().args(["build", "--release", "--quiet", "--package", "strait-cli"]))?;
    let testkit = ["build", "--release", "--quiet", "--package", "strait-testkit"];
    succeed(cargo().args(testkit).args(["--bin", "strait-timed"]))?;
    let release = root().join("target/release");
    let folder = std::env::temp_dir().join(format!("strait-bench-run-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let connect = folder.join("connect");
    let source = root().join("xtask/src/bench/connect.c");
    succeed(Command::new("cc").args(["-O2", "-Wall", "-o"]).arg(&connect).arg(source))?;
    let measured = measure(&release, &folder, &connect);
    fs::remove_dir_all(&folder)?;
    measured
}

fn measure(release: &Path, folder: &Path, connect: &Path) -> Result<()> {
    let policy = |name: &str, more: &str| -> Result<String> {
        let path = folder.join(name);
        let head = "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec:\n  \
                    architectures: [x86_64]\n";
        fs::write(&path, format!("{head}{more}"))?;
        Ok(text(&path)?.to_owned())
    };
    // Every call of a name that is known is allowed: an allow-list as long as they get.
    let names: Vec<&str> = strait_abi::Syscall::all().map(strait_abi::Syscall::name).collect();
    let listed = policy(
        "listed.yaml",
        &format!(
            "  default: errno(EPERM)\n  rules: [{{syscalls: [{}], action: allow}}]\n",
            names.join(", ")
        ),
    )?;
    let decided = policy(
        "decided.yaml",
        "  default: allow\n  isolation: {other-processes: deny}\n  \
         network: {connect: [\"127.0.0.1:*\"], listen: [\"127.0.0.1:0\"]}\n",
    )?;
    let strait = release.join("strait");
    let strait = text(&strait)?;
    let timed = release.join("strait-timed");
    let (timed, connect) = (text(&timed)?, text(connect)?);

    println!("least of {ROUNDS} rounds, ns a call");
    // What a filter costs at all: the kernel answers from its cache for this one too.
    let least_filter = policy("least.yaml", "  default: allow\n")?;
    let mut loops = [f64::INFINITY; 3];
    for _ in 0..ROUNDS {
        let command = [timed, "getppid", "200"];
        least(&mut loops[0], &command)?;
        for (policy, place) in [(&least_filter, 1), (&listed, 2)] {
            let confined = [strait, "run", "--policy", policy, "--"];
            least(&mut loops[place], &[&confined, &command[..]].concat())?;
        }
    }
    let [bare, least_filter, confined] = loops;
    println!(
        "{:<44} bare {bare:>9.1}  least filter {least_filter:>6.1}  strait run {confined:>9.1}  \
         ratio {:.3} to bare, {:.3} to the least filter",
        "getppid, under an allow-list",
        confined / bare,
        confined / least_filter
    );
    for kind in ["udp", "tcp"] {
        let mut calls = [f64::INFINITY; 3];
        for _ in 0..ROUNDS {
            let command = [connect, "loop", kind, "2000"];
            least(&mut calls[0], &command)?;
            least(&mut calls[1], &[&[connect, "supervise"], &command[..]].concat())?;
            let supervised = [strait, "run", "--policy", &decided, "--"];
            least(&mut calls[2], &[&supervised, &command[..]].concat())?;
        }
        let [bare, peer, decided] = calls;
        println!(
            "{:<44} bare {bare:>9.0}  minimal C {peer:>9.0}  strait run {decided:>9.0}  ratio {:.3}",
            format!("connect, {kind}"),
            decided / peer
        );
    }

    let runs: [(&str, Vec<&str>); 3] = [
        ("true", vec!["true"]),
        ("strait run -- true", vec![strait, "run", "--policy", &listed, "--", "true"]),
        ("with network", vec![strait, "run", "--policy", &decided, "--", "true"]),
    ];
    let mut times: [Times; 3] = Default::default();
    for _ in 0..STARTS {
        for ((_, command), times) in runs.iter().zip(&mut times) {
            times.measure(|| time(Path::new(command[0]), &command[1..]))?;
        }
    }
    let times = times.map(Times::summary);
    println!("\n{:<44} {:>8} {:>8}  ms, {STARTS} rounds", "", "least", "median");
    for ((name, _), [least, median, _]) in runs.iter().zip(times) {
        let beyond = |time: Duration, column: usize| {
            time.saturating_sub(times[0][column]).as_secs_f64() * 1e3
        };
        println!("{name:<44} {:>8.2} {:>8.2}  beyond true", beyond(least, 0), beyond(median, 1));
    }
    Ok(())
}

/// Runs a command that prints how long a call took, and keeps the least.
fn least(least: &mut f64, command: &[&str]) -> Result<()> {
    let output = Command::new(command[0]).args(&command[1..]).output()?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8(output.stdout)?;
    *least = least.min(text.trim().parse().with_context(|| text.clone())?);
    Ok(())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("the temporary folder's name is not UTF-8")
}
