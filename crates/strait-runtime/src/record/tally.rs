//! Counting what an engine outside of the kernel sees, in bounded memory.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use strait_abi::{Arch, Syscall};
use strait_bpf::SeccompData;
use strait_kernel::ebpf::{Call, Counts, Image, Outcomes, Statistics};
use strait_policy::recording::MAX_VALUES;

use super::life::{Life, Lineage, Moment};

/// Errors are from -4095 to -1 (include/linux/err.h, MAX_ERRNO).
const MAX_ERRNO: u16 = 4095;
/// How many kinds of call and how many program files there is room for: as many as the eBPF engine
/// has.
const MAX_CALLS: usize = 16_384;
const MAX_IMAGES: usize = 1_022;

/// What was counted so far.
#[derive(Debug)]
pub(super) struct Tally {
    images: BTreeMap<Image, u32>,
    calls: BTreeMap<Site, Entry>,
    statistics: Statistics,
    life: Life,
    /// When the recording began.
    created: Instant,
    /// When the first call was made.
    begun: Option<Instant>,
}

/// What calls are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Site {
    image: u32,
    moment: Moment,
    arch: Arch,
    nr: u32,
}

/// One kind of call.
#[derive(Debug)]
struct Entry {
    outcomes: Outcomes,
    /// The places of its arguments of interest, and the bits of each that the kernel looks at.
    interests: Vec<(usize, u64)>,
}

impl Tally {
    /// Nothing was counted yet, in this life.
    pub(super) fn new(life: Life) -> Tally {
        Tally {
            images: BTreeMap::new(),
            calls: BTreeMap::new(),
            statistics: Statistics::default(),
            life,
            created: Instant::now(),
            begun: None,
        }
    }

    /// The number of a program file.
    pub(super) fn image(&mut self, image: Image) -> u32 {
        if let Some(&number) = self.images.get(&image) {
            return number;
        }
        if self.images.len() >= MAX_IMAGES {
            self.statistics.lost_images += 1;
            // One more, of no path, for all that follow.
            return u32::try_from(MAX_IMAGES).unwrap_or(u32::MAX);
        }
        let number = u32::try_from(self.images.len()).unwrap_or(u32::MAX);
        self.images.insert(image, number);
        number
    }

    /// A call of this program file is begun now, by a task of this lineage. Without a table for its
    /// ABI, or without room, it is lost and not named.
    pub(super) fn entered(
        &mut self,
        image: u32,
        lineage: Lineage,
        data: &SeccompData,
    ) -> Option<Site> {
        let now = micros_since(*self.begun.get_or_insert_with(Instant::now));
        let moment = self.moment(lineage);
        let (site, entry) = self.entry(image, moment, data)?;
        entry.outcomes.entered += 1;
        entry.outcomes.times_us.get_or_insert((now, now)).1 = now;
        for &(place, mask) in &entry.interests {
            let seen = entry.outcomes.arguments.entry(place).or_default();
            seen.values.insert(data.args[place] & mask);
            if seen.values.len() > MAX_VALUES {
                // Which are kept must not depend on the order in which they came.
                seen.values.pop_last();
                seen.overflow = true;
            }
        }
        self.life.made(lineage, site.arch, site.nr);
        Some(site)
    }

    /// The same for a call of which the arguments are not seen, and the time is told: in
    /// microseconds since the recording began. Calls may be told in another order than that in
    /// which they were made.
    pub(super) fn entered_at(&mut self, image: u32, data: &SeccompData, at_us: u64) {
        let moment = self.life.moment(Lineage::Workload, Duration::from_micros(at_us));
        let Some((site, Entry { outcomes, .. })) = self.entry(image, moment, data) else { return };
        outcomes.entered += 1;
        let (first, last) = outcomes.times_us.unwrap_or((at_us, at_us));
        outcomes.times_us = Some((first.min(at_us), last.max(at_us)));
        self.life.made(Lineage::Workload, site.arch, site.nr);
    }

    /// A filter answers a call now.
    pub(super) fn denied(&mut self, image: u32, lineage: Lineage, data: &SeccompData) {
        let moment = self.moment(lineage);
        if let Some((_, entry)) = self.entry(image, moment, data) {
            entry.outcomes.denied += 1;
        }
    }

    /// A filter answered a call, in microseconds since the recording began.
    pub(super) fn denied_at(&mut self, image: u32, data: &SeccompData, at_us: u64) {
        let moment = self.life.moment(Lineage::Workload, Duration::from_micros(at_us));
        if let Some((_, entry)) = self.entry(image, moment, data) {
            entry.outcomes.denied += 1;
        }
    }

    /// A call that was begun has this result; returns whether it is a success.
    pub(super) fn returned(&mut self, site: Site, result: i64) -> bool {
        let Some(Entry { outcomes, .. }) = self.calls.get_mut(&site) else { return false };
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
        self.statistics.tasks += 1;
    }

    /// A task was seen to exec.
    pub(super) fn exec(&mut self) {
        self.statistics.execs += 1;
    }

    /// A task that ran this program has exec'd now, under a filter that it had loaded.
    pub(super) fn exec_under_filter(&mut self, image: u32) {
        let moment = self.moment(Lineage::Filtered);
        self.life.exec_under_filter(image, moment);
    }

