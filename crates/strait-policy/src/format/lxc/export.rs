//! A policy as a profile of LXC: version 1 if that can say it, for version 2 has all ABIs of the
//! machine alike.

use std::fmt::Write as _;

use strait_abi::Syscall;
use strait_bpf::Action;

use super::install;
use crate::format::oci::{Clause, clauses_of};
use crate::format::{Exported, FormatError, Target};
use crate::policy::Policy;
use crate::rules::Rules;

/// The policy as a profile.
///
/// A call that the format cannot describe, or not alike for all ABIs of the policy, is left to the
/// default action; that shows among the losses.
///
/// # Errors
/// If the policy has no meaning, or a default that LXC does not have.
pub fn export(policy: &Policy, target: &Target) -> Result<Exported, FormatError> {
    let rules = policy.lower()?;
    let text = match version_1(policy, &rules, target) {
        Some(text) => text,
        None => version_2(policy, &rules)?,
    };
    let (installed, ..) = install(&text, target, &mut Vec::new())?;
    Exported::new(text, &rules, &installed, &policy.architectures)
}

/// Numbers that are allowed on the machine's own ABI.
fn version_1(policy: &Policy, rules: &Rules, target: &Target) -> Option<String> {
    let arch = target.arch;
    if policy.architectures.iter().ne([arch]) || policy.default != Action::KillThread {
        return None;
    }
    let table = rules.table(arch.audit_arch())?;
    let mut text = String::from("1\nallowlist\n");
    for nr in Syscall::all().filter_map(|call| call.number(arch)) {
        let chain = table.chain(nr);
        match chain.otherwise {
            _ if !chain.arms.is_empty() => return None,
            // Writing to a string cannot fail.
            Action::Allow => drop(writeln!(text, "{nr}")),
            Action::KillThread => {}
            _ => return None,
        }
    }
    Some(text)
}

fn version_2(policy: &Policy, rules: &Rules) -> Result<String, FormatError> {
    let (kind, own) = match policy.default {
        Action::Allow => ("denylist", Action::KillThread),
        _ => ("allowlist", Action::Allow),
    };
    let default = match policy.default {
        Action::KillProcess => Some("kill".to_owned()),
        default => action_text(default),
    };
    let Some(default) = default else {
        return Err(FormatError::Inexpressible {
            what: format!("the default {}", crate::action_text(policy.default)),
            right: "LXC knows allow, errno, kill, notify and trap".to_owned(),
        });
    };
    let mut text = format!("2\n{kind} {default}\n[all]\n");
    for call in Syscall::all() {
        for (args, action) in clauses_of(call, policy, rules).unwrap_or_default() {
            let action = if action == Action::KillProcess { Action::KillThread } else { action };
            let Some(name) = action_text(action).filter(|name| *name != default) else { continue };
            let conditions: String = args.iter().map(condition).collect();
            let _ = match (action == own, conditions.is_empty()) {
                (true, true) => writeln!(text, "{}", call.name()),
                (false, true) => writeln!(text, "{} {name}", call.name()),
                (_, false) => writeln!(text, "{} {name} {conditions}", call.name()),
            };
        }
    }
    Ok(text)
}

fn condition(clause: &Clause) -> String {
    match clause.value_two {
        Some(value) => format!("[{},{value:#x},{},{:#x}]", clause.index, clause.op, clause.value),
        None => format!("[{},{},{}]", clause.index, clause.value, clause.op),
    }
}

fn action_text(action: Action) -> Option<String> {
    match action {
        Action::Allow => Some("allow".to_owned()),
        Action::Errno(errno) => Some(format!("errno {errno}")),
        Action::KillThread => Some("kill".to_owned()),
        Action::Notify => Some("notify".to_owned()),
        Action::Trap(0) => Some("trap".to_owned()),
        _ => None,
    }
}
