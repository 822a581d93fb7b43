//! No program leaves the compiler unproved.
//!
//! The proof is that two decisions are equal: the one that the rules are, read off them by
//! `strait-policy`, and the one that the program makes, by symbolic execution in `strait-bpf`.
//! Neither shares code with this crate.

use strait_abi::AuditArch;
use strait_bpf::{Action, Decision, Program, SeccompData};
use strait_policy::Rules;

use crate::{CompileError, Witness};

/// The kernel keeps answers for numbers up to the last call that an arch has, which is less.
const CACHED: u32 = 1 << 10;

/// What was proved.
pub(crate) struct Proof {
    /// What rules and programs both decide.
    pub(crate) decision: Decision,
    /// Numbers that every program const-allows, over all audit archs.
    pub(crate) const_allowed: usize,
}

/// Proves that the programs, as a stack, decide as the rules do for every input, and that every
/// unconditional allow that can be cached is.
pub(crate) fn prove(rules: &Rules, programs: &[Program]) -> Result<Proof, CompileError> {
    let intended = rules.decision()?;
    let actual = Decision::of_stack(programs)?;
    if intended != actual {
        return Err(difference(rules, programs, &intended, &actual));
    }
    let mut const_allowed = 0;
    for (arch, table) in rules.tables() {
        let allows = table
            .spans()
            .filter(|(_, _, chain)| chain.arms.is_empty() && chain.otherwise == Action::Allow);
        for (first, last, _) in allows {
            for nr in first..=last.min(CACHED - 1) {
                if !programs.iter().all(|program| program.const_allows(arch, nr)) {
                    return Err(CompileError::Uncached { arch, nr });
                }
                const_allowed += 1;
            }
        }
    }
    Ok(Proof { decision: actual, const_allowed })
}

/// The error that shows where two decisions differ.
fn difference(
    rules: &Rules,
    programs: &[Program],
    intended: &Decision,
    actual: &Decision,
) -> CompileError {
    let comparison = match intended.compare_listing(actual, 1) {
        Ok(comparison) => comparison,
        Err(undecided) => return undecided.into(),
    };
    let data = comparison
        .differences
        .first()
        .map_or(SeccompData::new(AuditArch::from_raw(0), 0), |difference| difference.witness);
    let actual = programs.iter().map(|program| program.run(&data)).min();
    let witness =
        Witness { data, intended: rules.decide(&data), actual: actual.unwrap_or(Action::Allow) };
    CompileError::Unproved { witness }
}
