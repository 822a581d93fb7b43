//! How many instructions building a program takes, counted by callgrind.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Instructions of compiling a policy, and those of them that are the proof.
pub(crate) fn counted(policy: &Path) -> Result<(u64, u64)> {
    Ok((
        inside("strait_compiler::compile", policy)?,
        inside("strait_compiler::prove::prove", policy)?,
    ))
}

/// Instructions executed inside of a function, in this very program.
fn inside(function: &str, policy: &Path) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(format!("--toggle-collect={function}"))
        .arg(std::env::current_exe()?)
        .args(["bench", "build"])
        .arg(policy)
        .output()
        .context("valgrind")?;
    let text = String::from_utf8_lossy(&output.stderr);
    let collected = text.lines().find_map(|line| line.split_once("Collected : "));
    match collected.map(|(_, count)| count.trim().parse()) {
        Some(Ok(count)) if count > 0 => Ok(count),
        _ => bail!("callgrind saw nothing of {function}"),
    }
}
