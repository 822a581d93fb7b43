//! Confining a container by a policy of the administrator's: which, and the profile that it comes to.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde_json::Value;
use strait_abi::{Arch, KernelVersion};
use strait_bpf::{Action, Decision, Difference, Relation, SeccompData};
use strait_policy::format::{
    self, Exported, Format, FormatError, Runtime, Target, UnknownCapability, oci,
};
use strait_policy::policy::{Architectures, Isolation, Unknown};
use strait_policy::{Policy, action_text, call};

use super::bindings::{Binding, Bindings, BindingsError, Images};
use super::image::{Contradiction, Image};
use super::socket::SocketName;
use super::spec::{Spec, SpecError};
use super::trusted::{Folder, TrustError};
use super::{MODE, POLICY};
use crate::rendering::Original;
use crate::supervise::notifying_by_profile;
use crate::verdict::Intent;

/// Where the administrator's policies are, unless told otherwise.
pub const POLICIES: &str = "/etc/strait/policies";
/// Where a profile names whom the runtime hands the listener of its filter to (`linux.seccomp` of the runtime
/// specification).
const LISTENER: &str = "listenerPath";
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
    /// They get what the policy says by a supervisor, which tells of them.
    Notify,
    /// They pass, and the kernel logs them.
    Log,
}

