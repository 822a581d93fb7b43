//! Documents by path: policies, recordings and programs, or what is wrong with them, with the place.

use std::path::Path;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use anyhow::{Context, anyhow};
use strait_abi::Arch;
use strait_bpf::{ByteOrder, Program};
use strait_policy::{ParseError, Policy, Recording, Rules};

use crate::failure::Failure;
use crate::input;

/// Reads a policy, and gives its text for those who point into it.
pub fn policy_text(path: &Path) -> Result<(Policy, String), Failure> {
    let text = text(path)?;
    let policy = Policy::parse(&text)
        .map_err(|error| Failure::bad_input_report(report(&input::name(path), &text, &error)))?;
    Ok((policy, text))
}

/// Reads a policy and what it means.
pub fn policy(path: &Path) -> Result<(Policy, Rules), Failure> {
    let (policy, _) = policy_text(path)?;
    let name = input::name(path);
    let rules = policy.lower().context(name).map_err(Failure::bad_input)?;
    Ok((policy, rules))
}

/// Reads a recording.
pub fn recording(path: &Path) -> Result<Recording, Failure> {
    let text = text(path)?;
    Recording::from_json(&text).with_context(|| input::name(path)).map_err(Failure::bad_input)
}

/// Reads a program file for the arches of a policy, whose byte order it must have.
pub fn program_for(policy: &Policy, path: &Path) -> Result<Program, Failure> {
    let bytes = input::read(path)?;
    let little = policy.architectures.iter().all(Arch::is_little_endian);
    let order = if little { ByteOrder::Little } else { ByteOrder::Big };
    Program::from_bytes_in(&bytes, order)
        .with_context(|| input::name(path))
        .map_err(Failure::bad_input)
}

/// Reads a program file of either byte order.
pub fn program(path: &Path) -> Result<Program, Failure> {
    let bytes = input::read(path)?;
    Program::from_bytes(&bytes).with_context(|| input::name(path)).map_err(Failure::bad_input)
}

fn text(path: &Path) -> Result<String, Failure> {
    String::from_utf8(input::read(path)?).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::bad_input(anyhow!("{} is not UTF-8: byte {at} is wrong", input::name(path)))
    })
}

/// The error with the lines that it is about, as compilers show it.
fn report(name: &str, text: &str, error: &ParseError) -> String {
    let title = error.problem.to_string();
    let span = error.place.start..error.place.end.max(error.place.start);
    let snippet = Snippet::source(text).path(name).annotation(AnnotationKind::Primary.span(span));
    Renderer::styled().render(&[Level::ERROR.primary_title(title).element(snippet)])
}
