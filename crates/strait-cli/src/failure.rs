//! How a verb fails: what is said on standard error, and the exit status.

use std::fmt;
use std::process::ExitCode;

/// The exit status when something was checked and does not hold.
pub const UNFULFILLED: u8 = 1;
/// The exit status for bad usage or bad input.
pub const BAD_INPUT: u8 = 2;
/// The exit status when the system refused.
pub const REFUSED: u8 = 3;
/// The exit status of `run` and `record` when Strait itself failed: the program did not run.
pub const STRAIT_FAILED: u8 = 125;

/// A failure with its exit status.
#[derive(Debug)]
pub struct Failure {
    status: u8,
    said: Said,
}

#[derive(Debug)]
enum Said {
    /// An error whose chain of causes is printed.
    Chain(anyhow::Error),
    /// A text that is complete: a report with its own snippets.
    Report(String),
}

impl Failure {
    /// Bad usage or bad input.
    pub fn bad_input(error: impl Into<anyhow::Error>) -> Failure {
        Failure { status: BAD_INPUT, said: Said::Chain(error.into()) }
    }

    /// Bad input whose report is rendered already.
    pub fn bad_input_report(report: String) -> Failure {
        Failure { status: BAD_INPUT, said: Said::Report(report) }
    }

    /// The system refused: no privilege, no kernel feature, no space.
    pub fn refused(error: impl Into<anyhow::Error>) -> Failure {
        Failure { status: REFUSED, said: Said::Chain(error.into()) }
    }

    /// A failure with a status of its own.
    pub fn with_status(status: u8, error: impl Into<anyhow::Error>) -> Failure {
        Failure { status, said: Said::Chain(error.into()) }
    }

    /// The same failure where the status of a program is passed on, so that 2 and 3 may be the
    /// program's: every failure of Strait's own is 125.
    #[must_use]
    pub fn of_launcher(mut self) -> Failure {
        if matches!(self.status, BAD_INPUT | REFUSED) {
            self.status = STRAIT_FAILED;
        }
        self
    }

    /// The exit status.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.status)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.said {
            Said::Chain(error) => write!(f, "strait: {error:#}"),
            Said::Report(report) => f.write_str(report.trim_end()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launcher_keeps_the_programs_statuses_apart_from_its_own() {
        assert_eq!(Failure::bad_input(anyhow::anyhow!("x")).of_launcher().status, STRAIT_FAILED);
        let not_found = Failure::with_status(127, anyhow::anyhow!("x"));
        assert_eq!(not_found.of_launcher().status, 127);
    }
}
