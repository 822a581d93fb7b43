//! Checking: what a policy allows that its author may not have meant, or cannot have wanted.
//!
//! Each kind of finding has a [`Code`] that never changes its meaning.

mod code;
mod place;

use std::collections::BTreeSet;

use strait_abi::{Arch, Syscall};
use strait_bpf::Action;

pub use code::{Code, Severity};
pub use place::Places;

use crate::lower::{Because, LowerError};
use crate::policy::{Date, Necessity, Policy, Rule};
use crate::principle::PROBED;
use crate::rules::Chain;
use crate::signature::register;

/// Something that a check found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The kind.
    pub code: Code,
    /// What it is about.
    pub subject: Subject,
    /// What it is, and what to do.
    pub message: String,
}

impl Finding {
    /// How much it matters.
    pub fn severity(&self) -> Severity {
        self.code.severity()
    }
}

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Subject {
    /// The policy as a whole.
    Policy,
    /// `default`.
    Default,
    /// A rule, by its index from 0.
    Rule(usize),
    /// A call within a rule.
    Call(usize, Syscall),
    /// The ledger's reasons for a call.
    Necessity(Syscall),
    /// A recording, by its index from 0.
    Recording(usize),
}

/// What there is to say of a policy; `today` tells which reasons have expired.
///
/// # Errors
/// If the policy has no meaning.
pub fn check(policy: &Policy, today: Option<Date>) -> Result<Vec<Finding>, LowerError> {
    let mut checker = Checker { policy, view: View::new(policy)?, findings: BTreeSet::new() };
    checker.default();
    checker.calls();
    checker.twins();
    checker.rules()?;
    checker.conditions();
    checker.ledger(today);
    Ok(checker.findings.into_iter().collect())
}

/// What each call gets on each ABI of the policy.
struct View {
    chains: Vec<(Arch, Syscall, Chain)>,
}

impl View {
    fn new(policy: &Policy) -> Result<View, LowerError> {
        let rules = policy.lower()?;
        let mut chains = Vec::new();
        for arch in policy.architectures.iter() {
            let Some(table) = rules.table(arch.audit_arch()) else { continue };
            for call in Syscall::all() {
                if let Some(nr) = call.number(arch) {
                    chains.push((arch, call, table.chain(nr).clone()));
                }
            }
        }
        Ok(View { chains })
    }

    fn chain(&self, call: Syscall, arch: Arch) -> Option<&Chain> {
        let found = |(a, c, _): &&(Arch, Syscall, Chain)| *a == arch && *c == call;
        self.chains.iter().find(found).map(|(_, _, chain)| chain)
    }

    /// Whether the call passes with some arguments.
    fn passes(&self, name: &str, arch: Arch) -> bool {
        let chain = Syscall::from_name(name).and_then(|call| self.chain(call, arch));
        chain.is_some_and(|chain| actions(chain).any(Action::lets_pass))
    }

    /// Whether the call never passes, or not with all arguments.
    fn is_filtered(&self, name: &str, arch: Arch) -> bool {
        let chain = Syscall::from_name(name).and_then(|call| self.chain(call, arch));
        chain.is_some_and(|chain| !actions(chain).all(Action::lets_pass))
    }
}

fn actions(chain: &Chain) -> impl Iterator<Item = Action> + '_ {
    chain.arms.iter().map(|arm| arm.action).chain([chain.otherwise])
}

struct Checker<'a> {
    policy: &'a Policy,
    view: View,
    findings: BTreeSet<Finding>,
}

/// Calls that do what another does: who filters the first must filter the second.
const TWINS: &[(&str, &str)] = &[
    ("open", "openat"),
    ("open", "openat2"),
    ("openat", "openat2"),
    ("openat", "open_by_handle_at"),
    ("clone", "clone3"),
    ("unshare", "clone3"),
    ("execve", "execveat"),
    ("mmap", "mmap2"),
    ("mprotect", "pkey_mprotect"),
    ("mount", "move_mount"),
    ("mount", "fsmount"),
    ("ptrace", "process_vm_writev"),
    ("process_vm_readv", "pidfd_getfd"),
    ("kill", "pidfd_send_signal"),
    ("init_module", "finit_module"),
    ("kexec_load", "kexec_file_load"),
    ("setxattr", "setxattrat"),
    ("fchmodat", "fchmodat2"),
    ("socket", "socketcall"),
    ("semop", "ipc"),
];

