//! What rules mean, as a [`Decision`]: read off the rules directly, on a path that shares nothing
//! with the compiler whose programs are judged by it.

use strait_bpf::{Action, Builder, Cmp, Decision, Field, Outcome, Predicate, Undecided};

use crate::Rules;
use crate::rules::{Chain, Condition, Op, Test, Width};

impl Rules {
    /// The decision that these rules are.
    ///
    /// # Errors
    /// If the conditions are too intricate for [`strait_bpf::Budget::DEFAULT`].
    pub fn decision(&self) -> Result<Decision, Undecided> {
        let mut builder = Builder::new();
        let mut outcome = builder.action(self.foreign());
        for (arch, table) in self.tables() {
            let spans = table
                .spans()
                .map(|(first, _, chain)| Ok((first.into(), decide(&mut builder, chain)?)))
                .collect::<Result<Vec<_>, Undecided>>()?;
            let nothing = builder.action(self.foreign());
            let native = builder.table(Field::Nr, nothing, &spans)?;
            let here = builder.test(Field::Arch, Cmp::Eq, arch.raw().into())?;
            outcome = builder.select(here, native, outcome)?;
        }
        Ok(builder.build(outcome))
    }
}

fn decide(builder: &mut Builder, chain: &Chain) -> Result<Outcome, Undecided> {
    let mut outcome = builder.action(chain.otherwise);
    for arm in chain.arms.iter().rev() {
        let when = holds(builder, &arm.when)?;
        let action = builder.action(arm.action);
        outcome = builder.select(when, action, outcome)?;
    }
    Ok(outcome)
}

/// Where a condition holds.
pub(crate) fn holds(builder: &mut Builder, condition: &Condition) -> Result<Predicate, Undecided> {
    Ok(match condition {
        Condition::Test(test) => compare(builder, test)?,
        Condition::All(all) => {
            let mut every = builder.always(true);
            for condition in all {
                let next = holds(builder, condition)?;
                every = builder.and(every, next)?;
            }
            every
        }
        Condition::Any(any) => {
            let mut some = builder.always(false);
            for condition in any {
                let next = holds(builder, condition)?;
                some = builder.or(some, next)?;
            }
            some
        }
        Condition::Not(condition) => {
            let condition = holds(builder, condition)?;
            builder.not(condition)?
        }
    })
}

/// Where a chain gives an action that is wanted.
pub(crate) fn gives(
    builder: &mut Builder,
    chain: &Chain,
    wanted: &dyn Fn(Action) -> bool,
) -> Result<Predicate, Undecided> {
    let mut given = builder.always(wanted(chain.otherwise));
    for arm in chain.arms.iter().rev() {
        let when = holds(builder, &arm.when)?;
        given = if wanted(arm.action) {
            builder.or(when, given)?
        } else {
            let not = builder.not(when)?;
            builder.and(not, given)?
        };
    }
    Ok(given)
}

fn compare(builder: &mut Builder, test: &Test) -> Result<Predicate, Undecided> {
    let field = match test.width() {
        Width::W32 => Field::ArgLow(test.arg()),
        Width::W64 => Field::Arg(test.arg()),
    };
    let cmp = match test.op() {
        Op::Eq => Cmp::Eq,
        Op::Ne => Cmp::Ne,
        Op::Lt => Cmp::Lt,
        Op::Le => Cmp::Le,
        Op::Gt => Cmp::Gt,
        Op::Ge => Cmp::Ge,
    };
    builder.masked(field, test.mask(), cmp, test.value())
}

#[cfg(test)]
mod tests {
    use strait_abi::Arch;
    use strait_bpf::SeccompData;

    use super::*;
    use crate::rules::{Arm, Table};

    #[test]
    fn rules_and_their_decision_say_the_same() {
        let test = |arg, width: Width, mask, op, value| {
            Condition::Test(Test::new(arg, width, mask & width.mask(), op, value).unwrap())
        };
        let chain = Chain {
            arms: vec![
                Arm {
                    when: Condition::All(vec![
                        test(0, Width::W32, u64::MAX, Op::Le, 7),
                        Condition::Not(Box::new(test(5, Width::W64, u64::MAX, Op::Eq, 1 << 40))),
                    ]),
                    action: Action::Allow,
                },
                Arm {
                    when: Condition::Any(vec![
                        test(1, Width::W64, 0xff00, Op::Ne, 0x1200),
                        test(2, Width::W32, u64::MAX, Op::Ge, 0x8000_0000),
                    ]),
                    action: Action::Errno(13),
                },
            ],
            otherwise: Action::Log,
        };
        let mut x86_64 = Table::new(Action::Errno(1));
        x86_64.set(0, 9, Action::Allow);
        x86_64.set(5, 5, chain.clone());
        x86_64.set(u32::MAX, u32::MAX, chain);
        let mut i386 = Table::new(Action::KillThread);
        i386.set(3, 4, Action::Notify);
        let rules = Rules::new(Action::KillProcess)
            .with_table(Arch::X86_64.audit_arch(), x86_64)
            .with_table(Arch::I386.audit_arch(), i386);
        let decision = rules.decision().unwrap();
        let words = [0, 7, 8, 0x1200, 0x12ff, 1 << 40, (1 << 40) + 1, 0x8000_0000, u64::MAX];
        for arch in [Arch::X86_64, Arch::I386, Arch::Arm] {
            for nr in [0, 3, 4, 5, 9, 10, u32::MAX] {
                for &a in &words {
                    for &b in &words {
                        for &c in &words {
                            let data = SeccompData::new(arch.audit_arch(), nr)
                                .with_args([a, b, c, 0, 0, a]);
                            assert_eq!(decision.decide(&data), rules.decide(&data), "{data:?}");
                        }
                    }
                }
            }
        }
    }
}
