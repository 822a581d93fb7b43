//! Addresses of sockets, from the bytes that a task gives and back to bytes.
//!
//! A call is made with bytes that were written here and never with those that were read: so what the
//! kernel takes them for is what was decided on, also where it depends on the socket (AF_UNSPEC is IPv4
//! to some calls) and the socket is changed meanwhile (IPV6_ADDRFORM).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use rustix::io::Errno;
use rustix::net::AddressFamily;

use super::call::Purpose;

/// How many bytes an address has at most: `struct sockaddr_storage`.
pub(super) const MAX: usize = 128;

/// An address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// Of the internet families.
    Ip(SocketAddr),
    /// A unix socket's path, as it was written.
    Path(Vec<u8>),
    /// A unix socket's name that stands in no folder, without its NUL byte.
    Abstract(Vec<u8>),
    /// A unix address without a name: bind chooses one.
    Unnamed,
    /// AF_UNSPEC: connect dissolves the association, send has no address.
    Unspecified,
}

/// Where the path begins in `struct sockaddr_un`.
const SUN_PATH: usize = 2;

impl Address {
    /// Reads what a call on a socket of this family takes.
    ///
    /// # Errors
    /// What the kernel would answer to bytes that are none.
    pub(super) fn parse(
        bytes: &[u8],
        socket: AddressFamily,
        purpose: Purpose,
    ) -> Result<Address, Errno> {
        let family: [u8; 2] = array(bytes, 0).ok_or(Errno::INVAL)?;
        let family = AddressFamily::from_raw(u16::from_ne_bytes(family));
        match (socket, family) {
            (AddressFamily::UNIX, AddressFamily::UNIX) => unix(&bytes[SUN_PATH..]),
            (AddressFamily::INET, AddressFamily::INET)
            | (AddressFamily::INET6, AddressFamily::INET) => ipv4(bytes),
            (AddressFamily::INET6, AddressFamily::INET6) => ipv6(bytes),
            (_, AddressFamily::UNSPEC) if purpose == Purpose::Connect => Ok(Address::Unspecified),
            // As old programs write it; bind takes it for no address but 0.0.0.0.
            (AddressFamily::INET, AddressFamily::UNSPEC) => match ipv4(bytes)? {
                Address::Ip(address)
                    if purpose == Purpose::Bind && !address.ip().is_unspecified() =>
                {
                    Err(Errno::AFNOSUPPORT)
                }
                address => Ok(address),
            },
            (AddressFamily::INET6, AddressFamily::UNSPEC) if purpose == Purpose::Send => {
                Ok(Address::Unspecified)
            }
            (AddressFamily::UNIX, _) => Err(Errno::INVAL),
            _ => Err(Errno::AFNOSUPPORT),
        }
    }

    /// The bytes of it.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let family = |family: AddressFamily| family.as_raw().to_ne_bytes();
        match self {
            Address::Ip(SocketAddr::V4(address)) => [
                &family(AddressFamily::INET)[..],
                &address.port().to_be_bytes(),
                &address.ip().octets(),
                &[0; 8],
            ]
            .concat(),
            Address::Ip(SocketAddr::V6(address)) => [
                &family(AddressFamily::INET6)[..],
                &address.port().to_be_bytes(),
                &address.flowinfo().to_ne_bytes(),
                &address.ip().octets(),
                &address.scope_id().to_ne_bytes(),
            ]
            .concat(),
            Address::Path(path) => [&family(AddressFamily::UNIX)[..], path, &[0]].concat(),
            Address::Abstract(name) => [&family(AddressFamily::UNIX)[..], &[0], name].concat(),
            Address::Unnamed => family(AddressFamily::UNIX).to_vec(),
            Address::Unspecified => family(AddressFamily::UNSPEC).to_vec(),
        }
    }
}

fn ipv4(bytes: &[u8]) -> Result<Address, Errno> {
    let (Some(port), Some(ip)) = (array(bytes, 2), array::<4>(bytes, 4)) else {
        return Err(Errno::INVAL);
    };
    // `struct sockaddr_in` ends with eight bytes that nobody looks at, and must have them.
    if bytes.len() < 16 {
        return Err(Errno::INVAL);
    }
    let address = SocketAddrV4::new(Ipv4Addr::from(ip), u16::from_be_bytes(port));
    Ok(Address::Ip(address.into()))
}

