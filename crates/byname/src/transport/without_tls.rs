//! What stands for TLS where the feature `tls` is off: there is none of it.

use std::fmt::Display;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::{Handshake, HandshakeRefusal, TransportStream};
use crate::error::{Code, Error};

/// A connection over TLS.
#[derive(Debug)]
pub(crate) enum TlsStream {}

/// The TLS of a server.
#[derive(Clone, Debug)]
pub(crate) enum ServerTls {}

/// The TLS of a client.
#[derive(Clone, Debug)]
pub(crate) enum ClientTls {}

/// Makes connections over TLS.
#[derive(Clone, Debug)]
pub(crate) enum TlsConnector {}

impl TlsStream {
    pub(super) fn check_idle(&mut self) -> Result<(), String> {
        match *self {}
    }

    pub(super) fn poll_has_more(&mut self, _: &mut Context<'_>) -> Poll<io::Result<bool>> {
        match *self {}
    }

    pub(super) fn write_last_words(&mut self, _: &[u8]) {
        match *self {}
    }

    pub(super) fn refusal(&self) -> Option<&HandshakeRefusal> {
        match *self {}
    }
}

impl ServerTls {
    pub(crate) fn accepts_clients(&self) -> bool {
        match *self {}
    }

    pub(crate) async fn accept(&self, _: TransportStream, _: &(dyn Display + Sync)) -> Handshake {
        match *self {}
    }

    pub(crate) async fn watch(&self) {
        match *self {}
    }

    pub(crate) fn log_stalled(&self, _: &dyn Display) {
        match *self {}
    }
}

impl TlsConnector {
    pub(crate) fn new(_: Option<ClientTls>, _: &str) -> Result<Self, Error> {
        let why = "https:// needs the feature `tls` of byname, which is off by default: add `features = [\"tls\"]` to byname \
                   in Cargo.toml";
        Err(Error::refused(Code::InvalidArgument, why))
    }

    pub(crate) async fn connect(&self, _: TcpStream) -> io::Result<TransportStream> {
        match *self {}
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }
}

impl AsyncWrite for TlsStream {
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
