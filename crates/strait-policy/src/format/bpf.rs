//! Programs, as policies.
//!
//! What a program decides is worked out for all inputs, so it does not matter who wrote or compiled
//! it. A decision on the instruction pointer, or on single bits of numbers that nobody has named
//! so far, has no words in a policy and is refused.

use std::collections::{BTreeMap, BTreeSet};

use strait_abi::{Arch, AuditArch};
use strait_bpf::{
    Action, Answer, ByteOrder, CallSpan, Constraint, Decision, FileError, Program, Values,
};

use super::{Codec, FormatError, Imported};
use crate::policy::{Architectures, Unknown};
use crate::raise::raise;
use crate::rules::{Arm, Chain, Condition, Op, Rules, Table, Test, Width};

pub(super) const CODEC: Codec = Codec {
    name: "bpf",
    recognises: |sample| Spelling::of(sample.text).is_some(),
    import: |bytes, target| {
        let order = match target.arch.is_little_endian() {
            true => ByteOrder::Little,
            false => ByteOrder::Big,
        };
        import(&read(bytes, order)?)
    },
    export: |_, _| {
        Err(FormatError::Inexpressible {
            what: "a policy".to_owned(),
            right: "a program is made of it by `strait compile`".to_owned(),
        })
    },
};

/// Reads a program in any spelling: the array of `struct sock_filter`, its bytes in hexadecimal, or
/// its instructions as C, Rust or JSON, which have no byte order; theirs is `order`.
///
/// # Errors
/// If the bytes are none.
pub fn read(bytes: &[u8], order: ByteOrder) -> Result<Program, FileError> {
    let text = std::str::from_utf8(bytes).ok();
    match text.and_then(|text| Some((text, Spelling::of(text)?))) {
        None => Program::from_bytes(bytes),
        Some((text, Spelling::Hex)) => Program::from_hex(text),
        // An object of JSON has the four numbers in order, with names as Rust has them.
        Some((text, Spelling::Array)) => Program::from_array(text, order),
        Some((text, Spelling::Json)) => Program::from_array(&text.replace('"', ""), order),
    }
}

/// How a program is spelled as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spelling {
    Hex,
    Array,
    Json,
}

impl Spelling {
    fn of(text: &str) -> Option<Spelling> {
        let start = text.trim_start();
        let digits = start.bytes().filter(|byte| !byte.is_ascii_whitespace());
        let is_hex = |byte: u8| byte.is_ascii_hexdigit();
        if !start.is_empty() && digits.clone().all(is_hex) && digits.count().is_multiple_of(16) {
            return Some(Spelling::Hex);
        }
        let first = start.strip_prefix('[').map(str::trim_start);
        if first
            .and_then(|first| first.strip_prefix('{'))
            .is_some_and(|first| first.trim_start().starts_with("\"code\""))
        {
            return Some(Spelling::Json);
        }
        // An initialiser alone, or a declaration around it.
        let is_array = text.contains("sock_filter")
            || start.starts_with('{') && start[1..].trim_start().starts_with(['0', '{']);
        is_array.then_some(Spelling::Array)
    }
}

/// How many regions the arguments of one call may be told apart in.
const MAX_REGIONS: usize = 4096;
/// How many neighbouring values are rather listed than called an interval.
const FEW: u64 = 8;
/// How many spans the numbers of one arch may be told apart in.
const MAX_SPANS: usize = 8192;

/// What a program decides, as a policy.
///
/// # Errors
/// If a policy cannot say it.
pub fn import(program: &Program) -> Result<Imported, FormatError> {
    import_decision(&Decision::of(program)?)
}

