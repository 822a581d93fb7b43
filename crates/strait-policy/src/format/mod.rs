//! The profile formats of the field, in and out.
//!
//! A profile is read for a [`Target`] into the rules that its own tools would install there, and
//! those are raised to a policy. A policy is written, and what was written is read back: where it
//! then decides otherwise, the format could not say what the policy says.
//!
//! A format is a file with a `Codec`, a variant of [`Format`], and a line in `Format::codec`.

pub mod bpf;
mod detect;
pub mod kafel;
mod libseccomp;
mod loss;
pub mod lxc;
pub mod minijail;
pub mod oci;
pub(crate) mod product;
pub mod seccompiler;
pub mod spo;
mod strait;
pub mod systemd;
mod target;

use std::fmt;
use std::str::FromStr;

use strait_bpf::{Difference, FileError, Undecided};

pub(crate) use detect::Sample;
pub use loss::demands;
pub use target::{Runtime, Target, UnknownCapability, UnknownRuntime};

use crate::text::{MAX_BYTES, ParseError, Place, Problem, Span, nearest};
use crate::{LowerError, Policy};

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
    /// Unit of systemd.
    Systemd,
    /// Policy of Kafel, which nsjail takes.
    Kafel,
    /// Profile of LXC, version 1 or 2.
    Lxc,
    /// `.policy` file of minijail.
    Minijail,
    /// JSON of seccompiler.
    Seccompiler,
    /// An array of `struct sock_filter`.
    Bpf,
}

impl Format {
    /// Every format, in the order in which they are recognised.
    pub const ALL: &[Format] = &[
        Format::Strait,
        Format::Spo,
        Format::Oci,
        Format::Seccompiler,
        Format::Systemd,
        Format::Lxc,
        Format::Minijail,
        Format::Kafel,
        Format::Bpf,
    ];

    const fn codec(self) -> &'static Codec {
        match self {
            Format::Strait => &strait::CODEC,
            Format::Oci => &oci::CODEC,
            Format::Spo => &spo::CODEC,
            Format::Kafel => &kafel::CODEC,
            Format::Lxc => &lxc::CODEC,
            Format::Minijail => &minijail::CODEC,
            Format::Seccompiler => &seccompiler::CODEC,
            Format::Systemd => &systemd::CODEC,
            Format::Bpf => &bpf::CODEC,
        }
    }

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        self.codec().name
    }

    /// What a file in this format is on the target, as a policy.
    ///
    /// # Errors
    /// If it is not in this format, or the format's own tools would refuse it.
    pub fn import(self, bytes: &[u8], target: &Target) -> Result<Imported, FormatError> {
        if bytes.len() > MAX_BYTES {
            let fault = Span::default().fault(Problem::TooLarge { bytes: bytes.len() });
            return Err(fault.in_text("").into());
        }
        (self.codec().import)(bytes, target)
    }

    /// The policy in this format, for the target.
    ///
    /// # Errors
    /// If the policy has no meaning, or the format cannot hold it at all. A program is for the
    /// compiler to make.
    pub fn export(self, policy: &Policy, target: &Target) -> Result<Exported, FormatError> {
        let mut exported = (self.codec().export)(policy, target)?;
        if self != Format::Strait {
            exported.demands.extend(demands(policy));
            exported.notes.extend(loss::beside_decisions(policy));
        }
        Ok(exported)
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

/// How one format is recognised, read and written.
pub(crate) struct Codec {
    /// The name on the command line.
    pub(crate) name: &'static str,
    /// Whether a text is meant to be in this format, mistakes and all.
    pub(crate) recognises: fn(&Sample<'_>) -> bool,
    /// What a file is on the target.
    pub(crate) import: fn(&[u8], &Target) -> Result<Imported, FormatError>,
    /// The policy as a file; [`Exported::new`] finds the losses.
    pub(crate) export: fn(&Policy, &Target) -> Result<Exported, FormatError>,
}

/// The bytes of a format that is text.
pub(crate) fn as_text(bytes: &[u8]) -> Result<&str, FormatError> {
    std::str::from_utf8(bytes).map_err(|error| FormatError::Encoding { at: error.valid_up_to() })
}

/// A profile as a policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// What the profile means.
    pub policy: Policy,
    /// What its tools would pass over in silence, or what the policy cannot carry.
    pub notes: Vec<Note>,
}

/// Something about a profile that its reader should know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    /// Where in the profile, if it is about one place.
    pub place: Option<Place>,
    /// What.
    pub message: String,
}

/// A policy as a profile.
#[derive(Clone, Debug, Default)]
pub struct Exported {
    /// The profile.
    pub text: String,
    /// Calls for which the profile's own tools would do otherwise than the policy says. The first
    /// decision of each difference is the policy's.
    pub losses: Vec<Difference>,
    /// What the policy demands besides answers to calls, and the profile does not, a sentence each.
    pub demands: Vec<String>,
    /// What else the policy says and the profile does not: nothing that makes a call of the
    /// policy's architectures pass or fail, a sentence each.
    pub notes: Vec<String>,
}

/// Why a profile was not read or written.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The text is no such profile.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The policy has no meaning.
    #[error(transparent)]
    Lower(#[from] LowerError),
    /// Meanings are too intricate to be compared.
    #[error("the profile's meaning cannot be compared")]
    Undecided(#[from] Undecided),
    /// The bytes are no program.
    #[error(transparent)]
    Program(#[from] FileError),
    /// The bytes are no text.
    #[error("this is not UTF-8: byte {at} is wrong")]
    Encoding {
        /// Which byte.
        at: usize,
    },
    /// The profile refers to a file that [`Target::files`] has not.
    #[error(
        "{place}: it refers to `{name}`, which is not beside it: give it by `--file {name}=PATH`"
    )]
    MissingFile {
        /// The name that the profile uses.
        name: String,
        /// Where it does.
        place: Place,
    },
    /// A file that the profile includes is wrong.
    #[error("in `{name}`, {source}")]
    Included {
        /// The name that the profile uses for the file.
        name: String,
        /// What is wrong in it.
        source: ParseError,
    },
    /// A file with filters for several threads, none of which was chosen.
    #[error("{}it has filters for {names}: choose one of them", .wanted.as_ref().map(|name| format!("there is no thread `{name}`; ")).unwrap_or_default())]
    Thread {
        /// The threads that it has.
        names: String,
        /// The one that was asked for.
        wanted: Option<String>,
    },
    /// The format has no spelling for something that the policy cannot do without.
    #[error("{what} cannot be said in this format: {right}")]
    Inexpressible {
        /// What.
        what: String,
        /// What to do.
        right: String,
    },
}

/// What a policy that was read from a profile gives a call by name, for the formats' tests.
#[cfg(test)]
pub(crate) fn decide(
    policy: &Policy,
    arch: strait_abi::Arch,
    call: &str,
    args: [u64; 6],
) -> strait_bpf::Action {
    let nr = strait_abi::Syscall::from_name(call).unwrap().number(arch).unwrap();
    let data = strait_bpf::SeccompData::new(arch.audit_arch(), nr).with_args(args);
    policy.lower().unwrap().decide(&data)
}
