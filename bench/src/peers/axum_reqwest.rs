//! axum, called by reqwest, whose pool has room for every call in flight.

use std::net::SocketAddr;

use anyhow::Result;
use bytes::Bytes;
use reqwest::{Client, Url};
use tokio::net::TcpListener;

use super::axum_server::{self, Add, Payload, Record};
use super::base64::Base64;
use crate::peer::{Caller, Peer};
use crate::work::User;

pub struct AxumReqwest;

impl Peer for AxumReqwest {
    const PACKAGES: &'static [&'static str] = &["axum", "reqwest", "serde_json"];

    type Caller = Service;

    async fn serve(&self, listener: TcpListener) -> Result<()> {
        axum_server::serve(listener).await
    }

    async fn connect(&self, server: SocketAddr, slots: usize) -> Result<Vec<Service>> {
        let root = Url::parse(&format!("http://{server}"))?;
        let service = Service {
            client: Client::builder()
                .http1_only()
                .no_proxy()
                .tcp_nodelay(true)
                .pool_max_idle_per_host(slots)
                .build()?,
            add: root.join(axum_server::ADD)?,
            record: root.join(axum_server::RECORD)?,
            payload: root.join(axum_server::PAYLOAD)?,
        };
        Ok(vec![service; slots])
    }
}

/// One client for all slots, and URLs that are parsed once.
#[derive(Clone)]
pub struct Service {
    client: Client,
    add: Url,
    record: Url,
    payload: Url,
}

impl Caller for Service {
    async fn add(&mut self, a: i64, b: i64) -> Result<i64> {
        let request = self.client.post(self.add.clone()).json(&Add { a, b });
        Ok(request.send().await?.error_for_status()?.json().await?)
    }

    async fn record(&mut self, users: Vec<User>) -> Result<Vec<User>> {
        let request = self.client.post(self.record.clone());
        let request = request.json(&Record { users });
        Ok(request.send().await?.error_for_status()?.json().await?)
    }

    async fn payload(&mut self, bytes: Bytes) -> Result<Bytes> {
        let request = self.client.post(self.payload.clone());
        let request = request.json(&Payload { bytes: Base64(bytes) });
        let Base64(bytes) = request.send().await?.error_for_status()?.json().await?;
        Ok(bytes)
    }
}
