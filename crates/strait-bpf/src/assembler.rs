//! Programs from text: the assembler for what [`Program::listing`] prints.
//!
//! ```text
//! line    = [label ":"] [instruction] [";" comment]
//! jump    = ("jeq" | "jgt" | "jge" | "jset") (number | "x") "," target "," target
//!         | "ja" target                         target = label | "next"
//! load    = ("ld" | "ldx") (number | "len" | "M[" 0..15 "]") | "ld" "[" word "]"
//! word    = "nr" | "arch" | ("ip" | "arg0" … "arg5") "." ("lo" | "hi") | byte offset
//! store   = ("st" | "stx") "M[" 0..15 "]"
//! alu     = ("add" | "sub" | "mul" | "div" | "and" | "or" | "xor" | "lsh" | "rsh") (number | "x")
//! other   = "neg" | "tax" | "txa" | "ret" ("a" | number | action)
//! number  = "#" decimal or hexadecimal          action = "allow", "errno(1)", …
//! ```

use std::collections::BTreeMap;

use crate::insn::{Alu, Cell, Jump, Op, Operand};
use crate::listing::{alu_name, jump_name, word_name};
use crate::{Action, ByteOrder, Insn, Program, ProgramError, SeccompData, file};

/// Why a text is no program. Lines are counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AssembleError {
    /// Something else stands where an instruction or an operand should.
    #[error("line {line}: expected {expected}, found `{found}`")]
    Syntax {
        /// The line.
        line: usize,
        /// What may stand there.
        expected: &'static str,
        /// What does.
        found: String,
    },
    /// A label that is set nowhere.
    #[error("line {line}: there is no label `{label}`")]
    UnknownLabel {
        /// The line that uses it.
        line: usize,
        /// The label.
        label: String,
    },
    /// A label that is set twice.
    #[error("line {line}: the label `{label}` is set on line {first} already")]
    DuplicateLabel {
        /// The second line.
        line: usize,
        /// The label.
        label: String,
        /// The first line.
        first: usize,
    },
    /// Programs only jump forward.
    #[error("line {line}: the label `{label}` is set before this; programs only jump forward")]
    Backward {
        /// The line that uses it.
        line: usize,
        /// The label.
        label: String,
    },
    /// A conditional jump over more than 255 instructions.
    #[error("line {line}: `{label}` is {distance} instructions on; a conditional jump skips 255")]
    TooFar {
        /// The line.
        line: usize,
        /// The label.
        label: String,
        /// How many instructions are to be skipped.
        distance: usize,
    },
    /// The instructions are no program.
    #[error("no program that the kernel would accept{}", on(.lines, .source))]
    Program {
        /// The line of each instruction.
        lines: Vec<usize>,
        /// The rule that they break.
        source: ProgramError,
    },
}

/// Where an error is, if it is about one instruction.
fn on(lines: &[usize], error: &ProgramError) -> String {
    let index = match error {
        ProgramError::Length { .. } => return String::new(),
        ProgramError::Insn { index, .. }
        | ProgramError::Jump { index, .. }
        | ProgramError::LastInstruction { index }
        | ProgramError::UnwrittenCell { index, .. } => *index,
    };
    lines.get(index).map_or(String::new(), |line| format!(", for line {line}"))
}

impl Program {
    /// Reads a program for a little-endian machine from its text.
    ///
    /// # Errors
    /// The first line that is no instruction, or the rule of the kernel's that they break.
    pub fn assemble(text: &str) -> Result<Program, AssembleError> {
        Self::assemble_for(text, ByteOrder::Little)
    }

