//! The gate: how the launcher's own exec passes rules that deny execve.
//!
//! ```text
//! before   execve: CHAIN
//! after    execve: fifth and sixth argument == token -> notify, else CHAIN
//! ```
//!
//! The kernel does not look at these arguments of execve. The token is random, for one child, and
//! known to nobody but the launcher. Its child alone is answered, and only for its own exec
//! (`strait_kernel::child`); from then on nobody holds the listener, so that even the execve with
//! the token would fail with ENOSYS, and every other execve gets exactly what the rules say.
//!
//! Rules that let every execve of the machine's own ABI pass need no gate and are left as they
//! are.

use strait_abi::{Arch, AuditArch, Syscall};
use strait_bpf::{Action, Answer, Builder, Cmp, Decision, Field, SeccompData, Undecided};
use strait_kernel::child::ExecToken;
use strait_policy::Rules;
use strait_policy::rules::{Arm, Chain, Condition, Op, Table, Test, Width};

/// The arguments that hold the token.
const ARGUMENTS: [u8; 2] = [4, 5];

/// Adds the gate to rules, for a child with this token. `None` on a machine whose ABI is not known
/// here, where nothing can be launched.
pub fn gate(rules: &Rules, token: ExecToken) -> Option<Rules> {
    let (arch, execve) = native_execve()?;
    let mut table = match rules.table(arch) {
        Some(table) => table.clone(),
        None => Table::new(rules.foreign()),
    };
    let mut words = Vec::new();
    for (argument, word) in ARGUMENTS.into_iter().zip(token.words()) {
        let test = Test::new(argument, Width::W64, u64::MAX, Op::Eq, word).ok()?;
        words.push(Condition::Test(test));
    }
    let chain = table.chain(execve);
    let arm = Arm { when: Condition::All(words), action: Action::Notify };
    let arms = std::iter::once(arm).chain(chain.arms.iter().cloned()).collect();
    let otherwise = chain.otherwise;
    table.set(execve, execve, Chain { arms, otherwise });
    Some(rules.clone().with_table(arch, table))
}

/// Whether a launcher's exec needs a gate under rules that decide so: they do not let every execve
/// of this machine's ABI pass.
pub fn is_needed(rules: &Decision) -> bool {
    native_execve().is_none_or(|(arch, execve)| {
        let actions = rules.answer(arch, execve).actions();
        !actions.into_iter().all(Action::lets_pass)
    })
}

/// The token of the gate in a decision, if it has one: the one execve that is notified, told by
/// these two arguments alone.
pub fn find(decision: &Decision) -> Result<Option<ExecToken>, Undecided> {
    let Some((arch, execve)) = native_execve() else {
        return Ok(None);
    };
    let Answer::Depends(arguments) = decision.answer(arch, execve) else {
        return Ok(None);
    };
    let call = SeccompData::new(arch, execve);
    let Some(notified) = arguments.witness(call, |action| action == Action::Notify) else {
        return Ok(None);
    };
    let token = ExecToken::from_words(ARGUMENTS.map(|index| notified.args[usize::from(index)]));
    let without = replace(decision, token, Action::Allow)?;
    let only = replace(&without, token, Action::Notify)? == *decision
        && !without.answer(arch, execve).actions().contains(&Action::Notify);
    Ok(only.then_some(token))
}

/// The decision with the gate of this token added.
pub fn add(decision: &Decision, token: ExecToken) -> Result<Decision, Undecided> {
    replace(decision, token, Action::Notify)
}

/// The decision with this action for the execve that has the token.
fn replace(decision: &Decision, token: ExecToken, action: Action) -> Result<Decision, Undecided> {
    let Some((arch, execve)) = native_execve() else {
        return Ok(decision.clone());
    };
    let mut builder = Builder::new();
    let mut call = vec![
        builder.test(Field::Arch, Cmp::Eq, arch.raw().into())?,
        builder.test(Field::Nr, Cmp::Eq, execve.into())?,
    ];
    for (argument, word) in ARGUMENTS.into_iter().zip(token.words()) {
        call.push(builder.test(Field::Arg(argument), Cmp::Eq, word)?);
    }
    let call = builder.all(call)?;
    let (then, otherwise) = (builder.action(action), builder.decision(decision)?);
    let outcome = builder.select(call, then, otherwise)?;
    Ok(builder.build(outcome))
}

