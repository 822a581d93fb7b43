//! Several runs in one recording: merging, and how likely it is that another run would show more.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use strait_abi::{Arch, KernelVersion};

use super::{Engine, Recording, RecordingBuilder, Site, arch_by_name};

/// One of the runs that a merged recording is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// [`Recording::digest`] of the recording of this run alone.
    pub recording: String,
    /// How long it was observed, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_us: Option<u64>,
    /// How many different calls were first made in the last tenth of that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_in_last_tenth: Option<u64>,
    /// Which calls were made in it, by ABI.
    pub calls: BTreeSet<Numbers>,
}

/// Numbers of calls by one ABI.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Numbers {
    /// The ABI.
    #[serde(with = "arch_by_name")]
    pub arch: Arch,
    /// The numbers.
    pub nr: BTreeSet<u32>,
}

impl Run {
    /// The run that a recording is of, if it is of one.
    fn of(recording: &Recording) -> Run {
        let mut calls: BTreeMap<Arch, BTreeSet<u32>> = BTreeMap::new();
        for call in recording.calls().iter().filter(|call| call.outcomes.count > 0) {
            calls.entry(call.arch).or_default().insert(call.nr);
        }
        let coverage = recording.completeness().coverage;
        Run {
            recording: recording.digest(),
            time_us: coverage.time_us,
            new_in_last_tenth: coverage.new_in_last_tenth,
            calls: calls.into_iter().map(|(arch, nr)| Numbers { arch, nr }).collect(),
        }
    }
}

/// What merged recordings say where they differ.
const SEVERAL: &str = "several";

impl Recording {
    /// The runs that it is of, itself where it is of one.
    pub fn runs(&self) -> Vec<Run> {
        if self.0.runs.is_empty() { vec![Run::of(self)] } else { self.0.runs.clone() }
    }

    /// Both observations as one: counts are added up, values united, and what one of them lost or
    /// could not see is lost. Associative and commutative: however many recordings are merged, in
    /// whichever order, the result is the same.
    ///
    /// It is not idempotent: a recording merged with itself counts twice. What they say of the
    /// workload in different ways (its name, its container, its command, how it ended) is left out, and of two
    /// kernels the newer is kept.
    #[must_use]
    pub fn merge(&self, other: &Recording) -> Recording {
        let mut merged = Recording::builder(
            Engine {
                name: agreed(&self.engine().name, &other.engine().name),
                reason: agreed(&self.engine().reason, &other.engine().reason),
            },
            newer(self.kernel(), other.kernel()),
        );
        merged.name = self.0.name.clone().filter(|name| Some(name) == other.0.name.as_ref());
        merged.container =
            self.0.container.clone().filter(|of| Some(of) == other.0.container.as_ref());
        merged.exit = self.0.exit.filter(|exit| Some(exit) == other.0.exit.as_ref());
        if self.command() == other.command() {
            merged.command = self.command().to_vec();
        }
        merged.runs = [self.runs(), other.runs()].concat();
        self.add_to(&mut merged);
        other.add_to(&mut merged);
        merged.build()
    }

    /// Adds images, calls and gaps.
    fn add_to(&self, builder: &mut RecordingBuilder) {
        builder.completeness.add(self.completeness());
        builder.images.extend(self.images().iter().cloned());
        for call in self.calls() {
            let image = self.images()[call.image].clone();
            let site = Site { image, phase: call.phase, arch: call.arch, nr: call.nr };
            builder.observe(site, &call.observation());
        }
    }
}

/// What both say, or that they differ.
fn agreed(one: &str, other: &str) -> String {
    if one == other { one.to_owned() } else { SEVERAL.to_owned() }
}

/// The release of the newer kernel.
fn newer<'a>(one: &'a str, other: &'a str) -> &'a str {
    let version = |release: &'a str| (KernelVersion::from_release(release).ok(), release);
    if version(one) >= version(other) { one } else { other }
}

