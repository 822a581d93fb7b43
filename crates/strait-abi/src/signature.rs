//! What a system call takes: the arguments' names, and how much of each register the kernel
//! looks at.

use crate::tables::{OTHERS, USUAL};
use crate::{Arch, ConstantSet, Syscall};

/// How many low bits of its register the kernel looks at.
///
/// The kernel casts each register to the parameter's type first (`SYSCALL_DEFINE`), so a filter
/// that compares more bits than that can be passed by setting a bit that the kernel ignores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Width {
    /// 16 bits, such as `umode_t`.
    Bits16,
    /// 32 bits, such as `int`, and everything on a 32-bit arch.
    Bits32,
    /// 64 bits, such as `long`, `size_t` and pointers on a 64-bit arch.
    Bits64,
}

impl Width {
    /// The width in bits.
    pub const fn bits(self) -> u32 {
        match self {
            Width::Bits16 => 16,
            Width::Bits32 => 32,
            Width::Bits64 => 64,
        }
    }

    /// The bits that the kernel looks at.
    pub const fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits())
    }
}

/// An argument of a system call.
#[derive(Debug)]
pub struct Arg {
    name: &'static str,
    aliases: &'static [&'static str],
    kind: Kind,
    constants: Option<&'static ConstantSet>,
}

/// A parameter's type, as far as it matters to a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    U16,
    I32,
    U32,
    Long,
    ULong,
    I64,
    U64,
    Pointer,
}

/// A row of the generated table.
pub(crate) const fn arg(name: &'static str, aliases: &'static [&'static str], kind: Kind) -> Arg {
    Arg { name, aliases, kind, constants: None }
}

impl Arg {
    pub(crate) const fn of(self, constants: &'static ConstantSet) -> Arg {
        Arg { constants: Some(constants), ..self }
    }

    /// Its name: the manual's where that is well known, else the kernel's.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Other names that lead to it, such as the kernel's own. None of them is the name or alias of
    /// another argument of the call.
    pub const fn aliases(&self) -> &'static [&'static str] {
        self.aliases
    }

    /// How many bits of the register count on `arch`.
    pub const fn width(&self, arch: Arch) -> Width {
        match self.kind {
            Kind::U16 => Width::Bits16,
            Kind::I32 | Kind::U32 => Width::Bits32,
            _ if arch.is_64_bit() => Width::Bits64,
            _ => Width::Bits32,
        }
    }

    /// Whether it is an address in the caller's memory. A filter sees the address and never what
    /// is there; another thread can change that between the filter and the call.
    pub const fn is_pointer(&self) -> bool {
        matches!(self.kind, Kind::Pointer)
    }

    /// Whether the kernel takes it as a signed number.
    pub const fn is_signed(&self) -> bool {
        matches!(self.kind, Kind::I32 | Kind::Long | Kind::I64)
    }

    /// The named values that it takes, where the kernel's headers have such.
    pub const fn constants(&self) -> Option<&'static ConstantSet> {
        self.constants
    }
}

impl Syscall {
    /// What the call takes on `arch`, in order; `None` where it is not known, which is so for
    /// calls that are gone from the kernel or were never implemented.
    ///
    /// Arches differ: `clone` takes its flags second on s390x, `mmap` takes one pointer on i386
    /// and s390x, and 32-bit arches split a 64-bit argument over two registers. For i386 and arm
    /// this is what a 64-bit kernel takes from a 32-bit program.
    pub fn args(self, arch: Arch) -> Option<&'static [Arg]> {
        self.number(arch)?;
        let key = (self.name(), arch);
        match OTHERS.binary_search_by(|row| (row.0, row.1).cmp(&key)) {
            Ok(row) => Some(OTHERS[row].2),
            Err(_) => USUAL[self.row()],
        }
    }

    /// The argument of that name on `arch`, and its place from 0 on.
    pub fn arg(self, arch: Arch, name: &str) -> Option<(usize, &'static Arg)> {
        let args = self.args(arch)?.iter().enumerate();
        args.clone()
            .find(|(_, arg)| arg.name == name)
            .or_else(|| args.clone().find(|(_, arg)| arg.aliases.contains(&name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(call: &str, arch: Arch) -> Vec<&'static str> {
        let args = Syscall::from_name(call).unwrap().args(arch).unwrap();
        args.iter().map(Arg::name).collect()
    }

    fn arg(call: &str, name: &str) -> &'static Arg {
        Syscall::from_name(call).unwrap().arg(Arch::X86_64, name).unwrap().1
    }

    #[test]
    fn the_tables_are_in_order() {
        assert!(OTHERS.is_sorted_by(|a, b| (a.0, a.1) < (b.0, b.1)));
        for (call, arch, _) in OTHERS {
            assert!(Syscall::from_name(call).is_some_and(|call| call.number(*arch).is_some()));
        }
    }

    #[test]
    fn no_call_has_more_than_six_arguments_or_two_of_one_name() {
        for call in Syscall::all() {
            for &arch in Arch::ALL {
                let Some(args) = call.args(arch) else { continue };
                assert!(args.len() <= 6, "{call}");
                let mut seen: Vec<&str> = Vec::new();
                for arg in args {
                    for name in std::iter::once(&arg.name).chain(arg.aliases) {
                        assert!(!seen.contains(name), "{call} on {arch}: {name}");
                        seen.push(name);
                        let word = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
                        assert!(word && !["and", "or", "not", "in"].contains(name), "{name}");
                    }
                }
            }
        }
    }

    #[test]
    fn widths_are_those_of_the_definitions() {
        assert_eq!(arg("socket", "domain").width(Arch::X86_64), Width::Bits32);
        assert_eq!(arg("ioctl", "cmd").width(Arch::X86_64), Width::Bits32);
        assert_eq!(arg("ioctl", "arg").width(Arch::X86_64), Width::Bits64);
        assert_eq!(arg("clone", "flags").width(Arch::X86_64), Width::Bits64);
        assert_eq!(arg("clone", "flags").width(Arch::I386), Width::Bits32);
        assert_eq!(arg("openat", "mode").width(Arch::X86_64), Width::Bits16);
        assert_eq!(arg("mmap", "prot").width(Arch::X86_64), Width::Bits64);
        assert!(arg("openat", "pathname").is_pointer());
        assert!(arg("openat", "dirfd").is_signed());
        assert_eq!(Width::Bits32.mask(), 0xffff_ffff);
        assert_eq!(Width::Bits64.mask(), u64::MAX);
    }

    #[test]
    fn arches_differ_where_the_kernel_does() {
        assert_eq!(names("clone", Arch::X86_64)[..2], ["flags", "stack"]);
        assert_eq!(names("clone", Arch::S390x)[..2], ["stack", "flags"]);
        assert_eq!(names("clone", Arch::Aarch64)[3..], ["tls", "child_tid"]);
        assert_eq!(names("mmap", Arch::X86_64).len(), 6);
        assert_eq!(names("mmap", Arch::I386).len(), 1);
        assert_eq!(names("fallocate", Arch::I386).len(), 6);
    }

    #[test]
    fn second_names_lead_to_the_same_argument() {
        let socket = Syscall::from_name("socket").unwrap();
        assert_eq!(socket.arg(Arch::X86_64, "family").unwrap().0, 0);
        assert_eq!(socket.arg(Arch::X86_64, "domain").unwrap().0, 0);
        assert!(socket.arg(Arch::X86_64, "nothing").is_none());
    }
}
