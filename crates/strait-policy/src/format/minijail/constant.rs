//! Constants by name, as a `.policy` file has them: whatever argument they are for.

use strait_abi::{Arch, Syscall};

use crate::errno_number;
use crate::text::nearest;

/// The constant of that name: of the call's own arguments first.
pub(super) fn value(arch: Arch, call: Option<Syscall>, name: &str) -> Option<u64> {
    let of = |call: Syscall| {
        let args = call.args(arch).unwrap_or_default();
        args.iter().find_map(|arg| arg.constants()?.value(arch, name))
    };
    let errno = || errno_number(name).map(u64::from);
    call.and_then(of).or_else(|| Syscall::all().find_map(of)).or_else(errno)
}

/// A constant that an unknown one may be meant to be.
pub(super) fn nearest_to(arch: Arch, call: Option<Syscall>, name: &str) -> Option<String> {
    let args = call.and_then(|call| call.args(arch)).unwrap_or_default();
    let sets = args.iter().filter_map(|arg| arg.constants());
    let known = sets.flat_map(|set| set.iter(arch)).map(|(known, _)| known);
    nearest(name, known.chain(crate::errno::errno_names()))
}

/// A number as strtol(3) reads it: decimal, `0x`, or octal after a 0; it may be negative.
pub(super) fn number(text: &str) -> Option<u64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (radix, rest) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    let value = u64::from_str_radix(rest, radix).ok().filter(|_| !rest.starts_with('+'))?;
    if digits.len() == text.len() {
        return Some(value);
    }
    // The least is that of a signed number.
    (value <= 1 << 63).then(|| value.wrapping_neg())
}
