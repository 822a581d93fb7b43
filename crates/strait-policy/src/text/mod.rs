//! Text with places: the tree that a document is read into before it means anything.
//!
//! Every node knows where it stands, so that whoever gives it a meaning can point at it. What
//! would exhaust memory or the stack is refused here, by name, for every format.

mod fields;
mod json;
mod lines;
mod nearest;
mod yaml;

use std::fmt;

use strait_abi::Arch;

pub(crate) use fields::Fields;
#[cfg(test)]
pub(crate) use fields::asked;
pub(crate) use lines::{Line, LineIndex, lines};
pub(crate) use nearest::{MAX_HINTS, nearest};
pub(crate) use yaml::is_plain;

/// The largest document that is read, in bytes.
pub const MAX_BYTES: usize = 16 << 20;
/// The deepest nesting that is read, in levels.
pub const MAX_DEPTH: usize = 128;
/// The most values that a document may have, those that its aliases repeat included.
pub const MAX_VALUES: usize = 1_000_000;

/// Where something stands in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Offset of the first byte.
    pub start: usize,
    /// Offset of the byte after the last.
    pub end: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// A range of bytes; documents are far smaller than 4 GiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Span {
    /// A span of offsets into a document, which [`MAX_BYTES`] bounds.
    pub(crate) fn new(start: usize, end: usize) -> Span {
        let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Span { start: offset(start), end: offset(end.max(start)) }
    }

    /// The bytes of `text`, at boundaries of characters.
    pub(crate) fn range(self, text: &str) -> std::ops::Range<usize> {
        let floor = |at: u32| {
            let at = usize::try_from(at).unwrap_or(usize::MAX).min(text.len());
            (0..=at).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
        };
        floor(self.start)..floor(self.end)
    }

    /// The offset that is `at` bytes into the span.
    pub(crate) fn start_at(self, at: usize) -> u32 {
        self.start.saturating_add(u32::try_from(at).unwrap_or(u32::MAX))
    }

    /// A span that was counted from `start`.
    pub(crate) fn shifted(self, start: u32) -> Span {
        Span { start: self.start.saturating_add(start), end: self.end.saturating_add(start) }
    }

    /// The same, `by` bytes further on.
    pub(crate) fn shifted_by(self, by: usize) -> Span {
        self.shifted(u32::try_from(by).unwrap_or(u32::MAX))
    }

    /// The same, `by` bytes further back.
    pub(crate) fn shifted_back(self, by: usize) -> Span {
        let by = u32::try_from(by).unwrap_or(u32::MAX);
        Span { start: self.start.saturating_sub(by), end: self.end.saturating_sub(by) }
    }

    /// The same in lines and columns of `text`.
    pub(crate) fn place(self, text: &str) -> Place {
        let std::ops::Range { start, end } = self.range(text);
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Place {
            line: before.bytes().filter(|&byte| byte == b'\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            start,
            end,
        }
    }
}

/// Spans in lines and columns, which are counted once, from the first to the last, however many
/// stand on one line.
pub(crate) fn located<T: Ord>(
    text: &str,
    mut spans: Vec<(Span, T)>,
) -> impl Iterator<Item = (T, Place)> {
    spans.sort();
    let (mut at, mut line, mut column) = (0, 1, 1);
    spans.into_iter().map(move |(span, of)| {
        let std::ops::Range { start, end } = span.range(text);
        // Of spans that overlap, the later may begin within a character of the earlier.
        for c in text.get(at..start).unwrap_or_default().chars() {
            (line, column) = if c == '\n' { (line + 1, 1) } else { (line, column + 1) };
        }
        at = start.max(at);
        (of, Place { line, column, start, end })
    })
}

/// A value, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) value: Value,
}

/// What YAML and JSON have in common.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// As it was written: `6.10` is not `6.1`.
    Number(Box<str>),
    Text(Box<str>),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key_span: Span,
    pub(crate) key: Box<str>,
    pub(crate) node: Node,
}

/// Reads YAML, of which JSON is a part.
pub(crate) fn read_yaml(text: &str) -> Result<Node, Fault> {
    check_size(text)?;
    if text.trim_start().starts_with('{') {
        // JSON may have what YAML has not (surrogate pairs); a YAML flow mapping is no JSON.
        json::read(text).or_else(|fault| yaml::read(text).map_err(|_| fault))
    } else {
        yaml::read(text)
    }
}

