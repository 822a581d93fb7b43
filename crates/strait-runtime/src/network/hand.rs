//! The supervisor's hand: one call of one task, decided and made in its place.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, ipproto, sockopt};
use strait_kernel::caller::{self, Caller, Message};
use strait_policy::network::Network;

use super::address::{self, Address, array};
use super::call::{Bytes, Call, Purpose};
use super::unix::Opened;
use super::{authority, control, unix};

/// Where a call leads to that the policy does not permit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reach {
    /// What was tried, such as `connect 192.0.2.1:80`.
    pub what: String,
    /// Why not.
    pub why: String,
    /// The list of `network`, and the entry that would permit it there, if one can.
    pub permit: Option<(&'static str, String)>,
}

/// Why a call is not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// As the kernel would refuse it.
    Errno(Errno),
    /// The policy does not permit it.
    Denied(Reach),
    /// It does not wait any more: there is nobody to answer.
    Gone,
}

impl From<Errno> for Refused {
    fn from(errno: Errno) -> Refused {
        Refused::Errno(errno)
    }
}

/// What a call is made with.
pub(super) struct Hand<'a> {
    pub(super) network: &'a Network,
    pub(super) caller: &'a Caller,
    pub(super) tid: u32,
    /// Whether the call came by this machine's own ABI, whose structures are known.
    pub(super) native: bool,
    /// Whether the call still waits: what was read before was the task's.
    pub(super) waits: &'a dyn Fn() -> bool,
    /// Whether a signal is there that the task would be interrupted by.
    pub(super) interrupted: &'a dyn Fn() -> bool,
    /// Whether the call is made at all, or only looked at.
    pub(super) makes: bool,
}

/// A copy of the caller's socket.
struct Socket {
    fd: OwnedFd,
    domain: AddressFamily,
}

/// An address that is permitted, as it is given to the kernel.
#[derive(Default)]
struct Permitted {
    bytes: Vec<u8>,
    /// What the bytes name by its descriptor, which has to be open until then.
    _opened: Option<Opened>,
}

/// How many bytes are sent at once at most. A stream takes the rest with the next call.
const MAX_PAYLOAD: usize = 1 << 20;
/// `UIO_MAXIOV`.
const MAX_PARTS: u64 = 1024;
/// `MSG_ZEROCOPY`.
const ZEROCOPY: i32 = 0x400_0000;
/// `MSG_OOB`, `MSG_DONTROUTE`, `MSG_PROBE`, `MSG_DONTWAIT`, `MSG_EOR`, `MSG_CONFIRM`, `MSG_NOSIGNAL`,
/// `MSG_MORE` and `MSG_FASTOPEN` (include/linux/socket.h).
const FLAGS: i32 = 0x1 | 0x4 | 0x10 | 0x40 | 0x80 | 0x800 | 0x4000 | 0x8000 | 0x2000_0000;
const NOSIGNAL: i32 = 0x4000;

