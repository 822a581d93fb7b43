//! Tests that this machine cannot run say so by name and reason, and are listed at the end.

use std::fs::OpenOptions;
use std::io::Write;

/// Names a file to which [`skip`] adds a line; `cargo xtask test` sets it and prints the file.
pub const SKIPS: &str = "STRAIT_SKIPS";

/// Says that the test `name` does not run here, and why. The test then returns.
pub fn skip(name: &str, reason: &str) {
    let line = format!("SKIP {name}: {reason}");
    eprintln!("{line}");
    if let Some(list) = std::env::var_os(SKIPS)
        && let Ok(mut file) = OpenOptions::new().create(true).append(true).open(list)
    {
        // One write, so that lines of tests that run side by side do not mix.
        let _ = file.write_all(format!("{line}\n").as_bytes());
    }
}
