//! Confining a container by a policy of the administrator's: which, and the profile that it comes to.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde_json::Value;
use strait_abi::{Arch, KernelVersion};
use strait_bpf::Action;
use strait_policy::format::{self, Format, FormatError, Runtime, Target, UnknownCapability};
use strait_policy::policy::{Architectures, Isolation, Necessity, Unknown};
use strait_policy::{Policy, action_text, call};

use super::bindings::{Bindings, BindingsError};
use super::image::Image;
use super::spec::{Spec, SpecError};
use super::{MODE, POLICY};

/// Where the administrator's policies are, unless told otherwise.
pub const POLICIES: &str = "/etc/strait/policies";
/// The file with the bindings of images, in that folder.
pub const BINDINGS: &str = "bindings";
/// No policy is larger, in bytes.
const LIMIT: u64 = 16 << 20;

/// What becomes of calls that a policy does not let pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// They get what the policy says.
    #[default]
    Enforce,
    /// They pass, and the kernel logs them.
    Log,
}

/// A text that names no mode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no mode of containers: write enforce or log")]
pub struct UnknownMode(String);

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Mode, UnknownMode> {
        match text {
            "enforce" => Ok(Mode::Enforce),
            "log" => Ok(Mode::Log),
            _ => Err(UnknownMode(text.to_owned())),
        }
    }
}

/// The name of a policy: letters, digits, `.`, `_` and `-`, no `.` first. It is never a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PolicyName(String);

/// A text that is no name of a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no name of a policy: it is the name of a file in the policy folder, of letters, digits, \
     `.`, `_` and `-`"
)]
pub struct InvalidName(String);

impl PolicyName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PolicyName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<PolicyName, InvalidName> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let is_name = (1..=200).contains(&text.len())
            && text.chars().all(fits)
            && !text.starts_with(['.', '-']);
        match is_name {
            true => Ok(PolicyName(text.to_owned())),
            // What is told of it is short, whatever it is.
            false => Err(InvalidName(text.chars().take(80).collect())),
        }
    }
}

/// What is to be done with a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The policy that confines it; none where the engine's own profile stays.
    pub policy: Option<PolicyName>,
    /// How that is enforced.
    pub mode: Mode,
    /// Whether its image is one of those that are to be recorded.
    pub record: bool,
}