fn ipv6(bytes: &[u8]) -> Result<Address, Errno> {
    let (Some(port), Some(flow), Some(ip)) =
        (array(bytes, 2), array(bytes, 4), array::<16>(bytes, 8))
    else {
        return Err(Errno::INVAL);
    };
    // RFC 2133 had no scope.
    let scope = array(bytes, 24).map_or(0, u32::from_ne_bytes);
    let (port, flow) = (u16::from_be_bytes(port), u32::from_ne_bytes(flow));
    Ok(Address::Ip(SocketAddrV6::new(Ipv6Addr::from(ip), port, flow, scope).into()))
}

fn unix(name: &[u8]) -> Result<Address, Errno> {
    // `sun_path` has 108 bytes; a path need not be closed by a NUL byte.
    if name.len() > 108 {
        return Err(Errno::INVAL);
    }
    Ok(match name {
        [] => Address::Unnamed,
        [0, rest @ ..] => Address::Abstract(rest.to_owned()),
        path => {
            let end = path.iter().position(|&byte| byte == 0).unwrap_or(path.len());
            Address::Path(path[..end].to_owned())
        }
    })
}

/// The bytes from `at` on; `None` if there are not so many.
pub(super) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_was_read() {
        for address in ["10.1.2.3:80", "[2001:db8::7]:443", "[::ffff:127.0.0.1]:1"] {
            let address = Address::Ip(address.parse().unwrap());
            let Address::Ip(ip) = &address else { unreachable!() };
            let family = if ip.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let bytes = address.to_bytes();
            for purpose in [Purpose::Connect, Purpose::Bind, Purpose::Send] {
                assert_eq!(Address::parse(&bytes, family, purpose).as_ref(), Ok(&address));
            }
        }
        for address in [
            Address::Path(b"/run/x".to_vec()),
            Address::Abstract(b"a\0b".to_vec()),
            Address::Unnamed,
        ] {
            let bytes = address.to_bytes();
            let read = Address::parse(&bytes, AddressFamily::UNIX, Purpose::Bind);
            assert_eq!(read, Ok(address));
        }
    }

    #[test]
    fn what_the_kernel_takes_for_ipv4_is_decided_as_that() {
        let mut bytes = Address::Ip("10.1.2.3:80".parse().unwrap()).to_bytes();
        let parse = |bytes: &[u8], family, purpose| Address::parse(bytes, family, purpose);
        let ip = Ok(Address::Ip("10.1.2.3:80".parse().unwrap()));
        // UDP over IPv6 sends to IPv4 addresses too.
        assert_eq!(parse(&bytes, AddressFamily::INET6, Purpose::Send), ip);
        bytes[..2].fill(0);
        assert_eq!(parse(&bytes, AddressFamily::INET, Purpose::Send), ip);
        assert_eq!(parse(&bytes, AddressFamily::INET6, Purpose::Send), Ok(Address::Unspecified));
        assert_eq!(Address::Unspecified.to_bytes(), [0, 0]);
        assert_eq!(parse(&bytes, AddressFamily::INET, Purpose::Connect), Ok(Address::Unspecified));
        assert_eq!(parse(&bytes, AddressFamily::INET, Purpose::Bind), Err(Errno::AFNOSUPPORT));
    }

    #[test]
    fn bytes_that_are_no_address_are_refused_and_never_a_panic() {
        for length in 0..MAX {
            for first in [0_u8, 1, 2, 10, 16, 255] {
                let bytes: Vec<u8> =
                    [first, 0].iter().chain([b'x'; MAX].iter()).take(length).copied().collect();
                for family in [
                    AddressFamily::INET,
                    AddressFamily::INET6,
                    AddressFamily::UNIX,
                    AddressFamily::NETLINK,
                ] {
                    for purpose in [Purpose::Connect, Purpose::Bind, Purpose::Send] {
                        let read = Address::parse(&bytes, family, purpose);
                        assert!(length >= 2 || read == Err(Errno::INVAL));
                        assert!(first != 16 || read.is_err());
                    }
                }
            }
        }
    }
}
