//! What stands behind options: the words that can be chosen, and names, times and processes.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use rustix::process::Pid;
use strait_abi::{KernelVersion, Syscall};
use strait_policy::format::{Format, Runtime};
use strait_policy::recording::Phase;
use strait_runtime::record::Ready;

/// Which calls the runtime's libseccomp knows by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// Those that the library on this machine knows.
    Installed,
    /// Those of this kernel.
    Kernel(KernelVersion),
}

impl std::str::FromStr for Library {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "installed" => Ok(Library::Installed),
            _ => text.parse().map(Library::Kernel).map_err(|error| {
                format!("{error}, or `installed` for the library on this machine")
            }),
        }
    }
}

/// Who observes a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// The best that this system and its privileges allow
    Auto,
    /// eBPF on the kernel's raw tracepoints (needs CAP_BPF and CAP_PERFMON)
    Ebpf,
    /// seccomp user notification (needs nothing; commands only; sees no results)
    Notify,
    /// ptrace (needs nothing; slow)
    Ptrace,
    /// Audit records of every call (needs CAP_AUDIT_READ; commands only; sees no results)
    Audit,
}

/// Who observes the runs of `tighten`: those that see what a filter denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TightenEngine {
    /// The best that this system and its privileges allow
    Auto,
    /// eBPF on the kernel's raw tracepoints (needs CAP_BPF and CAP_PERFMON)
    Ebpf,
    /// ptrace (needs nothing; slow)
    Ptrace,
}

/// The forms that findings can be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FindingFormat {
    /// With the lines that they are about, for people
    Text,
    /// One object each
    Json,
    /// SARIF 2.1.0, for code scanning
    Sarif,
}

/// From which severity on findings are a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Deny {
    /// Whatever was found
    Note,
    /// Warnings and errors
    Warning,
    /// Errors
    Error,
}

/// Which arguments a generated policy narrows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Arguments {
    /// None: each call is allowed with any arguments
    Off,
    /// Those that do not differ from run to run: domains, ioctl and prctl commands, namespaces
    Safe,
    /// All flags, commands, domains, options and signals: another run may need others
    All,
}

/// The forms that a program can be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProgramFormat {
    /// The array of `struct sock_filter` that the kernel takes
    Bpf,
    /// The same in hexadecimal, an instruction a line
    Hex,
    /// The text that a C array initialiser takes
    C,
    /// The text that a Rust array takes
    Rust,
    /// The instructions as JSON
    Json,
    /// libseccomp's pseudo filter code
    Pfc,
}

/// What a policy is proved against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A program file.
    File(PathBuf),
    /// What the kernel holds for this process.
    Pid(Pid),
}

impl std::str::FromStr for Subject {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("pid:") {
            None => Ok(Subject::File(text.into())),
            Some(number) => pid(number).map(Subject::Pid),
        }
    }
}

/// The formats by name, so that help and completions list them.
pub(super) fn format() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new(Format::ALL.iter().map(|format| format.name()))
        .try_map(|name| name.parse::<Format>())
}

/// The runtimes by name.
pub(super) fn runtime() -> impl TypedValueParser<Value = Runtime> {
    PossibleValuesParser::new(Runtime::ALL.iter().map(|runtime| runtime.name()))
        .try_map(|name| name.parse::<Runtime>())
}

/// Reads `NAME=PATH`.
pub(super) fn named_file(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            Ok((name.to_owned(), path.into()))
        }
        _ => Err(format!("`{text}` is not NAME=PATH")),
    }
}

/// Reads the name of a phase.
pub(super) fn phase(text: &str) -> Result<Phase, String> {
    Phase::ALL.iter().copied().find(|phase| phase.name() == text).ok_or_else(|| {
        let known: Vec<&str> = Phase::ALL.iter().map(|phase| phase.name()).collect();
        format!("no phase is called `{text}`; there are {}", known.join(", "))
    })
}

/// Reads when a workload is ready: names of calls, or a time.
pub(super) fn ready(text: &str) -> Result<Ready, String> {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return duration(text).map(Ready::After);
    }
    let call = |name: &str| {
        Syscall::from_name(name).ok_or_else(|| format!("no system call is called `{name}`"))
    };
    text.split(',').map(call).collect::<Result<_, _>>().map(Ready::Calls)
}

/// Reads a process id, which is greater than 0.
pub(super) fn pid(text: &str) -> Result<Pid, String> {
    let pid = text.parse().ok().filter(|&pid| pid > 0).and_then(Pid::from_raw);
    pid.ok_or_else(|| format!("`{text}` is no process id"))
}

/// Reads `500ms`, `90s`, `5m`, `1h`, or a bare number of seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale_ms = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(format!("`{unit}` is no unit of time; write 500ms, 90s, 5m or 1h")),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(scale_ms))
        .map(Duration::from_millis)
        .ok_or_else(|| "write a time such as 500ms, 90s, 5m or 1h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_units() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2"), Ok(Duration::from_secs(2)));
        assert!(duration("2 weeks").is_err());
        assert!(duration("s").is_err());
        assert!(duration("99999999999999999999h").is_err());
    }

    #[test]
    fn readiness_is_a_call_or_a_time() {
        assert_eq!(ready("2s"), Ok(Ready::After(Duration::from_secs(2))));
        let calls = ["listen", "pause"].map(|name| Syscall::from_name(name).unwrap());
        assert_eq!(ready("listen,pause"), Ok(Ready::Calls(calls.to_vec())));
        assert!(ready("listen,nothing").is_err());
        assert_eq!(phase("start-up"), Ok(Phase::StartUp));
        assert!(phase("afterlife").unwrap_err().contains("before-filter"));
    }

    #[test]
    fn a_subject_is_a_file_or_a_process() {
        assert_eq!("pid:1".parse(), Ok(Subject::Pid(Pid::INIT)));
        assert_eq!("x.bpf".parse(), Ok(Subject::File("x.bpf".into())));
        assert!("pid:x".parse::<Subject>().is_err());
        assert!("pid:-1".parse::<Subject>().is_err());
        assert!("pid:0".parse::<Subject>().is_err());
    }
}
