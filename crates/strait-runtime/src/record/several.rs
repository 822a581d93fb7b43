//! Several workloads that run already, recorded at once by one set of programs, each by itself.

use std::time::Duration;

use strait_kernel::ebpf::EbpfError;
use strait_kernel::interrupts::Interrupts;
use strait_policy::Recording;
use strait_policy::recording::Engine;

use super::ending::Ending;
use super::{
    AS_ASKED, AVAILABLE, Choice, Ready, RecordError, Target, document, exists, followed, tree,
};

/// What to record at once, and how.
#[derive(Clone, Debug)]
pub struct SeveralRequest<'a> {
    /// What to record: what runs already, up to 64 of it.
    pub targets: &'a [Target<'a>],
    /// Who is to observe: only eBPF can.
    pub engine: Choice,
    /// After this time the recordings end even if the workloads have not.
    pub duration: Option<Duration>,
    /// When the start of a workload is over.
    pub ready: Ready,
}

/// Recordings that are being made.
///
/// While it lives SIGINT, SIGTERM, SIGHUP and SIGQUIT do not end this process, but the recordings.
#[derive(Debug)]
pub struct Several {
    observer: tree::Observer,
    engine: Engine,
}

/// Starts to record several workloads that run already.
///
/// A process is recorded for one of them: what it starts later is of the same one, wherever it goes.
///
/// # Errors
/// If eBPF is not to be had, if one of them is not there, or if two of them have processes in
/// common. Nothing is recorded then.
pub fn start_several(request: &SeveralRequest<'_>) -> Result<Several, RecordError> {
    let reason = match request.engine {
        Choice::Ebpf => AS_ASKED,
        Choice::Auto | Choice::AutoWithResults => AVAILABLE,
        Choice::Notify => return Err(RecordError::OneAtATime { engine: "notify" }),
        Choice::Ptrace => return Err(RecordError::OneAtATime { engine: "ptrace" }),
        Choice::Audit => return Err(RecordError::OneAtATime { engine: "audit" }),
    };
    for target in request.targets {
        if let Target::Command { .. } = target {
            return Err(RecordError::Starts { target: target.to_string() });
        }
        exists(target)?;
    }
    if let Some((first, second)) = followed::overlap(request.targets) {
        let name = |place: usize| request.targets[place].to_string();
        return Err(RecordError::Overlap { first: name(first), second: name(second) });
    }
    let recorder = tree::attach(request.targets, &request.ready, None).map_err(only_ebpf)?;
    let interrupts = Interrupts::block().map_err(RecordError::Wait)?;
    let ending = Ending::new(interrupts, request.duration);
    let observer = tree::start_several(recorder, request.targets, ending, &request.ready)?;
    let engine = Engine { name: "ebpf".to_owned(), reason: reason.to_owned() };
    Ok(Several { observer, engine })
}

/// Where there is no eBPF, no other engine can do it.
fn only_ebpf(error: RecordError) -> RecordError {
    match error {
        RecordError::Ebpf(
            error @ (EbpfError::Arch | EbpfError::NoBtf(_) | EbpfError::Refused(_)),
        ) => RecordError::SeveralWithoutEbpf(error),
        other => other,
    }
}

impl Several {
    /// Waits until one of the workloads has ended, and gives its recording and its place among
    /// those that were asked for. `None` when all have.
    ///
    /// After the time, or at the first SIGINT, SIGTERM, SIGHUP or SIGQUIT, the workloads go on and
    /// their recordings end, all at that moment.
    ///
    /// # Errors
    /// If what was observed cannot be read.
    pub fn next_ended(&mut self) -> Result<Option<(usize, Recording)>, RecordError> {
        let Some((place, counted)) = self.observer.next_ended()? else { return Ok(None) };
        let container = document::Container::default();
        let engine = self.engine.clone();
        Ok(Some((place, document::recording(engine, Vec::new(), &container, counted))))
    }
}
