//! Invalid frames. A protocol violation ends its connection with a reason, and other callers are answered. The modules that
//! read frames have their own unit tests; these tests use sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::harness::foreign::skip;
use crate::harness::peer::*;
use crate::harness::{Log, Running, everything, post, raw, within};
use byname::{Limits, rpc};
use serde_json::json;

const SHORT: Duration = Duration::from_millis(20);

async fn limited(change: impl FnOnce(&mut Limits)) -> Running {
    Running::new(everything().limits(change)).await
}

async fn bystander(running: &Running) {
    assert_eq!(raw(running.address, post("/rpc/add", "[1,2]")).await.body, "3");
    let mut other = Peer::calling(running.address, "add").await;
    answers(&mut other, 1).await;
}

/// The connection goes on: `add` is its name 0.
async fn answers(peer: &mut Peer, id: u64) {
    peer.say(call(0, id, "[1,2]")).await;
    let reply = peer.frame().await;
    assert_eq!((reply.kind, reply.id, &*reply.payload), (REPLY, id, &b"3"[..]), "{reply:?}");
}

/// Sends bytes after HELLO and a name, and expects the end of the connection, with these words.
async fn breaks(running: &Running, bytes: impl AsRef<[u8]>, words: &str) {
    let mut peer = Peer::calling(running.address, "add").await;
    peer.send(bytes).await;
    ends(peer, words).await;
    bystander(running).await;
}

async fn ends(mut peer: Peer, words: &str) {
    let (code, why) = peer.closed().await;
    assert_eq!(code, 1002, "{why}");
    assert!(why.contains(words), "expected {words:?}, got {why:?}");
}

/// One message of frames.
fn masked(frames: impl AsRef<[u8]>) -> Vec<u8> {
    message(BINARY, true, frames)
}

#[tokio::test]
async fn a_websocket_error_closes_the_connection_with_a_reason() {
    let running = Running::new(everything()).await;
    let add = call(0, 1, "[1,2]");
    for (bytes, words) in [
        (message(BINARY, false, &add), "must be masked"),
        (message(BINARY | 0x40, true, &add), "reserved bits"),
        (message(BINARY | 0x10, true, &add), "reserved bits"),
        (message(TEXT, true, "add"), "a text message"),
        (message(TEXT, true, [0xff]), "a text message"),
        (message(0x83, true, &add), "an unknown opcode"),
        (message(0x8b, true, ""), "an unknown opcode"),
        (message(PING, true, [0; 126]), "a control frame"),
        (message(0x88, true, [0; 126]), "a control frame"),
        (message(0x09, true, ""), "a control frame"),
        // A continuation of nothing, and a message within another.
        (message(0x80, true, &add), "don't belong together"),
        ([message(0x02, true, &add[..9]), message(BINARY, true, &add[9..])].concat(), "don't belong together"),
        ([message(0x02, true, &add[..9]), message(TEXT, true, "add")].concat(), "a text message"),
        (masked(vec![0; (1 << 20) + 17]), "is too long"),
        ([&[BINARY, 0x80 | 127][..], &u64::MAX.to_be_bytes(), &[0; 4]].concat(), "is too long"),
        ([message(0x02, true, vec![0; 1 << 20]), message(0, true, [0; 17])].concat(), "is too long"),
        (vec![BINARY, 0x80 | 126, 0, 5, 0, 0, 0, 0], "more bytes than necessary"),
        (message(CLOSE, true, [3]), "a close frame of one byte"),
        (message(CLOSE, true, 0u16.to_be_bytes()), "a code that must not be sent"),
        (message(CLOSE, true, 999u16.to_be_bytes()), "a code that must not be sent"),
        (message(CLOSE, true, 1004u16.to_be_bytes()), "a code that must not be sent"),
        (message(CLOSE, true, 1005u16.to_be_bytes()), "a code that must not be sent"),
        (message(CLOSE, true, 1006u16.to_be_bytes()), "a code that must not be sent"),
        (message(CLOSE, true, 1015u16.to_be_bytes()), "a code that must not be sent"),
        (message(CLOSE, true, 1016u16.to_be_bytes()), "a code that must not be sent"),
        (message(CLOSE, true, 2999u16.to_be_bytes()), "a code that must not be sent"),
        (message(CLOSE, true, 5000u16.to_be_bytes()), "a code that must not be sent"),
        (message(CLOSE, true, [0x03, 0xe8, 0xff]), "is not UTF-8"),
    ] {
        breaks(&running, bytes, words).await;
    }
}

