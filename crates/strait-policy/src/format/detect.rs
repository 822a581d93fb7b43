//! Which format a file is in, and reading and writing by its name.

use std::fmt;
use std::str::FromStr;

use strait_bpf::Program;

use super::oci::{self, Machine};
use super::{Exported, FormatError, Imported, bpf, seccompiler, spo};
use crate::policy::{KIND, Policy};
use crate::text::{self, Node, Value, nearest};

/// A format of profiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Format {
    /// Strait's own document.
    Strait,
    /// OCI runtime spec JSON.
    Oci,
    /// `SeccompProfile` of the Security Profiles Operator.
    Spo,
    /// JSON of seccompiler.
    Seccompiler,
    /// An array of `struct sock_filter`.
    Bpf,
}

impl Format {
    /// Every format.
    pub const ALL: &[Format] =
        &[Format::Strait, Format::Oci, Format::Spo, Format::Seccompiler, Format::Bpf];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Strait => "strait",
            Format::Oci => "oci",
            Format::Spo => "spo",
            Format::Seccompiler => "seccompiler",
            Format::Bpf => "bpf",
        }
    }

    /// The format that the bytes look like: what a person who wrote them meant, mistakes and all.
    /// A text that looks like none is taken for a policy, whose reader says what is wrong with it.
    pub fn detect(bytes: &[u8]) -> Format {
        let Ok(text) = std::str::from_utf8(bytes) else { return Format::Bpf };
        if text.bytes().any(|byte| byte == 0) {
            return Format::Bpf;
        }
        match text::read_yaml(text) {
            Ok(root) => of_tree(&root),
            Err(_) if text.contains(spo::KIND) => Format::Spo,
            Err(_) if text.contains("defaultAction") => Format::Oci,
            Err(_) if text.contains("match_action") || text.contains("filter_action") => {
                Format::Seccompiler
            }
            Err(_) => Format::Strait,
        }
    }

    /// What a file in this format is on the machine, as a policy.
    ///
    /// # Errors
    /// If it is not in this format, or the format's own tools would refuse it.
    pub fn import(self, bytes: &[u8], machine: &Machine) -> Result<Imported, FormatError> {
        if self == Format::Bpf {
            return bpf::import(&Program::from_bytes(bytes)?);
        }
        let text = std::str::from_utf8(bytes)
            .map_err(|error| FormatError::Encoding { at: error.valid_up_to() })?;
        match self {
            Format::Strait | Format::Bpf => {
                Ok(Imported { policy: Policy::parse(text)?, notes: Vec::new() })
            }
            Format::Oci => oci::import(text, machine),
            Format::Spo => spo::import(text, machine),
            Format::Seccompiler => {
                let mut threads = seccompiler::import(text, machine.arch)?;
                let names: Vec<String> = threads.keys().cloned().collect();
                match (threads.pop_first(), names.len()) {
                    (Some((_, imported)), 1) => Ok(imported),
                    _ => Err(FormatError::Inexpressible {
                        what: format!("a file with filters for {}", names.join(", ")),
                        right: "a policy is for one: name the thread".to_owned(),
                    }),
                }
            }
        }
    }

    /// The policy in this format, for the machine.
    ///
    /// # Errors
    /// If the policy has no meaning, or the format cannot hold it at all. A program is for the
    /// compiler to make.
    pub fn export(self, policy: &Policy, machine: &Machine) -> Result<Exported, FormatError> {
        match self {
            Format::Strait => Ok(Exported { text: policy.to_string(), losses: Vec::new() }),
            Format::Oci => oci::export(policy, machine),
            Format::Spo => spo::export(policy, machine),
            Format::Seccompiler => {
                let thread = policy.metadata.name.as_deref().unwrap_or("main");
                seccompiler::export(policy, thread)
            }
            Format::Bpf => Err(FormatError::Inexpressible {
                what: "a program".to_owned(),
                right: "use `strait compile`".to_owned(),
            }),
        }
    }
}

fn of_tree(root: &Node) -> Format {
    let Value::Map(entries) = &root.value else { return Format::Strait };
    let field = |name: &str| entries.iter().find(|entry| &*entry.key == name).map(|e| &e.node);
    let has = |node: &Node, names: &[&str]| match &node.value {
        Value::Map(entries) => entries.iter().any(|entry| names.contains(&&*entry.key)),
        _ => false,
    };
    match field("kind").map(|node| &node.value) {
        Some(Value::Text(kind)) if **kind == *KIND => return Format::Strait,
        Some(Value::Text(kind)) if **kind == *spo::KIND => return Format::Spo,
        _ => {}
    }
    let actions = ["match_action", "filter_action", "mismatch_action", "default_action"];
    if has(root, &["defaultAction", "linux", "archMap", "ociVersion"]) {
        Format::Oci
    } else if !entries.is_empty() && entries.iter().all(|entry| has(&entry.node, &actions)) {
        Format::Seccompiler
    } else {
        Format::Strait
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that names no format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no format{}", .nearest.as_ref().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default())]
pub struct UnknownFormat {
    /// The text.
    pub name: String,
    /// A format that it may be meant to be.
    pub nearest: Option<String>,
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Format, UnknownFormat> {
        let format = Format::ALL.iter().copied().find(|format| format.name() == name);
        format.ok_or_else(|| UnknownFormat {
            name: name.to_owned(),
            nearest: nearest(name, Format::ALL.iter().map(|format| format.name())),
        })
    }
}

#[cfg(test)]
mod tests {
    use strait_abi::{Arch, KernelVersion};

    use super::*;

    const POLICY: &str = "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec:\n  \
        architectures: [x86_64]\n  foreign: kill-thread\n  default: errno(EPERM)\n  rules:\n  \
        - {syscalls: [exit_group, read], action: allow}\n  \
        - {syscalls: [socket], when: domain == AF_UNIX, action: allow}\n";

    #[test]
    fn what_is_written_is_recognised_and_means_the_same() {
        let policy = Policy::parse(POLICY).unwrap();
        let machine = Machine::new(Arch::X86_64, KernelVersion::new(6, 18));
        let meaning = policy.lower().unwrap();
        for &format in Format::ALL.iter().filter(|format| **format != Format::Bpf) {
            let exported = format.export(&policy, &machine).unwrap();
            let bytes = exported.text.as_bytes();
            assert_eq!(Format::detect(bytes), format, "{}", exported.text);
            let again = format.import(bytes, &machine).unwrap().policy.lower().unwrap();
            let differences = super::super::compare(&meaning, &again, &policy.architectures);
            assert_eq!(differences.unwrap().len(), exported.losses.len(), "{format}");
            assert_eq!(format.name().parse(), Ok(format));
        }
    }

    #[test]
    fn a_file_with_mistakes_is_still_what_it_was_meant_to_be() {
        for (bytes, format) in [
            (&b"{\"defaultAction\": 1 # x\n}"[..], Format::Oci),
            (b"kind: SyscallPolicy\nspec: [", Format::Strait),
            (b"", Format::Strait),
            (b"\x20\x00\x00\x00\x04\x00\x00\x00", Format::Bpf),
            (b"\xff\xfe", Format::Bpf),
            (b"{\"vmm\": {\"match_action\": ", Format::Seccompiler),
        ] {
            assert_eq!(Format::detect(bytes), format);
        }
    }
}
