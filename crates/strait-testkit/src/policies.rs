//! Policies that several tests confine by.

use std::collections::BTreeSet;

use strait_abi::{Arch, Syscall};
use strait_bpf::Action;
use strait_policy::Policy;
use strait_policy::policy::Rule;

/// Every call of x86_64 but these, which get this errno.
pub fn all_but(denied: &[&str], errno: u16) -> Policy {
    let mut policy = Policy::new(Arch::X86_64.into(), Action::Errno(errno));
    let calls: BTreeSet<Syscall> = Syscall::all()
        .filter(|call| call.number(Arch::X86_64).is_some())
        .filter(|call| !denied.contains(&call.name()))
        .collect();
    policy.rules.push(Rule::new(calls, Action::Allow));
    policy
}
