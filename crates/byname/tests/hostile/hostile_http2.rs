//! Invalid HTTP/2, written frame by frame. Costly input ends the connection, merely invalid input ends its stream, and no
//! other connection is affected. `docs/reliability.md` lists the verdicts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::frames::*;
use crate::harness::{Running, everything, raw, within};
use byname::Server;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};

/// Calls at once on one connection.
const STREAMS: u32 = 256;

/// A function that runs until it is released, and how many of it run.
#[derive(Clone)]
struct Held {
    running: watch::Sender<usize>,
    most: Arc<AtomicUsize>,
    release: Arc<Semaphore>,
}

impl Held {
    fn new() -> Self {
        Self { running: watch::Sender::new(0), most: Arc::default(), release: Arc::new(Semaphore::new(0)) }
    }

    fn serve(&self, server: Server) -> Server {
        let held = self.clone();
        server.function("hold", move || {
            let held = held.clone();
            async move {
                held.running.send_modify(|running| {
                    *running += 1;
                    held.most.fetch_max(*running, Ordering::Relaxed);
                });
                held.release.acquire().await.unwrap().forget();
                held.running.send_modify(|running| *running -= 1);
            }
        })
    }

    async fn until(&self, count: usize) {
        within(self.running.subscribe().wait_for(|running| *running == count)).await.unwrap();
    }
}

/// The answer to a call on a new HTTP/1 connection, which must not be affected.
async fn bystander(running: &Running) {
    assert_eq!(raw(running.address, crate::harness::post("/rpc/add", "[1,2]")).await.body, "3");
}

type Send = http2::SendRequest<Full<Bytes>>;

/// A client that means well.
async fn honest(running: &Running, change: impl FnOnce(&mut http2::Builder<TokioExecutor>)) -> Send {
    let stream = TcpStream::connect(running.address).await.unwrap();
    let mut builder = http2::Builder::new(TokioExecutor::new());
    change(&mut builder);
    let (send, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    send
}

fn asks(running: &Running, path: &str, body: impl Into<Bytes>) -> hyper::Request<Full<Bytes>> {
    hyper::Request::post(format!("http://{}{path}", running.address)).body(Full::new(body.into())).unwrap()
}

#[tokio::test]
async fn a_rapid_reset_ends_the_connection() {
    let running = Running::new(everything()).await;
    let mut http2 = Http2::to(running.address, &[]).await;
    let mut stream = 1;
    // A million at most; far fewer are let through.
    for _ in 0..10_000 {
        let mut batch = Vec::new();
        for _ in 0..100 {
            batch.extend(get(stream, "/rpc/add?a=1&b=2"));
            batch.extend(reset(stream));
            stream += 2;
        }
        http2.send(batch).await;
        while let Some(frame) = http2.taken() {
            if frame.kind == GOAWAY {
                assert_eq!(frame.error(), ENHANCE_YOUR_CALM);
                return bystander(&running).await;
            }
        }
    }
    panic!("{stream} streams were opened and reset");
}

#[tokio::test]
async fn functions_whose_callers_have_gone_still_count_as_calls_of_their_connection() {
    let held = Held::new();
    let running = Running::new(held.serve(everything())).await;
    let mut http2 = Http2::to(running.address, &[]).await;
    let all = STREAMS as usize;
    for nth in 0..STREAMS {
        let stream = 2 * nth + 1;
        http2.send(post(stream, "/rpc/hold", "[]")).await;
        held.until(nth as usize + 1).await;
        // It has started, so it runs to its end.
        http2.send(reset(stream)).await;
    }
    let stream = 2 * STREAMS + 1;
    http2.send(post(stream, "/rpc/hold", "[]")).await;
    assert_eq!(http2.until(HEADERS).await.status(), 429);
    let body = http2.until(DATA).await.payload;
    let error: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&error["code"], &error["executed"]), (&"resource_exhausted".into(), &"no".into()), "{error}");
    assert!(error["message"].as_str().unwrap().contains("256 functions"), "{error}");
    assert_eq!(held.most.load(Ordering::Relaxed), all);
    bystander(&running).await;

    held.release.add_permits(all);
    held.until(0).await;
    drop(http2);
    within(running.stopped()).await.unwrap();
}

