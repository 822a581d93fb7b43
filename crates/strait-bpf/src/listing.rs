//! Programs as text that a person reads: the disassembler.
//!
//! ```text
//!      ld [arch]
//!      jeq #0xc000003e, next, l5  ; x86_64
//!      ld [nr]
//!      jeq #59, next, l6          ; execve
//!      ret errno(1)
//! l5:  ret kill-process
//! l6:  ret allow
//! ```
//!
//! The mnemonics are those of the kernel's `bpf_asm`; the words of `seccomp_data` and the actions
//! have names. [`Program::assemble`](crate::Program::assemble) reads it back.

use std::fmt;

use strait_abi::{Arch, AuditArch, Syscall};

use crate::data::{Half, Word};
use crate::insn::{Alu, Jump, Op, Operand};
use crate::program::forward;
use crate::{Action, ByteOrder, Program};

/// A program as lines of text, one for each instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    lines: Vec<Line>,
}

/// The line of one instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    tokens: Vec<(Token, String)>,
}

/// What a piece of a line is, for whoever colours it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Token {
    /// White space and commas.
    Space,
    /// A label, where it is set or used.
    Label,
    /// What the instruction does.
    Mnemonic,
    /// A register, a word of `seccomp_data` or a cell of scratch memory.
    Place,
    /// A constant.
    Constant,
    /// What the filter answers.
    Action(Action),
    /// What a person wants to know and the assembler does not.
    Comment,
}

impl Listing {
    /// The lines, by instruction.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }
}

impl Line {
    /// The pieces that make up the line, without its end.
    pub fn tokens(&self) -> impl Iterator<Item = (Token, &str)> {
        self.tokens.iter().map(|(token, text)| (*token, text.as_str()))
    }
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tokens.iter().try_for_each(|(_, text)| f.write_str(text))
    }
}

impl Program {
    /// The program as text. Numbers of calls are named where the program has established the
    /// arch, and before that after `assumed`, if that is given.
    pub fn listing(&self, assumed: Option<AuditArch>) -> Listing {
        let ops = self.ops();
        let targets = targets(ops);
        let width = targets.iter().rposition(|&target| target).map_or(0, |index| {
            // `l`, the index, `:` and two spaces.
            index.to_string().len() + 4
        });
        let known = known(self, assumed);
        let mut lines: Vec<Line> = ops
            .iter()
            .enumerate()
            .map(|(index, &op)| {
                let mut line = Line { tokens: Vec::new() };
                let label =
                    if targets[index] { format!("{}:", label(index)) } else { String::new() };
                let pad = " ".repeat(width.max(4).saturating_sub(label.len()));
                line.push(Token::Label, label);
                line.push(Token::Space, pad);
                line.instruction(index, op, self.byte_order());
                line
            })
            .collect();
        let comments =
            ops.iter().zip(&known).map(|(&op, known)| known.comment(op, self.byte_order()));
        let comments: Vec<Option<String>> = comments.collect();
        let lengths = lines.iter().zip(&comments).filter(|(_, comment)| comment.is_some());
        let column = lengths.map(|(line, _)| line.len()).max().unwrap_or(0) + 2;
        for (line, comment) in lines.iter_mut().zip(comments) {
            if let Some(comment) = comment {
                let pad = " ".repeat(column.saturating_sub(line.len()));
                line.push(Token::Space, pad);
                line.push(Token::Comment, format!("; {comment}"));
            }
        }
        Listing { lines }
    }
}

/// How the label of an instruction is spelled.
fn label(index: usize) -> String {
    format!("l{index}")
}

/// The name of the word at an offset.
pub(crate) fn word_name(offset: u32, order: ByteOrder) -> String {
    let half = |half| if half == Half::Low { "lo" } else { "hi" };
    match Word::at(offset, order) {
        None => offset.to_string(),
        Some(Word::Arch) => "arch".to_owned(),
        Some(Word::Nr) => "nr".to_owned(),
        Some(Word::Arg(index, part)) => format!("arg{index}.{}", half(part)),
        Some(Word::InstructionPointer(part)) => format!("ip.{}", half(part)),
    }
}

