//! The classic BPF instructions that a seccomp filter may use.
//!
//! [`Insn`] is the kernel's encoding, any bits at all. [`Op`] is what a legal one does; only
//! [`Insn::op`] knows the codes.

use crate::data::SeccompData;

/// `struct sock_filter` (`include/uapi/linux/filter.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Insn {
    /// Class, size and mode, operation and source.
    pub code: u16,
    /// How many instructions to skip when the condition holds.
    pub jt: u8,
    /// How many instructions to skip when it does not.
    pub jf: u8,
    /// The constant operand.
    pub k: u32,
}

/// What an instruction does. `A` is the accumulator and `X` the index register, both 32 bits wide
/// and 0 at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// `A` = the 32-bit word of `seccomp_data` at this byte offset: a multiple of 4, below 64.
    Load(u32),
    /// `A` = the constant.
    LoadImm(u32),
    /// `A` = the size of `seccomp_data`, 64.
    LoadLen,
    /// `A` = this cell of scratch memory.
    LoadMem(Cell),
    /// `X` = the constant.
    LoadXImm(u32),
    /// `X` = the size of `seccomp_data`, 64.
    LoadXLen,
    /// `X` = this cell of scratch memory.
    LoadXMem(Cell),
    /// The cell = `A`.
    Store(Cell),
    /// The cell = `X`.
    StoreX(Cell),
    /// `A` = `A` op operand.
    Alu(Alu, Operand),
    /// `A` = -`A`, modulo 2³².
    Neg,
    /// `X` = `A`.
    Tax,
    /// `A` = `X`.
    Txa,
    /// Skip this many instructions.
    Jump(u32),
    /// Skip `jt` instructions if the test of `A` against the operand holds, else `jf`.
    Branch {
        /// The test.
        test: Jump,
        /// What `A` is tested against.
        operand: Operand,
        /// How many instructions to skip when it holds.
        jt: u8,
        /// How many instructions to skip when it does not.
        jf: u8,
    },
    /// Answer with the constant.
    Ret(u32),
    /// Answer with `A`.
    RetA,
}

/// A cell of scratch memory, 0 to 15.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cell(u8);

impl Cell {
    /// How many there are (`BPF_MEMWORDS`).
    pub const COUNT: usize = 16;

    /// The cell of that index, if it is below [`Cell::COUNT`].
    pub fn new(index: u32) -> Option<Cell> {
        u8::try_from(index).ok().filter(|&index| usize::from(index) < Self::COUNT).map(Cell)
    }

    /// Its index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// An operation with two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Alu {
    /// Modulo 2³².
    Add,
    /// Modulo 2³².
    Sub,
    /// Modulo 2³².
    Mul,
    /// Unsigned. A filter that divides by an `X` of 0 ends at once with the answer 0, kill-thread.
    Div,
    /// Bitwise.
    And,
    /// Bitwise.
    Or,
    /// Bitwise.
    Xor,
    /// To the left by the operand modulo 32.
    Lsh,
    /// To the right by the operand modulo 32, filling with zeros.
    Rsh,
}

impl Alu {
    /// Every operation.
    pub const ALL: [Alu; 9] =
        [Alu::Add, Alu::Sub, Alu::Mul, Alu::Div, Alu::And, Alu::Or, Alu::Xor, Alu::Lsh, Alu::Rsh];

    /// The result, or `None` for a division by zero.
    pub const fn apply(self, a: u32, b: u32) -> Option<u32> {
        Some(match self {
            Alu::Add => a.wrapping_add(b),
            Alu::Sub => a.wrapping_sub(b),
            Alu::Mul => a.wrapping_mul(b),
            Alu::Div => return a.checked_div(b),
            Alu::And => a & b,
            Alu::Or => a | b,
            Alu::Xor => a ^ b,
            Alu::Lsh => a.wrapping_shl(b),
            Alu::Rsh => a.wrapping_shr(b),
        })
    }

    /// The operation bits of the code (`include/uapi/linux/bpf_common.h`).
    const fn bits(self) -> u16 {
        match self {
            Alu::Add => 0x00,
            Alu::Sub => 0x10,
            Alu::Mul => 0x20,
            Alu::Div => 0x30,
            Alu::Or => 0x40,
            Alu::And => 0x50,
            Alu::Lsh => 0x60,
            Alu::Rsh => 0x70,
            Alu::Xor => 0xa0,
        }
    }
}

