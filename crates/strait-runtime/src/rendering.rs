//! What container runtimes make of a policy.
//!
//! A runtime does not install what a policy says but what libseccomp makes of its profile: names that
//! the library does not know are skipped, other arches get kill-thread, and runc answers ENOSYS to
//! what is newer than the profile. That is no drift, if nothing passes by it that the policy denies:
//! the process is then judged against what the runtime makes of the policy, by decision, and each
//! difference of that from the policy is explained.

use serde::Serialize;
use strait_abi::{Arch, KernelVersion, Syscall};
use strait_bpf::{Decision, Relation, Undecided};
use strait_policy::Policy;
use strait_policy::format::{Runtime, Target, oci};

use crate::listeners::Listeners;
use crate::supervise::notifying_by_profile;
use crate::verdict::{Intent, Span, Verdict};

/// What a policy was, before a runtime rendered it.
#[derive(Clone, Debug)]
pub struct Original {
    policy: Policy,
    /// The text, if it was an OCI profile.
    profile: Option<String>,
    target: Target,
    runtimes: Vec<Runtime>,
    /// Whether a supervisor is asked about what is denied.
    asks: bool,
}

/// How a runtime renders a policy, and how that differs from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rendering {
    /// The runtime.
    pub runtime: &'static str,
    /// The newest kernel whose calls its libseccomp knows; none for one that knows every call.
    pub library: Option<String>,
    /// Where it decides otherwise than the policy, and why.
    pub explained: Vec<Explained>,
}

/// Calls that a runtime's rendering decides otherwise than the policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explained {
    /// Why.
    pub because: Because,
    /// Where.
    #[serde(flatten)]
    pub span: Span,
}

/// Why a rendering decides otherwise than the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Because {
    /// runc answers ENOSYS to numbers greater than the greatest that the profile names.
    EnosysStub,
    /// The library does not know the call, and skips its rule.
    SkippedName,
    /// The library gives kill-thread to arches and ABIs that the profile does not list.
    OtherArch,
    /// The number by which a tracer skips a call is a call for the library.
    TracerSkip,
    /// A supervisor is asked about it.
    Supervised,
    /// A profile cannot say it.
    NotExpressible,
}

impl Because {
    /// One clause for a person.
    pub const fn text(self) -> &'static str {
        match self {
            Because::EnosysStub => "runc answers ENOSYS to what is newer than the profile",
            Because::SkippedName => "the runtime's libseccomp does not know the call",
            Because::OtherArch => "libseccomp's answer to arches that are not listed",
            Because::TracerSkip => {
                "libseccomp's answer to the number by which a tracer skips a call"
            }
            Because::Supervised => "a supervisor answers it",
            Because::NotExpressible => "an OCI profile cannot say it",
        }
    }
}

/// The libraries that runtimes are linked with ([`Target::library`]).
const LIBRARIES: [Option<(u8, u8)>; 3] = [None, Some((6, 7)), Some((5, 17))];

impl Original {
    /// A policy, with the text of the OCI profile that it was read from, if it was, and what that was
    /// resolved for.
    pub fn new(policy: Policy, profile: Option<String>, target: Target) -> Original {
        let runtimes = vec![Runtime::Runc, Runtime::Crun];
        Original { policy, profile, target, runtimes, asks: false }
    }

    /// The same, where a supervisor is asked about what the policy answers with an errno.
    #[must_use]
    pub fn supervised(mut self) -> Original {
        self.asks = true;
        self
    }

    /// The same, where it is known which runtime has rendered it.
    #[must_use]
    pub fn rendered_by(mut self, runtime: Runtime) -> Original {
        self.runtimes = vec![runtime];
        self
    }

    /// The verdict on what is installed, if some runtime renders the policy so that it is kept and
    /// nothing passes that the policy denies. The best there is: holds before tighter.
    ///
    /// # Errors
    /// If a comparison is too much work.
    pub fn judge(
        &self,
        intent: &Intent,
        installed: &Decision,
        listeners: impl Fn() -> Listeners,
    ) -> Result<Option<(Verdict, Rendering)>, Undecided> {
        let mut tighter = None;
        for &runtime in &self.runtimes {
            for library in LIBRARIES {
                let library = library.map(|(major, minor)| KernelVersion::new(major, minor));
                let Some(rendered) = self.rendered(runtime, library) else { continue };
                let verdict = rendered.judge(installed, &listeners)?;
                if !verdict.is_kept() {
                    continue;
                }
                let comparison = rendered.decision().compare(intent.decision())?;
                if !matches!(comparison.allowed, Relation::Equal | Relation::Tighter) {
                    continue;
                }
                let spans = comparison.differences.iter().map(Span::new);
                let explained = spans.map(|span| {
                    let because = self.because(&span, runtime, library);
                    Explained { because, span }
                });
                let rendering = Rendering {
                    runtime: match runtime {
                        Runtime::Crun => "crun",
                        _ => "runc",
                    },
                    library: library.map(|version| version.to_string()),
                    explained: explained.collect(),
                };
                match verdict {
                    Verdict::Holds { .. } => return Ok(Some((verdict, rendering))),
                    _ => drop(tighter.get_or_insert((verdict, rendering))),
                }
            }
        }
        Ok(tighter)
    }

