//! From counts to the document.

use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

use strait_abi::Syscall;
use strait_kernel::ebpf::{self, Counts, Statistics};
use strait_policy::Recording;
use strait_policy::recording::{Engine, Exit, Image, Outcomes, RecordingBuilder};

use super::counted::Counted;
use super::program_file;

/// What the kernel says to itself of a call that a signal has interrupted, ERESTARTSYS to
/// ERESTART_RESTARTBLOCK (include/linux/errno.h). The program never gets to see these: the call is
/// made again, and counted again, or returns EINTR. So they are no results.
const RESTARTS: RangeInclusive<u16> = 512..=516;

/// The recording of what was counted.
pub(super) fn recording(engine: Engine, command: Vec<String>, counted: Counted) -> Recording {
    let Counted { counts, status, interrupted, filtered, blind_spots } = counted;
    let kernel = text(rustix::system::uname().release().to_bytes());
    let mut recording = Recording::builder(engine, kernel);
    recording.command(command);
    let images: BTreeMap<_, _> =
        counts.images.iter().map(|(id, image)| (id, named(image))).collect();
    for (call, outcomes) in &counts.calls {
        let image = images.get(&call.image).cloned().unwrap_or_else(unknown);
        let outcomes = Outcomes {
            count: outcomes.entered,
            succeeded: outcomes.succeeded,
            errnos: outcomes
                .errnos
                .iter()
                .filter(|(errno, _)| !RESTARTS.contains(errno))
                .map(|(&errno, &count)| (errno, count))
                .collect(),
            denied: outcomes.denied,
        };
        recording.call(image, call.arch, call.nr, &outcomes);
    }
    lost(&counts.statistics, &mut recording);
    let completeness = recording.completeness();
    completeness.interrupted = interrupted;
    completeness.filter_active = filtered || counts.statistics.filtered_tasks > 0;
    completeness.io_uring = io_uring(&counts);
    completeness.blind_spots = blind_spots_of(&counts.statistics, blind_spots);
    if let Some(status) = status {
        recording.exit(exit(status));
    }
    recording.build()
}

/// Bytes as text: what is not printable UTF-8, and the backslash, as `\xNN`.
pub(super) fn text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            if char == '\\' || char.is_control() {
                let mut buffer = [0; 4];
                char.encode_utf8(&mut buffer).bytes().for_each(|byte| hex(&mut text, byte));
            } else {
                text.push(char);
            }
        }
        chunk.invalid().iter().for_each(|&byte| hex(&mut text, byte));
    }
    text
}

/// An error and its sources, in one line.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

fn hex(text: &mut String, byte: u8) {
    // Writing to a string does not fail.
    let _ = write!(text, "\\x{byte:02x}");
}

fn named(image: &ebpf::Image) -> Image {
    if image.path.is_empty() {
        return unknown();
    }
    Image {
        path: text(&image.path),
        script: image.script.as_deref().map(text),
        runtime: program_file::runtime(Path::new(OsStr::from_bytes(&image.path))),
        ..Image::default()
    }
}

/// What could not be told apart any more.
fn unknown() -> Image {
    Image::from("(unknown)")
}

fn exit(status: ExitStatus) -> Exit {
    match status.signal() {
        Some(signal) => Exit::Signal(signal),
        None => Exit::Status(status.code().unwrap_or(-1)),
    }
}

fn lost(statistics: &Statistics, recording: &mut RecordingBuilder) {
    recording
        .lost("calls", statistics.lost_calls)
        .lost("tasks", statistics.lost_tasks)
        .lost("images", statistics.lost_images)
        .lost("errnos", statistics.lost_errnos)
        .lost("paths", statistics.cut_paths)
        .lost("events", statistics.missed_events);
}

fn io_uring(counts: &Counts) -> bool {
    let Some(setup) = Syscall::from_name("io_uring_setup") else { return false };
    counts
        .calls
        .iter()
        .any(|(call, outcomes)| setup.number(call.arch) == Some(call.nr) && outcomes.succeeded > 0)
}

fn blind_spots_of(statistics: &Statistics, mut blind_spots: Vec<String>) -> Vec<String> {
    if statistics.replaced_calls > 0 {
        blind_spots.push(format!(
            "a tracer replaced {} calls, which are not counted",
            statistics.replaced_calls
        ));
    }
    blind_spots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_are_text_that_says_which() {
        assert_eq!(text(b"/usr/bin/caf\xc3\xa9"), "/usr/bin/café");
        assert_eq!(text(b"a\nb\xffc\\d\xc3"), r"a\x0ab\xffc\x5cd\xc3");
    }
}
