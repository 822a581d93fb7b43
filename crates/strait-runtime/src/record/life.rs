//! When in the life of its workload a call is made, for the engines outside of the kernel: by the
//! rules of `strait-kernel/bpf/recorder.bpf.c` (docs/design/051), of which each engine can say what
//! it sees.

use std::collections::BTreeSet;
use std::time::Duration;

use strait_abi::Arch;
use strait_kernel::ebpf::Phase;

use super::Ready;

/// Where a task comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lineage {
    /// From the begin of the workload, with the filters that it began with.
    Workload,
    /// It has loaded a filter since and not exec'd.
    Filtered,
    /// It has exec'd under such a filter, or comes of one that has.
    Inner,
}

/// How far a workload has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    StartUp,
    Steady,
    Shutdown,
}

/// When a call is made. Which phase that is shows at the end: only then it is known whether a
/// filter was a runtime's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment {
    lineage: Lineage,
    stage: Stage,
}

/// The life of a workload so far.
#[derive(Debug)]
pub(super) struct Life {
    /// What the runtime, or the workload without one, has come to.
    outer: Stage,
    /// What has come to that was exec'd under a filter.
    inner: Stage,
    /// The calls of which the first ends the start.
    ready_calls: BTreeSet<(Arch, u32)>,
    /// When the start ends by itself, after the begin of the recording.
    ready_after: Option<Duration>,
    /// The programs that have exec'd under a filter that they had loaded, and when.
    runtimes: BTreeSet<(u32, Moment)>,
}

impl Life {
    /// That of a workload which `runs` already, or is to begin.
    pub(super) fn new(ready: &Ready, runs: bool) -> Life {
        let numbers = |calls: &[strait_abi::Syscall]| {
            let of = |call: &strait_abi::Syscall| {
                let call = *call;
                Arch::ALL.iter().filter_map(move |&arch| Some((arch, call.number(arch)?)))
            };
            calls.iter().flat_map(of).collect()
        };
        let (ready_calls, ready_after) = match ready {
            Ready::Calls(calls) => (numbers(calls), None),
            Ready::After(time) => (BTreeSet::new(), Some(*time)),
        };
        let outer = if runs { Stage::Steady } else { Stage::StartUp };
        let (inner, runtimes) = (Stage::StartUp, BTreeSet::new());
        Life { outer, inner, ready_calls, ready_after, runtimes }
    }

    /// When a call of a task of this lineage is made, so long after the begin of the recording.
    pub(super) fn moment(&mut self, lineage: Lineage, since_begin: Duration) -> Moment {
        if self.ready_after.is_some_and(|after| after <= since_begin) {
            self.ready_after = None;
            self.outer = self.outer.max(Stage::Steady);
            self.inner = self.inner.max(Stage::Steady);
        }
        Moment { lineage, stage: *self.stage(lineage) }
    }

    /// A call was made. What it begins is from the next one on.
    pub(super) fn made(&mut self, lineage: Lineage, arch: Arch, nr: u32) {
        if *self.stage(lineage) == Stage::StartUp && self.ready_calls.contains(&(arch, nr)) {
            *self.stage(lineage) = Stage::Steady;
        }
    }

    /// A signal has told a task of this lineage, which is a first process, to end.
    pub(super) fn end(&mut self, lineage: Lineage) {
        *self.stage(lineage) = Stage::Shutdown;
    }

    /// A task that ran this program has exec'd under a filter that it had loaded.
    pub(super) fn exec_under_filter(&mut self, image: u32, moment: Moment) {
        self.runtimes.insert((image, moment));
    }

    /// Whether there is something that was exec'd under a filter.
    pub(super) fn has_inner(&self) -> bool {
        !self.runtimes.is_empty()
    }

    /// The phase of what this program did then.
    pub(super) fn phase(&self, image: u32, moment: Moment) -> Phase {
        match moment.lineage {
            Lineage::Workload if self.has_inner() => return Phase::BeforeFilter,
            Lineage::Filtered if self.runtimes.contains(&(image, moment)) => return Phase::Runtime,
            _ => {}
        }
        match moment.stage {
            Stage::StartUp => Phase::StartUp,
            Stage::Steady => Phase::Steady,
            Stage::Shutdown => Phase::Shutdown,
        }
    }

    fn stage(&mut self, lineage: Lineage) -> &mut Stage {
        match lineage {
            Lineage::Workload | Lineage::Filtered => &mut self.outer,
            Lineage::Inner => &mut self.inner,
        }
    }
}
