//! `strait step NAME`, from inside of a workload.

use std::process::ExitCode;

use strait_kernel::step::{StepError, ask};

use crate::args::Step;
use crate::failure::{Failure, UNFULFILLED};

/// Moves on to a step, with everything that runs under the same `strait run`.
pub fn run(args: &Step) -> Result<ExitCode, Failure> {
    match ask(&args.name) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error @ (StepError::Name(_) | StepError::Unknown(_))) => Err(Failure::bad_input(error)),
        Err(error @ (StepError::Past(_) | StepError::NotHeld(_))) => {
            Err(Failure::with_status(UNFULFILLED, error))
        }
        Err(error) => Err(Failure::refused(error)),
    }
}
