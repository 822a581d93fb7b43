//! `network` of a policy: the addresses that a workload may connect to, listen on and send to.
//!
//! A filter sees a pointer where an address is, so these are decided by a supervisor; here is what they
//! are and which address they permit. Addresses are numbers: a name is resolved by somebody, and
//! who that is decides what the policy means.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// Where a workload may get to by sockets. What is on no list is out of reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// What it may connect or send to.
    pub connect: BTreeSet<Endpoint>,
    /// What it may bind to and listen on.
    pub listen: BTreeSet<Endpoint>,
    /// The unix sockets that it may connect or send to, bind to and listen on.
    pub unix: BTreeSet<UnixName>,
}

impl Network {
    /// The text of an address as an entry of a list, that permits it and nothing else.
    pub fn entry(address: SocketAddr) -> String {
        let ports = Ports { first: address.port(), last: address.port() };
        Endpoint { addresses: Addresses::of(address.ip()), ports }.to_string()
    }
}

/// Addresses and ports: `10.0.0.0/8:443`, `[::1]:8000-8010`, `localhost:5432`, `*:53`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    addresses: Addresses,
    ports: Ports,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Addresses {
    /// Every address of both families.
    All,
    /// `127.0.0.1` and `::1`.
    Localhost,
    /// Those that begin with `prefix` bits of the address; the bits after these are 0.
    V4 {
        address: Ipv4Addr,
        prefix: u32,
    },
    V6 {
        address: Ipv6Addr,
        prefix: u32,
    },
}

/// `first` is not greater than `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ports {
    first: u16,
    last: u16,
}

impl Endpoint {
    /// Whether the address and the port are among these. An IPv6 address that stands for one of IPv4
    /// (`::ffff:10.0.0.1`) is that one.
    pub fn permits(&self, address: SocketAddr) -> bool {
        let Ports { first, last } = self.ports;
        (first..=last).contains(&address.port()) && self.addresses.have(address.ip())
    }

    /// One of these: the first by its number, of every address 127.0.0.1; port 0, which is none, only if
    /// there is no other.
    pub fn first(&self) -> SocketAddr {
        let address = match self.addresses {
            Addresses::All | Addresses::Localhost => Ipv4Addr::LOCALHOST.into(),
            Addresses::V4 { address, .. } => address.into(),
            Addresses::V6 { address, .. } => IpAddr::V6(address),
        };
        SocketAddr::new(address, self.ports.first.max(1).min(self.ports.last))
    }

    /// Whether every address is among these, whatever the port.
    pub fn is_everywhere(&self) -> bool {
        match self.addresses {
            Addresses::All => true,
            Addresses::Localhost => false,
            Addresses::V4 { prefix, .. } | Addresses::V6 { prefix, .. } => prefix == 0,
        }
    }
}

impl Addresses {
    fn of(address: IpAddr) -> Addresses {
        match address.to_canonical() {
            IpAddr::V4(address) => Addresses::V4 { address, prefix: 32 },
            IpAddr::V6(address) => Addresses::V6 { address, prefix: 128 },
        }
    }

    fn have(self, address: IpAddr) -> bool {
        match (self, address.to_canonical()) {
            (Addresses::All, _) => true,
            (Addresses::Localhost, IpAddr::V4(address)) => address == Ipv4Addr::LOCALHOST,
            (Addresses::Localhost, IpAddr::V6(address)) => address == Ipv6Addr::LOCALHOST,
            (Addresses::V4 { address: network, prefix }, IpAddr::V4(address)) => {
                address.to_bits() & mask4(prefix) == network.to_bits()
            }
            (Addresses::V6 { address: network, prefix }, IpAddr::V6(address)) => {
                address.to_bits() & mask6(prefix) == network.to_bits()
            }
            _ => false,
        }
    }
}

/// The `prefix` highest bits of 32; `prefix` is at most 32.
fn mask4(prefix: u32) -> u32 {
    u32::MAX.checked_shl(32 - prefix).unwrap_or(0)
}

/// The `prefix` highest bits of 128; `prefix` is at most 128.
fn mask6(prefix: u32) -> u128 {
    u128::MAX.checked_shl(128 - prefix).unwrap_or(0)
}

