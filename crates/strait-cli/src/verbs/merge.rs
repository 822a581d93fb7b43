//! `strait merge A B…`.

use std::process::ExitCode;

use anyhow::Context;

use crate::args::Merge;
use crate::documents::{self, Document};
use crate::failure::Failure;
use crate::{input, output};

/// Writes the policy that lets pass what any of several do, with the reasons of all.
pub fn run(args: &Merge) -> Result<ExitCode, Failure> {
    let mut merged = None;
    for path in &args.policies {
        let Document { policy, .. } = documents::document(path, &args.profile)?;
        merged = Some(match merged {
            None => policy,
            Some(before) => policy_of(&before, &policy, &input::name(path))?,
        });
    }
    let Some(policy) = merged else { return Ok(ExitCode::SUCCESS) };
    let text = if args.json { policy.to_json() } else { policy.to_string() };
    output::write(args.output.as_deref(), text.as_bytes()).map_err(Failure::refused)?;
    Ok(ExitCode::SUCCESS)
}

fn policy_of(
    before: &strait_policy::Policy,
    next: &strait_policy::Policy,
    name: &str,
) -> Result<strait_policy::Policy, Failure> {
    let with = || format!("merging {name}");
    before.merge(next).with_context(with).map_err(Failure::bad_input)
}
