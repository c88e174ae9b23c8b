//! One HTTP/1.1 connection. The call that uses it reads and writes it: there is no task, no channel between threads, and
//! nothing to wake but the caller.

mod streaming_exchange;
mod usual_head;

pub(super) use self::streaming_exchange::{BegunResponse, Outflow, Written};
use self::usual_head::UsualHead;

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_util::io::poll_read_buf;

use crate::transport::{HandshakeRefusal, TransportStream};
use crate::untrusted_text::{quoted, quoted_bytes};
use crate::wire::headers::{self, AnsweringServer};
use crate::wire::stream_lines;

/// The largest head of an answer, and the most fields in it.
const HEAD: usize = 64 << 10;
const FIELDS: usize = 100;

/// How much is read at once. Up to this size, copying a body is cheaper than giving away its buffer.
const PIECE: usize = 8 << 10;

/// The most room that is reserved for bytes that the server has announced.
const AHEAD: usize = 1 << 20;

/// A connection without a call keeps no buffer that had more room than this.
const KEPT: usize = 32 << 10;

/// A connection. Only its holder uses it.
pub(super) struct Http1Connection<S = TransportStream> {
    stream: S,
    /// Bytes that were read and not used yet. Empty between two calls.
    read: BytesMut,
    /// The most room that `read` has had. Parts that were split off share its memory, so its own capacity doesn't show
    /// it.
    most_room: usize,
    /// It is kept for no further call after this time.
    old_at: Option<Instant>,
    usual: Option<Box<UsualHead>>,
}

/// A complete answer, not decoded.
#[derive(Debug)]
pub(super) struct HttpResponse {
    pub(super) status: StatusCode,
    pub(super) reason: Option<Bytes>,
    pub(super) headers: HeaderMap,
    pub(super) server: AnsweringServer,
    /// Only the end of the connection says where the body ends.
    pub(super) is_open_ended: bool,
    pub(super) body: Result<Bytes, UnreadBody>,
}

/// Why a body was not read, or not to its end.
#[derive(Debug)]
pub(super) enum UnreadBody {
    /// It is larger than the limit.
    TooLarge,
    /// It is a stream, and the call did not ask for one.
    Stream,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum ExchangeError {
    /// Not a byte of the request was written.
    Unsent(String),
    /// The server refuses this client, so the request was not read.
    Refused(HandshakeRefusal),
    /// A part of the request was written, and the function may have run.
    Unknown(String),
}

/// The first part of an answer.
struct ResponseHead {
    is_http11: bool,
    status: StatusCode,
    reason: Option<Bytes>,
    headers: HeaderMap,
    /// The length of its body, if it is the usual head of the connection.
    usual: Option<u64>,
}

impl ResponseHead {
    /// 100 and similar statuses announce the answer. 101 would change the protocol, which was not requested.
    fn is_announcement(&self) -> bool {
        self.status.is_informational() && self.status != StatusCode::SWITCHING_PROTOCOLS
    }
}

/// Where a body ends.
#[derive(Debug, PartialEq, Eq)]
enum BodyEnd {
    After(u64),
    Chunked,
    /// With the connection.
    Open,
}

impl Http1Connection {
    /// Sends one request and reads its answer, a body of at most `limit` bytes. The connection comes back if it can be
    /// used again.
    pub(super) async fn exchange(
        mut self,
        head: Vec<u8>,
        body: Bytes,
        limit: usize,
    ) -> (Result<HttpResponse, ExchangeError>, Option<Self>) {
        if let Err(why) = self.look() {
            return (Err(self.failed(ExchangeError::Unsent(why))), None);
        }
        let mut request = HttpRequestWriter { head: head.into(), body };
        let length = request.remaining();
        let written = poll_fn(|cx| self.poll_write(cx, &mut request)).await;
        let (result, again) = match written {
            Err(why) if request.remaining() == length => return (Err(ExchangeError::Unsent(why.to_string())), None),
            // A server that closes before it has read the whole request may have sent the reason.
            Err(why) => match self.answer(limit).await {
                Ok((answer, _)) => (Ok(answer), false),
                Err(_) => (Err(why.to_string()), false),
            },
            Ok(()) => match self.answer(limit).await {
                Ok((answer, keeps)) => (Ok(answer), keeps && request.remaining() == 0 && self.read.is_empty()),
                Err(why) => (Err(why), false),
            },
        };
        (result.map_err(|why| self.failed(ExchangeError::Unknown(why))), again.then_some(self))
    }

