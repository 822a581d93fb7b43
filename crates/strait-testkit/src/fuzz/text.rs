//! Targets for whatever reads text that people and tools write: policies, profiles of other tools,
//! traces. Any bytes are read or refused, without a panic, and what was read means something.

use strait_abi::{Arch, KernelVersion};
use strait_policy::check::check_document;
use strait_policy::format::{Format, FormatError, Target};
use strait_policy::log::{Log, strace};
use strait_policy::{Policy, Query, Recording, When, replay};

/// Bytes that should be a policy: it prints to what reads back, and has a meaning.
///
/// # Panics
/// If something is wrong.
pub fn policy(input: &[u8]) {
    document(Format::Strait, input);
}

/// Bytes that should be a profile in a format: what is read prints to what reads back, and every
/// finding stands inside of the text.
///
/// # Panics
/// If something is wrong.
pub fn document(format: Format, input: &[u8]) {
    let target = target(input);
    let read = format.import(input, &target);
    if let Ok(imported) = &read {
        let printed = imported.policy.to_string();
        let again = Policy::parse(&printed).unwrap_or_else(|error| panic!("{error}\n{printed}"));
        assert_eq!(again, imported.policy, "{printed}");
        assert!(again.lower().is_ok(), "{printed}");
    }
    if let Ok(report) = check_document(input, format, &read, target.arch, None) {
        assert_eq!(report.readable, read.is_ok());
        for located in report.findings {
            let Some(place) = located.place else { continue };
            assert!(place.start <= place.end && place.end <= input.len(), "{located:?}");
            assert!(place.line >= 1 && place.column >= 1, "{located:?}");
        }
    }
}

/// A machine on which files that a profile includes have the profile's own text, or a short one.
fn target(input: &[u8]) -> Target {
    let mut target = Target::new(Arch::X86_64, KernelVersion::new(6, 18));
    let text = String::from_utf8_lossy(input).into_owned();
    for (name, text) in [("x", "#define Y 1\n"), ("./x", "read: 1\n"), ("./y", &text), ("y", &text)]
    {
        target.files.insert(name.to_owned(), text.to_owned());
    }
    target
}

/// Two bytes that choose formats, and a profile in the first of them: what is read is written in the
/// second, or that has no place for it; what is written is read, and what then differs was listed.
///
/// # Panics
/// If something is wrong.
pub fn convert(input: &[u8]) {
    let [from, to, input @ ..] = input else { return };
    let chosen = |byte: &u8| Format::ALL[usize::from(*byte) % Format::ALL.len()];
    let (from, to, mut target) = (chosen(from), chosen(to), target(input));
    let Ok(imported) = from.import(input, &target) else { return };
    let policy = imported.policy;
    // A profile of one ABI is for a machine that has it.
    if !policy.architectures.contains(target.arch) {
        target.arch = policy.architectures.iter().next().unwrap_or(target.arch);
    }
    let exported = match to.export(&policy, &target) {
        Ok(exported) => exported,
        Err(FormatError::Inexpressible { .. } | FormatError::Undecided(_)) => return,
        Err(error) => panic!("{to}: {error}\n{policy}"),
    };
    let again = to.import(exported.text.as_bytes(), &target);
    let again = again.unwrap_or_else(|error| panic!("{to}: {error}\n{}", exported.text)).policy;
    let decision = |policy: &Policy| policy.lower().ok()?.decision().ok();
    let (Some(intended), Some(installed)) = (decision(&policy), decision(&again)) else { return };
    for loss in &exported.losses {
        assert_eq!(intended.decide(&loss.witness), loss.first, "{policy}\n{}", exported.text);
        assert_eq!(installed.decide(&loss.witness), loss.second, "{policy}\n{}", exported.text);
    }
    let is_listed = !exported.losses.is_empty() || !exported.notes.is_empty();
    assert!(is_listed || intended == installed, "{to}\n{policy}\n{}", exported.text);
}

/// Bytes that should be a condition, or a call as a person writes it: each prints to what reads back.
///
/// # Panics
/// If something is wrong.
pub fn when(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(when) = When::parse(text) {
        let printed = when.to_string();
        assert_eq!(When::parse(&printed), Ok(when), "{printed}");
    }
    for arch in [Arch::X86_64, Arch::I386] {
        if let Ok(query) = Query::parse(text, arch) {
            let printed = query.to_string();
            assert_eq!(Query::parse(&printed, arch).as_ref(), Ok(&query), "{printed}");
        }
    }
}

/// Bytes that should be a log of strace, perf trace or the audit, or a recording.
///
/// # Panics
/// If something is wrong.
pub fn recording(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    for log in Log::ALL {
        let recorded = log.import(text, Arch::X86_64, "6.18.1");
        assert_eq!(Recording::from_json(&recorded.to_json()).ok().as_ref(), Some(&recorded));
    }
    let rules = Policy::new(Arch::X86_64.into(), strait_bpf::Action::Errno(1)).lower();
    let (attempts, _) = strace::attempts(text, Arch::X86_64);
    let count = attempts.len();
    if let Ok(rules) = rules {
        assert!(replay(&rules, attempts).len() <= count);
        if let Ok(recording) = Recording::from_json(text) {
            let denied = replay(&rules, recording.attempts());
            assert!(denied.iter().all(|denial| !denial.call().is_empty()));
        }
    }
}