/// The mnemonic of an operation.
pub(crate) const fn alu_name(alu: Alu) -> &'static str {
    match alu {
        Alu::Add => "add",
        Alu::Sub => "sub",
        Alu::Mul => "mul",
        Alu::Div => "div",
        Alu::And => "and",
        Alu::Or => "or",
        Alu::Xor => "xor",
        Alu::Lsh => "lsh",
        Alu::Rsh => "rsh",
    }
}

/// The mnemonic of a conditional jump.
pub(crate) const fn jump_name(test: Jump) -> &'static str {
    match test {
        Jump::Eq => "jeq",
        Jump::Gt => "jgt",
        Jump::Ge => "jge",
        Jump::Set => "jset",
    }
}

impl Line {
    fn push(&mut self, token: Token, text: String) {
        if !text.is_empty() {
            self.tokens.push((token, text));
        }
    }

    fn len(&self) -> usize {
        self.tokens.iter().map(|(_, text)| text.len()).sum()
    }

    /// The instruction, without label and comment.
    fn instruction(&mut self, index: usize, op: Op, order: ByteOrder) {
        let next = index + 1;
        let cell = |cell: crate::Cell| (Token::Place, format!("M[{}]", cell.index()));
        let constant = |k| (Token::Constant, format!("#{}", Number(k)));
        let len = || (Token::Place, "len".to_owned());
        let source = |operand| match operand {
            Operand::K(k) => constant(k),
            Operand::X => (Token::Place, "x".to_owned()),
        };
        let target = |target: usize| {
            let name = if target == next { "next".to_owned() } else { label(target) };
            (Token::Label, name)
        };
        let (mnemonic, operands) = match op {
            Op::Load(offset) => {
                ("ld", vec![(Token::Place, format!("[{}]", word_name(offset, order)))])
            }
            Op::LoadImm(k) => ("ld", vec![constant(k)]),
            Op::LoadLen => ("ld", vec![len()]),
            Op::LoadMem(from) => ("ld", vec![cell(from)]),
            Op::LoadXImm(k) => ("ldx", vec![constant(k)]),
            Op::LoadXLen => ("ldx", vec![len()]),
            Op::LoadXMem(from) => ("ldx", vec![cell(from)]),
            Op::Store(to) => ("st", vec![cell(to)]),
            Op::StoreX(to) => ("stx", vec![cell(to)]),
            Op::Alu(alu, operand) => (alu_name(alu), vec![source(operand)]),
            Op::Neg => ("neg", vec![]),
            Op::Tax => ("tax", vec![]),
            Op::Txa => ("txa", vec![]),
            Op::Jump(skip) => ("ja", vec![target(forward(next, skip))]),
            Op::Branch { test, operand, jt, jf } => {
                let (yes, no) = (target(next + usize::from(jt)), target(next + usize::from(jf)));
                (jump_name(test), vec![source(operand), yes, no])
            }
            Op::Ret(raw) => {
                let action = Action::from_raw(raw);
                let text = if action.raw() == raw {
                    action.to_string()
                } else {
                    // Data that the kernel ignores, or an unknown action.
                    format!("#{raw:#010x}")
                };
                ("ret", vec![(Token::Action(action), text)])
            }
            Op::RetA => ("ret", vec![(Token::Place, "a".to_owned())]),
        };
        self.push(Token::Mnemonic, mnemonic.to_owned());
        for (i, (token, text)) in operands.into_iter().enumerate() {
            self.push(Token::Space, if i == 0 { " " } else { ", " }.to_owned());
            self.push(token, text);
        }
    }
}

/// Small numbers in decimal, others in hexadecimal.
struct Number(u32);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 1024 { write!(f, "{}", self.0) } else { write!(f, "{:#x}", self.0) }
    }
}

/// Which instructions are jumped to, other than from the one before them.
fn targets(ops: &[Op]) -> Vec<bool> {
    let mut targets = vec![false; ops.len()];
    for (index, &op) in ops.iter().enumerate() {
        let next = index + 1;
        let (one, other) = match op {
            Op::Jump(skip) => (forward(next, skip), next),
            Op::Branch { jt, jf, .. } => (next + usize::from(jt), next + usize::from(jf)),
            _ => continue,
        };
        for target in [one, other].into_iter().filter(|&target| target != next) {
            targets[target] = true;
        }
    }
    targets
}

/// What holds on every path to an instruction, as far as comments need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    a: Option<Word>,
    arch: Option<AuditArch>,
    nr: Option<u32>,
}

