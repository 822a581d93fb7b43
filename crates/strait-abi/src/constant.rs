//! Named constants of arguments: names to values, and values to text.

use crate::Arch;

pub(crate) use crate::tables::constants as sets;

/// The names that an argument's values have.
///
/// Some bits of a value can be one number (the field, such as a socket's type) and the others
/// flags (such as `SOCK_CLOEXEC`): an enumeration has only a field, a set of flags has none.
#[derive(Debug)]
pub struct ConstantSet {
    name: &'static str,
    field: Field,
    constants: &'static [Constant],
}

/// Which bits are one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// All of them.
    All,
    /// None.
    Flags,
    /// These.
    Mask(u64),
    /// All, and other arguments tell which of several meanings a number has.
    Ambiguous,
}

/// A name and its values.
#[derive(Debug)]
pub(crate) struct Constant {
    pub(crate) name: &'static str,
    pub(crate) values: Values,
}

/// A constant's value by arch.
#[derive(Debug)]
pub(crate) enum Values {
    /// The same everywhere.
    All(i64),
    /// The same on these arches, bit n for [`Arch::ALL`]'s n-th, and absent elsewhere.
    Some(u16, i64),
    /// By arch, in the order of [`Arch::ALL`].
    Per([Option<i64>; Arch::ALL.len()]),
}

/// A constant that has one value everywhere.
pub(crate) const fn same(name: &'static str, value: i64) -> Constant {
    Constant { name, values: Values::All(value) }
}

/// A constant of some arches, see [`Values::Some`].
pub(crate) const fn some(name: &'static str, arches: u16, value: i64) -> Constant {
    Constant { name, values: Values::Some(arches, value) }
}

/// A constant whose values differ.
pub(crate) const fn per(name: &'static str, values: [Option<i64>; Arch::ALL.len()]) -> Constant {
    Constant { name, values: Values::Per(values) }
}

impl Constant {
    /// The value, sign-extended to 64 bits as C converts it.
    fn value(&self, arch: Arch) -> Option<u64> {
        let index = arch as usize;
        match &self.values {
            Values::All(value) => Some(*value),
            Values::Some(arches, value) => (arches >> index & 1 == 1).then_some(*value),
            Values::Per(values) => values[index],
        }
        .map(i64::cast_unsigned)
    }
}

impl ConstantSet {
    pub(crate) const fn new(
        name: &'static str,
        field: Field,
        constants: &'static [Constant],
    ) -> ConstantSet {
        ConstantSet { name, field, constants }
    }

    /// What the set is called here, such as `OPEN_FLAGS`.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The bits that are one number rather than flags: all of them for an enumeration, none for a
    /// set of flags, `0xf` for a socket's type.
    pub const fn field_mask(&self) -> u64 {
        match self.field {
            Field::All | Field::Ambiguous => u64::MAX,
            Field::Flags => 0,
            Field::Mask(mask) => mask,
        }
    }

    /// The value of a name on `arch`, sign-extended to 64 bits (`AT_FDCWD` is -100); the argument's
    /// width says how much of it counts. `None` where the arch has no such name.
    pub fn value(&self, arch: Arch, name: &str) -> Option<u64> {
        self.constants.iter().find(|constant| constant.name == name)?.value(arch)
    }

    /// Every name that `arch` has, with its value, in order of value on the first arch.
    pub fn iter(&self, arch: Arch) -> impl Iterator<Item = (&'static str, u64)> {
        let value = move |constant: &'static Constant| Some((constant.name, constant.value(arch)?));
        self.constants.iter().filter_map(value)
    }

