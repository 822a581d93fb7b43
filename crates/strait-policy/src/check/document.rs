//! Checking a document: what is wrong with its text, and with what it means, each with its place.
//!
//! A policy of Strait is read or refused as a whole. A foreign profile has mistakes that its own
//! tools pass over, and those can only be seen in its text.

use std::collections::{BTreeMap, BTreeSet};

use strait_abi::{Arch, Syscall};

use super::name::hint;
use super::place::{Places, field, items};
use super::{Code, Finding, Nature, Severity, Subject, check_as};
use crate::LowerError;
use crate::format::{Format, FormatError, Imported};
use crate::policy::{Date, Policy};
use crate::text::{self, MAX_HINTS, Node, Place, Problem, Span, Value, located};

/// A finding, and where in the document it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// What was found.
    pub finding: Finding,
    /// Where, if it is about one place and that is known.
    pub place: Option<Place>,
}

/// What there is to say of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The findings, in the order of the document; those without a place come first.
    pub findings: Vec<Located>,
    /// Whether the document could be read. If not, the findings say why, and nothing else.
    pub readable: bool,
}

impl Report {
    /// How much its worst finding matters.
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|located| located.finding.severity).max()
    }
}

/// What there is to say of a document that was read in a format, or could not be.
///
/// `arch` is the machine's own, for which numbers in place of names are looked up; `today` tells
/// which reasons have expired.
///
/// # Errors
/// If what was read has no meaning.
pub fn check_document(
    bytes: &[u8],
    format: Format,
    read: &Result<Imported, FormatError>,
    arch: Arch,
    today: Option<Date>,
) -> Result<Report, LowerError> {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let tree = match format {
        Format::Strait | Format::Spo => text::read_yaml(text).ok(),
        Format::Oci | Format::Seccompiler => text::read_json(text).ok(),
        _ => None,
    };
    let mut document = Document { text, arch, hints: 0, placed: Vec::new(), found: Vec::new() };
    match read {
        Err(error) => document.unreadable(error, format, tree.as_ref()),
        Ok(imported) => document.read(imported, format, tree.as_ref(), today)?,
    }
    let mut findings = document.found;
    findings.extend(
        located(text, document.placed)
            .map(|(finding, place)| Located { finding, place: Some(place) }),
    );
    findings.sort_by_key(|one| (one.place, one.finding.clone()));
    findings.dedup();
    Ok(Report { findings, readable: read.is_ok() })
}

impl Places {
    /// The places in a document of a format, as far as they are known: of a foreign profile, those
    /// of the calls that it names.
    pub fn in_format(text: &str, format: Format) -> Places {
        let json = || text::read_json(text).ok();
        match format {
            Format::Strait => Some(Places::of(text)),
            Format::Oci => json().map(|root| Profile::new(profile_of(&root)).places(text)),
            Format::Spo => {
                let root = text::read_yaml(text).ok();
                root.map(|root| Profile::new(profile_of(&root)).places(text))
            }
            Format::Seccompiler => json().map(|root| filters(&root, text)),
            _ => None,
        }
        .unwrap_or_default()
    }
}

struct Document<'a> {
    text: &'a str,
    arch: Arch,
    /// How many unknown names were looked up.
    hints: usize,
    /// Findings whose lines and columns are not counted yet.
    placed: Vec<(Span, Finding)>,
    found: Vec<Located>,
}