/// A text that names no mode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no mode of containers: write enforce, notify or log")]
pub struct UnknownMode(String);

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Mode, UnknownMode> {
        match text {
            "enforce" => Ok(Mode::Enforce),
            "notify" => Ok(Mode::Notify),
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
    /// The policy that is bound to its image, where an annotation names another one: what that denies
    /// has to be denied.
    pub within: Option<PolicyName>,
    /// Whether its image is one of those that are to be recorded.
    pub record: bool,
}

/// What the kernel is to enforce on a container.
#[derive(Clone, Debug)]
pub struct Bound {
    /// The policy.
    pub name: PolicyName,
    /// How that is enforced.
    pub mode: Mode,
    /// What it intends.
    pub intent: Intent,
    /// What runtimes make of it.
    pub original: Original,
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
    /// An annotation asks for less than enforcing.
    #[error(
        "annotation {MODE}: `log` lets everything pass, and {} has no line for this image that says \
         `overridable`", path.display()
    )]
    NotOverridable {
        /// The file of bindings.
        path: PathBuf,
    },
    /// An annotation names a policy by which more passes than by the one that is bound to the image.
    #[error(
        "annotation {POLICY}: {call} would pass by `{name}` and not by `{bound}`, which is bound to this \
         image, in a line of {} that does not say `overridable`", path.display()
    )]
    Looser {
        /// The policy that is asked for.
        name: PolicyName,
        /// The one that is bound.
        bound: PolicyName,
        /// A call that would pass.
        call: String,
        /// The file of bindings.
        path: PathBuf,
    },
    /// The runtime has been given another profile.
    #[error(
        "this container is to be confined by `{name}`, and the runtime has been told {told}: have the engine \
         use `strait oci-runtime` as its runtime, or one that takes a profile from plugins (NRI 0.10: \
         containerd 2.2, CRI-O 1.34)"
    )]
    NotTold {
        /// The policy.
        name: PolicyName,
        /// What it has been told.
        told: String,
    },
    /// What a policy decides cannot be told.
    #[error("what {} decides cannot be told", path.display())]
    Unclear {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// How two policies stand to each other cannot be told.
    #[error(
        "whether `{name}` permits more than `{bound}`, which is bound to this image, cannot be told"
    )]
    Incomparable {
        /// The policy that is asked for.
        name: PolicyName,
        /// The one that is bound.
        bound: PolicyName,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Somebody else could change the policies.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The bindings or a policy cannot be read.
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
        "which image the container is of cannot be told, and {} has no line `*` for such containers",
        path.display()
    )]
    UnknownImage {
        /// The file.
        path: PathBuf,
    },
    /// Bindings are by image, and the engine tells only part of what that is called.
    #[error(
        "which of the lines of {} are for the container's image cannot be told: it is in a storage of images          alone, and nothing but {} is known of it: bind that digest, or have the engine use          `strait oci-runtime` and images of its own storage", path.display(), known.join(", ")
    )]
    PartOfImage {
        /// The file.
        path: PathBuf,
        /// What is known: digests, then names.
        known: Vec<String>,
    },
    /// Bindings are by image, and what tells it cannot be believed.
    #[error(transparent)]
    Image(#[from] Contradiction),
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

    /// What is to be done with a container: what is bound to its image, and what its annotation says.
    /// An annotation may name a policy where none is bound, or one that permits no more than that; what
    /// permits more it may where the binding is overridable.
    ///
    /// # Errors
    /// If that cannot be told, or the annotation may not.
    pub fn choose(
        &self,
        spec: &Spec,
        image: impl FnOnce() -> Result<Image, Contradiction>,
    ) -> Result<Choice, BindError> {
        let asked = Asked::of(spec)?;
        let Some(bindings) = self.bindings()? else { return self.decide(asked, None) };
        let image = image()?;
        let binding = bindings.choose(&image).map_err(|source| self.wrong(source))?;
        let is_surest = binding.is_some_and(|it| matches!(it.images, Images::Digest(_)));
        if image.is_part && !is_surest && !bindings.are_for_all() {
            let known = image.digests.union(&image.names).cloned().collect();
            return Err(BindError::PartOfImage { path: self.file(), known });
        }
        match binding {
            Some(binding) => self.decide(asked, Some(binding)),
            None if image.is_unknown() => Err(BindError::UnknownImage { path: self.file() }),
            None => self.decide(asked, None),
        }
    }

    fn decide(&self, asked: Asked, binding: Option<&Binding>) -> Result<Choice, BindError> {
        let bound = binding.cloned().map(|binding| (binding.policy, binding.mode));
        let record = binding.is_some_and(|binding| binding.record);
        let overridable = binding.is_some_and(|binding| binding.overridable);
        let (policy, mode) = bound.unwrap_or_default();
        let Some(name) = asked.policy else {
            return Ok(Choice { policy, mode, within: None, record });
        };
        // Where everything passes already, nothing can be looser.
        let logs = policy.is_some() && mode == Mode::Log;
        if asked.mode == Mode::Log && !logs && !overridable {
            return Err(BindError::NotOverridable { path: self.file() });
        }
        let within = policy.filter(|bound| !logs && !overridable && *bound != name);
        // Whoever annotates does not get out of being told of.
        let is_told_of = mode == Mode::Notify && !overridable && asked.mode == Mode::Enforce;
        let mode = if is_told_of { Mode::Notify } else { asked.mode };
        Ok(Choice { policy: Some(name), mode, within, record })
    }

    /// The file of bindings.
    fn file(&self) -> PathBuf {
        self.folder.join(BINDINGS)
    }

    fn wrong(&self, source: BindingsError) -> BindError {
        BindError::Bindings { path: self.file(), source }
    }

    /// The bindings, if there are any.
    fn bindings(&self) -> Result<Option<Bindings>, BindError> {
        let Some(folder) = Folder::open(&self.folder)? else { return Ok(None) };
        let Some(file) = folder.file(BINDINGS)? else { return Ok(None) };
        let read = |source| BindError::Read { path: self.file(), source };
        let text = String::from_utf8(file.read(LIMIT).map_err(read)?)
            .map_err(|error| read(io::Error::other(error)))?;
        let bindings = Bindings::parse(&text).map_err(|source| self.wrong(source))?;
        Ok((!bindings.is_empty()).then_some(bindings))
    }

    /// The profile by which the policy of this choice confines the container, for these runtimes; none
    /// where the engine's own stays. `library` is the newest kernel whose calls their libseccomp knows,
    /// if that is known.
    ///
    /// # Errors
    /// If no profile says what the policy says, by it calls would pass that the policy denies, or more
    /// pass by it than by the one that it has to stay within.
    pub fn profile(
        &self,
        choice: &Choice,
        spec: &Spec,
        runtimes: &[Runtime],
        library: Option<KernelVersion>,
    ) -> Result<Option<Value>, BindError> {
        let Some(name) = &choice.policy else { return Ok(None) };
        let mode = choice.mode;
        let mut target = self.target(spec)?;
        let file = self.open(name)?;
        let path = &file.path;
        let within = match &choice.within {
            Some(bound) => Some((bound, self.open(bound)?)),
            None => None,
        };
        let mut profile = None;
        for &runtime in runtimes {
            let loss = |what| BindError::Loss { path: path.clone(), runtime, what };
            target.runtime = runtime;
            target.library = None;
            let policy = fitted(file.import(&target)?, mode, runtimes);
            if let Some((bound, file)) = &within {
                let outer = file.import(&target)?;
                self.stays_within((name, &policy), (bound, &fitted(outer, mode, runtimes)))?;
            }
            if let Some(what) = format::demands(&policy).into_iter().next() {
                return Err(loss(what));
            }
            let mut exported = self.written(&policy, mode, &target, path)?;
            let mut differs = exported
                .losses
                .iter()
                .find(|loss| loss.first.lets_pass() != loss.second.lets_pass());
            let with_library;
            if library.is_some() && differs.is_none() {
                // Names that an older library skips are allowed no more, which is closed; or denied
                // no more, which is not.
                target.library = library;
                with_library = self.written(&policy, mode, &target, path)?;
                differs = with_library
                    .losses
                    .iter()
                    .find(|loss| loss.second.lets_pass() && !loss.first.lets_pass());
                exported.text.clone_from(&with_library.text);
            }
            if let Some(one) = differs {
                let call = named(&one.witness);
                let (first, second) = (action_text(one.first), action_text(one.second));
                return Err(loss(format!("{call} would get {second} and not {first}")));
            }
            profile = Some(serde_json::from_str(&exported.text).map_err(SpecError::from)?);
        }
        Ok(profile)
    }

    /// The profile of a policy in this mode, and what it says otherwise.
    fn written(
        &self,
        policy: &Policy,
        mode: Mode,
        target: &Target,
        path: &Path,
    ) -> Result<Exported, BindError> {
        let failed = |error| BindError::Policy { path: path.to_owned(), source: Box::new(error) };
        if mode != Mode::Notify {
            return Format::Oci.export(policy, target).map_err(failed);
        }
        let rules = policy.lower().map_err(|error| failed(error.into()))?;
        oci::export_asking(policy, &notifying_by_profile(&rules), target).map_err(failed)
    }

    /// What the supervisor of a container is to answer by that is bound by this choice in the mode `notify`;
    /// nothing where none is needed.
    ///
    /// # Errors
    /// As for [`Policies::profile`].
    pub fn supervised(
        &self,
        choice: &Choice,
        spec: &Spec,
        runtimes: &[Runtime],
    ) -> Result<Option<Policy>, BindError> {
        let (Some(name), Mode::Notify) = (&choice.policy, choice.mode) else { return Ok(None) };
        let mut target = self.target(spec)?;
        if let Some(&runtime) = runtimes.last() {
            target.runtime = runtime;
        }
        let policy = self.open(name)?.import(&target)?;
        Ok(Some(fitted(policy, choice.mode, runtimes)))
    }

    /// What the kernel is to enforce on a container by this choice; nothing where the engine's own profile
    /// stays.
    ///
    /// # Errors
    /// As for [`Policies::profile`].
    pub fn bound(
        &self,
        choice: &Choice,
        spec: &Spec,
        runtimes: &[Runtime],
        library: Option<KernelVersion>,
    ) -> Result<Option<Bound>, BindError> {
        let Some(name) = &choice.policy else { return Ok(None) };
        // What could not be applied cannot be in the kernel.
        self.profile(choice, spec, runtimes, library)?;
        let target = self.target(spec)?;
        let file = self.open(name)?;
        let policy = fitted(file.import(&target)?, choice.mode, runtimes);
        let unclear = |source: Box<dyn std::error::Error + Send + Sync>| BindError::Unclear {
            path: file.path.clone(),
            source,
        };
        let rules = policy.lower().map_err(|error| unclear(error.into()))?;
        let intent = Intent::new(&rules).map_err(|error| unclear(error.into()))?;
        let original = Original::new(policy, None, target);
        let original = match runtimes {
            [runtime] => original.rendered_by(*runtime),
            _ => original,
        };
        Ok(Some(Bound { name: name.clone(), mode: choice.mode, intent, original }))
    }

    /// Demands that a container whose runtime has this configuration is confined by the policy of this
    /// choice, whoever wrote that there: no call passes that the policy denies, and in the mode `log`
    /// every call passes.
    ///
    /// # Errors
    /// If it is not, or that cannot be told.
    pub fn confirm(
        &self,
        choice: &Choice,
        spec: &Spec,
        runtimes: &[Runtime],
        library: Option<KernelVersion>,
    ) -> Result<(), BindError> {
        let Some(name) = &choice.policy else { return Ok(()) };
        let Some(wanted) = self.profile(choice, spec, runtimes, library)? else { return Ok(()) };
        let not_told = |told: String| BindError::NotTold { name: name.clone(), told };
        let Some(told) = spec.profile() else {
            return Err(not_told("of no profile at all".to_owned()));
        };
        let mut told = told.clone();
        if choice.mode == Mode::Notify {
            let listener = told.as_object_mut().and_then(|told| told.remove(LISTENER));
            let path = listener.as_ref().and_then(Value::as_str).map(Path::new);
            if !path.and_then(SocketName::of).is_some_and(|name| name.exists()) {
                return Err(not_told("of no supervisor, which the mode `notify` takes".to_owned()));
            }
        }
        let told = &told;
        if *told == wanted {
            return Ok(());
        }
        let decision = |profile: &Value| -> Result<Decision, BindError> {
            let cannot = |error: &dyn fmt::Display| {
                not_told(format!("of a profile that cannot be compared with it ({error})"))
            };
            let mut target = self.target(spec)?;
            if let Some(&runtime) = runtimes.last() {
                target.runtime = runtime;
            }
            let imported = Format::Oci.import(profile.to_string().as_bytes(), &target);
            let rules = imported.map_err(|error| cannot(&error))?.policy.lower();
            rules.map_err(|error| cannot(&error))?.decision().map_err(|error| cannot(&error))
        };
        let compared = decision(told)?.compare(&decision(&wanted)?);
        let compared = compared.map_err(|error| {
            not_told(format!("of a profile that cannot be compared with it ({error})"))
        })?;
        let holds = match choice.mode {
            Mode::Enforce | Mode::Notify => {
                matches!(compared.allowed, Relation::Equal | Relation::Tighter)
            }
            Mode::Log => compared.allowed == Relation::Equal,
        };
        if holds {
            return Ok(());
        }
        let other = |one: &&Difference| one.first.lets_pass() != one.second.lets_pass();
        let call = compared.differences.iter().find(other).map(|one| named(&one.witness));
        let call = call.unwrap_or_else(|| "some call".to_owned());
        Err(not_told(format!("of another profile, which decides otherwise on {call}")))
    }

    /// Where the container is to run.
    fn target(&self, spec: &Spec) -> Result<Target, BindError> {
        let uname = rustix::system::uname();
        let kernel = KernelVersion::from_release(&uname.release().to_string_lossy())?;
        let target = Target::new(Arch::NATIVE.unwrap_or(Arch::X86_64), kernel);
        Ok(target.with_capabilities(spec.capabilities())?)
    }

    /// Demands that nothing passes by the first that does not pass by the second.
    fn stays_within(
        &self,
        (name, policy): (&PolicyName, &Policy),
        (bound, outer): (&PolicyName, &Policy),
    ) -> Result<(), BindError> {
        let unclear = |source: Box<dyn std::error::Error + Send + Sync>| BindError::Incomparable {
            name: name.clone(),
            bound: bound.clone(),
            source,
        };
        let decision = |policy: &Policy| -> Result<Decision, BindError> {
            let rules = policy.lower().map_err(|error| unclear(error.into()))?;
            rules.decision().map_err(|error| unclear(error.into()))
        };
        let compared = decision(policy)?.compare(&decision(outer)?);
        let compared = compared.map_err(|error| unclear(error.into()))?;
        if matches!(compared.allowed, Relation::Equal | Relation::Tighter) {
            return Ok(());
        }
        let more = |one: &&Difference| one.first.lets_pass() && !one.second.lets_pass();
        let call = compared.differences.iter().find(more).map(|one| named(&one.witness));
        Err(BindError::Looser {
            name: name.clone(),
            bound: bound.clone(),
            call: call.unwrap_or_else(|| "some call".to_owned()),
            path: self.file(),
        })
    }

    /// The file of a policy.
    fn open(&self, name: &PolicyName) -> Result<PolicyFile, BindError> {
        let mut found = Vec::new();
        if let Some(folder) = Folder::open(&self.folder)? {
            for ending in ["", ".yaml", ".yml", ".json"] {
                let file = format!("{name}{ending}");
                let path = self.folder.join(&file);
                match folder.file(&file) {
                    // A folder of this name, beside the policy's file.
                    Err(TrustError::NoFile { .. }) => {}
                    file => found.extend(file?.map(|file| (path, file))),
                }
            }
        }
        let mut found = found.into_iter();
        let (path, file) = match (found.next(), found.next()) {
            (Some(one), None) => one,
            (Some((one, _)), Some((other, _))) => {
                return Err(BindError::SeveralFiles { name: name.clone(), one, other });
            }
            (None, _) => {
                let folder = self.folder.clone();
                return Err(BindError::NoPolicy { name: name.clone(), folder });
            }
        };
        match file.read(LIMIT) {
            Ok(bytes) => Ok(PolicyFile { path, bytes }),
            Err(source) => Err(BindError::Read { path, source }),
        }
    }
}

