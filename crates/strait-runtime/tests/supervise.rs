//! What is loaded for a supervisor, as decisions and on the running kernel.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use strait_bpf::Action;
use strait_compiler::Options;
use strait_kernel::attack::{Attack, Attempt, Confinement, Harmless, attempt};
use strait_policy::{Policy, Rules};
use strait_runtime::supervise::{Answering, notifying};

fn rules(rules: &str) -> Rules {
    let text = format!(
        "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec:\n  architectures: [x86_64, i386]\n  \
         default: allow\n  rules: [{rules}]\n"
    );
    Policy::parse(&text).unwrap().lower().unwrap()
}

fn under(rules: &Rules, attack: Attack) -> Attempt {
    let program = strait_compiler::compile(rules, &Options::default()).unwrap().program;
    attempt(attack, Confinement { filter: Some(&program), ..Confinement::default() }).unwrap()
}

#[test]
fn only_errnos_are_the_supervisors_to_give() {
    let rules = rules(
        "{syscalls: [connect], action: errno(EPERM)}, {syscalls: [mount], action: kill-process},\
         {syscalls: [seccomp], action: errno(EPERM)}, {syscalls: [ptrace], action: log}",
    );
    let before = rules.decision().unwrap();
    let after = notifying(&rules, Answering::Enforce).decision().unwrap();
    let expected = before
        .map(|action| match action {
            Action::Errno(_) => Action::Notify,
            action => action,
        })
        .unwrap();
    assert_eq!(after, expected);
    let observed = notifying(&rules, Answering::Observe).decision().unwrap();
    let expected =
        before.map(|action| if action.lets_pass() { action } else { Action::Notify }).unwrap();
    assert_eq!(observed, expected);
}

#[test]
fn a_workload_cannot_take_the_supervisors_place() {
    let policy = rules("{syscalls: [connect], action: errno(EPERM)}");
    let attack = Attack::NestedListener(Harmless::Connect);
    // What is loaded refuses its listener, also when the supervisor is gone, as it is here.
    let loaded = notifying(&policy, Answering::Enforce);
    assert_eq!(under(&loaded, attack), Attempt::Refused { call: "seccomp", errno: 16 });
    // Without that it comes through: this is what the refusal is for.
    let bare = rules("{syscalls: [connect], action: notify}");
    assert_eq!(under(&bare, attack), Attempt::Succeeded);
    // A filter without a listener is still the workload's to load.
    let decision = loaded.decision().unwrap();
    for (arch, nr) in [(strait_abi::Arch::X86_64, 317), (strait_abi::Arch::I386, 354)] {
        let call = strait_bpf::SeccompData::new(arch.audit_arch(), nr);
        assert_eq!(decision.decide(&call.with_args([1, 1, 5, 0, 0, 0])), Action::Allow);
        assert_eq!(decision.decide(&call.with_args([1, 9, 5, 0, 0, 0])), Action::Errno(16));
        let high = 1 << 32;
        assert_eq!(
            decision.decide(&call.with_args([high | 1, high | 8, 5, 0, 0, 0])),
            Action::Errno(16)
        );
    }
}