impl Document<'_> {
    fn find(&mut self, span: Span, finding: Finding) {
        self.placed.push((span, finding));
    }

    fn unknown_call(&mut self, span: Span, name: &str) {
        let finding = if Syscall::exists_elsewhere(name) {
            let message = format!("`{name}` is a call of architectures that are not known here");
            Finding::new(Code::NoSuchCall, Subject::Policy, message)
        } else {
            let message = format!("there is no system call `{name}`");
            let finding = Finding::new(Code::UnknownCall, Subject::Policy, message);
            self.hints += 1;
            if self.hints <= MAX_HINTS { finding.help(hint(name, self.arch)) } else { finding }
        };
        self.find(span, finding);
    }

    /// Why it could not be read; of unknown names every one, and not only the first.
    fn unreadable(&mut self, error: &FormatError, format: Format, tree: Option<&Node>) {
        if format == Format::Strait
            && let Some(spec) = tree.and_then(|root| field(root, "spec"))
        {
            self.names_of_policy(spec);
        }
        let (place, message) = match error {
            FormatError::Parse(error) => match &*error.problem {
                Problem::UnknownName { what: "system call", .. } if !self.placed.is_empty() => {
                    return;
                }
                problem => (Some(error.place), problem.to_string()),
            },
            other => (None, chain(other)),
        };
        let finding = Finding::new(Code::Unreadable, Subject::Policy, message);
        self.found.push(Located { finding, place });
    }

    fn names_of_policy(&mut self, spec: &Node) {
        let mut names: Vec<(Span, &str)> = Vec::new();
        for rule in items(spec, "rules") {
            for node in items(rule, "syscalls") {
                if let Value::Text(name) = &node.value {
                    names.push((node.span, name));
                }
            }
        }
        if let Some(Value::Map(entries)) = field(spec, "necessity").map(|node| &node.value) {
            names.extend(entries.iter().map(|entry| (entry.key_span, &*entry.key)));
        }
        for (span, name) in names {
            if Syscall::from_name(name).is_none() {
                self.unknown_call(span, name);
            }
        }
    }

    fn read(
        &mut self,
        imported: &Imported,
        format: Format,
        tree: Option<&Node>,
        today: Option<Date>,
    ) -> Result<(), LowerError> {
        let policy = &imported.policy;
        let nature = match format {
            Format::Strait => Nature::Policy,
            Format::Oci | Format::Spo => Nature::Container,
            _ => Nature::Filter,
        };
        if format == Format::Strait
            && self.text.trim_start().starts_with('{')
            && let Err(fault) = text::read_json(self.text)
        {
            let message = fault.problem.to_string();
            self.find(fault.span, Finding::new(Code::LooseJson, Subject::Policy, message));
        }
        let places = match (format, tree) {
            (Format::Strait, _) => Places::of(self.text),
            (Format::Oci | Format::Spo, Some(root)) => {
                let profile = Profile::new(profile_of(root));
                self.profile(&profile, policy);
                profile.places(self.text)
            }
            (Format::Seccompiler, Some(root)) => filters(root, self.text),
            _ => Places::default(),
        };
        for finding in check_as(policy, today, nature)? {
            // What was read is spelt in rules of Strait's own: of those there is nothing to say.
            let of_rules = [Code::DeadRule, Code::Contradiction, Code::Redundant, Code::NoSuchCall];
            if nature == Nature::Policy || !of_rules.contains(&finding.code) {
                let place = places.get(finding.subject);
                self.found.push(Located { finding, place });
            }
        }
        let said: BTreeSet<usize> =
            self.placed.iter().map(|(span, _)| span.range(self.text).start).collect();
        for note in &imported.notes {
            if !note.place.is_some_and(|place| said.contains(&place.start)) {
                let message = note.message.clone();
                let finding = Finding::new(Code::PassedOver, Subject::Policy, message);
                self.found.push(Located { finding, place: note.place });
            }
        }
        Ok(())
    }

    /// What the runtimes do not mind in a container's profile, and its author would.
    fn profile(&mut self, profile: &Profile<'_>, policy: &Policy) {
        let mut by_name: BTreeMap<&str, Vec<&Named<'_>>> = BTreeMap::new();
        for named in &profile.names {
            by_name.entry(named.name).or_default().push(named);
        }
        for (name, all) in by_name {
            let listed = Listed::new(&all);
            for named in &all {
                let Some(call) = Syscall::from_name(name) else {
                    self.unknown_call(named.span, name);
                    continue;
                };
                let exists = policy.architectures.iter().any(|arch| call.number(arch).is_some());
                if !exists && named.gate.is_empty() {
                    let message =
                        format!("there is no `{name}` on the architectures of this profile");
                    let finding = Finding::new(Code::NoSuchCall, Subject::Policy, message);
                    self.find(named.span, finding.about(call));
                }
                if let Some(finding) = listed.beside(named) {
                    self.find(named.span, finding.about(call));
                } else if named.answer == profile.default && exists {
                    let message = format!(
                        "`{name}` would get {} by default too: runtimes skip this",
                        named.answer.0
                    );
                    let finding = Finding::new(Code::Redundant, Subject::Policy, message);
                    self.find(named.span, finding.about(call));
                }
            }
        }
        let has = |arch: Arch| policy.architectures.contains(arch);
        let missing: Vec<&str> =
            [(Arch::X86_64, Arch::I386), (Arch::X86_64, Arch::X32), (Arch::Aarch64, Arch::Arm)]
                .iter()
                .filter(|(native, compat)| has(*native) && !has(*compat))
                .map(|(_, compat)| compat.oci_name())
                .collect();
        if !missing.is_empty() {
            let message = format!(
                "{} not listed: programs of that kind are killed at their first call",
                match missing.as_slice() {
                    [one] => format!("{one} is"),
                    all => format!("{} are", all.join(" and ")),
                }
            );
            let finding = Finding::new(Code::MissingArch, Subject::Architectures, message);
            match profile.architectures {
                Some(span) => self.find(span, finding),
                None => self.found.push(Located { finding, place: None }),
            }
        }
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// The object of the profile itself in the document of a container or of Kubernetes.
fn profile_of(root: &Node) -> &Node {
    let within = |outer: &str, inner: &str| field(field(root, outer)?, inner);
    within("linux", "seccomp").or_else(|| field(root, "spec")).unwrap_or(root)
}

/// What of a container's profile its author sees.
struct Profile<'a> {
    names: Vec<Named<'a>>,
    default: (String, String),
    default_span: Option<Span>,
    architectures: Option<Span>,
}