    /// The value as a person writes it: `O_WRONLY|O_CREAT|0x8000000`. `value` is taken as having
    /// only the `width` bits that the kernel looks at.
    ///
    /// The bits that no name has are in hexadecimal, a number that has no name (or, among socket
    /// options, several) in decimal.
    pub fn text(&self, arch: Arch, value: u64, width: crate::Width) -> String {
        let value = value & width.mask();
        let field_mask = self.field_mask() & width.mask();
        let field = value & field_mask;
        let is = |bits: u64| move |(_, known): &(&str, u64)| known & width.mask() == bits;
        match self.field {
            Field::Ambiguous => return value.to_string(),
            Field::Mask(_) => {}
            Field::All | Field::Flags => {
                if let Some((name, _)) = self.iter(arch).find(is(value)) {
                    return name.to_owned();
                }
                if self.field == Field::All {
                    return value.to_string();
                }
            }
        }
        if value == width.mask() {
            return format!("{value:#x}");
        }
        let mut parts: Vec<String> = Vec::new();
        if field_mask != 0 {
            match self.iter(arch).find(is(field)) {
                Some((name, _)) => parts.push(name.to_owned()),
                None if field != 0 => parts.push(format!("{field:#x}")),
                None => {}
            }
        }
        let mut rest = value & !field_mask;
        // Names of several bits (O_SYNC, O_TMPFILE) go before those of one of them.
        let mut flags: Vec<(&str, u64)> = self
            .iter(arch)
            .map(|(name, flag)| (name, flag & width.mask()))
            .filter(|(_, flag)| flag & field_mask == 0 && *flag != 0)
            .collect();
        flags.sort_by_key(|(_, flag)| std::cmp::Reverse(flag.count_ones()));
        let mut found: Vec<(u64, &str)> = Vec::new();
        for (name, flag) in flags {
            if rest & flag == flag {
                found.push((flag, name));
                rest &= !flag;
            }
        }
        found.sort_by_key(|(flag, _)| *flag);
        parts.extend(found.into_iter().map(|(_, name)| name.to_owned()));
        if rest != 0 || parts.is_empty() {
            parts.push(format!("{rest:#x}"));
        }
        parts.join("|")
    }
}

impl Arch {
    /// The number of an error name such as `EPERM` on this arch (`asm/errno.h`).
    pub fn errno(self, name: &str) -> Option<u16> {
        sets::ERRNO.value(self, name).and_then(|number| u16::try_from(number).ok())
    }

