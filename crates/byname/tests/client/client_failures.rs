//! The client's errors for malformed answers, for broken connections, and for servers that are not reachable.

use std::sync::Arc;
use std::time::Duration;

use crate::harness::foreign::{BYNAME, Foreign, answer, crowded, ret};
use crate::harness::{Log, Running, add, nothing, within};
use byname::{CallError, Client, Code, Context, Error, Executed, Server, Transport};
use futures_util::future::join_all;
use serde_json::Value;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

fn rpc<T: std::fmt::Debug>(result: Result<T, CallError<Value>>) -> Error {
    result.unwrap_err().rpc().expect("the function itself did not fail").clone()
}

async fn f(client: &Client) -> Result<u8, CallError<Value>> {
    within(client.call::<u8>("f", ())).await
}

/// The outcome of a call that is answered by these bytes and the end of the connection: on the plain way and by
/// path.
async fn answered_by(bytes: &str) -> [Error; 2] {
    let plain = Foreign::ending_after(bytes).await;
    let bytes = bytes.to_owned();
    let path = Foreign::new(move |mut connection| {
        let bytes = bytes.clone();
        async move {
            connection.request().await;
            connection.send(answer("200 OK", BYNAME, "{\"ret\": 1}")).await;
            connection.request().await;
            connection.send(bytes).await;
        }
    })
    .await;
    let by_path = path.client();
    assert_eq!(f(&by_path).await, Ok(1));
    let errors = [rpc(f(&plain.client()).await), rpc(f(&by_path).await)];
    assert_eq!((plain.requests().len(), path.paths().last().unwrap().as_str()), (1, "/rpc/f"));
    errors
}

async fn check(bytes: &str, code: Code, executed: Executed, words: &[&str]) {
    for error in answered_by(bytes).await {
        assert_eq!((error.code(), error.executed()), (code, executed), "{bytes:?}: {error}");
        for words in ["`f`"].iter().chain(words) {
            assert!(error.message().contains(words), "{bytes:?}: {error}");
        }
        assert!(!error.message().contains("secret"), "{bytes:?}: {error}");
    }
}

// Answers of others.

#[tokio::test]
async fn the_originals_word_for_an_unknown_name_is_understood() {
    check(&answer("502 no func found err", "", ""), Code::Unimplemented, Executed::No, &["no function named"]).await;
    let html = "<html><title>502: no func found err</title></html>";
    check(&answer("502 no func found err", "", html), Code::Unimplemented, Executed::No, &["no function named"]).await;
}

#[tokio::test]
async fn a_502_of_a_proxy_says_nothing_of_the_function() {
    for (reason, body) in [("Bad Gateway", "<html>secret</html>"), ("", ""), ("no func", "")] {
        let bytes = answer(&format!("502 {reason}"), "", body);
        check(&bytes, Code::Unavailable, Executed::Unknown, &["502", "proxy"]).await;
    }
}

#[tokio::test]
async fn answers_of_web_servers_become_errors_that_say_what_to_look_at() {
    let cases = [
        ("301 Moved Permanently", Code::Unknown, "not an answer of an RPC server"),
        ("400 Bad Request", Code::InvalidArgument, "did not accept the request"),
        ("401 Unauthorized", Code::Unauthenticated, "wants credentials"),
        ("403 Forbidden", Code::PermissionDenied, "refuses the call"),
        ("404 Not Found", Code::Unimplemented, "is it a byname endpoint?"),
        ("405 Method Not Allowed", Code::Unimplemented, "is it a byname endpoint?"),
        ("408 Request Timeout", Code::DeadlineExceeded, "waited too long"),
        ("413 Content Too Large", Code::ResourceExhausted, "too large"),
        ("418 I'm a teapot", Code::Unknown, "not an answer of an RPC server"),
        ("429 Too Many Requests", Code::ResourceExhausted, "limits its callers"),
        ("500 Internal Server Error", Code::Internal, "the server's log"),
        ("503 Service Unavailable", Code::Unavailable, "not up"),
        ("504 Gateway Timeout", Code::DeadlineExceeded, "waited too long"),
    ];
    for (status, code, words) in cases {
        let bytes = answer(status, "content-type: text/html\r\n", "<html><h1>secret</h1></html>");
        check(&bytes, code, Executed::Unknown, &[status, words]).await;
    }
}

