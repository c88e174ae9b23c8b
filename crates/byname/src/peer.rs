//! Who is at the other end of a connection: [`Peer`], [`Identity`].

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
    /// What the other end of the connection has proven of itself; `None` if it has proven nothing. Where a proxy stands in
    /// between, it is the proxy's.
    pub identity: Option<Identity>,
}

/// What the other end of a connection has proven of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Identity {
    /// It has a certificate that the server accepts, and its private key.
    Certificate(ClientCertificate),
}

/// The certificate of a client.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientCertificate {
    /// The names of hosts in it, such as `billing.internal`.
    pub dns_names: Vec<String>,
    /// The URIs in it, such as `spiffe://prod/billing`.
    pub uri_names: Vec<String>,
    /// The certificate itself, in DER.
    pub der: Vec<u8>,
}

impl Peer {
    /// A peer that is known by its address alone.
    pub(crate) fn at(address: Address) -> Self {
        Self { connection: address.clone(), address, identity: None }
    }
}

impl ClientCertificate {
    /// The SPIFFE ID. `None` if there is no URI in the certificate, or more than one: SPIFFE says that such a certificate
    /// identifies nobody.
    pub fn spiffe_id(&self) -> Option<&str> {
        match self.uri_names.as_slice() {
            [only] if only.starts_with("spiffe://") => Some(only),
            _ => None,
        }
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate")
            .field("dns_names", &self.dns_names)
            .field("uri_names", &self.uri_names)
            .finish_non_exhaustive()
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
