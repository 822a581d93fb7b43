//! What a profile is resolved for: profiles select their rules by architecture, kernel and
//! capabilities, and different runtimes make different filters of the same text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use strait_abi::{Arch, KernelVersion};

use crate::text::nearest;

/// Which runtime loads an OCI profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Runtime {
    /// runc: answers ENOSYS to what is newer than the profile.
    Runc,
    /// crun: loads what libseccomp makes, as it is.
    Crun,
}

impl Runtime {
    /// Every runtime.
    pub const ALL: &[Runtime] = &[Runtime::Runc, Runtime::Crun];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Runtime::Runc => "runc",
            Runtime::Crun => "crun",
        }
    }

    /// The set of calls that it needs itself, between loading the filter and the container's exec.
    pub const fn needs(self) -> &'static str {
        match self {
            Runtime::Runc => "set:runtime-runc",
            Runtime::Crun => "set:runtime-crun",
        }
    }

    /// The named set of what it calls besides to hand over the listener of a filter that notifies.
    pub const fn hands_over_by(self) -> &'static str {
        match self {
            Runtime::Runc => "set:listener-runc",
            Runtime::Crun => "set:listener-crun",
        }
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that names no runtime.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no runtime{}", .nearest.as_ref().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default())]
pub struct UnknownRuntime {
    /// The text.
    pub name: String,
    /// A runtime that it may be meant to be.
    pub nearest: Option<String>,
}

impl FromStr for Runtime {
    type Err = UnknownRuntime;

    fn from_str(name: &str) -> Result<Runtime, UnknownRuntime> {
        let runtime = Runtime::ALL.iter().copied().find(|runtime| runtime.name() == name);
        runtime.ok_or_else(|| UnknownRuntime {
            name: name.to_owned(),
            nearest: nearest(name, Runtime::ALL.iter().map(|runtime| runtime.name())),
        })
    }
}

/// A text that names no capability.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no capability{}", .nearest.as_ref().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default())]
pub struct UnknownCapability {
    /// The text.
    pub name: String,
    /// A capability that it may be meant to be.
    pub nearest: Option<String>,
}

/// What a profile is resolved for. Each format asks for what it needs of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The machine's own ABI.
    pub arch: Arch,
    /// Its kernel.
    pub kernel: KernelVersion,
    /// The capabilities that the container gets, such as `CAP_CHOWN`.
    pub capabilities: BTreeSet<String>,
    /// The runtime.
    pub runtime: Runtime,
    /// The newest kernel whose calls the runtime's libseccomp knows, if that is known: names of
    /// newer calls are skipped as any unknown name is. libseccomp 2.5.4 knows those of 5.17, as
    /// Debian 12 has it those of 6.7.
    pub library: Option<KernelVersion>,
    /// Which of the filters in a file with several, by name.
    pub thread: Option<String>,
    /// Files that a profile may refer to, by the name that it uses for them. A name that is not
    /// here is [`super::FormatError::MissingFile`]: nothing is read by this crate.
    pub files: BTreeMap<String, String>,
}

impl Target {
    /// The capabilities that Docker gives unless told otherwise.
    pub const DOCKER_CAPABILITIES: &[&str] = &[
        "CAP_AUDIT_WRITE",
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_KILL",
        "CAP_MKNOD",
        "CAP_NET_BIND_SERVICE",
        "CAP_NET_RAW",
        "CAP_SETFCAP",
        "CAP_SETGID",
        "CAP_SETPCAP",
        "CAP_SETUID",
        "CAP_SYS_CHROOT",
    ];

