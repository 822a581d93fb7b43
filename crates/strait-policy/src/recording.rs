//! Recordings: what was observed of a workload, and how complete the observation is.
//!
//! The file is JSON, `kind: SyscallRecording`. It is canonical: images and calls are sorted and
//! unique, and the digest is that of the bytes that [`Recording::to_json`] gives, so the same
//! observation always has the same name.
//!
//! Files of other releases: whatever an earlier release has written is read. A change that an
//! earlier release must not ignore gets another `apiVersion`, which is refused. What else a newer
//! release adds are fields, which are left out when read, and said: below `completeness` as a
//! loss, as what a newer release knows to be missing is missing; anywhere else as a blind spot.

mod builder;
mod completeness;
mod observation;
mod run;
mod text;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use strait_abi::{Arch, Syscall};

pub use builder::{RecordingBuilder, Site};
pub use completeness::{Completeness, Coverage};
pub use observation::{MAX_VALUES, Observation, Outcomes, Phase, Times, Values};
pub use run::{Numbers, Run, Saturation};
pub use text::text;

/// `apiVersion` of the recordings that this version writes and reads.
pub const API_VERSION: &str = "strait.dev/v1alpha1";
/// `kind` of a recording.
pub const KIND: &str = "SyscallRecording";
/// The largest recording that is read, in bytes.
pub const MAX_BYTES: usize = 256 << 20;

/// What was observed of a workload; always canonical.
///
/// Made by a [`RecordingBuilder`] or read by [`Recording::from_json`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording(File);

/// The fields, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    api_version: String,
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    container: Option<Container>,
    command: Vec<String>,
    kernel: String,
    engine: Engine,
    completeness: Completeness,
    images: Vec<Image>,
    calls: Vec<Call>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    exit: Option<Exit>,
    /// The runs that were merged; empty for a recording of one.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    runs: Vec<Run>,
}

/// Who observed, and why it and not another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Engine {
    /// `ebpf`, `ptrace`, or the name of the tool whose output was imported.
    pub name: String,
    /// Why this engine was taken, for a person to read.
    pub reason: String,
}

/// A program file.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// Its path, as the kernel had it at exec; bytes that are not UTF-8 as `\xNN`.
    pub path: String,
    /// The script that it was started for, as it was named at exec, where it was for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// The language runtime that is linked into it, where it is one that makes calls of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Runtime>,
    /// The ABI that it was built for, where its file could be looked at.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "maybe_arch_by_name")]
    pub arch: Option<Arch>,
    /// Its build id (the note NT_GNU_BUILD_ID) in hex, where it has one that could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_id: Option<String>,
    /// What it says it is, such as `runc 1.1.5`, where it is the runtime that started a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
}

impl Image {
    /// What a container runtime is called in a ledger: its release, or else the name of its file.
    pub(crate) fn as_runtime(&self) -> &str {
        let name = || self.path.rsplit('/').next().unwrap_or(&self.path);
        self.release.as_deref().unwrap_or_else(name)
    }
}

/// A language runtime that makes calls by its own timing, which no single run shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Runtime {
    /// Go's: its scheduler, network poller and garbage collector.
    Go,
    /// CPython's: `subprocess` and `multiprocessing`, as far as they wait for processes.
    Python,
}

impl<T: Into<String>> From<T> for Image {
    /// The image at a path, of which nothing else is known.
    fn from(path: T) -> Image {
        Image { path: path.into(), ..Image::default() }
    }
}

/// One system call of one image, in one phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Call {
    /// Index into [`Recording::images`].
    pub image: usize,
    /// When in the workload's life; `None` where the engine does not tell phases apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// The ABI that it was made by.
    #[serde(with = "arch_by_name")]
    pub arch: Arch,
    /// The number, as `seccomp_data.nr` shows it.
    pub nr: u32,
    /// The name that the number has, for a reader; it is the number that counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How often, and with which results.
    pub outcomes: Outcomes,
    /// When first and last, where the engine tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<Times>,
    /// The values of its arguments of interest, by name; one that is not here was not looked at.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub arguments: BTreeMap<String, Values>,
}

impl Call {
    /// Everything that was seen of it.
    pub fn observation(&self) -> Observation {
        Observation {
            outcomes: self.outcomes.clone(),
            times: self.times,
            arguments: self.arguments.clone(),
        }
    }

    /// The call by name, if the number is known.
    pub fn syscall(&self) -> Option<Syscall> {
        self.arch.syscall(self.nr)
    }
}

