//! Findings with the lines that they are about, as compilers show them.

use std::collections::BTreeMap;

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use strait_policy::Place;
use strait_policy::check::{Code, Located, Severity};

/// How many calls are named where one diagnostic is about many.
const NAMED: usize = 8;
/// How many lines of the document one diagnostic shows.
const LINES: usize = 3;
/// How many places are marked in them.
const MARKS: usize = 8;
/// How many bytes of the document are looked at on either side of a place: many times what a terminal
/// has room for. A profile may be one long line, with thousands of findings on it.
const AROUND: usize = 2048;

/// The findings of a document, what matters most first, and what alike are as one.
pub fn render(name: &str, text: &str, findings: &[Located]) -> String {
    let renderer = Renderer::styled();
    let mut out = String::new();
    for group in grouped(findings) {
        out.push_str(&diagnostic(&renderer, name, text, &group));
        out.push_str("\n\n");
    }
    out
}

/// Alike are findings of one kind at one place, and all notes of one kind.
fn grouped(findings: &[Located]) -> Vec<Vec<&Located>> {
    type Key = (std::cmp::Reverse<Severity>, Option<Place>, Code, Option<String>);
    let mut groups: BTreeMap<Key, Vec<&Located>> = BTreeMap::new();
    let mut notes: BTreeMap<Code, Option<Place>> = BTreeMap::new();
    for located in findings {
        let finding = &located.finding;
        let severity = finding.severity;
        let (place, apart) = match (severity, finding.code) {
            // What is dangerous is so for reasons of its own.
            (_, Code::OpenArgument) | (Severity::Warning | Severity::Error, Code::Dangerous) => {
                (located.place, Some(finding.message.clone()))
            }
            // Notes of a kind stand where the first of them does.
            (Severity::Note, code) => (*notes.entry(code).or_insert(located.place), None),
            _ => (located.place, finding.help.clone()),
        };
        let key = (std::cmp::Reverse(severity), place, finding.code, apart);
        groups.entry(key).or_default().push(located);
    }
    groups.into_values().collect()
}

fn diagnostic(renderer: &Renderer, name: &str, text: &str, group: &[&Located]) -> String {
    let Some(first) = group.first().map(|located| &located.finding) else { return String::new() };
    let level = match first.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Note => Level::NOTE,
    };
    let title = match group {
        [_] => first.message.clone(),
        all => format!("{}: {}", first.code.title(), listed(all)),
    };
    let title = level.primary_title(title).id(first.code.name());
    let mut report = Group::with_title(title);
    let mut places: Vec<Place> = group.iter().filter_map(|located| located.place).collect();
    places.sort();
    places.dedup();
    let place = places.first();
    report = match place {
        Some(place) => report.element(snippet(name, text, *place, &places)),
        None => report.element(Origin::path(name)),
    };
    if !first.cves.is_empty() && group.len() == 1 {
        let holes = format!("holes that were entered by it: {}", first.cves.join(", "));
        report = report.element(Level::NOTE.message(holes));
    }
    if let (true, Some(help)) = (group.len() == 1 || same_help(group), &first.help) {
        report = report.element(Level::HELP.message(help.clone()));
    }
    let rendered = renderer.render(&[report]);
    // Of a line that is not shown from its beginning, columns were counted from where it is.
    let Some(place) = place else { return rendered };
    let shown = text[start_of(text, place.start)..place.start].chars().count() + 1;
    if shown == place.column {
        return rendered;
    }
    let [from, to] = [shown, place.column].map(|column| format!("{name}:{}:{column}", place.line));
    rendered.replacen(&from, &to, 1)
}

fn same_help(group: &[&Located]) -> bool {
    group.windows(2).all(|pair| pair[0].finding.help == pair[1].finding.help)
}

/// The calls that findings are about, or, where they are about none, what they say.
fn listed(group: &[&Located]) -> String {
    let mut names: Vec<String> = group
        .iter()
        .map(|located| match located.finding.call {
            Some(call) => format!("`{call}`"),
            None => located.finding.message.clone(),
        })
        .collect();
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    let more = names.len().saturating_sub(NAMED);
    names.truncate(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", names.join(", "))
}

/// The lines around the first place, with the places on them marked.
fn snippet<'a>(
    name: &'a str,
    text: &'a str,
    first: Place,
    places: &[Place],
) -> Snippet<'a, Annotation<'a>> {
    let start = start_of(text, first.start);
    let after = boundary(text, first.start.saturating_add(AROUND));
    let end = text[first.start..after]
        .match_indices('\n')
        .nth(LINES - 1)
        .map_or(after, |(at, _)| first.start + at);
    let lines = &text[start..end];
    let shown = places.iter().filter(|place| (start..=end).contains(&place.start));
    let marks = shown.take(MARKS).map(|place| {
        // Of what goes over several lines the first is marked.
        let line_end = text[place.start..end].find('\n').map_or(end, |at| place.start + at);
        let to = place.end.clamp(place.start, line_end);
        let kind = if place == &first { AnnotationKind::Primary } else { AnnotationKind::Context };
        kind.span(place.start - start..to - start)
    });
    Snippet::source(lines).path(name).line_start(first.line).annotations(marks)
}

/// Where the line begins that has this byte, or what is looked at of it.
fn start_of(text: &str, at: usize) -> usize {
    let before = boundary(text, at.saturating_sub(AROUND));
    text[before..at].rfind('\n').map_or(before, |newline| before + newline + 1)
}

/// The last place up to `at` where a character begins, or the end of the text.
fn boundary(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default()
}

/// How many findings there are of each severity.
pub fn summary(name: &str, findings: &[Located]) -> String {
    let count = |severity: Severity| {
        findings.iter().filter(|located| located.finding.severity == severity).count()
    };
    let said: Vec<String> = [Severity::Error, Severity::Warning, Severity::Note]
        .into_iter()
        .filter_map(|severity| match count(severity) {
            0 => None,
            1 => Some(format!("1 {severity}")),
            more => Some(format!("{more} {severity}s")),
        })
        .collect();
    if said.is_empty() {
        return format!("{name}: nothing found\n");
    }
    format!("{name}: {}; `strait explain-code CODE` says more of each\n", said.join(", "))
}
