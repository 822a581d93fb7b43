//! Unit files, as systemd reads them: sections of assignments, of which it passes over what it
//! does not understand.

use std::ops::Range;

use crate::text::{Fault, Line, Problem, Span, lines, nearest};

/// An assignment in a section that says how processes are started.
#[derive(Debug)]
pub(super) struct Assignment {
    line: Line,
    key: Range<usize>,
    value: Range<usize>,
}

impl Assignment {
    pub(super) fn key(&self) -> &str {
        &self.line.text()[self.key.clone()]
    }

    pub(super) fn value(&self) -> &str {
        &self.line.text()[self.value.clone()]
    }

    /// Whether the value begins with `~`, and the words after it.
    pub(super) fn inverted(&self) -> (bool, impl Iterator<Item = (Span, &str)>) {
        let invert = self.value().starts_with('~');
        let start = self.value.start + usize::from(invert);
        let words = self.line.words(start..self.value.end);
        (invert, words.map(|(range, word)| (self.line.span(range), word)))
    }

    /// The words of the value.
    pub(super) fn words(&self) -> impl Iterator<Item = (Span, &str)> {
        let words = self.line.words(self.value.clone());
        words.map(|(range, word)| (self.line.span(range), word))
    }

    pub(super) fn key_span(&self) -> Span {
        self.line.span(self.key.clone())
    }

    pub(super) fn value_span(&self) -> Span {
        self.line.span(self.value.clone())
    }
}

/// The sections of units that start processes.
const SECTIONS: &[&str] = &["Service", "Socket", "Mount", "Swap"];
/// The other sections that systemd knows.
const OTHERS: &[&str] =
    &["Unit", "Install", "Automount", "Device", "Path", "Scope", "Slice", "Target", "Timer"];

/// The assignments of the sections that start processes, in order.
pub(super) fn read(text: &str, notes: &mut Vec<(Span, String)>) -> Result<Vec<Assignment>, Fault> {
    let mut assignments = Vec::new();
    let mut sections = 0;
    // Whether the section is one of those that start processes; none before the first.
    let mut section: Option<bool> = None;
    for line in joined(text) {
        let content = line.trimmed(0..line.text().len());
        let (said, span) = (&line.text()[content.clone()], line.span(content.clone()));
        if said.is_empty() {
            continue;
        }
        if let Some(name) = said.strip_prefix('[') {
            let Some(name) = name.strip_suffix(']') else {
                return Err(span.fault(Problem::Syntax {
                    what: format!("`{said}` begins a section and does not end with `]`"),
                }));
            };
            sections += 1;
            section = Some(SECTIONS.contains(&name));
            if !SECTIONS.contains(&name) && !OTHERS.contains(&name) && !name.starts_with("X-") {
                let hint = nearest(name, SECTIONS.iter().chain(OTHERS).copied());
                let hint = hint.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
                notes.push((span, format!("systemd has no section `{name}` and skips it{hint}")));
            }
            continue;
        }
        let Some(is_ours) = section else {
            let what = "this stands in no section: systemd passes it over".to_owned();
            notes.push((span, what));
            continue;
        };
        let Some(equals) = said.find('=').map(|at| content.start + at) else {
            notes.push((span, "there is no `=` here: systemd passes the line over".to_owned()));
            continue;
        };
        let key = line.trimmed(content.start..equals);
        let value = line.trimmed(equals + 1..content.end);
        if is_ours {
            assignments.push(Assignment { line, key, value });
        }
    }
    if sections == 0 {
        return Err(Span::default().fault(Problem::Syntax {
            what: "this is no unit: a unit has sections, such as `[Service]`".to_owned(),
        }));
    }
    Ok(assignments)
}

/// The lines, joined where one ends with a backslash, which becomes a blank. Comments may stand
/// between joined lines.
fn joined(text: &str) -> impl Iterator<Item = Line> {
    let mut lines = lines(text);
    std::iter::from_fn(move || {
        let mut joined: Option<Line> = None;
        for (at, line) in lines.by_ref() {
            let content = line.trim_ascii_start();
            let at = at + line.len() - content.len();
            if content.starts_with(['#', ';']) {
                continue;
            }
            let into = joined.get_or_insert_default();
            let backslashes = content.bytes().rev().take_while(|byte| *byte == b'\\').count();
            match content.strip_suffix('\\').filter(|_| backslashes % 2 == 1) {
                Some(content) => {
                    into.push(content, at);
                    into.push(" ", at + content.len());
                }
                None => {
                    into.push(content, at);
                    return joined;
                }
            }
        }
        joined
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_are_read_as_systemd_joins_lines() {
        let text = "; c\nStray=1\n[Unit]\nA=1\n[Service]\n  K = one \\\n# between\n  two\\\\\n\
                    nonsense\nEmpty=\nLast=a\\";
        let mut notes = Vec::new();
        let read: Vec<(String, String)> = read(text, &mut notes)
            .unwrap()
            .iter()
            .map(|assignment| (assignment.key().to_owned(), assignment.value().to_owned()))
            .collect();
        let expected = [("K", "one  two\\\\"), ("Empty", ""), ("Last", "a")];
        assert_eq!(read, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
        let said: Vec<&str> = notes.iter().map(|(_, message)| message.as_str()).collect();
        assert!(said[0].contains("no section") && said[1].contains("no `=`"), "{said:?}");
    }

    #[test]
    fn what_is_no_unit_is_refused() {
        for (text, message) in [("", "no unit"), ("A=b\n", "no unit"), ("[Service\n", "`]`")] {
            let error = read(text, &mut Vec::new()).unwrap_err().in_text(text);
            assert!(error.to_string().contains(message), "{error}");
        }
    }
}
