//! Control messages (cmsg(3)) of a task, made the supervisor's own.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::Errno;
use strait_kernel::caller::Caller;

use super::address::array;

/// How many bytes of them there are at most.
pub(super) const MAX: usize = 64 << 10;

/// Control messages to send, and the descriptors that they pass on.
#[derive(Debug, Default)]
pub(super) struct Control {
    pub(super) bytes: Vec<u8>,
    /// Open until it is sent.
    passed: Vec<OwnedFd>,
}

/// `struct cmsghdr`: the length as a `size_t`, level, type. Each is aligned to eight bytes.
const HEADER: usize = 16;

/// `SOL_SOCKET`, `IPPROTO_IP`, `IPPROTO_IPV6`, `IPPROTO_UDP`.
const SOCKET: i32 = 1;
const IP: i32 = 0;
const IPV6: i32 = 41;
const UDP: i32 = 17;
/// `SCM_RIGHTS`.
const RIGHTS: i32 = 1;
/// How many descriptors one message passes on (`SCM_MAX_FD`, include/net/scm.h).
const MAX_PASSED: usize = 253;

/// What says how a packet is sent and not where to: `IP_TOS`, `IP_TTL`, `IP_PKTINFO`; `IPV6_PKTINFO`,
/// `IPV6_HOPLIMIT`, `IPV6_TCLASS`, `IPV6_DONTFRAG`; `UDP_SEGMENT`.
const HARMLESS: &[(i32, i32)] =
    &[(IP, 1), (IP, 2), (IP, 8), (IPV6, 50), (IPV6, 52), (IPV6, 67), (IPV6, 62), (UDP, 103)];

/// The same messages with descriptors of this process.
///
/// # Errors
/// EINVAL for what is none, EBADF for a descriptor that there is not, EPERM for messages that say who
/// the sender is or what way a packet takes.
pub(super) fn translate(control: &[u8], caller: &Caller) -> Result<Control, Errno> {
    let mut own = Control { bytes: control.to_owned(), passed: Vec::new() };
    let mut at = 0;
    // As the kernel does, what is too short for a header ends them.
    while control.len() - at >= HEADER {
        let header = (array(control, at), array(control, at + 8), array(control, at + 12));
        let (Some(length), Some(level), Some(kind)) = header else { return Err(Errno::INVAL) };
        let length = usize::try_from(u64::from_ne_bytes(length)).map_err(|_| Errno::INVAL)?;
        if length < HEADER || length > control.len() - at {
            return Err(Errno::INVAL);
        }
        let message = (i32::from_ne_bytes(level), i32::from_ne_bytes(kind));
        if message == (SOCKET, RIGHTS) {
            for fd in (at + HEADER..at + length).step_by(4) {
                let Some(theirs) = array(control, fd).filter(|_| fd + 4 <= at + length) else {
                    break;
                };
                if own.passed.len() == MAX_PASSED {
                    return Err(Errno::INVAL);
                }
                let copy = caller.descriptor(i32::from_ne_bytes(theirs))?;
                own.bytes[fd..fd + 4].copy_from_slice(&copy.as_raw_fd().to_ne_bytes());
                own.passed.push(copy);
            }
        } else if !HARMLESS.contains(&message) {
            return Err(Errno::PERM);
        }
        let next = length.next_multiple_of(8);
        if next > control.len() - at {
            break;
        }
        at += next;
    }
    Ok(own)
}
