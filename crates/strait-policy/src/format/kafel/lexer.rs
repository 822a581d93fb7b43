//! Tokens of a Kafel policy, those of the files that it includes among them.

use crate::format::{FormatError, Target};
use crate::text::{Fault, MAX_VALUES, Problem, Span, check_size};

/// How deep files may include each other.
const MAX_INCLUDES: usize = 16;
/// How many files may be included.
const MAX_FILES: usize = 1024;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    Word(&'a str),
    Number(u64),
    /// `==`, `&&`, `{` and the like.
    Sign(&'static str),
    End,
}

/// A token, and where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind<'a>,
    pub(super) span: Span,
    /// Index of the file; 0 is the policy itself.
    pub(super) file: usize,
}

/// The texts that tokens stand in.
pub(super) struct Files<'a> {
    /// Name and text.
    files: Vec<(&'a str, &'a str)>,
}

impl Files<'_> {
    /// The error that a fault in a file is.
    pub(super) fn error(&self, file: usize, fault: Fault) -> FormatError {
        let (name, text) = self.files[file];
        let error = fault.in_text(text);
        if file == 0 {
            error.into()
        } else {
            FormatError::Included { name: name.to_owned(), source: error }
        }
    }

    /// What a token says.
    pub(super) fn text(&self, token: &Token<'_>) -> &str {
        let (_, text) = self.files[token.file];
        &text[token.span.range(text)]
    }
}

/// The tokens of a policy, the last of which is its end.
pub(super) fn tokens<'a>(
    text: &'a str,
    target: &'a Target,
) -> Result<(Files<'a>, Vec<Token<'a>>), FormatError> {
    let files = Files { files: vec![("", text)] };
    let mut lexer = Lexer { target, files, tokens: Vec::new(), included: 0 };
    lexer.read(0, 0)?;
    let end = Span::new(text.len(), text.len());
    lexer.tokens.push(Token { kind: Kind::End, span: end, file: 0 });
    Ok((lexer.files, lexer.tokens))
}

/// Longer ones first.
const SIGNS: &[&str] = &[
    "==", "!=", "<=", ">=", "||", "&&", "<", ">", "|", "&", "[", "]", "(", ")", "{", "}", ",", "!",
    "#",
];

struct Lexer<'a> {
    target: &'a Target,
    files: Files<'a>,
    tokens: Vec<Token<'a>>,
    /// How many files were included.
    included: usize,
}

impl<'a> Lexer<'a> {
    /// Reads one file, at a depth of including.
    fn read(&mut self, file: usize, depth: usize) -> Result<(), FormatError> {
        let (_, text) = self.files.files[file];
        check_size(text).map_err(|fault| self.files.error(file, fault))?;
        let mut at = 0;
        while let Some(first) = text[at..].chars().next() {
            let rest = &text[at..];
            let span = |length: usize| Span::new(at, at + length);
            if matches!(first, ' ' | '\t' | '\n') {
                at += 1;
            } else if rest.starts_with("//") {
                at += rest.find('\n').unwrap_or(rest.len());
            } else if rest.starts_with("/*") {
                at += comment(rest).ok_or_else(|| {
                    let what = "this comment does not end".to_owned();
                    self.files.error(file, span(2).fault(Problem::Syntax { what }))
                })?;
            } else if let Some(line) = rest.strip_prefix("#include") {
                let end = self.include(file, at + rest.len() - line.len(), depth)?;
                at = end;
            } else if first.is_ascii_digit() || first == '-' {
                let (length, number) = number(rest);
                let number = number
                    .map_err(|problem| self.files.error(file, span(length).fault(problem)))?;
                self.push(Kind::Number(number), span(length), file)?;
                at += length;
            } else if first.is_ascii_alphabetic() {
                let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
                self.push(Kind::Word(&rest[..length]), span(length), file)?;
                at += length;
            } else if let Some(&sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
                self.push(Kind::Sign(sign), span(sign.len()), file)?;
                at += sign.len();
            } else {
                let what = format!("{first:?} has no meaning in a Kafel policy");
                let fault = span(first.len_utf8()).fault(Problem::Syntax { what });
                return Err(self.files.error(file, fault));
            }
        }
        Ok(())
    }

