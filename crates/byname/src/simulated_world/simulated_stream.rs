//! The bytes of a simulated connection, and where such connections come in.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::SimulatedWorld;
use super::network::{EndId, ListenerId};

/// One end of a simulated connection. It is closed when this is dropped.
pub(crate) struct SimulatedStream {
    world: Arc<SimulatedWorld>,
    end: EndId,
}

/// A port of a simulated machine. It is closed when this is dropped.
pub(crate) struct SimulatedListener {
    world: Arc<SimulatedWorld>,
    id: ListenerId,
    address: SocketAddr,
}

impl SimulatedStream {
    pub(super) fn new(world: Arc<SimulatedWorld>, end: EndId) -> Self {
        Self { world, end }
    }

    /// How many bytes can be read now, 0 at the end. `WouldBlock` if none has come.
    pub(crate) fn peek(&self) -> io::Result<usize> {
        self.world.step(|network, _| network.readable(self.end, None))?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    /// As [`peek`](Self::peek), and waits.
    pub(crate) fn poll_peek(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match self.world.step(|network, _| network.readable(self.end, Some(cx.waker()))) {
            Ok(Some(count)) => Poll::Ready(Ok(count)),
            Ok(None) => Poll::Pending,
            Err(why) => Poll::Ready(Err(why)),
        }
    }

    /// Writes what there is room for at once.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.world.step(|network, now| network.write(self.end, &[io::IoSlice::new(bytes)], None, now))?;
        written.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    fn poll_send(&self, cx: &mut Context<'_>, parts: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self.world.step(|network, now| network.write(self.end, parts, Some(cx.waker()), now)) {
            Ok(Some(count)) => Poll::Ready(Ok(count)),
            Ok(None) => Poll::Pending,
            Err(why) => Poll::Ready(Err(why)),
        }
    }
}

impl Drop for SimulatedStream {
    fn drop(&mut self) {
        self.world.step(|network, now| network.close(self.end, now));
    }
}

impl fmt::Debug for SimulatedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SimulatedStream").field(&self.end).finish()
    }
}

impl AsyncRead for SimulatedStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if std::task::ready!(self.poll_peek(cx))? > 0 {
            buf.put_slice(&self.world.step(|network, _| network.read(self.end, buf.remaining())));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SimulatedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.world.step(|network, now| network.finish(self.end, now));
        Poll::Ready(Ok(()))
    }
}

impl SimulatedListener {
    pub(super) fn new(world: Arc<SimulatedWorld>, id: ListenerId, address: SocketAddr) -> Self {
        Self { world, id, address }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(SimulatedStream, SocketAddr)>> {
        match self.world.step(|network, now| network.accept(self.id, Some(cx.waker()), now)) {
            Ok(Some((end, caller))) => Poll::Ready(Ok((SimulatedStream::new(Arc::clone(&self.world), end), caller))),
            Ok(None) => Poll::Pending,
            Err(why) => Poll::Ready(Err(why)),
        }
    }

    /// New connections are refused from now on. Those that wait can still be accepted.
    pub(crate) fn stop(&self) {
        self.world.step(|network, _| network.close_port(self.id));
    }

    /// The next connection that waits; an error if there is none.
    pub(crate) fn accept(&self) -> io::Result<(SimulatedStream, SocketAddr)> {
        let accepted = self.world.step(|network, now| network.accept(self.id, None, now))?;
        let (end, caller) = accepted.ok_or(io::ErrorKind::WouldBlock)?;
        Ok((SimulatedStream::new(Arc::clone(&self.world), end), caller))
    }
}

impl Drop for SimulatedListener {
    fn drop(&mut self) {
        self.world.step(|network, now| network.drop_listener(self.id, now));
    }
}

impl fmt::Debug for SimulatedListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SimulatedListener").field(&self.address).finish()
    }
}