/// Why a container cannot be confined as it should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The annotation names no policy.
    #[error("annotation {POLICY}")]
    Name(#[from] InvalidName),
    /// The annotation names no mode.
    #[error("annotation {MODE}")]
    Mode(#[from] UnknownMode),
    /// A mode is asked for and no policy.
    #[error("annotation {MODE} is for the policy that {POLICY} names, and there is none")]
    ModeAlone,
    /// The bindings cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The bindings are wrong.
    #[error("{}", path.display())]
    Bindings {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: BindingsError,
    },
    /// Bindings are by image, and the engine does not tell which that is.
    #[error(
        "which image the container is of cannot be told, and {} has no line `*`: name its policy by \
         the annotation {POLICY}", path.display()
    )]
    UnknownImage {
        /// The file.
        path: PathBuf,
    },
    /// There is no such policy.
    #[error("there is no policy `{name}` in {}: no {name}, {name}.yaml, {name}.yml or {name}.json",
        folder.display())]
    NoPolicy {
        /// Its name.
        name: PolicyName,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// Several files have the name.
    #[error("policy `{name}` is in several files: {} and {}", one.display(), other.display())]
    SeveralFiles {
        /// Its name.
        name: PolicyName,
        /// One of them.
        one: PathBuf,
        /// Another.
        other: PathBuf,
    },
    /// The container has a capability that is not known.
    #[error("the container's capabilities")]
    Capability(#[from] UnknownCapability),
    /// What kernel this is cannot be told.
    #[error("the kernel's version")]
    Kernel(#[from] strait_abi::InvalidKernelVersion),
    /// The file is no policy, or one that no profile can hold.
    #[error("{}", path.display())]
    Policy {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<FormatError>,
    },
    /// The runtime would not do what the policy says.
    #[error("{}: {runtime} cannot hold what it says: {what}", path.display())]
    Loss {
        /// The file.
        path: PathBuf,
        /// The runtime.
        runtime: Runtime,
        /// What.
        what: String,
    },
}

/// A folder of policies.
#[derive(Clone, Debug)]
pub struct Policies {
    folder: PathBuf,
}

impl Policies {
    /// The policies in this folder.
    pub fn new(folder: &Path) -> Policies {
        Policies { folder: folder.to_owned() }
    }

    /// What is to be done with a container: what its annotation says, else what is bound to its image.
    ///
    /// # Errors
    /// If that cannot be told.
    pub fn choose(&self, spec: &Spec, image: impl FnOnce() -> Image) -> Result<Choice, BindError> {
        let mode = spec.annotation(MODE)?.map(str::parse::<Mode>).transpose()?;
        if let Some(name) = spec.annotation(POLICY)? {
            let policy = Some(name.parse()?);
            return Ok(Choice { policy, mode: mode.unwrap_or_default(), record: false });
        }
        if mode.is_some() {
            return Err(BindError::ModeAlone);
        }
        let path = self.folder.join(BINDINGS);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Choice::default());
            }
            Err(source) => return Err(BindError::Read { path, source }),
            Ok(text) => text,
        };
        let wrong = |source| BindError::Bindings { path: path.clone(), source };
        let bindings = Bindings::parse(&text).map_err(wrong)?;
        if bindings.is_empty() {
            return Ok(Choice::default());
        }
        let image = image();
        match bindings.choose(&image).map_err(wrong)? {
            Some(binding) => Ok(Choice {
                policy: binding.policy.clone(),
                mode: binding.mode,
                record: binding.record,
            }),
            None if image.is_unknown() => Err(BindError::UnknownImage { path }),
            None => Ok(Choice::default()),
        }
    }

    /// The profile by which a policy confines this container, for these runtimes. `library` is the
    /// newest kernel whose calls their libseccomp knows, if that is known.
    ///
    /// # Errors
    /// If no profile says what the policy says, or by it calls would pass that the policy denies.
    pub fn profile(
        &self,
        name: &PolicyName,
        mode: Mode,
        spec: &Spec,
        runtimes: &[Runtime],
        library: Option<KernelVersion>,
    ) -> Result<Value, BindError> {
        let path = self.find(name)?;
        let bytes = read(&path).map_err(|source| BindError::Read { path: path.clone(), source })?;
        let failed = |error| BindError::Policy { path: path.clone(), source: Box::new(error) };
        let uname = rustix::system::uname();
        let kernel = KernelVersion::from_release(&uname.release().to_string_lossy())?;
        let mut target = Target::new(Arch::NATIVE.unwrap_or(Arch::X86_64), kernel)
            .with_capabilities(spec.capabilities())?;
        let mut profile = Value::Null;
        for &runtime in runtimes {
            let loss = |what| BindError::Loss { path: path.clone(), runtime, what };
            target.runtime = runtime;
            target.library = None;
            let imported = Format::detect(&bytes).import(&bytes, &target).map_err(failed)?;
            let policy = fitted(imported.policy, mode, runtimes);
            if let Some(what) = format::demands(&policy).into_iter().next() {
                return Err(loss(what));
            }
            let mut exported = Format::Oci.export(&policy, &target).map_err(failed)?;
            let mut differs = exported
                .losses
                .iter()
                .find(|loss| loss.first.lets_pass() != loss.second.lets_pass());
            let with_library;
            if library.is_some() && differs.is_none() {
                // Names that an older library skips are allowed no more, which is closed; or denied
                // no more, which is not.
                target.library = library;
                with_library = Format::Oci.export(&policy, &target).map_err(failed)?;
                differs = with_library
                    .losses
                    .iter()
                    .find(|loss| loss.second.lets_pass() && !loss.first.lets_pass());
                exported.text.clone_from(&with_library.text);
            }
            if let Some(one) = differs {
                let call = call::name(&one.witness).map_or_else(
                    || format!("call {}", one.witness.nr),
                    |call| call.name().to_owned(),
                );
                let (first, second) = (action_text(one.first), action_text(one.second));
                return Err(loss(format!("{call} would get {second} and not {first}")));
            }
            profile = serde_json::from_str(&exported.text).map_err(SpecError::from)?;
        }
        Ok(profile)
    }

    fn find(&self, name: &PolicyName) -> Result<PathBuf, BindError> {
        let files = ["", ".yaml", ".yml", ".json"]
            .map(|ending| self.folder.join(format!("{name}{ending}")));
        let mut found = files.into_iter().filter(|file| file.is_file());
        match (found.next(), found.next()) {
            (Some(one), None) => Ok(one),
            (Some(one), Some(other)) => {
                Err(BindError::SeveralFiles { name: name.clone(), one, other })
            }
            (None, _) => {
                Err(BindError::NoPolicy { name: name.clone(), folder: self.folder.clone() })
            }
        }
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(LIMIT + 1).read_to_end(&mut bytes)?;
    // A part of a policy may well be another policy.
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > LIMIT {
        return Err(io::Error::other(format!("it is larger than {} MiB", LIMIT >> 20)));
    }
    Ok(bytes)
}