/// Reads JSON, and nothing that only looks like it.
pub(crate) fn read_json(text: &str) -> Result<Node, Fault> {
    check_size(text)?;
    json::read(text)
}

/// Refuses a text that is too long to be read.
pub(crate) fn check_size(text: &str) -> Result<(), Fault> {
    if text.len() > MAX_BYTES {
        return Err(Span::default().fault(Problem::TooLarge { bytes: text.len() }));
    }
    Ok(())
}

/// A problem and its span, before lines are counted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    pub(crate) span: Span,
    pub(crate) problem: Box<Problem>,
}

impl Span {
    pub(crate) fn fault(self, problem: Problem) -> Fault {
        Fault { span: self, problem: Box::new(problem) }
    }
}

impl Fault {
    /// The error for the reader of `text`.
    pub(crate) fn in_text(self, text: &str) -> ParseError {
        ParseError { place: self.span.place(text), problem: self.problem }
    }
}

/// Why a text is not what it should be: where, what, and what would be right.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct ParseError {
    /// Where.
    pub place: Place,
    /// What.
    pub problem: Box<Problem>,
}

/// What is wrong at a place of a document.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// More than [`MAX_BYTES`].
    #[error("the document has {bytes} bytes; at most {MAX_BYTES} are read")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// More than [`MAX_DEPTH`] levels.
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// More than [`MAX_VALUES`] values.
    #[error("more than {MAX_VALUES} values")]
    TooMany,
    /// More than [`MAX_VALUES`] values once its aliases are followed.
    #[error("the aliases of this document expand to more than {MAX_VALUES} values")]
    AliasesExplode,
    /// Not well-formed YAML or JSON.
    #[error("{what}")]
    Syntax {
        /// What the reader says.
        what: String,
    },
    /// Nothing in it.
    #[error("the document is empty; a {expected} was expected")]
    Empty {
        /// What should be there.
        expected: &'static str,
    },
    /// More than one document.
    #[error("a second document begins here; one file holds one document")]
    SecondDocument,
    /// A YAML tag that has no meaning here.
    #[error("the tag `{tag}` has no meaning here; leave it out")]
    Tag {
        /// The tag.
        tag: String,
    },
    /// A key twice in one mapping.
    #[error("`{key}` is given twice; keep one of the two")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// A value of another type.
    #[error("`{field}` must be {expected}, not {found}")]
    WrongType {
        /// Whose value.
        field: String,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// A value outside its range or form.
    #[error("`{value}` is no valid {what}; {right}")]
    Invalid {
        /// What it should be.
        what: &'static str,
        /// What is there.
        value: String,
        /// What would be right.
        right: String,
    },
    /// A field that must be there is not.
    #[error("`{field}` is missing from {of}")]
    MissingField {
        /// The field.
        field: &'static str,
        /// The mapping that lacks it.
        of: String,
    },
    /// A field that nobody knows.
    #[error("`{field}` is no field of {of}{}", suggestion(.nearest.as_deref()))]
    UnknownField {
        /// The field.
        field: String,
        /// The mapping that it stands in.
        of: String,
        /// A field that it may be meant to be.
        nearest: Option<String>,
    },
    /// Another kind of document.
    #[error("this is a `{found}`, not a `{expected}`")]
    Kind {
        /// What it says.
        found: String,
        /// What was expected.
        expected: &'static str,
    },
    /// A name that is not known.
    #[error("`{name}` is no known {what}{}{}", suggestion(.nearest.as_deref()), listed(.known))]
    UnknownName {
        /// What it should name: a system call, an architecture, an action, an errno.
        what: &'static str,
        /// The name.
        name: String,
        /// One that it may be meant to be.
        nearest: Option<String>,
        /// All that there are, where they are few and none is near.
        known: Vec<String>,
    },
    /// A list that must have something in it.
    #[error("`{field}` is empty; {right}")]
    EmptyList {
        /// The list.
        field: String,
        /// What would be right.
        right: &'static str,
    },
    /// An argument that a call has not.
    #[error("`{call}` has no argument `{name}`; {hint}")]
    UnknownArgument {
        /// The argument.
        name: String,
        /// The call.
        call: &'static str,
        /// What would be right.
        hint: String,
    },
    /// A constant that an argument does not take.
    #[error(
        "`{name}` is no value of `{argument}` of `{call}` on {arch}{}",
        suggestion(.nearest.as_deref())
    )]
    UnknownConstant {
        /// The constant.
        name: String,
        /// The argument.
        argument: String,
        /// The call.
        call: &'static str,
        /// The ABI.
        arch: Arch,
        /// A constant that it may be meant to be.
        nearest: Option<String>,
    },
    /// A value that has more bits than the kernel takes.
    #[error(
        "{value:#x} does not fit: `{call}` takes {bits} bits as `{name}` on {arch}, and ignores \
         the rest"
    )]
    TooWide {
        /// The value.
        value: u64,
        /// How many bits the kernel takes.
        bits: u32,
        /// The argument.
        name: String,
        /// The call.
        call: &'static str,
        /// The ABI.
        arch: Arch,
    },
    /// Less or greater than a negative value.
    #[error(
        "`{name}` is compared without sign, so a negative value can only be tested with == and !=; \
         write the range of non-negative values"
    )]
    SignedOrder {
        /// The argument.
        name: String,
    },
    /// Something that the format knows and this version does not.
    #[error("{what} cannot be used here; {right}")]
    Unsupported {
        /// What it is.
        what: &'static str,
        /// What would be right.
        right: &'static str,
    },
    /// The same thing twice in a list.
    #[error("`{name}` stands twice in `{field}`; keep one")]
    DuplicateName {
        /// The name.
        name: String,
        /// The list.
        field: String,
    },
}

