//! A connection over TLS: [`TlsStream`].

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::{ConnectionCommon, SideData};
use socket2::SockRef;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream as RustlsStream;

use super::rejection;
use crate::transport::HandshakeRefusal;

/// The most bytes of one record (RFC 8446, section 5.1).
const RECORD: usize = 16 << 10;

/// A connection over TLS whose handshake is done.
#[derive(Debug)]
pub(crate) struct TlsStream {
    stream: RustlsStream<TcpStream>,
    /// Bytes of the application have come.
    has_received: bool,
    /// The server has refused this client after the handshake looked done, as TLS 1.3 has it.
    refusal: Option<HandshakeRefusal>,
}

impl TlsStream {
    pub(super) fn new(stream: impl Into<RustlsStream<TcpStream>>) -> Self {
        Self { stream: stream.into(), has_received: false, refusal: None }
    }

    /// Whether the server has kept the connection open and has said nothing to the application. It may have sent session
    /// tickets. They are read past tokio, which may not know of them yet.
    pub(in crate::transport) fn check_idle(&mut self) -> Result<(), String> {
        self.look().map_err(|why| self.explain(why).to_string())
    }

    /// Waits until the next byte has come, which stays unread, or until the peer has closed its half: then it is `false`.
    pub(in crate::transport) fn poll_has_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        Pin::new(&mut self.stream).poll_fill_buf(cx).map_ok(|bytes| !bytes.is_empty())
    }

    /// Writes as much as the kernel takes at once, and the end of the connection.
    pub(in crate::transport) fn write_last_words(&mut self, words: &[u8]) {
        // An error means that the peer is gone.
        let _ = self.try_end(words);
    }

    /// Why the server refuses this client, if it does.
    pub(in crate::transport) fn refusal(&self) -> Option<&HandshakeRefusal> {
        self.refusal.as_ref()
    }

    fn look(&mut self) -> io::Result<()> {
        let RustlsStream::Client(stream) = &mut self.stream else {
            return Ok(());
        };
        let (socket, session) = stream.get_mut();
        let socket = SockRef::from(&*socket);
        loop {
            let state = session.process_new_packets().map_err(io::Error::other)?;
            if state.plaintext_bytes_to_read() > 0 {
                return Err(io::Error::other("the server said something that nobody had asked for"));
            }
            if state.peer_has_closed() {
                return Err(io::Error::other("the server had closed it"));
            }
            match session.read_tls(&mut &*socket) {
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(why) => return Err(why),
                Ok(0) => return Err(io::Error::other("the server had closed it")),
                Ok(_) => {}
            }
        }
    }

    fn try_end(&mut self, words: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            RustlsStream::Client(stream) => {
                let (socket, session) = stream.get_mut();
                end(socket, session, words)
            }
            RustlsStream::Server(stream) => {
                let (socket, session) = stream.get_mut();
                end(socket, session, words)
            }
        }
    }

    /// Notes why the server rejects this client, and says the same in the error.
    fn explain(&mut self, why: io::Error) -> io::Error {
        if self.has_received || matches!(self.stream, RustlsStream::Server(_)) {
            return why;
        }
        let Some(refusal) = rejection::after_the_handshake(&why) else {
            return why;
        };
        self.refusal = Some(refusal.clone());
        refusal.into()
    }
}

/// Writes words and the end of a session, as much as the kernel takes at once.
fn end<D: SideData>(socket: &TcpStream, session: &mut ConnectionCommon<D>, words: &[u8]) -> io::Result<()> {
    session.writer().write_all(words)?;
    session.send_close_notify();
    let socket = SockRef::from(socket);
    while session.wants_write() {
        session.write_tls(&mut &*socket)?;
    }
    Ok(())
}

impl Drop for TlsStream {
    /// A client tells the server that it meant to end the connection. A server says so itself where it is true: a reply may
    /// have been cut off.
    fn drop(&mut self) {
        if matches!(self.stream, RustlsStream::Client(_)) {
            let _ = self.try_end(b"");
        }
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        match ready!(Pin::new(&mut this.stream).poll_read(cx, buf)) {
            Ok(()) => {
                this.has_received |= buf.filled().len() > before;
                Poll::Ready(Ok(()))
            }
            Err(why) => Poll::Ready(Err(this.explain(why))),
        }
    }
}

impl AsyncWrite for TlsStream {
    /// A client writes one record at a time. After an error it sends the calls in `buf` again, and tokio-rustls gives an
    /// error even if it has sent earlier records of `buf`. An incomplete record can't be read, so none of those calls ran.
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let most = match this.stream {
            RustlsStream::Client(_) => buf.len().min(RECORD),
            RustlsStream::Server(_) => buf.len(),
        };
        Pin::new(&mut this.stream).poll_write(cx, &buf[..most])
    }

    /// A client writes a single call in this way. After an error a part of it is missing.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use rcgen::{CertificateParams, KeyPair};
    use tokio::net::TcpListener;

    use super::super::{ClientTls, Pem, ServerTls, TlsConnector};
    use super::*;

    #[tokio::test]
    async fn an_error_of_a_write_leaves_no_record_of_it_sent() {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap().pem();
        let server = ServerTls::pem(&certificate, key.serialize_pem()).unwrap();
        let client = ClientTls::new().roots(Pem::text(&certificate)).unwrap();
        let connector = TlsConnector::new(Some(client), "127.0.0.1").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let accepted = async { server.handshake(listener.accept().await.unwrap().0.into()).await };
        let (stream, _accepted) = tokio::join!(connector.connect(socket), accepted);
        let mut stream = stream.unwrap();
        let calls = vec![0; 3 * RECORD];
        let written = poll_fn(|cx| Pin::new(&mut stream).poll_write(cx, &calls)).await.unwrap();
        assert_eq!(written, RECORD, "an error can only be about this record");
    }
}
