//! The client's end of a connection of frames, for [`crate::fuzzing`].

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio::runtime::Runtime;
use tokio::time::Instant;

use super::{CallHead, CallPayload, ConnectionDriver, FrameCall, FrameCallEnd, FrameConnection, Unsent, read};
use crate::arguments::EncodedArguments;
use crate::codec::Codec;
use crate::frames::fuzzing::{Scripted, headers, script};
use crate::frames::payload::Hello;
use crate::frames::websocket::WebSocketRole;
use crate::frames::{Found, FrameSocket, LONGEST};
use crate::limits_and_timeouts::Limits;

/// The largest message.
const LARGEST: usize = 10_000;

thread_local! {
    static RUNTIME: Runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("it needs no file");
}

/// A server's answers to three calls, of which the first may be cancelled. The data: how much comes at once, and a
/// script.
pub fn client_answers(data: &[u8]) {
    let Some((&first, steps)) = data.split_first() else {
        return;
    };
    RUNTIME.with(|runtime| {
        let _inside = runtime.enter();
        answers(usize::from(first >> 2) * 97 + 7, first & 1 != 0, first & 2 != 0, steps);
    });
}

fn answers(most: usize, gives_up: bool, is_packed: bool, steps: &[u8]) {
    let (now, codec) = (Instant::now(), if is_packed { Codec::MessagePack } else { Codec::Json });
    let hour = Duration::from_secs(3600);
    let limits = Limits { message: LARGEST, ..Limits::default() };
    let mut wire = Vec::new();
    // In the order in which the table of calls assigns its slots.
    script(
        WebSocketRole::Server,
        steps,
        |whose| if whose < 8 { u64::from(whose + 1) << 20 | u64::from(whose) } else { whose.into() },
        &mut wire,
    );
    let server = Hello {
        message: LONGEST,
        window: LONGEST,
        calls: 2,
        codecs: Vec::new(),
        instance: None,
        keys: None,
        shapes: true,
        batches: is_packed,
    };
    let stream = Scripted::new(wire, most);
    let written = std::sync::Arc::clone(&stream.written);
    let socket = FrameSocket::new(stream, WebSocketRole::Client, &[], now);
    let link = Arc::new(FrameConnection::new(crate::address::Address::Unix(None), server, codec, &limits, now, 0.5));
    let mut driver = ConnectionDriver::new(link, socket, Bytes::new(), &limits);
    let cx = &mut Context::from_waker(Waker::noop());
    let asked = CallHead { name: "f", method: None, deadline: now + hour, began: None };
    let args = EncodedArguments { codec, positional: Bytes::from_static(b"[1]"), keyword: Bytes::new() };
    let mut calls: Vec<_> = (0..3).map(|_| Arc::clone(driver.link()).call()).collect();
    let mut ended = [const { None }; 3];
    let takes_stream = steps.len().is_multiple_of(2);
    let mut poll_calls = |calls: &mut [FrameCall], ended: &mut [Option<()>]| {
        for (call, ended) in calls.iter_mut().zip(ended) {
            let frame = &mut CallPayload::with_streams(hour, &HeaderMap::new(), &args, takes_stream, takes_stream);
            let polled = if ended.is_none() { poll(call, asked, frame, cx) } else { Poll::Pending };
            if let Some(id) = call.id {
                let mut state = call.link.state();
                while let Found::Items(mut items, _) = state.flows.take(id, cx) {
                    while items.take().is_some_and(|item| item.len() <= LARGEST) {}
                    assert_eq!(items.rest().count(), 0, "none is larger than allowed");
                }
            }
            if let Poll::Ready(how) = polled {
                *ended = Some(());
                if let Ok(FrameCallEnd::Answered(header, payload, _)) = how {
                    assert!(payload.len() <= LARGEST);
                    let _ = read(codec, &header, payload).map(|reply| format!("{reply:?}"));
                }
            }
        }
    };
    poll_calls(&mut calls, &mut ended);
    assert!(ended.iter().all(Option::is_none), "nothing has come");
    assert!(calls[2].id.is_none(), "the server takes two at once");
    let cx = &mut Context::from_waker(Waker::noop());
    let mut polls = 0;
    while Pin::new(&mut driver).poll(cx).is_pending() {
        polls += 1;
        assert!(polls < 1_000_000, "the stream has ended");
        poll_calls(&mut calls, &mut ended);
        if gives_up && polls == 1 {
            drop(calls.remove(0));
            ended.rotate_left(1);
        }
    }
    poll_calls(&mut calls, &mut ended);
    assert!(ended.iter().take(calls.len()).all(Option::is_some), "no call waits for a connection that is over");
    drop((driver, calls));
    let written = std::mem::take(&mut *written.lock().expect("nobody panicked with it"));
    assert_eq!(headers(WebSocketRole::Server, &written).1, None, "what is written is right");
}

/// Sends a call if the server takes it now, and then says how it ended.
fn poll(
    call: &mut FrameCall,
    head: CallHead<'_>,
    frame: &mut CallPayload,
    cx: &mut Context<'_>,
) -> Poll<Result<FrameCallEnd, Unsent>> {
    if call.id.is_none()
        && let Err(unsent) = ready!(call.poll_send(head, frame, cx))
    {
        return Poll::Ready(Err(unsent));
    }
    call.poll_ended(cx).map(Ok)
}
