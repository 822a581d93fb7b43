//! A policy as a unit: the settings that load the filters which come nearest to it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use strait_abi::{Arch, Syscall};
use strait_bpf::{Action, Difference, SeccompData};

use super::group;
use super::install::local_arches;
use super::settings::{NAMESPACES, Reader, arch_name, domains, errno_text};
use super::{install, unit};
use crate::format::loss::compare;
use crate::format::{Exported, FormatError, Target};
use crate::policy::Policy;
use crate::rules::Rules;

/// The policy as a drop-in for a unit that starts a service.
///
/// Conditions on arguments are said by the settings that have them, if that brings the unit nearer
/// to the policy; a call that stays out of reach is refused, and listed as a loss.
///
/// # Errors
/// If the policy has no meaning.
pub fn export(policy: &Policy, target: &Target) -> Result<Exported, FormatError> {
    let rules = policy.lower()?;
    let mut drafts = Drafts { policy, target, rules: &rules };
    let mut draft = drafts.first();
    let (mut unit, mut losses) = drafts.try_out(&draft)?;
    for add in [
        Drafts::families,
        Drafts::namespaces,
        Drafts::memory_deny_write_execute,
        Drafts::restrict_realtime,
        Drafts::lock_personality,
        Drafts::restrict_suid_sgid,
    ] {
        let Some(next) = add(&mut drafts, &draft) else { continue };
        let (text, left) = drafts.try_out(&next)?;
        if left.len() < losses.len() {
            (draft, unit, losses) = (next, text, left);
        }
    }
    let installed = install(&unit, target)?;
    Exported::new(unit, &rules, &installed, &policy.architectures)
}

fn install(unit: &str, target: &Target) -> Result<Rules, FormatError> {
    let mut notes = Vec::new();
    let assignments = unit::read(unit, &mut notes).map_err(|fault| fault.in_text(unit))?;
    let mut reader =
        Reader { arch: target.arch, library: target.library, notes: &mut notes, expanded: 0 };
    let settings = reader.settings(&assignments).map_err(|fault| fault.in_text(unit))?;
    Ok(install::rules(&settings, target.arch, target.library))
}

/// What a unit says.
#[derive(Clone, Debug, Default)]
struct Draft {
    /// Calls that get something other than the default.
    calls: BTreeSet<(&'static str, Action)>,
    /// Other assignments.
    settings: Vec<String>,
}

struct Drafts<'a> {
    policy: &'a Policy,
    target: &'a Target,
    rules: &'a Rules,
}

