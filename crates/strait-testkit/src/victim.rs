//! The victim: a small program whose processes the tests confine, inspect and end. What it can be
//! told to do is in `src/bin/victim.rs`.

use std::collections::BTreeMap;
use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// The victim's program file, built when it is first asked for.
///
/// # Panics
/// If it cannot be built.
pub fn program() -> PathBuf {
    built("strait-victim")
}

/// The program that counts the calls that it makes; what it can be told is in `src/bin/caller.rs`.
///
/// # Panics
/// If it cannot be built.
pub fn caller() -> PathBuf {
    built("strait-caller")
}

/// The program that goes through the stages of a workload's life with arguments that are known; what
/// it can be told is in `src/bin/stages.rs`.
///
/// # Panics
/// If it cannot be built.
pub fn stages() -> PathBuf {
    built("strait-stages")
}

/// The file of a program of this crate, built when it is first asked for.
///
/// # Panics
/// If it cannot be built.
pub(crate) fn built(name: &'static str) -> PathBuf {
    static BUILT: Mutex<BTreeMap<&str, PathBuf>> = Mutex::new(BTreeMap::new());
    // A test that failed to build it leaves nothing half done here.
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    built.entry(name).or_insert_with(|| build(name)).clone()
}

fn build(name: &str) -> PathBuf {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["build", "--quiet", "--package", "strait-testkit", "--bin", name];
    let status = Command::new(cargo)
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(if cfg!(debug_assertions) { None } else { Some("--release") })
        .status();
    assert!(status.is_ok_and(|status| status.success()), "{name} could not be built");
    // Tests are in target/PROFILE/deps, programs in target/PROFILE.
    let test = env::current_exe().unwrap_or_default();
    let folder = test.ancestors().find(|folder| folder.join(name).exists());
    match folder {
        Some(folder) => folder.join(name),
        None => panic!("{name} was built, but not into a folder above {}", test.display()),
    }
}
