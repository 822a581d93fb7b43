//! OCI runtime spec JSON, as Docker, Podman, containerd and CRI-O take it.
//!
//! The reference is what the runtimes load, by way of libseccomp:
//!
//! - a name that libseccomp does not know is skipped, and so is a rule whose action is the default;
//! - a call's first rule without arguments decides, whatever stands before or after it;
//! - conditions of one rule hold together, unless two are on one argument: then each is a rule;
//! - arguments are compared as whole registers;
//! - on ABIs with `socketcall` and `ipc`, a rule for a socket call is a rule for those too;
//! - other audit arches, and x32 numbers where x32 is not listed, get kill-thread;
//! - runc answers ENOSYS to numbers greater than the greatest that the profile names, on the
//!   ABIs that it lists, unless the default lets calls pass.
//!
//! Docker and Podman take more than the runtimes: `archMap`, `includes` and `excludes` are resolved
//! for the machine and capabilities of [`Machine`], as they do it before a runtime is asked.

mod export;
mod libseccomp;
mod profile;

use std::collections::BTreeSet;

use strait_abi::{Arch, KernelVersion};

pub use export::export;

use super::{FormatError, Imported, Note};
use crate::policy::{Architectures, Unknown};
use crate::raise::raise;
use crate::text;

/// Which runtime loads the filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// runc: answers ENOSYS to what is newer than the profile.
    Runc,
    /// crun: loads what libseccomp makes, as it is.
    Crun,
}

/// What a profile is resolved for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The machine's own ABI.
    pub arch: Arch,
    /// Its kernel.
    pub kernel: KernelVersion,
    /// The capabilities that the container gets, such as `CAP_CHOWN`.
    pub capabilities: BTreeSet<String>,
    /// The runtime.
    pub runtime: Runtime,
    /// The newest kernel whose calls the runtime's libseccomp knows, if that is known: names of
    /// newer calls are skipped as any unknown name is. libseccomp 2.5.4 knows those of 5.17, as Debian 12 has it those of 6.7.
    pub library: Option<KernelVersion>,
}

impl Machine {
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

    /// A machine with runc and Docker's capabilities.
    pub fn new(arch: Arch, kernel: KernelVersion) -> Machine {
        let capabilities = Machine::DOCKER_CAPABILITIES.iter().map(|&name| name.into()).collect();
        Machine { arch, kernel, capabilities, runtime: Runtime::Runc, library: None }
    }
}

/// What the runtime would install on the machine, as a policy.
///
/// # Errors
/// If the text is no profile, or one that the runtime would refuse.
pub fn import(text: &str, machine: &Machine) -> Result<Imported, FormatError> {
    let root = text::read_json(text).map_err(|fault| fault.in_text(text))?;
    import_profile(&root, text, machine)
}

/// The same of a profile that stands somewhere in `text`.
pub(crate) fn import_profile(
    root: &text::Node,
    text: &str,
    machine: &Machine,
) -> Result<Imported, FormatError> {
    let mut notes = Vec::new();
    let profile =
        profile::resolve(root, machine, &mut notes).map_err(|fault| fault.in_text(text))?;
    let rules = libseccomp::install(&profile, machine);
    let mut arches: BTreeSet<Arch> = profile.listed.iter().copied().collect();
    arches.insert(machine.arch);
    let architectures = Architectures::new(arches).unwrap_or_else(|| machine.arch.into());
    let unknown = libseccomp::beyond_all_names(&rules, machine.arch)
        .filter(|action| *action != profile.default)
        .map(|action| Unknown { after: Arch::tables_as_of(), action });
    let policy = raise(&rules, architectures, profile.default, unknown)?;
    let mut notes: Vec<Note> = notes
        .into_iter()
        .map(|(span, message)| Note { place: Some(span.place(text)), message })
        .collect();
    notes.sort();
    Ok(Imported { policy, notes })
}
