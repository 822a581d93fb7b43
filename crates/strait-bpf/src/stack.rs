//! Several filters on one thread: which of them answers.
//!
//! The kernel runs every filter for every call that its cache does not answer, the newest first,
//! and takes the most restrictive action (`seccomp_run_filters` in `kernel/seccomp.c`). So a newer
//! filter, such as one that the workload installs on itself, can answer a call with errno, trap or
//! kill before an older filter's notify, trace or log ever shows: whoever supervises the older one
//! does not see the call. What a newer filter hides of an older one are the differences between
//! the older one's [`Decision`] and the stack's:
//!
//! ```
//! use strait_bpf::{Action, Decision, Program};
//!
//! let supervised = Decision::of(&Program::assemble("ret notify")?)?;
//! let own = Decision::of(&Program::assemble("ld [nr]\njeq #59, next, l\nret errno(1)\nl: ret allow")?)?;
//! let hidden = supervised.compare(&supervised.under(&own)?)?;
//! assert!(hidden.differences.iter().all(|d| d.first == Action::Notify && d.witness.nr == 59));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::{Action, Program, SeccompData};

/// How a stack of filters answered a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// What the kernel does.
    pub action: Action,
    /// The value that was returned.
    pub raw: u32,
    /// The filter that returned it, counted from the oldest, 0; its listener is asked on a notify.
    /// `None` if all allowed the call, or there are none.
    pub filter: Option<usize>,
}

/// Runs a stack of filters, the oldest first as `PTRACE_SECCOMP_GET_FILTER` counts them.
pub fn run_stack(stack: &[Program], data: &SeccompData) -> Answered {
    let mut raw = Action::Allow.raw();
    let mut filter = None;
    for (index, program) in stack.iter().enumerate().rev() {
        let one = program.run_raw(data);
        if rank(one) < rank(raw) {
            raw = one;
            filter = Some(index);
        }
    }
    Answered { action: Action::from_raw(raw), raw, filter }
}

/// What a return value is ordered by in a stack: the number of its action, known or not, as signed
/// (`ACTION_ONLY`). Lower wins, and of the same the newest.
pub(crate) const fn rank(raw: u32) -> i32 {
    (raw & 0xffff_0000).cast_signed()
}

#[cfg(test)]
mod tests {
    use strait_abi::AuditArch;

    use super::*;

    #[test]
    fn the_newest_of_the_strictest_answers() {
        let data = SeccompData::new(AuditArch::from_raw(0), 0);
        let run = |texts: &[&str]| {
            let stack: Vec<Program> =
                texts.iter().map(|text| Program::assemble(text).unwrap()).collect();
            let Answered { action, filter, .. } = run_stack(&stack, &data);
            (action, filter)
        };
        assert_eq!(run(&[]), (Action::Allow, None));
        assert_eq!(run(&["ret allow", "ret #0x7fff0001"]), (Action::Allow, None));
        assert_eq!(run(&["ret errno(1)", "ret errno(2)"]), (Action::Errno(2), Some(1)));
        assert_eq!(run(&["ret errno(1)", "ret notify"]), (Action::Errno(1), Some(0)));
        assert_eq!(run(&["ret notify", "ret errno(1)"]), (Action::Errno(1), Some(1)));
        assert_eq!(run(&["ret #0x10000", "ret kill-thread"]), (Action::KillThread, Some(1)));
    }
}
