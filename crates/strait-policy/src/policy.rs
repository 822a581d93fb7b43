//! The policy as a value: the document that a person reads, `kind: SyscallPolicy`.
//!
//! Every part is valid by itself; what the parts mean together is what [`Policy::lower`] says.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use strait_abi::{Arch, KernelVersion, Syscall};
use strait_bpf::Action;

use crate::network::Network;
use crate::when::When;

/// `apiVersion` of the policies that this version writes and reads.
pub const API_VERSION: &str = "strait.dev/v1alpha1";
/// `kind` of a policy.
pub const KIND: &str = "SyscallPolicy";

/// What a workload may call, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What the document is called.
    pub metadata: Metadata,
    /// Whom the workload acts as.
    pub identity: Option<Identity>,
    /// The ABIs that the rules are for; a call of any other ends the process.
    pub architectures: Architectures,
    /// What a call gets that belongs to none of them.
    pub foreign: Action,
    /// What a call gets that no rule names.
    pub default: Action,
    /// What calls get that are newer than the policy.
    pub unknown: Option<Unknown>,
    /// What may be executed, if not everything.
    pub exec: Option<Exec>,
    /// What the workload is kept away from.
    pub isolation: Isolation,
    /// Where it may get to by sockets, if not everywhere.
    pub network: Option<Network>,
    /// Named sets that are allowed, after the rules.
    pub include: Vec<String>,
    /// The rules; of those that name a call, the first whose condition holds decides.
    pub rules: Vec<Rule>,
    /// Phases that only ever tighten, in the order in which they come.
    pub steps: Vec<Step>,
    /// The recordings that the ledger refers to.
    pub recordings: Vec<RecordingSource>,
    /// The ledger: why each call is in the policy.
    pub necessity: BTreeMap<Syscall, Vec<Necessity>>,
}

impl Policy {
    /// What a call gets that belongs to no ABI of a policy, unless the policy says otherwise.
    pub const FOREIGN: Action = Action::KillProcess;

    /// A policy for `architectures` that gives every call `default`.
    pub fn new(architectures: Architectures, default: Action) -> Policy {
        Policy {
            metadata: Metadata::default(),
            identity: None,
            architectures,
            foreign: Policy::FOREIGN,
            default,
            unknown: None,
            exec: None,
            isolation: Isolation::default(),
            network: None,
            include: Vec::new(),
            rules: Vec::new(),
            steps: Vec::new(),
            recordings: Vec::new(),
            necessity: BTreeMap::new(),
        }
    }
}

/// What a document is called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The policy's name.
    pub name: Option<String>,
    /// Labels, as Kubernetes has them.
    pub labels: BTreeMap<String, String>,
    /// Annotations, as Kubernetes has them.
    pub annotations: BTreeMap<String, String>,
}

/// The non-human identity that a workload acts as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The name of the account, token or key.
    pub name: String,
    /// What it is, such as `kubernetes-service-account`.
    pub kind: Option<String>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// The secrets that it can read, by name; never their values.
    pub secrets: Vec<String>,
}

/// The ABIs that a policy is for: at least one, each once, in the order of [`Arch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Architectures(BTreeSet<Arch>);

impl Architectures {
    /// These ABIs, or `None` if there are none.
    pub fn new(arches: impl IntoIterator<Item = Arch>) -> Option<Architectures> {
        let arches: BTreeSet<Arch> = arches.into_iter().collect();
        (!arches.is_empty()).then_some(Architectures(arches))
    }

    /// Whether `arch` is among them.
    pub fn contains(&self, arch: Arch) -> bool {
        self.0.contains(&arch)
    }

    /// Each once.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Arch> + '_ {
        self.0.iter().copied()
    }
}

impl From<Arch> for Architectures {
    fn from(arch: Arch) -> Architectures {
        Architectures(BTreeSet::from([arch]))
    }
}

