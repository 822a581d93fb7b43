//! `cargo xtask bench tighten`: what Strait adds to the command that it runs.
//!
//! Of many interleaved runs: the least and the median of the time on the clock, and the time that the
//! processors spent, which other work on the machine does not lengthen by its waits.

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
    let mut times: [Times; 4] = Default::default();
    for _ in 0..ROUNDS {
        for ((name, args), times) in commands.iter().zip(&mut times) {
            let program = if *name == "true" { Path::new("true") } else { strait.as_path() };
            times.measure(|| time(program, args))?;
        }
    }
    std::fs::remove_file(&policy)?;
    println!("release binary: {:.1} MiB, one file", size as f64 / 1_048_576.0);
    println!("{:<24} {:>8} {:>8} {:>10}  ms, {ROUNDS} rounds", "", "least", "median", "processors");
    let row = |name: &str, times: [Duration; 3]| {
        let [least, median, processor] = times.map(|time| time.as_secs_f64() * 1e3);
        println!("{name:<24} {least:>8.2} {median:>8.2} {processor:>10.2}");
    };
    let times = times.map(Times::summary);
    for ((name, _), times) in commands.iter().zip(times) {
        row(name, times);
    }
    let [bare, _, run, tighten] = times;
    let beyond = |whole: [Duration; 3], times: u32| {
        std::array::from_fn(|column| whole[column].saturating_sub(bare[column] * times))
    };
    row("run adds", beyond(run, 1));
    row("tighten adds to two runs", beyond(tighten, 2));
    Ok(())
}

/// How long the runs of one command took.
#[derive(Default)]
pub(super) struct Times {
    clock: Vec<Duration>,
    /// All of them together.
    processor: Duration,
}

impl Times {
    /// Adds one run, which says how long it took.
    pub(super) fn measure(&mut self, run: impl FnOnce() -> Result<Duration>) -> Result<()> {
        let before = processor_time()?;
        self.clock.push(run()?);
        self.processor += processor_time()?.saturating_sub(before);
        Ok(())
    }

    /// The least and the median on the clock, and the mean on the processors.
    pub(super) fn summary(mut self) -> [Duration; 3] {
        self.clock.sort_unstable();
        let runs = u32::try_from(self.clock.len()).unwrap_or(u32::MAX);
        [self.clock[0], self.clock[self.clock.len() / 2], self.processor / runs]
    }
}

/// What processors have spent on this process's children that have ended, in steps of 10 ms:
/// `cutime` and `cstime` of proc_pid_stat(5).
fn processor_time() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after = stat.rsplit_once(") ").context("/proc/self/stat has no name")?.1;
    let ticks = after.split(' ').skip(13).take(2).map(|field| Ok(field.parse::<u64>()?));
    Ok(Duration::from_millis(ticks.sum::<Result<u64>>()? * 10))
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("the temporary folder's name is not UTF-8")
}

pub(super) fn time(program: &Path, args: &[&str]) -> Result<Duration> {
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
