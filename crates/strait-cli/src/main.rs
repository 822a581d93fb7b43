//! The `strait` command: arguments in, rendering out; what it does is in the libraries.
#![forbid(unsafe_code)]

mod args;
mod containers;
mod denials;
mod diagnostics;
mod documents;
mod failure;
mod input;
mod libseccomp;
mod output;
mod progress;
mod supervisor;
mod verbs;
mod witness;

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use args::{Cli, Verb};
use failure::STRAIT_FAILED;

fn main() -> ExitCode {
    let cli = match Cli::try_parse_from(as_called(std::env::args_os().collect())) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let result = match cli.verb {
        Verb::Record(args) => verbs::record::run(&args),
        Verb::Generate(args) => verbs::generate::run(&args),
        Verb::Check(args) => verbs::check::run(&args),
        Verb::ExplainCode(args) => verbs::explain_code::run(&args),
        Verb::Explain(args) => verbs::explain::run(&args),
        Verb::Diff(args) => verbs::diff::run(&args),
        Verb::Merge(args) => verbs::merge::run(&args),
        Verb::Replay(args) => verbs::replay::run(&args),
        Verb::Score(args) => verbs::score::run(&args),
        Verb::Sets(args) => verbs::sets::run(&args),
        Verb::Schema => verbs::sets::schema(),
        Verb::Convert(args) => verbs::convert::run(&args),
        Verb::Compile(args) => verbs::compile::run(&args),
        Verb::Disasm(args) => verbs::disasm::run(&args),
        Verb::Prove(args) => verbs::prove::run(&args),
        Verb::Tighten(args) => verbs::tighten::run(&args),
        Verb::Run(args) => verbs::run::run(&args),
        Verb::Step(args) => verbs::step::run(&args),
        Verb::Inspect(args) => verbs::inspect::run(&args),
        Verb::Containers(args) => verbs::containers::run(&args),
        Verb::Report(args) => verbs::report::run(&args),
        Verb::Verify(args) => verbs::verify::run(&args),
        Verb::Attack(args) => verbs::attack::run(&args),
        Verb::OciRuntime(args) => verbs::oci_runtime::run(&args),
        Verb::OciHook(args) => verbs::oci_hook::run(&args),
        Verb::Nri(args) => verbs::nri::run(&args),
        Verb::OciRecorder(args) => verbs::oci_recorder::run(&args),
        Verb::OciSupervisor(args) => verbs::oci_supervisor::run(&args),
        Verb::Install(args) => verbs::install::run(&args),
        Verb::Completions(args) => verbs::completions::run(&args),
        Verb::Man(args) => verbs::man::run(&args),
    };
    result.unwrap_or_else(|failure| {
        output::say(&failure.to_string());
        failure.exit_code()
    })
}

/// What was meant where engines take nothing but the path of a program: called `strait-oci` it is `strait
/// oci-runtime`, and called `strait-oci-crun` it is that with `--runtime crun`. Started as a plugin, by a
/// name such as `90-strait`, it is `strait nri`.
fn as_called(arguments: Vec<OsString>) -> Vec<OsString> {
    let name = arguments.first().and_then(|path| Path::new(path).file_name()?.to_str());
    let is_plugin = |name: &str| matches!(name.as_bytes(), [b'0'..=b'9', b'0'..=b'9', b'-', ..]);
    if arguments.len() == 1
        && name.is_some_and(is_plugin)
        && std::env::var_os(verbs::nri::GIVEN).is_some()
    {
        return ["strait", "nri"].map(OsString::from).to_vec();
    }
    let Some(rest) = name.and_then(|name| name.strip_prefix("strait-oci")) else {
        return arguments;
    };
    let runtime = match rest.strip_prefix('-') {
        None if rest.is_empty() => "runc",
        Some(runtime) if !runtime.is_empty() => runtime,
        _ => return arguments,
    };
    let words = ["strait", "oci-runtime", "--runtime", runtime, "--"].map(OsString::from);
    words.into_iter().chain(arguments.into_iter().skip(1)).collect()
}

/// Help and version are no failures; the rest is bad usage, which for `run` and `record` must not
/// be taken for the status of the program.
fn usage(error: &clap::Error) -> ExitCode {
    let printed = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => match printed {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                output::say(&format!("strait: cannot write to standard output: {error}"));
                ExitCode::from(failure::REFUSED)
            }
            _ => ExitCode::SUCCESS,
        },
        // Nothing can be said where standard error is closed.
        _ => {
            let verb = std::env::args_os().nth(1);
            let launches =
                verb.is_some_and(|verb| verb == "run" || verb == "record" || verb == "oci-runtime");
            ExitCode::from(if launches { STRAIT_FAILED } else { failure::BAD_INPUT })
        }
    }
}
