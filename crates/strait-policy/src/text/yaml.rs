//! YAML 1.2 with places: the core schema, aliases followed, no tags, one document.

use std::collections::{BTreeMap, BTreeSet};

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, Span as ParserSpan, Tag};

use super::{Entry, Fault, MAX_DEPTH, MAX_VALUES, Node, Problem, Span, Value};

/// Reads one YAML document.
pub(super) fn read(text: &str) -> Result<Node, Fault> {
    let mut reader = Reader {
        parser: Parser::new_from_str(text),
        anchors: BTreeMap::new(),
        values: 0,
        followed: false,
    };
    let mut root = None;
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
            Event::StreamEnd => break,
            _ if root.is_some() => return Err(to_span(&span).fault(Problem::SecondDocument)),
            event => root = Some(reader.node(event, &span, 0)?),
        }
    }
    let empty = || Span::default().fault(Problem::Empty { expected: "YAML document" });
    root.filter(|root| root.value != Value::Null).ok_or_else(empty)
}

struct Reader<'a> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    anchors: BTreeMap<usize, (Node, usize)>,
    values: usize,
    followed: bool,
}

impl<'a> Reader<'a> {
    /// The next event that is no comment.
    fn next(&mut self) -> Result<(Event<'a>, ParserSpan), Fault> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                let at = error.marker().byte_offset().unwrap_or_default();
                let problem = match error.kind() {
                    ErrorKind::RecursionLimitExceeded => Problem::TooDeep,
                    _ => Problem::Syntax { what: error.info() },
                };
                Err(Span::new(at, at + 1).fault(problem))
            }
            None => Ok((Event::StreamEnd, ParserSpan::default())),
        }
    }

    /// Counts `count` more values.
    fn count(&mut self, span: Span, count: usize) -> Result<(), Fault> {
        self.values = self.values.saturating_add(count);
        match (self.values > MAX_VALUES, self.followed) {
            (false, _) => Ok(()),
            (true, true) => Err(span.fault(Problem::AliasesExplode)),
            (true, false) => Err(span.fault(Problem::TooMany)),
        }
    }

    /// The node that begins with `event`.
    fn node(&mut self, event: Event<'a>, at: &ParserSpan, depth: usize) -> Result<Node, Fault> {
        let span = to_span(at);
        if depth > MAX_DEPTH {
            return Err(span.fault(Problem::TooDeep));
        }
        let before = self.values;
        self.count(span, 1)?;
        let (node, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = check_tag(span, tag.as_deref())?;
                let plain = matches!(style, ScalarStyle::Plain) && !is_text;
                let value = if plain { resolve(&text) } else { Value::Text(text.into()) };
                (Node { span, value }, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                check_tag(span, tag.as_deref())?;
                (self.list(span, depth)?, anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                check_tag(span, tag.as_deref())?;
                (self.map(span, depth)?, anchor)
            }
            Event::Alias(id) => {
                self.followed = true;
                let Some((node, size)) = self.anchors.get(&id).cloned_if_small(self.values) else {
                    return Err(span.fault(Problem::AliasesExplode));
                };
                if depth + height(&node) > MAX_DEPTH {
                    return Err(span.fault(Problem::TooDeep));
                }
                self.count(span, size)?;
                (Node { span, value: node.value }, 0)
            }
            _ => {
                let what = "a value was expected here".to_owned();
                return Err(span.fault(Problem::Syntax { what }));
            }
        };
        if anchor != 0 {
            let size = self.values - before;
            self.count(span, size)?;
            self.anchors.insert(anchor, (node.clone(), size));
        }
        Ok(node)
    }

    fn list(&mut self, start: Span, depth: usize) -> Result<Node, Fault> {
        let mut nodes = Vec::new();
        loop {
            let (event, at) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                let span = Span { start: start.start, end: to_span(&at).end };
                return Ok(Node { span, value: Value::List(nodes) });
            }
            nodes.push(self.node(event, &at, depth + 1)?);
        }
    }

    fn map(&mut self, start: Span, depth: usize) -> Result<Node, Fault> {
        let mut entries = Vec::new();
        let mut seen = BTreeSet::new();
        loop {
            let (event, at) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                let span = Span { start: start.start, end: to_span(&at).end };
                return Ok(Node { span, value: Value::Map(entries) });
            }
            let key_span = to_span(&at);
            let Event::Scalar(key, ..) = event else {
                let what = "a key must be a plain text".to_owned();
                return Err(key_span.fault(Problem::Syntax { what }));
            };
            let key: Box<str> = key.into();
            if !seen.insert(key.clone()) {
                return Err(key_span.fault(Problem::DuplicateKey { key: key.into() }));
            }
            let (event, at) = self.next()?;
            let node = self.node(event, &at, depth + 1)?;
            entries.push(Entry { key_span, key, node });
        }
    }
}

/// Cloning an anchored node only if that stays within the limit.
trait ClonedIfSmall {
    fn cloned_if_small(self, values: usize) -> Option<(Node, usize)>;
}

