//! What stands for DNS where the feature `dns` is off: names are looked up by the resolver of the system, which knows neither
//! TTLs nor SRV records.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::discover::FRESH;
use super::endpoint_url::EndpointUrls;
use super::name_addresses::NameAddresses;
use super::replica_address::ListedReplica;
use super::service_url::ServiceUrl;
use crate::address::Address;
use crate::error::{Code, Error};
use crate::host_and_port::HostAndPort;

/// Looks up names.
#[derive(Clone, Debug, Default)]
pub(super) struct NameResolver {}

/// SRV records as a source of replicas.
#[derive(Debug)]
pub(super) enum SrvSource {}

impl NameResolver {
    /// The addresses of a name.
    pub(super) async fn addresses(&self, host: &HostAndPort) -> io::Result<NameAddresses> {
        let not_found = |why| io::Error::new(io::ErrorKind::NotFound, why);
        let found =
            tokio::net::lookup_host((host.host.as_str(), host.port)).await.map_err(|why| not_found(why.to_string()))?;
        let addresses: Vec<_> = found.map(|address: SocketAddr| Address::from(address)).collect();
        if addresses.is_empty() {
            return Err(not_found("the name has no address".to_owned()));
        }
        Ok(NameAddresses { addresses, fresh_for: FRESH, missing: None })
    }
}

impl SrvSource {
    pub(super) fn new(_: &str, _: &ServiceUrl, _: EndpointUrls) -> Result<Self, Error> {
        let why = "srv:// needs the feature `dns` of byname, which is off by default: add `features = [\"dns\"]` to byname \
                   in Cargo.toml";
        Err(Error::refused(Code::InvalidArgument, why))
    }

    pub(super) async fn look_up(&self) -> io::Result<(Vec<ListedReplica>, Duration)> {
        match *self {}
    }
}
