//! Filters that are known by what they decide.
//!
//! A filter is recognised by the digest of its decision, never by who installed it or by its
//! bytes: two compilers' spellings of one profile are one, and a profile with one call more is
//! another. What is known:
//!
//! - the rows of `known.tsv`, which `tests/known.rs` writes and checks against the real things;
//! - the profiles of container engines that lie on this machine, resolved for the capabilities of
//!   the process as the engines do it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde::Serialize;
use sha2::{Digest, Sha256};
use strait_abi::{Arch, KernelVersion};
use strait_bpf::Decision;
use strait_policy::format::{Runtime, Target, oci};

/// What a decision is known as.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Known {
    /// What it is.
    pub name: String,
    /// For which capabilities, by which runtime and library.
    pub detail: String,
    /// How that is known.
    pub source: String,
}

/// Decisions that are known, by digest.
#[derive(Debug, Default)]
pub struct Registry {
    known: BTreeMap<String, Known>,
    /// The sets of capabilities that the profiles on this machine were resolved for.
    resolved: BTreeSet<u64>,
    profiles: Option<Vec<(&'static str, &'static str, String)>>,
}

/// Where container engines keep the profile that they use unless told otherwise.
const PROFILES: &[(&str, &str)] = &[
    ("Podman's default profile", "/etc/containers/seccomp.json"),
    ("Podman's default profile", "/usr/share/containers/seccomp.json"),
    ("Docker's default profile", "/etc/docker/seccomp.json"),
];

/// The versions of the kernel whose calls a runtime's libseccomp knows ([`Target::library`]).
const LIBRARIES: [(&str, Option<(u8, u8)>); 3] = [
    ("a libseccomp that knows every call", None),
    ("libseccomp with the calls of Linux 5.17", Some((5, 17))),
    ("libseccomp with the calls of Linux 6.7", Some((6, 7))),
];

impl Registry {
    /// The rows of `known.tsv`.
    pub fn new() -> Registry {
        let known = include_str!("known.tsv")
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| {
                let mut fields = line.split('\t').map(str::to_owned);
                let digest = fields.next()?;
                let known =
                    Known { name: fields.next()?, detail: fields.next()?, source: fields.next()? };
                Some((digest, known))
            });
        Registry { known: known.collect(), ..Registry::default() }
    }

    /// Resolves the profiles on this machine for a set of capabilities, if that was not done.
    pub fn resolve_for(&mut self, capabilities: u64) {
        if !self.resolved.insert(capabilities) {
            return;
        }
        let (Some(arch), Some(kernel)) = (Arch::NATIVE, kernel()) else { return };
        let profiles = self.profiles.get_or_insert_with(|| {
            let read = |&(name, path): &(&'static str, &'static str)| {
                Some((name, path, fs::read_to_string(path).ok()?))
            };
            PROFILES.iter().filter_map(read).collect()
        });
        for (name, path, text) in profiles {
            for (digest, detail) in decisions_of_profile(text, arch, kernel, capabilities) {
                let detail = format!("{detail}, {}", count(capabilities));
                let known = Known { name: (*name).to_owned(), detail, source: (*path).to_owned() };
                self.known.entry(digest).or_insert(known);
            }
        }
    }

    /// What a decision is known as, by its [`digest`].
    pub fn find(&self, digest: &str) -> Option<&Known> {
        self.known.get(digest)
    }
}

/// The SHA-256 of a decision, in hexadecimal: equal exactly for equal decisions.
pub fn digest(decision: &Decision) -> String {
    sha256(&decision.to_bytes())
}

/// The decisions that container engines make of a profile for these capabilities, by digest, with
/// the runtime and its library; what they would refuse is left out.
pub fn decisions_of_profile(
    text: &str,
    arch: Arch,
    kernel: KernelVersion,
    capabilities: u64,
) -> BTreeMap<String, String> {
    let mut decisions = BTreeMap::new();
    for (runtime, name) in [(Runtime::Runc, "runc"), (Runtime::Crun, "crun")] {
        for (library, version) in LIBRARIES {
            let mut target = Target::new(arch, kernel);
            target.capabilities = names(capabilities).map(str::to_owned).collect();
            target.runtime = runtime;
            target.library = version.map(|(major, minor)| KernelVersion::new(major, minor));
            let decision = oci::import(text, &target)
                .ok()
                .and_then(|imported| imported.policy.lower().ok()?.decision().ok());
            if let Some(decision) = decision {
                decisions.entry(digest(&decision)).or_insert(format!("{name}, {library}"));
            }
        }
    }
    decisions
}

/// The SHA-256 of bytes, in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The names of the capabilities of a mask.
pub fn names(mask: u64) -> impl Iterator<Item = &'static str> {
    CAPABILITIES.iter().enumerate().filter(move |(bit, _)| mask >> bit & 1 == 1).map(|(_, n)| *n)
}

/// The mask of the capabilities that Docker gives unless told otherwise.
pub fn docker_capabilities() -> u64 {
    let bits = CAPABILITIES.iter().enumerate();
    bits.filter(|(_, name)| Target::DOCKER_CAPABILITIES.contains(name))
        .fold(0, |mask, (bit, _)| mask | 1 << bit)
}

fn count(mask: u64) -> String {
    if mask == docker_capabilities() {
        return "Docker's default capabilities".to_owned();
    }
    match names(mask).count() {
        0 => "no capabilities".to_owned(),
        count if count == CAPABILITIES.len() => "all capabilities".to_owned(),
        count => format!("{count} capabilities"),
    }
}

/// The running kernel's version.
fn kernel() -> Option<KernelVersion> {
    let release = rustix::system::uname();
    KernelVersion::from_release(release.release().to_str().ok()?).ok()
}

/// The capabilities by number (`linux/capability.h`, Linux 6.18).
pub const CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_whole_and_stands_once() {
        let rows: Vec<&str> =
            include_str!("known.tsv").lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(Registry::new().known.len(), rows.len());
        for row in rows {
            let fields: Vec<&str> = row.split('\t').collect();
            assert_eq!((fields.len(), fields[0].len()), (4, 64), "{row}");
            assert!(fields.iter().all(|field| !field.is_empty()), "{row}");
        }
    }

    #[test]
    fn dockers_capabilities_are_those_of_the_mask_that_containers_show() {
        // CapBnd of a container that Docker started with no options.
        assert_eq!(docker_capabilities(), 0xa804_25fb);
        assert_eq!(names(1 << 21).collect::<Vec<_>>(), ["CAP_SYS_ADMIN"]);
    }
}
