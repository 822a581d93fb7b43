//! Several workloads in one `strait record`: a recording of each, in files of one folder.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use strait_runtime::record::{SeveralRequest, Target, start_several};

use super::{choice, failure, say};
use crate::args::Record;
use crate::failure::Failure;
use crate::output;

/// A workload that runs already.
pub struct Workload {
    /// What is recorded.
    pub target: Target<'static>,
    /// What it was called on the command line, by kind and name.
    kind: &'static str,
    name: String,
}

impl Workload {
    pub fn new(target: Target<'static>, kind: &'static str, name: impl Into<String>) -> Workload {
        Workload { target, kind, name: name.into() }
    }

    /// What it is called in messages: `container web`.
    pub fn said(&self) -> String {
        format!("{} {}", self.kind, output::printable(&self.name))
    }

    /// The name of its file: `container-web.json`.
    pub fn file(&self) -> String {
        self.file_with("")
    }

    fn file_with(&self, suffix: &str) -> String {
        // A name that somebody else chose names no other folder and hides nothing.
        let plain = |char: char| char.is_ascii_alphanumeric() || "._-@".contains(char);
        let name = self.name.chars().map(|char| if plain(char) { char } else { '_' });
        let name: String = name.take(128).collect();
        format!("{}-{name}{suffix}.json", self.kind)
    }
}

/// Records them, and writes each as soon as it has ended.
pub fn record(args: &Record, workloads: &[Workload]) -> Result<ExitCode, Failure> {
    let folder = args.output.as_deref().filter(|path| *path != Path::new("-"));
    let folder = folder
        .ok_or_else(|| anyhow!("several workloads give a recording each: say -o FOLDER"))
        .map_err(Failure::bad_input)?;
    make(folder).map_err(Failure::bad_input)?;
    let files = files(folder, workloads);
    for file in &files {
        output::check(file).map_err(Failure::bad_input)?;
    }
    let targets: Vec<Target<'_>> = workloads.iter().map(|it| it.target.clone()).collect();
    let mut several = start_several(&SeveralRequest {
        targets: &targets,
        engine: choice(args.engine),
        duration: args.duration,
        ready: args.ready.clone().unwrap_or_default(),
    })
    .map_err(failure)?;
    if !args.quiet {
        let (many, folder) = (workloads.len(), folder.display());
        output::say(&format!("strait: recording {many} workloads has begun, into {folder}"));
    }
    // What can be written is, whatever became of the others.
    let mut failed = None;
    while let Some((place, recording)) = several.next_ended().map_err(failure)? {
        let file = &files[place];
        match output::write(Some(file), recording.to_json().as_bytes()) {
            Ok(()) if args.quiet => {}
            Ok(()) => say(&recording, args.engine, &format!("strait: {}: ", file.display())),
            Err(error) => {
                output::say(&format!("strait: {error:#}"));
                failed = failed.or(Some(error));
            }
        }
    }
    match failed {
        Some(error) => Err(Failure::refused(error)),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// The folder, made if it is not there.
fn make(folder: &Path) -> anyhow::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let cannot = || format!("several workloads take a folder: cannot make {}", folder.display());
    fs::create_dir(folder).with_context(cannot)
}

/// A file for each. Of those that would be called the same the second is numbered, and so on.
fn files(folder: &Path, workloads: &[Workload]) -> Vec<PathBuf> {
    let mut taken = BTreeSet::new();
    let mut file = |workload: &Workload| {
        let mut name = workload.file();
        let mut number = 2_u32;
        while !taken.insert(name.clone()) {
            name = workload.file_with(&format!("-{number}"));
            number += 1;
        }
        folder.join(name)
    };
    workloads.iter().map(&mut file).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_file_of_its_own_in_the_folder() {
        let workload =
            |kind, name: &str| Workload::new(Target::Cgroup(PathBuf::from(name)), kind, name);
        let workloads = [
            workload("cgroup", "web"),
            workload("cgroup", "web"),
            workload("container", "web"),
            workload("container", "../docker:we\nb"),
            workload("cgroup", "web-2"),
        ];
        let names: Vec<String> = files(Path::new("d"), &workloads)
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        assert_eq!(
            names,
            [
                "d/cgroup-web.json",
                "d/cgroup-web-2.json",
                "d/container-web.json",
                "d/container-.._docker_we_b.json",
                "d/cgroup-web-2-2.json",
            ]
        );
    }
}
