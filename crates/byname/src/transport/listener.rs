//! Where connections come in: [`TransportListener`].

use std::io;
use std::task::{Context, Poll};

use tokio::net::{TcpListener, TcpStream};

use super::TransportStream;
use super::unix::{ClosingPathListener, PathListener};
use crate::address::Address;
use crate::peer::Peer;
use crate::simulated_world::SimulatedListener;

/// A bound listener.
#[derive(Debug)]
pub(crate) enum TransportListener {
    Tcp(TcpListener),
    Unix(PathListener),
    Simulated(SimulatedListener),
}

/// A listener that is about to close. It asks the kernel for connections, and does not wait.
#[derive(Debug)]
pub(crate) enum ClosingListener {
    Tcp(std::net::TcpListener),
    Unix(ClosingPathListener),
    Simulated(SimulatedListener),
}

impl TransportListener {
    pub(crate) fn local_addr(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Address::from),
            Self::Unix(listener) => Ok(listener.address()),
            Self::Simulated(listener) => Ok(listener.address().into()),
        }
    }

    pub(crate) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TransportStream, Peer)>> {
        match self {
            Self::Tcp(listener) => listener.poll_accept(cx).map_ok(|(stream, peer)| tcp(stream, peer.into())),
            Self::Unix(listener) => listener.poll_accept(cx).map_ok(|(stream, peer)| (stream.into(), peer)),
            Self::Simulated(listener) => listener.poll_accept(cx).map_ok(|(stream, peer)| (stream.into(), peer.into())),
        }
    }

    /// This listener, to be asked for what the kernel has accepted already.
    pub(crate) fn close(self) -> io::Result<ClosingListener> {
        match self {
            Self::Tcp(listener) => listener.into_std().map(ClosingListener::Tcp),
            Self::Unix(listener) => listener.close().map(ClosingListener::Unix),
            Self::Simulated(listener) => {
                listener.stop();
                Ok(ClosingListener::Simulated(listener))
            }
        }
    }
}

impl ClosingListener {
    /// The next connection that the kernel has accepted; an error if there is none.
    pub(crate) fn accept(&self) -> io::Result<(io::Result<TransportStream>, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
                let stream = stream.map(|stream| tcp(stream, peer.into()).0);
                Ok((stream, peer.into()))
            }
            Self::Unix(listener) => {
                let (stream, peer) = listener.accept()?;
                Ok((stream.map(TransportStream::from), peer))
            }
            Self::Simulated(listener) => {
                let (stream, peer) = listener.accept()?;
                Ok((Ok(stream.into()), peer.into()))
            }
        }
    }
}

/// What is set on every connection over TCP.
fn tcp(stream: TcpStream, peer: Peer) -> (TransportStream, Peer) {
    let _ = stream.set_nodelay(true);
    (stream.into(), peer)
}

impl From<TcpListener> for TransportListener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

impl From<SimulatedListener> for TransportListener {
    fn from(listener: SimulatedListener) -> Self {
        Self::Simulated(listener)
    }
}

impl From<PathListener> for TransportListener {
    fn from(listener: PathListener) -> Self {
        Self::Unix(listener)
    }
}
