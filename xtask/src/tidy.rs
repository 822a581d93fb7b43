//! The rules of the house that no compiler checks: which crate may use which, where `unsafe` may
//! stand, what is documented, and what never belongs into the repository.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{cargo, root};

/// Which crates of the workspace a crate may use; `docs/architecture.md` says why. Tests may use
/// the testkit besides.
const ARROWS: &[(&str, &[&str])] = &[
    ("strait-abi", &[]),
    ("strait-bpf", &["strait-abi"]),
    ("strait-policy", &["strait-abi", "strait-bpf"]),
    ("strait-compiler", &["strait-abi", "strait-bpf", "strait-policy"]),
    ("strait-analyze", &["strait-abi"]),
    ("strait-kernel", &["strait-abi", "strait-bpf"]),
    (
        "strait-runtime",
        &["strait-abi", "strait-bpf", "strait-policy", "strait-compiler", "strait-kernel"],
    ),
    (
        "strait-cli",
        &[
            "strait-abi",
            "strait-analyze",
            "strait-bpf",
            "strait-policy",
            "strait-compiler",
            "strait-kernel",
            "strait-runtime",
        ],
    ),
    ("strait-testkit", &["strait-abi", "strait-bpf", "strait-policy"]),
    ("xtask", &["strait-abi", "strait-bpf", "strait-policy", "strait-compiler", "strait-testkit"]),
];

/// Crates that may hold `unsafe`: the one that talks to the kernel, and the victims of the tests.
const UNSAFE: &[&str] = &["strait-kernel", "strait-testkit"];

/// Crates that do no I/O, and the paths that would be it.
const PURE: &[&str] =
    &["strait-abi", "strait-bpf", "strait-policy", "strait-compiler", "strait-analyze"];
const IO: &[&str] = &[
    "std::fs",
    "std::process",
    "std::net",
    "std::thread",
    "std::env",
    "Instant::now",
    "SystemTime",
];

/// Binary files that are in the repository on purpose.
const BINARIES: &[&str] = &["crates/strait-kernel/bpf/recorder.bpf.o"];

/// `cargo xtask tidy`.
pub fn run(args: &[String]) -> Result<()> {
    if let Some(unknown) = args.first() {
        bail!("tidy takes no argument, but got `{unknown}`");
    }
    let mut faults = Faults::default();
    let metadata = metadata()?;
    arrows(&metadata, &mut faults)?;
    dependencies_are_argued(&metadata, &mut faults)?;
    let files = tracked()?;
    for file in &files {
        text_rules(file, &mut faults)?;
    }
    documents(&files, &mut faults)?;
    if faults.0.is_empty() {
        println!("tidy: {} files, no fault", files.len());
        return Ok(());
    }
    for fault in &faults.0 {
        eprintln!("tidy: {fault}");
    }
    bail!("{} faults", faults.0.len())
}

#[derive(Default)]
struct Faults(BTreeSet<String>);

impl Faults {
    fn add(&mut self, fault: String) {
        self.0.insert(fault);
    }
}

fn metadata() -> Result<Value> {
    let output =
        cargo().args(["metadata", "--format-version=1", "--no-deps", "--locked"]).output()?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).context("cargo metadata is not JSON")
}

/// Each dependency of each package: its name and whether only tests use it.
fn dependencies(metadata: &Value) -> Result<BTreeMap<String, Vec<(String, bool)>>> {
    let packages = metadata["packages"].as_array().context("metadata without packages")?;
    let mut all = BTreeMap::new();
    for package in packages {
        let name = package["name"].as_str().context("package without a name")?;
        let mut uses = Vec::new();
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let on = dependency["name"].as_str().context("dependency without a name")?;
            uses.push((on.to_owned(), dependency["kind"].as_str() == Some("dev")));
        }
        all.insert(name.to_owned(), uses);
    }
    Ok(all)
}

fn arrows(metadata: &Value, faults: &mut Faults) -> Result<()> {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    for (package, uses) in dependencies(metadata)? {
        let Some(may) = allowed.get(package.as_str()) else {
            faults.add(format!("{package}: a crate that xtask/src/tidy.rs knows no arrows of"));
            continue;
        };
        for (on, dev) in uses.iter().filter(|(on, _)| on.starts_with("strait-")) {
            let testing = *dev && (on == "strait-testkit" || package == "strait-testkit");
            if !may.contains(&on.as_str()) && !testing {
                faults.add(format!("{package} must not use {on}"));
            }
        }
    }
    Ok(())
}

/// Every dependency from outside has its line in docs/architecture.md.
fn dependencies_are_argued(metadata: &Value, faults: &mut Faults) -> Result<()> {
    let page = fs::read_to_string(root().join("docs/architecture.md"))
        .context("docs/architecture.md cannot be read")?;
    for (package, uses) in dependencies(metadata)? {
        for (on, _) in uses.iter().filter(|(on, _)| !on.starts_with("strait-")) {
            if !page.contains(&format!("`{on}`")) {
                faults
                    .add(format!("{package} uses {on}, which docs/architecture.md does not argue"));
            }
        }
    }
    Ok(())
}

