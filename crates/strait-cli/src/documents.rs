//! Documents by path: policies, recordings and programs, or what is wrong with them, with the place.

use std::path::Path;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use anyhow::{Context, anyhow};
use strait_abi::{Arch, KernelVersion};
use strait_bpf::{ByteOrder, Program};
use strait_policy::format::{Format, FormatError, Imported, Note, Target, bpf};
use strait_policy::log::Log;
use strait_policy::{ParseError, Policy, Recording, Rules};

use crate::args::{Library, Profile};
use crate::failure::Failure;
use crate::{input, libseccomp, output};

/// A file of a known format, and what it is as a policy, or why it is none.
pub struct File {
    /// How it is called in messages.
    pub name: String,
    /// What stands in it.
    pub bytes: Vec<u8>,
    /// The format that it was read in.
    pub format: Format,
    /// What it was read for.
    pub target: Target,
    /// What it is.
    pub imported: Result<Imported, FormatError>,
}

impl File {
    /// Its text; nothing of it where it is none.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap_or_default()
    }
}

/// A policy, and what it was read from.
pub struct Document {
    /// The policy.
    pub policy: Policy,
    /// The format that it was read in.
    pub format: Format,
    bytes: Vec<u8>,
}

impl Document {
    /// Its text; nothing of it where it is none.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap_or_default()
    }

    /// The text, if it is an OCI profile.
    pub fn oci_text(&self) -> Option<String> {
        let text = (self.format == Format::Oci).then(|| std::str::from_utf8(&self.bytes).ok());
        text.flatten().map(str::to_owned)
    }
}

/// Reads a policy or a foreign profile; what is to be known of that is said.
pub fn document(path: &Path, profile: &Profile) -> Result<Document, Failure> {
    policy_in(file(path, profile)?)
}

/// The policy that a file is; what is to be known of that is said.
pub fn policy_in(file: File) -> Result<Document, Failure> {
    let File { name, bytes, format, imported, .. } = file;
    let imported = imported.map_err(|error| match error {
        FormatError::Parse(error) => {
            let text = String::from_utf8_lossy(&bytes);
            Failure::bad_input_report(report(&name, &text, &error))
        }
        error => Failure::bad_input(anyhow::Error::new(error).context(name.clone())),
    })?;
    for Note { place, message } in &imported.notes {
        let place = place.map_or_else(String::new, |at| format!(":{}:{}", at.line, at.column));
        output::say(&format!("strait: {name}{place}: {message}"));
    }
    Ok(Document { policy: imported.policy, format, bytes })
}

/// Reads a file that should be a policy or a foreign profile, with the files beside it that it
/// refers to.
pub fn file(path: &Path, profile: &Profile) -> Result<File, Failure> {
    let bytes = input::read(path)?;
    let format = profile.from.unwrap_or_else(|| Format::detect(&bytes));
    let mut target = target(profile)?;
    let imported = loop {
        match format.import(&bytes, &target) {
            Err(FormatError::MissingFile { name, .. }) if !target.files.contains_key(&name) => {
                let beside = path.parent().unwrap_or(Path::new("")).join(&name);
                if !beside.is_file() {
                    // The import's own error says where it is referred to.
                    break format.import(&bytes, &target);
                }
                target.files.insert(name, text(&beside)?);
            }
            imported => break imported,
        }
    };
    Ok(File { name: input::name(path), bytes, format, target, imported })
}

/// Reads a policy or a foreign profile, and what it means.
pub fn policy(path: &Path, profile: &Profile) -> Result<(Policy, Rules), Failure> {
    let Document { policy, .. } = document(path, profile)?;
    let rules = policy.lower().context(input::name(path)).map_err(Failure::bad_input)?;
    Ok((policy, rules))
}

