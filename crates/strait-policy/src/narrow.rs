//! Narrowing: from the values that were seen of an argument to the condition under which a call is
//! allowed.
//!
//! A policy has to survive the next run, the next machine and the next release of a library. So by
//! default only those arguments are narrowed of which the values say what a program is for and not
//! how a run went, and values that may take the place of those that were seen are let pass with
//! them: both are in the table below. It only ever adds: what two sets of recordings allow, both
//! together allow.

use strait_abi::{Arch, Arg, ConstantSet, Syscall};

use crate::recording::Observation;
use crate::when::When;

/// Which arguments a generated policy narrows to the values that were seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Narrowing {
    /// None.
    Off,
    /// Those whose values do not differ from run to run, with what may take their place.
    #[default]
    Safe,
    /// All arguments of interest, each to exactly what was seen where that is little. Another run
    /// may need more.
    All,
}

/// How many values an argument may have for it to be narrowed: more say that there are others.
const FEW: usize = 16;

/// An argument that is narrowed with care.
struct Careful {
    calls: &'static [&'static str],
    argument: &'static str,
    /// Only these bits are looked at; all of them if there are none here.
    bits: &'static [&'static str],
    /// Values that pass in any case.
    always: &'static [&'static str],
    /// If one of these was seen, all of them pass.
    together: &'static [&'static str],
    /// Why, where values pass that were not seen.
    reason: &'static str,
}

/// The table: sorted by how much it keeps out.
const CAREFUL: &[Careful] = &[
    Careful {
        calls: &["socket", "socketpair"],
        argument: "domain",
        bits: &[],
        always: &["AF_UNIX"],
        together: &["AF_INET", "AF_INET6", "AF_NETLINK"],
        reason: "libraries reach local services by AF_UNIX, and the machine's addresses decide \
                 between AF_INET and AF_INET6, for which libc asks by AF_NETLINK",
    },
    Careful {
        calls: &["ioctl"],
        argument: "cmd",
        bits: &[],
        always: &[
            "TCGETS",
            "TCGETS2",
            "TIOCGWINSZ",
            "TIOCGPGRP",
            "FIONREAD",
            "FIONBIO",
            "FIOCLEX",
            "FIONCLEX",
        ],
        together: &[],
        reason: "whether a descriptor is a terminal, how large it is and how much can be read is \
                 asked of whatever the descriptor is",
    },
    Careful {
        calls: &["prctl"],
        argument: "option",
        bits: &[],
        always: &["PR_SET_NAME", "PR_GET_NAME", "PR_SET_VMA"],
        together: &[],
        reason: "libraries name their threads and memory",
    },
    Careful {
        calls: &["clone"],
        argument: "flags",
        bits: NAMESPACES,
        always: &["0"],
        together: &[],
        reason: "threads and processes without namespaces of their own may be started in any way",
    },
    Careful {
        calls: &["unshare"],
        argument: "flags",
        bits: NAMESPACES,
        always: &[],
        together: &[],
        reason: "",
    },
    Careful {
        calls: &["personality"],
        argument: "persona",
        bits: &[],
        always: &["0xffffffff"],
        together: &[],
        reason: "0xffffffff only asks",
    },
];

/// What is new to a process that unshares or is cloned: capabilities(7) in a user namespace open
/// the rest.
const NAMESPACES: &[&str] = &[
    "CLONE_NEWTIME",
    "CLONE_NEWNS",
    "CLONE_NEWCGROUP",
    "CLONE_NEWUTS",
    "CLONE_NEWIPC",
    "CLONE_NEWUSER",
    "CLONE_NEWPID",
    "CLONE_NEWNET",
];

/// The condition of a call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Narrowed {
    /// As a person writes it.
    pub(crate) when: String,
    /// The arguments in it.
    pub(crate) arguments: Vec<&'static str>,
    /// For the ledger: what was done, and why.
    pub(crate) reason: String,
}

/// The condition on one argument.
struct One {
    argument: &'static str,
    when: String,
    reason: String,
}

impl Narrowed {
    /// The condition.
    pub(crate) fn condition(&self) -> Option<When> {
        When::parse(&self.when).ok()
    }
}

