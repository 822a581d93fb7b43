//! Where the parts of a policy stand in its document, and calls in documents of other formats.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;

use strait_abi::Syscall;

use super::Subject;
use crate::text::{self, Node, Place, Span, Value, located};

/// Where the parts of a policy stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    subjects: BTreeMap<Subject, Place>,
    /// In documents whose rules are not those of the policy: where a call is named first.
    calls: BTreeMap<Syscall, Place>,
}

impl Places {
    /// The places in a document of a policy; none in any other text.
    pub fn of(text: &str) -> Places {
        let mut spans: Vec<(Span, Subject)> = Vec::new();
        if let Ok(root) = text::read_yaml(text)
            && let Some(spec) = field(&root, "spec")
        {
            collect(spec, &mut spans);
        }
        Places { subjects: located(text, spans).collect(), calls: BTreeMap::new() }
    }

    /// The places of a document in another format, as far as they are known.
    pub(super) fn of_names(
        text: &str,
        subjects: Vec<(Span, Subject)>,
        names: Vec<(Span, Syscall)>,
    ) -> Places {
        let mut calls = BTreeMap::new();
        for (call, place) in located(text, names) {
            if let MapEntry::Vacant(first) = calls.entry(call) {
                first.insert(place);
            }
        }
        Places { subjects: located(text, subjects).collect(), calls }
    }

    /// Where it stands; a call that a rule does not name stands where its rule does.
    pub fn get(&self, subject: Subject) -> Option<Place> {
        let (around, call) = match subject {
            Subject::Call(rule, call) => (Some(Subject::Rule(rule)), Some(call)),
            Subject::Necessity(call) => (None, Some(call)),
            _ => (None, None),
        };
        let place = self.subjects.get(&subject).or_else(|| self.calls.get(&call?));
        place.or_else(|| self.subjects.get(&around?)).copied()
    }
}

fn collect(spec: &Node, spans: &mut Vec<(Span, Subject)>) {
    let mut add = |subject: Subject, span: Span| spans.push((span, subject));
    for (name, subject) in [
        ("architectures", Subject::Architectures),
        ("default", Subject::Default),
        ("foreign", Subject::Foreign),
        ("unknown", Subject::Unknown),
    ] {
        if let Some(node) = field(spec, name) {
            add(subject, node.span);
        }
    }
    for (index, set) in items(spec, "include").iter().enumerate() {
        add(Subject::Include(index), set.span);
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

pub(super) fn field<'a>(node: &'a Node, name: &str) -> Option<&'a Node> {
    match &node.value {
        Value::Map(entries) => {
            entries.iter().find(|entry| &*entry.key == name).map(|entry| &entry.node)
        }
        _ => None,
    }
}

pub(super) fn items<'a>(node: &'a Node, name: &str) -> &'a [Node] {
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
