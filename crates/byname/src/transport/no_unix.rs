//! Unix sockets on a system where byname has none: types that have no value.

use std::io;
use std::mem::MaybeUninit;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::address::Address;
use crate::peer::Peer;

pub(super) use self::NoPathListener as ClosingPathListener;
pub(crate) use self::{
    NoGivenListener as GivenUnixListener, NoPathListener as PathListener, NoUnixStream as UnixStream,
};

#[derive(Debug)]
pub(crate) enum NoUnixStream {}

#[derive(Debug)]
pub(crate) enum NoPathListener {}

#[derive(Debug)]
pub(crate) enum NoGivenListener {}

impl NoPathListener {
    pub(crate) fn bind(_: &Path, _: u32, _: u32) -> Result<Self, String> {
        Err("byname has no unix sockets on this system; listen at host:port".into())
    }

    pub(crate) fn given(listener: NoGivenListener) -> io::Result<Self> {
        match listener {}
    }

    pub(crate) fn address(&self) -> Address {
        match *self {}
    }

    pub(crate) fn poll_accept(&self, _: &mut Context<'_>) -> Poll<io::Result<(NoUnixStream, Peer)>> {
        match *self {}
    }

    pub(crate) fn close(self) -> io::Result<Self> {
        match self {}
    }

    pub(crate) fn accept(&self) -> io::Result<(io::Result<NoUnixStream>, Peer)> {
        match *self {}
    }
}

pub(crate) async fn connect_unix(_: &Path) -> io::Result<NoUnixStream> {
    let why = "byname has no unix sockets on this system";
    Err(io::Error::new(io::ErrorKind::Unsupported, why))
}

pub(super) fn peek(stream: &NoUnixStream, _: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
    match *stream {}
}

pub(super) fn poll_peek(stream: &NoUnixStream, _: &mut Context<'_>) -> Poll<io::Result<usize>> {
    match *stream {}
}

impl NoUnixStream {
    pub(super) fn try_write(&self, _: &[u8]) -> io::Result<usize> {
        match *self {}
    }
}

impl AsyncRead for NoUnixStream {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }
}

impl AsyncWrite for NoUnixStream {
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
