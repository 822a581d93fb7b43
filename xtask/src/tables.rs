//! `cargo xtask tables`: regenerates the tables of `strait-abi` from Debian packages, or checks
//! that they are what the generator makes.

mod constants;
mod history;
mod names;
mod numbers;
mod render;
mod signatures;
mod sources;
mod target;

use std::fs;

use anyhow::{Context, Result, bail, ensure};

use crate::root;
use sources::Sources;

/// Where the generated files are.
const FOLDER: &str = "crates/strait-abi/src/tables";

/// `cargo xtask tables [--check]`.
pub fn run(args: &[String]) -> Result<()> {
    let check = match args {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => bail!("tables takes nothing or --check, but got `{}`", args.join(" ")),
    };
    let sources = Sources::obtain()?;
    let numbers = numbers::read(&sources)?;
    let elsewhere = numbers::elsewhere(&sources, &numbers)?;
    let signatures = signatures::read(&sources, &numbers)?;
    let history = history::read(&sources, &numbers)?;
    let constants = constants::read(&sources)?;
    for (call, argument) in constants::assignments() {
        let signatures = signatures.get(call).with_context(|| format!("{call} is no call"))?;
        let mut every =
            std::iter::once(&signatures.usual).chain(signatures.others.values()).flatten();
        let takes = every.any(|parameter| names::names(call, &parameter.name).0 == argument);
        ensure!(takes, "{call} has no argument {argument}, which has constants");
    }
    let files = [
        ("constants.rs", render::constants(&constants)?),
        ("numbers.rs", render::numbers(&numbers, &history, &elsewhere)?),
        ("signatures.rs", render::signatures(&numbers, &signatures)?),
    ];

    let folder = root().join(FOLDER);
    let mut stale = Vec::new();
    for (name, text) in files {
        let path = folder.join(name);
        if check {
            let present = fs::read_to_string(&path).unwrap_or_default();
            if present != text {
                stale.push(format!("{FOLDER}/{name}{}", first_difference(&present, &text)));
            }
        } else {
            fs::write(&path, text)
                .with_context(|| format!("{} cannot be written", path.display()))?;
        }
    }
    if stale.is_empty() {
        println!(
            "tables: {} calls, {}",
            numbers.len(),
            if check { "as checked in" } else { "written" }
        );
        return Ok(());
    }
    bail!("not what `cargo xtask tables` makes:\n  {}", stale.join("\n  "))
}

fn first_difference(present: &str, made: &str) -> String {
    let line = present.lines().zip(made.lines()).position(|(present, made)| present != made);
    let line = line.unwrap_or_else(|| present.lines().count().min(made.lines().count()));
    format!(
        ":{}: has `{}`, made is `{}`",
        line + 1,
        present.lines().nth(line).unwrap_or("(end)"),
        made.lines().nth(line).unwrap_or("(end)"),
    )
}