#[tokio::test]
async fn a_client_that_cancels_every_fifth_call_keeps_its_connection() {
    let running = Running::new(everything()).await;
    let mut send = honest(&running, |_| {}).await;
    for round in 0..100 {
        let mut calls = Vec::new();
        for nth in 0..10 {
            let call = send.send_request(asks(&running, "/rpc/add", format!("[{round},{nth}]")));
            if nth % 5 == 4 {
                drop(call);
            } else {
                calls.push((round + nth, call));
            }
        }
        for (sum, call) in calls {
            let body = within(call).await.unwrap().into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, sum.to_string());
        }
        send.ready().await.unwrap();
    }
}

#[tokio::test]
async fn more_streams_than_allowed_are_refused_and_the_others_go_on() {
    let held = Held::new();
    let running = Running::new(held.serve(everything())).await;
    let mut http2 = Http2::to(running.address, &[]).await;
    // What is opened before the server's settings are acknowledged is not theirs to limit.
    let settings = http2.until(SETTINGS).await;
    assert!(settings.payload.chunks(6).any(|setting| setting == [0, 3, 0, 0, 1, 0]), "{settings:?}");
    http2.send(frame(SETTINGS, ACK, 0, &[])).await;
    let last = 2 * STREAMS + 1;
    let streams = (1..=last).step_by(2);
    http2.send(streams.flat_map(|stream| post(stream, "/rpc/hold", "[]")).collect::<Vec<_>>()).await;
    let refused = http2.until(RST_STREAM).await;
    assert_eq!((refused.stream, refused.error()), (last, REFUSED_STREAM));
    held.until(STREAMS as usize).await;
    held.release.add_permits(STREAMS as usize);
    let mut answered = 0;
    while answered < STREAMS {
        let frame = http2.frame().await.expect("the connection goes on");
        assert!(frame.stream == last || frame.kind != RST_STREAM && frame.kind != GOAWAY, "{frame:?}");
        answered += u32::from(frame.kind == HEADERS);
    }
    held.release.add_permits(1);
    http2.send(post(last + 2, "/rpc/hold", "[]")).await;
    assert_eq!(http2.until(HEADERS).await.stream, last + 2);
}

#[tokio::test]
async fn a_stream_that_is_never_read_delays_no_other() {
    let server = everything().function("large", || async { "x".repeat(1 << 20) });
    let running = Running::new(server).await;
    let mut send = honest(&running, |builder| {
        builder.initial_stream_window_size(64 << 10).initial_connection_window_size(16 << 20);
    })
    .await;
    // Its head is here, its body waits for a window.
    let unread = within(send.send_request(asks(&running, "/rpc/large", ""))).await.unwrap();
    for _ in 0..10 {
        let calls = (0..63).map(|nth| (nth, send.send_request(asks(&running, "/rpc/add", format!("[{nth},1]")))));
        for (nth, call) in calls.collect::<Vec<_>>() {
            let body = within(call).await.unwrap().into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, (nth + 1).to_string());
        }
    }
    let body = within(unread.into_body().collect()).await.unwrap().to_bytes();
    assert_eq!(body.len(), (1 << 20) + 2, "and it is whole once somebody reads it");
}

#[tokio::test]
async fn a_call_over_http_2_that_is_refused_early_ends_its_stream_alone() {
    let running = Running::new(everything()).await;
    // Its body comes after the answer.
    let mut http2 = Http2::to(running.address, &[]).await;
    for stream in [1, 5, 9] {
        http2.send(frame(HEADERS, END_HEADERS, stream, &fields("PUT", "/rpc/add"))).await;
        let refused = http2.until(HEADERS).await;
        assert_eq!(refused.stream, stream);
        http2.send(frame(DATA, END_STREAM, stream, b"[1,2]")).await;
        http2.send(post(stream + 2, "/rpc/add", "[1,2]")).await;
        loop {
            let data = http2.until(DATA).await;
            if data.stream == stream + 2 {
                assert_eq!(data.payload, b"3");
                break;
            }
        }
    }
    // More than the windows hold goes unread.
    let mut send = honest(&running, |_| ()).await;
    for _ in 0..20 {
        let mut refused = asks(&running, "/rpc/add", vec![b' '; 1 << 20]);
        refused.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
        assert_eq!(within(send.send_request(refused)).await.unwrap().status(), 415);
        let answer = within(send.send_request(asks(&running, "/rpc/add", "[1,2]"))).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "3");
    }
}

