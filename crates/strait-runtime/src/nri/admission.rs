//! What a container gets that a runtime is about to make, by NRI: the same as from the OCI runtime and
//! the hook, by the same rules.
//!
//! Runtimes before NRI 0.10 pass over the profile without a word, so nobody is believed: the container
//! gets a hook too, which looks into what the OCI runtime was given and stops the container if its policy
//! is not in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use strait_abi::KernelVersion;
use strait_policy::format::{Runtime, Target};
use strait_policy::recording::Container as Called;

use super::message::{
    Container, ContainerAdjustment, Hook, Hooks, LinuxContainerAdjustment, LinuxSeccomp,
    LinuxSeccompArg, LinuxSyscall, OptionalUInt32, PodSandbox,
};
use super::standing::is_confined_by_now;
use crate::inspect::capability_names;
use crate::oci::bind::{BindError, Bound, Choice, Mode, Policies};
use crate::oci::hook::{self, HookError};
use crate::oci::image::Image;
use crate::oci::recordings::file_of;
use crate::oci::spec::{Spec, SpecError};
use crate::oci::{MODE, POLICY, RECORD};

/// The argument by which the hook looks into what the runtime was given.
pub const CONFIRM: &str = "--confirm";

/// What the administrator has for containers.
#[derive(Clone, Debug)]
pub struct Admission {
    /// The policies.
    pub policies: Policies,
    /// The folder for recordings.
    pub recordings: PathBuf,
    /// The OCI runtimes that a policy has to let start containers.
    pub runtimes: Vec<Runtime>,
    /// The newest kernel whose calls their libseccomp knows, if that is known.
    pub library: Option<KernelVersion>,
    /// The program that is the hook.
    pub program: String,
    /// Its arguments, without its name.
    pub arguments: Vec<String>,
}

/// Why a container is not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdmissionError {
    /// There is none in what the runtime says.
    #[error("the runtime does not say which container it is")]
    NoContainer,
    /// There is no pod, which may have annotations.
    #[error("the runtime does not say which pod the container is of")]
    NoPod,
    /// It was made while nobody told the runtime what it is to have.
    #[error(
        "this container was made while `strait nri` was not there, and so without what it is to have: \
         {0}: have it made again"
    )]
    MadeWithout(String),
    /// What the runtime says of it cannot be used.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// It cannot be confined as it should be.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// It cannot be recorded as it should be.
    #[error(transparent)]
    Record(#[from] HookError),
    /// What its policy comes to has a form that NRI does not know.
    #[error("NRI has no words for the profile: `{0}`")]
    Profile(&'static str),
}

impl Admission {
    /// What a container is to get; nothing where nothing is asked for it.
    ///
    /// # Errors
    /// If it must not be made.
    pub fn adjust(
        &self,
        pod: Option<&PodSandbox>,
        container: Option<&Container>,
    ) -> Result<Option<ContainerAdjustment>, AdmissionError> {
        let container = container.ok_or(AdmissionError::NoContainer)?;
        let pod = pod.ok_or(AdmissionError::NoPod)?;
        let mut asked = asked(pod, container);
        let mut spec = spec(container, &asked, 0)?;
        let choice = self.choose(&spec, container)?;
        let by_image = || choice.record.then(|| format!("{}.json", container.id));
        if let Some(file) = asked.remove(RECORD).or_else(by_image) {
            // Not every runtime says in the container's annotations which pod it is of.
            let file = file_of(&file, Some(&called(pod, container)));
            spec.annotate(RECORD, &file)?;
            asked.insert(RECORD, file);
        }
        let records = hook::destination(&spec, &self.recordings)?.is_some();
        if choice.policy.is_none() && !records {
            return Ok(None);
        }
        // Whoever is between the runtime and its supervisor is told of it by the annotations. A runtime that has no
        // supervisor would not take a profile that needs one, and would not say why: the hook does.
        let alone = match choice.mode {
            Mode::Notify => Choice { mode: Mode::Enforce, ..choice },
            _ => choice,
        };
        let profile = self.policies.profile(&alone, &spec, &self.runtimes, self.library)?;
        let profile = match profile {
            Some(profile) => Some(profile),
            // Where it is to have none, the recorder needs one. Where that is not known, it may be to
            // have the engine's.
            None if is_open(container) => Some(hook::open_profile()),
            None => None,
        };
        let seccomp_policy = profile.as_ref().map(message).transpose()?;
        let annotations = asked
            .into_iter()
            .filter(|(name, text)| container.annotations.get(*name) != Some(text))
            .map(|(name, text)| (name.to_owned(), text))
            .collect();
        let words = std::iter::once("strait".to_owned()).chain(self.arguments.iter().cloned());
        let hook = Hook { path: self.program.clone(), args: words.collect() };
        Ok(Some(ContainerAdjustment {
            annotations,
            hooks: Some(Hooks { create_runtime: vec![hook] }),
            linux: seccomp_policy
                .map(|profile| LinuxContainerAdjustment { seccomp_policy: Some(profile) }),
        }))
    }

    /// Whether a container may be started that was made: it has got what it is to have, or is to have
    /// nothing.
    ///
    /// # Errors
    /// If it must not be.
    pub fn may_start(
        &self,
        pod: Option<&PodSandbox>,
        container: Option<&Container>,
    ) -> Result<(), AdmissionError> {
        let container = container.ok_or(AdmissionError::NoContainer)?;
        let hooks = container.hooks.iter().flat_map(|hooks| &hooks.create_runtime);
        // Nobody's pod has hooks of its own, so it is by ours that it was looked at.
        let is_ours = |hook: &Hook| {
            let has = |word: &str| hook.args.iter().any(|one| one == word);
            hook.args.get(1).is_some_and(|verb| verb == "oci-hook") && has(CONFIRM)
        };
        if hooks.into_iter().any(is_ours) {
            return Ok(());
        }
        let asked = asked(pod.ok_or(AdmissionError::NoPod)?, container);
        let spec = spec(container, &asked, 0)?;
        let choice = self.choose(&spec, container)?;
        let is_recorded = choice.record || asked.contains_key(RECORD);
        let lacks = match choice.policy {
            // By `strait oci-runtime`.
            Some(_) if !is_recorded && is_confined_by_now(self, pod, container) => return Ok(()),
            Some(policy) => format!("the policy `{policy}`"),
            None if is_recorded => "a recorder".to_owned(),
            None => return Ok(()),
        };
        Err(AdmissionError::MadeWithout(lacks))
    }

    /// The policy that a container is to be confined by which has these capabilities.
    ///
    /// # Errors
    /// If that cannot be told.
    pub fn bound(
        &self,
        pod: Option<&PodSandbox>,
        container: &Container,
        capabilities: u64,
    ) -> Result<Option<Bound>, AdmissionError> {
        let asked = asked(pod.ok_or(AdmissionError::NoPod)?, container);
        let spec = spec(container, &asked, capabilities)?;
        let choice = self.choose(&spec, container)?;
        Ok(self.policies.bound(&choice, &spec, &self.runtimes, self.library)?)
    }

    fn choose(&self, spec: &Spec, container: &Container) -> Result<Choice, BindError> {
        // The image is in annotations: there is no bundle yet.
        self.policies.choose(spec, || Image::of(spec, Path::new(""), &container.id))
    }
}

/// What is asked for a container by annotations: its own, else its pod's for it (`NAME/container.IT`),
/// else its pod's for all.
fn asked(pod: &PodSandbox, container: &Container) -> BTreeMap<&'static str, String> {
    let of = |name: &'static str| {
        if let Some(own) = container.annotations.get(name) {
            return Some((name, own.clone()));
        }
        if let Some(its) = pod.annotations.get(&format!("{name}/container.{}", container.name)) {
            return Some((name, its.clone()));
        }
        Some((name, pod.annotations.get(name)?.clone()))
    };
    [POLICY, MODE, RECORD].into_iter().filter_map(of).collect()
}

