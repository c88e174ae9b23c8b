//! What stands for etcd where the feature `etcd` is off: there is none of it.

use std::io;

use super::endpoint_url::EndpointUrls;
use super::replica_address::ListedReplica;
use crate::error::{Code, Error};
use crate::etcd_url::EtcdUrl;

pub(super) enum EtcdReplicas {}

pub(super) struct EtcdAnswer {
    pub(super) replicas: Vec<ListedReplica>,
    pub(super) wrong: Option<String>,
}

impl EtcdReplicas {
    pub(super) fn new(_: EtcdUrl, _: EndpointUrls) -> Result<Box<Self>, Error> {
        let why = "etcd:// needs the feature `etcd` of byname, which is off by default: add `features = [\"etcd\"]` to byname \
                   in Cargo.toml";
        Err(Error::refused(Code::InvalidArgument, why))
    }

    pub(super) fn begin_anew(&self) {
        match *self {}
    }

    pub(super) async fn look_up(&self) -> io::Result<EtcdAnswer> {
        match *self {}
    }

    pub(super) async fn delivered(&self, _: &EtcdAnswer) {
        match *self {}
    }
}
