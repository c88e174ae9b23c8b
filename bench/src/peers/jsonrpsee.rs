//! jsonrpsee, over HTTP and over WebSocket.

use std::iter::repeat_n;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use futures_util::StreamExt;
use jsonrpsee::core::client::SubscriptionClientT;
use jsonrpsee::core::{RpcResult, SubscriptionResult, async_trait};
use jsonrpsee::http_client::{HttpClient, HttpClientBuilder};
use jsonrpsee::proc_macros::rpc;
use jsonrpsee::server::{PendingSubscriptionSink, Server, ServerConfig, ServerConfigBuilder, SubscriptionMessage};
use jsonrpsee::ws_client::{WsClient, WsClientBuilder};
use tokio::net::TcpListener;

use super::base64::Base64;
use crate::peer::{Caller, Numbers, Peer};
use crate::work::{self, User};

pub struct Http;

impl Peer for Http {
    const PACKAGES: &'static [&'static str] = &["jsonrpsee", "serde_json"];

    type Caller = Arc<HttpClient>;

    async fn serve(&self, listener: TcpListener) -> Result<()> {
        serve(listener, ServerConfig::builder().http_only()).await
    }

    async fn connect(&self, server: SocketAddr, slots: usize) -> Result<Vec<Arc<HttpClient>>> {
        let client = Arc::new(HttpClientBuilder::new().set_tcp_no_delay(true).build(format!("http://{server}"))?);
        Ok(repeat_n(client, slots).collect())
    }
}

pub struct WebSocket;

impl Peer for WebSocket {
    const PACKAGES: &'static [&'static str] = &["jsonrpsee", "serde_json"];

    const STREAMS: bool = true;

    type Caller = Arc<WsClient>;

    async fn serve(&self, listener: TcpListener) -> Result<()> {
        serve(listener, ServerConfig::builder().ws_only()).await
    }

    async fn connect(&self, server: SocketAddr, slots: usize) -> Result<Vec<Arc<WsClient>>> {
        // What of a subscription has no room is lost with all that follows. The default is 1024.
        let builder = WsClientBuilder::new()
            .set_tcp_no_delay(true)
            .max_concurrent_requests(1024)
            .max_buffer_capacity_per_subscription(work::stream_length(slots) as usize);
        let client = Arc::new(builder.build(format!("ws://{server}")).await?);
        Ok(repeat_n(client, slots).collect())
    }
}

async fn serve(listener: TcpListener, config: ServerConfigBuilder) -> Result<()> {
    // The default of 100 connections is fewer than there are calls in flight.
    let config = config.set_tcp_no_delay(true).max_connections(20_000).build();
    let server = Server::builder().set_config(config).build_from_tcp(listener.into_std()?)?;
    server.start(Functions.into_rpc()).stopped().await;
    Ok(())
}

// Functions without `async`, which the server calls without a box for their future.
#[rpc(client, server)]
trait Bench {
    #[method(name = "add")]
    fn add(&self, a: i64, b: i64) -> RpcResult<i64>;

    #[method(name = "record")]
    fn record(&self, users: Vec<User>) -> RpcResult<Vec<User>>;

    #[method(name = "payload")]
    fn payload(&self, bytes: Base64) -> RpcResult<Base64>;

    #[subscription(name = "numbers" => "number", unsubscribe = "forget_numbers", item = u64)]
    async fn numbers(&self, from: u64, count: u64) -> SubscriptionResult;
}

struct Functions;

#[async_trait]
impl BenchServer for Functions {
    fn add(&self, a: i64, b: i64) -> RpcResult<i64> {
        Ok(work::add(a, b))
    }

    fn record(&self, users: Vec<User>) -> RpcResult<Vec<User>> {
        Ok(work::record(users))
    }

    fn payload(&self, Base64(bytes): Base64) -> RpcResult<Base64> {
        Ok(Base64(work::payload(bytes)))
    }

    async fn numbers(&self, pending: PendingSubscriptionSink, from: u64, count: u64) -> SubscriptionResult {
        let sink = pending.accept().await?;
        for number in work::numbers(from, count) {
            // Its documentation: more efficient than from a value that was encoded before.
            let item = SubscriptionMessage::new(sink.method_name(), sink.subscription_id(), &number)?;
            sink.send(item).await?;
        }
        // Only an error tells a client that there are no more.
        Err("the end".into())
    }
}

impl<C: SubscriptionClientT + Send + Sync + 'static> Caller for Arc<C> {
    async fn add(&mut self, a: i64, b: i64) -> Result<i64> {
        Ok(BenchClient::add(&**self, a, b).await?)
    }

    async fn record(&mut self, users: Vec<User>) -> Result<Vec<User>> {
        Ok(BenchClient::record(&**self, users).await?)
    }

    async fn payload(&mut self, bytes: Bytes) -> Result<Bytes> {
        let Base64(bytes) = BenchClient::payload(&**self, Base64(bytes)).await?;
        Ok(bytes)
    }

    async fn numbers(&mut self, from: u64, count: u64) -> Result<impl Numbers> {
        Ok(BenchClient::numbers(&**self, from, count).await?.map(|item| Ok(item?)))
    }
}