impl Hand<'_> {
    /// Makes the call, and gives what it returns.
    pub(super) fn make(&self, call: &Call) -> Result<i64, Refused> {
        let socket = self.socket(call)?;
        match *call {
            Call::Connect { address, .. } => {
                let permitted = self.permitted(&socket, address, Purpose::Connect)?;
                self.check_waits()?;
                self.persist(|| caller::connect(socket.fd.as_fd(), &permitted.bytes))?;
                Ok(0)
            }
            Call::Bind { address, .. } => self.bind(&socket, address),
            Call::Listen { backlog, .. } => self.listen(&socket, backlog),
            Call::Send { payload, flags, address, .. } => {
                let permitted = self.named(&socket, address)?;
                let payload = self.copy(&[payload])?;
                self.send(&socket, &permitted, &payload, &control::Control::default(), flags)
            }
            Call::Message { header, flags, .. } => {
                self.check_native()?;
                self.message(&socket, header, flags)
            }
            Call::Messages { headers, count, flags, .. } => {
                self.check_native()?;
                self.messages(&socket, headers, count, flags)
            }
        }
    }

    fn socket(&self, call: &Call) -> Result<Socket, Refused> {
        let denied =
            |what: String| Refused::Denied(Reach { what: String::new(), why: what, permit: None });
        let fd = self.caller.descriptor(call.fd()).map_err(|errno| match errno {
            Errno::PERM => denied(
                "its descriptors are out of the supervisor's reach: it is another user's now, or not \
                 dumpable"
                    .to_owned(),
            ),
            errno => errno.into(),
        })?;
        let domain = sockopt::socket_domain(&fd)?;
        // A socket that was inherited, or came by another socket, may be of any kind.
        let known = match domain {
            AddressFamily::UNIX => true,
            AddressFamily::INET | AddressFamily::INET6 => {
                let kind = sockopt::socket_type(&fd)?;
                let protocol = sockopt::socket_protocol(&fd)?;
                matches!(kind, SocketType::STREAM | SocketType::DGRAM)
                    && matches!(protocol, Some(ipproto::TCP | ipproto::UDP) | None)
            }
            _ => false,
        };
        match known {
            true => Ok(Socket { fd, domain }),
            false => Err(denied(format!(
                "a socket of another kind than TCP, UDP and unix (family {})",
                domain.as_raw()
            ))),
        }
    }

    /// The address of a call, if there is one, of an address that may be left out.
    fn named(&self, socket: &Socket, address: Bytes) -> Result<Permitted, Refused> {
        match address.at {
            0 => Ok(Permitted::default()),
            _ => self.permitted(socket, address, Purpose::Send),
        }
    }

    /// Copies an address and decides on it.
    fn permitted(
        &self,
        socket: &Socket,
        from: Bytes,
        purpose: Purpose,
    ) -> Result<Permitted, Refused> {
        let address = self.address(socket, from, purpose)?;
        self.decide(&address, purpose)
    }

    /// Copies an address: the only time that it is read.
    fn address(&self, socket: &Socket, from: Bytes, purpose: Purpose) -> Result<Address, Errno> {
        let mut bytes = [0; address::MAX];
        let length = usize::try_from(from.length).ok().filter(|length| *length <= bytes.len());
        let bytes = &mut bytes[..length.ok_or(Errno::INVAL)?];
        self.caller.read(from.at, bytes)?;
        Address::parse(bytes, socket.domain, purpose)
    }

    fn decide(&self, address: &Address, purpose: Purpose) -> Result<Permitted, Refused> {
        let plain = |address: &Address| Permitted { bytes: address.to_bytes(), _opened: None };
        let denied = |what: String, why: &str, permit| {
            let verb = match purpose {
                Purpose::Connect => "connect",
                Purpose::Bind => "bind",
                Purpose::Send => "send to",
            };
            Refused::Denied(Reach { what: format!("{verb} {what}"), why: why.to_owned(), permit })
        };
        match (address, purpose) {
            // Send has no address then, whatever the socket is by now.
            (Address::Unspecified, Purpose::Send) => Ok(Permitted::default()),
            (Address::Unspecified | Address::Unnamed, _) => Ok(plain(address)),
            (Address::Ip(ip), _) => {
                let (list, entries) = match purpose {
                    Purpose::Bind => ("listen", &self.network.listen),
                    _ => ("connect", &self.network.connect),
                };
                let chosen = purpose == Purpose::Bind && ip.port() == 0 && ip.ip().is_unspecified();
                if !chosen && !entries.iter().any(|entry| entry.permits(*ip)) {
                    let why = format!("no entry of network.{list}");
                    let entry = Network::entry(*ip);
                    return Err(denied(entry.clone(), &why, Some((list, entry))));
                }
                let owned = purpose == Purpose::Bind && (1..1024).contains(&ip.port());
                if owned && authority::shared_with(self.tid).is_none() {
                    return Err(denied(Network::entry(*ip), NOT_ITS_OWN, None));
                }
                Ok(plain(address))
            }
            (Address::Abstract(name), _) => {
                let what = format!("@{}", shown(name));
                if !unix::permits_abstract(name, self.network) {
                    let permit = std::str::from_utf8(name)
                        .ok()
                        .filter(|name| !name.is_empty() && !name.contains('\0'))
                        .map(|name| ("unix", format!("@{name}")));
                    return Err(denied(what, "no entry of network.unix", permit));
                }
                if authority::shared_with(self.tid).is_none() {
                    return Err(denied(what, NOT_ITS_OWN, None));
                }
                Ok(plain(address))
            }
            (Address::Path(path), Purpose::Bind) => {
                // Decided in `bind`, where the path is followed.
                Err(denied(shown(path), "no entry of network.unix", None))
            }
            (Address::Path(path), _) => {
                let opened = Opened::new(self.tid, path)?;
                let what = opened.path.display().to_string();
                if !opened.is_permitted(self.network) {
                    let why = "no entry of network.unix";
                    return Err(denied(what.clone(), why, Some(("unix", what))));
                }
                if authority::shared_with(self.tid).is_none() {
                    return Err(denied(what, NOT_ITS_OWN, None));
                }
                let bytes = Address::Path(opened.name()).to_bytes();
                Ok(Permitted { bytes, _opened: Some(opened) })
            }
        }
    }

    fn bind(&self, socket: &Socket, from: Bytes) -> Result<i64, Refused> {
        let address = self.address(socket, from, Purpose::Bind)?;
        let Address::Path(path) = &address else {
            let permitted = self.decide(&address, Purpose::Bind)?;
            self.check_waits()?;
            caller::bind(socket.fd.as_fd(), &permitted.bytes)?;
            return Ok(0);
        };
        let (folder, name) = unix::split(path).ok_or(Errno::ADDRINUSE)?;
        let folder = Opened::new(self.tid, folder)?;
        let what = folder.path.join(name).display().to_string();
        let denied = |why: &str, permit| {
            let what = format!("bind {what}");
            Refused::Denied(Reach { what, why: why.to_owned(), permit })
        };
        if !folder.permits_new(name, self.network) {
            return Err(denied("no entry of network.unix", Some(("unix", what.clone()))));
        }
        let authority = authority::shared_with(self.tid);
        let authority = authority.ok_or_else(|| denied(NOT_ITS_OWN, None))?;
        let cwd = Opened::new(self.tid, b".")?;
        self.check_waits()?;
        // The name stays as it was written, as peers are told it; so the kernel follows the path again,
        // from where the task stands. What a task could win by moving folders meanwhile is a
        // socket in a place where it may make one anyway.
        rustix::process::fchdir(cwd.file())?;
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(authority.umask));
        caller::bind(socket.fd.as_fd(), &address.to_bytes())?;
        Ok(0)
    }

    fn listen(&self, socket: &Socket, backlog: i32) -> Result<i64, Refused> {
        // A unix socket's name was decided when it was bound.
        if socket.domain != AddressFamily::UNIX {
            let unbound = match socket.domain {
                AddressFamily::INET => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
                _ => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
            };
            let bound = rustix::net::getsockname(&socket.fd)?;
            let address = SocketAddr::try_from(bound).unwrap_or(unbound);
            // Port 0 stands for the one that the kernel chose.
            let chosen = SocketAddr::new(address.ip(), 0);
            let permits = |address| self.network.listen.iter().any(|e| e.permits(address));
            if !permits(address) && !permits(chosen) {
                let entry = Network::entry(address);
                return Err(Refused::Denied(Reach {
                    what: format!("listen on {entry}"),
                    why: "no entry of network.listen".to_owned(),
                    permit: Some(("listen", entry)),
                }));
            }
        }
        self.check_waits()?;
        rustix::net::listen(&socket.fd, backlog)?;
        Ok(0)
    }

    /// sendmsg with a `struct msghdr`.
    fn message(&self, socket: &Socket, header: u64, flags: i32) -> Result<i64, Refused> {
        // name, length of it and padding, parts, how many, control, length of it, flags
        let mut bytes = [0; 56];
        self.caller.read(header, &mut bytes)?;
        let word = |at| array(&bytes, at).map_or(0, u64::from_ne_bytes);
        let length = array(&bytes, 8).map_or(0, u32::from_ne_bytes);
        let name = match length {
            0 => Bytes { at: 0, length: 0 },
            length => Bytes { at: word(0), length: length.into() },
        };
        let permitted = self.named(socket, name)?;
        let count = word(24);
        if count > MAX_PARTS {
            return Err(Errno::MSGSIZE.into());
        }
        let mut parts = vec![0; usize::try_from(count).unwrap_or(0) * 16];
        self.caller.read(word(16), &mut parts)?;
        let (pairs, _) = parts.as_chunks::<16>();
        let pair = |pair: &[u8; 16]| Bytes {
            at: array(pair, 0).map_or(0, u64::from_ne_bytes),
            length: array(pair, 8).map_or(0, u64::from_ne_bytes),
        };
        let payload = self.copy(&pairs.iter().map(pair).collect::<Vec<_>>())?;
        let length = match word(32) {
            0 => 0,
            _ => usize::try_from(word(40)).map_err(|_| Errno::NOBUFS)?,
        };
        if length > control::MAX {
            return Err(Errno::NOBUFS.into());
        }
        let mut control = vec![0; length];
        self.caller.read(word(32), &mut control)?;
        let control = control::translate(&control, self.caller).map_err(|errno| match errno {
            Errno::PERM => Refused::Denied(Reach {
                what: "send a control message".to_owned(),
                why: "it says who sends, or what way a packet takes".to_owned(),
                permit: None,
            }),
            errno => errno.into(),
        })?;
        self.send(socket, &permitted, &payload, &control, flags)
    }

    /// sendmmsg: one after the other, until one fails.
    fn messages(
        &self,
        socket: &Socket,
        headers: u64,
        count: u32,
        flags: i32,
    ) -> Result<i64, Refused> {
        /// `struct mmsghdr`: a header, how many bytes were sent, padding.
        const SIZE: u64 = 64;
        const SENT_AT: u64 = 56;
        let mut done = 0_i64;
        for index in 0..u64::from(count).min(MAX_PARTS) {
            let at = headers.wrapping_add(index * SIZE);
            let sent = self.message(socket, at, flags).and_then(|sent| {
                let sent = u32::try_from(sent).unwrap_or(u32::MAX);
                self.caller.write(at.wrapping_add(SENT_AT), &sent.to_ne_bytes())?;
                Ok(())
            });
            match sent {
                Ok(()) => done += 1,
                Err(Refused::Errno(_) | Refused::Denied(_)) if done > 0 => break,
                Err(refused) => return Err(refused),
            }
        }
        Ok(done)
    }

    fn send(
        &self,
        socket: &Socket,
        permitted: &Permitted,
        payload: &[u8],
        control: &control::Control,
        flags: i32,
    ) -> Result<i64, Refused> {
        // The copy that would be sent from is not the memory that the task would keep as it is.
        if flags & ZEROCOPY != 0 {
            return Err(Errno::NOBUFS.into());
        }
        // To a unix socket's peer the sender is whoever makes the call.
        if socket.domain == AddressFamily::UNIX && authority::shared_with(self.tid).is_none() {
            return Err(Refused::Denied(Reach {
                what: "send by a unix socket".to_owned(),
                why: NOT_ITS_OWN.to_owned(),
                permit: None,
            }));
        }
        self.check_waits()?;
        let message = Message {
            address: &permitted.bytes,
            payload,
            control: &control.bytes,
            flags: flags & FLAGS,
        };
        let sent = self.persist(|| caller::send(socket.fd.as_fd(), &message));
        // Of streams only: net/core/stream.c (sk_stream_error), net/unix/af_unix.c (unix_stream_sendmsg).
        if sent == Err(Errno::PIPE)
            && flags & NOSIGNAL == 0
            && sockopt::socket_type(&socket.fd) == Ok(SocketType::STREAM)
            && (self.waits)()
        {
            self.caller.signal_pipe();
        }
        Ok(i64::try_from(sent?).unwrap_or(i64::MAX))
    }

    /// Copies what is to be sent, as much of it as is sent at once.
    fn copy(&self, parts: &[Bytes]) -> Result<Vec<u8>, Refused> {
        let mut copied = Vec::new();
        for part in parts {
            let room = MAX_PAYLOAD - copied.len();
            let length = usize::try_from(part.length).unwrap_or(usize::MAX).min(room);
            let from = copied.len();
            copied.resize(from + length, 0);
            self.caller.read(part.at, &mut copied[from..])?;
        }
        Ok(copied)
    }

    /// Makes a call again that was interrupted by what is no business of the task.
    fn persist<T>(&self, mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
        loop {
            match call() {
                Err(Errno::INTR) if !(self.interrupted)() => {}
                done => return done,
            }
        }
    }

    /// The last thing before a call is made: everything that was read was the task's, and the call is
    /// to be made.
    fn check_waits(&self) -> Result<(), Refused> {
        if self.makes && (self.waits)() { Ok(()) } else { Err(Refused::Gone) }
    }

    fn check_native(&self) -> Result<(), Refused> {
        match self.native {
            true => Ok(()),
            false => Err(Refused::Denied(Reach {
                what: "send a message".to_owned(),
                why: "the call came by another ABI, whose structures are not read".to_owned(),
                permit: None,
            })),
        }
    }
}

const NOT_ITS_OWN: &str = "the supervisor does not act for a task that has another user, other groups, \
                           fewer capabilities or another root than it has itself";

/// A name for a person.
fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).escape_debug().to_string()
}
