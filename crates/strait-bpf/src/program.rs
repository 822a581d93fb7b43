//! Programs: what the kernel would accept as a filter, and what it does with a call.

use std::iter;

use crate::insn::{Cell, Op, Operand};
use crate::{Action, ByteOrder, Insn, InsnError, SeccompData};

/// A list of instructions that the kernel would accept as a seccomp filter.
///
/// Where the two halves of a 64-bit argument lie depends on the machine, so a program has a
/// [`ByteOrder`]; with it, its meaning is a function of [`SeccompData`] alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Program {
    insns: Box<[Insn]>,
    ops: Box<[Op]>,
    order: ByteOrder,
}

/// Why the kernel would refuse a list of instructions. Instructions are counted from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// No instruction at all, or more than [`Program::MAX_LEN`].
    #[error("a filter has 1 to {max} instructions, this one has {len}", max = Program::MAX_LEN)]
    Length {
        /// How many there are.
        len: usize,
    },
    /// An instruction that is never legal.
    #[error("instruction {index} is not legal")]
    Insn {
        /// Which.
        index: usize,
        /// The rule that it breaks.
        source: InsnError,
    },
    /// A jump to behind the last instruction.
    #[error("instruction {index} jumps to {target}, behind the last instruction ({last})")]
    Jump {
        /// Which.
        index: usize,
        /// Where to.
        target: u64,
        /// The last instruction.
        last: usize,
    },
    /// The last instruction is not a return.
    #[error("the last instruction ({index}) is not a return: every path must end in one")]
    LastInstruction {
        /// Which.
        index: usize,
    },
    /// A cell of scratch memory is read that, by the kernel's reckoning, is not written on every
    /// path to there.
    #[error("instruction {index} reads scratch memory cell {cell}, which may not be written yet")]
    UnwrittenCell {
        /// Which.
        index: usize,
        /// The cell.
        cell: usize,
    },
}

/// What a run of a program came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The value that the filter returned; [`Action::from_raw`] says what the kernel makes of it.
    pub raw: u32,
    /// How many instructions were executed, the return included.
    pub executed: u32,
}

impl Program {
    /// `BPF_MAXINSNS` (`include/uapi/linux/bpf_common.h`).
    pub const MAX_LEN: usize = 4096;

    /// Checks the instructions as the kernel of a little-endian machine does.
    ///
    /// # Errors
    /// A rule of the kernel's that they break, each instruction on its own before those about
    /// several; the kernel itself only says `EINVAL`.
    pub fn new(insns: Vec<Insn>) -> Result<Program, ProgramError> {
        Self::with_byte_order(insns, ByteOrder::Little)
    }

    /// The same for a machine of either byte order. What is accepted does not depend on it.
    ///
    /// # Errors
    /// As for [`Program::new`].
    pub fn with_byte_order(insns: Vec<Insn>, order: ByteOrder) -> Result<Program, ProgramError> {
        if insns.is_empty() || insns.len() > Self::MAX_LEN {
            return Err(ProgramError::Length { len: insns.len() });
        }
        let ops = insns
            .iter()
            .enumerate()
            .map(|(index, insn)| insn.op().map_err(|source| ProgramError::Insn { index, source }))
            .collect::<Result<Box<[Op]>, _>>()?;
        check_jumps(&ops)?;
        check_scratch(&ops)?;
        Ok(Program { insns: insns.into(), ops, order })
    }

    /// The instructions as they were given.
    pub fn insns(&self) -> &[Insn] {
        &self.insns
    }

    /// What each instruction does.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// The byte order of the machine that it is for.
    pub fn byte_order(&self) -> ByteOrder {
        self.order
    }

    /// What the kernel would do with `data`, were this the only filter.
    pub fn run(&self, data: &SeccompData) -> Action {
        Action::from_raw(self.run_raw(data))
    }

    /// The value that the filter returns.
    pub fn run_raw(&self, data: &SeccompData) -> u32 {
        self.run_counting(data).raw
    }

    /// The value that the filter returns and how many instructions that took.
    pub fn run_counting(&self, data: &SeccompData) -> Run {
        let (mut a, mut x, mut mem) = (0u32, 0u32, [0u32; Cell::COUNT]);
        let mut executed = 0;
        let mut pc = 0usize;
        loop {
            executed += 1;
            let op = self.ops[pc];
            pc += 1;
            match op {
                Op::Load(offset) => a = data.word(offset, self.order),
                Op::LoadImm(k) => a = k,
                Op::LoadLen => a = SeccompData::SIZE,
                Op::LoadMem(cell) => a = mem[cell.index()],
                Op::LoadXImm(k) => x = k,
                Op::LoadXLen => x = SeccompData::SIZE,
                Op::LoadXMem(cell) => x = mem[cell.index()],
                Op::Store(cell) => mem[cell.index()] = a,
                Op::StoreX(cell) => mem[cell.index()] = x,
                Op::Alu(alu, operand) => match alu.apply(a, value(operand, x)) {
                    Some(result) => a = result,
                    // bpf_convert_filter: a division by zero clears A and exits.
                    None => return Run { raw: 0, executed },
                },
                Op::Neg => a = a.wrapping_neg(),
                Op::Tax => x = a,
                Op::Txa => a = x,
                Op::Jump(skip) => pc = forward(pc, skip),
                Op::Branch { test, operand, jt, jf } => {
                    pc += usize::from(if test.holds(a, value(operand, x)) { jt } else { jf });
                }
                Op::Ret(raw) => return Run { raw, executed },
                Op::RetA => return Run { raw: a, executed },
            }
        }
    }
}