/// What the engine calls the container that was recorded, as far as it tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// Its pod, as `NAMESPACE/NAME`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pod: Option<String>,
    /// Its name in the pod.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// Its image.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub image: Option<String>,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Exit {
    /// It exited with this status.
    Status(i32),
    /// This signal ended it.
    Signal(i32),
}

/// Why a text is no recording.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// Larger than [`MAX_BYTES`].
    #[error("a recording of {bytes} bytes is too large: at most {MAX_BYTES} are read")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// No JSON, or not with the fields of a recording.
    #[error("this is no recording")]
    Json(#[source] serde_json::Error),
    /// Another kind of document.
    #[error("this is a `{found}`, not a `{KIND}`: make one with `strait record`")]
    Kind {
        /// The kind that it says.
        found: String,
    },
    /// A version that is not known here.
    #[error("this recording has apiVersion `{found}`, only `{API_VERSION}` is known")]
    ApiVersion {
        /// The version that it says.
        found: String,
    },
    /// A call of an image that the list does not have.
    #[error("call {call} is of image {image}, but the recording has only {images} images")]
    Image {
        /// Index of the call.
        call: usize,
        /// The image that it names.
        image: usize,
        /// How many there are.
        images: usize,
    },
}

impl Recording {
    /// Starts a recording with nothing in it.
    ///
    /// `kernel` is the release that `uname -r` prints.
    pub fn builder(engine: Engine, kernel: impl Into<String>) -> RecordingBuilder {
        RecordingBuilder::new(engine, kernel.into())
    }

    /// Reads a recording.
    ///
    /// # Errors
    /// If the text is no recording of a known version.
    pub fn from_json(text: &str) -> Result<Recording, RecordingError> {
        if text.len() > MAX_BYTES {
            return Err(RecordingError::TooLarge { bytes: text.len() });
        }
        let header: Header = serde_json::from_str(text).map_err(RecordingError::Json)?;
        if header.kind != KIND {
            return Err(RecordingError::Kind { found: header.kind });
        }
        if header.api_version != API_VERSION {
            return Err(RecordingError::ApiVersion { found: header.api_version });
        }
        let (file, unread) = read(text).map_err(RecordingError::Json)?;
        let mut builder = Recording::builder(file.engine, file.kernel);
        builder.name = file.name;
        builder.container = file.container;
        builder.command = file.command;
        builder.exit = file.exit;
        builder.completeness = file.completeness;
        builder.images = file.images.iter().cloned().collect();
        builder.runs = file.runs;
        for (index, call) in file.calls.iter().enumerate() {
            let Some(image) = file.images.get(call.image).cloned() else {
                let images = file.images.len();
                return Err(RecordingError::Image { call: index, image: call.image, images });
            };
            let site = Site { image, phase: call.phase, arch: call.arch, nr: call.nr };
            builder.observe(site, &call.observation());
        }
        for field in unread {
            if field.starts_with("completeness.") && !field.starts_with("completeness.coverage.") {
                builder.lost(format!("{field}, which only a newer Strait understands"), 1);
            } else {
                builder
                    .completeness
                    .blind_spots
                    .push(format!("a newer Strait wrote the field {field}, which was not read"));
            }
        }
        Ok(builder.build())
    }

    /// The canonical text.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(&self.0)
            .expect("the fields are strings, numbers and lists: they always serialize");
        text.push('\n');
        text
    }

    /// `sha256:` and the digest of [`Recording::to_json`], in hex: the name by which a policy's
    /// necessity refers to the recording.
    pub fn digest(&self) -> String {
        let digest = sha2::Sha256::digest(self.to_json());
        digest.iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
    }

    /// Its name; that of a container from its start is the container's id.
    pub fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    /// What its container is called, where it is of one from its start and the engine tells.
    pub fn container(&self) -> Option<&Container> {
        self.0.container.as_ref()
    }

    /// The command that was run, or empty where something that ran already was recorded.
    pub fn command(&self) -> &[String] {
        &self.0.command
    }

    /// The kernel's release, as `uname -r` prints it.
    pub fn kernel(&self) -> &str {
        &self.0.kernel
    }

    /// Who observed.
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// What could not be seen.
    pub fn completeness(&self) -> &Completeness {
        &self.0.completeness
    }

    /// The program files whose calls were seen, by path; [`Call::image`] is an index into them.
    pub fn images(&self) -> &[Image] {
        &self.0.images
    }

    /// The calls, each image, phase, arch and number once, in that order.
    pub fn calls(&self) -> &[Call] {
        &self.0.calls
    }

    /// How the recorded command ended, where there was one and it did.
    pub fn exit(&self) -> Option<Exit> {
        self.0.exit
    }
}