/// A name in a rule.
struct Named<'a> {
    name: &'a str,
    span: Span,
    /// The action, and the errno as it is written.
    answer: (String, String),
    /// The conditions on arguments, as canonical JSON; empty if there are none.
    args: String,
    /// For which machines and capabilities, likewise.
    gate: String,
}

impl<'a> Profile<'a> {
    fn new(object: &'a Node) -> Profile<'a> {
        let json = |node: &Node, name: &str| match field(node, name) {
            None | Some(Node { value: Value::Null, .. }) => String::new(),
            Some(Node { value: Value::List(list), .. }) if list.is_empty() => String::new(),
            Some(Node { value: Value::Map(map), .. }) if map.is_empty() => String::new(),
            Some(node) => serde_json::to_string(node).unwrap_or_default(),
        };
        let answer = |node: &Node, action: &str, errno: &str| {
            let action = match field(node, action).map(|node| &node.value) {
                Some(Value::Text(text)) => text.to_string(),
                _ => String::new(),
            };
            let errno = json(node, errno);
            let usual = action == "SCMP_ACT_ERRNO" && errno == "1";
            (action, if usual { String::new() } else { errno })
        };
        let gate = |includes: String, excludes: String| match (&*includes, &*excludes) {
            ("", "") => String::new(),
            _ => format!("{includes} but {excludes}"),
        };
        let mut names = Vec::new();
        for rule in items(object, "syscalls") {
            let listed = items(rule, "names").iter().chain(field(rule, "name"));
            for node in listed {
                let Value::Text(name) = &node.value else { continue };
                if name.is_empty() {
                    continue;
                }
                names.push(Named {
                    name,
                    span: node.span,
                    answer: answer(rule, "action", "errnoRet"),
                    args: json(rule, "args"),
                    gate: gate(json(rule, "includes"), json(rule, "excludes")),
                });
            }
        }
        let architectures = field(object, "architectures").or_else(|| field(object, "archMap"));
        Profile {
            names,
            default: answer(object, "defaultAction", "defaultErrnoRet"),
            default_span: field(object, "defaultAction").map(|node| node.span),
            architectures: architectures.map(|node| node.span),
        }
    }

    fn places(&self, text: &str) -> Places {
        let subjects =
            [(self.default_span, Subject::Default), (self.architectures, Subject::Architectures)];
        let subjects =
            subjects.into_iter().filter_map(|(span, subject)| Some((span?, subject))).collect();
        let names = self.names.iter();
        let names =
            names.filter_map(|one| Some((one.span, Syscall::from_name(one.name)?))).collect();
        Places::of_names(text, subjects, names)
    }
}

/// The rules for one name: of those without arguments the first decides, whatever stands before or
/// after it.
struct Listed<'a> {
    /// By whom they are for and which arguments they are about: the first.
    first: BTreeMap<(&'a str, &'a str), &'a Named<'a>>,
}

