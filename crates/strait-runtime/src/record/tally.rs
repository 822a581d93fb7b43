//! Counting what an engine outside of the kernel sees, in bounded memory.

use std::collections::BTreeMap;

use strait_abi::{Arch, Syscall};
use strait_bpf::SeccompData;
use strait_kernel::ebpf::{Call, Counts, Image};

/// Errors are from -4095 to -1 (include/linux/err.h, MAX_ERRNO).
const MAX_ERRNO: u16 = 4095;
/// How many kinds of call and how many program files there is room for: as many as the eBPF engine
/// has.
const MAX_CALLS: usize = 16_384;
const MAX_IMAGES: usize = 1_022;

/// What was counted so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    images: BTreeMap<Image, u32>,
    counts: Counts,
}

impl Tally {
    /// The number of a program file.
    pub(super) fn image(&mut self, image: Image) -> u32 {
        if let Some(&number) = self.images.get(&image) {
            return number;
        }
        if self.images.len() >= MAX_IMAGES {
            self.counts.statistics.lost_images += 1;
            // One more, of no path, for all that follow.
            return u32::try_from(MAX_IMAGES).unwrap_or(u32::MAX);
        }
        let number = u32::try_from(self.images.len()).unwrap_or(u32::MAX);
        self.images.insert(image, number);
        number
    }

    /// A call of this program file was begun. Without a table for its ABI there is no call to be
    /// counted, and it is lost.
    pub(super) fn entered(&mut self, image: u32, data: &SeccompData) -> Option<Call> {
        let call = self.call(image, data)?;
        self.counts.calls.entry(call).or_default().entered += 1;
        Some(call)
    }

    /// A filter answered a call.
    pub(super) fn denied(&mut self, image: u32, data: &SeccompData) {
        if let Some(call) = self.call(image, data) {
            self.counts.calls.entry(call).or_default().denied += 1;
        }
    }

    /// A call that was begun has this result; returns whether it is a success.
    pub(super) fn returned(&mut self, call: Call, result: i64) -> bool {
        let outcomes = self.counts.calls.entry(call).or_default();
        match u16::try_from(result.wrapping_neg()) {
            Ok(errno @ 1..=MAX_ERRNO) => {
                *outcomes.errnos.entry(errno).or_default() += 1;
                false
            }
            _ => {
                outcomes.succeeded += 1;
                true
            }
        }
    }

    /// A task of the workload was seen for the first time.
    pub(super) fn task(&mut self) {
        self.counts.statistics.tasks += 1;
    }

    /// A task was seen to exec.
    pub(super) fn exec(&mut self) {
        self.counts.statistics.execs += 1;
    }

    /// A task has put a filter on itself.
    pub(super) fn filtered(&mut self) {
        self.counts.statistics.filtered_tasks += 1;
    }

    /// What was counted.
    pub(super) fn counts(self) -> Counts {
        let mut counts = self.counts;
        counts.images = self.images.into_iter().map(|(image, number)| (number, image)).collect();
        counts
    }

    fn call(&mut self, image: u32, data: &SeccompData) -> Option<Call> {
        let Some(arch) = arch_of(data) else {
            // Counted as what it is not would be worse.
            self.counts.statistics.lost_calls += 1;
            return None;
        };
        let call = Call { image, phase: None, arch, nr: data.nr };
        if self.counts.calls.len() >= MAX_CALLS && !self.counts.calls.contains_key(&call) {
            self.counts.statistics.lost_calls += 1;
            return None;
        }
        Some(call)
    }
}

/// The ABI of a call, as `seccomp_data` shows it.
fn arch_of(data: &SeccompData) -> Option<Arch> {
    match data.arch.arch()? {
        Arch::X86_64 if data.nr & Arch::X32_BIT != 0 => Some(Arch::X32),
        arch => Some(arch),
    }
}

/// Whether a call puts a filter on its task: seccomp(SECCOMP_SET_MODE_FILTER) or
/// prctl(PR_SET_SECCOMP).
pub(super) fn loads_filter(call: Call, data: &SeccompData) -> bool {
    const SECCOMP_SET_MODE_FILTER: u64 = 1;
    const PR_SET_SECCOMP: u64 = 22;
    let is = |name| Syscall::from_name(name).and_then(|it| it.number(call.arch)) == Some(call.nr);
    (data.args[0] == SECCOMP_SET_MODE_FILTER && is("seccomp"))
        || (data.args[0] == PR_SET_SECCOMP && is("prctl"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_counted_as_lost() {
        let mut tally = Tally::default();
        let arch = Arch::X86_64.audit_arch();
        for nr in 0..20_000 {
            tally.entered(0, &SeccompData::new(arch, nr));
        }
        tally.entered(0, &SeccompData::new(arch, 7));
        for number in 0..1_030 {
            let path = format!("/{number}").into_bytes();
            tally.image(Image { path, script: None });
        }
        let counts = tally.counts();
        assert_eq!(counts.calls.len(), MAX_CALLS);
        assert_eq!(counts.statistics.lost_calls, 20_000 - 16_384);
        assert_eq!(counts.images.len(), MAX_IMAGES);
        assert_eq!(counts.statistics.lost_images, 8);
        assert_eq!(counts.calls.iter().find(|(call, _)| call.nr == 7).unwrap().1.entered, 2);
    }
}
