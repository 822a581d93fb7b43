//! Exact questions about conditions and chains: are there arguments of which all of this holds?

use strait_abi::AuditArch;
use strait_bpf::{Action, Answer, Builder, SeccompData, Undecided};

use crate::meaning::{gives, holds};
use crate::rules::{Chain, Condition};

/// Something that can be said of the arguments of a call.
#[derive(Clone, Copy)]
pub(crate) enum Claim<'a> {
    /// The condition holds.
    Holds(&'a Condition),
    /// The condition does not hold.
    Fails(&'a Condition),
    /// What the chain gives is an action that is wanted.
    Gives(&'a Chain, &'a dyn Fn(Action) -> bool),
}

/// The least arguments of which every claim holds; none if there are none.
pub(crate) fn satisfy(claims: &[Claim<'_>]) -> Result<Option<[u64; 6]>, Undecided> {
    let mut builder = Builder::new();
    let mut all = builder.always(true);
    for claim in claims {
        let one = match claim {
            Claim::Holds(condition) => holds(&mut builder, condition)?,
            Claim::Fails(condition) => {
                let condition = holds(&mut builder, condition)?;
                builder.not(condition)?
            }
            Claim::Gives(chain, wanted) => gives(&mut builder, chain, wanted)?,
        };
        all = builder.and(all, one)?;
    }
    let (yes, no) = (builder.action(Action::Allow), builder.action(Action::KillProcess));
    let outcome = builder.select(all, yes, no)?;
    let decision = builder.build(outcome);
    // The claims are about arguments alone: any arch and number will do.
    let base = SeccompData::new(AuditArch::from_raw(0), 0);
    Ok(match decision.answer(base.arch, base.nr) {
        Answer::Always(Action::Allow) => Some(base.args),
        Answer::Always(_) => None,
        Answer::Depends(arguments) => {
            arguments.witness(base, |action| action == Action::Allow).map(|data| data.args)
        }
    })
}

/// Whether a chain gives some call an action that is wanted.
pub(crate) fn can_give(chain: &Chain, wanted: impl Fn(Action) -> bool) -> Result<bool, Undecided> {
    if chain.arms.is_empty() {
        return Ok(wanted(chain.otherwise));
    }
    Ok(satisfy(&[Claim::Gives(chain, &wanted)])?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{Arm, Op, Test, Width};

    fn test(arg: u8, op: Op, value: u64) -> Condition {
        Condition::Test(Test::new(arg, Width::W64, u64::MAX, op, value).unwrap())
    }

    #[test]
    fn the_answer_is_the_least_arguments_or_that_there_are_none() {
        let (low, seven) = (test(0, Op::Lt, 10), test(0, Op::Eq, 7));
        let found = |claims: &[Claim<'_>]| satisfy(claims).unwrap();
        assert_eq!(found(&[]), Some([0; 6]));
        assert_eq!(found(&[Claim::Holds(&seven)]), Some([7, 0, 0, 0, 0, 0]));
        assert_eq!(found(&[Claim::Fails(&low)]), Some([10, 0, 0, 0, 0, 0]));
        assert_eq!(found(&[Claim::Holds(&seven), Claim::Fails(&low)]), None);
        let arms = vec![
            Arm { when: low.clone(), action: Action::Log },
            Arm { when: seven.clone(), action: Action::Errno(1) },
        ];
        let chain = Chain { arms, otherwise: Action::Allow };
        assert!(!can_give(&chain, |action| action == Action::Errno(1)).unwrap());
        assert!(can_give(&chain, |action| action == Action::Log).unwrap());
        assert_eq!(
            found(&[Claim::Gives(&chain, &|action| action == Action::Allow)]),
            Some([10, 0, 0, 0, 0, 0])
        );
    }
}