    /// What a runtime intends with the policy; `None` if it would refuse it.
    fn rendered(&self, runtime: Runtime, library: Option<KernelVersion>) -> Option<Intent> {
        let mut target = self.target.clone();
        (target.runtime, target.library) = (runtime, library);
        let exported;
        let text = match &self.profile {
            _ if self.asks => {
                let asked = notifying_by_profile(&self.policy.lower().ok()?);
                exported = oci::export_asking(&self.policy, &asked, &target).ok()?.text;
                &exported
            }
            Some(text) => text,
            None => {
                exported = oci::export(&self.policy, &target).ok()?.text;
                &exported
            }
        };
        let imported = oci::import(text, &target).ok()?;
        Intent::new(&imported.policy.lower().ok()?).ok()
    }

    /// Why a runtime renders these calls otherwise.
    fn because(&self, span: &Span, runtime: Runtime, library: Option<KernelVersion>) -> Because {
        let data = span.witness.data;
        let listed = |arch: &Arch| arch.audit_arch() == data.arch;
        let x32 = data.nr & Arch::X32_BIT != 0 && data.arch.arch() == Some(Arch::X86_64);
        let call = span.witness.name.as_deref().and_then(Syscall::from_name);
        let since = call.and_then(Syscall::since);
        if data.nr == u32::MAX {
            Because::TracerSkip
        } else if self.asks && span.installed == "notify" {
            Because::Supervised
        } else if !self.policy.architectures.iter().any(|arch| listed(&arch))
            || x32 && !self.policy.architectures.contains(Arch::X32)
        {
            Because::OtherArch
        } else if library.is_some_and(|library| since.is_some_and(|since| since > library)) {
            Because::SkippedName
        } else if runtime == Runtime::Runc && span.installed == "errno(38)" {
            Because::EnosysStub
        } else {
            Because::NotExpressible
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(rules: &str) -> Policy {
        Policy::parse(&format!(
            "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec:\n  \
             architectures: [x86_64]\n  default: errno(EPERM)\n  rules:\n{rules}"
        ))
        .unwrap()
    }

    fn target() -> Target {
        Target::new(Arch::X86_64, KernelVersion::new(6, 18))
    }

    fn installed_by(runtime: Runtime, library: Option<KernelVersion>, policy: &Policy) -> Decision {
        let mut target = target();
        (target.runtime, target.library) = (runtime, library);
        let text = oci::export(policy, &target).unwrap().text;
        let imported = oci::import(&text, &target).unwrap().policy;
        imported.lower().unwrap().decision().unwrap()
    }

    #[test]
    fn what_runtimes_render_is_kept_and_explained() {
        // cachestat is of Linux 6.5, which the older of these libraries does not know.
        let policy = policy("  - {syscalls: [read, write, execve, cachestat], action: allow}\n");
        let intent = Intent::new(&policy.lower().unwrap()).unwrap();
        let original = Original::new(policy.clone(), None, target());
        let library = Some(KernelVersion::new(5, 17));
        let installed = installed_by(Runtime::Runc, library, &policy);
        // Against the policy's own words that is drift: calls fail otherwise.
        let plain = intent.judge(&installed, Listeners::default).unwrap();
        assert!(matches!(plain, Verdict::Drift { permits_more: false, .. }), "{plain:?}");
        let (verdict, rendering) =
            original.judge(&intent, &installed, Listeners::default).unwrap().unwrap();
        assert!(matches!(verdict, Verdict::Holds { .. }), "{verdict:?}");
        assert_eq!((rendering.runtime, rendering.library.as_deref()), ("runc", Some("5.17")));
        let reasons: std::collections::BTreeSet<Because> =
            rendering.explained.iter().map(|one| one.because).collect();
        let wanted = [Because::EnosysStub, Because::SkippedName, Because::OtherArch];
        assert!(wanted.iter().all(|reason| reasons.contains(reason)), "{reasons:?}");
        let skipped = rendering.explained.iter().find(|one| one.because == Because::SkippedName);
        assert_eq!(skipped.unwrap().span.witness.name.as_deref(), Some("cachestat"));
    }

    #[test]
    fn what_a_supervisor_is_asked_about_is_kept_where_there_is_to_be_one() {
        let policy = policy("  - {syscalls: [read, write, execve, seccomp], action: allow}\n");
        let intent = Intent::new(&policy.lower().unwrap()).unwrap();
        let original = Original::new(policy.clone(), None, target());
        let asked = notifying_by_profile(&policy.lower().unwrap());
        let text = oci::export_asking(&policy, &asked, &target()).unwrap().text;
        let installed = oci::import(&text, &target()).unwrap().policy.lower().unwrap();
        let installed = installed.decision().unwrap();
        let judge =
            |original: &Original| original.judge(&intent, &installed, Listeners::default).unwrap();
        assert_eq!(judge(&original), None);
        let (verdict, rendering) = judge(&original.supervised()).unwrap();
        assert!(matches!(verdict, Verdict::Holds { .. }), "{verdict:?}");
        let supervised = rendering.explained.iter().filter(|it| it.because == Because::Supervised);
        assert!(supervised.count() > 0);
    }

    #[test]
    fn a_rendering_excuses_nothing_that_passes() {
        let mine = policy("  - {syscalls: [read, write, execve], action: allow}\n");
        let intent = Intent::new(&mine.lower().unwrap()).unwrap();
        let original = Original::new(mine, None, target());
        let wider = policy("  - {syscalls: [read, write, execve, mount], action: allow}\n");
        let installed = installed_by(Runtime::Runc, None, &wider);
        assert_eq!(original.judge(&intent, &installed, Listeners::default), Ok(None));
    }
}