    fn push(&mut self, kind: Kind<'a>, span: Span, file: usize) -> Result<(), FormatError> {
        if self.tokens.len() >= MAX_VALUES {
            return Err(self.files.error(file, span.fault(Problem::TooMany)));
        }
        self.tokens.push(Token { kind, span, file });
        Ok(())
    }

    /// Reads the files of an `#include`, whose names begin at `at`; returns where the line ends.
    fn include(&mut self, file: usize, at: usize, depth: usize) -> Result<usize, FormatError> {
        let (_, text) = self.files.files[file];
        let mut at = at;
        let mut spaced = false;
        loop {
            let rest = &text[at..];
            let wrong = |length: usize| {
                let what = "`#include` takes names in quotes, after a blank".to_owned();
                Span::new(at, at + length).fault(Problem::Syntax { what })
            };
            match rest.bytes().next() {
                Some(b' ' | b'\t') => {
                    spaced = true;
                    at += 1;
                }
                Some(b'\n' | b';') => return Ok(at + 1),
                Some(b'"') if spaced => {
                    let Some(length) = rest[1..].find('"').filter(|length| *length > 0) else {
                        return Err(self.files.error(file, wrong(1)));
                    };
                    let (name, span) = (&rest[1..=length], Span::new(at, at + length + 2));
                    self.read_included(name, span, file, depth)?;
                    spaced = false;
                    at += length + 2;
                }
                _ => return Err(self.files.error(file, wrong(0))),
            }
        }
    }

    fn read_included(
        &mut self,
        name: &'a str,
        span: Span,
        file: usize,
        depth: usize,
    ) -> Result<(), FormatError> {
        if depth >= MAX_INCLUDES {
            let what = format!("files include each other more than {MAX_INCLUDES} deep");
            return Err(self.files.error(file, span.fault(Problem::Syntax { what })));
        }
        let target = self.target;
        let Some(text) = target.files.get(name) else {
            let (_, text) = self.files.files[file];
            return Err(FormatError::MissingFile {
                name: name.to_owned(),
                place: span.place(text),
            });
        };
        // Even files without tokens must not be read too often.
        self.included += 1;
        if self.included > MAX_FILES {
            return Err(self.files.error(file, span.fault(Problem::TooMany)));
        }
        let known = self.files.files.iter().position(|(known, _)| *known == name);
        let index = known.unwrap_or_else(|| {
            self.files.files.push((name, text));
            self.files.files.len() - 1
        });
        self.read(index, depth + 1)
    }
}

/// How long the comment is with which the text begins. In `**/` Kafel takes both stars together, so
/// that does not end it.
fn comment(text: &str) -> Option<usize> {
    let mut at = 2;
    loop {
        at += text[at..].find('*')?;
        match text[at + 1..].chars().next()? {
            '/' => return Some(at + 2),
            next => at += 1 + next.len_utf8(),
        }
    }
}

/// The number with which the text begins: how long it is, and its value.
fn number(text: &str) -> (usize, Result<u64, Problem>) {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let length = digits.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(digits.len());
    let digits = &digits[..length];
    let length = length + usize::from(text.starts_with('-'));
    let (radix, rest) = match digits.as_bytes() {
        [b'0', b'x', ..] => (16, &digits[2..]),
        [b'0', b'b', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    let negative = text.starts_with('-');
    let value = u64::from_str_radix(rest, radix).ok().filter(|_| !rest.is_empty());
    let invalid = || Problem::Invalid {
        what: "number",
        value: text[..length].to_owned(),
        right: "it is decimal, 0x, 0b, or octal after a 0, and has 64 bits".to_owned(),
    };
    // Only a decimal number can be negative.
    let wrong_sign = negative && (radix != 10 || digits == "0");
    match value.filter(|_| !wrong_sign) {
        Some(value) if negative => (length, Ok(value.wrapping_neg())),
        value => (length, value.ok_or_else(invalid)),
    }
}