    /// Every capability, as Linux 7.1 has them (`include/uapi/linux/capability.h`).
    pub const CAPABILITIES: &[&str] = &[
        "CAP_AUDIT_CONTROL",
        "CAP_AUDIT_READ",
        "CAP_AUDIT_WRITE",
        "CAP_BLOCK_SUSPEND",
        "CAP_BPF",
        "CAP_CHECKPOINT_RESTORE",
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_DAC_READ_SEARCH",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_IPC_LOCK",
        "CAP_IPC_OWNER",
        "CAP_KILL",
        "CAP_LEASE",
        "CAP_LINUX_IMMUTABLE",
        "CAP_MAC_ADMIN",
        "CAP_MAC_OVERRIDE",
        "CAP_MKNOD",
        "CAP_NET_ADMIN",
        "CAP_NET_BIND_SERVICE",
        "CAP_NET_BROADCAST",
        "CAP_NET_RAW",
        "CAP_PERFMON",
        "CAP_SETFCAP",
        "CAP_SETGID",
        "CAP_SETPCAP",
        "CAP_SETUID",
        "CAP_SYSLOG",
        "CAP_SYS_ADMIN",
        "CAP_SYS_BOOT",
        "CAP_SYS_CHROOT",
        "CAP_SYS_MODULE",
        "CAP_SYS_NICE",
        "CAP_SYS_PACCT",
        "CAP_SYS_PTRACE",
        "CAP_SYS_RAWIO",
        "CAP_SYS_RESOURCE",
        "CAP_SYS_TIME",
        "CAP_SYS_TTY_CONFIG",
        "CAP_WAKE_ALARM",
    ];

    /// The same with these capabilities in place of Docker's: names with or without `CAP_`, in
    /// either case, and the words `ALL`, `NONE` and `DOCKER` for sets of them.
    ///
    /// # Errors
    /// If a word is neither.
    pub fn with_capabilities<'a>(
        mut self,
        words: impl IntoIterator<Item = &'a str>,
    ) -> Result<Target, UnknownCapability> {
        self.capabilities.clear();
        for word in words {
            let upper = word.to_ascii_uppercase();
            let name = format!("CAP_{}", upper.strip_prefix("CAP_").unwrap_or(&upper));
            let set = match upper.as_str() {
                "ALL" => Target::CAPABILITIES,
                "DOCKER" => Target::DOCKER_CAPABILITIES,
                "NONE" => &[],
                _ => match Target::CAPABILITIES.iter().position(|known| **known == name) {
                    Some(index) => &Target::CAPABILITIES[index..=index],
                    None => {
                        let nearest = nearest(&name, Target::CAPABILITIES.iter().copied());
                        return Err(UnknownCapability { name: word.to_owned(), nearest });
                    }
                },
            };
            self.capabilities.extend(set.iter().map(|&name| name.to_owned()));
        }
        Ok(self)
    }

    /// A machine with runc and Docker's capabilities.
    pub fn new(arch: Arch, kernel: KernelVersion) -> Target {
        let capabilities = Target::DOCKER_CAPABILITIES.iter().map(|&name| name.into()).collect();
        Target {
            arch,
            kernel,
            capabilities,
            runtime: Runtime::Runc,
            library: None,
            thread: None,
            files: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_named_with_or_without_their_prefix_and_by_sets() {
        let target = Target::new(Arch::X86_64, KernelVersion::new(6, 18));
        let of = |words: &[&str]| target.clone().with_capabilities(words.iter().copied());
        let one = of(&["net_admin", "CAP_BPF"]).unwrap().capabilities;
        assert_eq!(one.iter().collect::<Vec<_>>(), ["CAP_BPF", "CAP_NET_ADMIN"]);
        assert_eq!(of(&["docker"]).unwrap(), target);
        assert_eq!(of(&["ALL"]).unwrap().capabilities.len(), 41);
        assert!(of(&["NONE"]).unwrap().capabilities.is_empty());
        let error = of(&["CAP_SYS_ADMN"]).unwrap_err().to_string();
        assert!(error.contains("did you mean `CAP_SYS_ADMIN`?"), "{error}");
        let default = of(Target::DOCKER_CAPABILITIES).unwrap();
        assert_eq!(default, target, "every one of Docker's is a capability");
    }

    #[test]
    fn runtimes_have_names() {
        for &runtime in Runtime::ALL {
            assert_eq!(runtime.name().parse(), Ok(runtime));
        }
        let error = "runcc".parse::<Runtime>().unwrap_err().to_string();
        assert!(error.contains("did you mean `runc`?"), "{error}");
    }
}