impl<'a> Listed<'a> {
    fn new(all: &[&'a Named<'a>]) -> Listed<'a> {
        let mut first = BTreeMap::new();
        for named in all {
            first.entry((&*named.gate, &*named.args)).or_insert(*named);
        }
        Listed { first }
    }

    /// What there is to say of one of them beside the others.
    fn beside(&self, named: &Named<'_>) -> Option<Finding> {
        let find = |code, message: String| Some(Finding::new(code, Subject::Policy, message));
        let said = |named: &Named<'_>| match named.answer.1.as_str() {
            "" => named.answer.0.clone(),
            errno => format!("{} ({errno})", named.answer.0),
        };
        let name = named.name;
        let alike = self.first.get(&(&*named.gate, &*named.args));
        if let Some(earlier) = alike.filter(|earlier| earlier.span != named.span) {
            if earlier.answer == named.answer {
                return find(Code::Redundant, format!("`{name}` is listed already, and alike"));
            }
            let (first, this) = (said(earlier), said(named));
            let message = format!("`{name}` is listed twice: first with {first}, here with {this}");
            let help =
                format!("runtimes load the first, {first}: remove the one that is not meant");
            return Some(Finding::new(Code::Contradiction, Subject::Policy, message).help(help));
        }
        let unconditional =
            self.first.get(&(&*named.gate, "")).filter(|_| !named.args.is_empty())?;
        if unconditional.answer == named.answer {
            return find(
                Code::Redundant,
                format!("`{name}` gets this for all arguments elsewhere"),
            );
        }
        let message = format!(
            "`{name}` gets {} for all arguments elsewhere, which decides wherever it stands",
            said(unconditional)
        );
        find(Code::DeadRule, message)
    }
}

/// Where the calls of seccompiler's filters stand.
fn filters(root: &Node, text: &str) -> Places {
    let Value::Map(threads) = &root.value else { return Places::default() };
    let (mut subjects, mut names) = (Vec::new(), Vec::new());
    for thread in threads {
        for default in ["mismatch_action", "default_action"] {
            if let Some(node) = field(&thread.node, default) {
                subjects.push((node.span, Subject::Default));
            }
        }
        for rule in items(&thread.node, "filter") {
            if let Some(node) = field(rule, "syscall")
                && let Value::Text(name) = &node.value
                && let Some(call) = Syscall::from_name(name)
            {
                names.push((node.span, call));
            }
        }
    }
    Places::of_names(text, subjects, names)
}

#[cfg(test)]
mod tests {
    use strait_abi::KernelVersion;

    use super::*;
    use crate::format::Target;

    fn report(text: &str) -> Report {
        let target = Target::new(Arch::X86_64, KernelVersion::new(6, 18));
        let format = Format::detect(text.as_bytes());
        let read = format.import(text.as_bytes(), &target);
        check_document(text.as_bytes(), format, &read, Arch::X86_64, None).unwrap()
    }

    /// Demands a finding of the code at a line, whose message or help has the text.
    #[track_caller]
    fn finds(text: &str, code: Code, line: usize, part: &str) {
        let all = report(text).findings;
        let found = all.iter().any(|one| {
            let said = one.finding.message.contains(part)
                || one.finding.help.as_ref().is_some_and(|help| help.contains(part));
            one.finding.code == code && one.place.map_or(0, |place| place.line) == line && said
        });
        assert!(found, "{code} at {line} with {part}: {all:#?}");
    }

    fn profile(rules: &str) -> String {
        format!(
            "{{\"defaultAction\": \"SCMP_ACT_ERRNO\",\n\"architectures\": [\"SCMP_ARCH_X86_64\"],\n\
             \"syscalls\": [\n{rules}\n]}}"
        )
    }

