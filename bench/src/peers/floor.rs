//! The practical limit, without any framework: one connection for many calls in flight, frames behind
//! their length, and one write for all that is ready.
//!
//! It does what every RPC must do and nothing else: no deadline, no cancellation, no limit, no metadata,
//! no errors but those of the connection, and of a stream as much as the connection takes. [`frames`] says what is on the wire, [`client`] and [`server`]
//! are its two ends, [`encoding`] is what a payload holds, and [`websocket`] is what may be around it all.

mod client;
mod encoding;
mod frames;
mod server;
mod websocket;

use std::marker::PhantomData;
use std::net::SocketAddr;

use anyhow::Result;
use tokio::net::{TcpListener, TcpStream};

pub use self::client::Client;
pub use self::encoding::{Binary, Encoding, Json};
pub use self::websocket::{Framing, WebSocket};
use crate::peer::Peer;

pub struct Floor<E, F> {
    kinds: PhantomData<fn() -> (E, F)>,
}

impl<E> Floor<E, TcpStream> {
    pub const fn new() -> Self {
        Floor { kinds: PhantomData }
    }
}

impl<E> Floor<E, WebSocket> {
    pub const fn in_messages() -> Self {
        Floor { kinds: PhantomData }
    }
}

impl<E: Encoding, F: Framing> Peer for Floor<E, F> {
    const PACKAGES: &'static [&'static str] = E::PACKAGES;
    const STREAMS: bool = true;

    type Caller = Client<E>;

    async fn serve(&self, listener: TcpListener) -> Result<()> {
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(server::serve::<E, F>(F::server(stream)));
        }
    }

    async fn connect(&self, server: SocketAddr, slots: usize) -> Result<Vec<Client<E>>> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let client = Client::new(F::client(stream));
        Ok(vec![client; slots])
    }
}