/// What an annotation asks for.
#[derive(Default)]
struct Asked {
    policy: Option<PolicyName>,
    mode: Mode,
}

impl Asked {
    fn of(spec: &Spec) -> Result<Asked, BindError> {
        let mode = spec.annotation(MODE)?.map(str::parse::<Mode>).transpose()?;
        let policy = spec.annotation(POLICY)?.map(str::parse).transpose()?;
        if mode.is_some() && policy.is_none() {
            return Err(BindError::ModeAlone);
        }
        Ok(Asked { policy, mode: mode.unwrap_or_default() })
    }
}

/// A policy's file, as it was read.
struct PolicyFile {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl PolicyFile {
    fn import(&self, target: &Target) -> Result<Policy, BindError> {
        let imported = Format::detect(&self.bytes).import(&self.bytes, target);
        let failed = |error| BindError::Policy { path: self.path.clone(), source: Box::new(error) };
        Ok(imported.map_err(failed)?.policy)
    }
}

/// The profile with the supervisor that is asked.
pub fn asking(mut profile: Value, supervisor: &SocketName) -> Value {
    if let Some(profile) = profile.as_object_mut() {
        profile.insert(LISTENER.to_owned(), supervisor.path().to_string_lossy().into());
    }
    profile
}

/// What a call is called.
fn named(witness: &SeccompData) -> String {
    let unnamed = || format!("call {}", witness.nr);
    call::name(witness).map_or_else(unnamed, |call| call.name().to_owned())
}

/// The policy with what these runtimes call themselves, in this mode.
fn fitted(policy: Policy, mode: Mode, runtimes: &[Runtime]) -> Policy {
    let mut policy = oci::with_needs(policy, runtimes);
    if mode == Mode::Notify {
        let sets = runtimes.iter().map(|runtime| runtime.hands_over_by().to_owned());
        let sets: Vec<String> = sets.filter(|set| !policy.include.contains(set)).collect();
        policy.include.extend(sets);
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
        policy.network = None;
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
    use std::fs;

    use super::*;

    /// Whoever annotates chooses what is tighter, and is told of as the image's line says.
    #[test]
    fn an_annotation_leaves_the_mode_that_tells() {
        let folder = tempfile::tempdir().unwrap();
        let policies = Policies::new(folder.path());
        for (line, mode, chosen) in [
            ("* base", None, Mode::Enforce),
            ("* base", Some("notify"), Mode::Notify),
            ("* base notify", None, Mode::Notify),
            ("* base notify", Some("enforce"), Mode::Notify),
            ("* base notify", Some("notify"), Mode::Notify),
            ("* base notify overridable", None, Mode::Enforce),
            ("* base notify overridable", Some("log"), Mode::Log),
        ] {
            fs::write(folder.path().join(BINDINGS), line).unwrap();
            let mut spec = Spec::parse(br#"{"linux": {}}"#).unwrap();
            spec.annotate(POLICY, "other").unwrap();
            if let Some(mode) = mode {
                spec.annotate(MODE, mode).unwrap();
            }
            let choice = policies.choose(&spec, || Ok(Image::default())).unwrap();
            assert_eq!(choice.mode, chosen, "{line} {mode:?}");
        }
        fs::write(folder.path().join(BINDINGS), "* base notify").unwrap();
        let mut spec = Spec::parse(br#"{"linux": {}}"#).unwrap();
        spec.annotate(POLICY, "other").unwrap();
        spec.annotate(MODE, "log").unwrap();
        let choice = policies.choose(&spec, || Ok(Image::default()));
        assert!(matches!(choice, Err(BindError::NotOverridable { .. })), "{choice:?}");
    }

    #[test]
    fn a_policy_that_is_too_large_is_not_cut() {
        let folder = tempfile::tempdir().unwrap();
        let policy = "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec:\n  \
                      architectures: [x86_64]\n  default: allow\n";
        let file = fs::File::create(folder.path().join("large.yaml")).unwrap();
        std::io::Write::write_all(&mut &file, policy.as_bytes()).unwrap();
        file.set_len(LIMIT + 1).unwrap();
        let spec = Spec::parse(br#"{"linux": {}}"#).unwrap();
        let policies = Policies::new(folder.path());
        let choice = Choice { policy: Some("large".parse().unwrap()), ..Choice::default() };
        let profile = policies.profile(&choice, &spec, &[Runtime::Runc], None);
        let Err(BindError::Read { source, .. }) = profile else { panic!("{profile:?}") };
        assert!(source.to_string().contains("larger than 16 MiB"), "{source}");
    }
}