/// What a workload may execute. The launcher holds it by Landlock, and the filter closes what would go
/// around that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// Files, and folders with all that is in them: absolute paths, sorted, each once.
    pub allow: BTreeSet<String>,
    /// Files by what is in them, wherever they are; only where `strict` holds.
    pub digests: BTreeSet<FileDigest>,
    /// Whether shells in these folders may be executed; one that is named itself may.
    pub shells: bool,
    /// Whether interpreters in these folders may be executed; one that is named itself may.
    pub interpreters: bool,
    /// Whether every task is stopped at exec, and killed before the first instruction of a program
    /// whose file may not be executed.
    pub strict: bool,
}

/// The SHA-256 of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileDigest(pub [u8; 32]);

impl FileDigest {
    /// What a digest is written with in front.
    pub const PREFIX: &str = "sha256:";

    /// Reads `sha256:` and 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<FileDigest> {
        let digits = text.strip_prefix(FileDigest::PREFIX)?.as_bytes();
        let value = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        let (pairs, rest) = digits.as_chunks::<2>();
        let bytes: Option<Vec<u8>> =
            pairs.iter().map(|&[high, low]| Some(value(high)? << 4 | value(low)?)).collect();
        rest.is_empty().then_some(())?;
        Some(FileDigest(bytes?.try_into().ok()?))
    }
}

impl fmt::Display for FileDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FileDigest::PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What a workload is kept away from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Isolation {
    /// Processes outside: their memory, environment, namespaces, descriptors, terminals, and signals
    /// to them.
    pub other_processes: bool,
}

/// What calls get that are newer than a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// The newest kernel whose calls the policy has an opinion on.
    pub after: KernelVersion,
    /// What newer calls get, where no rule names them.
    pub action: Action,
}

/// What some calls get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The calls by name, each once.
    pub syscalls: BTreeSet<Syscall>,
    /// More of them by number, as `seccomp_data.nr` shows it; for what has no name, and only with
    /// `arch`, since a number means something else on each ABI.
    pub numbers: Numbers,
    /// The ABIs that the rule is for; all of the policy's if there are none here.
    pub arch: BTreeSet<Arch>,
    /// For which arguments; for all if there is none here.
    pub when: Option<When>,
    /// What they get.
    pub action: Action,
}

impl Rule {
    /// A rule for all arguments and all of the policy's ABIs.
    pub fn new(syscalls: impl IntoIterator<Item = Syscall>, action: Action) -> Rule {
        Rule {
            syscalls: syscalls.into_iter().collect(),
            numbers: Numbers::default(),
            arch: BTreeSet::new(),
            when: None,
            action,
        }
    }

    /// Whether it is for `arch`.
    pub fn is_for(&self, arch: Arch) -> bool {
        self.arch.is_empty() || self.arch.contains(&arch)
    }

    /// Whether it names `syscall` for `arch`.
    pub fn applies_to(&self, syscall: Syscall, arch: Arch) -> bool {
        self.is_for(arch) && self.syscalls.contains(&syscall)
    }
}

/// A phase of a workload, and what is taken away when it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its name; no other step of the policy has it.
    pub name: String,
    /// The calls of which the first that is let pass at the step before begins this one, where a
    /// supervisor sees it. Those that ask for it by name begin it too.
    pub ready: BTreeSet<Syscall>,
    /// Of those that name a call, the first whose condition holds says what the call gets at the
    /// most. What none decides stays as it was.
    pub rules: Vec<Rule>,
}

/// A set of numbers, as ranges that neither touch nor overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Numbers(BTreeMap<u32, u32>);

impl Numbers {
    /// Adds `first..=last`; nothing if `first > last`.
    pub fn insert(&mut self, first: u32, last: u32) {
        if first > last {
            return;
        }
        let (mut first, mut last) = (first, last);
        let touching: Vec<(u32, u32)> = self
            .ranges()
            .filter(|&(from, to)| from <= last.saturating_add(1) && to.saturating_add(1) >= first)
            .collect();
        for (from, to) in touching {
            self.0.remove(&from);
            (first, last) = (first.min(from), last.max(to));
        }
        self.0.insert(first, last);
    }

