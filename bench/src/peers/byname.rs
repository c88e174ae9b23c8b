//! byname: one client that all slots share.

use std::net::SocketAddr;

use anyhow::Result;
use byname::{Client, ClientBuilder, Server, rpc};
use bytes::Bytes;
use tokio::net::TcpListener;

use super::base64::Base64;
use crate::peer::{Caller, Peer};
use crate::work::{self, User};

pub struct Byname {
    /// What differs from the client's defaults.
    pub client: fn(ClientBuilder) -> ClientBuilder,
}

impl Peer for Byname {
    const PACKAGES: &'static [&'static str] = &["byname", "hyper", "serde_json"];

    type Caller = Client;

    async fn serve(&self, listener: TcpListener) -> Result<()> {
        let server = Server::new().method::<add>().method::<record>().method::<payload>();
        Ok(server.serve(listener).await?)
    }

    async fn connect(&self, server: SocketAddr, slots: usize) -> Result<Vec<Client>> {
        let client = (self.client)(Client::builder(&format!("{server}/rpc"))).build()?;
        Ok(vec![client; slots])
    }
}

impl Caller for Client {
    async fn add(&mut self, a: i64, b: i64) -> Result<i64> {
        Ok(add::on(self, a, b).await?)
    }

    async fn record(&mut self, users: Vec<User>) -> Result<Vec<User>> {
        Ok(record::on(self, users).await?)
    }

    async fn payload(&mut self, bytes: Bytes) -> Result<Bytes> {
        let Base64(bytes) = payload::on(self, Base64(bytes)).await?;
        Ok(bytes)
    }
}

#[rpc]
async fn add(a: i64, b: i64) -> i64 {
    work::add(a, b)
}

#[rpc]
async fn record(users: Vec<User>) -> Vec<User> {
    work::record(users)
}

#[rpc]
async fn payload(bytes: Base64) -> Base64 {
    Base64(work::payload(bytes.0))
}