/// How many different calls there are that no run has shown, as estimated from how many of them few
/// runs have shown.
///
/// Chao's lower bound for incidence data (A. Chao, *Biometrics* 43, 1987; known as Chao2, the form
/// of Chao1 that counts runs): with `m` runs, `q1` calls that exactly one run has shown and `q2`
/// that exactly two have, `(m-1)/m · q1²/2q2`, or `(m-1)/m · q1(q1-1)/2` where `q2` is 0.
///
/// It assumes that the runs are independent samples of what the workload does. Runs of the same
/// test with the same input are not: the estimate is about repetition of what was tried, and says
/// nothing of inputs, errors and configurations that no run has tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saturation {
    /// How many runs there are.
    pub runs: u64,
    /// How many different calls (ABI and number) they have shown.
    pub seen: u64,
    /// How many of those exactly one run has shown.
    pub once: u64,
    /// How many exactly two.
    pub twice: u64,
    /// The estimate, rounded up. It is a lower bound, so 0 is no promise.
    pub unseen: u64,
}

impl Saturation {
    /// The estimate; `None` for fewer than two runs, of which nothing can be told.
    pub fn of(runs: &[Run]) -> Option<Saturation> {
        let count = u64::try_from(runs.len()).ok().filter(|&runs| runs >= 2)?;
        let mut incidence: BTreeMap<(Arch, u32), u64> = BTreeMap::new();
        for numbers in runs.iter().flat_map(|run| &run.calls) {
            for &nr in &numbers.nr {
                *incidence.entry((numbers.arch, nr)).or_default() += 1;
            }
        }
        let shown_by = |runs: u64| incidence.values().filter(|&&in_runs| in_runs == runs).count();
        let exactly = |runs| u64::try_from(shown_by(runs)).unwrap_or(u64::MAX);
        let (once, twice) = (exactly(1), exactly(2));
        // In u128 nothing here overflows: there are less than 2³⁶ calls.
        let (m, q1, q2) = (u128::from(count), u128::from(once), u128::from(twice));
        let (over, under) = match q2 {
            0 => (q1 * q1.saturating_sub(1), 2),
            _ => (q1 * q1, 2 * q2),
        };
        let unseen = ((m - 1) * over).div_ceil(m * under);
        Some(Saturation {
            runs: count,
            seen: u64::try_from(incidence.len()).unwrap_or(u64::MAX),
            once,
            twice,
            unseen: u64::try_from(unseen).unwrap_or(u64::MAX),
        })
    }
}

impl std::fmt::Display for Saturation {
    /// A sentence for a person.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Saturation { runs, seen, once, unseen, .. } = self;
        write!(
            f,
            "{runs} runs showed {seen} different calls, {once} of them in one run only; at least \
             {unseen} more are to be expected (Chao2, if the runs are independent samples)"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(nr: &[u32]) -> Run {
        let numbers = Numbers { arch: Arch::X86_64, nr: nr.iter().copied().collect() };
        Run {
            recording: format!("{nr:?}"),
            time_us: None,
            new_in_last_tenth: None,
            calls: [numbers].into(),
        }
    }

    #[test]
    fn the_estimate_is_chaos() {
        assert_eq!(Saturation::of(&[run(&[1])]), None);
        let same = Saturation::of(&[run(&[1, 2]), run(&[1, 2])]).unwrap();
        assert_eq!((same.seen, same.once, same.twice, same.unseen), (2, 0, 2, 0));
        // m = 4, q1 = 3, q2 = 1: 3/4 · 9/2 = 3.4.
        let four = [run(&[1, 2, 3]), run(&[1, 3, 4]), run(&[1, 5]), run(&[1])];
        let four = Saturation::of(&four).unwrap();
        assert_eq!((four.seen, four.once, four.twice, four.unseen), (5, 3, 1, 4));
        // m = 3, q1 = 3, q2 = 0: 2/3 · 3.
        let apart = Saturation::of(&[run(&[1]), run(&[2]), run(&[3])]).unwrap();
        assert_eq!(apart.unseen, 2);
    }
}