/// Calls whose work io_uring does without a filter seeing it.
const BY_IO_URING: &[&str] = &["openat", "socket", "connect", "accept4", "unlinkat", "renameat2"];

impl Checker<'_> {
    fn find(&mut self, code: Code, subject: Subject, message: String) {
        self.findings.insert(Finding { code, subject, message });
    }

    /// The rule that has the call, as a subject.
    fn subject(&self, call: Syscall, arch: Arch) -> Subject {
        let index = self.policy.rules.iter().position(|rule| rule.applies_to(call, arch));
        index.map_or(Subject::Policy, |index| Subject::Call(index, call))
    }

    fn default(&mut self) {
        if self.policy.default.lets_pass() {
            let message = "the default lets every call pass that no rule names: new calls too; \
                           deny by default and allow what is needed";
            self.find(Code::PermissiveDefault, Subject::Default, message.to_owned());
        }
        for arch in self.policy.architectures.iter() {
            if self.view.is_filtered("exit_group", arch) && !self.view.passes("exit_group", arch) {
                let message = format!("no program can end on {arch}: allow exit_group");
                self.find(Code::CannotRun, Subject::Policy, message);
            }
        }
    }

    fn calls(&mut self) {
        for (arch, call, chain) in self.view.chains.clone() {
            let passes = actions(&chain).any(Action::lets_pass);
            if let Some(danger) = call.danger().filter(|_| passes) {
                let subject = self.subject(call, arch);
                let mut message = format!("`{call}` is allowed: {}", danger.reason());
                if !danger.cves().is_empty() {
                    message.push_str(&format!(
                        " (holes that were reached by it: {})",
                        danger.cves().join(", ")
                    ));
                }
                self.find(Code::Dangerous, subject, message);
            }
            let probed = PROBED.iter().find(|(name, _)| *name == call.name());
            if let (Some((_, why)), [], Action::Errno(errno)) =
                (probed, chain.arms.as_slice(), chain.otherwise)
                && errno != 38
            {
                let text = crate::action_text(chain.otherwise);
                let message = format!("`{call}` gets {text}: {why}, but only on ENOSYS");
                let subject = self.subject(call, arch);
                self.find(Code::NeedsEnosys, subject, message);
            }
        }
    }

    fn twins(&mut self) {
        for arch in self.policy.architectures.iter() {
            for (one, other) in TWINS {
                if self.view.is_filtered(one, arch) && self.view.passes(other, arch) {
                    let Some(call) = Syscall::from_name(other) else { continue };
                    if self.view.passes(one, arch) && self.view.is_filtered(other, arch) {
                        // Both have conditions: they may well say the same.
                        continue;
                    }
                    let message = format!(
                        "`{one}` is filtered on {arch} and `{other}`, which does the same, is not"
                    );
                    let subject = self.subject(call, arch);
                    self.find(Code::TwinLeftOpen, subject, message);
                }
            }
            let filtered: Vec<&str> = BY_IO_URING
                .iter()
                .copied()
                .filter(|name| self.view.is_filtered(name, arch))
                .collect();
            let io_uring = Syscall::from_name("io_uring_setup");
            if let Some(call) = io_uring.filter(|call| self.view.passes(call.name(), arch))
                && !filtered.is_empty()
            {
                let message = format!(
                    "io_uring does the work of {} without a filter seeing it",
                    filtered.join(", ")
                );
                let subject = self.subject(call, arch);
                self.find(Code::IoUring, subject, message);
            }
        }
        let arches: Vec<Arch> = self.policy.architectures.iter().collect();
        for pair in
            [(Arch::X86_64, Arch::I386), (Arch::X86_64, Arch::X32), (Arch::Aarch64, Arch::Arm)]
        {
            if !arches.contains(&pair.0) || !arches.contains(&pair.1) {
                continue;
            }
            let looser: Vec<Syscall> = Syscall::all()
                .filter(|call| call.number(pair.0).is_some() && call.number(pair.1).is_some())
                .filter(|call| {
                    !self.view.passes(call.name(), pair.0) && self.view.passes(call.name(), pair.1)
                })
                .collect();
            for call in looser {
                let message = format!("`{call}` is denied on {} and allowed on {}", pair.0, pair.1);
                let subject = self.subject(call, pair.1);
                self.find(Code::LooserCompat, subject, message);
            }
        }
    }

    /// Rules that never decide.
    fn rules(&mut self) -> Result<(), LowerError> {
        let mut used: BTreeSet<(usize, Syscall)> = BTreeSet::new();
        for arch in self.policy.architectures.iter() {
            let named =
                |call: &Syscall| self.policy.rules.iter().any(|rule| rule.applies_to(*call, arch));
            let calls: Vec<(Syscall, u32)> = Syscall::all()
                .filter(named)
                .filter_map(|call| Some((call, call.number(arch)?)))
                .collect();
            let steps = self.policy.steps(arch.audit_arch(), calls.iter().map(|(_, nr)| *nr))?;
            for ((call, _), steps) in calls.iter().zip(steps) {
                for step in steps {
                    if let Because::Rule(index) = step.because {
                        used.insert((index, *call));
                    }
                }
            }
        }
        for (index, rule) in self.policy.rules.iter().enumerate() {
            for &call in &rule.syscalls {
                if used.contains(&(index, call)) {
                    continue;
                }
                let arches: Vec<&str> = self
                    .policy
                    .architectures
                    .iter()
                    .filter(|arch| rule.is_for(*arch))
                    .map(|arch| arch.name())
                    .collect();
                let exists = self
                    .policy
                    .architectures
                    .iter()
                    .any(|arch| rule.is_for(arch) && call.number(arch).is_some());
                if exists {
                    let message = format!("an earlier rule already decides on `{call}`");
                    self.find(Code::DeadRule, Subject::Call(index, call), message);
                } else {
                    let message = format!("there is no `{call}` on {}", arches.join(", "));
                    self.find(Code::NoSuchCall, Subject::Call(index, call), message);
                }
            }
        }
        Ok(())
    }

    fn conditions(&mut self) {
        for (index, rule) in self.policy.rules.iter().enumerate() {
            let Some(when) = &rule.when else { continue };
            for operand in when.operands() {
                for finding in self.operand(index, rule, &operand.name) {
                    self.findings.insert(finding);
                }
            }
        }
    }

    /// What there is to say of an argument that a rule compares.
    fn operand(&self, index: usize, rule: &Rule, name: &str) -> Vec<Finding> {
        let mut findings = Vec::new();
        for &call in &rule.syscalls {
            for arch in self.policy.architectures.iter().filter(|arch| rule.is_for(*arch)) {
                let args = call.args(arch).unwrap_or_default();
                let arg = match register(name) {
                    Some(register) => args.get(usize::from(register)),
                    None => call.arg(arch, name).map(|(_, arg)| arg),
                };
                let Some(arg) = arg else { continue };
                let subject = Subject::Call(index, call);
                if register(name).is_some() && arg.width(arch).bits() < 64 && arch.is_64_bit() {
                    let bits = arg.width(arch).bits();
                    let message = format!(
                        "`{name}` of `{call}` is compared as 64 bits, but the kernel takes {bits}: a \
                         caller passes by setting another bit; write `{}`",
                        arg.name()
                    );
                    findings.push(Finding { code: Code::WiderThanTaken, subject, message });
                }
                if arg.is_pointer() {
                    let message = format!(
                        "`{name}` of `{call}` is an address: what stands there cannot be seen, and \
                         another thread can change it"
                    );
                    findings.push(Finding { code: Code::ComparesPointer, subject, message });
                }
            }
        }
        findings
    }

    fn ledger(&mut self, today: Option<Date>) {
        let mut passing: BTreeSet<Syscall> = BTreeSet::new();
        for (arch, call, chain) in &self.view.chains {
            let named = self.policy.rules.iter().any(|rule| rule.applies_to(*call, *arch));
            if named && actions(chain).any(Action::lets_pass) {
                passing.insert(*call);
            }
        }
        for &call in &passing {
            if self.policy.necessity.get(&call).is_none_or(Vec::is_empty) {
                let arch =
                    self.policy.architectures.iter().find(|arch| call.number(*arch).is_some());
                let subject = arch.map_or(Subject::Policy, |arch| self.subject(call, arch));
                let message = format!("`{call}` is allowed and nothing says why");
                self.find(Code::Excess, subject, message);
            }
        }
        for (&call, reasons) in &self.policy.necessity {
            for reason in reasons {
                let Necessity::Declared(declared) = reason else { continue };
                if let (Some(expires), Some(today)) = (declared.expires, today)
                    && expires < today
                {
                    let message = format!(
                        "the reason of {} for `{call}` expired on {expires}: \"{}\"",
                        declared.by, declared.reason
                    );
                    self.findings.insert(Finding {
                        code: Code::Expired,
                        subject: Subject::Necessity(call),
                        message,
                    });
                }
            }
            if !self.policy.rules.iter().any(|rule| rule.syscalls.contains(&call)) {
                let message = format!("no rule names `{call}`, which the ledger has reasons for");
                self.findings.insert(Finding {
                    code: Code::StaleNecessity,
                    subject: Subject::Necessity(call),
                    message,
                });
            }
        }
        for (index, source) in self.policy.recordings.iter().enumerate() {
            for gap in &source.gaps {
                self.findings.insert(Finding {
                    code: Code::IncompleteRecording,
                    subject: Subject::Recording(index),
                    message: format!("the recording {} is not whole: {gap}", source.digest),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(spec: &str) -> Vec<(Code, String)> {
        let head = "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec: ";
        let policy = Policy::parse(&format!("{head}{spec}\n")).unwrap();
        let today = "2027-01-02".parse().ok();
        let all = check(&policy, today).unwrap();
        all.into_iter().map(|finding| (finding.code, finding.message)).collect()
    }

    #[track_caller]
    fn finds(spec: &str, code: Code, part: &str) {
        let all = findings(spec);
        assert!(
            all.iter().any(|(found, message)| *found == code && message.contains(part)),
            "{all:#?}"
        );
    }

    #[test]
    fn each_kind_of_finding_is_found() {
        let rules = |rules: &str| {
            format!("{{architectures: [x86_64], default: errno(EPERM), rules: [{rules}]}}")
        };
        finds(&rules("{syscalls: [mount], action: allow}"), Code::Dangerous, "`mount` is allowed");
        finds(&rules("{syscalls: [mount], action: allow}"), Code::CannotRun, "exit_group");
        finds(&rules("{syscalls: [openat2], action: allow}"), Code::TwinLeftOpen, "`openat2`");
        finds(&rules("{syscalls: [io_uring_setup], action: allow}"), Code::IoUring, "openat");
        finds(
            &rules("{syscalls: [socket], when: arg0 == 1, action: allow}"),
            Code::WiderThanTaken,
            "write `domain`",
        );
        finds(
            &rules("{syscalls: [openat], when: arg1 == 0, action: allow}"),
            Code::ComparesPointer,
            "address",
        );
        finds(
            &rules("{syscalls: [read], action: allow}, {syscalls: [read], action: log}"),
            Code::DeadRule,
            "`read`",
        );
        finds(
            &rules("{syscalls: [socketcall], action: allow}"),
            Code::NoSuchCall,
            "no `socketcall` on x86_64",
        );
        finds(
            &rules("{syscalls: [read], action: allow}"),
            Code::NeedsEnosys,
            "`clone3` gets errno(EPERM)",
        );
        finds(&rules("{syscalls: [read], action: allow}"), Code::Excess, "`read` is allowed");
        finds("{architectures: [x86_64], default: allow}", Code::PermissiveDefault, "default");
        finds(
            "{architectures: [x86_64, i386], default: errno(EPERM), rules: [\
             {syscalls: [ptrace], arch: [i386], action: allow}]}",
            Code::LooserCompat,
            "denied on x86_64 and allowed on i386",
        );
        finds(
            "{architectures: [x86_64], default: errno(EPERM), necessity: {read: [\
             {declared: {by: me, reason: once, expires: 2027-01-01}}]}}",
            Code::Expired,
            "expired on 2027-01-01",
        );
        finds(
            "{architectures: [x86_64], default: errno(EPERM), necessity: {read: []}}",
            Code::StaleNecessity,
            "no rule names `read`",
        );
        finds(
            "{architectures: [x86_64], default: errno(EPERM), recordings: [\
             {digest: x, engine: ebpf, kernel: 6.18.1, gaps: [lost some]}]}",
            Code::IncompleteRecording,
            "lost some",
        );
    }

    #[test]
    fn what_is_as_it_should_be_is_not_found() {
        let spec = "{architectures: [x86_64], default: errno(ENOSYS), rules: [\
                    {syscalls: [exit_group, read], action: allow},\
                    {syscalls: [socket], when: domain == AF_UNIX, action: allow}],\
                    necessity: {read: [{neededBy: {runtime: runc}}],\
                    socket: [{neededBy: {runtime: runc}}],\
                    exit_group: [{declared: {by: me, reason: it ends, expires: 2027-01-02}}]}}";
        assert_eq!(findings(spec), []);
    }
}