/// What profiles are resolved for: as the arguments say, or this machine.
pub fn target(profile: &Profile) -> Result<Target, Failure> {
    let arch = profile.arch.or(Arch::NATIVE).unwrap_or(Arch::X86_64);
    let kernel = match profile.kernel {
        Some(kernel) => kernel,
        None => {
            let uname = rustix::system::uname();
            let release = uname.release().to_string_lossy();
            KernelVersion::from_release(&release).map_err(Failure::refused)?
        }
    };
    let mut target = Target::new(arch, kernel);
    if !profile.capabilities.is_empty() {
        let words = profile.capabilities.iter().map(String::as_str);
        target = target.with_capabilities(words).map_err(Failure::bad_input)?;
    }
    target.runtime = profile.runtime.unwrap_or(target.runtime);
    target.library = match profile.library {
        None => None,
        Some(Library::Kernel(kernel)) => Some(kernel),
        Some(Library::Installed) => Some(libseccomp::newest_known()?),
    };
    target.thread = profile.thread.clone();
    for (name, path) in &profile.files {
        target.files.insert(name.clone(), text(path)?);
    }
    Ok(target)
}

/// Reads a recording, or the log of another tool as one. Such a log does not say on which kernel it
/// was made; it is taken for one of this machine.
pub fn recording(path: &Path) -> Result<Recording, Failure> {
    recording_in(path, &text(path)?)
}

/// The recording that a text is.
pub fn recording_in(path: &Path, text: &str) -> Result<Recording, Failure> {
    let is_json = text.trim_start().starts_with('{');
    let recording = match Log::detect(text).filter(|_| !is_json) {
        Some(log) => {
            let uname = rustix::system::uname();
            let arch = Arch::NATIVE.unwrap_or(Arch::X86_64);
            Ok(log.import(text, arch, &uname.release().to_string_lossy()))
        }
        None => Recording::from_json(text),
    };
    recording.with_context(|| input::name(path)).map_err(Failure::bad_input)
}

/// The program that a file is.
pub fn program_in(file: &File) -> Result<Program, Failure> {
    let program = bpf::read(&file.bytes, native_order()).with_context(|| file.name.clone());
    program.map_err(Failure::bad_input)
}

/// Reads a program file for the arches of a policy, whose byte order it must have.
pub fn program_for(policy: &Policy, path: &Path) -> Result<Program, Failure> {
    let bytes = input::read(path)?;
    let little = policy.architectures.iter().all(Arch::is_little_endian);
    let order = if little { ByteOrder::Little } else { ByteOrder::Big };
    let program = bpf::read(&bytes, order).and_then(|program| match program.byte_order() {
        found if found == order => Ok(program),
        _ => Program::from_bytes_in(&bytes, order),
    });
    program.with_context(|| input::name(path)).map_err(Failure::bad_input)
}

/// Reads a program file of either byte order, in any spelling.
pub fn program(path: &Path) -> Result<Program, Failure> {
    let bytes = input::read(path)?;
    bpf::read(&bytes, native_order()).with_context(|| input::name(path)).map_err(Failure::bad_input)
}

/// The byte order of programs that are spelled as text, which has none.
fn native_order() -> ByteOrder {
    let little = Arch::NATIVE.is_none_or(Arch::is_little_endian);
    if little { ByteOrder::Little } else { ByteOrder::Big }
}

/// Reads a text.
pub fn text(path: &Path) -> Result<String, Failure> {
    String::from_utf8(input::read(path)?).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::bad_input(anyhow!("{} is not UTF-8: byte {at} is wrong", input::name(path)))
    })
}

/// The error with the lines that it is about, as compilers show it.
pub fn report(name: &str, text: &str, error: &ParseError) -> String {
    let title = error.problem.to_string();
    let span = error.place.start..error.place.end.max(error.place.start);
    let snippet = Snippet::source(text).path(name).annotation(AnnotationKind::Primary.span(span));
    Renderer::styled().render(&[Level::ERROR.primary_title(title).element(snippet)])
}