fn tracked() -> Result<Vec<String>> {
    let output = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output()?;
    if !output.status.success() {
        bail!("git ls-files failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let list = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
    Ok(list.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

fn text_rules(file: &str, faults: &mut Faults) -> Result<()> {
    let path = root().join(file);
    let Ok(bytes) = fs::read(&path) else {
        return Ok(()); // removed, not yet committed
    };
    let corpus = file.contains("/corpus/");
    if bytes.contains(&0) {
        if !BINARIES.contains(&file) && !corpus {
            faults.add(format!("{file}: a binary file"));
        }
        return Ok(());
    }
    let stem = Path::new(file).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if ["utils", "util", "helpers", "helper", "manager", "misc", "common"].contains(&stem) {
        faults.add(format!("{file}: a name that says nothing"));
    }
    if !file.ends_with(".rs") {
        return Ok(());
    }
    let Ok(text) = std::str::from_utf8(&bytes) else {
        faults.add(format!("{file}: not UTF-8"));
        return Ok(());
    };
    rust_rules(file, text, faults);
    Ok(())
}

fn rust_rules(file: &str, text: &str, faults: &mut Faults) {
    let owner = file.strip_prefix("crates/").and_then(|rest| rest.split('/').next());
    let heading = text.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#!["));
    let generated = text.starts_with("// @generated");
    if !generated && !heading.is_some_and(|line| line.starts_with("//!")) {
        faults.add(format!("{file}: does not open with what it is for (`//!`)"));
    }
    let root_file = ["lib.rs", "main.rs"].iter().any(|name| file.ends_with(&format!("src/{name}")));
    let may_hold_unsafe = owner.is_some_and(|owner| UNSAFE.contains(&owner));
    if root_file && !may_hold_unsafe && !text.contains("#![forbid(unsafe_code)]") {
        faults.add(format!("{file}: lacks #![forbid(unsafe_code)]"));
    }
    let pure = owner.is_some_and(|owner| PURE.contains(&owner)) && file.contains("/src/");
    if pure {
        // What stands after the tests' mark is not part of the crate.
        let code = text.split("#[cfg(test)]").next().unwrap_or(text);
        for path in IO.iter().filter(|path| code.contains(*path)) {
            faults.add(format!("{file}: {path} in a crate that does no I/O"));
        }
    }
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("#[ignore") {
            faults.add(format!("{file}:{}: an ignored test", number + 1));
        }
    }
}

/// The documents that must be there, and links between files that lead somewhere.
fn documents(files: &[String], faults: &mut Faults) -> Result<()> {
    const REQUIRED: &[&str] = &[
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "LICENSE-MIT",
        "LICENSE-APACHE",
        "docs/architecture.md",
        "docs/threat-model.md",
        "docs/policy.md",
    ];
    for required in REQUIRED {
        if !files.iter().any(|file| file == required) {
            faults.add(format!("{required} is missing"));
        }
    }
    for file in files.iter().filter(|file| file.ends_with(".md")) {
        let Ok(text) = fs::read_to_string(root().join(file)) else { continue };
        let folder = Path::new(file).parent().unwrap_or(Path::new(""));
        for target in links(&text) {
            if !root().join(folder).join(target).exists() {
                faults.add(format!("{file}: a link to {target}, which is not there"));
            }
        }
    }
    let readme = fs::read_to_string(root().join("README.md")).unwrap_or_default();
    let ci = fs::read_to_string(root().join(".ci/run")).unwrap_or_default();
    if !(readme.contains("cargo xtask test") && ci.lines().any(|line| line == "cargo xtask test")) {
        faults.add("README.md and .ci/run do not call the same test command".to_owned());
    }
    Ok(())
}

/// The targets of Markdown links to files, without their fragments.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| {
        let target = rest.split(')').next()?.split('#').next()?;
        let elsewhere = target.is_empty() || target.contains("://") || target.contains(' ');
        (!elsewhere).then_some(target)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(file: &str, text: &str) -> Vec<String> {
        let mut faults = Faults::default();
        rust_rules(file, text, &mut faults);
        faults.0.into_iter().collect()
    }

    #[test]
    fn a_pure_crate_may_read_files_only_in_tests() {
        let head = "//! Head.\n";
        let fault = faults_of("crates/strait-bpf/src/x.rs", &format!("{head}use std::fs;\n"));
        assert_eq!(fault, ["crates/strait-bpf/src/x.rs: std::fs in a crate that does no I/O"]);
        let test = format!("{head}#[cfg(test)]\nmod tests {{ use std::fs; }}\n");
        assert!(faults_of("crates/strait-bpf/src/x.rs", &test).is_empty());
    }

    #[test]
    fn a_file_says_what_it_is_for() {
        assert_eq!(faults_of("crates/strait-cli/src/x.rs", "fn x() {}\n").len(), 1);
        assert_eq!(faults_of("crates/strait-cli/src/lib.rs", "//! Head.\n").len(), 1);
    }

    #[test]
    fn links_lead_to_files() {
        let text = "[a](docs/a.md#part) [b](https://example.org) [c](#here)";
        assert_eq!(links(text).collect::<Vec<_>>(), ["docs/a.md"]);
    }
}