/// The value of an operand.
const fn value(operand: Operand, x: u32) -> u32 {
    match operand {
        Operand::K(k) => k,
        Operand::X => x,
    }
}

/// The instruction `skip` after `next`; saturates, and so is out of range, rather than wraps.
pub(crate) fn forward(next: usize, skip: u32) -> usize {
    next.saturating_add(usize::try_from(skip).unwrap_or(usize::MAX))
}

/// Where the instruction at `index` can continue other than at the next one: both targets of a
/// jump, which may be the next one too.
fn jump_targets(index: usize, op: Op) -> impl Iterator<Item = usize> {
    let next = index + 1;
    let (one, other) = match op {
        Op::Jump(skip) => (Some(forward(next, skip)), None),
        Op::Branch { jt, jf, .. } => (Some(next + usize::from(jt)), Some(next + usize::from(jf))),
        _ => (None, None),
    };
    one.into_iter().chain(other)
}

/// Every jump stays inside and the last instruction returns, so every path ends in a return.
fn check_jumps(ops: &[Op]) -> Result<(), ProgramError> {
    let last = ops.len() - 1;
    for (index, &op) in ops.iter().enumerate() {
        if let Some(target) = jump_targets(index, op).find(|&target| target > last) {
            let target = u64::try_from(target).unwrap_or(u64::MAX);
            return Err(ProgramError::Jump { index, target, last });
        }
    }
    match ops[last] {
        Op::Ret(_) | Op::RetA => Ok(()),
        _ => Err(ProgramError::LastInstruction { index: last }),
    }
}

/// `check_load_and_stores` (`net/core/filter.c`), with its imprecision: what was written before a
/// return still counts as written, or not, for a jump target right behind it.
fn check_scratch(ops: &[Op]) -> Result<(), ProgramError> {
    let mut at_target: Vec<u16> = iter::repeat_n(u16::MAX, ops.len()).collect();
    let mut written = 0u16;
    for (index, &op) in ops.iter().enumerate() {
        written &= at_target[index];
        match op {
            Op::Store(cell) | Op::StoreX(cell) => written |= 1 << cell.index(),
            Op::LoadMem(cell) | Op::LoadXMem(cell) if written & (1 << cell.index()) == 0 => {
                return Err(ProgramError::UnwrittenCell { index, cell: cell.index() });
            }
            Op::Jump(_) | Op::Branch { .. } => {
                for target in jump_targets(index, op) {
                    at_target[target] &= written;
                }
                written = u16::MAX;
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use strait_abi::AuditArch;

    use super::*;
    use crate::insn::{Alu, Jump};

    fn program(ops: &[Op]) -> Result<Program, ProgramError> {
        Program::new(ops.iter().copied().map(Insn::from).collect())
    }

    fn cell(index: u32) -> Cell {
        Cell::new(index).unwrap()
    }

    #[test]
    fn lengths_are_1_to_4096() {
        let ret = Op::Ret(0);
        assert_eq!(program(&[]), Err(ProgramError::Length { len: 0 }));
        assert!(program(&vec![ret; 4096]).is_ok());
        assert_eq!(program(&vec![ret; 4097]), Err(ProgramError::Length { len: 4097 }));
    }

    #[test]
    fn jumps_stay_inside() {
        let ret = Op::Ret(0);
        assert!(program(&[Op::Jump(0), ret]).is_ok());
        assert!(matches!(program(&[Op::Jump(1), ret]), Err(ProgramError::Jump { index: 0, .. })));
        assert!(matches!(program(&[Op::Jump(u32::MAX), ret]), Err(ProgramError::Jump { .. })));
        let branch = Op::Branch { test: Jump::Eq, operand: Operand::X, jt: 0, jf: 1 };
        assert!(matches!(program(&[branch, ret]), Err(ProgramError::Jump { target: 2, .. })));
        assert_eq!(program(&[ret, Op::Tax]), Err(ProgramError::LastInstruction { index: 1 }));
    }

    #[test]
    fn scratch_memory_is_written_before_it_is_read() {
        let (m, ret) = (cell(3), Op::RetA);
        assert!(program(&[Op::Store(m), Op::LoadMem(m), ret]).is_ok());
        let unwritten = |index| Err(ProgramError::UnwrittenCell { index, cell: 3 });
        assert_eq!(program(&[Op::LoadMem(m), ret]), unwritten(0));
        // Written on one path of two only.
        let branch = Op::Branch { test: Jump::Eq, operand: Operand::K(0), jt: 0, jf: 1 };
        assert_eq!(program(&[branch, Op::Store(m), Op::LoadMem(m), ret]), unwritten(2));
        // Unreachable behind a jump: the kernel takes everything for written there.
        assert!(program(&[Op::Jump(1), Op::LoadMem(m), ret]).is_ok());
        // Reached only from where it was written, but the kernel still counts the path that
        // returned.
        let split = Op::Branch { test: Jump::Eq, operand: Operand::K(0), jt: 0, jf: 2 };
        assert_eq!(
            program(&[split, Op::Store(m), Op::Jump(1), ret, Op::LoadMem(m), ret]),
            unwritten(4),
        );
    }

    #[test]
    fn a_division_by_a_zero_x_kills_the_thread() {
        let program =
            program(&[Op::LoadImm(7), Op::Alu(Alu::Div, Operand::X), Op::Ret(0x7fff_0000)])
                .unwrap();
        let data = SeccompData::new(AuditArch::from_raw(0), 0);
        assert_eq!(program.run_counting(&data), Run { raw: 0, executed: 2 });
        assert_eq!(program.run(&data), Action::KillThread);
    }
}
