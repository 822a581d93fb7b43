//! Whether every allow has a reason, and every reason still holds.

use std::collections::BTreeSet;

use strait_abi::Syscall;
use strait_bpf::Action;

use super::{Checker, Code, Finding, Nature, Subject};
use crate::policy::Necessity;

impl Checker<'_> {
    pub(super) fn ledger(&mut self) {
        self.excess();
        for (&call, reasons) in &self.policy.necessity {
            for reason in reasons {
                let Necessity::Declared(declared) = reason else { continue };
                if let (Some(expires), Some(today)) = (declared.expires, self.today)
                    && expires < today
                {
                    let message = format!(
                        "the reason of {} for `{call}` expired on {expires}: \"{}\"",
                        declared.by, declared.reason
                    );
                    let finding = Finding::new(Code::Expired, Subject::Necessity(call), message);
                    self.findings.insert(finding);
                }
            }
            if !self.policy.rules.iter().any(|rule| rule.syscalls.contains(&call)) {
                let message = format!("no rule names `{call}`, which the ledger has reasons for");
                let finding = Finding::new(Code::StaleNecessity, Subject::Necessity(call), message);
                self.findings.insert(finding);
            }
        }
        for (index, source) in self.policy.recordings.iter().enumerate() {
            for gap in &source.gaps {
                let message = format!("the recording {} is not whole: {gap}", source.digest);
                let subject = Subject::Recording(index);
                self.findings.insert(Finding::new(Code::IncompleteRecording, subject, message));
            }
        }
    }

    /// Calls that rules let pass and nothing says why.
    fn excess(&mut self) {
        if self.nature != Nature::Policy {
            let message = "no allow has a reason: profiles in this format have no ledger";
            let help = "a policy of Strait (`strait tighten`, `strait generate`) says why each \
                        call is in it";
            self.find(Finding::new(Code::Excess, Subject::Policy, message).help(help));
            return;
        }
        let mut seen: BTreeSet<Syscall> = BTreeSet::new();
        for arch in self.policy.architectures.iter() {
            for call in Syscall::all().filter(|call| call.number(arch).is_some()) {
                let has_reason =
                    self.policy.necessity.get(&call).is_some_and(|reasons| !reasons.is_empty());
                if has_reason || !self.is_named(call, arch) || !self.view.passes(call, arch) {
                    continue;
                }
                if seen.insert(call) {
                    let subject = self.subject(call, arch, Action::lets_pass);
                    let message = format!("`{call}` is allowed and nothing says why");
                    self.find(Finding::new(Code::Excess, subject, message).about(call));
                }
            }
        }
    }
}
