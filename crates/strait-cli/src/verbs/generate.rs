//! `strait generate REC…`.

use std::process::ExitCode;

use strait_policy::{GenerateOptions, Recording, generate};

use crate::args::Generate;
use crate::documents;
use crate::failure::Failure;
use crate::input;
use crate::output;

/// Writes the least policy that permits what the recordings saw.
pub fn run(args: &Generate) -> Result<ExitCode, Failure> {
    let recordings: Vec<_> =
        args.recordings.iter().map(|path| documents::recording(path)).collect::<Result<_, _>>()?;
    let options = GenerateOptions {
        name: args.name.clone().or_else(|| name_of(recordings.first()?)),
        accept_loss: args.accept_loss,
    };
    let policy = generate(&recordings, &options).map_err(Failure::bad_input)?;
    let text = if args.json { policy.to_json() } else { policy.to_string() };
    output::write(args.output.as_deref(), text.as_bytes()).map_err(Failure::refused)?;
    for (path, recording) in args.recordings.iter().zip(&recordings) {
        for gap in recording.completeness().gaps() {
            output::say(&format!("strait: {}: {gap}", input::name(path)));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The name of what was recorded, in letters that are a name everywhere (as Kubernetes has them):
/// `/usr/bin/python3.11` is `python3-11`.
pub fn name_of(recording: &Recording) -> Option<String> {
    let program = recording.command().first()?;
    let program = program.rsplit('/').next().unwrap_or(program);
    let name: String = program
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .take(63)
        .collect();
    let name = name.trim_matches('-');
    (!name.is_empty()).then(|| name.to_owned())
}