impl Drafts<'_> {
    /// What can be said of calls whatever their arguments. A name stands for its call on every
    /// ABI, so it is let through only if every one of the policy's ABIs lets it.
    fn first(&self) -> Draft {
        let mut draft = Draft::default();
        for call in Syscall::all() {
            let actions: Option<BTreeSet<Action>> = self
                .chains(call)
                .map(|chain| chain.arms.is_empty().then_some(chain.otherwise))
                .collect();
            let Some(actions) = actions else {
                // Refused, until a setting says better.
                if self.default().lets_pass() {
                    let every = self.chains(call).flat_map(|chain| {
                        chain.arms.iter().map(|arm| arm.action).chain([chain.otherwise])
                    });
                    draft.calls.extend(every.min().map(|action| (call.name(), action)));
                }
                continue;
            };
            if let Some(&action) = actions.first()
                && (actions.len() == 1 || !action.lets_pass())
                && action != self.default()
            {
                draft.calls.insert((call.name(), action));
            }
        }
        draft
    }

    fn default(&self) -> Action {
        self.policy.default
    }

    /// Whether a list of what is allowed refuses in this way what it has not: systemd does not start a
    /// unit in which a call has a refusal of its own that is that of all others.
    fn is_refused_anyway(&self, action: Action) -> bool {
        let refusal = |action| match action {
            Action::Errno(errno) if errno > 0 => Some(errno),
            _ => None,
        };
        let of_unit = refusal(self.default());
        match action {
            // The errno 0 is one behind a call's name alone.
            Action::Errno(0) => false,
            _ => refusal(action) == of_unit,
        }
    }

    /// What the call gets on each ABI that has it.
    fn chains(&self, call: Syscall) -> impl Iterator<Item = &crate::rules::Chain> {
        let chain =
            move |arch: Arch| Some(self.rules.table(arch.audit_arch())?.chain(call.number(arch)?));
        self.policy.architectures.iter().filter_map(chain)
    }

    /// Whether an ABI of the policy has the call, and libseccomp knows it.
    fn is_here(&self, name: &str) -> bool {
        Syscall::from_name(name).is_some_and(|call| {
            let newer = self.target.library.is_some_and(|library| call.since() > Some(library));
            !newer && self.chains(call).next().is_some()
        })
    }

    /// The draft with some calls let through, and a setting that says which of them.
    fn with(&self, draft: &Draft, calls: &[&str], setting: String) -> Option<Draft> {
        let mut next = draft.clone();
        let mut conditional = false;
        for call in calls.iter().filter_map(|name| Syscall::from_name(name)) {
            if self.chains(call).any(|chain| !chain.arms.is_empty()) {
                conditional = true;
                next.calls.retain(|(name, _)| *name != call.name());
                if !self.default().lets_pass() {
                    next.calls.insert((call.name(), Action::Allow));
                }
            }
        }
        next.settings.push(setting);
        conditional.then_some(next)
    }

    fn families(&mut self, draft: &Draft) -> Option<Draft> {
        let socket = Syscall::from_name("socket")?;
        let arch = self.policy.architectures.iter().find(|arch| socket.number(*arch).is_some())?;
        let nr = socket.number(arch)?;
        let mut seen = BTreeSet::new();
        let passes = |family: u64| {
            let args = [family, 0, 0, 0, 0, 0];
            let data = SeccompData { nr, arch: arch.audit_arch(), instruction_pointer: 0, args };
            self.rules.decide(&data).lets_pass()
        };
        let mut allowed = Vec::new();
        let mut refused = Vec::new();
        for (name, family) in domains(arch).filter(|(_, family)| seen.insert(*family)) {
            if passes(family) { allowed.push(name) } else { refused.push(name) }
        }
        // What no name has tells a list of what is refused from one of what is not.
        let setting = match (passes(1 << 20), allowed.is_empty()) {
            (true, _) => format!("RestrictAddressFamilies=~{}", refused.join(" ")),
            (false, true) => "RestrictAddressFamilies=none".to_owned(),
            (false, false) => format!("RestrictAddressFamilies={}", allowed.join(" ")),
        };
        self.with(draft, &["socket"], setting)
    }

    fn namespaces(&mut self, draft: &Draft) -> Option<Draft> {
        let retained: Vec<&str> = NAMESPACES
            .iter()
            .filter(|(_, flag)| {
                let passes = |call: &str, index: usize| {
                    let call = Syscall::from_name(call)?;
                    let arch = self
                        .policy
                        .architectures
                        .iter()
                        .find(|arch| call.number(*arch).is_some())?;
                    let (nr, arch) = (call.number(arch)?, arch.audit_arch());
                    let mut args = [0; 6];
                    args[index] = *flag;
                    let data = SeccompData { nr, arch, instruction_pointer: 0, args };
                    Some(self.rules.decide(&data).lets_pass())
                };
                passes("unshare", 0).or_else(|| passes("clone", 0)).unwrap_or(false)
            })
            .map(|(name, _)| *name)
            .collect();
        let setting = match retained.as_slice() {
            [] => "RestrictNamespaces=yes".to_owned(),
            retained => format!("RestrictNamespaces={}", retained.join(" ")),
        };
        self.with(draft, &["clone", "setns", "unshare"], setting)
    }

    fn memory_deny_write_execute(&mut self, draft: &Draft) -> Option<Draft> {
        let calls = ["mmap", "mmap2", "mprotect", "pkey_mprotect", "shmat"];
        self.with(draft, &calls, "MemoryDenyWriteExecute=yes".to_owned())
    }

    fn restrict_realtime(&mut self, draft: &Draft) -> Option<Draft> {
        self.with(draft, &["sched_setscheduler"], "RestrictRealtime=yes".to_owned())
    }

    fn lock_personality(&mut self, draft: &Draft) -> Option<Draft> {
        self.with(draft, &["personality"], "LockPersonality=yes".to_owned())
    }

    fn restrict_suid_sgid(&mut self, draft: &Draft) -> Option<Draft> {
        let calls = [
            "chmod",
            "creat",
            "fchmod",
            "fchmodat",
            "fchmodat2",
            "mkdir",
            "mkdirat",
            "mknod",
            "mknodat",
            "open",
            "openat",
        ];
        self.with(draft, &calls, "RestrictSUIDSGID=yes".to_owned())
    }

    /// The draft as a unit, and where that decides otherwise than the policy.
    fn try_out(&self, draft: &Draft) -> Result<(String, Vec<Difference>), FormatError> {
        let unit = self.text(draft);
        let installed = install(&unit, self.target)?;
        let losses = compare(self.rules, &installed, &self.policy.architectures)?;
        Ok((unit, losses))
    }

    /// Puts groups of which all calls are allowed in place of these calls, large ones first.
    fn name_groups(&self, allowed: &mut Vec<String>) {
        let every: BTreeSet<String> = allowed.iter().cloned().collect();
        let default = group::calls("@default");
        let is_allowed =
            |name: &&str| every.contains(*name) || default.contains(name) || !self.is_here(name);
        let calls = |name: &'static str| (name, group::calls(name));
        let mut whole: Vec<(&str, Vec<&str>)> = group::names().map(calls).collect();
        whole.retain(|(_, calls)| calls.iter().all(&is_allowed));
        whole.sort_by_key(|(name, calls)| (std::cmp::Reverse(calls.len()), *name));
        let mut groups = Vec::new();
        for (name, calls) in whole {
            let covered = |name: &String| calls.contains(&name.as_str());
            if allowed.iter().filter(|name| covered(name)).count() > 2 {
                allowed.retain(|name| !covered(name));
                groups.push(name.to_owned());
            }
        }
        allowed.splice(0..0, groups);
    }

    fn text(&self, draft: &Draft) -> String {
        let mut text = String::from("[Service]\n");
        if self.policy.foreign < Action::Allow {
            let arches: Vec<&str> =
                self.policy.architectures.iter().filter_map(arch_name).collect();
            let local = local_arches(self.target.arch);
            let native = self.policy.architectures.iter().all(|arch| arch == self.target.arch);
            let every = local.iter().all(|arch| self.policy.architectures.contains(*arch));
            let list = if native { "native".to_owned() } else { arches.join(" ") };
            if !every || local.len() == 1 {
                push(&mut text, "SystemCallArchitectures", &list);
            } else {
                push(&mut text, "SystemCallArchitectures", &arches.join(" "));
            }
        }
        let named = |wanted: &dyn Fn(Action) -> bool| -> Vec<String> {
            let calls = draft.calls.iter().filter(|(_, action)| wanted(*action));
            calls.map(|(name, _)| (*name).to_owned()).collect()
        };
        let lists_allowed = !self.default().lets_pass();
        let refused = draft.calls.iter().filter(|(_, action)| {
            !action.lets_pass() && (!lists_allowed || !self.is_refused_anyway(*action))
        });
        let mut refused: Vec<String> = refused
            .map(|(name, action)| match action {
                Action::Errno(errno) => format!("{name}:{}", errno_text(*errno)),
                _ => format!("{name}:kill"),
            })
            .collect();
        if self.default().lets_pass() {
            write_list(&mut text, "SystemCallFilter", "~", &refused);
        } else {
            let mut allowed = named(&Action::lets_pass);
            let default: Vec<&str> = group::calls("@default");
            // What systemd allows unasked has to be taken back.
            let is_said = |name: &str| {
                let mut calls = draft.calls.iter().filter(|(call, _)| *call == name);
                calls.any(|(_, action)| action.lets_pass() || !self.is_refused_anyway(*action))
            };
            let taken = default
                .iter()
                .filter(|name| !is_said(name) && self.is_here(name))
                .map(|name| (*name).to_owned());
            refused.extend(taken);
            allowed.retain(|name| !default.contains(&name.as_str()));
            self.name_groups(&mut allowed);
            if allowed.is_empty() {
                text.push_str("SystemCallFilter=@default\n");
            }
            write_list(&mut text, "SystemCallFilter", "", &allowed);
            write_list(&mut text, "SystemCallFilter", "~", &refused);
            if let Action::Errno(errno) = self.default()
                && errno > 0
            {
                push(&mut text, "SystemCallErrorNumber", &errno_text(errno));
            }
        }
        if self.default() == Action::Log {
            write_list(&mut text, "SystemCallLog", "~", &named(&|action| action == Action::Allow));
        } else {
            write_list(&mut text, "SystemCallLog", "", &named(&|action| action == Action::Log));
        }
        for setting in &draft.settings {
            text.push_str(setting);
            text.push('\n');
        }
        text
    }
}

fn push(text: &mut String, key: &str, value: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{key}={value}");
}

/// A list over as many lines as it takes; none if it is empty.
fn write_list(text: &mut String, key: &str, sign: &str, names: &[String]) {
    let mut line = String::new();
    for name in names {
        if line.len() + name.len() > 90 {
            push(text, key, &format!("{sign}{line}"));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(name);
    }
    if !line.is_empty() {
        push(text, key, &format!("{sign}{line}"));
    }
}
