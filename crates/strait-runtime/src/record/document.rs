//! From counts to the document.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

use strait_abi::Syscall;
use strait_kernel::ebpf::{self, Counts, FileId, Statistics};
use strait_policy::Recording;
use strait_policy::recording::{
    Engine, Exit, Image, Observation, Outcomes, Phase, RecordingBuilder, Site, Times, Values, text,
};

use super::counted::Counted;
use super::program_file;
use crate::oci::hook::RuntimeFile;

/// What the kernel says to itself of a call that a signal has interrupted, ERESTARTSYS to
/// ERESTART_RESTARTBLOCK (include/linux/errno.h). The program never gets to see these: the call is
/// made again, and counted again, or returns EINTR. So they are no results.
const RESTARTS: RangeInclusive<u16> = 512..=516;

/// What is known of a workload that is a container.
#[derive(Debug, Default)]
pub(super) struct Container {
    /// Its id.
    pub(super) id: Option<String>,
    /// What its engine calls it.
    pub(super) called: Option<strait_policy::recording::Container>,
    /// The runtime that has started it.
    pub(super) runtime: Option<RuntimeFile>,
}

/// The recording of what was counted.
pub(super) fn recording(
    engine: Engine,
    command: Vec<String>,
    container: &Container,
    counted: Counted,
) -> Recording {
    let Counted { counts, status, interrupted, filtered, sees_results, lost: more, blind_spots } =
        counted;
    let kernel = text(rustix::system::uname().release().to_bytes());
    let mut recording = Recording::builder(engine, kernel);
    recording.command(command);
    if let Some(id) = &container.id {
        recording.name(text(id.as_bytes()));
    }
    if let Some(called) = &container.called {
        recording.container(called.clone());
    }
    let mut images: BTreeMap<_, _> =
        counts.images.iter().map(|(id, image)| (id, named(image, counts.files.get(id)))).collect();
    let runtime = container.runtime.as_ref().and_then(RuntimeFile::release);
    let runtime = runtime.as_deref();
    if let Some((runtime, name)) = runtime.and_then(|it| Some((it, it.split(' ').next()?))) {
        let started = counts.calls.keys().filter(|call| call.phase == Some(ebpf::Phase::Runtime));
        for id in started.map(|call| call.image).collect::<BTreeSet<_>>() {
            let image = images.get_mut(&id);
            // A copy of it in memory has a name like this too: `memfd:runc_cloned:/proc/self/exe`.
            if let Some(image) = image.filter(|image| image.path.contains(name)) {
                image.release = Some(runtime.to_owned());
            }
        }
    }
    for (call, outcomes) in &counts.calls {
        let image = images.get(&call.image).cloned().unwrap_or_else(unknown);
        let site = Site { image, phase: call.phase.map(phase), arch: call.arch, nr: call.nr };
        recording.observe(site, &observation(call, outcomes));
    }
    lost(&counts.statistics, &mut recording);
    for (place, count) in more {
        recording.lost(place, count);
    }
    let completeness = recording.completeness();
    completeness.interrupted = interrupted;
    completeness.filter_active = filtered || counts.statistics.filtered_tasks > 0;
    completeness.io_uring = io_uring(&counts, sees_results);
    completeness.io_uring_operations = counts
        .io_uring
        .iter()
        .map(|(&operation, &count)| (io_uring_name(operation), count))
        .collect();
    completeness.coverage.time_us = counts.time_us;
    completeness.blind_spots = blind_spots_of(&counts.statistics, blind_spots);
    if let Some(status) = status {
        recording.exit(exit(status));
    }
    recording.build()
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

/// What was seen of a call. The restart codes are no results: the program never gets to see them.
fn observation(call: &ebpf::Call, outcomes: &ebpf::Outcomes) -> Observation {
    let mut errnos = outcomes.errnos.clone();
    errnos.retain(|errno, _| !RESTARTS.contains(errno));
    let args = call.arch.syscall(call.nr).and_then(|syscall| syscall.args(call.arch));
    let arguments = outcomes.arguments.iter().filter_map(|(&place, seen)| {
        let mut values: Values = seen.values.iter().copied().collect();
        if seen.overflow {
            values.overflow();
        }
        Some((args?.get(place)?.name().to_owned(), values))
    });
    Observation {
        outcomes: Outcomes {
            count: outcomes.entered,
            succeeded: outcomes.succeeded,
            errnos,
            denied: outcomes.denied,
        },
        times: outcomes.times_us.map(|(first_us, last_us)| Times { first_us, last_us }),
        arguments: arguments.collect(),
    }
}

fn phase(phase: ebpf::Phase) -> Phase {
    match phase {
        ebpf::Phase::BeforeFilter => Phase::BeforeFilter,
        ebpf::Phase::Runtime => Phase::Runtime,
        ebpf::Phase::StartUp => Phase::StartUp,
        ebpf::Phase::Steady => Phase::Steady,
        ebpf::Phase::Shutdown => Phase::Shutdown,
        ebpf::Phase::Outside => Phase::Outside,
    }
}

fn named(image: &ebpf::Image, id: Option<&FileId>) -> Image {
    if image.path.is_empty() {
        return unknown();
    }
    let mut named = Image {
        path: text(&image.path),
        script: image.script.as_deref().map(text),
        ..Image::default()
    };
    program_file::look_into(Path::new(OsStr::from_bytes(&image.path)), id, &mut named);
    named
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
        .lost("rows", statistics.lost_rows)
        .lost("errnos", statistics.lost_errnos)
        .lost("paths", statistics.cut_paths)
        .lost("events", statistics.missed_events);
}

/// Whether io_uring was set up; where results are not seen, whether that was tried.
fn io_uring(counts: &Counts, sees_results: bool) -> bool {
    let Some(setup) = Syscall::from_name("io_uring_setup") else { return false };
    counts.calls.iter().any(|(call, outcomes)| {
        let times = if sees_results { outcomes.succeeded } else { outcomes.entered };
        setup.number(call.arch) == Some(call.nr) && times > 0
    })
}

/// The operation by its name in include/uapi/linux/io_uring.h.
fn io_uring_name(operation: u8) -> String {
    match IO_URING_OPERATIONS.get(usize::from(operation)) {
        Some(name) => (*name).to_owned(),
        None => format!("operation {operation}"),
    }
}

/// `enum io_uring_op`, in order, without `IORING_OP_` (Linux 6.18).
const IO_URING_OPERATIONS: &[&str] = &[
    "NOP",
    "READV",
    "WRITEV",
    "FSYNC",
    "READ_FIXED",
    "WRITE_FIXED",
    "POLL_ADD",
    "POLL_REMOVE",
    "SYNC_FILE_RANGE",
    "SENDMSG",
    "RECVMSG",
    "TIMEOUT",
    "TIMEOUT_REMOVE",
    "ACCEPT",
    "ASYNC_CANCEL",
    "LINK_TIMEOUT",
    "CONNECT",
    "FALLOCATE",
    "OPENAT",
    "CLOSE",
    "FILES_UPDATE",
    "STATX",
    "READ",
    "WRITE",
    "FADVISE",
    "MADVISE",
    "SEND",
    "RECV",
    "OPENAT2",
    "EPOLL_CTL",
    "SPLICE",
    "PROVIDE_BUFFERS",
    "REMOVE_BUFFERS",
    "TEE",
    "SHUTDOWN",
    "RENAMEAT",
    "UNLINKAT",
    "MKDIRAT",
    "SYMLINKAT",
    "LINKAT",
    "MSG_RING",
    "FSETXATTR",
    "SETXATTR",
    "FGETXATTR",
    "GETXATTR",
    "SOCKET",
    "URING_CMD",
    "SEND_ZC",
    "SENDMSG_ZC",
    "READ_MULTISHOT",
    "WAITID",
    "FUTEX_WAIT",
    "FUTEX_WAKE",
    "FUTEX_WAITV",
    "FIXED_FD_INSTALL",
    "FTRUNCATE",
    "BIND",
    "LISTEN",
    "RECV_ZC",
    "EPOLL_WAIT",
    "READV_FIXED",
    "WRITEV_FIXED",
    "PIPE",
];

fn blind_spots_of(statistics: &Statistics, mut blind_spots: Vec<String>) -> Vec<String> {
    if statistics.replaced_calls > 0 {
        blind_spots.push(format!(
            "a tracer replaced {} calls, which are not counted",
            statistics.replaced_calls
        ));
    }
    blind_spots
}
