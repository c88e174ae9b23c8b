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
    /// Where the caller is.
    pub address: Address,
    /// The other end of the connection that the call came by.
    pub connection: Address,
}

impl Peer {
    /// A peer that is known by its address alone.
    pub(crate) fn at(address: Address) -> Self {
        Self { connection: address.clone(), address }
    }

    /// Whether the connection proves who the caller is. A connection over plain TCP proves nothing.
    pub(crate) fn is_identified(&self) -> bool {
        false
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
