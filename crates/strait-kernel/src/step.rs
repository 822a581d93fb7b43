//! The call by which a program asks to move on to a step: prctl(2) with an option that no kernel has, and
//! the name of the step in the other registers.
//!
//! ```c
//! uint64_t name[4] = {0};
//! memcpy(name, "release", 7);
//! prctl(0x53545254, name[0], name[1], name[2], name[3]);
//! ```
//!
//! It takes no memory, no descriptor and no permission of a policy: a filter of `strait run` notifies it
//! whatever else is said of prctl, so it is the kernel that tells whose it is.

use std::io;

/// The option, `STRT`. The kernel answers EINVAL where nobody takes it.
pub const OPTION: u32 = 0x5354_5254;

/// How long a name may be, in bytes: four registers of 8.
pub const MAX_NAME: usize = 32;

/// Why there was no move.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// The name is empty, too long or has a zero byte.
    #[error("`{0}` is no name of a step: it has 1 to 32 bytes, none of them zero")]
    Name(String),
    /// The policy has no such step (ESRCH).
    #[error("the policy that this runs under has no step `{0}`")]
    Unknown(String),
    /// The workload is at a later step (EALREADY).
    #[error("this has moved beyond step `{0}`, and a step can only tighten")]
    Past(String),
    /// It has moved, and not everything is confined (EIO).
    #[error("the move to step `{0}` was made, and a task was found that has no filter")]
    NotHeld(String),
    /// Nobody takes it (EINVAL).
    #[error(
        "nothing here takes moves: this does not run under `strait run` with a policy that has a later step"
    )]
    NotSupervised,
    /// Who took it is gone (ENOSYS).
    #[error(
        "the `strait run` that this was started by is gone; calls that a later step denies fail already"
    )]
    Gone,
    /// Anything else, such as the answer of another filter.
    #[error("the move was refused; another filter may forbid prctl")]
    Os(#[source] io::Error),
}

/// `ESRCH`, `EALREADY` and `EIO`: what a supervisor answers.
pub const UNKNOWN: u16 = 3;
/// See [`UNKNOWN`].
pub const PAST: u16 = 114;
/// See [`UNKNOWN`].
pub const NOT_HELD: u16 = 5;

/// Asks to move on to a step: all threads of all processes of the workload are at it when this returns.
///
/// # Errors
/// Why they are not.
pub fn ask(name: &str) -> Result<(), StepError> {
    let Some([a, b, c, d]) = encode(name) else {
        return Err(StepError::Name(name.to_owned()));
    };
    // SAFETY: the call takes numbers only; the kernel itself knows no such option.
    let done = unsafe { libc::syscall(libc::SYS_prctl, OPTION, a, b, c, d) };
    if done == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    let name = name.to_owned();
    Err(match error.raw_os_error() {
        Some(libc::ESRCH) => StepError::Unknown(name),
        Some(libc::EALREADY) => StepError::Past(name),
        Some(libc::EIO) => StepError::NotHeld(name),
        Some(libc::EINVAL) => StepError::NotSupervised,
        Some(libc::ENOSYS) => StepError::Gone,
        _ => StepError::Os(error),
    })
}

/// The registers that name a step, little-endian and filled up with zeros; `None` if none do.
pub fn encode(name: &str) -> Option<[u64; 4]> {
    if name.is_empty() || name.len() > MAX_NAME || name.contains('\0') {
        return None;
    }
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(name.as_bytes().chunks(8)) {
        let mut whole = [0; 8];
        whole[..bytes.len()].copy_from_slice(bytes);
        *word = u64::from_le_bytes(whole);
    }
    Some(words)
}

/// The name that a call with these arguments is about: four registers of 8 bytes, or of 4 where the ABI
/// has 32 bits. `None` if it is no text.
pub fn decode(args: &[u64; 6], is_64_bit: bool) -> Option<String> {
    let width = if is_64_bit { 8 } else { 4 };
    let bytes = args[1..5].iter().flat_map(|word| word.to_le_bytes().into_iter().take(width));
    let mut bytes: Vec<u8> = bytes.collect();
    let length = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(length);
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        for name in ["a", "release", "8 bytes!", "und weiter…", "exactly thirty-two bytes long .."]
        {
            let [a, b, c, d] = encode(name).unwrap();
            assert_eq!(decode(&[77, a, b, c, d, 99], true).unwrap(), name);
        }
        for name in ["", "a\0b", "thirty-three bytes are one too much"] {
            assert_eq!(encode(name), None);
        }
        let word = |text: &[u8; 4]| u64::from(u32::from_le_bytes(*text));
        let args = [0, word(b"rele"), word(b"ase\0"), 0, 0, 0];
        assert_eq!(decode(&args, false).unwrap(), "release");
        assert_eq!(decode(&[0, 0xff, 0, 0, 0, 0], true), None);
    }

    #[test]
    fn nobody_takes_it_here() {
        assert!(matches!(ask("release"), Err(StepError::NotSupervised)));
        assert!(matches!(ask(""), Err(StepError::Name(_))));
    }
}