/// The condition under which `call` is allowed on `arch`, of which all that was seen is `observation`.
/// None where nothing is narrowed: because it shall not be, or because not all values are known.
pub(crate) fn narrowed(
    narrowing: Narrowing,
    call: Syscall,
    arch: Arch,
    observation: &Observation,
) -> Option<Narrowed> {
    let careful = CAREFUL.iter().find(|careful| careful.calls.contains(&call.name()));
    let conditions: Vec<One> = match (narrowing, careful) {
        (Narrowing::Off, _) | (Narrowing::Safe, None) => Vec::new(),
        // clone is among those that libraries swap, which an exact condition would not survive.
        (Narrowing::All, Some(careful)) if !careful.bits.is_empty() => {
            careful.condition(call, arch, observation).into_iter().collect()
        }
        (Narrowing::Safe, Some(careful)) => {
            careful.condition(call, arch, observation).into_iter().collect()
        }
        (Narrowing::All, _) => call
            .args_of_interest(arch)
            .filter_map(|(_, arg)| exactly(arg, arch, observation))
            .collect(),
    };
    if conditions.is_empty() {
        return None;
    }
    let narrowed = Narrowed {
        when: conditions.iter().map(|one| one.when.as_str()).collect::<Vec<_>>().join(" and "),
        arguments: conditions.iter().map(|one| one.argument).collect(),
        reason: conditions.iter().map(|one| one.reason.as_str()).collect::<Vec<_>>().join("; "),
    };
    // A value that the language cannot say is not narrowed to.
    narrowed.condition()?.condition(call, arch).ok()?;
    Some(narrowed)
}

/// Whether a call is narrowed to bits that pass whatever was seen, so that it can be allowed without
/// having been seen.
pub(crate) fn narrowed_unseen(narrowing: Narrowing, call: Syscall, arch: Arch) -> Option<Narrowed> {
    let careful = CAREFUL.iter().find(|careful| careful.calls.contains(&call.name()))?;
    let bits = !careful.bits.is_empty() && narrowing != Narrowing::Off;
    if bits { narrowed(Narrowing::Safe, call, arch, &Observation::default()) } else { None }
}

impl Careful {
    /// The condition and what is to be said of it.
    fn condition(&self, call: Syscall, arch: Arch, observation: &Observation) -> Option<One> {
        let (_, arg) = call.arg(arch, self.argument)?;
        let set = arg.constants()?;
        let known = |name: &&&str| number(set, arch, name).is_some();
        let bits: Vec<&str> = self.bits.iter().filter(known).copied().collect();
        let mask = match bits.as_slice() {
            [] => arg.width(arch).mask(),
            bits => {
                bits.iter().filter_map(|name| number(set, arch, name)).fold(0, |all, bit| all | bit)
            }
        };
        let mut values: Vec<u64> =
            seen(arg, observation)?.iter().map(|value| value & mask).collect();
        let mut pass = |names: &[&str]| {
            values.extend(names.iter().filter_map(|name| number(set, arch, name)));
        };
        pass(self.always);
        let together: Vec<u64> =
            self.together.iter().filter_map(|name| number(set, arch, name)).collect();
        if values.iter().any(|value| together.contains(value)) {
            values.extend(together);
        }
        values.sort_unstable();
        values.dedup();
        let operand = match bits.as_slice() {
            [] => self.argument.to_owned(),
            bits => format!("{} & ({})", self.argument, bits.join(" | ")),
        };
        let mut said = format!("{} is narrowed to what was seen", self.argument);
        if !self.reason.is_empty() {
            said = format!("{said} and what may take its place: {}", self.reason);
        }
        let when = one_of(&operand, arg, arch, &values)?;
        Some(One { argument: arg.name(), when, reason: said })
    }
}

/// The condition that an argument has one of the values that were seen, if those are few.
fn exactly(arg: &'static Arg, arch: Arch, observation: &Observation) -> Option<One> {
    let values = seen(arg, observation).filter(|values| !values.is_empty())?;
    let said = format!("{} is narrowed to exactly what was seen", arg.name());
    let when = one_of(arg.name(), arg, arch, &values)?;
    Some(One { argument: arg.name(), when, reason: said })
}

/// The values that were seen of an argument, if those are all and few.
fn seen(arg: &Arg, observation: &Observation) -> Option<Vec<u64>> {
    if observation.outcomes.count == 0 {
        return (observation.outcomes.denied == 0).then(Vec::new);
    }
    let values = observation.arguments.get(arg.name())?;
    (!values.overflowed() && values.len() <= FEW).then(|| values.iter().collect())
}

fn one_of(operand: &str, arg: &Arg, arch: Arch, values: &[u64]) -> Option<String> {
    let text = |&value: &u64| text(arg, arch, value);
    match values {
        [] => None,
        [value] => Some(format!("{operand} == {}", text(value))),
        values => {
            let values: Vec<String> = values.iter().map(text).collect();
            Some(format!("{operand} in {{{}}}", values.join(", ")))
        }
    }
}

/// A value as a person writes it.
pub(crate) fn text(arg: &Arg, arch: Arch, value: u64) -> String {
    match arg.constants() {
        Some(_) if value == 0 && arg.name() == "flags" => "0".to_owned(),
        Some(set) => set.text(arch, value, arg.width(arch)),
        None => value.to_string(),
    }
}

/// The value of a constant, or of a number that stands for itself.
fn number(set: &ConstantSet, arch: Arch, name: &str) -> Option<u64> {
    match name.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => name.parse().ok().or_else(|| set.value(arch, name)),
    }
}
