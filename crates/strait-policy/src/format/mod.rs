//! The profile formats of the field, in and out.
//!
//! A profile is read for a machine into the [`Rules`] that its own tools would
//! install there, and those are raised to a policy. A policy is written, and what was written is
//! read back: where it then decides otherwise, the format could not say what the policy says.

pub mod bpf;
mod detect;
pub mod oci;
pub(crate) mod product;
pub mod seccompiler;
pub mod spo;
pub mod strace;

pub use detect::{Format, UnknownFormat};
use strait_abi::{Arch, Syscall};
use strait_bpf::{Action, Difference, FileError, Undecided};

use crate::policy::Architectures;
use crate::rules::{Rules, Table};
use crate::text::{ParseError, Place};
use crate::{LowerError, Policy};

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
#[derive(Clone, Debug)]
pub struct Exported {
    /// The profile.
    pub text: String,
    /// What the profile's own tools would do otherwise than the policy says: nothing, or examples
    /// of it. The first decision of each difference is the policy's.
    pub losses: Vec<Difference>,
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
    /// The format has no spelling for something that the policy cannot do without.
    #[error("{what} cannot be said in this format: {right}")]
    Inexpressible {
        /// What.
        what: String,
        /// What to do.
        right: String,
    },
}

/// Where two sets of rules give calls of these ABIs different answers. Numbers are only looked at
/// if they are calls, or that of the call that comes next: what a filter answers to a
/// number that no kernel has ever had is nobody's loss.
pub(crate) fn compare(
    one: &Rules,
    other: &Rules,
    architectures: &Architectures,
) -> Result<Vec<Difference>, Undecided> {
    let calls = |rules: &Rules| {
        let mut calls = Rules::new(Action::Allow);
        for arch in architectures.iter() {
            let Some(table) = rules.table(arch.audit_arch()) else { continue };
            let known = calls.table(arch.audit_arch()).cloned();
            let mut only = known.unwrap_or_else(|| Table::new(Action::Allow));
            for nr in Syscall::all().filter_map(|call| call.number(arch)) {
                only.set(nr, nr, table.chain(nr).clone());
            }
            // The next call that a kernel gets will have this number.
            let next = arch.last_number(Arch::tables_as_of()) + 1;
            only.set(next, next, table.chain(next).clone());
            calls = calls.with_table(arch.audit_arch(), only);
        }
        calls.decision()
    };
    let (one, other) = (calls(one)?, calls(other)?);
    if one == other { Ok(Vec::new()) } else { Ok(one.compare(&other)?.differences) }
}
