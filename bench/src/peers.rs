//! The peers: a file for each, and a line in [`PEERS`] for each way in which it is measured.

mod axum_hyper;
mod axum_reqwest;
mod axum_server;
mod base64;
mod byname;
mod floor;
mod jsonrpsee;
mod tarpc;
mod tonic;

use std::any::Any;
use std::net::SocketAddr;
use std::pin::Pin;

use ::byname::{Codec, Transport};
use anyhow::Result;
use byname::{By, Over};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use tokio::net::TcpListener;

use crate::load::{self, Load, Outcome};
use crate::machine::Threads;
use crate::peer::Peer;
use crate::work::Work;

pub static PEERS: &[AnyPeer] = &[
    AnyPeer::new("floor", &floor::Floor::<floor::Binary, _>::new()),
    AnyPeer::new("floor-websocket", &floor::Floor::<floor::Binary, _>::in_messages()).only_by_name(),
    AnyPeer::new("floor-json", &floor::Floor::<floor::Json, _>::new()),
    AnyPeer::new("byname-frames", &FRAMES),
    AnyPeer::new("byname-frames-2-threads", &FRAMES).on(Threads::OnSharedCpus(2)).only_by_name(),
    AnyPeer::new("byname-frames-4-threads", &FRAMES).on(Threads::OnOneCpu(4)).only_by_name(),
    AnyPeer::new("byname-frames-4", &byname::Byname { clients: 4, ..FRAMES }).only_by_name(),
    AnyPeer::new(
        "byname-frames-json",
        &byname::Byname { client: |defaults| defaults.codec(Codec::Json), by: By::JsonFrames, ..FRAMES },
    ),
    AnyPeer::new(
        "byname-http",
        &byname::Byname { client: |defaults| defaults.transport(Transport::Http), by: By::Http, ..FRAMES },
    ),
    AnyPeer::new("byname-frames-unix", &byname::Byname { over: Over::UnixSocket, ..FRAMES }).only_by_name(),
    AnyPeer::new(
        "byname-http-unix",
        &byname::Byname {
            client: |defaults| defaults.transport(Transport::Http),
            by: By::Http,
            over: Over::UnixSocket,
            clients: 1,
        },
    )
    .only_by_name(),
    AnyPeer::new("tarpc", &tarpc::Tarpc { connections: 1 }),
    AnyPeer::new("tarpc-2-threads", &tarpc::Tarpc { connections: 1 }).on(Threads::OnSharedCpus(2)).only_by_name(),
    AnyPeer::new("tarpc-4-threads", &tarpc::Tarpc { connections: 1 }).on(Threads::OnOneCpu(4)).only_by_name(),
    AnyPeer::new("tarpc-4", &tarpc::Tarpc { connections: 4 }),
    AnyPeer::new("tonic", &tonic::Tonic { connections: 1, scheme: "http" }),
    AnyPeer::new("tonic-4", &tonic::Tonic { connections: 4, scheme: "http" }),
    AnyPeer::new("jsonrpsee-ws", &jsonrpsee::WebSocket),
    AnyPeer::new("jsonrpsee-http", &jsonrpsee::Http),
    AnyPeer::new("axum-hyper", &axum_hyper::AxumHyper),
    AnyPeer::new("axum-reqwest", &axum_reqwest::AxumReqwest),
    #[cfg(feature = "tls")]
    AnyPeer::new("byname-frames-tls", &byname::Byname { over: Over::Tls, ..FRAMES }),
    #[cfg(feature = "tls")]
    AnyPeer::new(
        "byname-http-tls",
        &byname::Byname {
            client: |defaults| defaults.transport(Transport::Http),
            by: By::Http,
            over: Over::Tls,
            clients: 1,
        },
    ),
    #[cfg(feature = "tls")]
    AnyPeer::new("tonic-tls", &tonic::Tonic { connections: 1, scheme: "https" }),
    #[cfg(feature = "tls")]
    AnyPeer::new("tonic-4-tls", &tonic::Tonic { connections: 4, scheme: "https" }),
];

/// byname on its defaults.
const FRAMES: byname::Byname =
    byname::Byname { client: |defaults| defaults, by: By::MessagePack, over: Over::Tcp, clients: 1 };

