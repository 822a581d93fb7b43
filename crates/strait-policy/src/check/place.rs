//! Where the parts of a policy stand in its document.

use std::collections::BTreeMap;

use strait_abi::Syscall;

use super::Subject;
use crate::text::{self, Node, Place, Span, Value};

/// Where the parts of a policy stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places(BTreeMap<Subject, Place>);

impl Places {
    /// The places in a document of a policy; none in any other text.
    pub fn of(text: &str) -> Places {
        let mut spans: Vec<(Span, Subject)> = Vec::new();
        if let Ok(root) = text::read_yaml(text)
            && let Some(spec) = field(&root, "spec")
        {
            collect(spec, &mut spans);
        }
        // Lines and columns are counted once, from the first place to the last.
        spans.sort();
        let (mut at, mut line, mut column) = (0, 1, 1);
        let mut places = Places::default();
        for (span, subject) in spans {
            let std::ops::Range { start, end } = span.range(text);
            for c in text[at..start].chars() {
                (line, column) = if c == '\n' { (line + 1, 1) } else { (line, column + 1) };
            }
            at = start;
            places.0.insert(subject, Place { line, column, start, end });
        }
        places
    }

    /// Where it stands; a call that a rule does not name stands where its rule does.
    pub fn get(&self, subject: Subject) -> Option<Place> {
        let around = match subject {
            Subject::Call(rule, _) => Some(Subject::Rule(rule)),
            _ => None,
        };
        let place = self.0.get(&subject).or_else(|| self.0.get(&around?));
        place.copied()
    }
}

fn collect(spec: &Node, spans: &mut Vec<(Span, Subject)>) {
    let mut add = |subject: Subject, span: Span| spans.push((span, subject));
    if let Some(node) = field(spec, "default") {
        add(Subject::Default, node.span);
    }
    for (index, rule) in items(spec, "rules").iter().enumerate() {
        add(Subject::Rule(index), rule.span);
        for name in items(rule, "syscalls") {
            if let Value::Text(text) = &name.value
                && let Some(call) = Syscall::from_name(text)
            {
                add(Subject::Call(index, call), name.span);
            }
        }
    }
    for (index, recording) in items(spec, "recordings").iter().enumerate() {
        add(Subject::Recording(index), recording.span);
    }
    if let Some(Value::Map(entries)) = field(spec, "necessity").map(|node| &node.value) {
        for entry in entries {
            if let Some(call) = Syscall::from_name(&entry.key) {
                add(Subject::Necessity(call), entry.key_span);
            }
        }
    }
}

fn field<'a>(node: &'a Node, name: &str) -> Option<&'a Node> {
    match &node.value {
        Value::Map(entries) => {
            entries.iter().find(|entry| &*entry.key == name).map(|entry| &entry.node)
        }
        _ => None,
    }
}

fn items<'a>(node: &'a Node, name: &str) -> &'a [Node] {
    match field(node, name).map(|node| &node.value) {
        Some(Value::List(nodes)) => nodes,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_where_they_stand() {
        let text = "spec:\n  default: log\n  rules:\n    - {syscalls: [read, write]}\n  necessity:\n    read: []\n";
        let places = Places::of(text);
        let at = |subject| {
            let place: Place = places.get(subject).unwrap();
            (place.line, &text[place.start..place.end])
        };
        let call = |name| Syscall::from_name(name).unwrap();
        assert_eq!(at(Subject::Default), (2, "log"));
        assert_eq!(at(Subject::Call(0, call("write"))), (4, "write"));
        assert_eq!(at(Subject::Call(0, call("close"))).0, 4);
        assert_eq!(at(Subject::Necessity(call("read"))), (6, "read"));
        assert_eq!(places.get(Subject::Policy), None);
    }
}
