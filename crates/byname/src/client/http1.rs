//! One HTTP/1.1 connection, driven by whoever calls through it: no task of its own, no channel between threads.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::header::TRANSFER_ENCODING;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper::ext::ReasonPhrase;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::doorbell::Doorbell;

/// A connection that is not in use, or is in use by its holder alone.
pub(super) struct Http1 {
    send: SendRequest<Full<Bytes>>,
    /// `None` once it is over: only dropping it hands back a request that it had not taken yet.
    connection: Driven,
    bell: Doorbell,
    wire: Arc<Wire>,
}

/// An answer as it came.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) reason: Option<ReasonPhrase>,
    pub(super) headers: HeaderMap,
    /// Only the end of the connection says where the body ends.
    pub(super) is_open_ended: bool,
    pub(super) body: Result<Bytes, TooLarge>,
}

/// The body is larger than the limit; the rest of it was not read.
pub(super) struct TooLarge;

/// Why there is no answer.
pub(super) enum Broken {
    /// Not a byte of the request was written.
    Unsent(String),
    /// Some was, and the function may have run.
    Unknown(String),
}

impl Http1 {
    pub(super) async fn open(stream: TcpStream) -> hyper::Result<Self> {
        let wire = Arc::new(Wire::default());
        let io = TokioIo::new(Counted { stream, wire: Arc::clone(&wire) });
        let (send, connection) = http1::Builder::new().handshake(io).await?;
        let mut this = Self { send, connection: Some(Box::pin(connection)), bell: Doorbell::new(), wire };
        // The first poll makes it want a request.
        this.is_usable();
        Ok(this)
    }

    /// Sends one request and reads its answer, a body of at most `limit` bytes. The connection comes back if it can be
    /// used again.
    pub(super) async fn exchange(
        mut self,
        request: Request<Full<Bytes>>,
        limit: usize,
    ) -> (Result<Answer, Broken>, Option<Self>) {
        let before = self.wire.written.load(Ordering::Relaxed);
        // It reads before it writes: a server that has closed meanwhile is noticed before the request goes out.
        self.wire.look.store(true, Ordering::Relaxed);
        let mut sent = pin!(self.send.try_send_request(request));
        let answered = poll_fn(|cx| {
            let Self { connection, bell, .. } = &mut self;
            bell.drive(cx, |cx| {
                drive(connection, cx);
                // What the connection hands over it hands over while it is driven, so only it needs a waker.
                sent.as_mut().poll(&mut Context::from_waker(Waker::noop()))
            })
        });
        let response = match answered.await {
            Ok(response) => response,
            Err(mut error) => {
                let unsent = error.take_message().is_some() || self.wire.written.load(Ordering::Relaxed) == before;
                let error = words(&error.into_error());
                return (Err(if unsent { Broken::Unsent(error) } else { Broken::Unknown(error) }), None);
            }
        };
        let (head, body) = Response::into_parts(response);
        let is_open_ended = body.size_hint().exact().is_none() && !is_chunked(&head.headers);
        let body = match self.read(body, limit).await {
            Ok(body) => body,
            Err(why) => return (Err(Broken::Unknown(why)), None),
        };
        let too_large = body.is_err();
        let reason = head.extensions.get::<ReasonPhrase>().cloned();
        let answer = Answer { status: head.status.as_u16(), reason, headers: head.headers, is_open_ended, body };
        let again = !too_large && self.is_usable();
        (Ok(answer), again.then_some(self))
    }

    async fn read(&mut self, body: Incoming, limit: usize) -> Result<Result<Bytes, TooLarge>, String> {
        if body.size_hint().lower() > limit as u64 {
            return Ok(Err(TooLarge));
        }
        let mut body = pin!(body);
        let mut whole = Bytes::new();
        let mut more = BytesMut::new();
        while !body.is_end_stream() {
            let frame = poll_fn(|cx| {
                let Self { connection, bell, .. } = self;
                bell.drive(cx, |cx| {
                    let noop = &mut Context::from_waker(Waker::noop());
                    if let Poll::Ready(frame) = body.as_mut().poll_frame(noop) {
                        return Poll::Ready(Ok(frame));
                    }
                    drive(connection, cx);
                    match body.as_mut().poll_frame(noop) {
                        // Never a truncated success: hyper says so itself, this is in case it does not.
                        Poll::Pending if connection.is_none() => Poll::Ready(Err("the body broke off".to_owned())),
                        polled => polled.map(Ok),
                    }
                })
            });
            let data = match frame.await? {
                None => break,
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Err(words(&error)),
            };
            if whole.len() + more.len() + data.len() > limit {
                return Ok(Err(TooLarge));
            }
            if whole.is_empty() && more.is_empty() {
                whole = data;
            } else {
                more.extend_from_slice(&std::mem::take(&mut whole));
                more.extend_from_slice(&data);
            }
        }
        Ok(Ok(if more.is_empty() { whole } else { more.freeze() }))
    }

    /// Whether the connection can take the next request. No socket is asked.
    fn is_usable(&mut self) -> bool {
        if !self.send.is_ready() {
            drive(&mut self.connection, &mut Context::from_waker(self.bell.waker()));
        }
        self.connection.is_some() && self.send.is_ready()
    }
}

type Driven = Option<Pin<Box<Connection<TokioIo<Counted>, Full<Bytes>>>>>;

/// Moves bytes. Nothing is left once the connection is over; why is told to whoever waits for an answer.
fn drive(connection: &mut Driven, cx: &mut Context<'_>) {
    if connection.as_mut().is_none_or(|connection| connection.as_mut().poll(cx).is_ready()) {
        *connection = None;
    }
}

fn is_chunked(headers: &HeaderMap) -> bool {
    let coding = headers.get_all(TRANSFER_ENCODING).into_iter().next_back();
    coding.is_some_and(|coding| coding.as_bytes().to_ascii_lowercase().ends_with(b"chunked"))
}

/// hyper says the general in its error and the particular in its source.
fn words(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// What is known of a connection's bytes.
#[derive(Debug, Default)]
struct Wire {
    /// How many the kernel has taken.
    written: AtomicU64,
    /// The next read asks the kernel first whether the peer has closed.
    look: AtomicBool,
}

/// A socket that counts.
struct Counted {
    stream: TcpStream,
    wire: Arc<Wire>,
}

impl Counted {
    fn count(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count)) = polled {
            self.wire.written.fetch_add(count as u64, Ordering::Relaxed);
        }
        polled
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.wire.look.swap(false, Ordering::Relaxed) {
            let mut byte = [std::mem::MaybeUninit::uninit()];
            match socket2::SockRef::from(&self.stream).peek(&mut byte) {
                Ok(0) => return Poll::Ready(Ok(())),
                Err(why) if why.kind() != io::ErrorKind::WouldBlock => return Poll::Ready(Err(why)),
                _ => {}
            }
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.count(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.count(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_request_that_finds_the_connection_closed_was_not_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let connection = Http1::open(stream).await.unwrap();
        drop(listener.accept().await.unwrap());
        let (answer, connection) = connection.exchange(Request::new(Full::default()), 0).await;
        assert!(matches!(answer, Err(Broken::Unsent(_))));
        assert!(connection.is_none());
    }
}