    /// The same for a machine of either byte order, which says where `arg0.lo` is.
    ///
    /// # Errors
    /// As for [`Program::assemble`].
    pub fn assemble_for(text: &str, order: ByteOrder) -> Result<Program, AssembleError> {
        let mut labels: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        let mut source: Vec<(usize, &str)> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line_number = number + 1;
            let mut rest = line.split_once(';').map_or(line, |(code, _)| code).trim();
            while let Some((label, after)) = rest.split_once(':') {
                let label = label.trim();
                if !is_label(label) {
                    return Err(syntax(line_number, "a label before `:`", label));
                }
                if let Some((_, first)) = labels.insert(label, (source.len(), line_number)) {
                    let label = label.to_owned();
                    return Err(AssembleError::DuplicateLabel { line: line_number, label, first });
                }
                rest = after.trim();
            }
            if !rest.is_empty() {
                source.push((line_number, rest));
            }
        }
        let insns = source
            .iter()
            .enumerate()
            .map(|(index, &(line, text))| {
                let scope = Scope { line, next: index + 1, labels: &labels, order };
                scope.instruction(text).map(Insn::from)
            })
            .collect::<Result<Vec<Insn>, AssembleError>>()?;
        Program::with_byte_order(insns, order).map_err(|error| AssembleError::Program {
            lines: source.iter().map(|&(line, _)| line).collect(),
            source: error,
        })
    }
}

fn is_label(text: &str) -> bool {
    text != "next"
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn syntax(line: usize, expected: &'static str, found: &str) -> AssembleError {
    AssembleError::Syntax { line, expected, found: found.to_owned() }
}

/// What one instruction is read with.
struct Scope<'a> {
    line: usize,
    /// The index of the next instruction.
    next: usize,
    /// Label to the instruction, and the line, where it is set.
    labels: &'a BTreeMap<&'a str, (usize, usize)>,
    order: ByteOrder,
}

