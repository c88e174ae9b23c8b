//! Who is at the other end of a connection: [`Peer`], and what of it is proven: [`Identity`].

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;

use crate::address::Address;

/// The most bytes of a SPIFFE ID.
const MAX_SPIFFE_ID: usize = 2048;

/// The most bytes of the trust domain in a SPIFFE ID.
const MAX_TRUST_DOMAIN: usize = 255;

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
    /// allow more than one. `None` also if the URI is not valid by the SPIFFE standard, such as `spiffe://prod/a/../b`,
    /// `spiffe://PROD/billing` or `spiffe://prod:443/billing`. So two different IDs are never the same workload. An ID may be
    /// a trust domain alone, such as `spiffe://prod`.
    pub fn spiffe_id(&self) -> Option<&str> {
        match self.uri_names.as_slice() {
            [only] if is_spiffe_id(only) => Some(only),
            _ => None,
        }
    }
}

/// Whether this is an ID by section 2 of the SPIFFE-ID standard. It allows no percent-encoding, so each ID has one form.
fn is_spiffe_id(uri: &str) -> bool {
    let Some(rest) = uri.strip_prefix("spiffe://") else {
        return false;
    };
    let (domain, path) = match rest.split_once('/') {
        Some((domain, path)) => (domain, Some(path)),
        None => (rest, None),
    };
    let is_domain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    let is_segment = |segment: &str| {
        !matches!(segment, "" | "." | "..") && segment.bytes().all(|byte| is_domain(byte) || byte.is_ascii_uppercase())
    };
    uri.len() <= MAX_SPIFFE_ID
        && (1..=MAX_TRUST_DOMAIN).contains(&domain.len())
        && domain.bytes().all(is_domain)
        && path.is_none_or(|path| path.split('/').all(is_segment))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn spiffe_id(uris: &[&str]) -> Option<String> {
        let uri_names = uris.iter().map(|&uri| uri.to_owned()).collect();
        let certificate = ClientCertificate { dns_names: Vec::new(), uri_names, der: Vec::new() };
        certificate.spiffe_id().map(str::to_owned)
    }

    #[test]
    fn what_the_standard_allows_is_a_spiffe_id() {
        let longest = format!("spiffe://prod/{}", "a".repeat(2048 - "spiffe://prod/".len()));
        let longest_domain = format!("spiffe://{}/billing", "d".repeat(255));
        for id in [
            "spiffe://prod",
            "spiffe://prod/billing",
            "spiffe://prod-1.eu_west.example/ns/Orders/sa/billing_2.v-3",
            "spiffe://10.0.0.1/billing",
            "spiffe://prod/...",
            "spiffe://prod/.billing",
            &longest,
            &longest_domain,
        ] {
            assert_eq!(spiffe_id(&[id]).as_deref(), Some(id));
        }
    }

    #[test]
    fn what_the_standard_forbids_is_no_spiffe_id() {
        let too_long = format!("spiffe://prod/{}", "a".repeat(2049 - "spiffe://prod/".len()));
        let domain_too_long = format!("spiffe://{}/billing", "d".repeat(256));
        for uri in [
            "",
            "spiffe:",
            "spiffe://",
            "spiffe:///billing",
            "spiffe:/prod/billing",
            "SPIFFE://prod/billing",
            "https://prod/billing",
            " spiffe://prod/billing",
            "spiffe://prod/",
            "spiffe://prod/billing/",
            "spiffe://prod//billing",
            "spiffe://prod/./billing",
            "spiffe://prod/a/../billing",
            "spiffe://prod/..",
            "spiffe://prod/%62illing",
            "spiffe://pr%6fd/billing",
            "spiffe://PROD/billing",
            "spiffe://prod/billing ",
            "spiffe://prod/bil ling",
            "spiffe://ada@prod/billing",
            "spiffe://ada:secret@prod/billing",
            "spiffe://prod:443/billing",
            "spiffe://prod:/billing",
            "spiffe://[::1]/billing",
            "spiffe://prod/billing?admin",
            "spiffe://prod?admin",
            "spiffe://prod/billing#admin",
            "spiffe://prod#admin",
            "spiffe://pröd/billing",
            "spiffe://prod/bílling",
            "spiffe://prod/bill\0ing",
            "spiffe://prod\\billing",
            "spiffe://prod/a:b",
            &too_long,
            &domain_too_long,
        ] {
            assert_eq!(spiffe_id(&[uri]), None, "{uri:?}");
        }
        assert_eq!(spiffe_id(&[]), None);
        assert_eq!(spiffe_id(&["spiffe://prod/a", "spiffe://prod/a"]), None);
    }

    #[test]
    fn each_byte_is_in_a_spiffe_id_or_is_not() {
        for byte in 0..=127u8 {
            let letter = char::from(byte);
            let everywhere = matches!(letter, 'a'..='z' | '0'..='9' | '.' | '_' | '-');
            let (domain, path) = (format!("spiffe://p{letter}d/billing"), format!("spiffe://prod/b{letter}g"));
            // A slash ends the domain, and begins a segment.
            assert_eq!(spiffe_id(&[&domain]).is_some(), everywhere || letter == '/', "{domain:?}");
            let allowed = everywhere || letter == '/' || letter.is_ascii_uppercase();
            assert_eq!(spiffe_id(&[&path]).is_some(), allowed, "{path:?}");
        }
    }
}
