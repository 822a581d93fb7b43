//! Programs as bytes and as arrays in source code.
//!
//! A program file is an array of `struct sock_filter`: `u16 code; u8 jt; u8 jf; u32 k`, in the
//! byte order of the machine that it is for. The last instruction is a return, whose code is not
//! the same backwards, so a file always shows its byte order.

use std::fmt::{self, Write};

use crate::{ByteOrder, Insn, Program, ProgramError};

/// Why bytes or text are no program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The length is no multiple of an instruction's.
    #[error(
        "instruction {index} is cut off: {len} bytes are no multiple of the 8 that each instruction \
         takes"
    )]
    Truncated {
        /// The length in bytes.
        len: usize,
        /// The instruction that is not whole.
        index: usize,
    },
    /// The program is one, but for machines of the other byte order.
    #[error("the program is in {found} byte order, and {expected} is asked for")]
    ByteOrder {
        /// The byte order asked for.
        expected: ByteOrder,
        /// The byte order of the program.
        found: ByteOrder,
    },
    /// A character that is no hexadecimal digit.
    #[error("line {line}: `{found}` is no hexadecimal digit")]
    Digit {
        /// The line, from 1.
        line: usize,
        /// The character.
        found: char,
    },
    /// An entry of an array that is not four numbers.
    #[error("array entry {index}: {problem}; expected `{{ code, jt, jf, k }}`")]
    Entry {
        /// The entry, from 0.
        index: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// The instructions are no program.
    #[error("no program that the kernel would accept")]
    Program(#[from] ProgramError),
}

impl fmt::Display for ByteOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ByteOrder::Little => "little-endian",
            ByteOrder::Big => "big-endian",
        })
    }
}

/// The bytes of one instruction.
const SIZE: usize = 8;

impl Program {
    /// Reads an array of `struct sock_filter` of either byte order, which it shows.
    ///
    /// # Errors
    /// If it is none; what is said of it is then said of the byte order in which fewer codes are
    /// senseless.
    pub fn from_bytes(bytes: &[u8]) -> Result<Program, FileError> {
        let order = byte_order(bytes);
        Ok(Program::with_byte_order(insns(bytes, order)?, order)?)
    }

    /// Reads an array of `struct sock_filter` of this byte order.
    ///
    /// # Errors
    /// If it is none; a program of the other byte order is named as such.
    pub fn from_bytes_in(bytes: &[u8], expected: ByteOrder) -> Result<Program, FileError> {
        let found = byte_order(bytes);
        let program =
            insns(bytes, expected).and_then(|insns| Ok(Program::with_byte_order(insns, expected)?));
        match program {
            Err(FileError::Program(_))
                if found != expected && Program::from_bytes(bytes).is_ok() =>
            {
                Err(FileError::ByteOrder { expected, found })
            }
            result => result,
        }
    }

    /// The array of `struct sock_filter`, in the program's own byte order.
    pub fn to_bytes(&self) -> Vec<u8> {
        let big = self.byte_order() == ByteOrder::Big;
        self.insns()
            .iter()
            .flat_map(|insn| {
                let (code, k) = if big {
                    (insn.code.to_be_bytes(), insn.k.to_be_bytes())
                } else {
                    (insn.code.to_le_bytes(), insn.k.to_le_bytes())
                };
                [code[0], code[1], insn.jt, insn.jf, k[0], k[1], k[2], k[3]]
            })
            .collect()
    }

    /// The bytes in hexadecimal, one instruction a line.
    pub fn to_hex(&self) -> String {
        let mut text = String::new();
        for insn in self.to_bytes().chunks(SIZE) {
            for byte in insn {
                // Writing to a string does not fail.
                let _ = write!(text, "{byte:02x}");
            }
            text.push('\n');
        }
        text
    }

    /// Reads [`Program::to_hex`]: hexadecimal digits with any white space between them.
    ///
    /// # Errors
    /// If there is anything else, or the bytes are no program.
    pub fn from_hex(text: &str) -> Result<Program, FileError> {
        let mut digits = Vec::new();
        for (line, content) in text.lines().enumerate() {
            for found in content.chars().filter(|c| !c.is_whitespace()) {
                let digit = found.to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                digits.push(digit.ok_or(FileError::Digit { line: line + 1, found })?);
            }
        }
        if !digits.len().is_multiple_of(2) {
            let len = digits.len() / 2;
            return Err(FileError::Truncated { len, index: len / SIZE });
        }
        let bytes: Vec<u8> = digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect();
        Program::from_bytes(&bytes)
    }

