//! The bytes of one connection: [`TransportStream`].

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::HandshakeRefusal;
use super::tls::TlsStream;
use super::unix::{self, UnixStream};
use crate::simulated_world::SimulatedStream;

/// One connection.
#[derive(Debug)]
pub(crate) enum TransportStream {
    Tcp(TcpStream),
    Tls(Box<TlsStream>),
    Unix(UnixStream),
    Simulated(SimulatedStream),
}

impl TransportStream {
    /// Whether the peer has kept the connection open and has sent nothing. This asks the kernel: what tokio remembers of
    /// the socket may be older than the end of the connection.
    pub(crate) fn check_idle(&mut self) -> Result<(), String> {
        let mut byte = [MaybeUninit::uninit()];
        let peeked = match self {
            Self::Tcp(stream) => socket2::SockRef::from(&*stream).peek(&mut byte),
            Self::Tls(stream) => return stream.check_idle(),
            Self::Unix(stream) => unix::peek(stream, &mut byte),
            Self::Simulated(stream) => stream.peek(),
        };
        match peeked {
            Err(why) if why.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(why) => Err(why.to_string()),
            Ok(0) => Err("the server had closed it".into()),
            Ok(_) => Err("the server said something that nobody had asked for".into()),
        }
    }

    /// Waits until the next byte has come, which stays unread, or until the peer has closed its half: then it is `false`.
    pub(crate) fn poll_has_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut next = [0; 1];
        match self {
            Self::Tcp(stream) => stream.poll_peek(cx, &mut ReadBuf::new(&mut next)).map_ok(|count| count > 0),
            Self::Tls(stream) => stream.poll_has_more(cx),
            Self::Unix(stream) => unix::poll_peek(stream, cx).map_ok(|count| count > 0),
            Self::Simulated(stream) => stream.poll_peek(cx).map_ok(|count| count > 0),
        }
    }

    /// Writes as much as the kernel takes at once. The connection ends after it.
    pub(crate) fn write_last_words(&mut self, words: &[u8]) {
        // An error means that the peer is gone.
        let _ = match self {
            Self::Tcp(stream) => stream.try_write(words).map(drop),
            Self::Unix(stream) => stream.try_write(words).map(drop),
            Self::Simulated(stream) => stream.try_write(words).map(drop),
            Self::Tls(stream) => {
                stream.write_last_words(words);
                Ok(())
            }
        };
    }

    /// Why the peer refuses this side, if it does. To be asked after an error.
    pub(crate) fn refusal(&self) -> Option<&HandshakeRefusal> {
        match self {
            Self::Tcp(_) | Self::Unix(_) | Self::Simulated(_) => None,
            Self::Tls(stream) => stream.refusal(),
        }
    }
}

impl From<TcpStream> for TransportStream {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

impl From<TlsStream> for TransportStream {
    fn from(stream: TlsStream) -> Self {
        Self::Tls(Box::new(stream))
    }
}

impl From<UnixStream> for TransportStream {
    fn from(stream: UnixStream) -> Self {
        Self::Unix(stream)
    }
}

impl From<SimulatedStream> for TransportStream {
    fn from(stream: SimulatedStream) -> Self {
        Self::Simulated(stream)
    }
}

impl AsyncRead for TransportStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Simulated(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for TransportStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Simulated(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, bufs),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Simulated(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
            Self::Simulated(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Simulated(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Simulated(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
