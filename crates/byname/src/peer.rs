//! Who is at the other end of a connection: [`Peer`].

use std::fmt;
use std::net::SocketAddr;

use crate::address::Address;

/// Who is at the other end of a call's connection. [`Context::peer`](crate::Context::peer) and
/// [`Request::peer`](crate::Request::peer) return it.
///
/// It prints as its [`address`](Self::address).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// Where the caller is. If a proxy that the server trusts has passed the call on, it is the address of the proxy's
    /// client: see [`Server::trust_proxy`](crate::Server::trust_proxy) and
    /// [`Listen::proxy_protocol`](crate::Listen::proxy_protocol).
    pub address: Address,
    /// The other end of the connection that the call came by: the caller itself, or the last proxy on the way.
    pub connection: Address,
}

impl Peer {
    /// A peer that is known by its address alone.
    pub(crate) fn at(address: Address) -> Self {
        Self { connection: address.clone(), address }
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self::at(address.into())
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}