/// As many names are told where none of them is near.
const FEW: usize = 12;

impl Problem {
    /// A name that is none of those that are known.
    pub(crate) fn unknown_name<'a>(
        what: &'static str,
        name: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Problem {
        let known: Vec<&str> = known.into_iter().collect();
        let nearest = nearest(name, known.iter().copied());
        let tells_all = nearest.is_none() && known.len() <= FEW;
        let known = known.into_iter().filter(|_| tells_all).map(str::to_owned).collect();
        Problem::UnknownName { what, name: name.to_owned(), nearest, known }
    }
}

fn listed(known: &[String]) -> String {
    match known {
        [] => String::new(),
        known => format!("; there are {}", known.join(", ")),
    }
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

impl Node {
    /// What it is, for a message.
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    pub(crate) fn wrong(&self, field: &str, expected: &'static str) -> Fault {
        let field = field.to_owned();
        self.span.fault(Problem::WrongType { field, expected, found: self.kind() })
    }

    pub(crate) fn text(&self, field: &str) -> Result<&str, Fault> {
        match &self.value {
            Value::Text(text) => Ok(text),
            Value::Number(_) | Value::Bool(_) => {
                Err(self.wrong(field, "a text (put it in quotes)"))
            }
            _ => Err(self.wrong(field, "a text")),
        }
    }

    /// A whole number from 0 to 2^64-1.
    pub(crate) fn u64(&self, field: &str) -> Result<u64, Fault> {
        const EXPECTED: &str = "a whole number that is not negative";
        match &self.value {
            Value::Number(text) => whole_number(text).ok_or_else(|| self.wrong(field, EXPECTED)),
            _ => Err(self.wrong(field, EXPECTED)),
        }
    }

    pub(crate) fn boolean(&self, field: &str) -> Result<bool, Fault> {
        match &self.value {
            Value::Bool(value) => Ok(*value),
            _ => Err(self.wrong(field, "true or false")),
        }
    }

    pub(crate) fn list(&self, field: &str) -> Result<&[Node], Fault> {
        match &self.value {
            Value::List(nodes) => Ok(nodes),
            _ => Err(self.wrong(field, "a list")),
        }
    }

    pub(crate) fn map(&self, field: &str) -> Result<&[Entry], Fault> {
        match &self.value {
            Value::Map(entries) => Ok(entries),
            _ => Err(self.wrong(field, "a mapping")),
        }
    }

    pub(crate) fn texts(&self, field: &str) -> Result<Vec<String>, Fault> {
        self.list(field)?.iter().map(|node| node.text(field).map(str::to_owned)).collect()
    }
}

/// A number as YAML writes it: decimal, `0x` or `0o`.
pub(crate) fn whole_number(text: &str) -> Option<u64> {
    if let Some(digits) = text.strip_prefix("0x") {
        u64::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))
    } else if let Some(digits) = text.strip_prefix("0o") {
        u64::from_str_radix(digits, 8).ok().filter(|_| !digits.starts_with('+'))
    } else {
        text.parse().ok().filter(|_| !text.starts_with('+'))
    }
}