/// What the runtime calls a container.
fn called(pod: &PodSandbox, container: &Container) -> Called {
    Called {
        pod: Some(format!("{}/{}", pod.namespace, pod.name)),
        name: Some(container.name.clone()),
        image: None,
    }
}

/// As much of the container's configuration as is known. Its capabilities are not before it runs: a policy
/// is resolved for none then, which lets no more pass than for some.
fn spec(
    container: &Container,
    asked: &BTreeMap<&'static str, String>,
    capabilities: u64,
) -> Result<Spec, SpecError> {
    // A capability of a newer kernel is in no profile.
    let names = capability_names(capabilities).filter(|name| Target::CAPABILITIES.contains(name));
    let bounding: Vec<&str> = names.collect();
    let annotations: BTreeMap<&str, &str> = (container.annotations.iter())
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .chain(asked.iter().map(|(&name, text)| (name, text.as_str())))
        .collect();
    let spec = json!({
        "annotations": annotations,
        "process": {"args": container.args, "capabilities": {"bounding": bounding}},
        "linux": {},
    });
    Spec::parse(spec.to_string().as_bytes())
}

/// Whether it is known that the container is to have no profile.
fn is_open(container: &Container) -> bool {
    const UNCONFINED: i32 = 1;
    let profile = container.linux.as_ref().and_then(|linux| linux.seccomp_profile.as_ref());
    profile.is_some_and(|profile| profile.profile_type == UNCONFINED)
}

/// An OCI profile as a message.
fn message(profile: &Value) -> Result<LinuxSeccomp, AdmissionError> {
    let of = profile.as_object().ok_or(AdmissionError::Profile("profile"))?;
    let mut message = LinuxSeccomp::default();
    for (name, value) in of {
        match name.as_str() {
            "defaultAction" => message.default_action = text(value, "defaultAction")?,
            "defaultErrnoRet" => message.default_errno = Some(number(value, "defaultErrnoRet")?),
            "architectures" => message.architectures = texts(value, "architectures")?,
            "flags" => message.flags = texts(value, "flags")?,
            "syscalls" => {
                message.syscalls = each(value, "syscalls")?.map(rule).collect::<Result<_, _>>()?
            }
            _ => return Err(AdmissionError::Profile("a member of the profile")),
        }
    }
    Ok(message)
}

