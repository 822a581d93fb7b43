//! The victim: a small program whose processes the tests confine, inspect and end. What it can be
//! told to do is in `src/bin/victim.rs`.

use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The victim's program file, built when it is first asked for.
///
/// # Panics
/// If it cannot be built.
pub fn program() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(build).clone()
}

fn build() -> PathBuf {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["build", "--quiet", "--package", "strait-testkit", "--bin", "strait-victim"];
    let status = Command::new(cargo)
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(if cfg!(debug_assertions) { None } else { Some("--release") })
        .status();
    assert!(status.is_ok_and(|status| status.success()), "the victim could not be built");
    // Tests are in target/PROFILE/deps, programs in target/PROFILE.
    let test = env::current_exe().unwrap_or_default();
    let folder = test.ancestors().find(|folder| folder.join("strait-victim").exists());
    match folder {
        Some(folder) => folder.join("strait-victim"),
        None => panic!("the victim was built, but not into a folder above {}", test.display()),
    }
}