/// What holds at each instruction.
fn known(program: &Program, assumed: Option<AuditArch>) -> Vec<Known> {
    let ops = program.ops();
    let start = Known { a: None, arch: assumed, nr: None };
    let mut at: Vec<Option<Known>> = vec![None; ops.len()];
    at[0] = Some(start);
    for (index, &op) in ops.iter().enumerate() {
        let Some(here) = at[index] else { continue };
        let mut reach = |target: usize, known: Known| {
            if let Some(slot) = at.get_mut(target) {
                *slot = Some(slot.map_or(known, |before| before.join(known)));
            }
        };
        let next = index + 1;
        match op {
            Op::Ret(_) | Op::RetA => {}
            Op::Jump(skip) => reach(forward(next, skip), here),
            Op::Branch { test, operand, jt, jf } => {
                let equal = match (test, operand) {
                    (Jump::Eq, Operand::K(k)) => here.equal(k),
                    _ => here,
                };
                reach(next + usize::from(jt), equal);
                reach(next + usize::from(jf), here);
            }
            Op::Load(offset) => {
                reach(next, Known { a: Word::at(offset, program.byte_order()), ..here });
            }
            Op::LoadImm(_) | Op::LoadLen | Op::LoadMem(_) | Op::Txa | Op::Alu(..) | Op::Neg => {
                reach(next, Known { a: None, ..here });
            }
            Op::LoadXImm(_) | Op::LoadXLen | Op::LoadXMem(_) => reach(next, here),
            Op::Store(_) | Op::StoreX(_) | Op::Tax => reach(next, here),
        }
    }
    at.into_iter().map(|known| known.unwrap_or(start)).collect()
}

impl Known {
    /// What holds on two paths.
    fn join(self, other: Known) -> Known {
        Known {
            a: self.a.filter(|_| self.a == other.a),
            arch: self.arch.filter(|_| self.arch == other.arch),
            nr: self.nr.filter(|_| self.nr == other.nr),
        }
    }

    /// What holds if `A` is `k`.
    fn equal(self, k: u32) -> Known {
        match self.a {
            Some(Word::Arch) => Known { arch: Some(AuditArch::from_raw(k)), ..self },
            Some(Word::Nr) => Known { nr: Some(k), ..self },
            _ => self,
        }
    }

    /// The name of a call.
    fn call(self, nr: u32) -> Option<&'static str> {
        call_name(self.arch?, nr)
    }

    fn comment(self, op: Op, order: ByteOrder) -> Option<String> {
        match op {
            Op::Branch { operand: Operand::K(k), test, .. } => match (self.a?, test) {
                (Word::Arch, Jump::Eq) => {
                    AuditArch::from_raw(k).arch().map(|arch| arch.name().to_owned())
                }
                (Word::Nr, Jump::Ge | Jump::Set) if k == Arch::X32_BIT => Some("x32".to_owned()),
                (Word::Nr, Jump::Eq) => self.call(k).map(str::to_owned),
                (Word::Nr, Jump::Ge) => self.call(k).map(|name| format!("from {name} on")),
                (Word::Nr, Jump::Gt) => self.call(k).map(|name| format!("after {name}")),
                _ => None,
            },
            Op::Load(offset) => match Word::at(offset, order)? {
                Word::Arg(index, _) => {
                    let call = named(self.arch?, self.nr?)?;
                    let args = call.1.args(call.0).unwrap_or_default();
                    let name = call.1.name();
                    Some(match args.get(usize::from(index)) {
                        Some(arg) => format!("{} of {name}", arg.name()),
                        None => format!("of {name}"),
                    })
                }
                _ => None,
            },
            _ => None,
        }
    }
}

/// The name of a number as a filter sees it; for `AUDIT_ARCH_X86_64`, x32 numbers too.
pub(crate) fn call_name(arch: AuditArch, nr: u32) -> Option<&'static str> {
    named(arch, nr).map(|(_, call)| call.name())
}

fn named(arch: AuditArch, nr: u32) -> Option<(Arch, Syscall)> {
    let arch = match arch.arch()? {
        Arch::X86_64 if nr & Arch::X32_BIT != 0 => Arch::X32,
        arch => arch,
    };
    Some((arch, arch.syscall(nr)?))
}