impl ClonedIfSmall for Option<&(Node, usize)> {
    fn cloned_if_small(self, values: usize) -> Option<(Node, usize)> {
        self.filter(|(_, size)| values.saturating_add(*size) <= MAX_VALUES).cloned()
    }
}

/// How many levels are below a node; its nesting is bounded by [`MAX_DEPTH`].
fn height(node: &Node) -> usize {
    match &node.value {
        Value::List(nodes) => 1 + nodes.iter().map(height).max().unwrap_or(0),
        Value::Map(entries) => {
            1 + entries.iter().map(|entry| height(&entry.node)).max().unwrap_or(0)
        }
        _ => 0,
    }
}

fn to_span(span: &ParserSpan) -> Span {
    span.byte_range().map_or(Span::default(), |range| Span::new(range.start, range.end))
}

/// Whether the tag says that the scalar is a text.
fn check_tag(span: Span, tag: Option<&Tag>) -> Result<bool, Fault> {
    match tag {
        None => Ok(false),
        Some(tag) if tag.is_yaml_core_schema_tag("str") => Ok(true),
        Some(tag) => Err(span.fault(Problem::Tag { tag: tag.original() })),
    }
}

/// What a plain scalar means (YAML 1.2.2, 10.3.2: the core schema).
fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ if is_number(text) => Value::Number(text.into()),
        _ => Value::Text(text.into()),
    }
}

/// Whether the text may stand in a document as it is, in any style, and is read as a text.
///
/// Deliberately narrower than YAML's plain scalars, and never what YAML 1.1 takes for a boolean:
/// a document that another reader takes differently is worth less than a few quotes.
pub(crate) fn is_plain(text: &str) -> bool {
    const BOOLEANS: &[&str] = &["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '_');
    let inner = |c: char| c.is_ascii_alphanumeric() || "_-./()+@%^=".contains(c);
    let colon_safe = !text.split(':').any(|part| part.is_empty() || part.starts_with(' '));
    starts_well
        && colon_safe
        && text.chars().all(|c| inner(c) || c == ':')
        && !BOOLEANS.contains(&text.to_ascii_lowercase().as_str())
}

fn is_number(text: &str) -> bool {
    let all =
        |digits: &str, is: fn(&u8) -> bool| !digits.is_empty() && digits.as_bytes().iter().all(is);
    if let Some(digits) = text.strip_prefix("0o") {
        return all(digits, |byte| (b'0'..=b'7').contains(byte));
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return all(digits, u8::is_ascii_hexdigit);
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        None => (unsigned, None),
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
    };
    let digits = mantissa.replacen('.', "", 1);
    all(&digits, u8::is_ascii_digit)
        && exponent.is_none_or(|exponent| {
            all(exponent.strip_prefix(['-', '+']).unwrap_or(exponent), u8::is_ascii_digit)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> Problem {
        *read(text).unwrap_err().problem
    }

    #[test]
    fn places_are_those_of_the_text() {
        let text = "a: é\nlist:\n  - [x, y]\n  - 6.10 # number\n";
        let node = read(text).unwrap();
        let list = node.map("").unwrap()[1].node.list("").unwrap();
        let place = list[1].span.place(text);
        assert_eq!((place.line, place.column, &text[place.start..place.end]), (4, 5, "6.10"));
        assert_eq!(list[1].value, Value::Number("6.10".into()));
    }

    #[test]
    fn aliases_are_followed_and_may_not_explode() {
        let node = read("a: &x [1, 2]\nb: *x\n").unwrap();
        let entries = node.map("").unwrap();
        assert_eq!(entries[1].node.list("").unwrap().len(), 2);
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..12 {
            let aliases = vec![format!("*a{}", i - 1); 10].join(", ");
            bomb.push_str(&format!("a{i}: &a{i} [{aliases}]\n"));
        }
        assert_eq!(problem(&bomb), Problem::AliasesExplode);
        let mut tower = "a0: &a0 [x]\n".to_owned();
        for i in 1..300 {
            tower.push_str(&format!("a{i}: &a{i} [*a{}]\n", i - 1));
        }
        assert_eq!(problem(&tower), Problem::TooDeep);
    }

    #[test]
    fn what_is_refused_is_refused_by_name() {
        for depth in [130, 1000] {
            let nested = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
            assert_eq!(problem(&nested), Problem::TooDeep, "{depth} levels");
        }
        let block: String = (0..1000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
        assert_eq!(problem(&block), Problem::TooDeep);
        assert_eq!(problem(""), Problem::Empty { expected: "YAML document" });
        assert_eq!(problem("# only this\n"), Problem::Empty { expected: "YAML document" });
        assert_eq!(problem("a: 1\n---\nb: 2\n"), Problem::SecondDocument);
        assert_eq!(problem("a: 1\na: 2\n"), Problem::DuplicateKey { key: "a".into() });
        assert!(matches!(problem("a: !x 1\n"), Problem::Tag { .. }));
        assert!(matches!(problem("a: [1\n"), Problem::Syntax { .. }));
        assert!(matches!(problem("a: *nope\n"), Problem::Syntax { .. }));
    }
}