/// The policy with what these runtimes call themselves, in this mode.
fn fitted(mut policy: Policy, mode: Mode, runtimes: &[Runtime]) -> Policy {
    for runtime in runtimes {
        let set = runtime.needs().to_owned();
        // `runc 1.1.5`: what it needs has been seen, and is less than what it may need.
        let is_this = |needing: &str| needing.split(' ').next() == Some(runtime.name());
        let seen = policy.necessity.values().flatten().any(
            |necessity| matches!(necessity, Necessity::NeededBy { runtime } if is_this(runtime)),
        );
        if !seen && !policy.include.contains(&set) {
            policy.include.push(set);
        }
    }
    if mode == Mode::Log {
        let log = |action: Action| if action.lets_pass() { action } else { Action::Log };
        policy.default = log(policy.default);
        policy.unknown =
            policy.unknown.map(|Unknown { after, action }| Unknown { after, action: log(action) });
        policy.rules.iter_mut().for_each(|rule| rule.action = log(rule.action));
        policy.steps.clear();
        policy.exec = None;
        policy.isolation = Isolation::default();
        // libseccomp kills whoever calls by an ABI that is not listed: so are all that run here.
        let more: &[Arch] = match Arch::NATIVE {
            Some(Arch::X86_64) => &[Arch::X86_64, Arch::I386, Arch::X32],
            Some(Arch::Aarch64) => &[Arch::Aarch64, Arch::Arm],
            _ => &[],
        };
        let all = policy.architectures.iter().chain(more.iter().copied());
        policy.architectures = Architectures::new(all).unwrap_or(policy.architectures);
    }
    policy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_that_is_too_large_is_not_cut() {
        let folder = tempfile::tempdir().unwrap();
        let policy = "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec:\n  \
                      architectures: [x86_64]\n  default: allow\n";
        let file = fs::File::create(folder.path().join("large.yaml")).unwrap();
        std::io::Write::write_all(&mut &file, policy.as_bytes()).unwrap();
        file.set_len(LIMIT + 1).unwrap();
        let spec = Spec::parse(br#"{"linux": {}}"#).unwrap();
        let name = "large".parse().unwrap();
        let policies = Policies::new(folder.path());
        let profile = policies.profile(&name, Mode::Enforce, &spec, &[Runtime::Runc], None);
        let Err(BindError::Read { source, .. }) = profile else { panic!("{profile:?}") };
        assert!(source.to_string().contains("larger than 16 MiB"), "{source}");
    }
}
