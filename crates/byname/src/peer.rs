//! Who is at the other end of a connection: [`Peer`], and what of it is proven: [`Identity`].

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;

use crate::address::Address;

/// Who is at the other end of a call's connection. [`Context::peer`](crate::Context::peer) and
/// [`Request::peer`](crate::Request::peer) return it.
///
/// An application that mounts a server makes one of what it knows of a connection, and inserts it into the extensions of
/// each request:
///
/// ```
/// use std::net::SocketAddr;
///
/// use byname::{Identity, Peer, UnixCredentials};
///
/// let mut peer = Peer::from(SocketAddr::from(([10, 0, 0, 1], 4711)));
/// assert_eq!(peer.identity, None);
/// peer.identity = Some(Identity::Unix(UnixCredentials::new(1000, 100, None)));
/// ```
///
/// It prints as its [`address`](Self::address), for a unix socket with the credentials: `unix: (uid 1000, gid 100, pid 4711)`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// Where the caller is. If a proxy that the server trusts has passed the call on, it is the address of the proxy's
    /// client: see [`Server::trust_proxy`](crate::Server::trust_proxy) and
    /// [`Listen::proxy_protocol`](crate::Listen::proxy_protocol).
    pub address: Address,
    /// The other end of the connection that the call came by: the caller itself, or the last proxy on the way.
    pub connection: Address,
    /// Who has opened the connection, if the connection proves it. Nothing that a header says is proven.
    pub identity: Option<Identity>,
}

/// Who has opened a connection, as the connection itself proves it.
///
/// ```
/// use byname::{Code, Error, Identity, Next, Request, Server};
///
/// /// Only this user may call, by whatever socket.
/// const BILLING: u32 = 1001;
///
/// Server::new().intercept(|request: Request, next: Next| async move {
///     match request.peer().and_then(|peer| peer.identity.as_ref()) {
///         Some(Identity::Unix(caller)) if caller.uid == BILLING => Ok(next.run(request).await),
///         _ => Err(Error::new(Code::PermissionDenied, "only billing may call")),
///     }
/// });
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Identity {
    /// The process that opened a connection over a unix socket. The kernel says it.
    Unix(UnixCredentials),
    /// A client with a certificate that the server accepts, and its private key. Behind a proxy it is the proxy's.
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

/// The process at the other end of a unix socket, as it was when it connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnixCredentials {
    /// The user.
    pub uid: u32,
    /// The user's group.
    pub gid: u32,
    /// The process, on systems that say it. By the time it is looked at, another process may have this number: it is for
    /// logs, not for decisions.
    pub pid: Option<u32>,
}

impl Peer {
    /// The SPIFFE ID of the client's certificate: [`ClientCertificate::spiffe_id`]. `None` if the connection proves another
    /// identity, or none. Behind a proxy it is the proxy's.
    ///
    /// ```
    /// use byname::{Peer, Server};
    ///
    /// # let server = Server::new().function("orders.get", || async { 7 });
    /// server.allow("orders.*", |request| request.peer().and_then(Peer::spiffe_id) == Some("spiffe://prod/billing"));
    /// ```
    pub fn spiffe_id(&self) -> Option<&str> {
        match &self.identity {
            Some(Identity::Certificate(certificate)) => certificate.spiffe_id(),
            Some(Identity::Unix(_)) | None => None,
        }
    }

    /// What the connection proves, in one name. `None` if it proves nothing that has a name.
    pub(crate) fn proven_name(&self) -> Option<Cow<'_, str>> {
        match self.identity.as_ref()? {
            Identity::Unix(caller) => Some(Cow::Owned(format!("uid {}", caller.uid))),
            Identity::Certificate(certificate) => {
                let first = certificate.dns_names.first().or(certificate.uri_names.first());
                certificate.spiffe_id().or(first.map(String::as_str)).map(Cow::Borrowed)
            }
        }
    }
}

impl ClientCertificate {
    /// The SPIFFE ID. `None` if there is no URI in the certificate, or more than one, because SPIFFE does not
    /// allow more than one.
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

impl UnixCredentials {
    /// What the kernel has said of a connection that byname has not accepted itself.
    pub fn new(uid: u32, gid: u32, pid: Option<u32>) -> Self {
        Self { uid, gid, pid }
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self::from(Address::from(address))
    }
}

impl From<Address> for Peer {
    fn from(address: Address) -> Self {
        Self { connection: address.clone(), address, identity: None }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)?;
        match &self.identity {
            // The address of such a caller is empty.
            Some(Identity::Unix(caller)) => write!(f, " ({caller})"),
            Some(Identity::Certificate(_)) | None => Ok(()),
        }
    }
}

impl fmt::Display for UnixCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uid {}, gid {}", self.uid, self.gid)?;
        self.pid.map_or(Ok(()), |pid| write!(f, ", pid {pid}"))
    }
}