/// Why a text is no address of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// There is no port.
    #[error(
        "write ADDRESS:PORT, such as 10.0.0.0/8:443, \"[::1]:8080\", localhost:8000-8010 or \"*:53\""
    )]
    Form,
    /// A name that somebody would have to resolve.
    #[error(
        "names are not resolved, as whoever answers would decide what is permitted: write the \
         address, a block such as 10.0.0.0/8, `localhost` or `*`; IPv6 stands in brackets"
    )]
    Name,
    /// An address that is written in another family.
    #[error("this is an IPv4 address: write it as one")]
    Mapped,
    /// More than the addresses have bits.
    #[error("a block has at most 32 bits of an IPv4 address, and 128 of an IPv6 address")]
    Prefix,
    /// Bits of the address that its block does not look at.
    #[error("the address has bits after those of its block: write the first address of the block")]
    HostBits,
    /// No port, or ports in the wrong order.
    #[error("write a port from 0 to 65535, a range such as 8000-8010, or `*`")]
    Port,
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Endpoint, EndpointError> {
        let (addresses, ports) = text.rsplit_once(':').ok_or(EndpointError::Form)?;
        Ok(Endpoint { addresses: addresses.parse()?, ports: ports.parse()? })
    }
}

impl FromStr for Addresses {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Addresses, EndpointError> {
        match text {
            "*" => return Ok(Addresses::All),
            "localhost" => return Ok(Addresses::Localhost),
            _ => {}
        }
        let bracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        let (address, prefix) = match bracketed.unwrap_or(text).split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (bracketed.unwrap_or(text), None),
        };
        let prefix = |all: u32| match prefix {
            None => Ok(all),
            Some(prefix) => match number(prefix).map(u32::from) {
                Some(prefix) if prefix <= all => Ok(prefix),
                _ => Err(EndpointError::Prefix),
            },
        };
        if bracketed.is_none() {
            let address: Ipv4Addr = address.parse().map_err(|_| EndpointError::Name)?;
            let prefix = prefix(32)?;
            if address.to_bits() & !mask4(prefix) != 0 {
                return Err(EndpointError::HostBits);
            }
            return Ok(Addresses::V4 { address, prefix });
        }
        let address: Ipv6Addr = address.parse().map_err(|_| EndpointError::Name)?;
        let prefix = prefix(128)?;
        if address.to_ipv4_mapped().is_some() {
            return Err(EndpointError::Mapped);
        }
        if address.to_bits() & !mask6(prefix) != 0 {
            return Err(EndpointError::HostBits);
        }
        Ok(Addresses::V6 { address, prefix })
    }
}

impl FromStr for Ports {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Ports, EndpointError> {
        if text == "*" {
            return Ok(Ports { first: 0, last: u16::MAX });
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Ports { first, last }),
            _ => Err(EndpointError::Port),
        }
    }
}

/// A number of decimal digits alone: `parse` takes a sign too.
fn number(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.addresses {
            Addresses::All => f.write_str("*")?,
            Addresses::Localhost => f.write_str("localhost")?,
            Addresses::V4 { address, prefix: 32 } => write!(f, "{address}")?,
            Addresses::V4 { address, prefix } => write!(f, "{address}/{prefix}")?,
            Addresses::V6 { address, prefix: 128 } => write!(f, "[{address}]")?,
            Addresses::V6 { address, prefix } => write!(f, "[{address}/{prefix}]")?,
        }
        match self.ports {
            Ports { first: 0, last: u16::MAX } => f.write_str(":*"),
            Ports { first, last } if first == last => write!(f, ":{first}"),
            Ports { first, last } => write!(f, ":{first}-{last}"),
        }
    }
}

/// A unix socket by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UnixName {
    /// The socket that stands at an absolute path.
    Path(String),
    /// Every socket below a folder: an absolute path, without the `/` that it is written with at the
    /// end.
    Folder(String),
    /// A name that stands in no folder: what comes after its NUL byte, which is written as `@`.
    Abstract(String),
}

/// Why a text is no name of a unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "write an absolute path without `.` and `..`, with `/` at the end for all that is in a folder, or \
     `@` and an abstract name"
)]
pub struct UnixNameError;

impl FromStr for UnixName {
    type Err = UnixNameError;

    fn from_str(text: &str) -> Result<UnixName, UnixNameError> {
        if text.contains('\0') {
            return Err(UnixNameError);
        }
        if let Some(name) = text.strip_prefix('@') {
            // `sun_path` has 108 bytes, the first of which is the NUL.
            let fits = !name.is_empty() && name.len() < 108;
            return fits.then(|| UnixName::Abstract(name.to_owned())).ok_or(UnixNameError);
        }
        let (path, folder) = match text.strip_suffix('/') {
            Some(path) => (path, true),
            None => (text, false),
        };
        let rest = path.strip_prefix('/').ok_or(UnixNameError)?;
        if rest.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(UnixNameError);
        }
        Ok(match folder {
            true => UnixName::Folder(path.to_owned()),
            false => UnixName::Path(path.to_owned()),
        })
    }
}