    #[test]
    fn defects_of_the_field_are_found_in_profiles() {
        let allow = |names: &str| {
            profile(&format!("{{\"names\": [{names}], \"action\": \"SCMP_ACT_ALLOW\"}}"))
        };
        let names = allow("\"read\",\n\"setsidaccept4\",\n\"initgroups\",\n\"syscall_1f4\"");
        finds(&names, Code::UnknownCall, 5, "`setsid` and `accept4`");
        finds(&names, Code::UnknownCall, 6, "`setgroups`");
        finds(&names, Code::UnknownCall, 7, "number 500");
        finds(
            "{\"defaultAction\": \"SCMP_ACT_ALLOW\",\n# a comment\n}",
            Code::Unreadable,
            2,
            "comments",
        );
        let twice = profile(
            "{\"names\": [\"read\"], \"action\": \"SCMP_ACT_ALLOW\"},\n\
             {\"names\": [\"read\"], \"action\": \"SCMP_ACT_KILL\"}",
        );
        finds(&twice, Code::Contradiction, 5, "first with SCMP_ACT_ALLOW");
        finds(&allow("\"mount\""), Code::CannotRun, 0, "exit_group");
        finds(&allow("\"mount\", \"exit_group\""), Code::CannotRun, 0, "execve");
        finds(&allow("\"mount\""), Code::Dangerous, 4, "`mount`");
        finds(&allow("\"socketcall\""), Code::NoSuchCall, 4, "`socketcall`");
        finds(&allow("\"read\""), Code::MissingArch, 2, "SCMP_ARCH_X86 and SCMP_ARCH_X32");
    }

    #[test]
    fn conditions_that_runtimes_pass_over_are_found() {
        let arg = "\"args\": [{\"index\": 0, \"value\": 1, \"op\": \"SCMP_CMP_EQ\"}]";
        let dead = profile(&format!(
            "{{\"names\": [\"socket\"], \"action\": \"SCMP_ACT_KILL\", {arg}}},\n\
             {{\"names\": [\"socket\"], \"action\": \"SCMP_ACT_ALLOW\"}}"
        ));
        finds(&dead, Code::DeadRule, 4, "for all arguments elsewhere");
        let wide =
            profile(&format!("{{\"names\": [\"socket\"], \"action\": \"SCMP_ACT_ALLOW\", {arg}}}"));
        finds(&wide, Code::WiderThanTaken, 4, "`domain`");
        let default = profile("{\"names\": [\"read\"], \"action\": \"SCMP_ACT_ERRNO\"}");
        finds(&default, Code::Redundant, 4, "by default too");
        let gated = profile(
            "{\"names\": [\"read\"], \"action\": \"SCMP_ACT_ALLOW\", \"excludes\": {\"arches\": [\"arm\"]}},\n\
             {\"names\": [\"read\"], \"action\": \"SCMP_ACT_KILL\", \"includes\": {\"arches\": [\"arm\"]}}",
        );
        assert!(report(&gated).findings.iter().all(|one| one.finding.code != Code::Contradiction));
    }

    #[test]
    fn defects_of_the_field_are_found_in_policies() {
        let policy = |rules: &str| {
            format!(
                "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec:\n  architectures: \
                 [x86_64]\n  default: errno(EPERM)\n  rules:\n{rules}\n"
            )
        };
        let names = policy(
            "    - {syscalls: [read, setsidaccept4], action: allow}\n    \
             - {syscalls: [initgroups, syscall_1f4], action: allow}",
        );
        assert!(!report(&names).readable);
        assert_eq!(report(&names).findings.len(), 3);
        finds(&names, Code::UnknownCall, 7, "`setsid` and `accept4`");
        finds(&names, Code::UnknownCall, 8, "`setgroups`");
        let twice = policy(
            "    - {syscalls: [read], action: allow}\n    - {syscalls: [read], action: log}",
        );
        finds(&twice, Code::Contradiction, 8, "first with allow, here with log");
        finds(&policy("    - {syscalls: [mount], action: allow}"), Code::CannotRun, 0, "end");
        let json = "{\"apiVersion\": \"strait.dev/v1alpha1\", \"kind\": \"SyscallPolicy\", \"spec\":\n\
                    # x\n{\"architectures\": [\"x86_64\"], \"default\": \"allow\"}}";
        finds(json, Code::LooseJson, 2, "comments");
        assert_eq!(report(&policy("    - {syscals: [read], action: allow}")).findings.len(), 1);
    }

    #[test]
    fn bytes_of_any_kind_are_reported_on() {
        for text in ["", "[", "{}", "{\"defaultAction\": 3}", "{\"linux\": {}}", "\u{0}"] {
            let report = report(text);
            assert!(!report.readable && report.worst() == Some(Severity::Error), "{report:?}");
        }
    }
}
