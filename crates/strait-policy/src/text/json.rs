//! JSON (RFC 8259) with places; strict, so that what other readers refuse is refused here.

use std::collections::BTreeSet;

use super::{Entry, Fault, MAX_DEPTH, MAX_VALUES, Node, Problem, Span, Value, whole_number};

/// Reads one JSON value with nothing but space around it.
pub(super) fn read(text: &str) -> Result<Node, Fault> {
    let text_from = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let mut reader = Reader { text, at: text_from, values: 0 };
    reader.space();
    if reader.at == text.len() {
        return Err(reader.here().fault(Problem::Empty { expected: "JSON value" }));
    }
    let node = reader.value(0)?;
    reader.space();
    if reader.at < text.len() {
        return Err(reader.syntax("the document ends before this"));
    }
    Ok(node)
}

/// Writes a value as JSON, its fields in their order.
impl serde::Serialize for Node {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.value {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::Number(text) => match whole_number(text) {
                Some(number) => serializer.serialize_u64(number),
                // No document of ours has other numbers; a text loses nothing.
                None => serializer.serialize_str(text),
            },
            Value::Text(text) => serializer.serialize_str(text),
            Value::List(nodes) => serializer.collect_seq(nodes),
            Value::Map(entries) => {
                serializer.collect_map(entries.iter().map(|entry| (&entry.key, &entry.node)))
            }
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    values: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn here(&self) -> Span {
        Span::new(self.at, (self.at + 1).min(self.text.len()))
    }

    fn syntax(&self, what: &str) -> Fault {
        self.here().fault(Problem::Syntax { what: what.to_owned() })
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Whether the next character is `byte`, which is then passed.
    fn pass(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn value(&mut self, depth: usize) -> Result<Node, Fault> {
        if depth > MAX_DEPTH {
            return Err(self.here().fault(Problem::TooDeep));
        }
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(self.here().fault(Problem::TooMany));
        }
        let start = self.at;
        let value = match self.peek() {
            Some(b'{') => self.map(depth)?,
            Some(b'[') => self.list(depth)?,
            Some(b'"') => Value::Text(self.string()?.into()),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't' | b'f' | b'n') => self.word()?,
            Some(b'#' | b'/') => return Err(self.syntax("JSON has no comments; remove this one")),
            Some(b'\'') => return Err(self.syntax("JSON puts texts in double quotes")),
            None => return Err(self.syntax("the document ends where a value was expected")),
            Some(_) => return Err(self.syntax("a JSON value was expected here")),
        };
        Ok(Node { span: Span::new(start, self.at), value })
    }

