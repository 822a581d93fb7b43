//! Modes of enforcement other than to enforce.

use strait_bpf::Action;
use strait_policy::Rules;
use strait_policy::rules::{Arm, Chain, Table};

/// Rules that let every call pass and have the kernel log those that `rules` would not let pass.
///
/// The kernel's log alone is no account of what would be denied: it drops most of what comes fast.
/// Count by recording the run, and compare the recording with `rules`.
pub fn log(rules: &Rules) -> Rules {
    map_actions(rules, |action| if action.lets_pass() { action } else { Action::Log })
}

/// The rules with every action replaced.
pub(crate) fn map_actions(rules: &Rules, to: impl Fn(Action) -> Action) -> Rules {
    let mapped = Rules::new(to(rules.foreign()));
    rules.tables().fold(mapped, |mapped, (arch, table)| {
        let mut new = Table::new(to(rules.foreign()));
        for (first, last, chain) in table.spans() {
            let arms = chain.arms.iter();
            let arms = arms.map(|arm| Arm { when: arm.when.clone(), action: to(arm.action) });
            new.set(first, last, Chain { arms: arms.collect(), otherwise: to(chain.otherwise) });
        }
        mapped.with_table(arch, new)
    })
}

#[cfg(test)]
mod tests {
    use strait_abi::Arch;
    use strait_policy::rules::{Condition, Op, Test, Width};

    use super::*;
    use crate::gate;

    #[test]
    fn what_passes_stays_and_everything_else_is_logged() {
        let arch = Arch::X86_64.audit_arch();
        let test = Test::new(0, Width::W32, 7, Op::Eq, 3).unwrap();
        let arm = Arm { when: Condition::Test(test), action: Action::KillProcess };
        let mut table = Table::new(Action::Errno(1));
        table.set(5, 9, Action::Allow);
        table.set(6, 6, Chain { arms: vec![arm], otherwise: Action::Allow });
        let rules = Rules::new(Action::KillProcess).with_table(arch, table);
        let logged = log(&rules).decision().unwrap();
        let expected = rules
            .decision()
            .unwrap()
            .map(|action| if action == Action::Allow { action } else { Action::Log });
        assert_eq!(logged, expected.unwrap());
        assert!(!gate::is_needed(&logged));
    }
}
