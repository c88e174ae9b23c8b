//! tonic with prost's messages, on one connection or several.

use std::marker::PhantomData;
use std::net::SocketAddr;
use std::ops;

use anyhow::Result;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use prost::Message;
use tokio::net::TcpListener;
use tonic::codec::{BufferSettings, Codec};
use tonic::transport::server::TcpIncoming;
#[cfg(feature = "tls")]
use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};
use tonic_prost::{ProstDecoder, ProstEncoder};

use self::bench_client::BenchClient;
use self::bench_server::{Bench, BenchServer};
use crate::peer::{self, Caller, Peer};
#[cfg(feature = "tls")]
use crate::tls;
use crate::work::{self, User};

pub struct Tonic {
    /// The slots are dealt out to them.
    pub connections: usize,
    /// `http`, or `https` for TLS.
    pub scheme: &'static str,
}

impl Peer for Tonic {
    const PACKAGES: &'static [&'static str] = &["tonic", "prost"];
    const STREAMS: bool = true;

    type Caller = BenchClient<Channel>;

    async fn serve(&self, listener: TcpListener) -> Result<()> {
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let mut server = Server::builder()
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME)
            .max_concurrent_streams(1024);
        #[cfg(feature = "tls")]
        if self.scheme == "https" {
            tls::install_ring();
            let identity = Identity::from_pem(tls::CERTIFICATE, tls::KEY);
            server = server.tls_config(ServerTlsConfig::new().identity(identity))?;
        }
        server.add_service(BenchServer::new(Functions)).serve_with_incoming(incoming).await?;
        Ok(())
    }

    async fn connect(&self, server: SocketAddr, slots: usize) -> Result<Vec<BenchClient<Channel>>> {
        let endpoint = Endpoint::from_shared(format!("{}://{server}", self.scheme))?
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME);
        #[cfg(feature = "tls")]
        let endpoint = if self.scheme == "https" {
            tls::install_ring();
            let authority = Certificate::from_pem(tls::AUTHORITY);
            endpoint.tls_config(ClientTlsConfig::new().ca_certificate(authority))?
        } else {
            endpoint
        };
        let mut clients = Vec::with_capacity(self.connections);
        for _ in 0..self.connections {
            clients.push(BenchClient::new(endpoint.connect().await?));
        }
        Ok(clients.into_iter().cycle().take(slots).collect())
    }
}

/// Room for a payload of 1 MiB in each stream, and for many of them in a connection: none waits for the other side's leave.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 256 << 20;
/// And in one frame: half the CPU time of a payload in frames of 16 KiB, the default.
const FRAME: u32 = 2 << 20;

/// prost's codec with buffers that don't grow while they take what goes out at once of a stream, by default 32 KiB. For
/// single messages they would be too large.
pub struct StreamCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for StreamCodec<T, U> {
    fn default() -> Self {
        StreamCodec(PhantomData)
    }
}

impl<T: Message + 'static, U: Message + Default + 'static> Codec for StreamCodec<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(stream_buffers())
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(stream_buffers())
    }
}

fn stream_buffers() -> BufferSettings {
    BufferSettings::new(40 << 10, 32 << 10)
}

// What `package bench; service Bench { … }` makes of a .proto file.
include!(concat!(env!("OUT_DIR"), "/bench.Bench.rs"));

#[derive(Clone, PartialEq, prost::Message)]
pub struct Addends {
    #[prost(int64, tag = "1")]
    a: i64,
    #[prost(int64, tag = "2")]
    b: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Sum {
    #[prost(int64, tag = "1")]
    sum: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Users {
    #[prost(message, repeated, tag = "1")]
    users: Vec<User>,
}

/// prost's `bytes` option: they are not copied out of the message.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Payload {
    #[prost(bytes = "bytes", tag = "1")]
    bytes: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Range {
    #[prost(uint64, tag = "1")]
    from: u64,
    #[prost(uint64, tag = "2")]
    count: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Number {
    #[prost(uint64, tag = "1")]
    number: u64,
}

struct Functions;

#[tonic::async_trait]
impl Bench for Functions {
    async fn add(&self, request: Request<Addends>) -> Result<Response<Sum>, Status> {
        let Addends { a, b } = request.into_inner();
        Ok(Response::new(Sum { sum: work::add(a, b) }))
    }

    async fn record(&self, request: Request<Users>) -> Result<Response<Users>, Status> {
        let Users { users } = request.into_inner();
        Ok(Response::new(Users { users: work::record(users) }))
    }

    async fn payload(&self, request: Request<Payload>) -> Result<Response<Payload>, Status> {
        let Payload { bytes } = request.into_inner();
        Ok(Response::new(Payload { bytes: work::payload(bytes) }))
    }

    type NumbersStream = stream::Iter<Numbers>;

    async fn numbers(&self, request: Request<Range>) -> Result<Response<Self::NumbersStream>, Status> {
        let Range { from, count } = request.into_inner();
        Ok(Response::new(stream::iter(Numbers(work::numbers(from, count)))))
    }
}

/// A stream has to be of a type that has a name.
struct Numbers(ops::Range<u64>);

impl Iterator for Numbers {
    type Item = Result<Number, Status>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(Ok(Number { number: self.0.next()? }))
    }
}

impl Caller for BenchClient<Channel> {
    async fn add(&mut self, a: i64, b: i64) -> Result<i64> {
        Ok(BenchClient::add(self, Addends { a, b }).await?.into_inner().sum)
    }

    async fn record(&mut self, users: Vec<User>) -> Result<Vec<User>> {
        Ok(BenchClient::record(self, Users { users }).await?.into_inner().users)
    }

    async fn payload(&mut self, bytes: Bytes) -> Result<Bytes> {
        Ok(BenchClient::payload(self, Payload { bytes }).await?.into_inner().bytes)
    }

    async fn numbers(&mut self, from: u64, count: u64) -> Result<impl peer::Numbers> {
        let numbers = BenchClient::numbers(self, Range { from, count }).await?.into_inner();
        Ok(numbers.map(|item| Ok(item?.number)))
    }
}
