//! The launcher: rules made ready to be enforced, and a child that runs confined by them.
//!
//! The steps are apart, so that a recorder can attach in between:
//!
//! ```text
//! Enforcement::new(rules)      compile, prove, add the gate        nothing runs yet
//! PendingChild::fork(command)  a child that waits                  attach to its pid here
//! enforcement.start(child)     load, exec, read back, release      the program runs
//! wait::until_end(&child, …)   signals passed on, status
//! ```
//!
//! Everything that fails before the program's first instruction means that it does not run.

use std::borrow::Cow;
use std::io;

use serde::Serialize;
use strait_bpf::{Decision, Program, Undecided};
use strait_compiler::{CompileError, Options};
use strait_kernel::child::{Child, Confinement, ExecError, ExecToken, PendingChild};
use strait_kernel::dump::DumpError;
use strait_kernel::exec_stop::{SeizedChild, StoppedChild};
use strait_kernel::seccomp::LoadOptions;
use strait_kernel::watch::Watch;
use strait_policy::Rules;

use crate::exec_check::{ExecCheck, NotAllowed};
use crate::gate;
use crate::listeners::Listeners;
use crate::verdict::{Intent, Verdict};

/// Rules made ready to be enforced: compiled, proved, with the gate for a child's exec.
///
/// The token of its gate is a secret of this process: a filter cannot be read by whom it confines.
#[derive(Clone, Debug)]
pub struct Enforcement {
    program: Program,
    token: Option<ExecToken>,
    load: LoadOptions,
    intent: Intent,
    supervised: bool,
}

