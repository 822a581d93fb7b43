//! What is observed of one system call: when, how often, with which results and arguments.
//!
//! Observations of the same call add up, in any order and grouping, to the same sum.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use strait_abi::{Arch, Arg};

/// How many different values of one argument are kept.
pub const MAX_VALUES: usize = 64;

/// When in the life of a workload a call was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Phase {
    /// Before a runtime loaded the filter under which it then executed the workload. Such a call
    /// is not decided by that filter.
    BeforeFilter,
    /// Between a runtime's loading of a filter and its exec of the workload: what the runtime
    /// itself needs of the filter.
    Runtime,
    /// From the workload's exec until it is ready: until it first listens, accepts or waits for
    /// events, unless the person who records says otherwise.
    StartUp,
    /// From then on.
    Steady,
    /// From the first signal on that tells the workload to end.
    Shutdown,
    /// By a process that entered the workload from outside, as `docker exec` and probes do.
    Outside,
}

impl Phase {
    /// All of them, in the order of a workload's life.
    pub const ALL: &'static [Phase] = &[
        Phase::BeforeFilter,
        Phase::Runtime,
        Phase::StartUp,
        Phase::Steady,
        Phase::Shutdown,
        Phase::Outside,
    ];

    /// Its name in a recording.
    pub const fn name(self) -> &'static str {
        match self {
            Phase::BeforeFilter => "before-filter",
            Phase::Runtime => "runtime",
            Phase::StartUp => "start-up",
            Phase::Steady => "steady",
            Phase::Shutdown => "shutdown",
            Phase::Outside => "outside",
        }
    }
}

/// What was seen of one call of one program file, in one phase, by one ABI.
///
/// An engine that sees calls one by one makes one observation for each and adds them up; one that
/// counts in the kernel makes one for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// How often, and with which results.
    pub outcomes: Outcomes,
    /// When first and last, where that is known.
    pub times: Option<Times>,
    /// The values of its arguments of interest ([`Arg::is_of_interest`]), by the argument's name;
    /// an argument that is not here was not looked at.
    pub arguments: BTreeMap<String, Values>,
}

impl Observation {
    /// Notes the value of an argument of interest, of which only the bits count that the kernel
    /// looks at; `register` is all of it.
    pub fn see(&mut self, arch: Arch, arg: &Arg, register: u64) -> &mut Self {
        let value = register & arg.width(arch).mask();
        self.arguments.entry(arg.name().to_owned()).or_default().insert(value);
        self
    }

    /// Adds what was seen elsewhere of the same call.
    ///
    /// An argument that was looked at in one observation and not in the other, which has calls, is
    /// marked: its values are not all that there were.
    pub fn add(&mut self, other: &Observation) {
        let (seen_here, seen_there) = (self.outcomes.count > 0, other.outcomes.count > 0);
        for (name, values) in &mut self.arguments {
            values.overflow |= seen_there && !other.arguments.contains_key(name);
        }
        for (name, values) in &other.arguments {
            let known = self.arguments.contains_key(name);
            let sum = self.arguments.entry(name.clone()).or_default();
            sum.add(values);
            sum.overflow |= seen_here && !known;
        }
        self.outcomes.add(&other.outcomes);
        self.times = match (self.times, other.times) {
            (Some(one), Some(other)) => Some(one.with(other)),
            (one, other) => one.or(other),
        };
    }
}

impl From<&Outcomes> for Observation {
    /// An observation of results alone.
    fn from(outcomes: &Outcomes) -> Observation {
        Observation { outcomes: outcomes.clone(), ..Observation::default() }
    }
}

/// How often a call was made, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
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

/// When a call was first and last made, in microseconds since the recording began.
///
/// Relative, so that a recording does not say when it was made: of several runs it is the earliest
/// and the latest in any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Times {
    /// The first.
    pub first_us: u64,
    /// The last. An engine may know it only to a few milliseconds.
    pub last_us: u64,
}

impl Times {
    fn with(self, other: Times) -> Times {
        Times {
            first_us: self.first_us.min(other.first_us),
            last_us: self.last_us.max(other.last_us),
        }
    }
}

/// The values that were seen of an argument: all of them, unless marked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "ValuesFile")]
#[serde(rename_all = "camelCase")]
pub struct Values {
    values: BTreeSet<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    overflow: bool,
}

/// The values as a file has them, of which there may be too many.
#[derive(Deserialize)]
struct ValuesFile {
    values: BTreeSet<u64>,
    #[serde(default)]
    overflow: bool,
}

impl From<ValuesFile> for Values {
    fn from(file: ValuesFile) -> Values {
        let mut values = Values { values: file.values, overflow: file.overflow };
        values.bound();
        values
    }
}

impl Values {
    /// The values, at most [`MAX_VALUES`]; each has only the bits that the kernel looks at.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.values.iter().copied()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Whether there were others: more than are kept, or in calls whose arguments were not looked
    /// at. Nothing may be concluded from the absence of a value then.
    pub fn overflowed(&self) -> bool {
        self.overflow
    }

    /// Adds a value.
    pub fn insert(&mut self, value: u64) {
        self.values.insert(value);
        self.bound();
    }

    /// Says that there were others.
    pub fn overflow(&mut self) {
        self.overflow = true;
    }

    fn add(&mut self, other: &Values) {
        self.values.extend(&other.values);
        self.overflow |= other.overflow;
        self.bound();
    }

    /// Keeps the least of too many. Which ones were kept of sums does not depend on their order.
    fn bound(&mut self) {
        while self.values.len() > MAX_VALUES {
            self.values.pop_last();
            self.overflow = true;
        }
    }
}

impl FromIterator<u64> for Values {
    fn from_iter<I: IntoIterator<Item = u64>>(values: I) -> Values {
        let mut all = Values::default();
        values.into_iter().for_each(|value| all.insert(value));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use strait_abi::Syscall;

    #[test]
    fn too_many_values_are_marked_and_no_order_keeps_others() {
        let up: Values = (0..100).collect();
        let down: Values = (0..100).rev().collect();
        assert_eq!(up, down);
        assert_eq!((up.len(), up.overflowed()), (MAX_VALUES, true));
        assert!(!(0..64).collect::<Values>().overflowed());
    }

    #[test]
    fn only_the_bits_count_that_the_kernel_looks_at() {
        let (_, cmd) = Syscall::from_name("ioctl").unwrap().arg(Arch::X86_64, "cmd").unwrap();
        let mut seen = Observation::default();
        seen.see(Arch::X86_64, cmd, 0x5401 | 1 << 32).see(Arch::X86_64, cmd, 0x5401);
        assert_eq!(seen.arguments["cmd"].iter().collect::<Vec<_>>(), [0x5401]);
    }

    #[test]
    fn an_argument_that_was_not_always_looked_at_is_marked() {
        let once = Outcomes { count: 1, succeeded: 1, ..Outcomes::default() };
        let blind = Observation::from(&once);
        let arguments = BTreeMap::from([("cmd".to_owned(), Values::from_iter([7]))]);
        let seeing = Observation { arguments, ..blind.clone() };
        for (mut one, other) in [(blind.clone(), &seeing), (seeing.clone(), &blind)] {
            one.add(other);
            assert!(one.arguments["cmd"].overflowed());
        }
        let mut twice = seeing.clone();
        twice.add(&seeing);
        twice.add(&Observation::default());
        assert!(!twice.arguments["cmd"].overflowed());
    }
}