impl fmt::Display for UnixName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UnixName::Path(path) => f.write_str(path),
            UnixName::Folder(path) => write!(f, "{path}/"),
            UnixName::Abstract(name) => write!(f, "@{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(entry: &str, address: &str) -> bool {
        entry.parse::<Endpoint>().unwrap().permits(address.parse().unwrap())
    }

    #[test]
    fn an_address_is_permitted_by_its_block_and_its_port() {
        for (entry, address) in [
            ("10.0.0.0/8:443", "10.255.0.1:443"),
            ("10.0.0.0/8:443", "[::ffff:10.0.0.1]:443"),
            ("192.0.2.7:1-3", "192.0.2.7:3"),
            ("0.0.0.0/0:*", "255.255.255.255:0"),
            ("[::/0]:*", "[2001:db8::1]:65535"),
            ("[2001:db8::/33]:80", "[2001:db8:7fff::]:80"),
            ("localhost:80", "127.0.0.1:80"),
            ("localhost:80", "[::1]:80"),
            ("localhost:80", "[::ffff:127.0.0.1]:80"),
            ("*:53", "[::1]:53"),
        ] {
            assert!(permits(entry, address), "{entry} {address}");
            assert!(permits(entry, &entry.parse::<Endpoint>().unwrap().first().to_string()));
        }
        for (entry, address) in [
            ("10.0.0.0/8:443", "11.0.0.0:443"),
            ("10.0.0.0/8:443", "10.0.0.0:444"),
            ("10.0.0.0/8:443", "[::10.0.0.1]:443"),
            ("192.0.2.7:1-3", "192.0.2.7:4"),
            ("192.0.2.7:1-3", "192.0.2.6:2"),
            // What is an IPv4 address is none of IPv6, however it is written.
            ("[::/0]:*", "[::ffff:10.0.0.1]:80"),
            ("[::/0]:*", "10.0.0.1:80"),
            ("0.0.0.0/0:*", "[::1]:80"),
            ("[2001:db8::/33]:80", "[2001:db8:8000::]:80"),
            ("localhost:80", "127.0.0.2:80"),
            ("localhost:80", "0.0.0.0:80"),
            ("localhost:80", "[::]:80"),
            ("*:53", "[::1]:54"),
        ] {
            assert!(!permits(entry, address), "{entry} {address}");
        }
    }

    #[test]
    fn what_is_written_reads_back_and_the_rest_is_told() {
        for text in [
            "*:*",
            "*:53",
            "localhost:8000-8010",
            "10.0.0.0/8:443",
            "10.0.0.1:0",
            "[::/0]:80",
            "[::1]:1-2",
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        assert_eq!("10.0.0.1/32:1-1".parse::<Endpoint>().unwrap().to_string(), "10.0.0.1:1");
        for (text, error) in [
            ("10.0.0.1", EndpointError::Form),
            ("", EndpointError::Form),
            ("example.com:443", EndpointError::Name),
            ("::1:80", EndpointError::Name),
            ("10.1:80", EndpointError::Name),
            ("010.0.0.1:80", EndpointError::Name),
            ("[10.0.0.1]:80", EndpointError::Name),
            ("[::ffff:10.0.0.1]:80", EndpointError::Mapped),
            ("10.0.0.0/33:80", EndpointError::Prefix),
            ("10.0.0.0/+8:80", EndpointError::Prefix),
            ("10.0.0.0/:80", EndpointError::Prefix),
            ("[::/129]:80", EndpointError::Prefix),
            ("10.0.0.1/8:80", EndpointError::HostBits),
            ("[::1/64]:80", EndpointError::HostBits),
            ("10.0.0.1:", EndpointError::Port),
            ("10.0.0.1:65536", EndpointError::Port),
            ("10.0.0.1:3-2", EndpointError::Port),
            ("10.0.0.1:-", EndpointError::Port),
        ] {
            assert_eq!(text.parse::<Endpoint>(), Err(error), "{text}");
        }
        assert_eq!(Network::entry("[::ffff:1.2.3.4]:5".parse().unwrap()), "1.2.3.4:5");
        assert_eq!(Network::entry("[fe80::1]:5".parse().unwrap()), "[fe80::1]:5");
    }

    #[test]
    fn unix_sockets_have_names() {
        for text in ["/run/x.sock", "/run/app/", "@name", "@/org/kernel/x"] {
            assert_eq!(text.parse::<UnixName>().unwrap().to_string(), text);
        }
        for text in ["", "/", "@", "run/x", "/run/../x", "/run//x", "/a/./b", "/a\0b"] {
            assert_eq!(text.parse::<UnixName>(), Err(UnixNameError), "{text:?}");
        }
        assert!(format!("@{}", "x".repeat(108)).parse::<UnixName>().is_err());
    }
}