    /// Why there is no answer: the server's refusal of this client, if that is it.
    pub(super) fn failed(&self, otherwise: ExchangeError) -> ExchangeError {
        match self.stream.refusal() {
            Some(refusal) => ExchangeError::Refused(refusal.clone()),
            None => otherwise,
        }
    }

    /// Asks the kernel whether the server has kept the connection open. tokio's state of the socket may be older than
    /// the end of the connection.
    pub(super) fn look(&mut self) -> Result<(), String> {
        self.stream.check_idle()
    }

    /// Writes the request. Stops early if the server answers before it has read all of it.
    fn poll_write(&mut self, cx: &mut Context<'_>, request: &mut HttpRequestWriter) -> Poll<io::Result<()>> {
        loop {
            match self.poll_write_all(cx, request)? {
                Poll::Ready(()) => return Poll::Ready(Ok(())),
                // An answer to a part of a request is a rejection: it is read, and the rest is not sent.
                Poll::Pending => match ready!(self.poll_read(cx))? {
                    0 => return Poll::Ready(Ok(())),
                    _ if self.is_answered() => return Poll::Ready(Ok(())),
                    _ => {}
                },
            }
        }
    }

    fn poll_write_all(&mut self, cx: &mut Context<'_>, request: &mut HttpRequestWriter) -> Poll<io::Result<()>> {
        let mut stream = Pin::new(&mut self.stream);
        while request.remaining() > 0 {
            let written = match request.body.is_empty() {
                true => stream.as_mut().poll_write(cx, &request.head),
                false => {
                    let parts = [io::IoSlice::new(&request.head), io::IoSlice::new(&request.body)];
                    stream.as_mut().poll_write_vectored(cx, &parts)
                }
            };
            match ready!(written)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => request.advance(count),
            }
        }
        stream.poll_flush(cx)
    }
}

