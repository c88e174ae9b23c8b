//! The practical limit, without any framework: one connection for many calls in flight, frames behind
//! their length, and one write for all that is ready.
//!
//! It does what every RPC must do and nothing else: no deadline, no cancellation, no limit, no metadata,
//! no errors but those of the connection. [`frames`] says what is on the wire, [`client`] and [`server`]
//! are its two ends, and [`encoding`] is what a payload holds.

mod client;
mod encoding;
mod frames;
mod server;

use std::net::SocketAddr;

use anyhow::Result;
use tokio::net::{TcpListener, TcpStream};

pub use self::client::Client;
pub use self::encoding::{Binary, Encoding, Json};
use crate::peer::Peer;

pub struct Floor<E>(pub E);

impl<E: Encoding> Peer for Floor<E> {
    const PACKAGES: &'static [&'static str] = E::PACKAGES;

    type Caller = Client<E>;

    async fn serve(&self, listener: TcpListener) -> Result<()> {
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(server::serve::<E>(stream));
        }
    }

    async fn connect(&self, server: SocketAddr, slots: usize) -> Result<Vec<Client<E>>> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let client = Client::new(stream);
        Ok(vec![client; slots])
    }
}