    /// The name of an error number on this arch. Where a number has two names, the usual one:
    /// `EAGAIN`, `EDEADLK`, `EOPNOTSUPP`.
    pub fn errno_name(self, number: u16) -> Option<&'static str> {
        sets::ERRNO.iter(self).find(|(_, known)| *known == u64::from(number)).map(|(name, _)| name)
    }

    /// The number of a signal name such as `SIGTERM` on this arch (`asm/signal.h`).
    pub fn signal(self, name: &str) -> Option<u16> {
        sets::SIGNAL.value(self, name).and_then(|number| u16::try_from(number).ok())
    }

    /// The name of a signal number on this arch.
    pub fn signal_name(self, number: u16) -> Option<&'static str> {
        sets::SIGNAL.iter(self).find(|(_, known)| *known == u64::from(number)).map(|(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Syscall, Width};

    fn set(call: &str, arg: &str) -> &'static ConstantSet {
        let (_, arg) = Syscall::from_name(call).unwrap().arg(Arch::X86_64, arg).unwrap();
        arg.constants().unwrap()
    }

    fn value(call: &str, arg: &str, arch: Arch, name: &str) -> Option<u64> {
        set(call, arg).value(arch, name)
    }

    #[test]
    fn values_are_those_of_the_headers() {
        let x86 = Arch::X86_64;
        assert_eq!(value("socket", "domain", x86, "AF_INET6"), Some(10));
        assert_eq!(value("socket", "type", x86, "SOCK_CLOEXEC"), Some(0o2_000_000));
        assert_eq!(value("openat", "dirfd", x86, "AT_FDCWD"), Some((-100_i64).cast_unsigned()));
        assert_eq!(value("clone", "flags", x86, "CLONE_NEWUSER"), Some(0x1000_0000));
        assert_eq!(value("prctl", "option", x86, "PR_SET_NO_NEW_PRIVS"), Some(38));
        assert_eq!(value("ioctl", "cmd", x86, "TIOCSTI"), Some(0x5412));
        assert_eq!(value("fcntl", "cmd", x86, "F_ADD_SEALS"), Some(1033));
        assert_eq!(value("memfd_create", "flags", x86, "MFD_NOEXEC_SEAL"), Some(8));
        assert_eq!(value("bpf", "cmd", x86, "BPF_PROG_LOAD"), Some(5));
        assert_eq!(value("keyctl", "operation", x86, "KEYCTL_JOIN_SESSION_KEYRING"), Some(1));
        assert_eq!(value("ptrace", "request", x86, "PTRACE_ATTACH"), Some(16));
        assert_eq!(value("seccomp", "operation", x86, "SECCOMP_SET_MODE_FILTER"), Some(1));
        assert_eq!(value("arch_prctl", "code", x86, "ARCH_SET_FS"), Some(0x1002));
        assert_eq!(value("madvise", "advice", x86, "MADV_DONTNEED"), Some(4));
        assert_eq!(value("personality", "persona", x86, "ADDR_NO_RANDOMIZE"), Some(0x40000));
        assert_eq!(value("kcmp", "type", x86, "KCMP_FILE"), Some(0));
    }

    #[test]
    fn values_differ_by_arch_where_the_headers_do() {
        let flag = |arch, name| value("openat", "flags", arch, name);
        // asm-generic/fcntl.h, and arch/{arm,arm64,powerpc}/include/uapi/asm/fcntl.h
        assert_eq!(flag(Arch::X86_64, "O_DIRECTORY"), Some(0o200_000));
        assert_eq!(flag(Arch::Aarch64, "O_DIRECTORY"), Some(0o40_000));
        assert_eq!(flag(Arch::Ppc64le, "O_DIRECT"), Some(0o400_000));
        // arch/powerpc/include/uapi/asm/ioctls.h
        assert_eq!(value("ioctl", "cmd", Arch::Ppc64le, "TCGETS"), Some(0x402c_7413));
        // arch/powerpc/include/uapi/asm/errno.h
        assert_eq!(Arch::Ppc64le.errno("EDEADLOCK"), Some(58));
        assert_eq!(Arch::X86_64.errno("EDEADLOCK"), Some(35));
        assert_eq!(value("arch_prctl", "code", Arch::Aarch64, "ARCH_SET_FS"), None);
    }

    #[test]
    fn values_are_printed_as_a_person_writes_them() {
        let text = |call, arg, value| set(call, arg).text(Arch::X86_64, value, Width::Bits32);
        assert_eq!(text("openat", "flags", 0), "O_RDONLY");
        assert_eq!(
            text("openat", "flags", 0o1 | 0o100 | 0o2_000_000),
            "O_WRONLY|O_CREAT|O_CLOEXEC"
        );
        assert_eq!(text("openat", "flags", 0o4_010_000), "O_RDONLY|O_SYNC");
        assert_eq!(text("openat", "flags", 1 << 30), "O_RDONLY|0x40000000");
        assert_eq!(text("socket", "type", 1 | 0o2_000_000), "SOCK_STREAM|SOCK_CLOEXEC");
        assert_eq!(text("socket", "domain", 1), "AF_UNIX");
        assert_eq!(text("socket", "domain", 99), "99");
        assert_eq!(text("socket", "protocol", 0), "0");
        assert_eq!(text("mprotect", "prot", 0), "PROT_NONE");
        assert_eq!(text("mprotect", "prot", 7), "PROT_READ|PROT_WRITE|PROT_EXEC");
        assert_eq!(text("clone", "flags", 0x1000_0011), "SIGCHLD|CLONE_NEWUSER");
        assert_eq!(text("openat", "dirfd", 0xffff_ff9c), "AT_FDCWD");
        assert_eq!(text("openat", "dirfd", 0xffff_ffff_ffff_ff9c), "AT_FDCWD");
        assert_eq!(text("futex", "op", 128), "FUTEX_WAIT|FUTEX_PRIVATE_FLAG");
        assert_eq!(text("unshare", "flags", 0), "0x0");
        assert_eq!(text("personality", "persona", 0xffff_ffff), "0xffffffff");
        assert_eq!(text("personality", "persona", 0x20008), "PER_LINUX32|UNAME26");
    }

    #[test]
    fn every_value_leads_back_to_a_name_of_the_same_value() {
        for call in Syscall::all() {
            for &arch in Arch::ALL {
                for arg in call.args(arch).into_iter().flatten() {
                    let Some(set) = arg.constants() else { continue };
                    if set.field == Field::Ambiguous {
                        continue;
                    }
                    let width = arg.width(arch);
                    let values = set.iter(arch).filter(|(name, _)| !name.ends_with("_MASK"));
                    for (name, value) in values {
                        let text = set.text(arch, value, width);
                        let back = text.split('|').fold(0, |bits, name| {
                            bits | set.value(arch, name).unwrap_or_else(|| panic!("{text}"))
                        });
                        assert_eq!(back & width.mask(), value & width.mask(), "{name} on {arch}");
                    }
                }
            }
        }
    }

    #[test]
    fn errors_and_signals_have_one_name_each() {
        for &arch in Arch::ALL {
            for (name, number) in sets::ERRNO.iter(arch) {
                let number = u16::try_from(number).unwrap();
                assert_eq!(arch.errno(name), Some(number));
                let usual = arch.errno_name(number).unwrap();
                assert_eq!(arch.errno(usual), Some(number));
            }
            assert_eq!(arch.errno("EPERM"), Some(1));
            assert_eq!(arch.errno_name(38), Some("ENOSYS"));
            assert_eq!(arch.errno_name(11), Some("EAGAIN"));
            assert_eq!(arch.errno_name(95), Some("EOPNOTSUPP"));
            assert_eq!(arch.errno_name(0), None);
            assert_eq!(arch.signal("SIGKILL"), Some(9));
            assert_eq!(arch.signal_name(17), Some("SIGCHLD"));
        }
    }
}
