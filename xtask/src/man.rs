//! Man pages and completions, from the one definition of the command line in strait-cli.

use std::path::PathBuf;

use anyhow::Result;

use crate::{cargo, root, succeed};

/// `cargo xtask man [DIR]`.
pub fn run(args: &[String]) -> Result<()> {
    let dir = args.first().map_or_else(|| root().join("target/man"), PathBuf::from);
    succeed(cargo().args(["run", "--quiet", "--package", "strait-cli", "--", "man"]).arg(&dir))?;
    println!("{}", dir.display());
    Ok(())
}
