//! axum, called by hyper's bare client: a kept-alive HTTP/1.1 connection for each call in flight.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::{TcpListener, TcpStream};

use super::axum_server::{self, Add, Payload, Record};
use super::base64::Base64;
use crate::peer::{Caller, Peer};
use crate::work::User;

pub struct AxumHyper;

impl Peer for AxumHyper {
    const PACKAGES: &'static [&'static str] = &["axum", "hyper", "serde_json"];

    type Caller = Connection;

    async fn serve(&self, listener: TcpListener) -> Result<()> {
        axum_server::serve(listener).await
    }

    async fn connect(&self, server: SocketAddr, slots: usize) -> Result<Vec<Connection>> {
        let mut connections = Vec::with_capacity(slots);
        for _ in 0..slots {
            connections.push(Connection::open(server).await?);
        }
        Ok(connections)
    }
}

pub struct Connection {
    requests: SendRequest<Full<Bytes>>,
    server: SocketAddr,
    host: HeaderValue,
}

impl Connection {
    async fn open(server: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let (requests, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let host = HeaderValue::try_from(server.to_string())?;
        Ok(Connection { requests, server, host })
    }

    async fn post<T: DeserializeOwned>(&mut self, path: &'static str, arguments: impl Serialize + Send) -> Result<T> {
        if self.requests.ready().await.is_err() {
            *self = Connection::open(self.server).await?;
        }
        let request = Request::post(Uri::from_static(path))
            .header(HOST, self.host.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(Full::from(serde_json::to_vec(&arguments)?))?;
        let reply = self.requests.send_request(request).await?;
        ensure!(reply.status().is_success(), "status {}", reply.status());
        let body = reply.into_body().collect().await?.to_bytes();
        Ok(serde_json::from_slice(&body)?)
    }
}

impl Caller for Connection {
    async fn add(&mut self, a: i64, b: i64) -> Result<i64> {
        self.post(axum_server::ADD, Add { a, b }).await
    }

    async fn record(&mut self, users: Vec<User>) -> Result<Vec<User>> {
        self.post(axum_server::RECORD, Record { users }).await
    }

    async fn payload(&mut self, bytes: Bytes) -> Result<Bytes> {
        let Base64(bytes) = self.post(axum_server::PAYLOAD, Payload { bytes: Base64(bytes) }).await?;
        Ok(bytes)
    }
}
