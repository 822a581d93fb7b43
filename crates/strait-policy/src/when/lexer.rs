//! The words of a condition.

use super::Radix;
use crate::text::{Fault, Problem, Span};

/// A word and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) span: Span,
    pub(super) word: Word,
}

/// The kinds of words.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Word {
    /// An argument, a constant, or `and`, `or`, `not`, `in`.
    Name(String),
    Number(u64, Radix),
    /// A sign, as it is written.
    Sign(&'static str),
    End,
}

/// Longer signs first.
const SIGNS: &[&str] =
    &["==", "!=", "<=", ">=", "<", ">", "&", "|", "~", "-", "(", ")", "{", "}", ","];

/// Splits a condition into words; the last is [`Word::End`].
pub(super) fn words(text: &str) -> Result<Vec<Token>, Fault> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        let length = if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        } else if c.is_ascii_alphabetic() || c == '_' {
            let length = word_length(rest);
            push(&mut tokens, at, length, Word::Name(rest[..length].to_owned()));
            length
        } else if c.is_ascii_digit() {
            let length = word_length(rest);
            let span = Span::new(at, at + length);
            let word = number(&rest[..length]).map_err(|problem| span.fault(problem))?;
            push(&mut tokens, at, length, word);
            length
        } else if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            let doubled = matches!(*sign, "&" | "|") && rest[1..].starts_with(sign);
            if doubled {
                let right = if *sign == "&" { "write `and`" } else { "write `or`" };
                return Err(meaningless(at, &rest[..2], right));
            }
            push(&mut tokens, at, sign.len(), Word::Sign(sign));
            sign.len()
        } else {
            let right = match c {
                '=' => "write `==`",
                '!' => "write `not`",
                '*' | '/' | '+' | '^' | '%' => "there is no arithmetic in conditions",
                '[' | ']' => "write lists as {A, B}",
                '"' | '\'' => "constants stand without quotes",
                _ => "a condition is made of arguments, constants and comparisons",
            };
            return Err(meaningless(at, &rest[..c.len_utf8()], right));
        };
        at += length;
    }
    push(&mut tokens, at, 0, Word::End);
    Ok(tokens)
}

fn push(tokens: &mut Vec<Token>, at: usize, length: usize, word: Word) {
    tokens.push(Token { span: Span::new(at, at + length), word });
}

fn meaningless(at: usize, what: &str, right: &str) -> Fault {
    let what = format!("`{what}` has no meaning here: {right}");
    let end = at + what.split('`').nth(1).map_or(1, str::len);
    Span::new(at, end).fault(Problem::Syntax { what })
}

fn word_length(text: &str) -> usize {
    text.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count()
}

fn number(text: &str) -> Result<Word, Problem> {
    let invalid = |right: String| Problem::Invalid { what: "number", value: text.into(), right };
    let (digits, base, radix) = if let Some(digits) = text.strip_prefix("0x") {
        (digits, 16, Radix::Hexadecimal)
    } else if let Some(digits) = text.strip_prefix("0X") {
        (digits, 16, Radix::Hexadecimal)
    } else if let Some(digits) = text.strip_prefix("0o") {
        (digits, 8, Radix::Octal)
    } else if text.len() > 1 && text.starts_with('0') {
        return Err(invalid(format!("write octal numbers as 0o{}", text.trim_start_matches('0'))));
    } else {
        (text, 10, Radix::Decimal)
    };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(base)) {
        let what = format!("`{text}` is no number: write 10, 0xa or 0o12");
        return Err(Problem::Syntax { what });
    }
    match u64::from_str_radix(digits, base) {
        Ok(value) => Ok(Word::Number(value, radix)),
        Err(_) => Err(invalid("an argument has 64 bits".to_owned())),
    }
}
