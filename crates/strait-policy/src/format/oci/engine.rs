//! A policy as the profile that a container engine is given.
//!
//! A filter is on the container before its program runs: what the runtime itself calls in between has to
//! pass too. Which runtime an engine takes is its user's choice, so the profile has the needs of each.

use std::fmt;
use std::str::FromStr;

use strait_bpf::Difference;

use super::export;
use crate::format::{Exported, FormatError, Runtime, Target};
use crate::policy::{Necessity, Policy};
use crate::text::nearest;

/// Who takes the profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Engine {
    /// `docker run --security-opt seccomp=FILE`.
    Docker,
    /// `podman run --security-opt seccomp=FILE`.
    Podman,
    /// `ctr run --seccomp --seccomp-profile FILE`, `nerdctl run --security-opt seccomp=FILE`.
    Containerd,
    /// CRI-O's `seccomp_profile`.
    CriO,
    /// A pod's `seccompProfile: {type: Localhost}`.
    Kubernetes,
}

impl Engine {
    /// All of them.
    pub const ALL: &[Engine] =
        &[Engine::Docker, Engine::Podman, Engine::Containerd, Engine::CriO, Engine::Kubernetes];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Engine::Docker => "docker",
            Engine::Podman => "podman",
            Engine::Containerd => "containerd",
            Engine::CriO => "cri-o",
            Engine::Kubernetes => "kubernetes",
        }
    }

    /// The runtimes that it takes unless told otherwise, in one release or another.
    pub const fn runtimes(self) -> &'static [Runtime] {
        match self {
            Engine::Docker | Engine::Containerd => &[Runtime::Runc],
            Engine::Podman | Engine::CriO | Engine::Kubernetes => &[Runtime::Runc, Runtime::Crun],
        }
    }

    /// How a profile is given to it.
    pub const fn usage(self) -> &'static str {
        match self {
            Engine::Docker => "docker run --security-opt seccomp=FILE",
            Engine::Podman => "podman run --security-opt seccomp=FILE",
            Engine::Containerd => "ctr run --seccomp --seccomp-profile FILE",
            Engine::CriO => "seccomp_profile = \"FILE\" in crio.conf",
            Engine::Kubernetes => {
                "put it into /var/lib/kubelet/seccomp of each node, and into the pod's \
                 securityContext: seccompProfile: {type: Localhost, localhostProfile: FILE}"
            }
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that names no engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no engine{}", .nearest.as_ref().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default())]
pub struct UnknownEngine {
    /// The text.
    pub name: String,
    /// An engine that it may be meant to be.
    pub nearest: Option<String>,
}

impl FromStr for Engine {
    type Err = UnknownEngine;

    fn from_str(name: &str) -> Result<Engine, UnknownEngine> {
        let engine = Engine::ALL.iter().copied().find(|engine| engine.name() == name);
        engine.ok_or_else(|| UnknownEngine {
            name: name.to_owned(),
            nearest: nearest(name, Engine::ALL.iter().map(|engine| engine.name())),
        })
    }
}

/// A profile for an engine.
#[derive(Clone, Debug)]
pub struct ForEngine {
    /// The profile.
    pub text: String,
    /// The policy with the needs of the runtimes, which the profile means.
    pub policy: Policy,
    /// Where some runtime makes calls fail otherwise than the policy says; the first decision is the
    /// policy's.
    pub otherwise: Vec<Difference>,
    /// Where some runtime lets calls pass that the policy denies, or the other way round: what a
    /// profile cannot say.
    pub losses: Vec<Difference>,
}

/// The policy with what these runtimes call themselves. Where its ledger says what a runtime needs
/// (`needed by: runc 1.1.5`), that has been seen, and is less than the set of what it may need.
#[must_use]
pub fn with_needs(mut policy: Policy, runtimes: &[Runtime]) -> Policy {
    for runtime in runtimes {
        let set = runtime.needs().to_owned();
        let is_this = |needing: &str| needing.split(' ').next() == Some(runtime.name());
        let seen = policy.necessity.values().flatten().any(
            |necessity| matches!(necessity, Necessity::NeededBy { runtime } if is_this(runtime)),
        );
        if !seen && !policy.include.contains(&set) {
            policy.include.push(set);
        }
    }
    policy
}

/// The policy as a profile with which these runtimes start a container.
///
/// # Errors
/// If the policy has no meaning.
pub fn for_runtimes(
    policy: &Policy,
    runtimes: &[Runtime],
    target: &Target,
) -> Result<ForEngine, FormatError> {
    let policy = with_needs(policy.clone(), runtimes);
    // What runc answers by itself is written down for the others.
    let first = if runtimes.contains(&Runtime::Crun) { Runtime::Crun } else { Runtime::Runc };
    let for_first = Target { runtime: first, ..target.clone() };
    let Exported { text, losses: mut differences, .. } = export(&policy, &for_first)?;
    for &runtime in runtimes.iter().filter(|runtime| **runtime != first) {
        let target = Target { runtime, ..target.clone() };
        let installed = super::import(&text, &target)?.policy.lower()?.decision()?;
        let intended = policy.lower()?.decision()?;
        let here = |difference: &Difference| {
            let arches = || policy.architectures.iter();
            arches().any(|arch| arch.audit_arch() == difference.witness.arch)
        };
        differences.extend(intended.compare(&installed)?.differences.into_iter().filter(here));
    }
    let (losses, otherwise) = differences
        .into_iter()
        .partition(|one: &Difference| one.first.lets_pass() != one.second.lets_pass());
    Ok(ForEngine { text, policy, otherwise, losses })
}
