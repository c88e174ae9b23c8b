//! Who is at the other end of a connection: [`Peer`], and what of it is proven: [`Identity`].

use std::fmt;
use std::net::SocketAddr;

use crate::address::Address;

/// Who is at the other end of a call's connection. [`Context::peer`](crate::Context::peer) and
/// [`Request::peer`](crate::Request::peer) return it.
///
/// It prints as its [`address`](Self::address), for a unix socket with the credentials: `unix: (uid 1000, gid 100, pid 4711)`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// Where the caller is.
    pub address: Address,
    /// The other end of the connection that the call came by.
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
    /// A peer that is known by its address alone.
    pub(crate) fn at(address: Address) -> Self {
        Self { connection: address.clone(), address, identity: None }
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self::at(address.into())
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)?;
        match &self.identity {
            // The address of such a caller is empty.
            Some(Identity::Unix(caller)) => write!(f, " ({caller})"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for UnixCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uid {}, gid {}", self.uid, self.gid)?;
        self.pid.map_or(Ok(()), |pid| write!(f, ", pid {pid}"))
    }
}
