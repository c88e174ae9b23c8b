//! axum, called by reqwest, whose pool has room for every call in flight.

use std::net::SocketAddr;

use anyhow::Result;
use reqwest::{Client, Url};
use tokio::net::TcpListener;

use super::axum_server::{self, Add, Record};
use super::{Caller, Peer};
use crate::work::User;

pub struct AxumReqwest;

impl Peer for AxumReqwest {
    const NAME: &'static str = "axum-reqwest";
    const PACKAGES: &'static [&'static str] = &["axum", "reqwest", "serde_json"];

    type Caller = Service;

    async fn serve(listener: TcpListener) -> Result<()> {
        axum_server::serve(listener).await
    }

    async fn connect(server: SocketAddr, slots: usize) -> Result<Vec<Service>> {
        let root = Url::parse(&format!("http://{server}"))?;
        let service = Service {
            client: Client::builder().http1_only().no_proxy().pool_max_idle_per_host(slots).build()?,
            add: root.join(axum_server::ADD)?,
            record: root.join(axum_server::RECORD)?,
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
}