/// The arch that this process calls the kernel by, and the number of execve there.
fn native_execve() -> Option<(AuditArch, u32)> {
    let arch = Arch::NATIVE?;
    Some((arch.audit_arch(), Syscall::from_name("execve")?.number(arch)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: ExecToken = ExecToken::from_words([77, u64::MAX - 5]);

    fn execve(token: ExecToken) -> SeccompData {
        let (arch, nr) = native_execve().unwrap();
        let [fifth, sixth] = token.words();
        SeccompData::new(arch, nr).with_args([1, 2, 3, 4, fifth, sixth])
    }

    #[test]
    fn only_the_execve_with_the_token_is_decided_otherwise() {
        let (arch, nr) = native_execve().unwrap();
        let mut table = Table::new(Action::Errno(1));
        table.set(nr, nr, Action::KillProcess);
        for rules in [
            Rules::new(Action::KillProcess).with_table(arch, table),
            Rules::new(Action::KillThread),
        ] {
            let before = rules.decision().unwrap();
            assert!(is_needed(&before));
            let gated = gate(&rules, TOKEN).unwrap();
            assert_eq!(gated.decide(&execve(TOKEN)), Action::Notify);
            for other in [[77, 0], [0, u64::MAX - 5], [78, u64::MAX - 5]] {
                let call = execve(ExecToken::from_words(other));
                assert_eq!(gated.decide(&call), rules.decide(&call));
            }
            // Both ways to the gated decision give the same, and it differs in this one call.
            let after = gated.decision().unwrap();
            assert_eq!(after, add(&before, TOKEN).unwrap());
            let differences = before.compare(&after).unwrap().differences;
            assert_eq!(differences.len(), 1);
            assert_eq!(differences[0].witness.args[4..], TOKEN.words());
            assert_eq!((differences[0].calls, differences[0].arches), ((nr, nr), (arch, arch)));
            assert_eq!(find(&after), Ok(Some(TOKEN)));
            assert_eq!(find(&before), Ok(None));
        }
    }

    #[test]
    fn rules_that_let_every_execve_pass_need_no_gate() {
        let (arch, nr) = native_execve().unwrap();
        let decision = |chain: Chain| {
            let mut table = Table::new(Action::Errno(1));
            table.set(nr, nr, chain);
            Rules::new(Action::KillProcess).with_table(arch, table).decision().unwrap()
        };
        assert!(!is_needed(&decision(Action::Log.into())));
        let test = Test::new(5, Width::W32, 1, Op::Eq, 0).unwrap();
        let arm = Arm { when: Condition::Test(test), action: Action::Errno(2) };
        assert!(is_needed(&decision(Chain { arms: vec![arm], otherwise: Action::Allow })));
    }

    #[test]
    fn an_execve_that_depends_on_arguments_gets_the_gate_before_its_arms() {
        let (arch, nr) = native_execve().unwrap();
        let test = Test::new(5, Width::W32, 1, Op::Eq, 0).unwrap();
        let arm = Arm { when: Condition::Test(test), action: Action::Errno(2) };
        let mut table = Table::new(Action::Allow);
        table.set(nr, nr, Chain { arms: vec![arm], otherwise: Action::Allow });
        let gated = gate(&Rules::new(Action::Allow).with_table(arch, table), TOKEN).unwrap();
        assert_eq!(gated.decide(&execve(TOKEN)), Action::Notify);
        let call = |sixth| execve(ExecToken::from_words([0, sixth]));
        assert_eq!(gated.decide(&call(0)), Action::Errno(2));
        assert_eq!(gated.decide(&call(1)), Action::Allow);
        assert_eq!(find(&gated.decision().unwrap()), Ok(Some(TOKEN)));
    }

    #[test]
    fn a_filter_that_notifies_more_of_execve_has_no_gate() {
        let (arch, nr) = native_execve().unwrap();
        let decision = |chain: Chain| {
            let mut table = Table::new(Action::Allow);
            table.set(nr, nr, chain);
            Rules::new(Action::Allow).with_table(arch, table).decision().unwrap()
        };
        assert_eq!(find(&decision(Action::Notify.into())), Ok(None));
        let test = Test::new(4, Width::W64, u64::MAX, Op::Eq, 7).unwrap();
        let arm = Arm { when: Condition::Test(test), action: Action::Notify };
        let half = Chain { arms: vec![arm], otherwise: Action::Errno(1) };
        assert_eq!(find(&decision(half)), Ok(None));
    }
}
