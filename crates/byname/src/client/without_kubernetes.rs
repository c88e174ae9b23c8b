//! What stands for Kubernetes where the feature `kubernetes` is off: there is none of it.

use std::io;

use super::endpoint_url::EndpointUrls;
use super::kubernetes_service::KubernetesService;
use super::replica_address::ReplicaAddress;
use crate::error::{Code, Error};

/// A service of Kubernetes as a source of replicas.
#[derive(Debug)]
pub(super) enum KubernetesReplicas {}

impl KubernetesReplicas {
    pub(super) fn new(service: &KubernetesService, _: EndpointUrls) -> Result<Self, Error> {
        let why = format!(
            "{service} needs the feature `kubernetes` of byname, which is off by default: add \
             `features = [\"kubernetes\"]` to byname in Cargo.toml"
        );
        Err(Error::refused(Code::InvalidArgument, why))
    }

    pub(super) fn begin_anew(&self) {
        match *self {}
    }

    pub(super) async fn look_up(&self) -> io::Result<Vec<ReplicaAddress>> {
        match *self {}
    }
}