#[tokio::test]
async fn a_close_frame_that_may_be_sent_is_answered_by_one() {
    let running = Running::new(everything()).await;
    for payload in [&b""[..], &[0x03, 0xe8], &[0x03, 0xe9, b'b', b'y', b'e'], &[0x0b, 0xb8], &[0x13, 0x87, 0xc3, 0xbc]]
    {
        let mut peer = Peer::calling(running.address, "add").await;
        peer.send(message(CLOSE, true, payload)).await;
        assert_eq!(peer.closed().await, (1000, String::new()), "{payload:?}");
    }
}

#[tokio::test]
async fn a_message_in_fragments_with_pings_between_is_one_message() {
    let running = Running::new(everything()).await;
    let mut peer = Peer::calling(running.address, "add").await;
    let add = call(0, 1, "[1,2]");
    let (first, rest) = add.split_at(20);
    let (second, third) = rest.split_at(1);
    for part in [
        message(0x02, true, first),
        message(PING, true, "1"),
        message(0x00, true, second),
        message(0x00, true, ""),
        message(PING, true, "2"),
        message(0x80, true, third),
    ] {
        // Byte for byte: what has come of a header may be less than one.
        for byte in part {
            peer.send([byte]).await;
        }
    }
    assert_eq!(peer.next().await, Came::Pong(b"1".into()));
    assert_eq!(peer.next().await, Came::Pong(b"2".into()));
    assert_eq!(peer.frame().await.payload, b"3");
}

