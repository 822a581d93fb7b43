//! Architectures: the ABIs that have a syscall table of their own, and the audit arch values by
//! which the kernel names them in `seccomp_data.arch`.

use std::fmt;
use std::str::FromStr;

/// An `AUDIT_ARCH_*` value, as a filter finds it in `seccomp_data.arch`
/// (`include/uapi/linux/audit.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AuditArch(u32);

impl AuditArch {
    /// The audit arch with this value; any value can occur in a program.
    pub const fn from_raw(value: u32) -> Self {
        Self(value)
    }

    /// The value that the kernel puts into `seccomp_data.arch`.
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// The ABI that owns this value. For `AUDIT_ARCH_X86_64`, which x86_64 and x32 share, this is
    /// [`Arch::X86_64`].
    pub fn arch(self) -> Option<Arch> {
        Arch::ALL.iter().copied().find(|arch| arch.audit_arch() == self)
    }
}

impl fmt::Display for AuditArch {
    /// The name of the arch, or the value in hexadecimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.arch() {
            Some(arch) => f.write_str(arch.name()),
            None => write!(f, "{:#010x}", self.0),
        }
    }
}

/// An ABI with a syscall table of its own.
///
/// x32 is one although it shares its audit arch with x86_64: the kernel tells the two apart by bit
/// 30 of the number ([`Arch::X32_BIT`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 32-bit pointers on 64-bit x86; numbers carry [`Arch::X32_BIT`].
    X32,
    /// 32-bit x86, also the table that `int $0x80` reaches from a 64-bit program.
    I386,
    /// 64-bit Arm.
    Aarch64,
    /// 32-bit Arm with the EABI.
    Arm,
    /// 64-bit RISC-V.
    Riscv64,
    /// 64-bit little-endian Power.
    Ppc64le,
    /// 64-bit z/Architecture (big-endian).
    S390x,
    /// 64-bit LoongArch.
    Loongarch64,
}

const LE: u32 = 0x4000_0000;
const BITS64: u32 = 0x8000_0000;

impl Arch {
    /// Every ABI known here.
    pub const ALL: &'static [Arch] = &[
        Arch::X86_64,
        Arch::X32,
        Arch::I386,
        Arch::Aarch64,
        Arch::Arm,
        Arch::Riscv64,
        Arch::Ppc64le,
        Arch::S390x,
        Arch::Loongarch64,
    ];

    /// The bit that marks an x32 number (`__X32_SYSCALL_BIT` in `asm/unistd.h`).
    pub const X32_BIT: u32 = 0x4000_0000;

    /// The ABI that this build runs on, where it is known here.
    pub const NATIVE: Option<Arch> =
        if cfg!(all(target_arch = "x86_64", target_pointer_width = "64")) {
            Some(Arch::X86_64)
        } else if cfg!(target_arch = "x86_64") {
            Some(Arch::X32)
        } else if cfg!(target_arch = "x86") {
            Some(Arch::I386)
        } else if cfg!(target_arch = "aarch64") {
            Some(Arch::Aarch64)
        } else if cfg!(target_arch = "arm") {
            Some(Arch::Arm)
        } else if cfg!(target_arch = "riscv64") {
            Some(Arch::Riscv64)
        } else if cfg!(all(target_arch = "powerpc64", target_endian = "little")) {
            Some(Arch::Ppc64le)
        } else if cfg!(target_arch = "s390x") {
            Some(Arch::S390x)
        } else if cfg!(target_arch = "loongarch64") {
            Some(Arch::Loongarch64)
        } else {
            None
        };

    /// The name used in policies and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::X32 => "x32",
            Arch::I386 => "i386",
            Arch::Aarch64 => "aarch64",
            Arch::Arm => "arm",
            Arch::Riscv64 => "riscv64",
            Arch::Ppc64le => "ppc64le",
            Arch::S390x => "s390x",
            Arch::Loongarch64 => "loongarch64",
        }
    }

    /// The name that the OCI runtime spec uses (`SCMP_ARCH_*`, after libseccomp).
    pub const fn oci_name(self) -> &'static str {
        match self {
            Arch::X86_64 => "SCMP_ARCH_X86_64",
            Arch::X32 => "SCMP_ARCH_X32",
            Arch::I386 => "SCMP_ARCH_X86",
            Arch::Aarch64 => "SCMP_ARCH_AARCH64",
            Arch::Arm => "SCMP_ARCH_ARM",
            Arch::Riscv64 => "SCMP_ARCH_RISCV64",
            Arch::Ppc64le => "SCMP_ARCH_PPC64LE",
            Arch::S390x => "SCMP_ARCH_S390X",
            Arch::Loongarch64 => "SCMP_ARCH_LOONGARCH64",
        }
    }

    /// The value that a filter sees: ELF machine number with the bits for word size and byte
    /// order (`include/uapi/linux/audit.h`, `linux/elf-em.h`).
    pub const fn audit_arch(self) -> AuditArch {
        AuditArch(match self {
            Arch::X86_64 | Arch::X32 => 62 | BITS64 | LE,
            Arch::I386 => 3 | LE,
            Arch::Aarch64 => 183 | BITS64 | LE,
            Arch::Arm => 40 | LE,
            Arch::Riscv64 => 243 | BITS64 | LE,
            Arch::Ppc64le => 21 | BITS64 | LE,
            Arch::S390x => 22 | BITS64,
            Arch::Loongarch64 => 258 | BITS64 | LE,
        })
    }

    /// Whether arguments are passed in 64-bit registers, which on x32 they are too.
    pub const fn is_64_bit(self) -> bool {
        !matches!(self, Arch::I386 | Arch::Arm)
    }

    /// Whether the low half of a 64-bit argument comes first in `seccomp_data`.
    pub const fn is_little_endian(self) -> bool {
        !matches!(self, Arch::S390x)
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no known arch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownArch(
    /// The name as it was given.
    pub String,
);

impl fmt::Display for UnknownArch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no known architecture; known are ", self.0)?;
        for (i, arch) in Arch::ALL.iter().enumerate() {
            write!(f, "{}{arch}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl std::error::Error for UnknownArch {}

impl FromStr for Arch {
    type Err = UnknownArch;

    /// Reads [`Arch::name`], and nothing else: foreign spellings belong to the foreign formats.
    fn from_str(name: &str) -> Result<Self, UnknownArch> {
        Arch::ALL
            .iter()
            .copied()
            .find(|arch| arch.name() == name)
            .ok_or_else(|| UnknownArch(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audit_arch_values_are_the_kernels() {
        // include/uapi/linux/audit.h
        assert_eq!(Arch::X86_64.audit_arch().raw(), 0xc000_003e);
        assert_eq!(Arch::I386.audit_arch().raw(), 0x4000_0003);
        assert_eq!(Arch::Aarch64.audit_arch().raw(), 0xc000_00b7);
        assert_eq!(Arch::S390x.audit_arch().raw(), 0x8000_0016);
    }

    #[test]
    fn names_round_trip() {
        for &arch in Arch::ALL {
            assert_eq!(arch.name().parse(), Ok(arch));
        }
        assert!("amd64".parse::<Arch>().is_err());
    }
}
