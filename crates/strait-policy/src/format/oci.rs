//! OCI runtime spec JSON, as Docker, Podman, containerd and CRI-O take it.
//!
//! The reference is what the runtimes load, by way of libseccomp:
//!
//! - a name that libseccomp does not know is skipped, and so is a rule whose action is the default;
//! - a call's first rule without arguments decides, whatever stands before or after it;
//! - conditions of one rule hold together, unless two are on one argument: then each is a rule;
//! - of several rules with conditions the tree decides that libseccomp merges them into, and a rule
//!   that contradicts another is refused (`docs/design/044-profiles-as-installed.md`);
//! - arguments are compared as whole registers;
//! - on ABIs with `socketcall` and `ipc`, a rule for a socket call is a rule for those too;
//! - other audit arches, and x32 numbers where x32 is not listed, get kill-thread;
//! - runc answers ENOSYS to numbers greater than the greatest that the profile names, on the
//!   ABIs that it lists, unless the default lets calls pass.
//!
//! Docker and Podman take more than the runtimes: `archMap`, `includes` and `excludes` are resolved
//! for the machine and capabilities of [`Target`], as they do it before a runtime is asked.

mod engine;
mod export;
mod profile;
mod runtime;

use std::collections::BTreeSet;

use strait_abi::Arch;

pub use engine::{Engine, ForEngine, UnknownEngine, for_runtimes, with_needs};
pub(super) use export::{JsonArg as Clause, clauses_of};
pub use export::{export, export_asking};
pub(super) use profile::OciRule;

use super::{Codec, FormatError, Imported, Note, Runtime, Target, as_text};
use crate::policy::{Architectures, Unknown};
use crate::raise::raise;
use crate::text;

pub(super) const CODEC: Codec = Codec {
    name: "oci",
    recognises: |sample| sample.has_any(&["defaultAction", "archMap", "linux", "ociVersion"]),
    import: |bytes, target| import(as_text(bytes)?, target),
    export,
};

/// What the runtime would install on the target, as a policy.
///
/// # Errors
/// If the text is no profile, or one that the runtime would refuse.
pub fn import(text: &str, target: &Target) -> Result<Imported, FormatError> {
    let root = text::read_json(text).map_err(|fault| fault.in_text(text))?;
    import_profile(&root, text, target, Vec::new())
}

/// The rules of a profile that another stands on, which say of themselves that they stand at `at`.
pub(super) fn resolve_rules(
    root: &text::Node,
    at: text::Span,
    target: &Target,
) -> Result<Vec<OciRule>, text::Fault> {
    let fault = |fault| text::Fault { span: at, ..fault };
    let profile = profile::resolve(root, target, &mut Vec::new()).map_err(fault)?;
    Ok(profile.rules.into_iter().map(|rule| OciRule { span: at, ..rule }).collect())
}

/// The same of a profile that stands somewhere in `text`, and on other rules.
pub(super) fn import_profile(
    root: &text::Node,
    text: &str,
    target: &Target,
    base: Vec<OciRule>,
) -> Result<Imported, FormatError> {
    let mut notes = Vec::new();
    let mut profile =
        profile::resolve(root, target, &mut notes).map_err(|fault| fault.in_text(text))?;
    profile.rules.splice(0..0, base);
    let rules = runtime::install(&profile, target).map_err(|fault| fault.in_text(text))?;
    let mut arches: BTreeSet<Arch> = profile.listed.iter().copied().collect();
    arches.insert(target.arch);
    let architectures = Architectures::new(arches).unwrap_or_else(|| target.arch.into());
    let unknown = runtime::beyond_all_names(&rules, target.arch)
        .filter(|action| *action != profile.default)
        .map(|action| Unknown { after: Arch::tables_as_of(), action });
    let policy = raise(&rules, architectures, profile.default, unknown)?;
    let mut notes: Vec<Note> = text::located(text, notes)
        .map(|(message, place)| Note { place: Some(place), message })
        .collect();
    notes.sort();
    Ok(Imported { policy, notes })
}