    fn word(&mut self) -> Result<Value, Fault> {
        for (word, value) in
            [("true", Value::Bool(true)), ("false", Value::Bool(false)), ("null", Value::Null)]
        {
            if self.text[self.at..].starts_with(word) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err(self.syntax("a JSON value was expected here; texts stand in double quotes"))
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.at - start
    }

    fn number(&mut self) -> Result<Value, Fault> {
        let start = self.at;
        self.pass(b'-');
        let leading_zero = self.peek() == Some(b'0');
        let digits = self.digits();
        if digits == 0 || leading_zero && digits > 1 {
            self.at = start;
            return Err(self.syntax("this is no JSON number"));
        }
        if self.pass(b'.') && self.digits() == 0 {
            return Err(self.syntax("digits were expected after the point"));
        }
        if self.pass(b'e') || self.pass(b'E') {
            let _signed = self.pass(b'+') || self.pass(b'-');
            if self.digits() == 0 {
                return Err(self.syntax("digits were expected in the exponent"));
            }
        }
        Ok(Value::Number(self.text[start..self.at].into()))
    }

    fn list(&mut self, depth: usize) -> Result<Value, Fault> {
        self.at += 1;
        let mut nodes = Vec::new();
        self.space();
        if self.pass(b']') {
            return Ok(Value::List(nodes));
        }
        loop {
            self.space();
            nodes.push(self.value(depth + 1)?);
            self.space();
            if self.pass(b']') {
                return Ok(Value::List(nodes));
            }
            if !self.pass(b',') {
                return Err(self.syntax("`,` or `]` was expected here"));
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, Fault> {
        self.at += 1;
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen = BTreeSet::new();
        self.space();
        if self.pass(b'}') {
            return Ok(Value::Map(entries));
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return Err(match self.peek() {
                    Some(b'#' | b'/') => self.syntax("JSON has no comments; remove this one"),
                    Some(b'}') => self.syntax("remove the comma before this `}`"),
                    _ => self.syntax("a key in double quotes was expected here"),
                });
            }
            let start = self.at;
            let key: Box<str> = self.string()?.into();
            let key_span = Span::new(start, self.at);
            if !seen.insert(key.clone()) {
                return Err(key_span.fault(Problem::DuplicateKey { key: key.into() }));
            }
            self.space();
            if !self.pass(b':') {
                return Err(self.syntax("`:` was expected here"));
            }
            self.space();
            let node = self.value(depth + 1)?;
            entries.push(Entry { key_span, key, node });
            self.space();
            if self.pass(b'}') {
                return Ok(Value::Map(entries));
            }
            if !self.pass(b',') {
                return Err(self.syntax("`,` or `}` was expected here"));
            }
        }
    }

    fn string(&mut self) -> Result<String, Fault> {
        self.at += 1;
        let mut string = String::new();
        loop {
            let plain = self.text.as_bytes()[self.at..]
                .iter()
                .take_while(|&&byte| byte != b'"' && byte != b'\\' && byte >= 0x20)
                .count();
            string.push_str(&self.text[self.at..self.at + plain]);
            self.at += plain;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(string);
                }
                Some(b'\\') => string.push(self.escape()?),
                Some(_) => return Err(self.syntax("a control character must be escaped")),
                None => return Err(self.syntax("the document ends within a text")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Fault> {
        let escaped = self.text.as_bytes().get(self.at + 1).copied();
        let plain = match escaped {
            Some(b @ (b'"' | b'\\' | b'/')) => char::from(b),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.code_point(),
            _ => return Err(self.syntax("this is no JSON escape")),
        };
        self.at += 2;
        Ok(plain)
    }

    /// `\uXXXX`, or two of them for a surrogate pair.
    fn code_point(&mut self) -> Result<char, Fault> {
        let start = self.at;
        let high = self.unit()?;
        let code = if (0xd800..0xdc00).contains(&high) {
            match self.unit() {
                Ok(low) if (0xdc00..0xe000).contains(&low) => {
                    0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)
                }
                _ => high,
            }
        } else {
            high
        };
        char::from_u32(code).ok_or_else(|| {
            self.at = start;
            self.syntax("this escape is half of a surrogate pair")
        })
    }

    fn unit(&mut self) -> Result<u32, Fault> {
        let digits = self.text.as_bytes().get(self.at..self.at + 6);
        let unit = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| digits.strip_prefix("\\u"))
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|digits| u32::from_str_radix(digits, 16).ok());
        match unit {
            Some(unit) => {
                self.at += 6;
                Ok(unit)
            }
            None => Err(self.syntax("`\\u` needs four hexadecimal digits")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> (String, usize) {
        let error = read(text).unwrap_err().in_text(text);
        (error.problem.to_string(), error.place.column)
    }

    #[test]
    fn values_have_their_spans() {
        let text = r#" {"a": [1, "x\u00e9\ud83d\ude00"], "b": null}"#;
        let node = read(text).unwrap();
        let entries = node.map("").unwrap();
        let list = entries[0].node.list("").unwrap();
        assert_eq!(list[1].text("").unwrap(), "xé😀");
        assert_eq!(list[1].span, Span::new(11, 32));
        assert_eq!(entries[1].node.value, Value::Null);
    }

    #[test]
    fn what_is_no_json_is_refused_with_its_place() {
        assert_eq!(problem("{\"a\": 1} # x"), ("the document ends before this".into(), 10));
        assert_eq!(problem("{ # x\n}").1, 3);
        assert!(problem("{ # x\n}").0.contains("no comments"));
        assert!(problem("[1,]").0.contains("expected here"));
        assert!(problem("{\"a\":1,}").0.contains("remove the comma"));
        assert!(problem("{\"a\":1,\"a\":2}").0.contains("given twice"));
        assert!(problem("01").0.contains("no JSON number"));
        assert!(problem("\"\\ud800\"").0.contains("surrogate"));
        assert!(problem("\"\\u12é\"").0.contains("four hexadecimal"));
        assert!(problem("").0.contains("empty"));
        assert!(problem(&"[".repeat(1000)).0.contains("128"));
    }
}