/// The test of a conditional jump, unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Jump {
    /// `A == operand`
    Eq,
    /// `A > operand`
    Gt,
    /// `A >= operand`
    Ge,
    /// `A & operand != 0`
    Set,
}

impl Jump {
    /// Every test.
    pub const ALL: [Jump; 4] = [Jump::Eq, Jump::Gt, Jump::Ge, Jump::Set];

    /// Whether it holds.
    pub const fn holds(self, a: u32, b: u32) -> bool {
        match self {
            Jump::Eq => a == b,
            Jump::Gt => a > b,
            Jump::Ge => a >= b,
            Jump::Set => a & b != 0,
        }
    }

    /// The operation bits of the code.
    const fn bits(self) -> u16 {
        match self {
            Jump::Eq => 0x10,
            Jump::Gt => 0x20,
            Jump::Ge => 0x30,
            Jump::Set => 0x40,
        }
    }
}

/// The second operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operand {
    /// The constant.
    K(u32),
    /// The index register.
    X,
}

/// The rule that a single instruction breaks, wherever it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InsnError {
    /// No classic BPF instruction, or none that seccomp allows (packet loads, modulo, …).
    #[error("code {code:#06x} is no instruction that a seccomp filter may use")]
    Code {
        /// The code.
        code: u16,
    },
    /// A load that is not a whole word of `seccomp_data`.
    #[error("loads from offset {offset}: a load is of a 32-bit word at a multiple of 4 below 64")]
    Offset {
        /// The offset in bytes.
        offset: u32,
    },
    /// Division by the constant 0.
    #[error("divides by the constant 0")]
    DivisionByZero,
    /// A shift by a constant that is not below 32.
    #[error("shifts by the constant {by}: at most 31 is allowed")]
    Shift {
        /// The constant.
        by: u32,
    },
    /// A cell of scratch memory that does not exist.
    #[error("uses scratch memory cell {cell}: there are cells 0 to 15")]
    Cell {
        /// The index.
        cell: u32,
    },
}

const LD: u16 = 0x00;
const LDX: u16 = 0x01;
const ST: u16 = 0x02;
const STX: u16 = 0x03;
const ALU: u16 = 0x04;
const JMP: u16 = 0x05;
const RET: u16 = 0x06;
const MISC: u16 = 0x07;
const IMM: u16 = 0x00;
const ABS: u16 = 0x20;
const MEM: u16 = 0x60;
const LEN: u16 = 0x80;
const X: u16 = 0x08;
const A: u16 = 0x10;
const NEG: u16 = 0x80;
const TXA: u16 = 0x80;

impl Insn {
    /// What the instruction does.
    ///
    /// Fields that it does not use (a constant for `X = A`, jumps of a load) may hold anything, as
    /// in the kernel.
    ///
    /// # Errors
    /// The rule of `bpf_check_classic` (`net/core/filter.c`) or `seccomp_check_filter`
    /// (`kernel/seccomp.c`) that it breaks on its own.
    pub fn op(self) -> Result<Op, InsnError> {
        let Insn { code, jt, jf, k } = self;
        let cell = || Cell::new(k).ok_or(InsnError::Cell { cell: k });
        let operand = if code & X == X { Operand::X } else { Operand::K(k) };
        Ok(match code {
            _ if code == LD | ABS => {
                if k >= SeccompData::SIZE || k % 4 != 0 {
                    return Err(InsnError::Offset { offset: k });
                }
                Op::Load(k)
            }
            _ if code == LD | IMM => Op::LoadImm(k),
            _ if code == LD | LEN => Op::LoadLen,
            _ if code == LD | MEM => Op::LoadMem(cell()?),
            _ if code == LDX | IMM => Op::LoadXImm(k),
            _ if code == LDX | LEN => Op::LoadXLen,
            _ if code == LDX | MEM => Op::LoadXMem(cell()?),
            ST => Op::Store(cell()?),
            STX => Op::StoreX(cell()?),
            _ if code == ALU | NEG => Op::Neg,
            _ if code == MISC => Op::Tax,
            _ if code == MISC | TXA => Op::Txa,
            _ if code == RET => Op::Ret(k),
            _ if code == RET | A => Op::RetA,
            JMP => Op::Jump(k),
            _ => {
                let bits = code & !X & !7;
                let alu = Alu::ALL.into_iter().find(|alu| alu.bits() == bits);
                let test = Jump::ALL.into_iter().find(|test| test.bits() == bits);
                match (code & 7, alu, test) {
                    (ALU, Some(Alu::Div), _) if operand == Operand::K(0) => {
                        return Err(InsnError::DivisionByZero);
                    }
                    (ALU, Some(alu), _) => match (alu, operand) {
                        (Alu::Lsh | Alu::Rsh, Operand::K(by)) if by >= 32 => {
                            return Err(InsnError::Shift { by });
                        }
                        _ => Op::Alu(alu, operand),
                    },
                    (JMP, _, Some(test)) => Op::Branch { test, operand, jt, jf },
                    _ => return Err(InsnError::Code { code }),
                }
            }
        })
    }
}

