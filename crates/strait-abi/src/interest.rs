//! Which arguments tell what a call is for, so that it pays to know their values.
//!
//! Those are flags, commands, domains, options and signals: small sets of values with a meaning
//! that does not change from run to run. Descriptors, sizes, addresses and ids are not, and what a
//! pointer leads to is data.

use crate::constant::sets;
use crate::{Arch, Arg, Syscall};

/// Names of arguments that are such values, where the headers have no names for these.
const NAMES: &[&str] = &["flags", "cmd", "option", "opcode", "rule_type", "swapflags"];

impl Arg {
    /// Whether it is of interest: a flag, command, domain, option or signal.
    pub fn is_of_interest(&self) -> bool {
        match self.constants() {
            Some(set) => !std::ptr::eq(set, &sets::DIRECTORY_DESCRIPTOR),
            None => !self.is_pointer() && NAMES.contains(&self.name()),
        }
    }
}

impl Syscall {
    /// The arguments of interest on `arch`, each with its place from 0 on; none where it is not
    /// known what the call takes.
    pub fn args_of_interest(self, arch: Arch) -> impl Iterator<Item = (usize, &'static Arg)> {
        let args = self.args(arch).unwrap_or_default();
        args.iter().enumerate().filter(|(_, arg)| arg.is_of_interest())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(call: &str) -> Vec<&'static str> {
        let call = Syscall::from_name(call).unwrap();
        call.args_of_interest(Arch::X86_64).map(|(_, arg)| arg.name()).collect()
    }

    #[test]
    fn flags_commands_domains_options_and_signals_are_of_interest_and_nothing_else() {
        assert_eq!(of("socket"), ["domain", "type", "protocol"]);
        assert_eq!(of("ioctl"), ["cmd"]);
        assert_eq!(of("openat"), ["flags"]);
        assert_eq!(of("prctl"), ["option"]);
        assert_eq!(of("kill"), ["sig"]);
        assert_eq!(of("mmap"), ["prot", "flags"]);
        assert_eq!(of("renameat2"), ["flags"]);
        assert_eq!(of("read"), [""; 0]);
        assert_eq!(of("getrandom"), ["flags"]);
    }

    #[test]
    fn no_pointer_is_of_interest() {
        for call in Syscall::all() {
            for &arch in Arch::ALL {
                assert!(call.args_of_interest(arch).all(|(_, arg)| !arg.is_pointer()), "{call}");
                assert!(call.args_of_interest(arch).count() <= 4, "{call} on {arch}");
            }
        }
    }
}
