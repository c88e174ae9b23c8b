//! How the calls of a replica are addressed: [`EndpointUrl`].

use std::fmt;
use std::net::Ipv6Addr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use http::HeaderValue;

use super::service_url::ServiceUrl;
use crate::error::{Code, Error};
use crate::host_and_port::HostAndPort;
use crate::replica_line::{AddressOptions, ReplicaPlace};
use crate::transport::{ClientTls, TlsConnector};

/// The URL of a replica's endpoint, without its address.
#[derive(Clone, Debug)]
pub(super) struct EndpointUrl {
    /// By what connections begin, if not by HTTP.
    pub(super) tls: Option<Arc<TlsConnector>>,
    /// The name that TLS checks, unless the user has set another in [`ClientTls`].
    tls_name: Option<String>,
    /// The value of the `Host` header.
    pub(super) authority: HeaderValue,
    /// Without a slash at its end.
    pub(super) path: String,
}

#[cfg(test)]
impl EndpointUrl {
    /// That of a client which does not care.
    pub(super) fn plain() -> Self {
        Self { tls: None, tls_name: None, authority: HeaderValue::from_static("localhost"), path: String::new() }
    }
}

impl PartialEq for EndpointUrl {
    fn eq(&self, other: &Self) -> bool {
        let parts = |url: &Self| (url.tls_name.clone(), url.authority.clone(), url.path.clone());
        parts(self) == parts(other)
    }
}

/// Makes the URLs of a client's replicas. Those of one name share their TLS.
pub(super) struct EndpointUrls {
    path: String,
    is_https: bool,
    tls_name: Option<String>,
    settings: Option<ClientTls>,
    /// Those that a URL has. A registry may name others again and again.
    connectors: Mutex<Vec<(String, Weak<TlsConnector>)>>,
}

impl EndpointUrls {
    pub(super) fn new(url: &ServiceUrl, settings: Option<ClientTls>) -> Self {
        Self {
            path: url.path.clone(),
            is_https: url.is_https,
            tls_name: url.tls_name.clone(),
            settings,
            connectors: Mutex::default(),
        }
    }

    pub(super) fn has_tls(&self) -> bool {
        self.is_https
    }

    /// The name that the client's URL says.
    #[cfg_attr(not(feature = "etcd"), expect(dead_code, reason = "only registries ask"))]
    pub(super) fn tls_name(&self) -> Option<&str> {
        self.tls_name.as_deref()
    }

    /// The URL of one replica. Its own options precede those of the client's URL.
    pub(super) fn of(&self, place: &ReplicaPlace, options: AddressOptions) -> Result<EndpointUrl, Error> {
        let AddressOptions { endpoint, tls } = options;
        let path = endpoint.unwrap_or_else(|| self.path.clone());
        let ReplicaPlace::Host(HostAndPort { host, port, authority }) = place else {
            return match self.is_https {
                true => Err(Error::refused(Code::InvalidArgument, "a unix socket has no TLS")),
                false => Ok(EndpointUrl { tls: None, tls_name: None, authority: header("localhost")?, path }),
            };
        };
        match tls.or_else(|| self.tls_name.clone()) {
            Some(name) => {
                let authority = match name.parse::<Ipv6Addr>() {
                    Ok(ip) => header(&format!("[{ip}]:{port}"))?,
                    Err(_) => header(&format!("{name}:{port}"))?,
                };
                self.secure(name, authority, path)
            }
            None if self.is_https => self.secure(host.clone(), header(authority)?, path),
            None => Ok(EndpointUrl { tls: None, tls_name: None, authority: header(authority)?, path }),
        }
    }

    fn secure(&self, name: String, authority: HeaderValue, path: String) -> Result<EndpointUrl, Error> {
        let mut connectors = self.connectors.lock().unwrap_or_else(PoisonError::into_inner);
        let known = connectors.iter().find(|(known, _)| *known == name).and_then(|(_, tls)| tls.upgrade());
        let tls = match known {
            Some(tls) => tls,
            None => {
                let made = Arc::new(TlsConnector::new(self.settings.clone(), &name)?);
                connectors.retain(|(_, tls)| tls.strong_count() > 0);
                connectors.push((name.clone(), Arc::downgrade(&made)));
                made
            }
        };
        Ok(EndpointUrl { tls: Some(tls), tls_name: Some(name), authority, path })
    }
}

impl fmt::Debug for EndpointUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointUrls").field("path", &self.path).finish_non_exhaustive()
    }
}

fn header(authority: &str) -> Result<HeaderValue, Error> {
    HeaderValue::try_from(authority).map_err(|why| Error::refused(Code::InvalidArgument, why.to_string()))
}

#[cfg(all(test, feature = "tls"))]
mod tests {
    use super::*;
    use crate::replica_line::replica_line;

    #[test]
    fn only_the_tls_of_replicas_that_are_in_use_is_kept() {
        let urls = EndpointUrls::new(&ServiceUrl::parse("https://orders.internal").unwrap(), None);
        let of = |name: &str| {
            let (place, options) = replica_line(&format!("10.0.0.1:443?tls={name}")).unwrap();
            urls.of(&place, options).unwrap().tls.unwrap()
        };
        let used = of("orders-0.internal");
        for number in 1..100 {
            of(&format!("orders-{number}.internal"));
        }
        assert!(Arc::ptr_eq(&used, &of("orders-0.internal")), "replicas of one name share their sessions");
        // The one in use, and the last.
        assert_eq!(urls.connectors.lock().unwrap().len(), 2);
    }
}
