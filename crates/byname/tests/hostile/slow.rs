//! Clients that are slow on purpose, or ask for too much. The time-out for their kind evicts each of them, and other callers
//! are answered meanwhile. `limits.rs` crosses each limit once; these tests cross them as an attacker would.

use std::net::SocketAddr;
use std::time::Duration;

use crate::harness::frames::{self, Http2};
use crate::harness::{Caller, Log, Process, Running, everything, post, post_with, raw, within};
use byname::{Limits, Server, rpc};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

const SHORT: Duration = Duration::from_millis(20);

async fn limited(server: Server, change: impl FnOnce(&mut Limits)) -> Running {
    Running::new(server.limits(change)).await
}

async fn bystander(running: &Running) {
    assert_eq!(raw(running.address, post("/rpc/add", "[1,2]")).await.body, "3");
}

/// Sends byte after byte for as long as the server takes them.
async fn trickle(stream: &TcpStream, bytes: impl IntoIterator<Item = u8>) {
    for byte in bytes {
        if within(stream.writable()).await.is_err() || stream.try_write(&[byte]).is_err() {
            return;
        }
        tokio::task::yield_now().await;
        // The server's goodbye is what ends it.
        if stream.peek(&mut [0]).now_or_never().is_some() {
            return;
        }
    }
}

trait NowOrNever: Future + Sized {
    fn now_or_never(self) -> Option<Self::Output> {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::pin!(self).poll(&mut cx) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }
}

impl<F: Future> NowOrNever for F {}

// Slow headers.

#[tokio::test]
async fn a_header_that_trickles_in_is_evicted_by_header_read() {
    let running = limited(everything(), |limits| (limits.header_read, limits.header) = (SHORT, 1 << 30)).await;
    for before in [None, Some(post("/rpc/add", "[1,2]"))] {
        let mut caller = Caller::to(running.address).await;
        if let Some(before) = before {
            assert_eq!(caller.ask(before).await.body, "3");
        }
        let header = b"POST /rpc/add HTTP/1.1\r\nx: ".iter().copied().chain(std::iter::repeat(b'y'));
        trickle(&caller.stream, header).await;
        let answer = caller.answer().await;
        assert_eq!((answer.status, answer.json()["err"]["limit"].as_str()), (408, Some("header_read")), "{answer:?}");
    }
}

#[tokio::test]
async fn empty_lines_before_a_request_are_a_slow_header_too() {
    let mut log = Log::new();
    let running = limited(everything(), |limits| (limits.header_read, limits.header) = (SHORT, 1 << 30)).await;
    let caller = Caller::to(running.address).await;
    trickle(&caller.stream, std::iter::repeat_n(*b"\r\n", usize::MAX).flatten()).await;
    log.until("`Limits::header_read`").await;
}

#[tokio::test]
async fn a_preface_that_stops_is_evicted_by_header_read() {
    let mut log = Log::new();
    let running = limited(everything(), |limits| limits.header_read = SHORT).await;
    for length in [1, 3, 14, 23] {
        let mut caller = Caller::to(running.address).await;
        caller.send(&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..length]).await;
        assert_eq!(caller.rest().await, "", "{length}");
        log.until("`Limits::header_read`").await;
    }
}

#[tokio::test]
async fn an_http_2_connection_without_a_whole_request_is_evicted_by_idle() {
    let mut log = Log::new();
    let running = limited(everything(), |limits| limits.idle = SHORT).await;
    let half = frames::frame(frames::HEADERS, frames::END_STREAM, 1, &frames::fields("GET", "/rpc/add?a=1&b=2"));
    for bytes in [vec![], half] {
        let mut http2 = Http2::to(running.address, &[]).await;
        http2.send(bytes).await;
        http2.ended().await;
        log.until("`Limits::idle`").await;
    }
}

// Slow bodies.