impl<S: AsyncRead + Unpin> Http1Connection<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, read: BytesMut::new(), most_room: 0, old_at: None, usual: None }
    }

    /// It is to be kept for no further call after this time.
    pub(super) fn old_at(self, at: Instant) -> Self {
        Self { old_at: Some(at), ..self }
    }

    /// Until when it may be kept, of this time.
    pub(super) fn kept_until(&self, until: Instant) -> Instant {
        self.old_at.map_or(until, |old_at| until.min(old_at))
    }

    /// Reads the available bytes; 0 at the end of the connection.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.is_full() {
            self.read.reserve(PIECE);
        }
        self.most_room = self.most_room.max(self.read.capacity());
        poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.read)
    }

    /// Releases the memory of a large answer. To be called between two calls.
    pub(super) fn release(&mut self) {
        if self.most_room > KEPT {
            self.read = BytesMut::from(&self.read[..]);
            self.most_room = 0;
        }
    }

    fn is_full(&self) -> bool {
        self.read.capacity() - self.read.len() < PIECE / 2
    }

    /// Whether there is an answer, or bytes that are not an answer. Announcements (100 and similar) are removed.
    fn is_answered(&mut self) -> bool {
        loop {
            let mut rest = self.read.clone();
            match parse_head(&mut rest, None) {
                Ok(Some(head)) if head.is_announcement() => self.read = rest,
                Ok(None) => return self.read.len() > HEAD,
                _ => return true,
            }
        }
    }

    async fn more(&mut self, missing: &str) -> Result<(), String> {
        match poll_fn(|cx| self.poll_read(cx)).await {
            Ok(0) => Err(format!("the server closed it {missing}")),
            Ok(_) => Ok(()),
            Err(why) => Err(why.to_string()),
        }
    }

    /// Reads one answer, and whether the connection can be used after it.
    pub(super) async fn answer(&mut self, limit: usize) -> Result<(HttpResponse, bool), String> {
        let head = loop {
            match parse_head(&mut self.read, Some(&mut self.usual))? {
                Some(head) if head.is_announcement() => {}
                Some(head) => break head,
                None if self.read.len() > HEAD => return Err(format!("its head is larger than {HEAD} bytes")),
                None => self.more("before it answered").await?,
            }
        };
        let ResponseHead { is_http11, status, reason, headers, usual } = head;
        if let (Some(length), Some(usual)) = (usual.filter(|length| *length <= limit as u64), &self.usual) {
            let server = usual.server();
            let body = Ok(self.counted(length as usize).await?);
            return Ok((HttpResponse { status, reason, headers, server, is_open_ended: false, body }, true));
        }
        let (ends, is_clear) = ends(status, &headers)?;
        let says = |what: &str| says(&headers, what);
        let keeps = is_clear && if is_http11 { !says("close") } else { says("keep-alive") };
        let body = match ends {
            _ if status == StatusCode::OK && stream_lines::is(&headers) => Err(UnreadBody::Stream),
            BodyEnd::After(length) if length > limit as u64 => Err(UnreadBody::TooLarge),
            BodyEnd::After(length) => Ok(self.counted(length as usize).await?),
            BodyEnd::Chunked => self.chunked(limit).await?,
            BodyEnd::Open => self.open_ended(limit).await?,
        };
        let keeps = keeps && ends != BodyEnd::Open && body.is_ok();
        let (server, is_open_ended) = (AnsweringServer::of(&headers), ends == BodyEnd::Open);
        Ok((HttpResponse { status, reason, headers, server, is_open_ended, body }, keeps))
    }

    async fn counted(&mut self, length: usize) -> Result<Bytes, String> {
        while self.read.len() < length {
            if self.is_full() {
                self.read.reserve((length - self.read.len()).min(AHEAD));
            }
            self.more("in the middle of its answer").await?;
        }
        Ok(self.take(length))
    }

    async fn chunked(&mut self, limit: usize) -> Result<Result<Bytes, UnreadBody>, String> {
        let mut body = BytesMut::new();
        loop {
            let length = loop {
                match httparse::parse_chunk_size(&self.read) {
                    Ok(httparse::Status::Complete((used, length))) => {
                        self.read.advance(used);
                        break length;
                    }
                    Ok(httparse::Status::Partial) if self.read.len() < PIECE => {
                        self.more("in the middle of its answer").await?;
                    }
                    _ => return Err("its body is badly chunked".into()),
                }
            };
            if length == 0 {
                break;
            }
            if length > limit.saturating_sub(body.len()) as u64 {
                return Ok(Err(UnreadBody::TooLarge));
            }
            let chunk = self.counted((length as usize).saturating_add(2)).await?;
            let Some(chunk) = chunk.strip_suffix(b"\r\n") else {
                return Err("its body is badly chunked".into());
            };
            body.extend_from_slice(chunk);
        }
        // Trailers are ignored, up to the empty line.
        loop {
            let line = self.read.windows(2).position(|end| end == b"\r\n");
            match line {
                Some(0) => break self.read.advance(2),
                Some(length) => self.read.advance(length + 2),
                None if self.read.len() < HEAD => self.more("in the middle of its answer").await?,
                None => return Err("its body is badly chunked".into()),
            }
        }
        Ok(Ok(body.freeze()))
    }

    async fn open_ended(&mut self, limit: usize) -> Result<Result<Bytes, UnreadBody>, String> {
        loop {
            if self.read.len() > limit {
                return Ok(Err(UnreadBody::TooLarge));
            }
            match poll_fn(|cx| self.poll_read(cx)).await {
                Ok(0) => return Ok(Ok(self.take(self.read.len()))),
                Ok(_) => {}
                Err(why) => return Err(why.to_string()),
            }
        }
    }

    /// Takes bytes from the buffer. A small body is copied, so that the buffer can be used for the next answer.
    fn take(&mut self, length: usize) -> Bytes {
        if length >= PIECE {
            return self.read.split_to(length).freeze();
        }
        let body = Bytes::copy_from_slice(&self.read[..length]);
        self.read.advance(length);
        body
    }
}

