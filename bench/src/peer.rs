//! What a peer is to the measurement: a server, and callers of it.

use std::net::SocketAddr;

use anyhow::{Result, anyhow};
use bytes::Bytes;
use futures_util::stream::{self, Stream};
use tokio::net::TcpListener;

use crate::work::User;

/// A server and a client that speak with each other, at the best settings that they document.
pub trait Peer: Sync + 'static {
    /// The dependencies of this crate whose versions say what was measured.
    const PACKAGES: &'static [&'static str];

    /// Whether a function of it can return a stream.
    const STREAMS: bool = false;

    type Caller: Caller;

    async fn serve(&self, listener: TcpListener) -> Result<()>;

    /// A caller for each slot, that is for each call in flight, or stream.
    async fn connect(&self, server: SocketAddr, slots: usize) -> Result<Vec<Self::Caller>>;
}

/// Makes one call after the other. The futures are `Send` because every slot is a task of its own.
pub trait Caller: Send + 'static {
    fn add(&mut self, a: i64, b: i64) -> impl Future<Output = Result<i64>> + Send;

    fn record(&mut self, users: Vec<User>) -> impl Future<Output = Result<Vec<User>>> + Send;

    fn payload(&mut self, bytes: Bytes) -> impl Future<Output = Result<Bytes>> + Send;

    /// A stream of so many numbers.
    fn numbers(&mut self, _from: u64, _count: u64) -> impl Future<Output = Result<impl Numbers>> + Send {
        async { Err::<stream::Empty<_>, _>(anyhow!("it has no streams")) }
    }

    /// Waits until later calls go by the connection that they will stay with.
    fn settle(&mut self) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }
}

/// Items as they come. An error is the last.
pub trait Numbers: Stream<Item = Result<u64>> + Send {}

impl<S: Stream<Item = Result<u64>> + Send> Numbers for S {}