/// Sends `piece` until the server ends the connection, at most so often, and gives the error that it ended with.
async fn flooded_by(prelude: &[u8], piece: &[u8], most: usize) -> Option<u32> {
    let running = Running::new(everything()).await;
    let mut http2 = Http2::to(running.address, &[]).await;
    http2.send(prelude).await;
    let batch = piece.repeat(1000);
    for _ in 0..most.div_ceil(1000) {
        http2.send(&batch).await;
        while let Some(frame) = http2.taken() {
            if frame.kind == GOAWAY {
                bystander(&running).await;
                return Some(frame.error());
            }
        }
    }
    bystander(&running).await;
    // If it was borne, the connection still answers.
    http2.send(get(101, "/rpc/add?a=1&b=2")).await;
    loop {
        match http2.frame().await.expect("an answer or a GOAWAY") {
            frame if frame.kind == GOAWAY => return Some(frame.error()),
            frame if frame.kind == HEADERS && frame.stream == 101 => return None,
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_flood_of_continuations_ends_the_connection() {
    let head = frame(HEADERS, END_STREAM, 1, &fields("GET", "/rpc/add?a=1&b=2"));
    let empty = frame(CONTINUATION, 0, 1, &[]);
    assert_eq!(flooded_by(&head, &empty, 100_000).await, Some(ENHANCE_YOUR_CALM));
    let full = frame(CONTINUATION, 0, 1, &field("x", &"y".repeat(10_000)));
    assert_eq!(flooded_by(&head, &full, 10_000).await, Some(ENHANCE_YOUR_CALM));
}

#[tokio::test]
async fn a_flood_of_frames_that_need_answers_is_answered_one_by_one() {
    assert_eq!(flooded_by(&[], &frame(PING, 0, 0, &[0; 8]), 100_000).await, None);
    assert_eq!(flooded_by(&[], &frame(SETTINGS, 0, 0, &[]), 100_000).await, None);
}

#[tokio::test]
async fn a_flood_of_frames_without_effect_is_ignored() {
    let open = frame(HEADERS, END_HEADERS, 1, &fields("POST", "/rpc/nothing"));
    assert_eq!(flooded_by(&[], &frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 9]), 100_000).await, None);
    assert_eq!(flooded_by(&[], &frame(0xfa, 0, 0, &[1, 2, 3]), 100_000).await, None);
    assert_eq!(flooded_by(&open, &frame(WINDOW_UPDATE, 0, 1, &1u32.to_be_bytes()), 100_000).await, None);
}

#[tokio::test]
async fn a_flood_of_data_without_any_ends_the_connection() {
    let open = frame(HEADERS, END_HEADERS, 1, &fields("POST", "/rpc/nothing"));
    assert_eq!(flooded_by(&open, &frame(DATA, 0, 1, &[]), 100_000).await, Some(ENHANCE_YOUR_CALM));
}

#[tokio::test]
async fn headers_over_the_limit_are_431_and_far_over_it_end_the_connection() {
    let running = Running::new(everything()).await;
    // One field of 4,000 bytes into the table, and then a byte for each time that it is meant.
    let entry = [vec![0x40, 1, b'x', 127, 0xa1, 0x1e], vec![b'y'; 4000]].concat();
    let bomb = [fields("GET", "/rpc/add?a=1&b=2"), entry, vec![0x80 | 62; 10_000]].concat();
    let mut http2 = Http2::to(running.address, &[]).await;
    http2.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb)).await;
    assert_eq!(http2.ended().await, Some(ENHANCE_YOUR_CALM));
    // A little more than the limit is told so.
    let mut http2 = Http2::to(running.address, &[]).await;
    let much =
        [fields("GET", "/rpc/add?a=1&b=2"), [field("x", &"y".repeat(14_000)), field("z", &"y".repeat(1000))].concat()]
            .concat();
    http2.send(frame(HEADERS, END_STREAM, 1, &much)).await;
    for more in [0, 0, 0, END_HEADERS] {
        http2.send(frame(CONTINUATION, more, 1, &field("x", &"y".repeat(14_000)))).await;
    }
    assert_eq!(http2.until(HEADERS).await.status(), 431);
    bystander(&running).await;
}

#[tokio::test]
async fn a_table_that_changes_its_size_repeatedly_stays_within_its_bound() {
    let running = Running::new(everything()).await;
    let thrash = |last: &[u8]| {
        let sizes = [0x20, 0x3f, 0xe1, 0x1f].repeat(1000);
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &[&sizes[..], last, &fields("GET", "/rpc/add?a=1&b=2")].concat())
    };
    let mut http2 = Http2::to(running.address, &[]).await;
    http2.send(thrash(&[])).await;
    assert_eq!(http2.until(HEADERS).await.status(), 200);
    // 4,097 is more than the server allows.
    let mut http2 = Http2::to(running.address, &[]).await;
    http2.send(thrash(&[0x3f, 0xe2, 0x1f])).await;
    assert_eq!(http2.ended().await, Some(PROTOCOL_ERROR));
}

