//! tarpc over TCP with bincode, on one connection or several.

use std::net::SocketAddr;

use anyhow::Result;
use bytes::Bytes;
use futures_util::StreamExt;
use tarpc::server::{BaseChannel, Channel};
use tarpc::tokio_serde::formats::Bincode;
use tarpc::{client, context, serde_transport, server};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::LengthDelimitedCodec;

use crate::peer::{Caller, Peer};
use crate::work::{self, User};

pub struct Tarpc {
    /// The slots are dealt out to them.
    pub connections: usize,
}

impl Peer for Tarpc {
    const PACKAGES: &'static [&'static str] = &["tarpc"];

    type Caller = BenchClient;

    async fn serve(&self, listener: TcpListener) -> Result<()> {
        // Its documentation: beyond this number handlers begin blocking. Here none has to.
        let config = server::Config { pending_response_buffer: 1024 };
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let transport =
                serde_transport::new(LengthDelimitedCodec::builder().new_framed(stream), Bincode::default());
            let requests = BaseChannel::new(config.clone(), transport).execute(Functions.serve());
            // As its documentation runs requests: each in a task of its own.
            tokio::spawn(requests.for_each(|request| async {
                tokio::spawn(request);
            }));
        }
    }

    async fn connect(&self, server: SocketAddr, slots: usize) -> Result<Vec<BenchClient>> {
        let mut clients = Vec::with_capacity(self.connections);
        for _ in 0..self.connections {
            let stream = TcpStream::connect(server).await?;
            stream.set_nodelay(true)?;
            let transport =
                serde_transport::new(LengthDelimitedCodec::builder().new_framed(stream), Bincode::default());
            // Its documentation: a value too low may decrease throughput. The default is 100.
            let mut config = client::Config::default();
            config.pending_request_buffer = config.pending_request_buffer.max(slots);
            config.max_in_flight_requests = config.max_in_flight_requests.max(slots);
            clients.push(BenchClient::new(config, transport).spawn());
        }
        Ok(clients.into_iter().cycle().take(slots).collect())
    }
}

#[tarpc::service]
pub trait Bench {
    async fn add(a: i64, b: i64) -> i64;
    async fn record(users: Vec<User>) -> Vec<User>;
    async fn payload(bytes: Bytes) -> Bytes;
}

#[derive(Clone)]
struct Functions;

impl Bench for Functions {
    async fn add(self, _: context::Context, a: i64, b: i64) -> i64 {
        work::add(a, b)
    }

    async fn record(self, _: context::Context, users: Vec<User>) -> Vec<User> {
        work::record(users)
    }

    async fn payload(self, _: context::Context, bytes: Bytes) -> Bytes {
        work::payload(bytes)
    }
}

impl Caller for BenchClient {
    async fn add(&mut self, a: i64, b: i64) -> Result<i64> {
        Ok(BenchClient::add(self, context::current(), a, b).await?)
    }

    async fn record(&mut self, users: Vec<User>) -> Result<Vec<User>> {
        Ok(BenchClient::record(self, context::current(), users).await?)
    }

    async fn payload(&mut self, bytes: Bytes) -> Result<Bytes> {
        Ok(BenchClient::payload(self, context::current(), bytes).await?)
    }
}
