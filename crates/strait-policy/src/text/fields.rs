//! The fields of a mapping, each taken at most once, none left over.

use super::{Entry, Fault, Node, Problem, nearest};

/// A mapping whose fields are being taken.
pub(crate) struct Fields<'a> {
    of: &'a str,
    node: &'a Node,
    entries: &'a [Entry],
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// The fields of `node`, which is called `of` in messages.
    pub(crate) fn new(node: &'a Node, of: &'a str) -> Result<Fields<'a>, Fault> {
        Ok(Fields { of, node, entries: node.map(of)?, known: Vec::new() })
    }

    /// The field of that name, if it is there.
    pub(crate) fn take(&mut self, field: &'static str) -> Option<&'a Node> {
        self.known.push(field);
        self.entries.iter().find(|entry| &*entry.key == field).map(|entry| &entry.node)
    }

    /// The field of that name, which must be there.
    pub(crate) fn need(&mut self, field: &'static str) -> Result<&'a Node, Fault> {
        self.take(field).ok_or_else(|| {
            let of = self.of.to_owned();
            // A field that looks like a slip of the pen is pointed at, rather than what it lacks.
            let meant = |entry: &&Entry| nearest(&entry.key, [field]).is_some();
            match self.entries.iter().find(meant) {
                Some(entry) => entry.key_span.fault(Problem::UnknownField {
                    field: entry.key.to_string(),
                    of,
                    nearest: Some(field.to_owned()),
                }),
                None => self.node.span.fault(Problem::MissingField { field, of }),
            }
        })
    }

    /// A text field, if it is there.
    pub(crate) fn text(&mut self, field: &'static str) -> Result<Option<String>, Fault> {
        self.take(field).map(|node| node.text(field).map(str::to_owned)).transpose()
    }

    /// A list of texts, empty if it is not there.
    pub(crate) fn texts(&mut self, field: &'static str) -> Result<Vec<String>, Fault> {
        self.take(field).map_or(Ok(Vec::new()), |node| node.texts(field))
    }

    /// Refuses every field that was not asked for.
    pub(crate) fn finish(self) -> Result<(), Fault> {
        #[cfg(test)]
        asked::note(self.of, &self.known);
        match self.entries.iter().find(|entry| !self.known.contains(&&*entry.key)) {
            None => Ok(()),
            Some(entry) => Err(entry.key_span.fault(Problem::UnknownField {
                field: entry.key.to_string(),
                of: self.of.to_owned(),
                nearest: nearest(&entry.key, self.known.iter().copied()),
            })),
        }
    }
}

/// Which fields readers ask for, so that a test can hold what is published of a format to them.
#[cfg(test)]
pub(crate) mod asked {
    use std::cell::RefCell;
    use std::collections::{BTreeMap, BTreeSet};

    type Asked = BTreeMap<String, BTreeSet<&'static str>>;

    thread_local! {
        static ASKED: RefCell<Asked> = const { RefCell::new(BTreeMap::new()) };
    }

    pub(super) fn note(of: &str, known: &[&'static str]) {
        ASKED.with_borrow_mut(|asked| asked.entry(of.to_owned()).or_default().extend(known));
    }

    /// By mapping, what was asked for in this thread since the last time.
    pub(crate) fn take() -> Asked {
        ASKED.take()
    }
}