impl From<Op> for Insn {
    /// The encoding, with 0 in every field that is not used.
    fn from(op: Op) -> Insn {
        let plain = |code, k| Insn { code, jt: 0, jf: 0, k };
        let mem = |code, cell: Cell| plain(code, u32::from(cell.0));
        let source = |operand| match operand {
            Operand::K(k) => (0, k),
            Operand::X => (X, 0),
        };
        match op {
            Op::Load(offset) => plain(LD | ABS, offset),
            Op::LoadImm(k) => plain(LD | IMM, k),
            Op::LoadLen => plain(LD | LEN, 0),
            Op::LoadMem(cell) => mem(LD | MEM, cell),
            Op::LoadXImm(k) => plain(LDX | IMM, k),
            Op::LoadXLen => plain(LDX | LEN, 0),
            Op::LoadXMem(cell) => mem(LDX | MEM, cell),
            Op::Store(cell) => mem(ST, cell),
            Op::StoreX(cell) => mem(STX, cell),
            Op::Alu(alu, operand) => {
                let (src, k) = source(operand);
                plain(ALU | alu.bits() | src, k)
            }
            Op::Neg => plain(ALU | NEG, 0),
            Op::Tax => plain(MISC, 0),
            Op::Txa => plain(MISC | TXA, 0),
            Op::Jump(skip) => plain(JMP, skip),
            Op::Branch { test, operand, jt, jf } => {
                let (src, k) = source(operand);
                Insn { code: JMP | test.bits() | src, jt, jf, k }
            }
            Op::Ret(k) => plain(RET, k),
            Op::RetA => plain(RET | A, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_legal_code_is_its_own_encoding() {
        let legal: Vec<u16> =
            (0..=u16::MAX).filter(|&code| Insn { code, jt: 0, jf: 0, k: 4 }.op().is_ok()).collect();
        for &code in &legal {
            let op = Insn { code, jt: 0, jf: 0, k: 4 }.op().unwrap();
            assert_eq!(Insn::from(op).code, code);
        }
        // 7 loads, 2 stores, 9 operations with 2 sources, neg, ja, 4 tests with 2 sources, 2
        // returns, tax and txa: the list in seccomp_check_filter.
        assert_eq!(legal.len(), 7 + 2 + 18 + 1 + 1 + 8 + 2 + 2);
        assert_eq!(
            Insn { code: 0x94, jt: 0, jf: 0, k: 1 }.op(),
            Err(InsnError::Code { code: 0x94 }),
            "seccomp has no modulo"
        );
    }

    #[test]
    fn operations_wrap_and_shifts_use_five_bits() {
        assert_eq!(Alu::Sub.apply(0, 1), Some(u32::MAX));
        assert_eq!(Alu::Mul.apply(0x8000_0001, 2), Some(2));
        assert_eq!(Alu::Lsh.apply(1, 33), Some(2));
        assert_eq!(Alu::Rsh.apply(4, 32), Some(4));
        assert_eq!(Alu::Div.apply(1, 0), None);
    }
}
