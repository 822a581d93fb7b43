//! Errnos by name, as policies and people write them.
//!
//! A policy's errnos are those of every ABI that it is for: the ABIs known here share them
//! (`include/uapi/asm-generic/errno.h`), but for the second name that EDEADLOCK is elsewhere.

use strait_abi::Arch;
use strait_bpf::Action;

/// The name of an errno, or `None` where Linux has none.
pub fn errno_name(errno: u16) -> Option<&'static str> {
    Arch::X86_64.errno_name(errno)
}

/// The errno of that name.
pub fn errno_number(name: &str) -> Option<u16> {
    Arch::X86_64.errno(name)
}

/// Every name, second names not among them.
pub(crate) fn errno_names() -> impl Iterator<Item = &'static str> {
    (0..=Action::MAX_ERRNO).filter_map(errno_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_abi_has_the_same_errnos() {
        for name in errno_names() {
            for &arch in Arch::ALL {
                assert_eq!(arch.errno(name), errno_number(name), "{name} on {arch}");
            }
        }
        assert_eq!(errno_number("ENOSYS"), Some(38));
        assert_eq!(errno_number("EPREM"), None);
        assert_eq!(errno_name(41), None);
    }
}
