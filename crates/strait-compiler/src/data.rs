//! Where the words of `struct seccomp_data` are (`include/uapi/linux/seccomp.h`).

use strait_bpf::ByteOrder;
use strait_policy::Rules;

use crate::function::Word;

/// The byte at which the number is.
pub(crate) const NR: u32 = 0;
/// The byte at which the audit arch is.
pub(crate) const ARCH: u32 = 4;
const ARGS: u32 = 16;

/// Where the halves of an argument are, which is a matter of byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Words {
    low: u32,
}

impl Words {
    /// As a machine of that byte order has them.
    pub(crate) fn of(order: ByteOrder) -> Words {
        match order {
            ByteOrder::Little => Words { low: 0 },
            ByteOrder::Big => Words { low: 4 },
        }
    }

    /// The byte at which a word is.
    pub(crate) fn offset(self, word: Word) -> u32 {
        if word.high { self.high(word.arg) } else { self.low(word.arg) }
    }

    /// The byte at which the low half of argument `arg` is.
    pub(crate) fn low(self, arg: u8) -> u32 {
        ARGS + 8 * u32::from(arg) + self.low
    }

    /// The byte at which the high half of argument `arg` is.
    pub(crate) fn high(self, arg: u8) -> u32 {
        ARGS + 8 * u32::from(arg) + 4 - self.low
    }
}

/// The byte order of the machine that rules are for: big-endian if all their audit archs are. No
/// machine has some of both.
pub(crate) fn byte_order(rules: &Rules) -> ByteOrder {
    // Bit 30 of an audit arch (`__AUDIT_ARCH_LE` in include/uapi/linux/audit.h).
    let mut big = rules.tables().map(|(arch, _)| arch.raw() & 0x4000_0000 == 0);
    match big.len() > 0 && big.all(|big| big) {
        true => ByteOrder::Big,
        false => ByteOrder::Little,
    }
}
