//! Recordings: what was observed of a workload, and how complete the observation is.
//!
//! The file is JSON, `kind: SyscallRecording`. It is canonical: images and calls are sorted and
//! unique, and the digest is that of the bytes that [`Recording::to_json`] gives, so the same
//! observation always has the same name.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use strait_abi::{Arch, Syscall};

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
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    name: Option<String>,
    command: Vec<String>,
    kernel: String,
    engine: Engine,
    completeness: Completeness,
    images: Vec<Image>,
    calls: Vec<Call>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    exit: Option<Exit>,
}

/// Who observed, and why it and not another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Engine {
    /// `ebpf`, `ptrace`, or the name of the tool whose output was imported.
    pub name: String,
    /// Why this engine was taken, for a person to read.
    pub reason: String,
}

/// What a recording could not see, or lost. All zero, false and empty is a complete recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Completeness {
    /// Calls, tasks or images that were lost, by where they were lost; never an entry with 0.
    #[serde(default)]
    pub lost: BTreeMap<String, u64>,
    /// The recording was ended before the workload did.
    #[serde(default)]
    pub interrupted: bool,
    /// A filter was active on the workload already: calls that it denied are invisible.
    #[serde(default)]
    pub filter_active: bool,
    /// io_uring was set up: what was done by it never shows as a call.
    #[serde(default)]
    pub io_uring: bool,
    /// Anything else that could not be seen, a sentence each.
    #[serde(default)]
    pub blind_spots: Vec<String>,
}

impl Completeness {
    /// Whether observations were lost that the engine should have made.
    pub fn is_lossy(&self) -> bool {
        !self.lost.is_empty()
    }

    /// Whether nothing is known that the recording could have missed.
    pub fn is_complete(&self) -> bool {
        *self == Completeness::default()
    }

    /// Everything that was lost or could not be seen, a sentence each.
    pub fn gaps(&self) -> Vec<String> {
        let mut gaps: Vec<String> =
            self.lost.iter().map(|(place, count)| format!("lost in {place}: {count}")).collect();
        if self.interrupted {
            gaps.push("the recording ended before the workload did".into());
        }
        if self.filter_active {
            gaps.push("a filter was active already: calls that it denied were not seen".into());
        }
        if self.io_uring {
            gaps.push("io_uring was set up: what was done by it was not seen".into());
        }
        gaps.extend(self.blind_spots.iter().cloned());
        gaps
    }
}

/// A program file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Image {
    /// Its path, as the kernel had it at exec; bytes that are not UTF-8 as `\xNN`.
    pub path: String,
    /// The script that it was started for, as it was named at exec, where it was for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// The language runtime that is linked into it, where it is one that makes calls of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Runtime>,
}

/// A language runtime that makes calls by its own timing, which no single run shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Runtime {
    /// Go's: its scheduler, network poller and garbage collector.
    Go,
}

impl<T: Into<String>> From<T> for Image {
    /// The image at a path, started for no script, with no runtime that is known.
    fn from(path: T) -> Image {
        Image { path: path.into(), script: None, runtime: None }
    }
}

/// One system call of one image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Call {
    /// Index into [`Recording::images`].
    pub image: usize,
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
}

impl Call {
    /// The call by name, if the number is known.
    pub fn syscall(&self) -> Option<Syscall> {
        self.arch.syscall(self.nr)
    }
}

/// How often a call was made, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Outcomes {
    /// How often it was entered. More than there are results where some never returned.
    pub count: u64,
    /// How often it returned something else than an error.
    #[serde(default)]
    pub succeeded: u64,
    /// How often it returned each errno.
    #[serde(default)]
    pub errnos: BTreeMap<u16, u64>,
    /// How often a filter answered it, so that it was not entered; not part of the count.
    #[serde(default)]
    pub denied: u64,
}

