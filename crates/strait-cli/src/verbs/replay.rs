//! `strait replay POLICY REC…`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};
use strait_policy::log::{Log, strace};
use strait_policy::{Arguments, Attempt, Denial, Fallback, Recording, action_text, replay};

use crate::args::{Profile, Replay};
use crate::documents;
use crate::failure::{Failure, UNFULFILLED};
use crate::output::printable;
use crate::{input, output};

/// Says what a policy would have denied of what was recorded.
pub fn run(args: &Replay) -> Result<ExitCode, Failure> {
    let (_, rules) = documents::policy(&args.policy, &args.profile)?;
    let mut results = Vec::new();
    let mut denied = false;
    for path in &args.recordings {
        let Trace { attempts, gaps } = read(path, &args.profile)?;
        let denials = replay(&rules, attempts);
        denied |= !denials.is_empty();
        results.push((input::name(path), denials, gaps));
    }
    let text = if args.json {
        let results = results.iter().map(|(name, denials, gaps)| data(name, denials, gaps));
        format!("{:#}\n", results.collect::<Value>())
    } else {
        results.iter().map(|(name, denials, gaps)| text(name, denials, gaps)).collect()
    };
    output::print_styled(&text).map_err(Failure::refused)?;
    Ok(if denied { ExitCode::from(UNFULFILLED) } else { ExitCode::SUCCESS })
}

/// What was recorded, and what of it is not known.
struct Trace {
    attempts: Vec<Attempt>,
    gaps: Vec<String>,
}

/// Reads a recording, or the log of another tool; of strace's each line has its place.
fn read(path: &Path, profile: &Profile) -> Result<Trace, Failure> {
    let text = documents::text(path)?;
    let log = Log::detect(&text).filter(|_| !text.trim_start().starts_with('{'));
    if log != Some(Log::Strace) {
        let recording: Recording = documents::recording_in(path, &text)?;
        let gaps = recording.completeness().gaps();
        return Ok(Trace { attempts: recording.attempts(), gaps });
    }
    let arch = documents::target(profile)?.arch;
    let (attempts, unreadable) = strace::attempts(&text, arch);
    let gaps = match unreadable {
        0 => Vec::new(),
        lines => vec![format!("{lines} lines of strace could not be read")],
    };
    Ok(Trace { attempts, gaps })
}

fn text(name: &str, denials: &[Denial], gaps: &[String]) -> String {
    let bold = anstyle::Style::new().bold();
    let mut out = match denials.len() {
        0 => format!("{bold}{name}{bold:#}: nothing of it is denied\n"),
        1 => format!("{bold}{name}{bold:#}: one call is denied\n"),
        more => format!("{bold}{name}{bold:#}: {more} different calls are denied\n"),
    };
    for denial in denials {
        let Attempt { image, arch, line, outcomes, arguments, .. } = &denial.first;
        let image = printable(image);
        let place = line.map_or_else(String::new, |line| format!(" (first in line {line})"));
        let certain = if denial.certain { "" } else { "may be " };
        let often = if *arguments == Arguments::All { "" } else { "at most " };
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "  {image}: {} on {arch}{place}: {certain}{}, {often}{} times\n      {}",
            denial.call(),
            action_text(denial.action),
            outcomes.count,
            consequence(denial)
        );
    }
    for gap in gaps {
        let _ = writeln!(out, "  not known: {gap}");
    }
    out
}

/// What the program would have made of it.
fn consequence(denial: &Denial) -> String {
    match (denial.fallback, denial.action) {
        (Fallback::Works(how), _) => format!("it goes on: {how}"),
        (Fallback::NeedsEnosys(how), _) => {
            format!("it sees an error; with errno(ENOSYS) it would go on: {how}")
        }
        (Fallback::None, strait_bpf::Action::KillProcess) => "the process is killed".to_owned(),
        (Fallback::None, strait_bpf::Action::KillThread) => "the thread is killed".to_owned(),
        (Fallback::None, strait_bpf::Action::Trap(_)) => "it gets SIGSYS".to_owned(),
        (Fallback::None, strait_bpf::Action::Notify | strait_bpf::Action::Trace(_)) => {
            "somebody else decides; without anybody it sees ENOSYS".to_owned()
        }
        (Fallback::None, _) => "it sees an error, and no library is known to do without".to_owned(),
    }
}

fn data(name: &str, denials: &[Denial], gaps: &[String]) -> Value {
    let denials: Vec<Value> = denials
        .iter()
        .map(|denial| {
            let Attempt { image, arch, nr, args, outcomes, line, .. } = &denial.first;
            json!({
                "image": image,
                "arch": arch.name(),
                "number": nr,
                "syscall": arch.syscall(*nr).map(|call| call.name()),
                "call": denial.call(),
                "args": args,
                "line": line,
                "count": outcomes.count,
                "action": action_text(denial.action),
                "certain": denial.certain,
                "fallsBack": matches!(denial.fallback, Fallback::Works(_)),
                "consequence": consequence(denial),
            })
        })
        .collect();
    json!({"recording": name, "denials": denials, "gaps": gaps})
}
