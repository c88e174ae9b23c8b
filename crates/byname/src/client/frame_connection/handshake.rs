//! From a new connection to frames: the client's half of the handshake (RFC 6455, section 4.1).

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Poll, ready};

use bytes::Bytes;
use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::{ConnectionDriver, FrameConnection};
use crate::address::Address;
use crate::client::connect::{connect, no_replica};
use crate::client::service_target::ServiceTarget;
use crate::clock_and_chance::random_fraction;
use crate::codec::Codec;
use crate::deadline::later;
use crate::frames::header::{self, kind};
use crate::frames::payload::Hello;
use crate::frames::websocket::{self, WebSocketRole};
use crate::frames::{FrameSocket, SUBPROTOCOL, SocketEnd, Violation, WriteQueue};
use crate::limits_and_timeouts::Limits;
use crate::transport::{
    AttemptProgress, ConnectFailure, ConnectOutcome, ConnectStep, TransportStream, first_to_connect,
};

/// The largest head of an answer, and the most fields in it.
const HEAD: usize = 16 << 10;
const FIELDS: usize = 100;

/// Opens a connection to the first of these addresses that changes to frames, within [`Limits::connect`]. Or returns the
/// reason for the failure. Also returns the addresses that held it up.
pub(in crate::client) async fn open(
    target: &ServiceTarget,
    addresses: Vec<Address>,
    codec: Codec,
    limits: &Limits,
) -> (Result<(Address, ConnectionDriver<TransportStream>), String>, Vec<Address>) {
    let until = later(Instant::now(), limits.connect);
    let attempt = |address, progress| async move { try_open(target, &address, &progress).await };
    let ConnectOutcome { result, stalled, .. } = first_to_connect(addresses, until, attempt).await;
    let opened = match result {
        Ok((address, OpenedConnection { socket, server, unread })) => {
            let codec = if server.codecs.iter().any(|offered| offered == codec.name()) { codec } else { Codec::Json };
            let link = Arc::new(FrameConnection::new(
                address.clone(),
                server,
                codec,
                limits,
                Instant::now(),
                random_fraction(),
            ));
            Ok((address, ConnectionDriver::new(link, socket, unread, limits)))
        }
        Err(ConnectFailure::Failed(why)) => Err(why.to_string()),
        Err(ConnectFailure::Late(missing)) => Err(format!("{missing} within {:?} (`Limits::connect`)", limits.connect)),
    };
    (opened, stalled)
}

struct OpenedConnection {
    socket: FrameSocket<TransportStream>,
    server: Hello,
    /// The bytes after HELLO.
    unread: Bytes,
}

async fn try_open(
    target: &ServiceTarget,
    address: &Address,
    progress: &AttemptProgress,
) -> io::Result<OpenedConnection> {
    let url = target.endpoint_url(address).ok_or_else(no_replica)?;
    let mut stream = connect(address, url.tls.as_deref(), progress).await?;
    progress.moved(ConnectStep::Upgrading);
    let key = websocket::key();
    let path = if url.path.is_empty() { "/" } else { &url.path };
    let request = [
        b"GET ".as_slice(),
        path.as_bytes(),
        b" HTTP/1.1\r\nhost: ",
        url.authority.as_bytes(),
        b"\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-protocol: ",
        SUBPROTOCOL.as_bytes(),
        b"\r\nsec-websocket-key: ",
        key.as_bytes(),
        b"\r\n\r\n",
    ]
    .concat();
    stream.write_all(&request).await?;
    stream.flush().await?;
    let mut read = Vec::with_capacity(1024);
    let length = loop {
        if stream.read_buf(&mut read).await? == 0 {
            return Err(io::Error::other("the connection ended before an answer"));
        }
        if let Some(length) = granted(&read, &key).map_err(io::Error::other)? {
            break length;
        }
        if read.len() > HEAD {
            return Err(io::Error::other("the head of the answer is too long"));
        }
    };
    let mut socket = FrameSocket::new(stream, WebSocketRole::Client, &read[length..], Instant::now());
    let (server, unread) = hello(&mut socket).await.map_err(|why| io::Error::other(why.to_string()))?;
    Ok(OpenedConnection { socket, server, unread })
}

