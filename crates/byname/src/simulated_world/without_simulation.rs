//! Without the feature `simulation` there is only the real world: types that have no value, and notes that nobody takes.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(crate) use self::{NoSimulatedListener as SimulatedListener, NoSimulatedStream as SimulatedStream};

#[derive(Debug)]
pub(crate) enum NoSimulatedStream {}

#[derive(Debug)]
pub(crate) enum NoSimulatedListener {}

pub(crate) const fn is_simulated() -> bool {
    false
}

pub(crate) const fn note(_: fmt::Arguments<'_>) {}

pub(crate) const fn resolve(_: &str, _: u16) -> Option<io::Result<Vec<SocketAddr>>> {
    None
}

pub(crate) async fn connect(_: SocketAddr) -> io::Result<NoSimulatedStream> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn listen(_: &str, _: u16) -> io::Result<NoSimulatedListener> {
    Err(io::ErrorKind::Unsupported.into())
}

impl NoSimulatedStream {
    pub(crate) fn peek(&self) -> io::Result<usize> {
        match *self {}
    }

    pub(crate) fn poll_peek(&self, _: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match *self {}
    }

    pub(crate) fn try_write(&self, _: &[u8]) -> io::Result<usize> {
        match *self {}
    }
}

impl AsyncRead for NoSimulatedStream {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }
}

impl AsyncWrite for NoSimulatedStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        match *self {}
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }
}

impl NoSimulatedListener {
    pub(crate) fn address(&self) -> SocketAddr {
        match *self {}
    }

    pub(crate) fn poll_accept(&self, _: &mut Context<'_>) -> Poll<io::Result<(NoSimulatedStream, SocketAddr)>> {
        match *self {}
    }

    pub(crate) fn stop(&self) {
        match *self {}
    }

    pub(crate) fn accept(&self) -> io::Result<(NoSimulatedStream, SocketAddr)> {
        match *self {}
    }
}
