//! Lowering: what a policy means, as [`Rules`].
//!
//! For each ABI of the policy, and each number of a call on it, in this order:
//!
//! 1. of the rules that name the call and are for the ABI, the first whose condition holds;
//! 2. a set of `include` that has the call: allow;
//! 3. `unknown.action`, if the call is newer than `unknown.after`;
//! 4. `default`.
//!
//! A number that no known call has is newer than `unknown.after` if it is greater than every
//! number that was a call then; otherwise it is a hole, and gets `default`.
//!
//! What belongs to no ABI of the policy gets kill-process: other audit arches, numbers with the
//! x32 bit, or without it where only x32 is listed, and numbers that are negative to the kernel.

use strait_abi::{Arch, Syscall};
use strait_bpf::Action;

use crate::policy::Policy;
use crate::rules::{Chain, Rules, Table};
use crate::text::nearest;

/// Why a policy has no rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LowerError {
    /// A set that is not known.
    #[error("`{name}` is no known set{}", .nearest.as_ref().map(|name| format!("; did you mean `{name}`?")).unwrap_or_default())]
    UnknownSet {
        /// The set.
        name: String,
        /// One that it may be meant to be.
        nearest: Option<String>,
    },
}

/// What belongs to no ABI of a policy.
const FOREIGN: Action = Action::KillProcess;
/// Where numbers begin that are negative to the kernel, which has them as `int`.
const NEGATIVE: u32 = 0x8000_0000;
/// Where arm's private calls begin (`arch/arm/include/uapi/asm/unistd.h`, `__ARM_NR_BASE`).
const ARM_PRIVATE: u32 = 0x000f_0000;

impl Policy {
    /// What the policy means, for all of its ABIs.
    ///
    /// # Errors
    /// If it names something that cannot be resolved.
    pub fn lower(&self) -> Result<Rules, LowerError> {
        if let Some(name) = self.include.first() {
            let nearest = nearest(name, []);
            return Err(LowerError::UnknownSet { name: name.clone(), nearest });
        }
        let mut rules = Rules::new(FOREIGN);
        for arch in self.architectures.iter() {
            let table = rules.table(arch.audit_arch()).cloned();
            let mut table = table.unwrap_or_else(|| Table::new(FOREIGN));
            self.fill(&mut table, arch);
            rules = rules.with_table(arch.audit_arch(), table);
        }
        Ok(rules)
    }

    /// Gives every number of `arch` what the policy says of it.
    fn fill(&self, table: &mut Table, arch: Arch) {
        let (first, last) = range(arch);
        table.set(first, last, self.default);
        if let Some(unknown) = self.unknown {
            let newest_old = Syscall::all()
                .filter(|call| !is_newer(*call, unknown.after))
                .filter_map(|call| call.number(arch))
                .filter(|nr| arch != Arch::Arm || *nr < ARM_PRIVATE)
                .max();
            table.set(newest_old.map_or(first, |nr| nr + 1), last, unknown.action);
        }
        for call in Syscall::all() {
            if let Some(nr) = call.number(arch) {
                table.set(nr, nr, self.chain(call, arch));
            }
        }
    }

    /// What one call gets on one ABI.
    fn chain(&self, call: Syscall, arch: Arch) -> Chain {
        let rule = self.rules.iter().find(|rule| rule.applies_to(call, arch));
        let fallback = match self.unknown {
            Some(unknown) if is_newer(call, unknown.after) => unknown.action,
            _ => self.default,
        };
        Chain::from(rule.map_or(fallback, |rule| rule.action))
    }
}

/// The numbers that belong to an ABI, of those that its audit arch has.
fn range(arch: Arch) -> (u32, u32) {
    match arch {
        Arch::X86_64 => (0, Arch::X32_BIT - 1),
        Arch::X32 => (Arch::X32_BIT, NEGATIVE - 1),
        _ => (0, NEGATIVE - 1),
    }
}

/// Whether the call appeared in a later kernel than `after`: not known yet, so every call that has
/// a name here is taken to be old.
fn is_newer(_call: Syscall, _after: crate::policy::KernelVersion) -> bool {
    false
}
