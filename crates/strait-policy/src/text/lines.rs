//! Lines of a text, and where each part of them stands in it.

use std::ops::Range;

use super::{Place, Span};

/// A line as a format's reader sees it: one of the text, or several that were joined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    text: String,
    /// For each piece where it begins, in the line and in the text.
    pieces: Vec<(usize, usize)>,
}

impl Line {
    /// Adds what stands at `at` in the text.
    pub(crate) fn push(&mut self, piece: &str, at: usize) {
        self.pieces.push((self.text.len(), at));
        self.text.push_str(piece);
    }

    /// What it says.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Where a part of it stands.
    pub(crate) fn span(&self, part: Range<usize>) -> Span {
        let start = self.at(part.start);
        // A part that goes over a joint is pointed at up to there.
        let end = self.at(part.end.saturating_sub(1)) + 1;
        if part.is_empty() { Span::new(start, start) } else { Span::new(start, end.max(start)) }
    }

    /// The words of a part of it, which blanks separate, each with its range.
    pub(crate) fn words(&self, part: Range<usize>) -> impl Iterator<Item = (Range<usize>, &str)> {
        let text = &self.text[part.clone()];
        let base = part.start;
        text.split_ascii_whitespace().map(move |word| {
            // A word is a part of the text that it was split from.
            let start = base + word.as_ptr().addr() - text.as_ptr().addr();
            (start..start + word.len(), word)
        })
    }

    /// A part of it without the blanks around it.
    pub(crate) fn trimmed(&self, part: Range<usize>) -> Range<usize> {
        let text = &self.text[part.clone()];
        let start = part.start + text.len() - text.trim_ascii_start().len();
        start..start + text.trim_ascii().len()
    }

    fn at(&self, offset: usize) -> usize {
        let after = self.pieces.partition_point(|(start, _)| *start <= offset);
        match after.checked_sub(1).and_then(|index| self.pieces.get(index)) {
            Some((start, at)) => at + (offset - start),
            None => 0,
        }
    }
}

/// The lines of a text with their offsets, without what ends them: LF, CR LF, or CR.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut rest = Some(0);
    std::iter::from_fn(move || {
        let start = rest?;
        let tail = &text[start..];
        let end = tail.find(['\n', '\r']);
        rest = end.map(|end| start + end + if tail[end..].starts_with("\r\n") { 2 } else { 1 });
        rest = rest.filter(|&next| next < text.len());
        (start < text.len()).then(|| (start, &tail[..end.unwrap_or(tail.len())]))
    })
}

/// Finds places quickly where many are needed: each costs the length of its line only.
pub(crate) struct LineIndex<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> LineIndex<'a> {
    /// Reads where the lines of `text` begin.
    pub(crate) fn new(text: &'a str) -> LineIndex<'a> {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        LineIndex { text, starts: std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect() }
    }

    /// The span in lines and columns.
    pub(crate) fn place(&self, span: Span) -> Place {
        let Range { start, end } = span.range(self.text);
        let line = self.starts.partition_point(|&line| line <= start);
        let before = line.checked_sub(1).and_then(|index| self.starts.get(index));
        let column = self.text[before.copied().unwrap_or(0)..start].chars().count() + 1;
        Place { line, column, start, end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_in_any_of_three_ways() {
        let lines: Vec<_> = lines("a\nb\r\nc\rd\n\ne").collect();
        assert_eq!(lines, [(0, "a"), (2, "b"), (5, "c"), (7, "d"), (9, ""), (10, "e")]);
        assert_eq!(super::lines("").count(), 0);
    }

    #[test]
    fn parts_of_joined_lines_are_found() {
        let text = "k = one \\\n  two three";
        let mut line = Line::default();
        line.push("k = one  ", 0);
        line.push("two three", 12);
        let words: Vec<_> = line.words(3..line.text().len()).collect();
        assert_eq!(
            words.iter().map(|(_, word)| *word).collect::<Vec<_>>(),
            ["one", "two", "three"]
        );
        for (range, word) in words {
            assert_eq!(&text[line.span(range).range(text)], word);
        }
        assert_eq!(line.trimmed(3..9), 4..7);
    }

    #[test]
    fn the_index_finds_what_counting_finds() {
        let text = "é\nxy\r\nz\n\n";
        let index = LineIndex::new(text);
        for start in 0..=text.len() {
            let span = Span::new(start, start);
            assert_eq!(index.place(span), span.place(text));
        }
    }
}
