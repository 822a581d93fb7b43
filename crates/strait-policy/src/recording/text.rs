//! Bytes that programs and users chose, as a recording writes them: names of files, for one, may be any.

use std::fmt::Write as _;

/// Bytes as text: what is not printable UTF-8, and the backslash, as `\xNN`.
pub fn text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            if char == '\\' || char.is_control() {
                let mut buffer = [0; 4];
                char.encode_utf8(&mut buffer).bytes().for_each(|byte| hex(&mut text, byte));
            } else {
                text.push(char);
            }
        }
        chunk.invalid().iter().for_each(|&byte| hex(&mut text, byte));
    }
    text
}

fn hex(text: &mut String, byte: u8) {
    // A string takes whatever is written to it.
    let _ = write!(text, "\\x{byte:02x}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_are_text_that_says_which() {
        assert_eq!(text(b"/usr/bin/caf\xc3\xa9"), "/usr/bin/caf\u{e9}");
        assert_eq!(text(b"a\nb\xffc\\d\xc3"), r"a\x0ab\xffc\x5cd\xc3");
    }
}
