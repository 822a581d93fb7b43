//! What an uncached call costs in the kernel: the one part that looks at a clock.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use strait_bpf::Program;

/// Times that each program is tried, in turn with the others.
const TRIES: usize = 15;
/// Calls in each try.
const CALLS: &str = "200000";

/// The program that loads a filter and makes calls under it.
pub(crate) fn build() -> Result<PathBuf> {
    let binary = super::scratch().join("kernel");
    std::fs::create_dir_all(super::scratch())?;
    let source = super::sources().join("kernel.c");
    crate::succeed(Command::new("cc").arg("-O2").arg("-o").arg(&binary).arg(source))?;
    Ok(binary)
}

/// The median of nanoseconds per call of `nr` under each filter.
pub(crate) fn medians(binary: &Path, nr: u32, filters: &[&Program]) -> Result<Vec<f64>> {
    let mut times = vec![Vec::new(); filters.len()];
    for _ in 0..TRIES {
        for (filter, times) in filters.iter().zip(&mut times) {
            times.push(one(binary, nr, &filter.to_bytes())?);
        }
    }
    Ok(times
        .into_iter()
        .map(|mut times| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        })
        .collect())
}

fn one(binary: &Path, nr: u32, filter: &[u8]) -> Result<f64> {
    let mut child = Command::new(binary)
        .args([&nr.to_string(), CALLS])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| binary.display().to_string())?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(filter)?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("the kernel does not take the filter: {}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
}
