//! `strait sets [NAME]` and `strait schema`: what policies can name, and their form.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::anyhow;
use serde_json::json;
use strait_policy::sets::Set;

use crate::args::Sets;
use crate::failure::Failure;
use crate::output;

/// Lists the named sets, or shows one with why each call is in it.
pub fn run(args: &Sets) -> Result<ExitCode, Failure> {
    let sets: Vec<&Set> = match &args.name {
        None => Set::ALL.iter().collect(),
        Some(name) => {
            let unknown = || anyhow!("`{name}` is no known set; `strait sets` lists them");
            vec![Set::from_name(name).ok_or_else(unknown).map_err(Failure::bad_input)?]
        }
    };
    let text = if args.json {
        format!("{:#}\n", sets.iter().map(|set| data(set)).collect::<serde_json::Value>())
    } else if args.name.is_some() {
        sets.iter().map(|set| members(set)).collect()
    } else {
        sets.iter().map(|set| format!("{:<24} {}\n", set.name(), set.purpose())).collect()
    };
    output::print(text.as_bytes()).map_err(Failure::refused)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the JSON Schema of policies, for editors.
pub fn schema() -> Result<ExitCode, Failure> {
    output::print(strait_policy::schema().as_bytes()).map_err(Failure::refused)?;
    Ok(ExitCode::SUCCESS)
}

fn members(set: &Set) -> String {
    let mut text = format!("{}: {}\n", set.name(), set.purpose());
    for group in set.groups() {
        let calls: Vec<&str> = group.calls().map(|call| call.name()).collect();
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {}: {}", group.reason(), calls.join(" "));
    }
    text
}

fn data(set: &Set) -> serde_json::Value {
    let groups: Vec<_> = set
        .groups()
        .iter()
        .map(|group| {
            let calls: Vec<&str> = group.calls().map(|call| call.name()).collect();
            json!({"reason": group.reason(), "syscalls": calls})
        })
        .collect();
    json!({"name": set.name(), "purpose": set.purpose(), "groups": groups})
}