/// A decision, such as that of a whole stack of filters, as a policy.
///
/// # Errors
/// If a policy cannot say it.
pub fn import_decision(decision: &Decision) -> Result<Imported, FormatError> {
    let foreign = foreign(decision)?;
    let mut rules = Rules::new(foreign);
    let mut arches = BTreeSet::new();
    for &arch in Arch::ALL {
        let spans: Vec<CallSpan<'_>> =
            decision.calls(arch.audit_arch()).take(MAX_SPANS + 1).collect();
        if spans.len() > MAX_SPANS {
            return Err(inexpressible(format!("{arch}: a decision on single bits of numbers")));
        }
        let (first, last) = match arch {
            Arch::X86_64 => (0, Arch::X32_BIT - 1),
            Arch::X32 => (Arch::X32_BIT, 2 * Arch::X32_BIT - 1),
            _ => (0, u32::MAX),
        };
        let own: Vec<&CallSpan<'_>> =
            spans.iter().filter(|span| span.first <= last && span.last >= first).collect();
        let is_foreign = own.iter().all(|span| span.answer.always() == Some(foreign));
        // All x32 numbers alike, and none of them passing, is a guard and no ABI.
        let is_guard = arch == Arch::X32
            && own.len() == 1
            && own[0].answer.always().is_some_and(|action| !action.lets_pass());
        if is_foreign || is_guard {
            continue;
        }
        arches.insert(arch);
        if rules.table(arch.audit_arch()).is_none() {
            rules = rules.with_table(arch.audit_arch(), table(&spans, arch)?);
        }
    }
    let architectures = Architectures::new(arches).unwrap_or_else(|| Arch::X86_64.into());
    let (default, unknown) = default(&rules, &architectures, foreign);
    let policy = raise(&rules, architectures, default, unknown)?;
    // What was raised is what was decided: the words of a policy are checked against the program.
    let meaning = policy.lower()?.decision()?;
    if meaning != *decision {
        let arches = decision.compare(&meaning)?.differences;
        let example = arches.first().map(|one| format!("{:?}", one.witness)).unwrap_or_default();
        return Err(inexpressible(format!("what is decided on {example}")));
    }
    Ok(Imported { policy, notes: Vec::new() })
}

fn inexpressible(what: String) -> FormatError {
    let right = "compare the program itself with `strait diff` or `strait disasm`".to_owned();
    FormatError::Inexpressible { what, right }
}

/// What every call of every arch gets that has no name here.
fn foreign(decision: &Decision) -> Result<Action, FormatError> {
    let known: BTreeSet<AuditArch> = Arch::ALL.iter().map(|arch| arch.audit_arch()).collect();
    let mut foreign = BTreeSet::new();
    for span in decision.arches().take(MAX_SPANS) {
        if span.first == span.last && known.contains(&span.first) {
            continue;
        }
        let mut calls = span.calls();
        match (calls.next().map(|calls| calls.answer.always()), calls.next()) {
            (Some(Some(action)), None) => drop(foreign.insert(action)),
            _ => {
                let what = format!("audit arch {:#x}: a decision on it", span.first.raw());
                return Err(inexpressible(what));
            }
        }
    }
    match foreign.len() {
        1 => Ok(foreign.into_iter().next().unwrap_or(Action::KillProcess)),
        _ => Err(inexpressible("a decision on audit arches that have no name here".to_owned())),
    }
}

/// What most calls get that do not pass, and what the next new call would get.
fn default(
    rules: &Rules,
    architectures: &Architectures,
    foreign: Action,
) -> (Action, Option<Unknown>) {
    let mut counts: BTreeMap<Action, usize> = BTreeMap::new();
    let mut next = None;
    for arch in architectures.iter() {
        let Some(table) = rules.table(arch.audit_arch()) else { continue };
        let beyond = arch.last_number(Arch::tables_as_of()) + 1;
        next.get_or_insert(table.chain(beyond).otherwise);
        for nr in strait_abi::Syscall::all().filter_map(|call| call.number(arch)) {
            *counts.entry(table.chain(nr).otherwise).or_default() += 1;
        }
    }
    let denies = counts.iter().filter(|(action, _)| !action.lets_pass());
    let most = denies.max_by_key(|(_, count)| **count).map(|(action, _)| *action);
    let default = most.or(next).unwrap_or(foreign);
    let action = next.filter(|next| *next != default);
    (default, action.map(|action| Unknown { after: Arch::tables_as_of(), action }))
}

