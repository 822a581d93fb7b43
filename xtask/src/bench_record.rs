//! What recording costs: `cargo xtask bench record`.
//!
//! A loop of the cheapest call, bare and recorded, in turns; and the same under `strace -f -c`. The
//! least of many repetitions counts, as everything else that a machine does only adds.

use std::process::Command;

use anyhow::{Context, Result, bail};

/// How often everything is measured, in turns.
const ROUNDS: usize = 5;

/// Prints nanoseconds a call and ratios.
pub(crate) fn run() -> Result<()> {
    let root = crate::root();
    crate::succeed(crate::cargo().args(["build", "--release", "-q", "-p", "strait-testkit"]))?;
    let example = ["build", "--release", "-q", "-p", "strait-runtime", "--example", "record"];
    crate::succeed(crate::cargo().args(example))?;
    let release = root.join("target/release");
    let (recorder, caller) = (release.join("examples/record"), release.join("strait-caller"));
    let wrapped = |wrapper: &[&str], repetitions: &str| -> Result<f64> {
        let mut words: Vec<&str> = wrapper.to_vec();
        let path = caller.to_str().context("the folder's name is not UTF-8")?;
        words.extend([path, "time", repetitions]);
        measure(&words)
    };
    let recorder = recorder.to_str().context("the folder's name is not UTF-8")?;
    let [mut bare, mut ebpf, mut ptrace, mut strace] = [f64::INFINITY; 4];
    for _ in 0..ROUNDS {
        bare = bare.min(wrapped(&[], "100")?);
        ebpf = ebpf.min(wrapped(&[recorder, "ebpf", "/dev/null"], "100")?);
        ptrace = ptrace.min(wrapped(&[recorder, "ptrace", "/dev/null"], "2")?);
        strace = strace.min(wrapped(&["strace", "-f", "-c", "-o", "/dev/null"], "2")?);
    }
    println!("getppid, ns a call, the least of {ROUNDS} rounds");
    for (name, time) in [("bare", bare), ("ebpf", ebpf), ("ptrace", ptrace), ("strace", strace)] {
        println!("{name:>8} {time:>9.1}  {:>7.2} of bare  +{:.1}", time / bare, time - bare);
    }
    println!("strace costs {:.0} times what ebpf does", (strace - bare) / (ebpf - bare));
    Ok(())
}

/// The nanoseconds that a command prints.
fn measure(words: &[&str]) -> Result<f64> {
    let [program, arguments @ ..] = words else { bail!("no command") };
    let output = Command::new(program).args(arguments).output();
    let output = output.with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!("{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().with_context(|| format!("{words:?} printed {text:?}"))
}
