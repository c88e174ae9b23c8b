//! One replica of a service: [`ReplicaAddress`].

use std::sync::Arc;

use super::endpoint_url::EndpointUrl;
use crate::address::Address;
use crate::replica_line::ReplicaPlace;

/// A replica that was found.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ReplicaAddress {
    pub(super) address: Address,
    pub(super) url: Arc<EndpointUrl>,
}

/// An element of a list. A name stands for all its addresses.
#[derive(Clone, Debug)]
pub(super) struct ListedReplica {
    pub(super) place: ReplicaPlace,
    pub(super) url: Arc<EndpointUrl>,
}

impl ListedReplica {
    /// The replica, if it takes no lookup to find it.
    pub(super) fn without_lookup(&self) -> Option<ReplicaAddress> {
        let address = match &self.place {
            ReplicaPlace::Host(host) => host.address()?,
            ReplicaPlace::Socket(socket) => socket.clone(),
        };
        Some(ReplicaAddress { address, url: Arc::clone(&self.url) })
    }
}