fn table(spans: &[CallSpan<'_>], arch: Arch) -> Result<Table, FormatError> {
    let mut table = Table::new(Action::KillProcess);
    for span in spans {
        let chain = answer_chain(&span.answer)
            .map_err(|what| inexpressible(format!("{arch}, number {}: {what}", span.first)))?;
        table.set(span.first, span.last, chain);
    }
    Ok(table)
}

/// An answer as conditions on arguments, or what of it cannot be one.
fn answer_chain(answer: &Answer<'_>) -> Result<Chain, &'static str> {
    let arguments = match answer {
        Answer::Always(action) => return Ok(Chain::from(*action)),
        Answer::Depends(arguments) => arguments,
    };
    let regions = arguments.regions(MAX_REGIONS).ok_or("its arguments")?;
    let mut counts: BTreeMap<Action, usize> = BTreeMap::new();
    for region in &regions {
        *counts.entry(region.action).or_default() += 1;
    }
    // Of two, the one that takes fewer words is spelled out, and rather what passes.
    let otherwise = counts
        .iter()
        .max_by_key(|(action, count)| (!action.lets_pass(), **count))
        .map_or(Action::KillProcess, |(action, _)| *action);
    let mut arms = Vec::new();
    for region in regions.iter().filter(|region| region.action != otherwise) {
        let all = region.when.iter().map(condition).collect::<Option<Vec<_>>>();
        arms.push(Arm {
            when: Condition::All(all.ok_or("where it is called")?),
            action: region.action,
        });
    }
    Ok(Chain { arms, otherwise })
}

/// A decision on arguments alone as a chain: the given one if it says the same, or else in the words
/// of what is decided. None if that takes too many.
pub(crate) fn chain_of(decision: &Decision, written: Chain) -> Option<Chain> {
    let arch = Arch::X86_64.audit_arch();
    let alone = Rules::new(written.otherwise).with_table(arch, Table::new(written.clone()));
    let alone = alone.decision().ok()?.only(arch, written.otherwise).ok()?;
    if alone == decision.only(arch, written.otherwise).ok()? {
        return Some(written);
    }
    let span = decision.calls(arch).next()?;
    answer_chain(&span.answer).ok()
}

/// A constraint as a condition; none if it is on the instruction pointer.
fn condition(constraint: &Constraint) -> Option<Condition> {
    let arg = constraint.arg?;
    let width = if constraint.bits == 32 { Width::W32 } else { Width::W64 };
    let test = |mask, op, value| Test::new(arg, width, mask, op, value).ok().map(Condition::Test);
    let all = width.mask();
    let any: Option<Vec<Condition>> = match &constraint.values {
        Values::Masks(masks) => {
            masks.iter().map(|&(mask, value)| test(mask, Op::Eq, value)).collect()
        }
        Values::Intervals(intervals) => intervals
            .iter()
            .flat_map(|&(first, last)| {
                // A few neighbours are a set of constants sooner than an interval.
                let few = first != 0 && last != all && last - first < FEW;
                if few {
                    (first..=last).map(|one| (one, one)).collect()
                } else {
                    vec![(first, last)]
                }
            })
            .map(|(first, last)| match (first, last) {
                (first, last) if first == last => test(all, Op::Eq, first),
                (0, last) => test(all, Op::Le, last),
                (first, last) if last == all => test(all, Op::Ge, first),
                (first, last) => {
                    Some(Condition::All(vec![test(all, Op::Ge, first)?, test(all, Op::Le, last)?]))
                }
            })
            .collect(),
    };
    let any = Condition::Any(any?);
    Some(if constraint.within { any } else { Condition::Not(Box::new(any)) })
}

#[cfg(test)]
mod tests {
    use super::super::{Format, Target};
    use super::*;
    use crate::Policy;

    #[test]
    fn a_policy_comes_back_from_its_decision() {
        let text = "
apiVersion: strait.dev/v1alpha1
kind: SyscallPolicy
spec:
  architectures: [x86_64, i386]
  default: errno(EPERM)
  unknown: {after: \"7.2\", action: errno(ENOSYS)}
  rules:
    - {syscalls: [exit_group, read, write], action: allow}
    - {syscalls: [mount], arch: [i386], action: kill-thread}
    - {syscalls: [socket], when: \"domain in {AF_UNIX, AF_INET, AF_INET6}\", action: allow}
    - {syscalls: [socket], when: domain == AF_NETLINK, action: log}
    - {syscalls: [mmap], arch: [x86_64], when: prot & PROT_EXEC == 0, action: allow}
    - {numbers: [\"336-340\"], arch: [x86_64], action: trap(3)}
";
        let decision = Policy::parse(text).unwrap().lower().unwrap().decision().unwrap();
        let policy = import_decision(&decision).unwrap().policy;
        assert_eq!(policy.lower().unwrap().decision().unwrap(), decision);
        let text = policy.to_string();
        assert!(text.contains("domain in {AF_UNIX, AF_INET, AF_INET6}"), "{text}");
        assert!(text.contains("prot & PROT_EXEC == 0"), "{text}");
        assert_eq!(Policy::parse(&text).unwrap(), policy);
    }

    #[test]
    fn filters_of_the_field_are_policies() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/filters");
        let mut count = 0;
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "hex") {
                let hex = std::fs::read_to_string(&path).unwrap();
                let program = Program::from_hex(&hex).unwrap();
                import(&program).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                count += 1;
            }
        }
        assert!(count > 5);
    }

    #[test]
    fn a_program_is_read_in_every_spelling() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/filters");
        let hex = std::fs::read_to_string(format!("{directory}/nginx.tree.hex")).unwrap();
        let program = Program::from_hex(&hex).unwrap();
        let json: Vec<String> = program
            .insns()
            .iter()
            .map(|i| {
                format!(
                    "{{\"code\": {}, \"jt\": {}, \"jf\": {}, \"k\": {}}}",
                    i.code, i.jt, i.jf, i.k
                )
            })
            .collect();
        let (c, rust) = (program.to_c("f"), program.to_rust("F"));
        let initialiser = c.split_once('=').unwrap().1.trim_start().trim_end_matches(";\n");
        for text in [&hex, &c, &rust, &format!("[{}]\n", json.join(",\n ")), initialiser] {
            assert_eq!(read(text.as_bytes(), ByteOrder::Little).unwrap(), program, "{text}");
            assert_eq!(Format::detect(text.as_bytes()), Format::Bpf, "{text}");
        }
        assert_eq!(read(&program.to_bytes(), ByteOrder::Little).unwrap(), program);
        let target = Target::new(Arch::X86_64, strait_abi::KernelVersion::new(6, 18));
        let policy = Format::Bpf.import(rust.as_bytes(), &target).unwrap().policy;
        let decision = Decision::of(&program).unwrap();
        assert_eq!(policy.lower().unwrap().decision().unwrap(), decision);
        for wrong in ["{ { BPF_LD, 0, 0, 4 } }", "00000000000000", "[{\"code\": 6}]", "sock_filter"]
        {
            assert!(read(wrong.as_bytes(), ByteOrder::Little).is_err(), "{wrong}");
        }
    }

    #[test]
    fn constant_decisions_are_policies() {
        for action in [Action::Allow, Action::Errno(5), Action::KillProcess] {
            let decision = Decision::constant(action);
            let policy = import_decision(&decision).unwrap().policy;
            assert_eq!(policy.lower().unwrap().decision().unwrap(), decision, "{policy}");
        }
    }
}