/// A [`Peer`] that can be chosen at run time. What the load runs is still compiled for each.
pub struct AnyPeer {
    /// What the command line and the tables call it.
    pub name: &'static str,
    pub packages: &'static [&'static str],
    streams: bool,
    /// It runs only where it is named.
    pub only_by_name: bool,
    pub threads: Threads,
    peer: &'static (dyn Erased + Sync),
}

type LocalFuture<T> = Pin<Box<dyn Future<Output = T>>>;

impl AnyPeer {
    const fn new<P: Peer>(name: &'static str, peer: &'static P) -> Self {
        AnyPeer { name, packages: P::PACKAGES, streams: P::STREAMS, only_by_name: false, threads: Threads::One, peer }
    }

    const fn on(mut self, threads: Threads) -> Self {
        self.threads = threads;
        self
    }

    const fn only_by_name(mut self) -> Self {
        self.only_by_name = true;
        self
    }

    pub fn can(&self, work: Work) -> bool {
        self.streams || work != Work::Stream
    }

    pub async fn serve(&self, listener: TcpListener) -> Result<()> {
        self.peer.serve(listener).await
    }

    pub async fn load(&self, load: Load) -> Result<Outcome> {
        self.peer.load(load).await
    }

    /// Connections that were each used once; they close when the value is dropped.
    pub async fn open(&self, server: SocketAddr, connections: usize) -> Result<Box<dyn Any>> {
        self.peer.open(server, connections).await
    }

    pub async fn call(&self, load: Load, each: u64) -> Result<()> {
        self.peer.call(load, each).await
    }
}

trait Erased {
    fn serve(&'static self, listener: TcpListener) -> LocalFuture<Result<()>>;
    fn load(&'static self, load: Load) -> LocalFuture<Result<Outcome>>;
    fn call(&'static self, load: Load, each: u64) -> LocalFuture<Result<()>>;
    fn open(&'static self, server: SocketAddr, connections: usize) -> LocalFuture<Result<Box<dyn Any>>>;
}

impl<P: Peer> Erased for P {
    fn serve(&'static self, listener: TcpListener) -> LocalFuture<Result<()>> {
        Box::pin(Peer::serve(self, listener))
    }

    fn load(&'static self, load: Load) -> LocalFuture<Result<Outcome>> {
        Box::pin(load::generate(self, load))
    }

    fn call(&'static self, load: Load, each: u64) -> LocalFuture<Result<()>> {
        Box::pin(load::call(self, load, each))
    }

    fn open(&'static self, server: SocketAddr, connections: usize) -> LocalFuture<Result<Box<dyn Any>>> {
        Box::pin(async move { Ok(Box::new(load::open(self, server, connections).await?) as Box<dyn Any>) })
    }
}

/// Reads a peer's name from the command line.
pub fn parser() -> impl TypedValueParser<Value = &'static AnyPeer> {
    PossibleValuesParser::new(PEERS.iter().map(|peer| peer.name)).map(|name| {
        let known = PEERS.iter().find(|peer| peer.name == name);
        known.expect("clap accepts only these names")
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::ValueEnum;

    use super::*;
    use crate::accept::accepted;

    #[tokio::test]
    async fn every_peer_answers_every_work() {
        for peer in PEERS {
            for &work in Work::value_variants().iter().filter(|work| peer.can(**work)) {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let load = Load {
                    server: listener.local_addr().unwrap(),
                    server_process: None,
                    work,
                    in_flight: 4,
                    warm_up: Duration::from_millis(10),
                    window: Duration::from_millis(50),
                };
                let before = accepted();
                let outcome = tokio::select! {
                    outcome = peer.load(load) => outcome.unwrap(),
                    ended = peer.serve(listener) => panic!("{} ended: {ended:?}", peer.name),
                };
                assert!(outcome.calls > 0, "{} {work}: {outcome:?}", peer.name);
                assert_eq!(outcome.failures, 0, "{} {work}: {outcome:?}", peer.name);
                assert!(accepted() > before, "{} {work}", peer.name);
            }
        }
    }
}
