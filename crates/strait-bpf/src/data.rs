//! What a filter sees of a call.

use strait_abi::{Arch, AuditArch};

/// `struct seccomp_data` (`include/uapi/linux/seccomp.h`): all that a filter sees of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeccompData {
    /// The number of the call; the kernel has it as `int`, a filter compares it unsigned.
    pub nr: u32,
    /// The ABI that the call came in by.
    pub arch: AuditArch,
    /// Where the call was made, as the kernel read it from the registers.
    pub instruction_pointer: u64,
    /// The six arguments as full registers; many calls use only the low half.
    pub args: [u64; 6],
}

impl SeccompData {
    /// `sizeof(struct seccomp_data)` in bytes.
    pub const SIZE: u32 = 64;

    /// A call of `nr` with all arguments and the instruction pointer 0.
    pub const fn new(arch: AuditArch, nr: u32) -> SeccompData {
        SeccompData { nr, arch, instruction_pointer: 0, args: [0; 6] }
    }

    /// The same call with these arguments.
    #[must_use]
    pub const fn with_args(self, args: [u64; 6]) -> SeccompData {
        SeccompData { args, ..self }
    }

    /// The 32-bit word at this byte offset, as a machine of that byte order has it in memory.
    ///
    /// Offsets at which no word starts give 0; an accepted program loads from none.
    pub fn word(&self, offset: u32, order: ByteOrder) -> u32 {
        match Word::at(offset, order) {
            None => 0,
            Some(word) => self.field(word),
        }
    }

    /// The value of one word, wherever it lies in memory.
    pub(crate) fn field(&self, word: Word) -> u32 {
        let half = |value: u64, half: Half| match half {
            Half::High => high(value),
            Half::Low => low(value),
        };
        match word {
            Word::Nr => self.nr,
            Word::Arch => self.arch.raw(),
            Word::InstructionPointer(part) => half(self.instruction_pointer, part),
            Word::Arg(index, part) => half(self.args[usize::from(index)], part),
        }
    }
}

fn high(value: u64) -> u32 {
    low(value >> 32)
}

fn low(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// Which half of a 64-bit value comes first in memory, and with it at the lower offset of
/// `seccomp_data`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ByteOrder {
    /// The low half: every arch known here but s390x.
    #[default]
    Little,
    /// The high half.
    Big,
}

impl ByteOrder {
    /// The byte order of the machines that have this ABI.
    pub const fn of(arch: Arch) -> ByteOrder {
        if arch.is_little_endian() { ByteOrder::Little } else { ByteOrder::Big }
    }
}

/// Which half of a 64-bit value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Half {
    High,
    Low,
}

/// One 32-bit word of `seccomp_data` by meaning, not by place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Word {
    Arch,
    Nr,
    Arg(u8, Half),
    InstructionPointer(Half),
}

impl Word {
    /// The word that an accepted load at `offset` reads.
    pub(crate) fn at(offset: u32, order: ByteOrder) -> Option<Word> {
        if offset >= SeccompData::SIZE || !offset.is_multiple_of(4) {
            return None;
        }
        let first = offset.is_multiple_of(8);
        let half = if first == (order == ByteOrder::Little) { Half::Low } else { Half::High };
        Some(match offset {
            0 => Word::Nr,
            4 => Word::Arch,
            8 | 12 => Word::InstructionPointer(half),
            _ => Word::Arg(u8::try_from((offset - 16) / 8).ok()?, half),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_lie_where_the_byte_order_puts_them() {
        let data = SeccompData {
            nr: 1,
            arch: AuditArch::from_raw(2),
            instruction_pointer: 0x0000_0004_0000_0003,
            args: [0x0000_0006_0000_0005, 0, 0, 0, 0, 0x0000_0008_0000_0007],
        };
        let words = |order| [0, 4, 8, 12, 16, 20, 56, 60].map(|at| data.word(at, order));
        assert_eq!(words(ByteOrder::Little), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(words(ByteOrder::Big), [1, 2, 4, 3, 6, 5, 8, 7]);
        assert_eq!(data.word(64, ByteOrder::Little), 0);
    }
}
