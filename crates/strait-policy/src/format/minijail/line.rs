//! Lines of a `.policy` file, and their tokens.

use crate::text::{Line, Problem, Span, lines};

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A name, a number, or `@` and a name.
    Word,
    /// `==`, `{` and the like.
    Sign(&'static str),
    /// A file's name.
    Path,
    End,
}

/// A token of a line.
#[derive(Clone, Debug)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
    pub(super) span: Span,
    /// Whether blanks stand before it.
    pub(super) spaced: bool,
}

/// The lines that say something: joined where one ends with a backslash, without those that are
/// comments.
pub(super) fn statements(text: &str) -> impl Iterator<Item = Line> {
    let mut lines = lines(text);
    std::iter::from_fn(move || {
        let mut joined: Option<Line> = None;
        for (at, line) in lines.by_ref() {
            let begins = joined.is_none();
            let content = line.trim_ascii();
            if begins && (content.is_empty() || content.starts_with('#')) && !line.ends_with('\\') {
                continue;
            }
            let into = joined.get_or_insert_default();
            let Some(content) = line.strip_suffix('\\') else {
                into.push(line, at);
                break;
            };
            into.push(content, at);
            into.push(" ", at + content.len());
        }
        joined
    })
}

/// Longer ones first.
const SIGNS: &[&str] = &[
    "||", "&&", "==", "!=", "<=", ">=", "<", ">", "&", "|", "~", "(", ")", "{", "}", "[", "]", ":",
    ";", ",", "=",
];

/// The tokens of a line, the last of which is its end; and whether a comment ends it.
pub(super) fn tokens(line: &Line) -> Result<(Vec<Token<'_>>, bool), (Span, Problem)> {
    let text = line.text();
    let mut tokens = Vec::new();
    let (mut at, mut spaced, mut comment) = (0, false, false);
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        if first.is_ascii_whitespace() {
            spaced = true;
            at += 1;
            continue;
        }
        if first == '#' {
            comment = true;
            break;
        }
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '@' | '.');
        let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign)).copied();
        let (kind, length) = if first == '/' || rest.starts_with("./") {
            (Kind::Path, rest.find(|c: char| c.is_ascii_whitespace()).unwrap_or(rest.len()))
        } else if is_part(first) {
            (Kind::Word, rest.find(|c| !is_part(c)).unwrap_or(rest.len()))
        } else if let Some(sign) = sign {
            (Kind::Sign(sign), sign.len())
        } else {
            let what = format!("{first:?} has no meaning here");
            return Err((line.span(at..at + first.len_utf8()), Problem::Syntax { what }));
        };
        let span = line.span(at..at + length);
        tokens.push(Token { kind, text: &rest[..length], span, spaced });
        spaced = false;
        at += length;
    }
    let end = line.span(at..at);
    tokens.push(Token { kind: Kind::End, text: "", span: end, spaced });
    Ok((tokens, comment))
}