    /// The life of the workload.
    pub(super) fn life(&mut self) -> &mut Life {
        &mut self.life
    }

    /// A task has put a filter on itself.
    pub(super) fn filtered(&mut self) {
        self.statistics.filtered_tasks += 1;
    }

    /// So many calls were lost.
    pub(super) fn lost(&mut self, calls: u64) {
        self.statistics.lost_calls += calls;
    }

    /// What was counted.
    pub(super) fn counts(self) -> Counts {
        let mut calls: BTreeMap<Call, Outcomes> = BTreeMap::new();
        for (Site { image, moment, arch, nr }, entry) in self.calls {
            let call = Call { image, phase: Some(self.life.phase(image, moment)), arch, nr };
            add(calls.entry(call).or_default(), entry.outcomes);
        }
        Counts {
            images: self.images.into_iter().map(|(image, number)| (number, image)).collect(),
            calls,
            time_us: self.begun.map(micros_since),
            statistics: self.statistics,
            ..Counts::default()
        }
    }

    fn moment(&mut self, lineage: Lineage) -> Moment {
        self.life.moment(lineage, self.created.elapsed())
    }

    fn entry(
        &mut self,
        image: u32,
        moment: Moment,
        data: &SeccompData,
    ) -> Option<(Site, &mut Entry)> {
        let Some(arch) = arch_of(data) else {
            // Counted as what it is not would be worse.
            self.statistics.lost_calls += 1;
            return None;
        };
        let site = Site { image, moment, arch, nr: data.nr };
        if self.calls.len() >= MAX_CALLS && !self.calls.contains_key(&site) {
            self.statistics.lost_calls += 1;
            return None;
        }
        let entry = self.calls.entry(site).or_insert_with(|| {
            let interests = arch.syscall(data.nr).into_iter();
            let interests = interests.flat_map(|syscall| syscall.args_of_interest(arch));
            Entry {
                outcomes: Outcomes::default(),
                interests: interests.map(|(place, arg)| (place, arg.width(arch).mask())).collect(),
            }
        });
        Some((site, entry))
    }
}

/// Adds what was counted elsewhere of the same call.
fn add(outcomes: &mut Outcomes, other: Outcomes) {
    outcomes.entered += other.entered;
    outcomes.succeeded += other.succeeded;
    outcomes.denied += other.denied;
    for (errno, count) in other.errnos {
        *outcomes.errnos.entry(errno).or_default() += count;
    }
    outcomes.times_us = match (outcomes.times_us, other.times_us) {
        (Some((first, last)), Some(other)) => Some((first.min(other.0), last.max(other.1))),
        (one, other) => one.or(other),
    };
    for (place, values) in other.arguments {
        let all = outcomes.arguments.entry(place).or_default();
        all.values.extend(values.values);
        all.overflow |= values.overflow;
        while all.values.len() > MAX_VALUES {
            all.values.pop_last();
            all.overflow = true;
        }
    }
}

fn micros_since(begin: Instant) -> u64 {
    u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX)
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
pub(super) fn loads_filter(call: Site, data: &SeccompData) -> bool {
    const SECCOMP_SET_MODE_FILTER: u64 = 1;
    const PR_SET_SECCOMP: u64 = 22;
    let is = |name| Syscall::from_name(name).and_then(|it| it.number(call.arch)) == Some(call.nr);
    (data.args[0] == SECCOMP_SET_MODE_FILTER && is("seccomp"))
        || (data.args[0] == PR_SET_SECCOMP && is("prctl"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Ready;

    #[test]
    fn what_finds_no_room_is_counted_as_lost() {
        let mut tally = Tally::new(Life::new(&Ready::Calls(Vec::new()), false));
        let arch = Arch::X86_64.audit_arch();
        let lineage = Lineage::Workload;
        for nr in 0..20_000 {
            tally.entered(0, lineage, &SeccompData::new(arch, nr));
        }
        tally.entered(0, lineage, &SeccompData::new(arch, 7));
        for number in 0..1_030 {
            let path = format!("/{number}").into_bytes();
            tally.image(Image { path, script: None });
        }
        // ioctl: more commands than are kept, whatever the bits that the kernel does not take.
        for cmd in (0..100).rev() {
            let args = [3, cmd | 1 << 40, 9, 9, 9, 9];
            tally.entered(0, lineage, &SeccompData::new(arch, 16).with_args(args));
        }
        let counts = tally.counts();
        assert_eq!(counts.calls.len(), MAX_CALLS);
        assert_eq!(counts.statistics.lost_calls, 20_000 - 16_384);
        assert_eq!(counts.images.len(), MAX_IMAGES);
        assert_eq!(counts.statistics.lost_images, 8);
        let ioctl = counts.calls.iter().find(|(call, _)| call.nr == 16).unwrap().1;
        assert_eq!(ioctl.arguments.keys().collect::<Vec<_>>(), [&1]);
        assert!(ioctl.arguments[&1].overflow);
        assert!(ioctl.arguments[&1].values.iter().copied().eq(0..64));
        assert_eq!(counts.calls.iter().find(|(call, _)| call.nr == 7).unwrap().1.entered, 2);
    }
}