#[tokio::test]
async fn a_body_that_trickles_in_is_refused_at_the_deadline_of_its_call() {
    let running = limited(everything(), |limits| (limits.call, limits.message) = (SHORT, usize::MAX)).await;
    for (headers, limit) in [("", json!("call")), ("byname-timeout-ms: 20\r\n", json!(null))] {
        let mut caller = Caller::to(running.address).await;
        let head = format!(
            "POST /rpc/counter.bump HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: {}\r\n\r\n",
            u32::MAX
        );
        caller.send(head).await;
        trickle(&caller.stream, std::iter::repeat(b' ')).await;
        let answer = caller.answer().await;
        let error = answer.json();
        assert_eq!((answer.status, &error["executed"], &error["limit"]), (504, &json!("no"), &limit), "{error}");
        assert_eq!(caller.rest().await, "");
    }
    bystander(&running).await;
}

#[rpc(timeout = "60m")]
async fn patient(text: String) -> usize {
    text.len()
}

#[tokio::test]
async fn a_longer_timeout_of_a_function_applies_to_its_body_too() {
    let running = limited(everything().method::<patient>(), |limits| limits.call = SHORT).await;
    for path in ["/rpc/patient", "/rpc"] {
        let mut caller = Caller::to(running.address).await;
        let body = if path == "/rpc" { r#"{"fun":"patient","args":["x"]}"# } else { r#"["x"]"# };
        // Once it is told to go on, its body is being waited for.
        let head = post_with(path, "expect: 100-continue\r\n", body);
        let (head, body) = head.split_at(head.len() - body.len());
        assert_eq!(caller.ask(head).await.status, 100);
        crate::harness::foreign::skip(SHORT * 10).await;
        caller.send(body).await;
        let answer = caller.answer().await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
    }
}

#[tokio::test]
async fn a_body_over_http_2_must_progress() {
    let running = limited(everything(), |limits| limits.body_progress = SHORT).await;
    let head = frames::frame(frames::HEADERS, frames::END_HEADERS, 1, &frames::fields("POST", "/rpc/counter.bump"));
    let mut http2 = Http2::to(running.address, &[]).await;
    http2.send([head, frames::frame(frames::DATA, 0, 1, b"[")].concat()).await;
    assert_eq!(http2.until(frames::HEADERS).await.status(), 504);
    let error: serde_json::Value = serde_json::from_slice(&http2.until(frames::DATA).await.payload).unwrap();
    assert_eq!((&error["executed"], &error["limit"]), (&json!("no"), &json!("body_progress")), "{error}");
    bystander(&running).await;
}

// Slow readers.

fn large() -> Server {
    everything().function("large", || async { "x".repeat(3 << 20) })
}

/// A server and a connection whose sockets hold little, so that they are soon full: megabytes otherwise.
async fn narrow(server: Server, change: impl FnOnce(&mut Limits)) -> (Running, TcpStream) {
    let (listener, socket) = (TcpSocket::new_v4().unwrap(), TcpSocket::new_v4().unwrap());
    // What is accepted has the buffer of its listener.
    listener.set_send_buffer_size(4096).unwrap();
    listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let running = Running::at(server.limits(change), listener.listen(16).unwrap()).await;
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket.connect(running.address).await.unwrap();
    (running, stream)
}

#[tokio::test]
async fn a_client_that_pipelines_without_reading_is_evicted_by_write_progress() {
    let mut log = Log::new();
    let (running, stream) = narrow(large(), |limits| limits.write_progress = SHORT).await;
    stream.writable().await.unwrap();
    stream.try_write(post("/rpc/large", "").repeat(20).as_bytes()).unwrap();
    log.until("`Limits::write_progress`").await;
    bystander(&running).await;
    within(running.stopped()).await.unwrap();
}

#[tokio::test]
async fn a_client_that_pings_without_reading_is_evicted_by_write_progress() {
    let mut log = Log::new();
    let (running, mut stream) = narrow(everything(), |limits| limits.write_progress = SHORT).await;
    let preface = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frames::frame(frames::SETTINGS, 0, 0, &[])].concat();
    stream.write_all(&preface).await.unwrap();
    let pings = frames::frame(frames::PING, 0, 0, &[0; 8]).repeat(1000);
    tokio::select! {
        () = async { while stream.write_all(&pings).await.is_ok() {} } => {}
        _ = log.until("`Limits::write_progress`") => {}
    }
    bystander(&running).await;
    within(running.stopped()).await.unwrap();
}