    /// A C array of `struct sock_filter` with this name.
    pub fn to_c(&self, name: &str) -> String {
        let mut text = format!("static const struct sock_filter {name}[] = {{\n");
        for Insn { code, jt, jf, k } in self.insns() {
            let _ = writeln!(text, "\t{{ {code:#06x}, {jt}, {jf}, {k:#010x} }},");
        }
        text.push_str("};\n");
        text
    }

    /// A Rust array of `libc::sock_filter` with this name.
    pub fn to_rust(&self, name: &str) -> String {
        let len = self.insns().len();
        let mut text = format!("static {name}: [libc::sock_filter; {len}] = [\n");
        for Insn { code, jt, jf, k } in self.insns() {
            let _ = writeln!(
                text,
                "    libc::sock_filter {{ code: {code:#06x}, jt: {jt}, jf: {jf}, k: {k:#010x} }},"
            );
        }
        text.push_str("];\n");
        text
    }

    /// Reads a C or Rust array: every innermost pair of braces holds four numbers (`code`, `jt`,
    /// `jf`, `k`), decimal or hexadecimal, which may be named as in Rust.
    ///
    /// Arrays in source code are of no byte order; `order` is that of the machine.
    ///
    /// # Errors
    /// If an entry is anything else (a macro, say), or the instructions are no program.
    pub fn from_array(text: &str, order: ByteOrder) -> Result<Program, FileError> {
        let text = without_comments(text);
        let mut insns = Vec::new();
        for piece in text.split('}') {
            let Some((_, entry)) = piece.rsplit_once('{') else { continue };
            let index = insns.len();
            insns.push(entry_insn(entry).map_err(|problem| FileError::Entry { index, problem })?);
        }
        Ok(Program::with_byte_order(insns, order)?)
    }
}

/// The instructions in the bytes.
fn insns(bytes: &[u8], order: ByteOrder) -> Result<Vec<Insn>, FileError> {
    let len = bytes.len();
    if !len.is_multiple_of(SIZE) {
        return Err(FileError::Truncated { len, index: len / SIZE });
    }
    if len / SIZE > Program::MAX_LEN {
        return Err(ProgramError::Length { len: len / SIZE }.into());
    }
    Ok(bytes.as_chunks::<SIZE>().0.iter().map(|&insn| decode(insn, order)).collect())
}

fn decode([c0, c1, jt, jf, k @ ..]: [u8; SIZE], order: ByteOrder) -> Insn {
    match order {
        ByteOrder::Little => {
            Insn { code: u16::from_le_bytes([c0, c1]), jt, jf, k: u32::from_le_bytes(k) }
        }
        ByteOrder::Big => {
            Insn { code: u16::from_be_bytes([c0, c1]), jt, jf, k: u32::from_be_bytes(k) }
        }
    }
}

/// The byte order in which more codes make sense: all legal ones are below 256.
fn byte_order(bytes: &[u8]) -> ByteOrder {
    let (mut little, mut big) = (0usize, 0usize);
    for code in bytes.as_chunks::<SIZE>().0 {
        little += usize::from(code[0] != 0 && code[1] == 0);
        big += usize::from(code[0] == 0 && code[1] != 0);
    }
    if big > little { ByteOrder::Big } else { ByteOrder::Little }
}

/// The text without `//…` and `/*…*/`.
fn without_comments(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('/') {
        kept.push_str(&rest[..start]);
        let (end, after) = if rest[start..].starts_with("//") {
            ("\n", 0)
        } else if rest[start..].starts_with("/*") {
            ("*/", 2)
        } else {
            kept.push('/');
            rest = &rest[start + 1..];
            continue;
        };
        // A comment that opens has two bytes; `/*/` does not close it.
        rest = match rest[start + 2..].find(end) {
            Some(found) => &rest[start + 2 + found + after..],
            None => "",
        };
    }
    kept.push_str(rest);
    kept
}