#[tokio::test]
async fn a_200_with_another_body_is_not_a_success() {
    for body in ["<html>secret</html>", "", "{}", "{\"ret\": ", "{\"retour\": 1}", "[{\"ret\": 1}]", "{\"ret\": 1} {"] {
        let errors = answered_by(&answer("200 OK", "", body)).await;
        for error in errors {
            assert_eq!((error.code(), error.executed()), (Code::Internal, Executed::Unknown), "{body:?}: {error}");
            assert!(error.message().contains("`f` was answered 200"), "{body:?}: {error}");
        }
    }
    for status in ["204 No Content", "304 Not Modified"] {
        for error in answered_by(&format!("HTTP/1.1 {status}\r\n\r\n")).await {
            assert_eq!(error.executed(), Executed::Unknown, "{status}: {error}");
        }
    }
}

#[tokio::test]
async fn a_bare_value_is_accepted_only_from_a_byname_server() {
    let [_, by_path] = answered_by(&answer("200 OK", "", "1")).await;
    assert_eq!((by_path.code(), by_path.executed()), (Code::Internal, Executed::Unknown));
    let [_, by_path] = answered_by(&answer("200 OK", BYNAME, "")).await;
    assert_eq!((by_path.code(), by_path.executed()), (Code::Internal, Executed::Yes), "{by_path}");
}

#[tokio::test]
async fn retry_after_is_passed_on() {
    let seconds = [("7", Some(Duration::from_secs(7))), ("Fri, 31 Dec 1999 23:59:59 GMT", None), ("-1", None)];
    for (said, expected) in seconds {
        for error in answered_by(&answer("429 Slow Down", &format!("retry-after: {said}\r\n"), "")).await {
            assert_eq!(error.code(), Code::ResourceExhausted);
            assert_eq!(error.retry_after(), expected, "{said}");
        }
    }
}

#[tokio::test]
async fn a_call_is_not_sent_again_if_retry_after_is_beyond_its_deadline() {
    let forever = format!("retry-after: {}\r\n", u64::MAX);
    let server = Foreign::answering(answer("503 Service Unavailable", &forever, "")).await;
    let error = within(add::on(&server.client(), 1, 2).timeout(Duration::from_secs(5))).await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::Unavailable, Executed::Unknown));
    assert_eq!(server.requests().len(), 1);
}

// Replies that break off.