/// The part of a request that is still to be written.
struct HttpRequestWriter {
    head: Bytes,
    body: Bytes,
}

impl HttpRequestWriter {
    fn remaining(&self) -> usize {
        self.head.len() + self.body.len()
    }

    fn advance(&mut self, count: usize) {
        let of_head = count.min(self.head.len());
        self.head.advance(of_head);
        self.body.advance(count - of_head);
    }
}

/// Takes a head off the front, when it is complete. `usual` is the one that most answers have.
fn parse_head(
    read: &mut BytesMut,
    mut usual: Option<&mut Option<Box<UsualHead>>>,
) -> Result<Option<ResponseHead>, String> {
    if let Some(Some(usual)) = usual.as_deref_mut()
        && let Some((headers, body)) = usual.take(read)
    {
        let (status, reason) = (StatusCode::OK, None);
        return Ok(Some(ResponseHead { is_http11: true, status, reason, headers, usual: Some(body) }));
    }

    let mut fields = [const { MaybeUninit::uninit() }; FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    let length = match parser.parse_response_with_uninit_headers(&mut response, read, &mut fields) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(why) => return Err(format!("its answer is not HTTP: {why}")),
    };
    // All values share one copy.
    let head = Bytes::copy_from_slice(&read[..length]);
    let start = read.as_ptr().addr();
    let mut headers = HeaderMap::with_capacity(response.headers.len());
    for field in response.headers.iter() {
        let is_invalid = || format!("its header {} is invalid", quoted(field.name));
        let name = match headers::usual_name(field.name) {
            Some(usual) => usual,
            None => HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| is_invalid())?,
        };
        let value = match headers::usual_value(field.value) {
            Some(usual) => usual,
            None => {
                let at = field.value.as_ptr().addr().saturating_sub(start);
                // An empty value may have any position.
                let value = head.get(at..at + field.value.len()).map_or_else(Bytes::new, |value| head.slice_ref(value));
                HeaderValue::from_maybe_shared(value).map_err(|_| is_invalid())?
            }
        };
        headers.append(name, value);
    }
    let code = response.code.unwrap_or_default();
    // The parser accepts any three digits.
    let Ok(status) = StatusCode::from_u16(code) else {
        return Err(format!("its answer is not HTTP: its status is {code:03}, expected 100 to 999"));
    };
    // The usual reasons contain nothing that the status doesn't.
    let reason = response.reason.filter(|reason| !reason.is_empty() && code >= 300);
    let reason = reason.map(|reason| Bytes::copy_from_slice(reason.as_bytes()));
    let is_http11 = response.version == Some(1);
    if let Some(usual) = usual
        && let Some(of_this) = UsualHead::of(&read[..length], &response, &headers)
    {
        *usual = Some(Box::new(of_this));
    }
    read.advance(length);
    Ok(Some(ResponseHead { is_http11, status, reason, headers, usual: None }))
}