/// The instruction of one array entry, or what is wrong with it.
fn entry_insn(entry: &str) -> Result<Insn, String> {
    let fields: Vec<&str> =
        entry.split(',').map(str::trim).filter(|field| !field.is_empty()).collect();
    let numbers = fields
        .iter()
        .zip(["code", "jt", "jf", "k"])
        .map(|(field, name)| {
            let value = match field.split_once([':', '=']) {
                Some((label, value)) if label.trim().trim_start_matches('.') == name => value,
                Some((label, _)) => {
                    return Err(format!("`{}` stands where `{name}` should", label.trim()));
                }
                None => field,
            };
            number(value.trim()).ok_or_else(|| format!("`{}` is no number", value.trim()))
        })
        .collect::<Result<Vec<u32>, String>>()?;
    let &[code, jt, jf, k] = numbers.as_slice() else {
        return Err(format!("there are {} fields", fields.len()));
    };
    if fields.len() > 4 {
        return Err(format!("there are {} fields", fields.len()));
    }
    let too_big = |name: &str, value| format!("{name} {value:#x} does not fit");
    Ok(Insn {
        code: u16::try_from(code).map_err(|_| too_big("code", code))?,
        jt: u8::try_from(jt).map_err(|_| too_big("jt", jt))?,
        jf: u8::try_from(jf).map_err(|_| too_big("jf", jf))?,
        k,
    })
}

/// A decimal or hexadecimal number, with the suffixes of C and Rust.
pub(crate) fn number(text: &str) -> Option<u32> {
    let text = text.to_ascii_lowercase();
    match text.strip_prefix("0x") {
        Some(hex) => {
            let hex = hex.trim_end_matches("u32").trim_end_matches(['u', 'l']);
            u32::from_str_radix(&hex.replace('_', ""), 16).ok().filter(|_| !hex.starts_with('+'))
        }
        None => {
            let digits = text.trim_end_matches("u32").trim_end_matches(['u', 'l']);
            digits.replace('_', "").parse().ok().filter(|_| !digits.starts_with('+'))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{InsnError, Op};

    fn program(order: ByteOrder) -> Program {
        let ops = [Op::Load(16), Op::LoadImm(0), Op::Ret(0x7fff_0000)];
        Program::with_byte_order(ops.into_iter().map(Insn::from).collect(), order).unwrap()
    }

    #[test]
    fn files_show_their_byte_order() {
        for order in [ByteOrder::Little, ByteOrder::Big] {
            let bytes = program(order).to_bytes();
            assert_eq!(Program::from_bytes(&bytes).unwrap(), program(order));
            assert_eq!(Program::from_bytes_in(&bytes, order).unwrap(), program(order));
        }
        assert_eq!(
            Program::from_bytes_in(&program(ByteOrder::Big).to_bytes(), ByteOrder::Little),
            Err(FileError::ByteOrder { expected: ByteOrder::Little, found: ByteOrder::Big }),
        );
    }

    #[test]
    fn bad_bytes_are_named() {
        let bytes = program(ByteOrder::Little).to_bytes();
        let cut = Program::from_bytes(&bytes[..13]).unwrap_err();
        assert_eq!(cut, FileError::Truncated { len: 13, index: 1 });
        let headless = Program::from_bytes(&bytes[8..]).map(|program| program.insns().len());
        assert_eq!(headless, Ok(2));
        let mut unaligned = vec![0];
        unaligned.extend(&bytes[..23]);
        assert!(Program::from_bytes(&unaligned).is_err());
        assert!(matches!(Program::from_bytes(&[]), Err(FileError::Program(_))));
        let garbage = Program::from_bytes(&[0xff; 8]).unwrap_err();
        let code = InsnError::Code { code: 0xffff };
        let program = ProgramError::Insn { index: 0, source: code };
        assert_eq!(garbage, FileError::Program(program));
        let long = vec![0x06; 8 * 4097];
        assert!(matches!(
            Program::from_bytes(&long),
            Err(FileError::Program(ProgramError::Length { len: 4097 }))
        ));
    }

    #[test]
    fn text_forms_come_back() {
        for order in [ByteOrder::Little, ByteOrder::Big] {
            let program = program(order);
            assert_eq!(Program::from_hex(&program.to_hex()).unwrap(), program);
            assert_eq!(Program::from_array(&program.to_c("f"), order).unwrap(), program);
            assert_eq!(Program::from_array(&program.to_rust("F"), order).unwrap(), program);
        }
        let commented = "/* { */ { 0x06, 0, 0, 0x7fff0000U }, // { 1 }\n";
        assert!(Program::from_array(commented, ByteOrder::Little).is_ok());
        assert!(matches!(Program::from_hex("0g"), Err(FileError::Digit { line: 1, found: 'g' })));
        let missing = Program::from_array("{ 6, 0, 0 }", ByteOrder::Little).unwrap_err();
        assert!(matches!(missing, FileError::Entry { index: 0, .. }));
        let macros = Program::from_array("{ BPF_RET, 0, 0, 0 }", ByteOrder::Little);
        assert!(matches!(macros, Err(FileError::Entry { .. })));
    }
}