impl Outcomes {
    /// Adds what was seen elsewhere of the same call; counts stop at their largest value.
    pub fn add(&mut self, other: &Outcomes) {
        self.count = self.count.saturating_add(other.count);
        self.succeeded = self.succeeded.saturating_add(other.succeeded);
        for (&errno, &count) in &other.errnos {
            let sum = self.errnos.entry(errno).or_default();
            *sum = sum.saturating_add(count);
        }
        self.denied = self.denied.saturating_add(other.denied);
    }
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
        RecordingBuilder {
            name: None,
            command: Vec::new(),
            kernel: kernel.into(),
            engine,
            completeness: Completeness::default(),
            images: BTreeSet::new(),
            calls: BTreeMap::new(),
            exit: None,
        }
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
        let file: File = serde_json::from_str(text).map_err(RecordingError::Json)?;
        let mut builder = Recording::builder(file.engine, file.kernel);
        builder.name = file.name;
        builder.command = file.command;
        builder.exit = file.exit;
        builder.completeness = file.completeness;
        builder.images = file.images.iter().cloned().collect();
        for (index, call) in file.calls.iter().enumerate() {
            let Some(image) = file.images.get(call.image) else {
                let images = file.images.len();
                return Err(RecordingError::Image { call: index, image: call.image, images });
            };
            builder.call(image.clone(), call.arch, call.nr, &call.outcomes);
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

    /// The name that a person gave it.
    pub fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
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

    /// The calls, each image, arch and number once, in that order.
    pub fn calls(&self) -> &[Call] {
        &self.0.calls
    }

    /// How the recorded command ended, where there was one and it did.
    pub fn exit(&self) -> Option<Exit> {
        self.0.exit
    }
}

/// Collects what is observed, in any order, into a canonical [`Recording`].
#[derive(Clone, Debug)]
pub struct RecordingBuilder {
    name: Option<String>,
    command: Vec<String>,
    kernel: String,
    engine: Engine,
    completeness: Completeness,
    images: BTreeSet<Image>,
    calls: BTreeMap<(Image, Arch, u32), Outcomes>,
    exit: Option<Exit>,
}

impl RecordingBuilder {
    /// Names the recording.
    pub fn name(&mut self, name: impl Into<String>) -> &mut Self {
        self.name = Some(name.into());
        self
    }

    /// Says which command is recorded.
    pub fn command(&mut self, command: impl IntoIterator<Item = impl Into<String>>) -> &mut Self {
        self.command = command.into_iter().map(Into::into).collect();
        self
    }

    /// Adds an image, of which there need be no call.
    pub fn image(&mut self, image: impl Into<Image>) -> &mut Self {
        self.images.insert(image.into());
        self
    }

    /// Adds calls of an image; the same call given again is added up.
    pub fn call(
        &mut self,
        image: impl Into<Image>,
        arch: Arch,
        nr: u32,
        outcomes: &Outcomes,
    ) -> &mut Self {
        let image = image.into();
        if !self.images.contains(&image) {
            self.images.insert(image.clone());
        }
        self.calls.entry((image, arch, nr)).or_default().add(outcomes);
        self
    }

    /// Adds `count` losses at `place`; none is no loss.
    pub fn lost(&mut self, place: impl Into<String>, count: u64) -> &mut Self {
        if count > 0 {
            let sum = self.completeness.lost.entry(place.into()).or_default();
            *sum = sum.saturating_add(count);
        }
        self
    }

    /// What could not be seen, to be set by field; losses are better told to
    /// [`RecordingBuilder::lost`].
    pub fn completeness(&mut self) -> &mut Completeness {
        &mut self.completeness
    }

    /// Says how the command ended.
    pub fn exit(&mut self, exit: Exit) -> &mut Self {
        self.exit = Some(exit);
        self
    }

    /// The recording of all that was added.
    pub fn build(self) -> Recording {
        let mut completeness = self.completeness;
        completeness.lost.retain(|_, count| *count > 0);
        completeness.blind_spots.sort();
        completeness.blind_spots.dedup();
        let images: Vec<Image> = self.images.into_iter().collect();
        let calls = self
            .calls
            .into_iter()
            .map(|((image, arch, nr), mut outcomes)| {
                outcomes.errnos.retain(|_, count| *count > 0);
                let image = images
                    .binary_search(&image)
                    .expect("`call` puts the image of every call among the images");
                let name = arch.syscall(nr).map(|call| call.name().to_owned());
                Call { image, arch, nr, name, outcomes }
            })
            .collect();
        Recording(File {
            api_version: API_VERSION.to_owned(),
            kind: KIND.to_owned(),
            name: self.name,
            command: self.command,
            kernel: self.kernel,
            engine: self.engine,
            completeness,
            images,
            calls,
            exit: self.exit,
        })
    }
}

/// What says which document it is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    api_version: String,
    kind: String,
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
        first.lost("map full", 0);
        let mut second = builder();
        second.call("/bin/b", Arch::X86_64, 1, &outcomes(5, 4, &[(4, 1)]));
        second.call("/bin/a", Arch::X86_64, 0, &outcomes(1, 0, &[(11, 1)]));
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
        let script =
            Image { path: "/bin/sh".into(), script: Some("./start".into()), runtime: None };
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
