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

/// A connection that is not in use, or is in use by its holder alone.
pub(super) struct Http1 {
    send: SendRequest<Full<Bytes>>,
    /// `None` once it is over: only dropping it hands back a request that it had not taken yet.
    connection: Option<Pin<Box<Connection<TokioIo<Counted>, Full<Bytes>>>>>,
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
        let mut this = Self { send, connection: Some(Box::pin(connection)), wire };
        // The first poll makes it want a request.
        poll_fn(|cx| Poll::Ready(this.drive(cx))).await;
        Ok(this)
    }

    /// Whether the server has kept it open: asks the kernel, not the memory of what was last seen.
    pub(super) fn is_open(&mut self) -> bool {
        self.wire.look.store(true, Ordering::Relaxed);
        !self.drive(&mut Context::from_waker(Waker::noop())) && self.send.is_ready()
    }

    /// Sends one request and reads its answer, a body of at most `limit` bytes. The connection comes back if it can be
    /// used again.
    pub(super) async fn exchange(
        mut self,
        request: Request<Full<Bytes>>,
        limit: usize,
    ) -> (Result<Answer, Broken>, Option<Self>) {
        let before = self.wire.written.load(Ordering::Relaxed);
        let mut sent = pin!(self.send.try_send_request(request));
        let answered = poll_fn(|cx| {
            self.drive(cx);
            // What the connection hands over it hands over while it is driven, so only it needs a waker.
            sent.as_mut().poll(&mut Context::from_waker(Waker::noop()))
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
        let again = !too_large && !poll_fn(|cx| Poll::Ready(self.drive(cx))).await && self.send.is_ready();
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
                let noop = &mut Context::from_waker(Waker::noop());
                if let Poll::Ready(frame) = body.as_mut().poll_frame(noop) {
                    return Poll::Ready(Ok(frame));
                }
                let over = self.drive(cx);
                match body.as_mut().poll_frame(noop) {
                    // Never a truncated success: hyper says so itself, this is in case it does not.
                    Poll::Pending if over => Poll::Ready(Err("the body broke off".to_owned())),
                    polled => polled.map(Ok),
                }
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

    /// Moves bytes. True once the connection is over; why is told to whoever waits for an answer.
    fn drive(&mut self, cx: &mut Context<'_>) -> bool {
        if self.connection.as_mut().is_none_or(|connection| connection.as_mut().poll(cx).is_ready()) {
            self.connection = None;
        }
        self.connection.is_none()
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