/// The length of the head that grants the upgrade. `None` until it is complete.
fn granted(read: &[u8], key: &str) -> Result<Option<usize>, String> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut head = httparse::Response::new(&mut fields);
    let length = match head.parse(read) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(why) => return Err(format!("the answer is not HTTP: {why}")),
    };
    let fields = |name: &'static str| {
        let named = head.headers.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        named.map(|field| field.value.trim_ascii())
    };
    let is_only = |name: &'static str, value: &[u8]| fields(name).eq([value]);
    let lists = |name: &'static str, word: &[u8]| {
        let mut items = fields(name).flat_map(|list| list.split(|&byte| byte == b','));
        items.any(|item| item.trim_ascii().eq_ignore_ascii_case(word))
    };
    if head.code != Some(StatusCode::SWITCHING_PROTOCOLS.as_u16()) {
        return Err(format!("the answer is {}, not 101", head.code.unwrap_or_default()));
    }
    // The next checks are those of RFC 6455, section 4.1.
    if !lists("upgrade", b"websocket") || !lists("connection", b"upgrade") {
        return Err("the answer is 101, but to another protocol than WebSocket".into());
    }
    if !is_only("sec-websocket-accept", websocket::accept(key.as_bytes()).as_bytes()) {
        return Err("the answer does not belong to this request".into());
    }
    if !is_only("sec-websocket-protocol", SUBPROTOCOL.as_bytes()) {
        return Err("the other side speaks another protocol over WebSocket".into());
    }
    if fields("sec-websocket-extensions").next().is_some() {
        return Err("the other side uses an extension of WebSocket that it was not asked for".into());
    }
    Ok(Some(length))
}

/// The server's HELLO, and the frames that came in the same message.
async fn hello(socket: &mut FrameSocket<TransportStream>) -> Result<(Hello, Bytes), SocketEnd> {
    poll_fn(|cx| {
        loop {
            if let Some(message) = socket.next()? {
                let mut rest = &message[..];
                return Poll::Ready(match header::next(&mut rest)? {
                    Some((header, payload)) if header.kind == kind::HELLO => {
                        Ok((Hello::read(payload)?, message.slice_ref(rest)))
                    }
                    _ => Err(Violation("the first frame must be HELLO").into()),
                });
            }
            // A ping may have come first.
            let _ = socket.poll_write(cx, &mut WriteQueue::new())?;
            ready!(socket.poll_read(cx))?;
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_to_this_request_grants_the_upgrade() {
        let head = |status: &str, accept: &str, protocol: &str| {
            format!(
                "HTTP/1.1 {status}\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: {accept}\r\n\
                 sec-websocket-protocol: {protocol}\r\n\r\nmore"
            )
        };
        let (key, accept) = ("dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let right = head("101 Switching Protocols", accept, "byname.v1");
        assert_eq!(granted(right.as_bytes(), key), Ok(Some(right.len() - 4)));
        assert_eq!(granted(&right.as_bytes()[..40], key), Ok(None));
        let other_letters = right.replace("connection: upgrade", "Connection: keep-alive, Upgrade");
        assert!(granted(other_letters.replace("websocket\r\n", "WebSocket\r\n").as_bytes(), key).is_ok());
        for wrong in [
            head("200 OK", accept, "byname.v1"),
            head("101 x", "AAAA", "byname.v1"),
            head("101 x", accept, "chat"),
            head("101 x", accept, "byname.v1\r\nsec-websocket-protocol: byname.v1"),
            head("101 x", accept, "byname.v1\r\nsec-websocket-extensions: permessage-deflate"),
            head("101 x", &format!("{accept}\r\nsec-websocket-accept: {accept}"), "byname.v1"),
            right.replace("upgrade: websocket", "upgrade: h2c"),
            right.replace("upgrade: websocket\r\n", ""),
            right.replace("connection: upgrade", "connection: keep-alive"),
            right.replace("connection: upgrade\r\n", ""),
            "SSH-2.0\r\n".to_owned(),
        ] {
            assert!(granted(wrong.as_bytes(), key).is_err(), "{wrong}");
        }
    }
}
