//! Installed against intended: what the filters of a thread decide, and whether it is what the
//! rules say.
//!
//! Compared are decisions, over all inputs. Two things may stand between the rules and what the
//! kernel shows without being a difference: a stack may spell the same decision in any number of
//! programs, and the launcher adds its gate ([`crate::gate`]), one execve with a secret token that
//! is answered by notification. A notified call fails with ENOSYS as long as nobody holds the
//! listener, so a gate that is closed allows nothing; [`crate::listeners`] tells how far that can
//! be known.

use serde::Serialize;
use strait_abi::Arch;
use strait_bpf::{Comparison, Decision, Difference, Relation, SeccompData, Undecided};
use strait_policy::Rules;

use crate::gate;
use crate::listeners::Listeners;

/// What was intended: the decision of the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    decision: Decision,
    /// Whether a launcher adds its gate.
    gated: bool,
    /// What a launcher loads for a workload that is to move on from step to step.
    moving: Option<Decision>,
}

/// How what is installed relates to what was intended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Verdict {
    /// Every call is decided as intended.
    Holds {
        /// The launcher's gate, if the stack has it.
        gate: Option<Gate>,
    },
    /// Nothing is decided less strictly than intended, and something more strictly.
    Tighter {
        /// The launcher's gate, if the stack has it.
        gate: Option<Gate>,
        /// Where.
        differences: Differences,
    },
    /// Something is decided otherwise than intended, and not only more strictly.
    Drift {
        /// Whether a call passes that was not to pass. If not, what differs is how calls fail.
        permits_more: bool,
        /// Where.
        differences: Differences,
    },
}

impl Verdict {
    /// Whether nothing passes that was not intended to, and nothing fails otherwise than intended:
    /// it holds or is tighter.
    pub fn is_kept(&self) -> bool {
        !matches!(self, Verdict::Drift { .. })
    }
}

/// The launcher's gate in an installed stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Gate {
    /// Nobody holds a listener: the execve with the token fails with ENOSYS.
    Closed,
    /// Somebody may hold the listener, and then the execve with the token waits for an answer.
    Unknown {
        /// Why it cannot be known.
        listeners: Listeners,
    },
}

impl Gate {
    /// The gate's state where these listeners were found.
    pub(crate) fn from_listeners(listeners: Listeners) -> Gate {
        if listeners.none_is_open() { Gate::Closed } else { Gate::Unknown { listeners } }
    }
}

/// Calls that are decided otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Differences {
    /// Spans of calls, known arches first.
    pub spans: Vec<Span>,
    /// Whether that is all of them.
    pub complete: bool,
}

/// A span of consecutive numbers of one or more arches whose calls are decided otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Span {
    /// First and last audit arch.
    pub arches: [String; 2],
    /// First and last number.
    pub numbers: [u32; 2],
    /// One call of them.
    pub witness: Call,
    /// What it should get.
    pub intended: String,
    /// What it gets.
    pub installed: String,
}

/// One call, for a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Call {
    /// The audit arch.
    pub arch: String,
    /// The number.
    pub number: u32,
    /// The name, where the number has one.
    pub name: Option<String>,
    /// The arguments, in hexadecimal.
    pub arguments: [String; 6],
    /// The call as a filter sees it.
    #[serde(skip)]
    pub data: SeccompData,
}

impl Intent {
    /// What these rules intend.
    ///
    /// # Errors
    /// If their conditions are too intricate to be decided.
    pub fn new(rules: &Rules) -> Result<Intent, Undecided> {
        let decision = rules.decision()?;
        let gated = gate::is_needed(&decision);
        Ok(Intent { decision, gated, moving: None })
    }

    /// What these rules intend where a launcher adds its gate in any case.
    ///
    /// # Errors
    /// As for [`Intent::new`].
    pub fn gated(rules: &Rules) -> Result<Intent, Undecided> {
        Ok(Intent { decision: rules.decision()?, gated: true, moving: None })
    }

    /// The same, where these rules may stand in the kernel instead: those by which a supervisor is asked
    /// about whatever a later step decides otherwise ([`crate::steps::Steps::loaded`]).
    ///
    /// # Errors
    /// As for [`Intent::new`].
    pub fn or_moving(self, loaded: &Rules) -> Result<Intent, Undecided> {
        Ok(Intent { moving: Some(loaded.decision()?), ..self })
    }

    /// The decision of the rules themselves.
    pub fn decision(&self) -> &Decision {
        &self.decision
    }

    /// Whether a launcher's exec needs the gate.
    pub fn needs_gate(&self) -> bool {
        self.gated
    }