impl Scope<'_> {
    fn instruction(&self, text: &str) -> Result<Op, AssembleError> {
        let (mnemonic, operands) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let operands: Vec<&str> = match operands.trim() {
            "" => Vec::new(),
            operands => operands.split(',').map(str::trim).collect(),
        };
        let alu = Alu::ALL.into_iter().find(|&alu| alu_name(alu) == mnemonic);
        let test = Jump::ALL.into_iter().find(|&test| jump_name(test) == mnemonic);
        match (mnemonic, operands.as_slice()) {
            ("neg", []) => Ok(Op::Neg),
            ("tax", []) => Ok(Op::Tax),
            ("txa", []) => Ok(Op::Txa),
            ("ret", ["a"]) => Ok(Op::RetA),
            ("ret", [value]) => self.returned(value),
            ("ja", [target]) => {
                let skip = self.distance(target)?;
                u32::try_from(skip).map(Op::Jump).map_err(|_| self.too_far(target, skip))
            }
            ("ld", ["len"]) => Ok(Op::LoadLen),
            ("ldx", ["len"]) => Ok(Op::LoadXLen),
            ("ld", [place]) if place.starts_with('[') => self.word(place).map(Op::Load),
            ("ld", [place]) if place.starts_with('M') => self.cell(place).map(Op::LoadMem),
            ("ldx", [place]) if place.starts_with('M') => self.cell(place).map(Op::LoadXMem),
            ("ld", [k]) => self.constant(k).map(Op::LoadImm),
            ("ldx", [k]) => self.constant(k).map(Op::LoadXImm),
            ("st", [place]) => self.cell(place).map(Op::Store),
            ("stx", [place]) => self.cell(place).map(Op::StoreX),
            (_, [operand, yes, no]) if test.is_some() => {
                let operand = self.operand(operand)?;
                let (jt, jf) = (self.short(yes)?, self.short(no)?);
                Ok(Op::Branch { test: test.unwrap_or(Jump::Eq), operand, jt, jf })
            }
            (_, [operand]) if alu.is_some() => {
                Ok(Op::Alu(alu.unwrap_or(Alu::Add), self.operand(operand)?))
            }
            _ => Err(syntax(self.line, "an instruction with its operands", text)),
        }
    }

    fn number(&self, text: &str) -> Option<u32> {
        text.strip_prefix('#').and_then(file::number)
    }

    fn constant(&self, text: &str) -> Result<u32, AssembleError> {
        self.number(text).ok_or_else(|| syntax(self.line, "a constant such as `#59`", text))
    }

    fn operand(&self, text: &str) -> Result<Operand, AssembleError> {
        if text == "x" {
            return Ok(Operand::X);
        }
        match self.number(text) {
            Some(k) => Ok(Operand::K(k)),
            None => Err(syntax(self.line, "`x` or a constant such as `#59`", text)),
        }
    }

    fn cell(&self, text: &str) -> Result<Cell, AssembleError> {
        let index = text.strip_prefix("M[").and_then(|text| text.strip_suffix(']'));
        index
            .and_then(file::number)
            .and_then(Cell::new)
            .ok_or_else(|| syntax(self.line, "a scratch memory cell, `M[0]` to `M[15]`", text))
    }

    /// The offset of a word.
    fn word(&self, text: &str) -> Result<u32, AssembleError> {
        let name = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        let offset = name.and_then(|name| {
            (0..SeccompData::SIZE)
                .step_by(4)
                .find(|&offset| word_name(offset, self.order) == name)
                .or_else(|| file::number(name))
        });
        offset.ok_or_else(|| syntax(self.line, "a word such as `[nr]` or `[arg0.lo]`", text))
    }

    fn returned(&self, text: &str) -> Result<Op, AssembleError> {
        if let Some(raw) = self.number(text) {
            return Ok(Op::Ret(raw));
        }
        text.parse::<Action>()
            .map(|action| Op::Ret(action.raw()))
            .map_err(|_| syntax(self.line, "`a`, a constant or an action to return", text))
    }

    /// How many instructions a jump to this target skips.
    fn distance(&self, target: &str) -> Result<usize, AssembleError> {
        if target == "next" {
            return Ok(0);
        }
        let label = || target.to_owned();
        let (at, _) = self
            .labels
            .get(target)
            .ok_or_else(|| AssembleError::UnknownLabel { line: self.line, label: label() })?;
        at.checked_sub(self.next)
            .ok_or_else(|| AssembleError::Backward { line: self.line, label: label() })
    }

    fn short(&self, target: &str) -> Result<u8, AssembleError> {
        let distance = self.distance(target)?;
        u8::try_from(distance).map_err(|_| self.too_far(target, distance))
    }

    fn too_far(&self, target: &str, distance: usize) -> AssembleError {
        AssembleError::TooFar { line: self.line, label: target.to_owned(), distance }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "     ld [arch]
     jeq #0xc000003e, next, l5  ; x86_64
     ld [nr]
     jeq #59, next, l6          ; execve
     ret errno(1)
l5:  ret kill-process
l6:  ret allow
";

    #[test]
    fn the_listing_is_read_back() {
        let program = Program::assemble(TEXT).unwrap();
        assert_eq!(program.listing(None).to_string(), TEXT);
    }

    #[test]
    fn arguments_have_the_names_of_the_call() {
        let text = "     ld [nr]
     jeq #41, next, l3
     ld [arg0.lo]       ; domain of socket
l3:  ret a
";
        let listing = Program::assemble(text).unwrap();
        let native = strait_abi::Arch::X86_64.audit_arch();
        let expected = text.replace("next, l3\n", "next, l3  ; socket\n");
        assert_eq!(listing.listing(Some(native)).to_string(), expected);
    }

    #[test]
    fn words_have_the_names_of_their_byte_order() {
        let text = "ld [arg0.lo]\nret a";
        let load = |order| Program::assemble_for(text, order).unwrap().ops()[0];
        assert_eq!(load(ByteOrder::Little), Op::Load(16));
        assert_eq!(load(ByteOrder::Big), Op::Load(20));
    }

    #[test]
    fn errors_name_the_line() {
        let error = |text| Program::assemble(text).unwrap_err().to_string();
        assert_eq!(
            error("ret allow\nfoo"),
            "line 2: expected an instruction with its operands, found `foo`"
        );
        assert_eq!(error("ja l1\nret a"), "line 1: there is no label `l1`");
        assert_eq!(
            error("a: ret a\nja a"),
            "line 2: the label `a` is set before this; programs only jump forward"
        );
        assert_eq!(
            error("\nld M[1]\nret a"),
            "no program that the kernel would accept, for line 2"
        );
        assert!(error("ret errno(4096)").contains("action to return"));
        let far = format!("jeq #1, end, next\n{}end: ret a", "tax\n".repeat(256));
        assert!(error(&far).contains("256 instructions on"));
        assert_eq!(error("a:\na: ret a"), "line 2: the label `a` is set on line 1 already");
    }
}
