//! `strait generate REC…`.

use std::collections::BTreeSet;
use std::process::ExitCode;

use strait_policy::format::oci::{self, Engine, ForEngine};
use strait_policy::recording::{Phase, Run, Saturation};
use strait_policy::{GenerateOptions, Narrowing, Policy, Recording, generate};

use crate::args::{Arguments, Generate, Profile};
use crate::documents;
use crate::failure::{Failure, UNFULFILLED};
use crate::{input, output, witness};

/// Writes the least policy that permits what the recordings saw.
pub fn run(args: &Generate) -> Result<ExitCode, Failure> {
    let recordings: Vec<_> =
        args.recordings.iter().map(|path| documents::recording(path)).collect::<Result<_, _>>()?;
    let phases: BTreeSet<Phase> = match &args.phases {
        Some(phases) => phases.iter().copied().collect(),
        // What a runtime does before it loads the filter, the filter does not decide.
        None => Phase::ALL.iter().copied().filter(|&phase| phase != Phase::BeforeFilter).collect(),
    };
    let options = GenerateOptions {
        name: args.name.clone().or_else(|| name_of(recordings.first()?)),
        accept_loss: args.accept_loss,
        arguments: match args.arguments {
            Arguments::Off => Narrowing::Off,
            Arguments::Safe => Narrowing::Safe,
            Arguments::All => Narrowing::All,
        },
        exact: args.exact,
        phases: Some(phases.clone()),
    };
    let policy = generate(&recordings, &options).map_err(Failure::bad_input)?;
    let text = match args.engine {
        Some(engine) => match profile(args, engine, &policy)? {
            Some(text) => text,
            None => return Ok(ExitCode::from(UNFULFILLED)),
        },
        None if args.json => policy.to_json(),
        None => policy.to_string(),
    };
    output::write(args.output.as_deref(), text.as_bytes()).map_err(Failure::refused)?;
    for (path, recording) in args.recordings.iter().zip(&recordings) {
        for gap in recording.completeness().gaps() {
            output::say(&format!("strait: {}: {gap}", input::name(path)));
        }
    }
    let left_out = left_out(&recordings, &phases);
    if !left_out.is_empty() {
        output::say(&format!(
            "strait: left out are {} that were made in other phases alone ({}); --phases says which \
             count",
            super::record::counted(left_out.len(), "call"),
            left_out.join(", ")
        ));
    }
    let mut known = BTreeSet::new();
    let distinct = recordings.iter().filter(|recording| known.insert(recording.digest()));
    let runs: Vec<Run> = distinct.flat_map(Recording::runs).collect();
    if let Some(saturation) = Saturation::of(&runs) {
        output::say(&format!("strait: {saturation}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// The policy as a profile for an engine; none where a profile cannot say it, which is told.
fn profile(args: &Generate, engine: Engine, policy: &Policy) -> Result<Option<String>, Failure> {
    let target = documents::target(&Profile::default())?;
    let runtimes = match args.runtimes.as_slice() {
        [] => engine.runtimes(),
        runtimes => runtimes,
    };
    let ForEngine { text, losses, otherwise, .. } =
        oci::for_runtimes(policy, runtimes, &target).map_err(Failure::bad_input)?;
    for loss in &losses {
        output::say(&format!("strait: {}", witness::text(loss, "policy", engine.name())));
    }
    if !losses.is_empty() {
        output::say(
            "strait: a profile cannot say this: nothing was written (--arguments off makes a policy \
             without conditions)",
        );
        return Ok(None);
    }
    let names: Vec<&str> = runtimes.iter().map(|runtime| runtime.name()).collect();
    output::say(&format!(
        "strait: the profile has what {} needs to start a container; {}",
        names.join(" or "),
        engine.usage()
    ));
    if !otherwise.is_empty() {
        output::say(&format!(
            "strait: {} ranges of numbers that the policy denies fail by another errno (ENOSYS for newer calls), as \
             the runtime has it",
            otherwise.len()
        ));
    }
    Ok(Some(text))
}

/// The names of calls that were made in other phases and in none of these.
fn left_out(recordings: &[Recording], phases: &BTreeSet<Phase>) -> Vec<String> {
    let names = |counts: bool| -> BTreeSet<String> {
        let calls = recordings.iter().flat_map(Recording::calls);
        calls
            .filter(|call| call.phase.is_none_or(|phase| phases.contains(&phase)) == counts)
            .map(|call| call.name.clone().unwrap_or_else(|| call.nr.to_string()))
            .collect()
    };
    names(false).difference(&names(true)).cloned().collect()
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
