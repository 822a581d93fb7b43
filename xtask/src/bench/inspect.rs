//! What inspecting a machine costs: `cargo xtask bench inspect`.
//!
//! 2,000 processes with three filters each in a pid namespace; all of them inspected, next to `ps`, which
//! reads the same files of `/proc` and no filter. Root is needed.

use std::process::Command;

use anyhow::{Context, Result, bail};

/// How many processes.
const PROCESSES: usize = 2_000;
/// How often everything is measured, in turns; the least counts.
const ROUNDS: usize = 5;

/// Runs a command and prints seconds and the peak of its memory in KiB.
const MEASURE: &str = "\
import resource, subprocess, sys, time
start = time.monotonic()
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, status)
";

/// Prints seconds and MiB of both, and the ratio.
pub(super) fn run() -> Result<()> {
    let build = ["build", "--release", "-q", "-p", "strait-cli", "-p", "strait-testkit"];
    crate::succeed(crate::cargo().args(build))?;
    let release = crate::root().join("target/release");
    let path = |name: &str| -> Result<String> {
        let path = release.join(name);
        Ok(path.to_str().context("the folder's name is not UTF-8")?.to_owned())
    };
    let (strait, victim) = (path("strait")?, path("strait-victim")?);
    // The first process of the namespace: when the script ends, everything in it does.
    let script = format!(
        "(sleep infinity | {victim} filters 3 fork {PROCESSES} wait) & \
         until [ $(ls -d /proc/[0-9]* | wc -l) -gt {PROCESSES} ]; do sleep 0.1; done; \
         for i in $(seq {ROUNDS}); do python3 -c '{MEASURE}' ps -eL -o pid,tid,user,stat,comm; \
         python3 -c '{MEASURE}' {strait} inspect --all; done; \
         {strait} inspect --all | grep stopped; kill -KILL -1"
    );
    let arguments = ["--pid", "--fork", "--mount-proc", "--kill-child", "bash", "-c", &script];
    let output = Command::new("unshare").args(arguments).output().context("cannot run unshare")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut best = [(f64::INFINITY, 0_u64); 2];
    let mut measured = 0;
    for (index, line) in text.lines().filter(|line| !line.contains("stopped")).enumerate() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [seconds, memory, "0"] = fields[..] else { bail!("{line:?} is no measurement") };
        let (seconds, memory): (f64, u64) = (seconds.parse()?, memory.parse()?);
        let slot = &mut best[index % 2];
        *slot = (slot.0.min(seconds), slot.1.max(memory));
        measured += 1;
    }
    if measured != 2 * ROUNDS {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    println!("{PROCESSES} processes with 3 filters each, the least of {ROUNDS} rounds");
    for (name, (seconds, memory)) in [("ps -eL", best[0]), ("strait", best[1])] {
        println!("{name:>8} {seconds:>7.3} s {:>5} MiB", memory / 1024);
    }
    println!("strait takes {:.1} times as long as ps", best[1].0 / best[0].0);
    if let Some(stops) = text.lines().find(|line| line.contains("stopped")) {
        println!("{stops}");
    }
    Ok(())
}
