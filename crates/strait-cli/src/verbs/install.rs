//! `strait install`: configuration for container engines.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use strait_policy::format::Runtime;
use strait_runtime::oci::bind::BINDINGS;
use strait_runtime::oci::hook;

use super::oci_runtime::{absolute, program};
use crate::args::{Folders, Install, Installed, PodmanHook};
use crate::failure::Failure;
use crate::output;

/// The hook's file. Engines read those of a folder in the order of their names.
const FILE: &str = "strait.json";

/// Installs what is asked for.
pub fn run(args: &Install) -> Result<ExitCode, Failure> {
    match &args.what {
        Installed::PodmanHook(args) => podman_hook(args),
    }
}

fn podman_hook(args: &PodmanHook) -> Result<ExitCode, Failure> {
    let file = args.hooks_dir.join(FILE);
    if args.remove {
        return match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Failure::refused(
                anyhow::Error::new(error).context(format!("cannot remove {}", file.display())),
            )),
            _ => Ok(ExitCode::SUCCESS),
        };
    }
    let folders = &args.hook.folders;
    let mut arguments = hook_arguments(args.hook.runtime, folders)?;
    // The engine goes on where the hook fails at `precreate`; at the next stage it does not.
    arguments.push("--confirm".to_owned());
    make_folder(&args.hooks_dir, 0o755)?;
    // What containers do is nobody else's to read.
    make_folder(&folders.recordings, 0o700)?;
    let hook = hook::podman_hook(Path::new(&program()?), &arguments, args.always);
    output::write(Some(&file), format!("{hook:#}\n").as_bytes()).map_err(Failure::refused)?;
    output::say(&format!("strait: {} is written", file.display()));
    let bindings = folders.policies.join(BINDINGS);
    if !args.always && bindings.exists() {
        output::say(&format!(
            "strait: what {} binds to images holds for containers with an annotation of Strait's alone: \
             with --always it does for every container",
            bindings.display()
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// The arguments of the hook for this runtime, or for each, and these folders.
pub fn hook_arguments(runtime: Option<Runtime>, folders: &Folders) -> Result<Vec<String>, Failure> {
    let mut arguments = vec!["oci-hook".to_owned()];
    if let Some(runtime) = runtime {
        arguments.extend(["--runtime".to_owned(), runtime.to_string()]);
    }
    for (option, folder) in
        [("--policies", &folders.policies), ("--recordings", &folders.recordings)]
    {
        let folder = absolute(folder);
        let folder = folder.to_str().with_context(|| format!("{} is not UTF-8", folder.display()));
        arguments.extend([option.to_owned(), folder.map_err(Failure::bad_input)?.to_owned()]);
    }
    Ok(arguments)
}

fn make_folder(path: &Path, mode: u32) -> Result<(), Failure> {
    let made = DirBuilder::new().recursive(true).mode(mode).create(path);
    made.with_context(|| format!("cannot make {}", path.display())).map_err(Failure::refused)
}
