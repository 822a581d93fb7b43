//! The gate: how the launcher's own exec passes rules that deny execve.
//!
//! ```text
//! before   execve: CHAIN
//! after    execve: sixth argument == EXEC_MARKER -> notify, else CHAIN
//! ```
//!
//! The launcher's child alone is answered while the listener is open, and its own exec is the only
//! one that is let pass (`strait_kernel::child`). From then on nobody holds a listener, and an
//! execve that carries the marker fails with ENOSYS. The kernel does not look at the sixth
//! argument of execve, so no program needs the marker, and every other execve gets exactly what
//! the rules say.
//!
//! Rules that let every execve of the machine's own ABI pass need no gate and are left as they
//! are.

use strait_abi::{Arch, AuditArch, Syscall};
use strait_bpf::Action;
use strait_kernel::child::EXEC_MARKER;
use strait_policy::Rules;
use strait_policy::rules::{Arm, Chain, Condition, Op, Table, Test, Width};

/// Rules that a launcher can load before its exec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gated {
    /// The rules, with the gate if there is one.
    pub rules: Rules,
    /// Whether there is one.
    pub gate: bool,
}

/// The arch that this process calls the kernel by, and the number of execve there.
pub(crate) fn native_execve() -> Option<(AuditArch, u32)> {
    let arch = Arch::NATIVE?;
    Some((arch.audit_arch(), Syscall::from_name("execve")?.number(arch)?))
}

/// Adds the gate to rules that need one; `None` on a machine whose ABI is not known here.
pub fn gate(rules: &Rules) -> Option<Gated> {
    let (arch, execve) = native_execve()?;
    let mut table = match rules.table(arch) {
        Some(table) => table.clone(),
        None => Table::new(rules.foreign()),
    };
    let chain = table.chain(execve);
    if always_passes(chain) {
        return Some(Gated { rules: rules.clone(), gate: false });
    }
    let marked = Test::new(5, Width::W64, u64::MAX, Op::Eq, EXEC_MARKER).ok()?;
    let arm = Arm { when: Condition::Test(marked), action: Action::Notify };
    let arms = std::iter::once(arm).chain(chain.arms.iter().cloned()).collect();
    let otherwise = chain.otherwise;
    table.set(execve, execve, Chain { arms, otherwise });
    Some(Gated { rules: rules.clone().with_table(arch, table), gate: true })
}

fn always_passes(chain: &Chain) -> bool {
    chain.otherwise.lets_pass() && chain.arms.iter().all(|arm| arm.action.lets_pass())
}

#[cfg(test)]
mod tests {
    use strait_bpf::SeccompData;

    use super::*;

    fn execve(marker: u64) -> SeccompData {
        let (arch, nr) = native_execve().unwrap();
        SeccompData::new(arch, nr).with_args([1, 2, 3, 4, 5, marker])
    }

    #[test]
    fn only_the_marked_execve_is_decided_otherwise() {
        let (arch, nr) = native_execve().unwrap();
        let mut table = Table::new(Action::Errno(1));
        table.set(nr, nr, Action::KillProcess);
        for rules in [
            Rules::new(Action::KillProcess).with_table(arch, table),
            Rules::new(Action::KillThread),
        ] {
            let gated = gate(&rules).unwrap();
            assert!(gated.gate);
            assert_eq!(gated.rules.decide(&execve(EXEC_MARKER)), Action::Notify);
            let (before, after) = (rules.decision().unwrap(), gated.rules.decision().unwrap());
            let differences = before.compare(&after).unwrap().differences;
            assert_eq!(differences.len(), 1);
            assert_eq!(differences[0].witness.args[5], EXEC_MARKER);
            assert_eq!((differences[0].calls, differences[0].arches), ((nr, nr), (arch, arch)));
            assert_eq!(rules.decide(&execve(0)), gated.rules.decide(&execve(0)));
        }
    }

    #[test]
    fn rules_that_let_execve_pass_stay_as_they_are() {
        let (arch, _) = native_execve().unwrap();
        let rules = Rules::new(Action::KillProcess).with_table(arch, Table::new(Action::Log));
        assert_eq!(gate(&rules), Some(Gated { rules, gate: false }));
    }

    #[test]
    fn an_execve_that_depends_on_arguments_gets_the_gate_before_its_arms() {
        let (arch, nr) = native_execve().unwrap();
        let test = Test::new(5, Width::W32, 1, Op::Eq, 0).unwrap();
        let arm = Arm { when: Condition::Test(test), action: Action::Errno(2) };
        let mut table = Table::new(Action::Allow);
        table.set(nr, nr, Chain { arms: vec![arm], otherwise: Action::Allow });
        let gated = gate(&Rules::new(Action::Allow).with_table(arch, table)).unwrap();
        assert_eq!(gated.rules.decide(&execve(EXEC_MARKER)), Action::Notify);
        assert_eq!(gated.rules.decide(&execve(0)), Action::Errno(2));
        assert_eq!(gated.rules.decide(&execve(1)), Action::Allow);
    }
}
