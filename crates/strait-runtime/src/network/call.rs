//! The calls that lead to an address, read off their registers.

use std::os::fd::RawFd;

use strait_bpf::SeccompData;
use strait_policy::call;

/// What an address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Connect,
    Bind,
    Send,
}

/// A call; numbers that begin with an address are pointers into the caller's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Connect {
        fd: RawFd,
        address: Bytes,
    },
    Bind {
        fd: RawFd,
        address: Bytes,
    },
    Listen {
        fd: RawFd,
        backlog: i32,
    },
    /// sendto.
    Send {
        fd: RawFd,
        payload: Bytes,
        flags: i32,
        address: Bytes,
    },
    /// sendmsg: where its `struct msghdr` is.
    Message {
        fd: RawFd,
        header: u64,
        flags: i32,
    },
    /// sendmmsg: where the array of `struct mmsghdr` is, and how many of them there are.
    Messages {
        fd: RawFd,
        headers: u64,
        count: u32,
        flags: i32,
    },
}

/// Bytes in the caller's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bytes {
    pub(super) at: u64,
    pub(super) length: u64,
}

impl Call {
    /// The call, if it is one of these.
    pub(super) fn new(data: &SeccompData) -> Option<Call> {
        let [first, second, third, fourth, fifth, sixth] = data.args;
        let fd = int(first);
        // `int` to the kernel: one below 0 is too long for any address.
        let address = |at, length: u64| Bytes { at, length: length & 0xffff_ffff };
        Some(match call::name(data)?.name() {
            "connect" => Call::Connect { fd, address: address(second, third) },
            "bind" => Call::Bind { fd, address: address(second, third) },
            "listen" => Call::Listen { fd, backlog: int(second) },
            "sendto" => Call::Send {
                fd,
                payload: Bytes { at: second, length: third },
                flags: int(fourth),
                address: address(fifth, sixth),
            },
            "sendmsg" => Call::Message { fd, header: second, flags: int(third) },
            "sendmmsg" => Call::Messages {
                fd,
                headers: second,
                count: u32::try_from(third & 0xffff_ffff).unwrap_or(u32::MAX),
                flags: int(fourth),
            },
            _ => return None,
        })
    }

    pub(super) fn fd(&self) -> RawFd {
        match *self {
            Call::Connect { fd, .. }
            | Call::Bind { fd, .. }
            | Call::Listen { fd, .. }
            | Call::Send { fd, .. }
            | Call::Message { fd, .. }
            | Call::Messages { fd, .. } => fd,
        }
    }
}

/// The low 32 bits, as the kernel takes an `int`.
fn int(register: u64) -> i32 {
    let [a, b, c, d, ..] = register.to_le_bytes();
    i32::from_le_bytes([a, b, c, d])
}
