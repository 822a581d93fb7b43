//! How many instructions filters execute.

use std::ops::RangeInclusive;

use strait_abi::AuditArch;

use crate::{Answer, Decision, Program, SeccompData};

/// Executed instructions over a distribution of calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Executed instructions, each call's times its weight.
    pub executed: u128,
    /// The sum of the weights.
    pub weight: u128,
    /// The most that any call took.
    pub worst: u32,
}

impl Cost {
    /// Executed instructions per call; 0 without any.
    pub fn mean(&self) -> f64 {
        if self.weight == 0 {
            return 0.0;
        }
        // Nobody needs more than the 53 bits that are left of each.
        self.executed as f64 / self.weight as f64
    }
}

impl Program {
    /// What these calls cost, each counted as often as its weight says.
    ///
    /// Calls that the kernel answers from its bitmap ([`Program::const_allows`]) cost nothing
    /// there; leave them out, or give them no weight, to count only the others.
    pub fn cost(&self, calls: impl IntoIterator<Item = (SeccompData, u64)>) -> Cost {
        calls.into_iter().fold(Cost::default(), |cost, (data, weight)| {
            let executed = self.run_counting(&data).executed;
            Cost {
                executed: cost.executed + u128::from(executed) * u128::from(weight),
                weight: cost.weight + u128::from(weight),
                worst: cost.worst.max(executed),
            }
        })
    }
}

impl Decision {
    /// One call that passes, for each number in `numbers` that can pass: with the least arguments
    /// that do. With weight 1 each, they are the uniform distribution over allowed calls.
    pub fn passing(
        &self,
        arch: AuditArch,
        numbers: RangeInclusive<u32>,
    ) -> impl Iterator<Item = SeccompData> + '_ {
        let (first, last) = numbers.into_inner();
        self.calls(arch)
            .skip_while(move |span| span.last < first)
            .take_while(move |span| span.first <= last)
            .flat_map(move |span| {
                let least = match &span.answer {
                    Answer::Always(action) => {
                        action.lets_pass().then(|| SeccompData::new(arch, span.first))
                    }
                    Answer::Depends(arguments) => arguments
                        .witness(SeccompData::new(arch, span.first), |action| action.lets_pass()),
                };
                let span = span.first.max(first)..=span.last.min(last);
                least
                    .into_iter()
                    .flat_map(move |least| span.clone().map(move |nr| SeccompData { nr, ..least }))
            })
    }
}

#[cfg(test)]
mod tests {
    use strait_abi::Arch;

    use super::*;
    use crate::{Insn, Jump, Op, Operand};

    #[test]
    fn costs_are_weighted() {
        // 2 and 3 pass; 4 passes with an argument above 9.
        let ops = [
            Op::Load(0),
            Op::Branch { test: Jump::Eq, operand: Operand::K(2), jt: 5, jf: 0 },
            Op::Branch { test: Jump::Eq, operand: Operand::K(3), jt: 4, jf: 0 },
            Op::Branch { test: Jump::Eq, operand: Operand::K(4), jt: 0, jf: 2 },
            Op::Load(16),
            Op::Branch { test: Jump::Gt, operand: Operand::K(9), jt: 1, jf: 0 },
            Op::Ret(0),
            Op::Ret(0x7fff_0000),
        ];
        let program = Program::new(ops.into_iter().map(Insn::from).collect()).unwrap();
        let decision = Decision::of(&program).unwrap();
        let calls: Vec<SeccompData> =
            decision.passing(Arch::X86_64.audit_arch(), 0..=1000).collect();
        let seen: Vec<_> = calls.iter().map(|call| (call.nr, call.args[0])).collect();
        assert_eq!(seen, [(2, 0), (3, 0), (4, 10)]);
        let cost = program.cost(calls.into_iter().zip([2, 1, 1]));
        assert_eq!(cost, Cost { executed: 2 * 3 + 4 + 7, weight: 4, worst: 7 });
        assert_eq!(decision.passing(Arch::X86_64.audit_arch(), 3..=3).count(), 1);
    }
}