/// Where the body of an answer ends (RFC 9112, section 6.3), and whether the headers say so in one way only.
fn ends(status: StatusCode, headers: &HeaderMap) -> Result<(BodyEnd, bool), String> {
    if status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return Ok((BodyEnd::After(0), !status.is_informational()));
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    if let Some(codings) = headers.get_all(TRANSFER_ENCODING).iter().next_back() {
        let last = codings.as_bytes().rsplit(|byte| *byte == b',').next().unwrap_or_default();
        let is_chunked = last.trim_ascii().eq_ignore_ascii_case(b"chunked");
        return Ok((if is_chunked { BodyEnd::Chunked } else { BodyEnd::Open }, lengths.next().is_none()));
    }
    let Some(length) = lengths.next() else {
        return Ok((BodyEnd::Open, true));
    };
    match headers::whole_number(length.as_bytes()) {
        Some(parsed) if lengths.all(|other| other == length) => Ok((BodyEnd::After(parsed), true)),
        _ => Err(format!("its `content-length` is {}, expected one number", quoted_bytes(length.as_bytes()))),
    }
}

/// Whether `connection` lists a word.
fn says(headers: &HeaderMap, word: &str) -> bool {
    let lists = headers.get_all(CONNECTION).into_iter().filter_map(|list| list.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|said| said.trim().eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    /// The result of an exchange with a server that sends these pieces and then closes.
    async fn come(pieces: &'static [&'static str]) -> (Result<HttpResponse, ExchangeError>, bool) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut request = [0; 4];
            stream.read_exact(&mut request).await.unwrap();
            for piece in pieces {
                stream.write_all(piece.as_bytes()).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        let (result, again) =
            Http1Connection::new(client.into()).exchange(b"he".to_vec(), Bytes::from_static(b"ad"), 10).await;
        server.await.unwrap();
        (result, again.is_some())
    }

    async fn body(pieces: &'static [&'static str]) -> (String, bool) {
        let (result, again) = come(pieces).await;
        let body = result.unwrap().body.unwrap();
        (String::from_utf8(body.to_vec()).unwrap(), again)
    }

    #[tokio::test]
    async fn a_body_ends_where_its_answer_says() {
        let text = |text: &str, again| (text.to_owned(), again);
        assert_eq!(body(&["HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"]).await, text("abc", true));
        assert_eq!(
            body(&["HTTP/1.1 2", "00 OK\r\ncontent-le", "ngth: 3\r\n\r", "\na", "b", "c"]).await,
            text("abc", true)
        );
        let chunked =
            ["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r", "\nc\r\n0\r\nt: 1\r\n\r\n"];
        assert_eq!(body(Box::leak(Box::new(chunked))).await, text("abc", true));
        assert_eq!(body(&["HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n"]).await, text("", true));
        assert_eq!(body(&["HTTP/1.1 200 OK\r\n\r\nab", "c"]).await, text("abc", false));
        assert_eq!(
            body(&["HTTP/1.1 200 OK\r\nconnection: x, Close\r\ncontent-length: 0\r\n\r\n"]).await,
            text("", false)
        );
        assert_eq!(body(&["HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\na"]).await, text("a", false));
        let kept = "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 1\r\n\r\na";
        assert_eq!(body(Box::leak(Box::new([kept]))).await, text("a", true));
        let both = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
        assert_eq!(body(Box::leak(Box::new([both]))).await, text("", false), "said in two ways");
        let surplus = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nabc";
        assert_eq!(body(Box::leak(Box::new([surplus]))).await, text("a", false), "more than was asked for");
    }

    #[tokio::test]
    async fn a_truncated_or_malformed_answer_is_an_error() {
        for pieces in [
            &[""] as &[&str],
            &["HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab"],
            &["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"],
            &["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n"],
            &["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\n"],
            &["HTTP/1.1 200 OK\r\ncontent-le"],
            &["HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd"],
            &["HTTP/1.1 200 OK\r\ncontent-length: +3\r\n\r\nabc"],
            &["SMTP ready\r\n\r\n"],
        ] {
            let (result, again) = come(pieces).await;
            assert!(matches!(result, Err(ExchangeError::Unknown(_))) && !again, "{pieces:?}: {result:?}");
        }
    }

    #[tokio::test]
    async fn a_status_is_a_number_from_100_to_999() {
        async fn why(pieces: &'static [&'static str]) -> String {
            match come(pieces).await {
                (Err(ExchangeError::Unknown(why)), false) => why,
                other => panic!("{pieces:?}: {other:?}"),
            }
        }
        let no_status = |code| format!("its answer is not HTTP: its status is {code}, expected 100 to 999");
        assert_eq!(why(&["HTTP/1.1 000 No\r\ncontent-length: 0\r\n\r\n"]).await, no_status("000"));
        assert_eq!(why(&["HTTP/1.1 099 No\r\ncontent-length: 0\r\n\r\n"]).await, no_status("099"));
        let no_digits = "its answer is not HTTP: invalid response status";
        for pieces in [
            &["HTTP/1.1 99 No\r\ncontent-length: 0\r\n\r\n"] as &[&str],
            &["HTTP/1.1 1000 No\r\ncontent-length: 0\r\n\r\n"],
            &["HTTP/1.1 -20 No\r\ncontent-length: 0\r\n\r\n"],
            &["HTTP/1.1 2x0 No\r\ncontent-length: 0\r\n\r\n"],
        ] {
            assert_eq!(why(pieces).await, no_digits, "{pieces:?}");
        }
        for (code, pieces) in [
            (200, &["HTTP/1.1 200 Ok\r\ncontent-length: 0\r\n\r\n"] as &[&str]),
            (600, &["HTTP/1.1 600 No\r\ncontent-length: 0\r\n\r\n"]),
            (999, &["HTTP/1.1 999 No\r\ncontent-length: 0\r\n\r\n"]),
        ] {
            let (answer, again) = come(pieces).await;
            assert!(answer.is_ok_and(|answer| answer.status == code) && again, "{code}");
        }
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_not_read() {
        for pieces in [
            &["HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n"] as &[&str],
            &["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n8\r\n12345678\r\n3\r\n"],
            &["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n"],
            &["HTTP/1.1 200 OK\r\n\r\n12345678901"],
        ] {
            let (result, again) = come(pieces).await;
            assert!(result.is_ok_and(|answer| answer.body.is_err()) && !again, "{pieces:?}");
        }
    }

    #[tokio::test]
    async fn a_kept_connection_releases_the_memory_of_a_large_answer() {
        let large = vec![b'x'; 5 << 20];
        let counted = [b"HTTP/1.1 200 OK\r\ncontent-length: 5242880\r\n\r\n", &large[..]].concat();
        let chunk = [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n500000\r\n", &large[..]].concat();
        let chunked = [&chunk, &b"\r\n0\r\n\r\n"[..]].concat();
        for answer in [counted, chunked] {
            let mut connection = Http1Connection::new(&answer[..]);
            let (HttpResponse { body, .. }, keeps) = connection.answer(8 << 20).await.unwrap();
            assert!(keeps && body.unwrap().len() == large.len());
            connection.release();
            // The body is dropped, so the reusable memory is all that the buffer holds.
            assert!(!connection.read.try_reclaim(2 * KEPT + 1));
        }
        let small = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc";
        let mut connection = Http1Connection::new(&small[..]);
        connection.answer(10).await.unwrap();
        connection.release();
        assert!(connection.read.try_reclaim(PIECE / 2), "a small buffer is used again");
    }

    #[tokio::test]
    async fn a_connection_that_was_closed_is_noticed_before_a_byte_goes_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        drop(listener.accept().await.unwrap());
        let (result, again) = Http1Connection::new(client.into()).exchange(b"head".to_vec(), Bytes::new(), 10).await;
        assert!(matches!(result, Err(ExchangeError::Unsent(_))) && again.is_none(), "{result:?}");
    }
}
