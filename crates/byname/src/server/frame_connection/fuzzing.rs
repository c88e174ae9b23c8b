//! The server's end of a connection of frames, for [`crate::fuzzing`].

use std::collections::HashMap;
use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use byname_macros::rpc;
use futures_core::Stream;
use http::Extensions;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::task::yield_now;

use super::{EndReason, FrameCaller, FrameServer};
use crate::error::Error;
use crate::frames::fuzzing::{Scripted, headers, script};
use crate::frames::header::{FrameHeader, flag, kind};
use crate::frames::websocket::{WebSocketRole, WebSocketWriter};
use crate::peer::Peer;
use crate::server::Server;
use crate::server::http::ServerEndpoint;
use crate::stream_argument::Streaming;

const FUNCTIONS: [&str; 6] = ["sum", "echo", "later", "nobody", "count", "double"];

#[rpc]
fn count(to: u8) -> impl Stream<Item = u8> {
    let mut at = 0;
    poll_stream(move |cx| {
        at += 1;
        match at {
            // Sometimes it is not ready.
            _ if at % 7 == 3 => {
                at += 1;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            _ if at > u32::from(to) => Poll::Ready(None),
            _ => Poll::Ready(Some(at as u8)),
        }
    })
}

#[rpc]
fn double(mut items: Streaming<i64>) -> impl Stream<Item = Result<i64, Error>> {
    poll_stream(move |cx| {
        let next = std::pin::pin!(items.next()).poll(cx);
        next.map(|item| item.map(|item| item.map(|item| item.wrapping_mul(2))))
    })
}

/// A stream from this function.
fn poll_stream<T>(poll: impl FnMut(&mut Context<'_>) -> Poll<Option<T>> + Unpin) -> impl Stream<Item = T> {
    struct Polled<F>(F);

    impl<T, F: FnMut(&mut Context<'_>) -> Poll<Option<T>> + Unpin> Stream for Polled<F> {
        type Item = T;

        fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
            (self.0)(cx)
        }
    }

    Polled(poll)
}

thread_local! {
    static WORLD: (Runtime, Arc<ServerEndpoint>) = world();
}

fn world() -> (Runtime, Arc<ServerEndpoint>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("it needs no file");
    let server = Server::new()
        .function("sum", |a: i64, b: Option<i64>| async move { a.wrapping_add(b.unwrap_or_default()) })
        .function("echo", |value: Value| async move { value })
        .function("later", |times: u8| async move {
            for _ in 0..times % 4 {
                yield_now().await;
            }
        })
        .method::<count>()
        .method::<double>()
        .limits(|limits| limits.message = 10_000);
    let dispatch = server.dispatch(false).expect("each has a name of its own");
    (runtime, Arc::new(ServerEndpoint::new(&server, Arc::new(dispatch), false, false)))
}

/// Bytes from a client: the data defines their order and sizes, and a script of calls.
pub fn server_calls(data: &[u8]) {
    let Some((&first, steps)) = data.split_first() else {
        return;
    };
    let mut wire = Vec::new();
    if first & 1 == 0 {
        let hello: &[u8] = match first & 2 {
            0 => br#"{"version":1,"codecs":["json"]}"#,
            _ => br#"{"version":1,"codecs":["msgpack"],"batches":true}"#,
        };
        let mut begin = vec![(FrameHeader::new(kind::HELLO, 0, 0, 0), hello)];
        for (number, name) in (0..).zip(FUNCTIONS) {
            begin.push((FrameHeader::new(kind::NAME, 0, number, 0), name.as_bytes()));
        }
        let mut writer = WebSocketWriter::new(WebSocketRole::Client);
        for (header, payload) in begin {
            let header = FrameHeader { length: payload.len() as u32, ..header };
            writer.binary(&[&header.write(), payload], &mut wire);
        }
    }
    script(WebSocketRole::Client, steps, u64::from, &mut wire);
    let mut called = HashMap::<u64, usize>::new();
    for header in headers(WebSocketRole::Server, &wire).0 {
        *called.entry(header.id).or_default() += usize::from(header.kind == kind::CALL);
    }
    let stream = Scripted::new(wire, usize::from(first >> 3) * 97 + 7);
    let written = Arc::clone(&stream.written);
    let peer = Arc::new(Peer::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 1))));
    WORLD.with(|(runtime, endpoint)| {
        runtime.block_on(async {
            let caller =
                FrameCaller { peer: Some(Arc::clone(&peer)), is_forwarded: false, extensions: Extensions::new() };
            let mut connection = FrameServer::new(stream, &[], caller, Arc::clone(endpoint));
            let mut leaves = first & 4 != 0;
            let ended = poll_fn(|cx| {
                let polled = connection.poll(cx);
                if polled.is_pending() && std::mem::take(&mut leaves) {
                    connection.leave(EndReason::ServerStops);
                    return connection.poll(cx);
                }
                polled
            });
            let ended = ended.await;
            connection.part(ended).await;
            // The calls end, even if the client is gone.
            for _ in 0..8 {
                yield_now().await;
            }
        });
    });
    let written = std::mem::take(&mut *written.lock().expect("nobody panicked with it"));
    let (answers, violation) = headers(WebSocketRole::Client, &written);
    assert_eq!(violation, None, "what is written is right");
    assert_eq!(answers.first().map(|header| header.kind), Some(kind::HELLO));
    for answer in answers {
        if matches!(answer.kind, kind::REPLY | kind::ERROR | kind::END) && !answer.has(flag::MORE) {
            let left = called.get_mut(&answer.id).expect("what was not called is not answered");
            *left = left.checked_sub(1).expect("a call is answered once");
        }
    }
}
