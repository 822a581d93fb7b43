//! Confining the calling process itself, for Rust programs that give up what they do not need.
//!
//! ```no_run
//! use strait_policy::Rules;
//! use strait_runtime::confine::{Threads, confine};
//!
//! # fn rules() -> Rules { unimplemented!() }
//! // Open files, bind sockets, start threads; then, before the first request:
//! let rules: Rules = rules();
//! let confined = confine(&rules, Threads::All)?;
//! eprintln!("confined by {} instructions", confined.program.insns().len());
//! # Ok::<(), strait_runtime::confine::ConfineError>(())
//! ```
//!
//! A filter is on threads. A program that has a thread pool or an asynchronous runtime confines
//! [`Threads::All`], at any time; or it confines [`Threads::This`] before the pool is made, as new
//! threads have the filters of the thread that makes them. What a filter denies is denied to the
//! runtime as well: a pool that grows needs clone3, a panic that prints needs write.

use strait_bpf::Program;
use strait_compiler::{CompileError, Options};
use strait_kernel::seccomp::{self, LoadError, LoadOptions};
use strait_policy::{Policy, Rules, StepError};

pub use strait_kernel::seccomp::Threads;

/// What the kernel took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confined {
    /// The program, proved to decide as the rules.
    pub program: Program,
    /// The threads that have it: with [`Threads::All`] every one, as the kernel takes all or none.
    pub threads: Threads,
}

/// Why the process is not confined. `no_new_privs` may have been set.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfineError {
    /// The compiler made no program of the rules.
    #[error("the policy cannot be compiled")]
    Compile(#[from] CompileError),
    /// The policy has no such step, or no meaning.
    #[error(transparent)]
    Step(#[from] StepError),
    /// The kernel did not take it.
    #[error("the filter could not be loaded")]
    Load(#[from] LoadError),
}

/// Moves the calling process on to a step of its policy, from the step that it is at, if it is at
/// one: what the steps on the way take away is loaded on top of what is there. It cannot be undone.
///
/// # Errors
/// Why the process stays where it was.
pub fn step(
    policy: &Policy,
    from: Option<&str>,
    to: &str,
    threads: Threads,
) -> Result<Confined, ConfineError> {
    confine(&policy.lower_between(from, to)?, threads)
}

/// Confines the calling process: from the return of this on, its calls are decided by the rules.
/// It sets `no_new_privs` and cannot be undone.
///
/// # Errors
/// Why it is not confined.
pub fn confine(rules: &Rules, threads: Threads) -> Result<Confined, ConfineError> {
    let program = strait_compiler::compile(rules, &Options::default())?.program;
    seccomp::load(&program, LoadOptions { threads, ..LoadOptions::default() })?;
    Ok(Confined { program, threads })
}