#[tokio::test]
async fn a_frame_that_breaks_the_protocol_ends_the_connection() {
    let open = frame(HEADERS, END_HEADERS, 1, &fields("POST", "/rpc/nothing"));
    let small = |change: u32| frame(WINDOW_UPDATE, 0, 0, &change.to_be_bytes());
    let window = |size: u32| frame(SETTINGS, 0, 0, &[&[0, 4], &size.to_be_bytes()[..]].concat());
    let cases = [
        ("data before its stream", frame(DATA, 0, 1, b"[]"), PROTOCOL_ERROR),
        ("data on no stream", frame(DATA, 0, 0, b"[]"), PROTOCOL_ERROR),
        ("a stream of an even number", get(2, "/rpc/nothing"), PROTOCOL_ERROR),
        ("headers on no stream", get(0, "/rpc/nothing"), PROTOCOL_ERROR),
        ("a lower stream than the last", [get(5, "/rpc/nothing"), get(3, "/rpc/nothing")].concat(), PROTOCOL_ERROR),
        ("a push of a client's", frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]), PROTOCOL_ERROR),
        ("something between headers", [frame(HEADERS, 0, 1, &[]), frame(PING, 0, 0, &[0; 8])].concat(), PROTOCOL_ERROR),
        ("a continuation of nothing", frame(CONTINUATION, 0, 1, &[]), PROTOCOL_ERROR),
        ("a ping of a stream", frame(PING, 0, 1, &[0; 8]), PROTOCOL_ERROR),
        ("a reset of no stream", reset(0), PROTOCOL_ERROR),
        ("a reset before its stream", reset(1), PROTOCOL_ERROR),
        ("a window of nothing", small(0), PROTOCOL_ERROR),
        ("a window beyond 2^31", small(u32::MAX >> 1), FLOW_CONTROL_ERROR),
        ("a first window beyond 2^31", window(1 << 31), PROTOCOL_ERROR),
        ("padding longer than its frame", [open.clone(), frame(DATA, 8, 1, &[9, 1])].concat(), PROTOCOL_ERROR),
        ("a ping of seven bytes", frame(PING, 0, 0, &[0; 7]), PROTOCOL_ERROR),
        ("a reset of three bytes", [open.clone(), frame(RST_STREAM, 0, 1, &[0; 3])].concat(), PROTOCOL_ERROR),
        ("settings of five bytes", frame(SETTINGS, 0, 0, &[0; 5]), PROTOCOL_ERROR),
        ("a frame of 16,385 bytes", [open, frame(DATA, 0, 1, &[b' '; 16_385])].concat(), FRAME_SIZE_ERROR),
        ("an index into nothing", frame(HEADERS, END_HEADERS, 1, &[0xff, 0x80, 0x01]), PROTOCOL_ERROR),
        ("Huffman's code of nothing", frame(HEADERS, END_HEADERS, 1, &[0, 0x81, 0xff, 0]), PROTOCOL_ERROR),
    ];
    let running = Running::new(everything()).await;
    let (mut expected, mut came) = (Vec::new(), Vec::new());
    for (what, bytes, error) in cases {
        let mut http2 = Http2::to(running.address, &[]).await;
        http2.send(bytes).await;
        expected.push((what, Some(error)));
        came.push((what, http2.ended().await));
    }
    assert_eq!(came, expected);
    bystander(&running).await;
}