/// What says which document it is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    api_version: String,
    kind: String,
}

/// The fields, and the names of those that are not known; each once, for all items of a list.
fn read(text: &str) -> Result<(File, BTreeSet<String>), serde_json::Error> {
    let mut unread = BTreeSet::new();
    let mut text = serde_json::Deserializer::from_str(text);
    let file = serde_ignored::deserialize(&mut text, |path| {
        unread.insert(of_all_items(&path));
    })?;
    text.end()?;
    Ok((file, unread))
}

/// The path of a field, with a list's items in place of one of them: `calls[].since`.
fn of_all_items(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, .. } => format!("{}[]", of_all_items(parent)),
        Path::Map { parent, key } => match of_all_items(parent) {
            above if above.is_empty() => key.clone(),
            above => format!("{above}.{key}"),
        },
        Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => of_all_items(parent),
    }
}

/// An arch as its name.
mod arch_by_name {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use strait_abi::Arch;

    pub(super) fn serialize<S: Serializer>(arch: &Arch, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(arch.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Arch, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// An arch that may not be known, as its name.
mod maybe_arch_by_name {
    use serde::{Deserializer, Serialize as _, Serializer};
    use strait_abi::Arch;

    pub(super) fn serialize<S: Serializer>(
        arch: &Option<Arch>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        arch.map(Arch::name).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Arch>, D::Error> {
        super::arch_by_name::deserialize(from).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(count: u64, succeeded: u64, errnos: &[(u16, u64)]) -> Outcomes {
        Outcomes { count, succeeded, errnos: errnos.iter().copied().collect(), denied: 0 }
    }

    fn builder() -> RecordingBuilder {
        let engine = Engine { name: "ptrace".into(), reason: "no privilege".into() };
        Recording::builder(engine, "6.18.44")
    }

    #[test]
    fn the_order_of_observation_does_not_matter() {
        let mut first = builder();
        first.call("/bin/b", Arch::X86_64, 1, &outcomes(2, 2, &[]));
        first.call("/bin/a", Arch::X86_64, 0, &outcomes(1, 0, &[(11, 1)]));
        first.call("/bin/b", Arch::X86_64, 1, &outcomes(3, 2, &[(4, 1)]));
        first.lost("map full", 0).lost("map full", 0);
        let mut second = builder();
        second.call("/bin/b", Arch::X86_64, 1, &outcomes(5, 4, &[(4, 1)]));
        second.call("/bin/a", Arch::X86_64, 0, &outcomes(1, 0, &[(11, 1)]));
        second.lost("map full", 0);
        let (first, second) = (first.build(), second.build());
        assert_eq!(first, second);
        assert_eq!(first.digest(), second.digest());
        assert_eq!(first.images()[first.calls()[1].image].path, "/bin/b");
        assert!(!first.completeness().is_lossy());
    }

    #[test]
    fn the_text_reads_back_to_the_same_recording() {
        let mut recording = builder();
        recording.command(["ls", "-l"]).name("listing").exit(Exit::Status(2));
        recording.call("/bin/ls", Arch::X86_64, 257, &outcomes(9, 7, &[(2, 2)]));
        let script = Image { script: Some("./start".into()), ..Image::from("/bin/sh") };
        let denied = Outcomes { denied: 2, ..Outcomes::default() };
        recording.call(script, Arch::X86_64, 1, &denied);
        recording.image("/bin/never-called").lost("stack", 3);
        recording.completeness().io_uring = true;
        let recording = recording.build();
        let read = Recording::from_json(&recording.to_json()).unwrap();
        assert_eq!(read, recording);
        assert_eq!(read.digest(), recording.digest());
        assert!(read.digest().len() == "sha256:".len() + 64);
        assert_eq!(read.completeness().gaps().len(), 2);
    }

    #[test]
    fn what_is_no_recording_is_refused_by_name() {
        let text = builder().build().to_json();
        let kind = text.replace(KIND, "SyscallPolicy");
        assert!(matches!(Recording::from_json(&kind), Err(RecordingError::Kind { .. })));
        let version = text.replace("v1alpha1", "v9");
        assert!(matches!(Recording::from_json(&version), Err(RecordingError::ApiVersion { .. })));
        let call = r#"[{"image": 3, "arch": "x86_64", "nr": 0, "outcomes": {"count": 1}}]"#;
        let image = text.replace("\"calls\": []", &format!("\"calls\": {call}"));
        assert!(matches!(Recording::from_json(&image), Err(RecordingError::Image { .. })));
        assert!(matches!(Recording::from_json("{"), Err(RecordingError::Json(_))));
    }
}