#[tokio::test]
async fn a_stream_without_a_window_is_evicted_by_write_progress_though_its_connection_is_busy() {
    let mut log = Log::new();
    let running = limited(large(), |limits| limits.write_progress = SHORT).await;
    // Nothing can be sent on a stream; and a little on each.
    for window in [0, 1000] {
        let mut http2 = Http2::to(running.address, &[(frames::SETTING_INITIAL_WINDOW_SIZE, window)]).await;
        http2.send(frames::post(1, "/rpc/large", "[]")).await;
        assert_eq!(http2.until(frames::HEADERS).await.status(), 200);
        // It answers the server's pings and sends its own.
        let busy = async {
            while let Some(frame) = http2.frame().await {
                if frame.kind == frames::GOAWAY {
                    break;
                }
                http2.send(frames::frame(frames::PING, 0, 0, &[0; 8])).await;
            }
        };
        tokio::join!(busy, log.until("`Limits::write_progress`"));
        bystander(&running).await;
    }
    within(running.stopped()).await.unwrap();
}

// Many at once.

#[tokio::test]
async fn many_slow_clients_delay_nobody_and_are_evicted() {
    let mut log = Log::new();
    let running = limited(everything(), |limits| limits.header_read = Duration::from_secs(10)).await;
    let mut crowd = Vec::new();
    for nth in 0..300 {
        let mut caller = Caller::to(running.address).await;
        let part = ["", "POST /rpc/add HTTP/1.1\r\nhost: lo", "PRI * HTTP/2.0\r\n"][nth % 3];
        caller.send(part).await;
        crowd.push(caller);
        bystander(&running).await;
    }
    crate::harness::foreign::skip(Duration::from_secs(11)).await;
    for mut caller in crowd {
        caller.rest().await;
    }
    assert!(log.lines().iter().any(|line| line.contains("`Limits::header_read`")));
    bystander(&running).await;
}

// File descriptors.

/// What the child of the next test runs, with few file descriptors.
async fn serve_until_told() {
    let bound = everything().serve("127.0.0.1:0").bind().await.unwrap();
    println!("listening {}", bound.local_addr());
    let mut log = Log::new();
    let served = tokio::spawn(bound.into_future());
    log.until("can't accept a connection").await;
    println!("exhausted");
    served.await.unwrap().unwrap();
    println!("drained");
}

#[cfg(unix)]
#[tokio::test]
async fn a_server_out_of_file_descriptors_serves_its_connections_and_accepts_again_later() {
    const NAME: &str = "slow::a_server_out_of_file_descriptors_serves_its_connections_and_accepts_again_later";
    const CHILD: &str = "BYNAME_TEST_SERVES";
    if std::env::var_os(CHILD).is_some() {
        return serve_until_told().await;
    }
    let mut child = Process::run_with_few_files(64, NAME, CHILD, "1");
    let address: SocketAddr = child.said("listening ").await.parse().unwrap();
    let call = post_with("/rpc/add", "", "[1,2]");
    let mut kept = Caller::to(address).await;
    assert_eq!(kept.ask(&call).await.body, "3");

    // More than it can take; the rest waits in the backlog.
    let mut crowd = Vec::new();
    for _ in 0..100 {
        crowd.push(Caller::to(address).await);
    }
    child.said("exhausted").await;
    for _ in 0..10 {
        assert_eq!(kept.ask(&call).await.body, "3", "who is connected is served");
    }
    let mut waiting = Caller::to(address).await;
    waiting.send(&call).await;
    drop(crowd);
    assert_eq!(waiting.answer().await.body, "3", "who waited is taken");
    for _ in 0..100 {
        assert_eq!(raw(address, &call).await.body, "3");
    }
    child.signal("TERM").await;
    drop((kept, waiting));
    child.said("drained").await;
    assert!(child.ended().await.success());
}