    /// The ranges in order: first and last number.
    pub fn ranges(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.0.iter().map(|(&first, &last)| (first, last))
    }

    /// Whether `nr` is among them.
    pub fn contains(&self, nr: u32) -> bool {
        self.0.range(..=nr).next_back().is_some_and(|(_, &last)| nr <= last)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A recording that a ledger refers to, and how much it saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordingSource {
    /// `sha256:…`, as [`crate::Recording::digest`] gives it.
    pub digest: String,
    /// Who observed.
    pub engine: String,
    /// The kernel's release.
    pub kernel: String,
    /// What was lost or could not be seen, a sentence each; nothing is a complete recording.
    pub gaps: Vec<String>,
}

/// Why a call is in a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Necessity {
    /// It was seen.
    Observed(Observed),
    /// Static analysis says that a program could call it.
    Reachable(Reachable),
    /// A container runtime calls it between loading the filter and the workload's exec.
    NeededBy {
        /// The runtime, such as `runc`.
        runtime: String,
    },
    /// A person, or a principle of the generator, says so.
    Declared(Declared),
}

/// A call that was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The digest of the recording.
    pub recording: String,
    /// The ABIs that it came in by; all of the policy's if there are none here.
    pub arch: BTreeSet<Arch>,
    /// How often.
    pub count: Option<u64>,
    /// The values of arguments that were seen, by argument.
    pub args: BTreeMap<String, Vec<String>>,
    /// The program files that made it.
    pub images: Vec<String>,
}

/// A call that a program could make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reachable {
    /// The function that makes it.
    pub function: String,
    /// The library or program that has the function.
    pub library: Option<String>,
}

/// A call that somebody says is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// Who says so.
    pub by: String,
    /// Why.
    pub reason: String,
    /// The last day on which the reason holds.
    pub expires: Option<Date>,
}

/// A day, `YYYY-MM-DD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date {
    year: u16,
    month: u8,
    day: u8,
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

/// A text that is no day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a day is YYYY-MM-DD, such as 2027-01-31")]
pub struct InvalidDate;

impl FromStr for Date {
    type Err = InvalidDate;

    fn from_str(text: &str) -> Result<Date, InvalidDate> {
        let digits = |part: &str, length: usize| {
            let well_formed = part.len() == length && part.bytes().all(|b| b.is_ascii_digit());
            if well_formed {
                part.parse::<u16>().map_err(|_| InvalidDate)
            } else {
                Err(InvalidDate)
            }
        };
        let parts: Vec<&str> = text.split('-').collect();
        let &[year, month, day] = parts.as_slice() else { return Err(InvalidDate) };
        let (year, month, day) = (digits(year, 4)?, digits(month, 2)?, digits(day, 2)?);
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days = match month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return Err(InvalidDate),
        };
        match (u8::try_from(month), u8::try_from(day)) {
            (Ok(month), Ok(day)) if (1..=days).contains(&day) => Ok(Date { year, month, day }),
            _ => Err(InvalidDate),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_numbers_join() {
        let mut numbers = Numbers::default();
        for (first, last) in [(5, 9), (20, 30), (10, 12), (40, 39), (u32::MAX, u32::MAX), (8, 25)] {
            numbers.insert(first, last);
        }
        let ranges: Vec<_> = numbers.ranges().collect();
        assert_eq!(ranges, [(5, 30), (u32::MAX, u32::MAX)]);
        assert!(numbers.contains(5) && numbers.contains(30) && !numbers.contains(31));
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        for day in ["2028-02-29", "2027-12-31", "0001-01-01"] {
            assert_eq!(day.parse::<Date>().unwrap().to_string(), day);
        }
        for text in ["2027-02-29", "2027-13-01", "2027-00-01", "2027-1-1", "27-01-01", "x", ""] {
            assert_eq!(text.parse::<Date>(), Err(InvalidDate));
        }
    }
}
