//! Where one end of a connection is: [`Address`].

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

/// Where one end of a connection is. It prints as a server's `serve` and a client's URL take it: `10.0.0.1:8080`,
/// `[::1]:8080`, `unix:/run/orders.sock`.
///
/// ```
/// use std::net::SocketAddr;
/// use byname::Address;
///
/// let address = Address::from(SocketAddr::from(([10, 0, 0, 1], 8080)));
/// assert_eq!(address.to_string(), "10.0.0.1:8080");
/// assert_eq!(address.port(), Some(8080));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// An IP address and a port of TCP.
    Tcp(SocketAddr),
    /// An IP address alone: a proxy has said who its client is, without the port.
    Ip(IpAddr),
    /// The path of a unix socket. A client's end of the connection usually has no path.
    Unix(Option<Arc<Path>>),
}

impl Address {
    /// The IP address and the port, if both are known.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Ip(_) | Self::Unix(_) => None,
        }
    }

    /// The IP address, if this is not a unix socket.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip()),
            Self::Ip(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// The port, if it is known.
    pub fn port(&self) -> Option<u16> {
        self.socket_addr().map(|address| address.port())
    }

    /// Whether both are addresses of one family: IPv4, IPv6 or unix.
    pub(crate) fn is_of_the_family_of(&self, other: &Self) -> bool {
        self.ip().map(|ip| ip.is_ipv4()) == other.ip().map(|ip| ip.is_ipv4())
    }

    /// Whether only processes of this machine can be at the other end.
    pub(crate) fn is_of_this_machine(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Ip(address) => address.is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Ip(address) => address.fmt(f),
            Self::Unix(Some(path)) => write!(f, "unix:{}", path.display()),
            Self::Unix(None) => f.write_str("unix:"),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}