#[tokio::test]
async fn a_truncated_reply_is_never_a_success() {
    let whole = [
        "HTTP/1.1 200 OK\r\nbyname-protocol: 1\r\ncontent-length: 10\r\n\r\n{\"ret\": 1}",
        "HTTP/1.1 200 OK\r\nbyname-protocol: 1\r\ncontent-length: 3\r\n\r\n111",
        "HTTP/1.1 200 OK\r\nbyname-protocol: 1\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"ret\r\n5\r\n\": 1}\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nbyname-protocol: 1\r\ntransfer-encoding: chunked\r\n\r\n1\r\n1\r\n2\r\n11\r\n0\r\n\r\n",
    ];
    for whole in whole {
        for end in 0..whole.len() {
            for error in answered_by(&whole[..end]).await {
                let part = &whole[..end];
                assert_eq!((error.code(), error.executed()), (Code::Unavailable, Executed::Unknown), "{part:?}");
                assert!(error.message().contains("broke") && error.message().contains("`f`"), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn a_reply_in_pieces_is_a_success_once_it_is_whole() {
    let chunked =
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;x=y\r\n{\"ret\r\n5\r\n\": 1}\r\n0\r\nx: y\r\n\r\n";
    let server = Foreign::new(move |mut connection| async move {
        while connection.request().await.is_some() {
            for byte in chunked.as_bytes() {
                connection.send([*byte]).await;
                tokio::task::yield_now().await;
            }
        }
    })
    .await;
    let client = server.client();
    for _ in 0..2 {
        assert_eq!(f(&client).await, Ok(1));
    }
    assert_eq!(server.opened(), 1);
}

#[tokio::test]
async fn a_reply_ended_by_the_close_counts_only_if_truncation_would_show() {
    let open_ended = |body: &str| format!("HTTP/1.1 200 OK\r\n{BYNAME}\r\n{body}");
    let plain = Foreign::ending_after(open_ended("{\"ret\": 111}")).await;
    assert_eq!(f(&plain.client()).await, Ok(111), "without its last brace it would be none");
    let [_, by_path] = answered_by(&open_ended("11")).await;
    assert_eq!((by_path.code(), by_path.executed()), (Code::Unavailable, Executed::Unknown), "it may have been 111");
    assert!(by_path.message().contains("HTTP/1.1"), "{by_path}");
}

#[tokio::test]
async fn what_is_not_http_is_an_error() {
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(1 << 20));
    for bytes in ["SSH-2.0-OpenSSH_9.9\r\n", "\u{0}\u{1}\u{2}\u{3}\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n", &long] {
        for error in answered_by(bytes).await {
            assert_eq!((error.code(), error.executed()), (Code::Unavailable, Executed::Unknown), "{error}");
        }
    }
}

#[tokio::test]
async fn a_reply_over_the_limit_names_the_knob_and_the_function_ran() {
    let said = format!("HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n{}", " ".repeat(1001));
    let chunk = format!("64\r\n{}\r\n", " ".repeat(100));
    let chunks = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}0\r\n\r\n", chunk.repeat(11));
    for too_large in [said, chunks] {
        let server = Foreign::new(move |mut connection| {
            let first = if connection.number == 0 { too_large.clone() } else { ret("1") };
            async move {
                connection.request().await;
                connection.send(first).await;
                connection.closed().await;
            }
        })
        .await;
        let client = server.builder().limits(|limits| limits.message = 1000).build().unwrap();
        let error = rpc(f(&client).await);
        assert_eq!((error.code(), error.executed()), (Code::ResourceExhausted, Executed::Yes));
        assert_eq!(error.limit(), Some("message"));
        assert!(error.message().contains("`Limits::message` of the client"), "{error}");
        assert!(error.message().contains("1000 bytes"), "{error}");
        assert_eq!(f(&client).await, Ok(1));
    }
}

#[tokio::test]
async fn a_reply_at_the_limit_is_taken() {
    let reply = ret(&format!("1{}", " ".repeat(1000 - "{\"ret\": 1}".len())));
    let server = Foreign::answering(reply).await;
    let client = server.builder().limits(|limits| limits.message = 1000).build().unwrap();
    assert_eq!(f(&client).await, Ok(1));
}

#[tokio::test]
async fn an_impossible_length_is_an_error_without_a_limit_too() {
    let lengths =
        ["content-length: 18446744073709551615\r\n\r\n1", "transfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n1"];
    for length in lengths {
        let server = Foreign::ending_after(format!("HTTP/1.1 200 OK\r\n{length}")).await;
        let client = server.builder().limits(|limits| limits.message = usize::MAX).build().unwrap();
        assert!(f(&client).await.is_err(), "{length}");
    }
}

// Answers out of the ordinary.

#[tokio::test]
async fn an_answer_that_is_announced_is_waited_for() {
    let announced = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n";
    let server = Foreign::answering(announced.to_owned() + &ret("1")).await;
    let client = server.client();
    for _ in 0..2 {
        assert_eq!(f(&client).await, Ok(1));
    }
    assert_eq!(server.opened(), 1);
}

/// Arguments that don't fit into what the two kernels hold for a connection.
fn large() -> (String,) {
    ("x".repeat(16 << 20),)
}

#[tokio::test]
async fn a_large_request_waits_for_100_continue_and_is_then_sent() {
    let server = Foreign::new(|mut connection| async move {
        connection.begun().await;
        connection.send("HTTP/1.1 100 Continue\r\n").await;
        tokio::task::yield_now().await;
        connection.send("\r\nHTTP/1.1 102 Processing\r\n\r\n").await;
        connection.request().await;
        connection.send(ret("1")).await;
    })
    .await;
    assert_eq!(within(server.client().call::<u8>("f", large())).await, Ok(1));
    assert_eq!(server.requests()[0].body.len(), (16 << 20) + r#"{"fun":"f","args":[""],"kwargs":{}}"#.len());
}

#[tokio::test]
async fn a_caller_reads_the_rejection_of_an_incomplete_request() {
    let server = Foreign::new(|mut connection| async move {
        connection.begun().await;
        connection.send(answer("413 Content Too Large", "", "<html>no</html>")).await;
        connection.rest().await;
    })
    .await;
    let error = rpc(within(server.client().call::<u8>("f", large())).await);
    assert_eq!((error.code(), error.executed()), (Code::ResourceExhausted, Executed::Unknown));
    assert!(error.message().contains("413"), "{error}");
    server.until_closed().await;
}

#[tokio::test]
async fn an_answer_with_two_lengths_or_another_protocol_is_an_error() {
    let answers = [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\ncontent-length: 12\r\n\r\n{\"ret\": 1}  ",
        "HTTP/1.1 200 OK\r\ncontent-length: ten\r\n\r\n{\"ret\": 1}",
        "HTTP/1.1 200 OK\r\ncontent-length: -10\r\n\r\n{\"ret\": 1}",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n{\"ret\": 1}",
    ];
    for bytes in answers {
        for error in answered_by(bytes).await {
            assert_eq!(error.executed(), Executed::Unknown, "{bytes:?}: {error}");
        }
    }
}

#[tokio::test]
async fn a_connection_is_not_reused_after_an_answer_of_uncertain_length() {
    let doubtful = [
        "HTTP/1.1 200 OK\r\ncontent-length: 99\r\ntransfer-encoding: chunked\r\n\r\na\r\n{\"ret\": 1}\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\ncontent-length: 10\r\n\r\n{\"ret\": 1}",
        "HTTP/1.1 200 OK\r\nconnection: Close\r\ncontent-length: 10\r\n\r\n{\"ret\": 1}",
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{\"ret\": 1}HTTP/1.1 200",
    ];
    for bytes in doubtful {
        let server = Foreign::answering(bytes).await;
        let client = server.client();
        for _ in 0..2 {
            assert_eq!(f(&client).await, Ok(1), "{bytes:?}");
        }
        assert_eq!(server.opened(), 2, "{bytes:?}");
    }
}

// Connections that break.

/// Reads each request and resets the connection instead of answering, until so many were answered that way.
async fn resetting(times: usize) -> Foreign {
    Foreign::new(move |mut connection| async move {
        while connection.request().await.is_some() {
            if connection.number < times {
                return connection.reset();
            }
            connection.send(ret("3")).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_call_whose_connection_breaks_may_have_run_and_is_not_sent_again() {
    let server = resetting(usize::MAX).await;
    let client = server.client();
    for error in [rpc(f(&client).await), within(nothing::on(&client)).await.unwrap_err()] {
        assert_eq!((error.code(), error.executed()), (Code::Unavailable, Executed::Unknown));
        assert!(error.message().contains("it may have run"), "{error}");
    }
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_call_on_a_kept_connection_that_breaks_may_have_run() {
    let server = Foreign::new(|mut connection| async move {
        connection.request().await;
        connection.send(ret("1")).await;
        connection.request().await;
        connection.reset();
    })
    .await;
    let client = server.client();
    assert_eq!(f(&client).await, Ok(1));
    let error = rpc(f(&client).await);
    assert_eq!((error.code(), error.executed()), (Code::Unavailable, Executed::Unknown));
    assert_eq!((server.requests().len(), server.opened()), (2, 1));
}

#[tokio::test]
async fn an_idempotent_call_whose_connection_breaks_is_sent_three_times_at_most() {
    let server = resetting(usize::MAX).await;
    let error = within(add::on(&server.client(), 1, 2)).await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::Unavailable, Executed::Unknown));
    assert_eq!(server.requests().len(), 3);

    let server = resetting(2).await;
    assert_eq!(within(add::on(&server.client(), 1, 2)).await, Ok(3));
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn a_call_that_the_server_did_not_run_is_sent_again() {
    let draining = r#"{"err":{"code":"unavailable","message":"draining","executed":"no","kind":"rpc"}}"#;
    let server = Foreign::new(move |mut connection| async move {
        connection.request().await;
        connection.send(answer("503 Service Unavailable", "connection: close\r\n", draining)).await;
        connection.closed().await;
    })
    .await;
    let error = rpc(f(&server.client()).await);
    assert_eq!((error.code(), error.executed()), (Code::Unavailable, Executed::No));
    let expected = "draining\nattempt 1 of 3: the same error\nattempt 2 of 3: the same error";
    assert_eq!((error.message(), server.requests().len()), (expected, 3));
}

/// What a server says on a connection that it closes when it stops.
const GOODBYE: &str = r#"{"err":{"code":"unavailable","message":"stopping","executed":"no","kind":"rpc"}}"#;

#[tokio::test]
async fn a_call_that_crosses_a_408_is_sent_again_any_number_of_times() {
    // More than may be sent again after failures.
    const CONNECTIONS: usize = 32;
    let all = Arc::new(Barrier::new(CONNECTIONS));
    let server = Foreign::new(move |mut connection| {
        let all = Arc::clone(&all);
        async move {
            if connection.number < CONNECTIONS {
                connection.request().await;
                all.wait().await;
                connection.send(ret("1")).await;
                connection.request().await;
                connection.send(answer("408 Request Timeout", "connection: close\r\n", GOODBYE)).await;
                return;
            }
            while connection.request().await.is_some() {
                connection.send(ret("2")).await;
            }
        }
    })
    .await;
    let client = server.client();
    for expected in [1, 2] {
        let calls: JoinSet<_> = (0..CONNECTIONS).map(|_| client.call::<u8>("f", ())).collect();
        assert!(within(calls.join_all()).await.iter().all(|result| *result == Ok(expected)));
    }
}

#[tokio::test]
async fn a_408_before_the_call_has_no_effect_on_the_call() {
    let server = Foreign::new(|mut connection| async move {
        connection.request().await;
        connection.send(ret("1")).await;
        if connection.number == 0 {
            connection.send(answer("408 Request Timeout", "connection: close\r\n", GOODBYE)).await;
        }
        connection.closed().await;
    })
    .await;
    let client = server.client();
    for _ in 0..2 {
        assert_eq!(f(&client).await, Ok(1));
    }
    assert_eq!((server.opened(), server.requests().len()), (2, 2));
}

#[tokio::test]
async fn a_408_that_a_proxy_passes_on_is_an_ordinary_answer() {
    // The connection to the proxy stays.
    let server = Foreign::answering(answer("408 Request Timeout", "", GOODBYE)).await;
    let error = rpc(f(&server.client()).await);
    assert_eq!((error.code(), error.executed()), (Code::Unavailable, Executed::No));
    assert_eq!((server.opened(), server.requests().len()), (1, 3));
}

#[tokio::test]
async fn repetitions_stay_few_when_everything_fails() {
    let server = resetting(usize::MAX).await;
    let client = server.client();
    let calls: JoinSet<_> = (0..100).map(|_| add::on(&client, 1, 2)).collect();
    assert!(within(calls.join_all()).await.iter().all(Result::is_err));
    // What a client has in store, a tenth of the calls, and one for each second that this takes.
    let sent = server.requests().len();
    assert!((111..=125).contains(&sent), "{sent} requests for 100 calls");
}

#[tokio::test]
async fn a_call_is_not_sent_again_after_its_deadline() {
    let busy = r#"{"err":{"code":"unavailable","message":"busy","executed":"no","kind":"rpc","retry_after_ms":2000}}"#;
    let server = Foreign::answering(answer("503 Service Unavailable", "", busy)).await;
    let error = within(add::on(&server.client(), 1, 2).timeout(Duration::from_secs(2))).await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::Unavailable, Executed::No));
    assert_eq!(server.requests().len(), 1);
}

// Servers that aren't there.

/// An address where nothing listens, held so that nothing else can.
fn nothing_there() -> (Socket, String) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SockAddr::from(std::net::SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap().to_string();
    (socket, address)
}

#[tokio::test]
async fn a_client_of_several_addresses_calls_those_that_are_there() {
    let (_held, dead) = nothing_there();
    let there = Foreign::answering(ret("1")).await;
    for addresses in [[dead.parse().unwrap(), there.address], [there.address, dead.parse().unwrap()]] {
        let client = Client::builder("http://service.invalid/rpc").addresses(addresses).build().unwrap();
        for _ in 0..8 {
            assert_eq!(f(&client).await, Ok(1));
        }
    }
    assert_eq!(there.requests()[0].header("host"), "service.invalid");
    let client = Client::builder("http://127.0.0.1/rpc").addresses([dead]).build().unwrap();
    assert_eq!(rpc(f(&client).await).executed(), Executed::No);
}

/// Which replica gets a call is chance.
async fn call_until_one_fails(client: &Client) -> Error {
    let hurried = client.timeout(Duration::from_millis(20));
    loop {
        if let Err(error) = f(&hurried).await {
            return rpc::<u8>(Err(error));
        }
    }
}

#[tokio::test]
async fn a_replica_that_does_not_answer_is_called_once_while_another_is_healthy() {
    let (frozen, healthy) = (Foreign::holding(ret("1")).await, Foreign::answering(ret("2")).await);
    let client = Client::builder("service.invalid/rpc").addresses([frozen.address, healthy.address]);
    let client = client.transport(Transport::Http).build().unwrap();
    let error = call_until_one_fails(&client).await;
    assert_eq!((error.code(), error.executed()), (Code::DeadlineExceeded, Executed::Unknown));
    let before = healthy.requests().len();
    for _ in 0..3 {
        assert_eq!(f(&client).await, Ok(2));
    }
    assert_eq!((frozen.requests().len(), healthy.requests().len()), (1, before + 3));
}

#[tokio::test]
async fn a_replica_that_answered_late_is_called_again() {
    let (slow, other) = (Foreign::holding(ret("1")).await, Foreign::answering(ret("2")).await);
    let client = Client::builder("service.invalid/rpc").addresses([slow.address, other.address]);
    let client = client.transport(Transport::Http).build().unwrap();
    let error = call_until_one_fails(&client).await;
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert_eq!(f(&client).await, Ok(2));
    slow.release(10);
    // Its late answer comes by itself. Then its connection is kept, and one call more than there are others takes it.
    let called_again = async {
        let mut calls = 1;
        while !join_all((0..calls).map(|_| f(&client))).await.contains(&Ok(1)) {
            calls += 1;
        }
    };
    within(called_again).await;
}

#[tokio::test]
async fn the_error_names_an_unrequested_content_coding() {
    let coded = format!("{BYNAME}content-encoding: gzip\r\n");
    for (status, executed) in [("200 OK", Executed::Yes), ("503 Service Unavailable", Executed::Unknown)] {
        check(&answer(status, &coded, "secret"), Code::Internal, executed, &["`content-encoding: gzip`", "proxy"])
            .await;
    }
    let lines = format!("{coded}content-type: application/x-ndjson\r\n");
    let server = Foreign::ending_after(answer("200 OK", &lines, "secret")).await;
    let error = rpc(within(server.client().stream::<u8>("f", ()).next()).await.unwrap());
    assert_eq!((error.code(), error.executed()), (Code::Internal, Executed::Yes));
    assert!(error.message().contains("`content-encoding: gzip`"), "{error}");
    let identity = format!("{BYNAME}content-encoding: Identity\r\n");
    assert_eq!(f(&Foreign::answering(answer("200 OK", &identity, "{\"ret\": 1}")).await.client()).await, Ok(1));
}

#[tokio::test]
async fn where_nothing_listens_the_call_did_not_run_and_the_error_asks_for_the_server() {
    let (_socket, address) = nothing_there();
    let mut log = Log::new();
    let error = rpc(f(&Client::new(&address).unwrap()).await);
    assert_eq!((error.code(), error.executed()), (Code::Unavailable, Executed::No));
    for words in ["is the server running there?", &format!("http://{address}/rpc"), "can't connect"] {
        assert!(error.message().contains(words), "{error}");
    }
    assert!(error.message().contains("Connection refused"), "the system's own words are in it: {error}");
    let again = log.lines().into_iter().filter(|line| line.contains("sending `f` again")).count();
    assert_eq!(again, 2, "three attempts, whatever the function");
}

#[tokio::test]
async fn calls_of_which_nothing_was_sent_take_nothing_from_the_budget() {
    let (_socket, address) = nothing_there();
    let mut log = Log::new();
    let client = Client::new(&address).unwrap();
    let calls: JoinSet<_> = (0..20).map(|_| client.call::<u8>("f", ())).collect();
    for result in within(calls.join_all()).await {
        let error = rpc(result);
        assert_eq!((error.executed(), error.allows_retry()), (Executed::No, true));
    }
    let again = log.lines().into_iter().filter(|line| line.contains("sending `f` again")).count();
    assert_eq!(again, 40, "three attempts for each, and the budget would have allowed ten repetitions");
}

#[tokio::test]
async fn a_server_that_comes_up_between_two_attempts_is_found() {
    let (socket, address) = nothing_there();
    let mut log = Log::new();
    let client = Client::new(&address).unwrap();
    let mut call = client.call::<u8>("one", ());
    crate::harness::foreign::during(&mut call, log.until("sending `one` again")).await;
    socket.listen(16).unwrap();
    let server = Server::new().function("one", || async { 1u8 });
    let bound = server.serve(std::net::TcpListener::from(socket)).bind().await.unwrap();
    let service = tokio::spawn(bound.into_future());
    assert_eq!(within(call).await, Ok(1));
    service.abort();
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_accept_costs_the_time_to_connect_and_names_the_knob() {
    let (socket, address) = nothing_there();
    let full = crowded(&socket);
    let client = Client::builder(&address).limits(|limits| limits.connect = Duration::from_secs(2)).build().unwrap();
    let error = rpc(client.call::<u8>("f", ()).await);
    assert_eq!((error.code(), error.executed()), (Code::Unavailable, Executed::No), "{error}");
    assert_eq!(error.limit(), Some("connect"));
    assert!(error.message().contains("2s (`Limits::connect`)"), "{error}");

    let error = rpc(client.call::<u8>("f", ()).timeout(Duration::from_secs(1)).await);
    assert_eq!((error.code(), error.executed()), (Code::DeadlineExceeded, Executed::No), "{error}");
    assert!(error.message().contains("it was not sent"), "{error}");
    drop(full);
}

#[tokio::test]
async fn a_client_connects_to_the_address_that_answers() {
    let peer = || async { Context::current().unwrap().peer().unwrap().address.ip().unwrap().to_string() };
    let running = Running::new(Server::new().function("peer", peer)).await;
    let client = Client::new(format!("localhost:{}", running.address.port())).unwrap();
    assert_eq!(within(client.call::<String>("peer", ())).await, Ok("127.0.0.1".to_owned()));
}

/// What reports print: an error and its sources, one behind the other.
#[tokio::test]
async fn an_error_report_contains_each_part_once() {
    let server = Foreign::answering(answer("503 Service Unavailable", "", "")).await;
    let refused = server.client().call::<u8>("add", ()).await.unwrap_err();
    let error = refused.rpc().unwrap().clone();
    let said = "unavailable: `add` was answered 503 Service Unavailable: a proxy has no server to pass the call to, or the \
                server is not up";
    assert_eq!(format!("{:#}", anyhow::Error::from(refused)), said);
    assert_eq!(format!("{:#}", anyhow::Error::from(error)), said);
    let own = anyhow::Error::from(CallError::Method("no"));
    assert_eq!(format!("{own:#}"), "the function returned \"no\"");

    // The operating system's words are in the message. Nobody listens at this address, and it is taken.
    let (_socket, address) = nothing_there();
    let taken = Server::new().serve(&*address).until(std::future::pending()).bind().await.unwrap_err();
    let refused = Client::new(&address).unwrap().call::<u8>("add", ()).await.unwrap_err();
    for (error, words) in [(anyhow::Error::from(taken), "in use"), (anyhow::Error::from(refused), "refused")] {
        let report = format!("{error:#}");
        assert_eq!((report.as_str(), report.matches(words).count()), (error.to_string().as_str(), 1));
    }
}