#[tokio::test]
async fn a_request_that_breaks_the_protocol_ends_its_stream_alone() {
    let with = |more: &[Vec<u8>]| {
        let block = [fields("POST", "/rpc/counter.bump"), more.concat()].concat();
        [frame(HEADERS, END_HEADERS, 1, &block), frame(DATA, END_STREAM, 1, b"[]")].concat()
    };
    let only = |block: Vec<Vec<u8>>| frame(HEADERS, END_HEADERS | END_STREAM, 1, &block.concat());
    let cases = [
        ("connection", with(&[field("connection", "close")])),
        ("transfer-encoding", with(&[field("transfer-encoding", "chunked")])),
        ("upgrade", with(&[field("upgrade", "websocket")])),
        ("te", with(&[field("te", "gzip")])),
        ("a length that is not the body's", with(&[field("content-length", "70")])),
        ("a length that is none", with(&[field("content-length", "+2")])),
        ("two lengths", with(&[field("content-length", "2"), field("content-length", "70")])),
        ("a pseudo header behind others", with(&[field("x", "y"), field(":path", "/rpc/add")])),
        ("a path twice", with(&[field(":path", "/rpc/add")])),
        ("a status in a request", with(&[field(":status", "200")])),
        (
            "no method",
            only(vec![field(":scheme", "http"), field(":path", "/rpc/nothing"), field(":authority", "localhost")]),
        ),
        ("no path", only(vec![field(":method", "GET"), field(":scheme", "http"), field(":authority", "localhost")])),
        (
            "no scheme",
            only(vec![field(":method", "GET"), field(":path", "/rpc/nothing"), field(":authority", "localhost")]),
        ),
        (
            "an empty path",
            only(vec![
                field(":method", "GET"),
                field(":scheme", "http"),
                field(":path", ""),
                field(":authority", "localhost"),
            ]),
        ),
    ];
    let running = Running::new(everything()).await;
    for (what, bytes) in cases {
        let mut http2 = Http2::to(running.address, &[]).await;
        http2.send(bytes).await;
        let reset = http2.until(RST_STREAM).await;
        assert_eq!((reset.stream, reset.error()), (1, PROTOCOL_ERROR), "{what}");
        http2.send(get(3, "/rpc/add?a=1&b=2")).await;
        assert_eq!(http2.until(HEADERS).await.status(), 200, "{what}: the connection goes on");
    }
    assert_eq!(raw(running.address, crate::harness::get("/rpc/counter.total")).await.body, "0");
}

#[tokio::test]
async fn a_header_that_is_not_text_ends_the_connection() {
    let fields = [field("X-User", "ada"), field("x", "y\r\nz: w"), field("x", "y\0"), field("", "y"), field(":x", "y")];
    let running = Running::new(everything()).await;
    for field in fields {
        let block = [crate::harness::frames::fields("POST", "/rpc/counter.bump"), field.clone()].concat();
        let mut http2 = Http2::to(running.address, &[]).await;
        http2.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)).await;
        assert_eq!(http2.ended().await, Some(PROTOCOL_ERROR), "{field:?}");
    }
    assert_eq!(raw(running.address, crate::harness::get("/rpc/counter.total")).await.body, "0");
}

#[tokio::test]
async fn a_host_is_checked_as_over_http_1() {
    let running = Running::new(everything()).await;
    let asks = |authority: &[Vec<u8>]| {
        let head = [field(":method", "POST"), field(":scheme", "http"), field(":path", "/rpc/nothing")].concat();
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &[head, authority.concat()].concat())
    };
    let (ours, evil) = (field(":authority", "localhost"), field(":authority", "evil.test"));
    let host = |name| field("host", name);
    let foreign = [evil.clone()];
    for (authority, status) in [
        (&[ours.clone()][..], 200),
        (&[host("localhost")], 200),
        (&[ours.clone(), host("localhost")], 200),
        (&[], 400),
        (&foreign, 421),
        (&[host("evil.test")], 421),
        (&[ours.clone(), host("evil.test")], 400),
        (&[evil, host("localhost")], 400),
        (&[ours, host("localhost"), host("localhost")], 400),
    ] {
        let mut http2 = Http2::to(running.address, &[]).await;
        http2.send(asks(authority)).await;
        assert_eq!(http2.until(HEADERS).await.status(), status, "{authority:?}");
    }
}

#[tokio::test]
async fn a_server_that_stops_says_goaway_and_answers_what_it_took() {
    let held = Held::new();
    let mut running = Running::new(held.serve(everything())).await;
    let mut http2 = Http2::to(running.address, &[]).await;
    http2.send(post(1, "/rpc/hold", "[]")).await;
    held.until(1).await;
    running.stop();
    assert_eq!(http2.until(GOAWAY).await.error(), 0);
    held.release.add_permits(1);
    assert_eq!(http2.until(HEADERS).await.status(), 200);
    assert_eq!(http2.until(DATA).await.payload, b"null");
    assert_eq!(http2.ended().await, Some(0));
    within(running.stopped()).await.unwrap();
}

#[tokio::test]
async fn a_connection_of_http_2_that_is_only_begun_is_closed_with_its_server() {
    let mut running = Running::new(everything()).await;
    let http2 = Http2::to(running.address, &[]).await;
    let mut send = honest(&running, |_| {}).await;
    let request = hyper::Request::get(format!("http://{}/rpc/!live", running.address));
    let request = request.body(Full::new(Bytes::new())).unwrap();
    assert_eq!(within(send.send_request(request)).await.unwrap().status(), 200);
    running.stop();
    drop(http2);
    within(running.stopped()).await.unwrap();
}