    /// Judges what is installed. `listeners` is asked only if the stack has the launcher's gate.
    ///
    /// # Errors
    /// If the comparison is too much work.
    pub fn judge(
        &self,
        installed: &Decision,
        listeners: impl FnOnce() -> Listeners,
    ) -> Result<Verdict, Undecided> {
        if let Some(moving) = &self.moving {
            let token = gate::find(installed)?;
            let gated = token.map(|token| gate::add(moving, token)).transpose()?;
            if *installed == *moving || Some(installed) == gated.as_ref() {
                return Ok(Verdict::Holds { gate: Some(Gate::from_listeners(listeners())) });
            }
        }
        if *installed == self.decision {
            return Ok(Verdict::Holds { gate: None });
        }
        let token = if self.gated { gate::find(installed)? } else { None };
        let gated = token.map(|token| gate::add(&self.decision, token)).transpose()?;
        let gate = gated.as_ref().map(|_| Gate::from_listeners(listeners()));
        let intended = gated.as_ref().unwrap_or(&self.decision);
        if installed == intended {
            return Ok(Verdict::Holds { gate });
        }
        let comparison = installed.compare(intended)?;
        let differences = Differences::new(&comparison);
        Ok(match comparison.order {
            Relation::Equal => Verdict::Holds { gate },
            Relation::Tighter => Verdict::Tighter { gate, differences },
            Relation::Looser | Relation::Incomparable => Verdict::Drift {
                permits_more: matches!(
                    comparison.allowed,
                    Relation::Looser | Relation::Incomparable
                ),
                differences,
            },
        })
    }
}

impl Differences {
    fn new(comparison: &Comparison) -> Differences {
        Differences {
            spans: comparison.differences.iter().map(Span::new).collect(),
            complete: comparison.complete,
        }
    }
}

impl Span {
    /// Of a comparison of what is installed, the first, with what was intended.
    pub fn new(difference: &Difference) -> Span {
        Span {
            arches: [difference.arches.0.to_string(), difference.arches.1.to_string()],
            numbers: [difference.calls.0, difference.calls.1],
            witness: Call::new(difference.witness),
            intended: difference.second.to_string(),
            installed: difference.first.to_string(),
        }
    }
}

impl Call {
    /// The call that a filter sees so.
    pub fn new(data: SeccompData) -> Call {
        let arch = match data.arch.arch() {
            Some(Arch::X86_64) if data.nr & Arch::X32_BIT != 0 => Some(Arch::X32),
            arch => arch,
        };
        Call {
            arch: data.arch.to_string(),
            number: data.nr,
            name: arch.and_then(|arch| arch.syscall(data.nr)).map(|call| call.name().to_owned()),
            arguments: data.args.map(|word| format!("{word:#x}")),
            data,
        }
    }
}

#[cfg(test)]
mod tests {
    use strait_bpf::Action;
    use strait_kernel::child::ExecToken;
    use strait_policy::rules::Table;

    use super::*;

    const TOKEN: ExecToken = ExecToken::from_words([1, 2]);

    fn rules(allowed: &[u32]) -> Rules {
        let mut table = Table::new(Action::Errno(1));
        for &nr in allowed {
            table.set(nr, nr, Action::Allow);
        }
        let arch = Arch::NATIVE.unwrap().audit_arch();
        Rules::new(Action::KillProcess).with_table(arch, table)
    }

    fn closed() -> Listeners {
        Listeners::default()
    }

    #[test]
    fn the_rules_and_the_rules_with_a_closed_gate_hold() {
        let intent = Intent::new(&rules(&[1, 2])).unwrap();
        let plain = intent.decision().clone();
        let unasked = || unreachable!("no gate, so no question who listens");
        assert_eq!(intent.judge(&plain, unasked), Ok(Verdict::Holds { gate: None }));
        let gated = gate::add(&plain, TOKEN).unwrap();
        assert_eq!(intent.judge(&gated, closed), Ok(Verdict::Holds { gate: Some(Gate::Closed) }));
        let held = Listeners { unreadable: 1, ..Listeners::default() };
        let verdict = intent.judge(&gated, || held.clone());
        assert_eq!(verdict, Ok(Verdict::Holds { gate: Some(Gate::Unknown { listeners: held }) }));
    }

    #[test]
    fn what_differs_is_judged_by_whether_more_passes() {
        let intent = Intent::new(&rules(&[1, 2])).unwrap();
        let installed = |rules: &Rules| gate::gate(rules, TOKEN).unwrap().decision().unwrap();
        let tighter = intent.judge(&installed(&rules(&[1])), closed).unwrap();
        let Verdict::Tighter { differences, gate: Some(Gate::Closed) } = &tighter else {
            panic!("{tighter:?}");
        };
        assert_eq!(differences.spans.len(), 1);
        assert_eq!(differences.spans[0].numbers, [2, 2]);
        assert_eq!(differences.spans[0].installed, "errno(1)");
        assert!(tighter.is_kept());

        let looser = intent.judge(&installed(&rules(&[1, 2, 3])), closed).unwrap();
        let Verdict::Drift { permits_more: true, differences } = &looser else {
            panic!("{looser:?}");
        };
        assert_eq!(differences.spans[0].witness.number, 3);
        assert!(!looser.is_kept());

        let mut other_errno = Table::new(Action::Errno(38));
        other_errno.set(1, 2, Action::Allow);
        let arch = Arch::NATIVE.unwrap().audit_arch();
        let rules = Rules::new(Action::KillProcess).with_table(arch, other_errno);
        let verdict = intent.judge(&installed(&rules), closed).unwrap();
        assert!(matches!(verdict, Verdict::Drift { permits_more: false, .. }), "{verdict:?}");

        let unconfined = intent.judge(&Decision::constant(Action::Allow), closed).unwrap();
        assert!(matches!(unconfined, Verdict::Drift { permits_more: true, .. }));
    }
}