/// As over HTTP, where it is a 431: the default is 64 KiB, and HTTP/1.1 takes a hundred headers.
#[tokio::test]
async fn headers_that_are_too_large_or_too_many_refuse_their_call_and_no_other() {
    let running = Running::new(everything()).await;
    let mut peer = Peer::calling(running.address, "add").await;
    let with = |id: u64, metadata: &str| {
        let length = u32::try_from(metadata.len()).unwrap().to_be_bytes();
        frame(CALL, METADATA, 0, id, [&60_000u32.to_be_bytes(), &length[..], metadata.as_bytes(), b"[1,2]"].concat())
    };
    let many = |count: usize| {
        let headers: Vec<_> = (0..count).map(|at| format!(r#""x-{at}":"a""#)).collect();
        format!("{{{}}}", headers.join(","))
    };
    // The name, the value and four bytes count, as they would in HTTP/1.1.
    let large = |length: usize| format!(r#"{{"x-user":"{}"}}"#, "x".repeat(length - "x-user: \r\n".len()));
    let several = format!(r#"{{"x-a":[{}]}}"#, vec![r#""""#; 101].join(","));
    let spaces = format!("{{}}{}", " ".repeat(200_000));
    let mut id = 0;
    for too_much in [large(70_000), large(65_537), many(101), several, spaces] {
        id += 1;
        peer.say(with(id, &too_much)).await;
        let refused = peer.frame().await;
        assert_eq!(refused.id, id);
        let error = refused.error();
        let seen = ["code", "executed", "limit"].map(|member| error[member].as_str().unwrap());
        assert_eq!(seen, ["resource_exhausted", "no", "header"], "{error}");
        assert!(error["message"].as_str().unwrap().contains("65536 bytes (`Limits::header` of the server)"), "{error}");
    }
    for fits in [large(65_536), many(100)] {
        id += 1;
        peer.say(with(id, &fits)).await;
        let reply = peer.frame().await;
        assert_eq!((reply.kind, reply.id, &*reply.payload), (REPLY, id, &b"3"[..]), "{reply:?}");
    }
}

#[tokio::test]
async fn a_frame_error_closes_the_connection_with_a_reason() {
    let running = Running::new(everything().function("stuck", std::future::pending::<()>)).await;
    let add = call(0, 1, "[1,2]");
    let with_metadata = |flags, metadata: &[u8]| {
        let payload = [&[0; 4], &(metadata.len() as u32).to_be_bytes()[..], metadata, b"[1,2]"].concat();
        frame(CALL, flags, 0, 1, payload)
    };
    let mut long = frame(CALL, 0, 0, 1, "");
    long[..4].copy_from_slice(&((1u32 << 20) + 1).to_be_bytes());
    for (frames, words) in [
        (add[..15].to_vec(), "header is cut off"),
        (add[..add.len() - 1].to_vec(), "cut off by the end of its WebSocket message"),
        (long, "longer than 1 MiB"),
        (call(1, 1, "[1,2]"), "a CALL whose number has no name"),
        (call(u16::MAX, 1, "[1,2]"), "a CALL whose number has no name"),
        (call(0, 0, "[1,2]"), "the id of a call is 0"),
        ([frame(NAME, 0, 1, 0, "stuck"), call(1, 2, "[]"), call(0, 2, "[1,2]")].concat(), "already in use"),
        (frame(NAME, 0, 4096, 0, "add"), "4096 or more"),
        (frame(NAME, 0, 1, 0, [0xff]), "not UTF-8"),
        (frame(CALL, 0, 0, 1, [0; 3]), "without a time-out"),
        (frame(CALL, 0, 0, 1, ""), "without a time-out"),
        (with_metadata(METADATA, b"[]"), "metadata is not a JSON object"),
        (with_metadata(METADATA, br#"{"a b":"c"}"#), "metadata is not a JSON object"),
        (with_metadata(METADATA, br#"{"a":1}"#), "metadata is not a JSON object"),
        (with_metadata(METADATA, b"{\"a\":\"b\\n\"}"), "metadata is not a JSON object"),
        (frame(CALL, METADATA, 0, 1, [0; 6]), "a part of a frame is cut off"),
        (frame(CALL, METADATA, 0, 1, [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]), "a part of a frame is cut off"),
        (frame(CALL, MIXED, 0, 1, [0, 0, 0, 0, 0, 0, 0, 9, b'[']), "a part of a frame is cut off"),
        (frame(HELLO, 0, 0, 0, r#"{"version":2,"codecs":["json"]}"#), "a version other than 1"),
        (frame(HELLO, 0, 0, 0, GREETING), "a second HELLO"),
    ] {
        breaks(&running, masked(frames), words).await;
    }
}

#[tokio::test]
async fn the_first_message_must_be_a_supported_hello() {
    let running = Running::new(everything()).await;
    for (first, words) in [
        (frame(NAME, 0, 0, 0, "add"), "the first frame must be HELLO"),
        (call(0, 1, "[1,2]"), "the first frame must be HELLO"),
        (frame(CANCEL, 0, 0, 1, ""), "the first frame must be HELLO"),
        (frame(200, 0, 0, 1, ""), "the first frame must be HELLO"),
        (frame(HELLO, 0, 0, 0, ""), "not a JSON object"),
        (frame(HELLO, 0, 0, 0, "[1]"), "not a JSON object"),
        (frame(HELLO, 0, 0, 0, r#"{"codecs":["json"]}"#), "not a JSON object"),
        (frame(HELLO, 0, 0, 0, r#"{"version":"1","codecs":["json"]}"#), "not a JSON object"),
        (frame(HELLO, 0, 0, 0, r#"{"version":2,"codecs":["json"]}"#), "a version other than 1"),
        (frame(HELLO, 0, 0, 0, r#"{"version":1}"#), "must name one codec"),
        (frame(HELLO, 0, 0, 0, r#"{"version":1,"codecs":[]}"#), "must name one codec"),
        (frame(HELLO, 0, 0, 0, r#"{"version":1,"codecs":["json","msgpack"]}"#), "must name one codec"),
        (frame(HELLO, 0, 0, 0, r#"{"version":1,"codecs":["cbor"]}"#), "must name one codec"),
    ] {
        let mut peer = Peer::to(running.address).await;
        peer.say(first).await;
        ends(peer, words).await;
        bystander(&running).await;
    }
}

#[tokio::test]
async fn unknown_kinds_and_flags_are_ignored() {
    let running = Running::new(everything()).await;
    let mut peer = Peer::calling(running.address, "add").await;
    for kind in (0..=255).filter(|kind| ![HELLO, NAME, CALL, CANCEL].contains(kind)) {
        peer.say(frame(kind, 0xff, 7, 9, "what later versions may say")).await;
    }
    peer.say("").await;
    peer.say(frame(CALL, 0xe0, 0, 1, [&[0; 4], &b"[1,2]"[..]].concat())).await;
    assert_eq!(peer.frame().await.payload, b"3");
    answers(&mut peer, 2).await;
}

#[tokio::test]
async fn unfinished_messages_are_kept_up_to_the_window_and_no_further() {
    let running = limited(|limits| limits.message = 1000).await;
    let piece = |id| frame(CALL, MORE, 0, id, [b'['; 1000]);
    let mut peer = Peer::calling(running.address, "add").await;
    peer.say_each((1..=4).map(piece)).await;
    // What is given up makes room.
    peer.say_each([frame(CANCEL, 0, 0, 1, ""), piece(5)]).await;
    answers(&mut peer, 6).await;
    peer.say(piece(7)).await;
    ends(peer, "more bytes of unfinished messages").await;
    bystander(&running).await;
}

#[tokio::test]
async fn a_flood_of_messages_that_only_begin_ends_the_connection() {
    let running = Running::new(everything()).await;
    let mut peer = Peer::calling(running.address, "add").await;
    let begun = |id| frame(CALL, MORE, 0, id, "");
    for ids in (1..=100_000u64).collect::<Vec<_>>().chunks(1000) {
        peer.say(ids.iter().flat_map(|id| begun(*id)).collect::<Vec<_>>()).await;
    }
    // Had none of them been too many, this one would be answered.
    peer.say(call(0, 200_000, "[1,2]")).await;
    ends(peer, "unfinished messages").await;
    bystander(&running).await;
}

#[tokio::test]
async fn a_small_call_may_overtake_a_large_one_that_has_begun() {
    let running = Running::new(everything()).await;
    let mut peer = Peer::calling(running.address, "add").await;
    let large = call(0, 1, "[1,2]");
    let (first, rest) = large[16..].split_at(6);
    peer.say(frame(CALL, MORE, 0, 1, first)).await;
    answers(&mut peer, 2).await;
    peer.say(frame(CALL, 0, 0, 1, rest)).await;
    let reply = peer.frame().await;
    assert_eq!((reply.kind, reply.id, &*reply.payload), (REPLY, 1, &b"3"[..]), "{reply:?}");
}

#[tokio::test]
async fn an_incomplete_call_is_rejected_and_the_connection_continues() {
    let running = limited(|limits| limits.body_progress = SHORT).await;
    let mut peer = Peer::calling(running.address, "counter.bump").await;
    peer.say(frame(NAME, 0, 1, 0, "add")).await;
    peer.say(frame(CALL, MORE, 0, 1, [&[0; 4], &b"["[..]].concat())).await;
    let failed = peer.frame().await;
    let error = failed.error();
    assert_eq!((failed.id, &error["code"], &error["limit"]), (1, &json!("deadline_exceeded"), &json!("body_progress")));
    assert_eq!(error["executed"], "no");
    // The rest of it is not read as a call.
    peer.say_each([frame(CALL, MORE, 0, 1, "1"), frame(CALL, 0, 0, 1, "]"), call(1, 2, "[1,2]")]).await;
    let reply = peer.frame().await;
    assert_eq!((reply.kind, reply.id), (REPLY, 2), "{reply:?}");
    assert_eq!(raw(running.address, post("/rpc/counter.total", "[]")).await.body, "0");
}

#[tokio::test]
async fn a_reply_over_the_limit_is_an_error_and_the_connection_continues() {
    // One that is polled at once and one that has a task of its own.
    let server = everything()
        .function("long", |wait: bool| async move {
            if wait {
                tokio::task::yield_now().await;
            }
            "x".repeat(999)
        })
        .limits(|limits| limits.message = 1000);
    let running = Running::new(server).await;
    let mut peer = Peer::calling(running.address, "add").await;
    peer.say(frame(NAME, 0, 1, 0, "long")).await;
    for (id, arguments) in [(1, "[false]"), (2, "[true]")] {
        peer.say(call(1, id, arguments)).await;
        let failed = peer.frame().await;
        let error = failed.error();
        assert_eq!((failed.id, &error["code"], &error["limit"]), (id, &json!("resource_exhausted"), &json!("message")));
        assert_eq!(error["executed"], "yes");
        let why = error["message"].as_str().unwrap();
        assert!(why.contains("`long`") && why.contains("1001 bytes") && why.contains("`Limits::message`"), "{why}");
    }
    answers(&mut peer, 3).await;
}

#[tokio::test]
async fn a_request_over_the_limit_is_rejected_unread_and_the_connection_continues() {
    let running = limited(|limits| limits.message = 1000).await;
    let mut peer = Peer::calling(running.address, "add").await;
    peer.say(frame(NAME, 0, 1, 0, "counter.bump")).await;
    let spaces = " ".repeat(2000);
    peer.say(call(1, 1, &format!("[1{spaces}]"))).await;
    // In pieces, with another call in between, far over the window as well.
    peer.say(frame(CALL, MORE, 1, 2, [&60_000u32.to_be_bytes(), &b"[1"[..]].concat())).await;
    for _ in 0..10 {
        peer.say(frame(CALL, MORE, 1, 2, &spaces)).await;
    }
    peer.say(frame(CALL, 0, 1, 2, "]")).await;
    for id in [1, 2] {
        let failed = peer.frame().await;
        let error = failed.error();
        assert_eq!((failed.id, &error["code"], &error["limit"]), (id, &json!("resource_exhausted"), &json!("message")));
        assert_eq!(error["executed"], "no");
        assert!(error["message"].as_str().unwrap().contains("more than 1000 bytes"), "{error}");
    }
    peer.say(frame(NAME, 0, 2, 0, "counter.total")).await;
    peer.say(call(2, 3, "[]")).await;
    assert_eq!(peer.frame().await.payload, b"0");
}

#[tokio::test]
async fn cancels_of_unknown_calls_are_ignored() {
    let running = Running::new(everything()).await;
    let mut peer = Peer::calling(running.address, "add").await;
    for round in 0..100 {
        peer.say((0..100).flat_map(|id| frame(CANCEL, MORE, 9, id, "why")).collect::<Vec<_>>()).await;
        answers(&mut peer, 1000 + round).await;
    }
    peer.say(frame(CANCEL, 0, 0, u64::MAX, "")).await;
    answers(&mut peer, 2000).await;
}

#[tokio::test]
async fn each_invalid_call_gets_its_own_error() {
    let running = Running::new(everything()).await;
    let mut peer = Peer::calling(running.address, "add").await;
    peer.say(
        [frame(NAME, 0, 4095, 0, "ad"), frame(NAME, 0, 1, 0, "x".repeat(1 << 19)), frame(NAME, 0, 2, 0, "")].concat(),
    )
    .await;
    let mut id = 0;
    for (number, arguments, code) in [
        (4095, "[1,2]", "unimplemented"),
        (1, "[1,2]", "unimplemented"),
        (2, "[1,2]", "unimplemented"),
        (0, "", "invalid_argument"),
        (0, "[1", "invalid_argument"),
        (0, "[1,2] [3]", "invalid_argument"),
        (0, r#"{"a":1,"a":2,"b":3}"#, "invalid_argument"),
        (0, r#"{"a":1,"c":2}"#, "invalid_argument"),
        (0, &"[".repeat(1 << 19), "invalid_argument"),
    ] {
        id += 1;
        peer.say(call(number, id, arguments)).await;
        let failed = peer.frame().await;
        let error = failed.error();
        assert_eq!(
            (failed.id, error["code"].as_str(), error["executed"].as_str()),
            (id, Some(code), Some("no")),
            "{error}"
        );
        assert!(failed.payload.len() < 4096, "{error}");
    }
    answers(&mut peer, id + 1).await;
}

#[tokio::test]
async fn a_panic_is_internal_without_detail_and_the_connection_continues() {
    let server = everything().function("later", |why: String| async move {
        tokio::task::yield_now().await;
        if !why.is_empty() {
            panic!("{why}")
        }
    });
    let running = Running::new(server).await;
    let mut peer = Peer::calling(running.address, "add").await;
    peer.say([frame(NAME, 0, 1, 0, "panics"), frame(NAME, 0, 2, 0, "later")].concat()).await;
    for (number, id) in [(1, 1), (2, 2), (1, 3)] {
        peer.say(call(number, id, r#"["secret"]"#)).await;
        let failed = peer.frame().await;
        let error = failed.error();
        assert_eq!((failed.id, &error["code"], &error["executed"]), (id, &json!("internal"), &json!("yes")));
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    answers(&mut peer, 4).await;
}

// Slow and greedy clients.

#[tokio::test]
async fn a_flood_of_pings_is_answered_one_by_one() {
    let running = Running::new(everything()).await;
    let mut peer = Peer::calling(running.address, "add").await;
    for round in 0..20u32 {
        let numbers: Vec<_> = (0..1000).map(|at| (round * 1000 + at).to_be_bytes()).collect();
        peer.send(numbers.iter().flat_map(|number| message(PING, true, number)).collect::<Vec<_>>()).await;
        for number in numbers {
            assert_eq!(peer.next().await, Came::Pong(number.into()));
        }
    }
    answers(&mut peer, 1).await;
}

#[tokio::test]
async fn a_client_of_frames_that_pings_without_reading_is_evicted_by_write_progress() {
    let mut log = Log::new();
    let running = limited(|limits| limits.write_progress = SHORT).await;
    let mut peer = Peer::with_buffer(running.address, 4096).await;
    let pings: Vec<_> = (0..1000).flat_map(|_| message(PING, true, [0; 125])).collect();
    let flood = async { while tokio::io::AsyncWriteExt::write_all(&mut peer.stream, &pings).await.is_ok() {} };
    let (line, ()) = tokio::join!(log.until("`Limits::write_progress`"), within(flood));
    assert!(line.contains("a connection of frames ended"), "{line}");
    bystander(&running).await;
}

#[tokio::test]
async fn a_client_that_reads_no_replies_is_evicted_and_its_queue_is_bounded() {
    const CALLS: usize = 20_000;
    let mut log = Log::new();
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    #[rpc]
    async fn large() -> String {
        RUNS.fetch_add(1, Ordering::Relaxed);
        "x".repeat(8 << 10)
    }
    let server = everything().method::<large>().limits(|limits| limits.write_progress = SHORT);
    let running = Running::new(server).await;
    let mut peer = Peer::with_buffer(running.address, 4096).await;
    peer.say([frame(HELLO, 0, 0, 0, GREETING), frame(NAME, 0, 0, 0, "large")].concat()).await;
    // All in one message, so that they are there at once.
    peer.say((1..=CALLS as u64).flat_map(|id| call(0, id, "[]")).collect::<Vec<_>>()).await;
    log.until("`Limits::write_progress`").await;
    // As many as may run at once have started before it is seen that nobody takes their replies; a few megabytes are in
    // the kernel's hands.
    let runs = RUNS.load(Ordering::Relaxed);
    assert!((1..CALLS / 2).contains(&runs), "{runs} replies of 8 KiB waited for one who reads nothing");
    bystander(&running).await;
}

#[tokio::test]
async fn calls_that_wait_for_reply_memory_continue_when_it_is_free() {
    // On a busy machine the server would refuse some of the 500 calls because of its queue.
    let server = everything().limits(|limits| limits.queue_delay = Duration::MAX);
    let running = Running::new(server.function("large", || async { "x".repeat(32 << 10) })).await;
    let mut peer = Peer::calling(running.address, "large").await;
    peer.say_each((1..=500).map(|id| call(0, id, "[]"))).await;
    let mut answered = std::collections::BTreeSet::new();
    for _ in 1..=500 {
        let reply = peer.frame().await;
        assert_eq!((reply.kind, reply.payload.len()), (REPLY, (32 << 10) + 2));
        answered.insert(reply.id);
    }
    peer.say((501..=1000).flat_map(|id| call(0, id, "[]")).collect::<Vec<_>>()).await;
    for _ in 501..=1000 {
        answered.insert(peer.frame().await.id);
    }
    assert!(answered.into_iter().eq(1..=1000));
}

#[tokio::test]
async fn a_slow_reader_is_not_evicted_while_it_reads() {
    let server = everything().function("large", || async { "x".repeat(3 << 20) });
    let running = Running::new(server).await;
    let mut peer = Peer::with_buffer(running.address, 64 << 10).await;
    peer.say([frame(HELLO, 0, 0, 0, GREETING), frame(NAME, 0, 0, 0, "large"), call(0, 1, "[]")].concat()).await;
    let mut whole = 0;
    loop {
        let piece = peer.frame().await;
        assert_eq!((piece.kind, piece.id), (REPLY, 1));
        whole += piece.payload.len();
        if piece.flags & MORE == 0 {
            break;
        }
        // Less than the limit each time, far more than it in all.
        skip(Duration::from_secs(10)).await;
    }
    assert_eq!(whole, (3 << 20) + 2);
}

#[tokio::test]
async fn a_client_without_requests_is_evicted_by_idle() {
    let running = limited(|limits| limits.idle = SHORT).await;
    for greets in [true, false] {
        let mut peer = Peer::to(running.address).await;
        if greets {
            peer.say(frame(HELLO, 0, 0, 0, GREETING)).await;
        }
        let goaway = peer.frame().await;
        let why = "no call came for too long (`Limits::idle` of the server)";
        assert_eq!((goaway.kind, str::from_utf8(&goaway.payload)), (GOAWAY, Ok(why)), "{greets}");
        assert_eq!(peer.closed().await, (1001, why.to_owned()), "{greets}");
    }
    // Pings are no calls.
    let mut peer = Peer::calling(running.address, "add").await;
    loop {
        peer.send(message(PING, true, "")).await;
        match peer.next().await {
            Came::Pong(_) => tokio::task::yield_now().await,
            Came::Frame(frame) => break assert_eq!(frame.kind, GOAWAY),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(raw(running.address, post("/rpc/add", "[1,2]")).await.body, "3");
}

// The handshake.

#[tokio::test]
async fn a_websocket_of_another_site_is_403() {
    let running = Running::new(everything()).await;
    for (name, value) in [
        ("origin", "http://evil.test"),
        ("origin", "null"),
        ("origin", "http://localhost.evil.test"),
        ("origin", "https://localhost:80@evil.test"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        let asked = asking(|headers| headers.push((name, value.into())));
        let answer = raw(running.address, asked).await;
        assert_eq!((answer.status, answer.header("upgrade")), (403, ""), "{name}: {value}: {answer:?}");
    }
    let asked = asking(|headers| headers.push(("origin", "http://localhost".into())));
    assert_eq!(raw(running.address, asked).await.status, 101);
    let allowing = Running::new(everything().origins(["https://app.test"])).await;
    let asked = asking(|headers| headers.push(("origin", "https://app.test".into())));
    assert_eq!(raw(allowing.address, asked).await.status, 101);
}

#[tokio::test]
async fn a_websocket_for_another_host_is_421() {
    let running = Running::new(everything()).await;
    for host in ["evil.test", "localhost.evil.test", "127.0.0.1.evil.test"] {
        let answer = raw(running.address, asking(|headers| headers[0].1 = host.into())).await;
        assert_eq!((answer.status, answer.header("upgrade")), (421, ""), "{host}: {answer:?}");
    }
}

#[tokio::test]
async fn an_invalid_handshake_is_rejected_and_the_connection_continues() {
    let running = Running::new(everything()).await;
    let mut caller = crate::harness::Caller::to(running.address).await;
    let with = |name: &'static str, value: Option<&'static str>| {
        asking(|headers| match value {
            Some(value) => headers.iter_mut().find(|(known, _)| *known == name).unwrap().1 = value.into(),
            None => headers.retain(|(known, _)| *known != name),
        })
    };
    for (name, value, status) in [
        ("sec-websocket-version", None, 426),
        ("sec-websocket-version", Some("8"), 426),
        ("sec-websocket-key", None, 400),
        ("sec-websocket-key", Some(""), 400),
        ("sec-websocket-key", Some("c2hvcnQ="), 400),
        // Each of the two is there twice.
        ("sec-websocket-key", Some("dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="), 400),
        ("sec-websocket-version", Some("13\r\nsec-websocket-version: 13"), 426),
        ("sec-websocket-version", Some("13\r\nsec-websocket-version: 8"), 426),
        ("sec-websocket-version", Some("13, 8"), 426),
        ("sec-websocket-key", Some("not base64 at all!!!!!!!"), 400),
        ("sec-websocket-protocol", None, 400),
        ("sec-websocket-protocol", Some("chat"), 400),
        ("sec-websocket-protocol", Some("byname.v2, byname"), 400),
        ("connection", None, 400),
        ("connection", Some("keep-alive"), 400),
    ] {
        let answer = caller.ask(with(name, value)).await;
        assert_eq!(answer.status, status, "{name}: {value:?}: {answer:?}");
        assert_eq!(answer.json()["err"]["executed"], "no", "{answer:?}");
        if status == 426 {
            assert_eq!(answer.header("sec-websocket-version"), "13", "RFC 6455, section 4.2.2: {answer:?}");
            assert_eq!(answer.header("upgrade"), "websocket", "RFC 9110, section 15.5.22: {answer:?}");
        } else {
            assert_eq!(answer.header("upgrade"), "", "{answer:?}");
        }
    }
    // A body would be read as frames.
    let with_body = asking(|headers| headers.push(("content-length", "5".to_owned())));
    assert_eq!(caller.ask(with_body + "[1,2]").await.status, 400);
    assert_eq!(caller.ask(post("/rpc/add", "[1,2]")).await.body, "3");
    // Several of a list, and in other letters.
    let asked =
        with("sec-websocket-protocol", Some("chat, byname.v1")).replace("upgrade: websocket", "Upgrade: WebSocket");
    assert_eq!(caller.ask(asked).await.status, 101);
}

#[tokio::test]
async fn a_websocket_is_rejected_where_none_is_offered() {
    let running = Running::new(everything().frames(false)).await;
    let answer = raw(running.address, asking(|_| ())).await;
    assert_ne!(answer.status, 101, "{answer:?}");
    assert!(!answer.header("byname-ways").contains("frames"), "{answer:?}");
    let running = Running::new(everything()).await;
    let elsewhere = asking(|_| ()).replace("/rpc", "/rpc/add");
    assert_ne!(raw(running.address, elsewhere).await.status, 101);
}

// No way around.

#[tokio::test]
async fn interceptors_see_every_call_by_frames() {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let kept = Arc::clone(&seen);
    let server = everything().intercept(move |request: byname::Request, next: byname::Next| {
        let user = request.header("x-user").map(str::to_owned);
        let call = (request.name().to_owned(), request.peer().is_some(), user.clone());
        kept.lock().unwrap().push(call);
        async move {
            match user {
                Some(_) => Ok(next.run(request).await),
                None => Err(byname::Error::new(byname::Code::Unauthenticated, "who are you?")),
            }
        }
    });
    let running = Running::new(server).await;
    let mut peer = Peer::calling(running.address, "add").await;
    peer.say([frame(NAME, 0, 1, 0, "counter.bump"), frame(NAME, 0, 2, 0, "nobody")].concat()).await;
    // The upgrade itself calls nothing, so it needs no leave.
    for (id, number) in [(1, 0), (2, 1), (3, 2)] {
        peer.say(call(number, id, "[]")).await;
        assert_eq!(peer.frame().await.error()["code"], "unauthenticated");
    }
    let metadata = br#"{"x-user":"ada"}"#;
    let named = [&60_000u32.to_be_bytes(), &(metadata.len() as u32).to_be_bytes()[..], metadata, b"[1,2]"].concat();
    peer.say(frame(CALL, METADATA, 0, 4, named)).await;
    assert_eq!(peer.frame().await.payload, b"3");
    let ada = || Some("ada".to_owned());
    let expected = [("add", None), ("counter.bump", None), ("nobody", None), ("add", ada())];
    let expected: Vec<_> = expected.map(|(name, user)| (name.to_owned(), true, user)).into();
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[tokio::test]
async fn functions_whose_callers_have_gone_still_count_as_calls_of_their_frames() {
    const CALLS: u64 = 4096;
    let (started, mut starts) = tokio::sync::watch::channel(0u64);
    let (release, released) = tokio::sync::watch::channel(false);
    let server = everything().limits(|limits| limits.in_flight = 3 * CALLS as usize).function("stuck", move || {
        let (started, mut released) = (started.clone(), released.clone());
        async move {
            started.send_modify(|count| *count += 1);
            released.wait_for(|released| *released).await.unwrap();
        }
    });
    let running = Running::new(server).await;
    let mut peer = Peer::calling(running.address, "stuck").await;
    for id in 1..=CALLS {
        peer.say(call(0, id, "[]")).await;
    }
    within(starts.wait_for(|count| *count == CALLS)).await.unwrap();
    for id in 1..=CALLS {
        peer.say(frame(CANCEL, 0, 0, id, "")).await;
    }
    peer.say(call(0, CALLS + 1, "[]")).await;
    let refused = peer.frame().await;
    let error = refused.error();
    assert_eq!(
        (refused.id, &error["code"], &error["executed"]),
        (CALLS + 1, &json!("resource_exhausted"), &json!("no"))
    );
    bystander(&running).await;
    release.send(true).unwrap();
    // They end one by one, and make room.
    let mut id = CALLS + 2;
    loop {
        peer.say(call(0, id, "[]")).await;
        match peer.frame().await.kind {
            REPLY => break,
            _ => id += 1,
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_server_that_stops_answers_the_calls_by_frames_that_have_begun_to_come() {
    let (gate, handle) = crate::harness::Gate::new();
    let mut running = Running::new(everything().inject_as("gate", gate)).await;
    let mut peer = Peer::calling(running.address, "add").await;
    peer.say(frame(NAME, 0, 1, 0, "gate.pass")).await;
    let large = call(0, 1, "[1,2]");
    let (first, rest) = large[16..].split_at(6);
    peer.say([frame(CALL, MORE, 0, 1, first), call(1, 2, "[]")].concat()).await;
    within(handle.started).await.unwrap();
    running.stop();
    let goaway = peer.frame().await;
    assert_eq!((goaway.kind, goaway.id), (GOAWAY, 2));
    // What comes after that is not run; what had begun before is.
    peer.say([call(0, 3, "[1,2]"), frame(CALL, 0, 0, 1, rest)].concat()).await;
    let refused = peer.frame().await;
    let error = refused.error();
    assert_eq!((refused.id, &error["code"], &error["executed"]), (3, &json!("unavailable"), &json!("no")));
    let reply = peer.frame().await;
    assert_eq!((reply.kind, reply.id, &*reply.payload), (REPLY, 1, &b"3"[..]), "{reply:?}");
    handle.release.send(()).unwrap();
    let reply = peer.frame().await;
    assert_eq!((reply.kind, reply.id, &*reply.payload), (REPLY, 2, &b"true"[..]), "{reply:?}");
    assert_eq!(peer.closed().await.0, 1001);
    within(running.stopped()).await.unwrap();
}