/// Why rules cannot be enforced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnforcementError {
    /// The compiler made no program of them.
    #[error("the policy cannot be compiled")]
    Compile(#[from] CompileError),
    /// What they decide cannot be worked out, so it could not be checked in the kernel either.
    #[error("the policy is too intricate to be checked against the kernel")]
    Undecided(#[from] Undecided),
    /// There is no token for the gate.
    #[error("the kernel gives no random numbers")]
    Random(#[source] io::Error),
    /// Strait does not know this machine's system calls.
    #[error("Strait knows no system calls of this machine's architecture")]
    UnknownArch,
}

/// Why a confined program was not started. It ran no instruction.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The child did not get to exec.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// The program may not be executed.
    #[error(transparent)]
    NotAllowed(#[from] NotAllowed),
    /// What the program executes cannot be watched.
    #[error("`exec.strict` cannot be held: the child may not be traced")]
    Unwatched(#[source] io::Error),
    /// The kernel decides otherwise than was intended.
    #[error("the installed filter does not decide as the policy, so the program was not started")]
    Drift {
        /// Where.
        verdict: Verdict,
    },
}

impl StartError {
    /// The exit status by which env(1) and container runtimes tell this: 127 not found, 126 not
    /// executable, 125 for a failure that is not the program's.
    pub fn exit_status(&self) -> u8 {
        match self {
            StartError::Exec(error) => error.exit_status(),
            StartError::NotAllowed(_) => 126,
            StartError::Unwatched(_) | StartError::Drift { .. } => 125,
        }
    }
}

/// Whether the kernel was seen to hold what was loaded, before the program's first instruction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verified", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Verified {
    /// The whole stack of filters was read back and judged: it holds or is tighter.
    Yes {
        /// How it relates to what was intended.
        #[serde(flatten)]
        verdict: Verdict,
    },
    /// The stack could not be read or decided. The filter is loaded, as the kernel said so.
    No {
        /// Why, for a person to read.
        reason: String,
    },
}

/// A program that runs confined.
#[derive(Debug)]
pub struct Started {
    /// The child.
    pub child: Child,
    /// Whether its confinement was seen in the kernel.
    pub verified: Verified,
}

impl Enforcement {
    /// Compiles rules, proves the program, and works out what must be found in the kernel.
    ///
    /// # Errors
    /// If there is no program or no way to tell what it decides.
    pub fn new(
        rules: &Rules,
        compiler: &Options,
        load: LoadOptions,
    ) -> Result<Enforcement, EnforcementError> {
        Enforcement::with(Intent::new(rules)?, rules, compiler, load, false)
    }

    /// The same for a supervisor: what the filter notifies is answered by whoever takes the
    /// child's listener ([`Child::take_listener`]). `rules` are what
    /// [`crate::supervise::notifying`] makes of a policy's.
    ///
    /// # Errors
    /// As for [`Enforcement::new`].
    pub fn supervised(
        rules: &Rules,
        compiler: &Options,
        load: LoadOptions,
    ) -> Result<Enforcement, EnforcementError> {
        // The child's exec closes its copy of the listener: by the gate it waits until there is
        // another, also where the rules let every execve pass.
        Enforcement::with(Intent::gated(rules)?, rules, compiler, load, true)
    }

    fn with(
        intent: Intent,
        rules: &Rules,
        compiler: &Options,
        load: LoadOptions,
        supervised: bool,
    ) -> Result<Enforcement, EnforcementError> {
        let (rules, token) = if intent.needs_gate() {
            let token = ExecToken::random().map_err(EnforcementError::Random)?;
            let gated = gate::gate(rules, token).ok_or(EnforcementError::UnknownArch)?;
            (Cow::Owned(gated), Some(token))
        } else {
            (Cow::Borrowed(rules), None)
        };
        let program = strait_compiler::compile(&rules, compiler)?.program;
        Ok(Enforcement { program, token, load, intent, supervised })
    }

    /// The program that is loaded.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// What the rules intend.
    pub fn intent(&self) -> &Intent {
        &self.intent
    }

    /// How a child is confined by it, for one who execs it without [`Enforcement::start`].
    pub fn confinement(&self) -> Confinement<'_> {
        Confinement {
            program: &self.program,
            options: self.load,
            gate: self.token,
            keep_listener: self.supervised,
        }
    }

    /// Loads the filter onto the child, lets it exec, reads back what the kernel holds before the
    /// first instruction of the program, and lets it run, untraced.
    ///
    /// Where the child cannot be traced it is started all the same, and [`Verified::No`] says so.
    ///
    /// # Errors
    /// Why the program was not started; the child has ended then.
    pub fn start(&self, child: PendingChild) -> Result<Started, StartError> {
        match child.seize() {
            Ok(seized) => {
                let (stopped, verified) = self.stopped(seized)?;
                Ok(Started { child: stopped.release()?, verified })
            }
            Err(refused) => {
                let verified = Verified::No { reason: reason(&refused) };
                Ok(Started { child: refused.child.exec(Some(self.confinement()))?, verified })
            }
        }
    }

    /// As [`Enforcement::start`], where the program and all that is executed from it on are to be
    /// held to a list. The first is checked here; for the rest, whoever waits attends to the watch.
    ///
    /// # Errors
    /// As well if the program may not be executed, or the child cannot be traced.
    pub fn start_watched(
        &self,
        child: PendingChild,
        check: &mut ExecCheck,
    ) -> Result<(Started, Watch), StartError> {
        let seized = child.seize().map_err(|refused| StartError::Unwatched(refused.source))?;
        let (stopped, verified) = self.stopped(seized)?;
        check.check(stopped.pid())?;
        let (child, watch) = stopped.watch()?;
        Ok((Started { child, verified }, watch))
    }

    /// Loads the filter and execs; the child stands at its program's first instruction, and what the
    /// kernel holds is what was meant.
    fn stopped(&self, seized: SeizedChild) -> Result<(StoppedChild, Verified), StartError> {
        let stopped = seized.exec(Some(self.confinement()))?;
        // A child that is at exec holds no copy of the listener, and ours is gone if there is no
        // supervisor.
        let listeners = match self.supervised {
            true => Listeners::here,
            false => Listeners::default,
        };
        let verified = self.verify(stopped.filters(), listeners)?;
        Ok((stopped, verified))
    }

    /// Judges a stack that was read from a child of this enforcement.
    ///
    /// # Errors
    /// If it decides otherwise than intended.
    pub fn verify(
        &self,
        filters: Result<Vec<Program>, DumpError>,
        listeners: impl FnOnce() -> Listeners,
    ) -> Result<Verified, StartError> {
        let filters = match filters {
            Ok(filters) => filters,
            Err(error) => return Ok(Verified::No { reason: reason(&error) }),
        };
        let judged = Decision::of_stack(&filters)
            .and_then(|installed| self.intent.judge(&installed, listeners));
        match judged {
            Ok(verdict @ Verdict::Drift { .. }) => Err(StartError::Drift { verdict }),
            Ok(verdict) => Ok(Verified::Yes { verdict }),
            Err(undecided) => Ok(Verified::No { reason: reason(&undecided) }),
        }
    }
}

/// An error and what caused it, in one line.
pub(crate) fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::path::Path;

    use rustix::process::geteuid;
    use strait_abi::Arch;
    use strait_bpf::{Action, Insn, Op};
    use strait_kernel::command::Command;
    use strait_policy::rules::Table;
    use strait_testkit::skip;

    use super::*;
    use crate::record::{self, Choice, Ready, RecordError, Request, Target};

    /// The filter that is loaded lets everything pass; that is not what was intended, and whoever
    /// starts the program finds out before it does anything.
    #[test]
    fn a_program_that_is_confined_otherwise_never_runs() {
        let test = "a_program_that_is_confined_otherwise_never_runs";
        let (true, Some(native)) = (geteuid().is_root(), Arch::NATIVE) else {
            return skip(test, "only who has CAP_SYS_ADMIN is shown a filter");
        };
        let mkdir = strait_abi::Syscall::from_name("mkdir").unwrap().number(native).unwrap();
        let mut table = Table::new(Action::Allow);
        table.set(mkdir, mkdir, Action::Errno(1));
        let rules = Rules::new(Action::KillProcess).with_table(native.audit_arch(), table);
        let mut enforcement =
            Enforcement::new(&rules, &Options::default(), LoadOptions::default()).unwrap();
        enforcement.program = Program::new(vec![Insn::from(Op::Ret(Action::Allow.raw()))]).unwrap();

        let folder = tempfile::tempdir().unwrap();
        let made = folder.path().join("made");
        let command = Command::new("/bin/mkdir".as_ref(), [OsString::from(&made)]).unwrap();
        let child = PendingChild::fork(&command).unwrap();
        let error = enforcement.start(child).unwrap_err();
        assert!(matches!(error, StartError::Drift { .. }), "{error}");
        for engine in [Choice::Ebpf, Choice::Ptrace] {
            let error = record::start(&Request {
                target: Target::Command { command: &command, enforcement: Some(&enforcement) },
                engine,
                duration: None,
                ready: Ready::default(),
            })
            .unwrap_err();
            let drift = matches!(&error, RecordError::Start(StartError::Drift { .. }));
            assert!(drift, "{engine:?}: {error}");
        }
        assert!(!Path::new(&made).exists(), "the program ran");
    }
}
