//! Other compilers, each a small program of its own: a policy in, a filter out.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use strait_abi::Arch;
use strait_bpf::{Action, Program};
use strait_policy::rules::{Op, Width};

use super::workload::{Compare, Workload};

/// A compiler to compare with.
pub(crate) struct Peer {
    name: &'static str,
    path: PathBuf,
    args: &'static [&'static str],
    /// Whether it has several audit arches, and several actions for what matches.
    several: bool,
}

/// Those that can be built here; for others says what is missing.
pub(crate) fn build() -> Vec<Peer> {
    let mut peers = Vec::new();
    match libseccomp() {
        Ok(path) => {
            let peer = |name, args| Peer { name, path: path.clone(), args, several: true };
            peers.extend([peer("libseccomp", &["1"][..]), peer("libseccomp, binary tree", &["2"])]);
        }
        Err(error) => eprintln!("SKIP libseccomp: {error:#}"),
    }
    match seccompiler() {
        Ok(path) => peers.push(Peer { name: "seccompiler", path, args: &[], several: false }),
        Err(error) => eprintln!("SKIP seccompiler: {error:#}"),
    }
    peers
}

impl Peer {
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// How long building the filter of a policy takes, the median of so many times; for peers that
    /// measure it.
    pub(crate) fn time(&self, workload: &Workload, runs: usize) -> Result<Duration> {
        let mut child = Command::new(&self.path)
            .args(self.args)
            .arg(runs.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| self.path.display().to_string())?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(text(workload).as_bytes())?;
        }
        let output = child.wait_with_output()?;
        let nanoseconds = String::from_utf8_lossy(&output.stderr);
        let nanoseconds = nanoseconds.trim().parse().context("it measures nothing")?;
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// Builds the filter of a policy.
    pub(crate) fn build(&self, workload: &Workload) -> Result<Program> {
        if !self.several && workload.arches.len() > 1 {
            bail!("it takes one architecture");
        }
        let mut child = Command::new(&self.path)
            .args(self.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| self.path.display().to_string())?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(text(workload).as_bytes())?;
        }
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("{}", output.status);
        }
        super::program(&output.stdout)
    }
}

/// The policy as the peers' programs read it.
fn text(workload: &Workload) -> String {
    let mut text = format!("default {}\n", workload.default.raw());
    for arch in &workload.arches {
        let _ = writeln!(text, "arch {}", if *arch == Arch::I386 { "x86" } else { arch.name() });
    }
    let mut rules: Vec<_> = workload.rules.iter().collect();
    // What most rules do comes first: seccompiler takes it for the one action that it has.
    rules.sort_by_key(|rule| matches!(rule.action, Action::Errno(38)));
    for rule in rules {
        let nr = rule.nr.map_or("-1".to_owned(), |nr| nr.to_string());
        let _ =
            write!(text, "rule {} {} {nr} {}", rule.action.raw(), rule.call, rule.conditions.len());
        for Compare { arg, op, value, mask, width } in &rule.conditions {
            let (op, a, b) = match (mask, op) {
                (Some(mask), _) => (7, *mask, *value),
                (None, Op::Ne) => (1, *value, 0),
                (None, Op::Lt) => (2, *value, 0),
                (None, Op::Le) => (3, *value, 0),
                (None, Op::Eq) => (4, *value, 0),
                (None, Op::Ge) => (5, *value, 0),
                (None, Op::Gt) => (6, *value, 0),
            };
            let bits = if *width == Width::W32 { 32 } else { 64 };
            let _ = write!(text, " {arg} {op} {a} {b} {bits}");
        }
        text.push('\n');
    }
    text
}

fn libseccomp() -> Result<PathBuf> {
    if !Path::new("/usr/include/seccomp.h").exists() {
        bail!("Debian's libseccomp-dev is not installed");
    }
    let binary = super::scratch().join("libseccomp");
    std::fs::create_dir_all(super::scratch())?;
    let source = super::sources().join("libseccomp.c");
    crate::succeed(
        Command::new("cc").arg("-O2").arg("-o").arg(&binary).arg(source).arg("-lseccomp"),
    )?;
    Ok(binary)
}

fn seccompiler() -> Result<PathBuf> {
    let target = super::scratch().join("seccompiler");
    let manifest = super::sources().join("seccompiler/Cargo.toml");
    crate::succeed(
        crate::cargo()
            .args(["build", "--release", "--quiet", "--manifest-path"])
            .arg(manifest)
            .arg("--target-dir")
            .arg(&target),
    )?;
    Ok(target.join("release/peer-seccompiler"))
}