fn rule(rule: &Value) -> Result<LinuxSyscall, AdmissionError> {
    let of = rule.as_object().ok_or(AdmissionError::Profile("syscalls"))?;
    let mut message = LinuxSyscall::default();
    for (name, value) in of {
        match name.as_str() {
            "names" => message.names = texts(value, "names")?,
            "action" => message.action = text(value, "action")?,
            "errnoRet" => message.errno_ret = Some(number(value, "errnoRet")?),
            "args" => {
                message.args = each(value, "args")?.map(condition).collect::<Result<_, _>>()?;
            }
            // For people.
            "comment" => {}
            _ => return Err(AdmissionError::Profile("a member of a rule")),
        }
    }
    Ok(message)
}

fn condition(condition: &Value) -> Result<LinuxSeccompArg, AdmissionError> {
    let of = condition.as_object().ok_or(AdmissionError::Profile("args"))?;
    let mut message = LinuxSeccompArg::default();
    for (name, value) in of {
        match name.as_str() {
            "index" => message.index = number(value, "index")?.value,
            "value" => message.value = value.as_u64().ok_or(AdmissionError::Profile("value"))?,
            "valueTwo" => {
                message.value_two = value.as_u64().ok_or(AdmissionError::Profile("valueTwo"))?;
            }
            "op" => message.op = text(value, "op")?,
            _ => return Err(AdmissionError::Profile("a member of a condition")),
        }
    }
    Ok(message)
}

fn text(value: &Value, name: &'static str) -> Result<String, AdmissionError> {
    value.as_str().map(str::to_owned).ok_or(AdmissionError::Profile(name))
}

fn texts(value: &Value, name: &'static str) -> Result<Vec<String>, AdmissionError> {
    each(value, name)?.map(|value| text(value, name)).collect()
}

fn each<'a>(
    value: &'a Value,
    name: &'static str,
) -> Result<impl Iterator<Item = &'a Value>, AdmissionError> {
    value.as_array().map(|values| values.iter()).ok_or(AdmissionError::Profile(name))
}

fn number(value: &Value, name: &'static str) -> Result<OptionalUInt32, AdmissionError> {
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    number.map(|value| OptionalUInt32 { value }).ok_or(AdmissionError::Profile(name))
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn a_profile_is_the_message_that_nri_knows() {
        let profile = json!({
            "defaultAction": "A",
            "defaultErrnoRet": 1,
            "architectures": ["B"],
            "flags": ["C"],
            "syscalls": [{
                "names": ["D"],
                "action": "E",
                "errnoRet": 38,
                "args": [{"index": 1, "value": 2, "valueTwo": 3, "op": "F"}],
            }],
        });
        // By hand from `message LinuxSeccomp`: a byte of 8 times the field's number, and 2 where a length
        // follows.
        let expected = [
            &b"\x0a\x01A"[..],
            b"\x12\x02\x08\x01",
            b"\x1a\x01B",
            b"\x22\x01C",
            b"\x3a\x15",
            b"\x0a\x01D\x12\x01E",
            b"\x1a\x02\x08\x26",
            b"\x22\x09\x08\x01\x10\x02\x18\x03\x22\x01F",
        ];
        assert_eq!(message(&profile).unwrap().encode_to_vec(), expected.concat());
        for wrong in [json!({"listenerPath": "/x"}), json!({"defaultErrnoRet": -1}), json!([])] {
            assert!(message(&wrong).is_err(), "what NRI would not be told is an error: {wrong}");
        }
    }

    #[test]
    fn what_is_closest_to_the_container_is_asked() {
        let texts = |of: &[(&str, &str)]| {
            of.iter().map(|&(name, text)| (name.to_owned(), text.to_owned())).collect()
        };
        let of = |own: &[(&str, &str)], pods: &[(&str, &str)]| {
            let container = Container {
                name: "app".to_owned(),
                annotations: texts(own),
                ..Container::default()
            };
            let pod = PodSandbox { annotations: texts(pods), ..PodSandbox::default() };
            asked(&pod, &container).into_iter().collect::<Vec<_>>()
        };
        let is = |name, text: &str| vec![(name, text.to_owned())];
        let (all, its) = ((POLICY, "all"), ("io.strait.policy/container.app", "its"));
        assert_eq!(of(&[], &[("io.strait.policy/container.other", "x"), ("x", "y")]), []);
        assert_eq!(of(&[], &[all]), is(POLICY, "all"));
        assert_eq!(of(&[], &[all, its]), is(POLICY, "its"));
        assert_eq!(of(&[(POLICY, "own")], &[all, its]), is(POLICY, "own"));
    }
}
