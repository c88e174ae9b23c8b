//! Invalid HTTP/1. For any bytes, one request is never read as two, the answer says what was wrong, and bytes after an
//! ambiguous request are not read. `docs/reliability.md` lists the verdicts.

use crate::harness::{Caller, Running, everything, get, post, raw, within};
use byname::rpc;
use tokio::io::AsyncWriteExt;

/// Ends the connection by a call that would be counted, so that a request which was smuggled in shows.
const LAST: &str =
    "POST /rpc/counter.bump HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\nconnection: close\r\n\r\n[]";

/// The statuses of all answers to these bytes and to one more call behind them, which is missing where the server
/// closed before it.
async fn statuses(running: &Running, bytes: impl AsRef<[u8]>) -> Vec<u16> {
    let mut caller = Caller::to(running.address).await;
    caller.send([bytes.as_ref(), LAST.as_bytes()].concat()).await;
    let answers = caller.rest().await;
    // No body has these words in it.
    let heads = answers.split("HTTP/1.1 ").skip(1);
    heads.map(|answer| answer[..3].parse().unwrap_or_else(|_| panic!("{answers:?}"))).collect()
}

/// How often the counter was bumped.
async fn bumped(running: &Running) -> usize {
    raw(running.address, get("/rpc/counter.total")).await.body.parse().unwrap()
}

/// A call of `nothing` with these headers, each with its line's end, and this body.
fn nothing(headers: &str, body: &str) -> String {
    format!("POST /rpc/nothing HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n{body}")
}

/// Each of these is answered by this status and by nothing else, for the connection ends.
async fn refused<B: AsRef<[u8]>>(status: u16, cases: impl IntoIterator<Item = B>) {
    let running = Running::new(everything()).await;
    for bytes in cases {
        let bytes = bytes.as_ref();
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
        assert_eq!(statuses(&running, bytes).await, [status], "{shown:?}");
    }
    assert_eq!(bumped(&running).await, 0, "a request was read out of another's bytes");
}

/// Each of these is one request that is answered by this status, and the connection goes on.
async fn understood<B: AsRef<[u8]>>(status: u16, cases: impl IntoIterator<Item = B>) {
    let running = Running::new(everything()).await;
    let mut count = 0;
    for bytes in cases {
        count += 1;
        let shown = String::from_utf8_lossy(bytes.as_ref()).into_owned();
        assert_eq!(statuses(&running, bytes).await, [status, 200], "{shown:?}");
    }
    assert_eq!(bumped(&running).await, count, "the last call of each connection, and no other");
}

// Where a body ends.

#[tokio::test]
async fn an_invalid_or_contradictory_length_is_400_and_closed() {
    let lengths = [
        "+2",
        "-2",
        "2_0",
        "0x2",
        "2.0",
        "2e0",
        "2;",
        "2,3",
        "\"2\"",
        "two",
        "2 2",
        "\u{664}",
        "18446744073709551616",
        "99999999999999999999999999",
    ];
    refused(400, lengths.map(|length| nothing(&format!("content-length: {length}\r\n"), "[]"))).await;
    // hyper keeps the two highest numbers for itself.
    refused(
        431,
        ["18446744073709551615", "18446744073709551614"]
            .map(|most| nothing(&format!("content-length: {most}\r\n"), "[]")),
    )
    .await;
    let twice = ["content-length: 2\r\ncontent-length: 3\r\n", "content-length: 0\r\nContent-Length: 2\r\n"];
    refused(400, twice.map(|headers| nothing(headers, "[]"))).await;
}

#[tokio::test]
async fn a_repeated_equal_length_counts_once() {
    let headers = ["content-length: 2\r\nCONTENT-LENGTH: 2\r\n", "content-length: 0002\r\n", "content-length:2\r\n"];
    understood(200, headers.map(|headers| nothing(headers, "[]"))).await;
}

#[tokio::test]
async fn a_transfer_coding_other_than_one_chunked_is_400_and_closed() {
    let chunks = "2\r\n[]\r\n0\r\n\r\n";
    let codings = [
        "xchunked",
        "chunkedx",
        "identity",
        "gzip",
        "chunked, identity",
        "chunked, gzip",
        "gzip, chunked",
        "x, chunked",
        "chunked, chunked",
        "chunked,",
        ",chunked",
        "chunked;q=1",
        "\"chunked\"",
        "chunked\u{a0}",
        "chun ked",
        "",
    ];
    refused(400, codings.map(|coding| nothing(&format!("transfer-encoding: {coding}\r\n"), chunks))).await;
    let twice = [
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
        "transfer-encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
    ];
    refused(400, twice.map(|headers| nothing(headers, chunks))).await;
}

#[tokio::test]
async fn chunked_is_read_in_any_case() {
    let chunks = "2\r\n[]\r\n0\r\n\r\n";
    let codings = ["chunked", "Chunked", "CHUNKED", " chunked", "chunked \t"];
    understood(200, codings.map(|coding| nothing(&format!("transfer-encoding:{coding}\r\n"), chunks))).await;
}

#[tokio::test]
async fn a_length_beside_a_transfer_coding_gets_one_answer_and_closes() {
    let running = Running::new(everything()).await;
    let chunks = "2\r\n[]\r\n0\r\n\r\n";
    for length in ["0", "2", "12", "1000"] {
        for headers in [
            format!("content-length: {length}\r\ntransfer-encoding: chunked\r\n"),
            format!("transfer-encoding: chunked\r\ncontent-length: {length}\r\n"),
        ] {
            assert_eq!(statuses(&running, nothing(&headers, chunks)).await, [200], "{headers:?}");
        }
    }
    assert_eq!(bumped(&running).await, 0);
}

#[tokio::test]
async fn http_1_0_has_no_transfer_coding() {
    let running = Running::new(everything()).await;
    for (headers, body) in [
        ("transfer-encoding: chunked\r\n", "2\r\n[]\r\n0\r\n\r\n"),
        ("transfer-encoding: chunked\r\ncontent-length: 2\r\nconnection: keep-alive\r\n", "[]"),
    ] {
        let mut caller = Caller::to(running.address).await;
        let request = format!("POST /rpc/nothing HTTP/1.0\r\nhost: localhost\r\n{headers}\r\n{body}{LAST}");
        caller.send(request).await;
        let answer = caller.rest().await;
        assert!(answer.starts_with("HTTP/1.1 400 ") || answer.starts_with("HTTP/1.0 400 "), "{answer}");
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "{answer}");
    }
    assert_eq!(bumped(&running).await, 0);
}

// Chunks.

#[tokio::test]
async fn malformed_chunks_are_400_and_closed() {
    let deep = format!("2;{}\r\n[]\r\n0\r\n\r\n", "x=y;".repeat(256 << 10));
    let trailers = format!("2\r\n[]\r\n0\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    let fields = format!("2\r\n[]\r\n0\r\n{}\r\n", "x: y\r\n".repeat(200));
    let bodies = [
        "ffffffffffffffffff\r\n[]\r\n0\r\n\r\n",
        "10000000000000002\r\n[]\r\n0\r\n\r\n",
        "-2\r\n[]\r\n0\r\n\r\n",
        "+2\r\n[]\r\n0\r\n\r\n",
        "0x2\r\n[]\r\n0\r\n\r\n",
        "2_\r\n[]\r\n0\r\n\r\n",
        "g\r\n[]\r\n0\r\n\r\n",
        "\r\n[]\r\n0\r\n\r\n",
        " 2\r\n[]\r\n0\r\n\r\n",
        "2 2\r\n[]\r\n0\r\n\r\n",
        ";x\r\n[]\r\n0\r\n\r\n",
        "2\n[]\r\n0\r\n\r\n",
        "2;x\n[]\r\n0\r\n\r\n",
        "2\r\n[]\n0\r\n\r\n",
        "2\r\n[]0\r\n\r\n",
        "2\r\n[]]\r\n0\r\n\r\n",
        "2\r\n[]\r\n0\r\nno field\r\n\r\n",
        "2\r\n[]\r\n0\r\n: x\r\n\r\n",
        &deep,
        &trailers,
        &fields,
    ];
    refused(400, bodies.map(|body| nothing("transfer-encoding: chunked\r\n", body))).await;
}

#[tokio::test]
async fn a_chunk_larger_than_any_message_is_413_before_it_comes() {
    refused(
        413,
        ["ffffffffffffffff", "7fffffffffffffff", "0000000000400001"]
            .map(|size| nothing("transfer-encoding: chunked\r\n", &format!("{size}\r\n{}", " ".repeat(5 << 20)))),
    )
    .await;
}

#[tokio::test]
async fn chunks_may_have_leading_zeros_extensions_and_trailers_within_reason() {
    let bodies = [
        "2\r\n[]\r\n0\r\n\r\n",
        "0000000000000002\r\n[]\r\n000\r\n\r\n",
        "2 \r\n[]\r\n0\r\n\r\n",
        "2;x=y\r\n[]\r\n0;z\r\n\r\n",
        "1\r\n[\r\n1\r\n]\r\n0\r\nx: y\r\n\r\n",
        // A trailer has no effect: it is ignored.
        "2\r\n[]\r\n0\r\ncontent-length: 70\r\ntransfer-encoding: chunked\r\nhost: evil.test\r\n\r\n",
    ];
    understood(200, bodies.map(|body| nothing("transfer-encoding: chunked\r\n", body))).await;
}

// Headers.

#[tokio::test]
async fn a_malformed_host_is_400_and_the_connection_continues() {
    let hosts = [
        "",
        "a b",
        "localhost/",
        "localhost?x",
        "localhost#x",
        "me@localhost",
        "me:x@localhost",
        "@localhost",
        ":80",
        "localhost:80:80",
        "[::1",
        "::1",
        "localhost, localhost",
        "http://localhost",
        "loc\\alhost",
        "localhost\t80",
        "l\u{f6}calhost",
        "<localhost>",
        "%6cocalhost",
        "localhost%00.evil.test",
    ];
    let call = |headers: String| format!("POST /rpc/nothing HTTP/1.1\r\n{headers}content-length: 2\r\n\r\n[]");
    understood(400, hosts.map(|host| call(format!("host: {host}\r\n")))).await;
    let wrong = [
        "",
        "host: localhost\r\nhost: localhost\r\n",
        "host: localhost\r\nHOST: evil.test\r\n",
        "xhost: localhost\r\n",
    ];
    understood(400, wrong.map(|headers| call(headers.to_owned()))).await;
}

#[tokio::test]
async fn a_host_that_resembles_a_served_name_is_421() {
    let hosts = [
        "evil.test",
        "localhost.evil.test",
        "127.0.0.1.evil.test",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0.0.0.0",
        "[::]",
        "[::ffff:127.0.0.1]",
        "10.0.0.1:80",
        "xn--localhost",
    ];
    let call = |host| format!("POST /rpc/nothing HTTP/1.1\r\nhost: {host}\r\ncontent-length: 2\r\n\r\n[]");
    understood(421, hosts.map(call)).await;
}

#[tokio::test]
async fn a_malformed_header_is_400_and_closed() {
    let fields: [&[u8]; 16] = [
        b" content-length: 2\r\n",
        b"\tx: y\r\n",
        b"x: y\r\n z\r\n",
        b"x: y\r\n\tz\r\n",
        b"x : y\r\n",
        b"x\t: y\r\n",
        b": y\r\n",
        b"x\r\n",
        b"x y: z\r\n",
        b"x(y): z\r\n",
        b"x\0: y\r\n",
        b"x\xff: y\r\n",
        b"x: y\0z\r\n",
        b"x: y\rz\r\n",
        b"x: y\x01z\r\n",
        b"x: y\x7fz\r\n",
    ];
    let head = "POST /rpc/nothing HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n";
    refused(400, fields.map(|field| [head.as_bytes(), field, b"\r\n[]"].concat())).await;
}

#[tokio::test]
async fn a_header_may_be_of_any_text_and_a_line_may_end_without_cr() {
    let fields: [&[u8]; 5] =
        [b"x: \xff\xfe\r\n", b"x:\r\n", b"x: a\tb\r\n", b"!#$%&'*+-.^_`|~: y\r\n", b"x: y\nz: w\n"];
    let head = "POST /rpc/nothing HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n";
    understood(200, fields.map(|field| [head.as_bytes(), field, b"\r\n[]"].concat())).await;
}

#[tokio::test]
async fn a_malformed_request_line_is_400_and_closed() {
    let lines: [&[u8]; 13] = [
        b"POST /rpc/nothing\r\n",
        b"POST  /rpc/nothing HTTP/1.1\r\n",
        b"POST /rpc/nothing  HTTP/1.1\r\n",
        b"POST\t/rpc/nothing HTTP/1.1\r\n",
        b"POST /rpc/ nothing HTTP/1.1\r\n",
        b" POST /rpc/nothing HTTP/1.1\r\n",
        b"P(ST /rpc/nothing HTTP/1.1\r\n",
        b"POST /rpc/\0 HTTP/1.1\r\n",
        b"POST rpc/nothing HTTP/1.1\r\n",
        b"POST /rpc/nothing HTTP/1.10\r\n",
        b"POST /rpc/nothing HTTP/2.0\r\n",
        b"POST /rpc/nothing http/1.1\r\n",
        b"POST /rpc/nothing HTTP/1.1 x\r\n",
    ];
    refused(400, lines.map(|line| [line, b"host: localhost\r\ncontent-length: 2\r\n\r\n[]"].concat())).await;
}

#[tokio::test]
async fn paths_are_compared_byte_for_byte() {
    let call = |path: &str| format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n[]");
    let elsewhere = [
        "/",
        "//rpc/nothing",
        "/RPC/nothing",
        "/rpc//nothing",
        "/rpc/./nothing",
        "/rpc/../rpc/nothing",
        "/rpc/%6eothing",
        "/rpc/nothing/",
        "/rpc/nothing;x",
        "/rpc/Nothing",
        "/rpc/nothing%00",
        "/rpcx/nothing",
        "/%72pc/nothing",
        "/rpc/!",
        "/rpc/!live/",
        "*",
    ];
    understood(404, elsewhere.map(call)).await;
    understood(200, ["/rpc/nothing", "/rpc/nothing?", "/rpc/nothing?x=y", "http://localhost/rpc/nothing"].map(call))
        .await;
}

// Bodies that nobody asked for.

#[tokio::test]
async fn the_body_of_a_get_is_not_read_as_a_request() {
    let smuggled = post("/rpc/counter.bump", "[]");
    let length = smuggled.len();
    let running = Running::new(everything()).await;
    for path in ["/rpc/add?a=1&b=2", "/rpc/none", "/rpc/!live", "/rpc", "/elsewhere", "/rpc/nothing"] {
        for headers in [format!("content-length: {length}\r\n"), "transfer-encoding: chunked\r\n".to_owned()] {
            let body = match headers.starts_with('c') {
                true => smuggled.clone(),
                false => format!("{length:x}\r\n{smuggled}\r\n0\r\n\r\n"),
            };
            let before = bumped(&running).await;
            let statuses =
                statuses(&running, format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n{body}")).await;
            assert!(statuses.len() <= 2, "{path} {headers}: {statuses:?}");
            assert_eq!(bumped(&running).await - before, statuses.len() - 1, "{path} {headers}: {statuses:?}");
        }
    }
}

#[tokio::test]
async fn the_body_of_a_rejected_call_is_not_read_as_a_request() {
    let running = Running::new(everything()).await;
    let smuggled = post("/rpc/counter.bump", "[]");
    for (head, status) in [
        ("POST /rpc/nothing HTTP/1.1\r\nhost: evil.test\r\n", 421),
        ("POST /rpc/nothing HTTP/1.1\r\n", 400),
        ("POST /rpc/nothing HTTP/1.1\r\nhost: localhost\r\norigin: http://evil.test\r\n", 403),
        ("POST /rpc/nothing HTTP/1.1\r\nhost: localhost\r\ncontent-encoding: gzip\r\n", 415),
        ("POST /rpc/nothing HTTP/1.1\r\nhost: localhost\r\nbyname-timeout-ms: x\r\n", 400),
        ("PUT /rpc/nothing HTTP/1.1\r\nhost: localhost\r\n", 405),
        ("POST /elsewhere HTTP/1.1\r\nhost: localhost\r\n", 404),
    ] {
        let before = bumped(&running).await;
        let request = format!("{head}content-length: {}\r\n\r\n{smuggled}", smuggled.len());
        let statuses = statuses(&running, request).await;
        assert_eq!(statuses[0], status, "{head}");
        assert!(statuses.len() <= 2, "{head}: {statuses:?}");
        assert_eq!(bumped(&running).await - before, statuses.len() - 1, "{head}: {statuses:?}");
    }
}

/// Calls that are answered before their bodies are read, each with the status.
const REFUSED_EARLY: [(&str, u16); 12] = [
    ("POST /rpc/nothing HTTP/1.1\r\n", 400),
    ("POST /rpc/nothing HTTP/1.1\r\nhost: evil.test\r\n", 421),
    ("POST /rpc/nothing HTTP/1.1\r\nhost: localhost\r\norigin: http://evil.test\r\n", 403),
    ("POST /rpc/nothing HTTP/1.1\r\nhost: localhost\r\ncontent-encoding: gzip\r\n", 415),
    ("POST /rpc HTTP/1.1\r\nhost: localhost\r\nsec-fetch-site: same-origin\r\ncontent-type: text/plain\r\n", 415),
    ("POST /rpc/nothing HTTP/1.1\r\nhost: localhost\r\nbyname-timeout-ms: x\r\n", 400),
    ("PUT /rpc/nothing HTTP/1.1\r\nhost: localhost\r\n", 405),
    ("PUT /rpc HTTP/1.1\r\nhost: localhost\r\n", 405),
    ("POST /elsewhere HTTP/1.1\r\nhost: localhost\r\n", 404),
    ("GET /rpc/add?a=1&b=2 HTTP/1.1\r\nhost: localhost\r\n", 200),
    ("GET /rpc/!live HTTP/1.1\r\nhost: localhost\r\n", 200),
    ("POST /rpc/sum?x=%ff HTTP/1.1\r\nhost: localhost\r\n", 400),
];

#[rpc]
async fn sum(numbers: byname::Streaming<i64>) -> i64 {
    let mut numbers = numbers;
    let mut sum = 0;
    while let Some(number) = numbers.next().await {
        sum += number.unwrap_or(0);
    }
    sum
}

#[tokio::test]
async fn the_body_of_a_refused_call_may_come_after_its_head() {
    let running = Running::new(everything().method::<sum>().limits(|limits| limits.message = 1000)).await;
    let too_large = ("POST /rpc/nothing HTTP/1.1\r\nhost: localhost\r\n", 413);
    let body = " ".repeat(1001);
    let (length, chunked) = (format!("content-length: {}", body.len()), "transfer-encoding: chunked");
    let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    for (head, status) in REFUSED_EARLY.into_iter().chain([too_large]) {
        for (framing, body) in [(length.as_str(), &body), (chunked, &chunks)] {
            let mut caller = Caller::to(running.address).await;
            caller.send(format!("{head}{framing}\r\n\r\n")).await;
            // Meanwhile the server has seen the head.
            assert_eq!(raw(running.address, post("/rpc/nothing", "")).await.status, 200);
            caller.send(body).await;
            let answer = caller.answer().await;
            assert_eq!(answer.status, status, "{head}{framing}: {answer:?}");
            // It goes on where the body came in time, as it does unless this machine is very busy.
            if answer.header("connection") == "close" {
                assert_eq!(caller.rest().await, "", "{head}{framing}");
            } else {
                assert_eq!(caller.ask(post("/rpc/add", "[1,2]")).await.body, "3", "{head}{framing}");
            }
        }
    }
}

#[tokio::test]
async fn a_refused_call_whose_body_is_long_or_does_not_come_ends_its_connection_and_says_so() {
    let running = Running::new(everything().method::<sum>()).await;
    let body = " ".repeat(1 << 20);
    for (head, status) in REFUSED_EARLY {
        let long = format!("{head}content-length: {}\r\n\r\n", body.len());
        let chunks = format!("{head}transfer-encoding: chunked\r\n\r\n");
        let chunk = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        for (head, body) in [(&long, &body), (&chunks, &chunk)] {
            let mut caller = Caller::to(running.address).await;
            caller.send(head).await;
            // All of it is taken, so that the answer is not lost.
            let sent = caller.stream.write_all(body.as_bytes()).await;
            let answer = caller.answer().await;
            assert_eq!((answer.status, answer.header("connection")), (status, "close"), "{head}: {answer:?}");
            assert!(sent.is_ok(), "{head}: {sent:?}");
            assert_eq!(caller.rest().await, "", "{head}");
        }
    }
    let mut caller = Caller::to(running.address).await;
    caller.send("PUT /rpc/nothing HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n").await;
    let answer = caller.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (405, "close"), "it did not come: {answer:?}");
    caller.send("0123456789").await;
    assert_eq!(caller.rest().await, "");
}

#[tokio::test]
async fn a_stream_that_is_not_read_to_its_end_ends_its_connection_and_says_so() {
    let running = Running::new(everything().method::<sum>().method::<first>()).await;
    // It is all there.
    let mut caller = Caller::to(running.address).await;
    assert_eq!(caller.ask(post("/rpc/first", "1\n2\n3\n")).await.body, "1");
    assert_eq!(caller.ask(post("/rpc/sum", "1\n2\n3\n")).await.body, "6");
    // More of it would come.
    for path in ["/rpc/first", "/rpc/sum?factor=2"] {
        let mut caller = Caller::to(running.address).await;
        caller.send(format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n1\n2\n")).await;
        let answer = caller.answer().await;
        assert_eq!(answer.header("connection"), "close", "{path}: {answer:?}");
        caller.send(" ".repeat(96)).await;
        assert_eq!(caller.rest().await, "");
    }
}

#[rpc]
async fn first(numbers: byname::Streaming<i64>) -> i64 {
    let mut numbers = numbers;
    numbers.next().await.unwrap().unwrap()
}

#[tokio::test]
async fn a_malformed_request_loses_no_answer_of_earlier_calls() {
    let running = Running::new(everything()).await;
    let good = post("/rpc/counter.bump", "[]");
    let bad = "POST /rpc/counter.bump HTTP/1.1\r\nhost: localhost\r\ncontent-length: x\r\n\r\n";
    let all = [good.repeat(500), bad.to_owned(), good.repeat(499)].concat();
    for round in 1..=20 {
        let mut caller = Caller::to(running.address).await;
        caller.send(&all).await;
        for nth in 1..=500 {
            assert_eq!(caller.answer().await.body, (500 * (round - 1) + nth).to_string());
        }
        let refused = caller.answer().await;
        assert_eq!((refused.status, refused.header("connection")), (400, "close"));
        assert_eq!(caller.rest().await, "");
    }
    assert_eq!(bumped(&running).await, 20 * 500);
}

#[tokio::test]
async fn a_rejected_body_behind_expect_continue_is_not_read_as_a_request() {
    let running = Running::new(everything().limits(|limits| limits.message = 1000)).await;
    let smuggled = post("/rpc/counter.bump", "[]");
    for (headers, status) in [
        ("content-encoding: gzip\r\ncontent-length: 70\r\n", 415),
        ("content-length: 1001\r\n", 413),
        ("origin: http://evil.test\r\ncontent-length: 70\r\n", 403),
        ("content-encoding: gzip\r\ntransfer-encoding: chunked\r\n", 415),
    ] {
        let mut caller = Caller::to(running.address).await;
        let head = format!("POST /rpc/nothing HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\n{headers}\r\n");
        let answer = caller.ask(head).await;
        assert_eq!((answer.status, answer.header("connection")), (status, "close"), "{headers}");
        // A client that heard the refusal sends no body, and its next call must not be taken for one.
        caller.send(&smuggled).await;
        assert_eq!(caller.rest().await, "", "{headers}: the connection had ended");
    }
    assert_eq!(bumped(&running).await, 0);
}

#[tokio::test]
async fn an_unknown_expectation_is_ignored() {
    let headers = ["expect: 200-ok\r\n", "expect: \r\n", "expect: 100-continue, x\r\n"];
    understood(200, headers.map(|header| nothing(&format!("{header}content-length: 2\r\n"), "[]"))).await;
}

#[tokio::test]
async fn an_upgrade_is_not_taken() {
    let upgrades = [
        "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n",
        "connection: upgrade\r\nupgrade: TLS/1.0\r\n",
    ];
    understood(200, upgrades.map(|headers| nothing(&format!("{headers}content-length: 2\r\n"), "[]"))).await;
    let connect = "CONNECT localhost:80 HTTP/1.1\r\nhost: localhost:80\r\n\r\n";
    let running = Running::new(everything()).await;
    let statuses = statuses(&running, connect).await;
    assert_eq!(statuses[0], 501, "there is no tunnel");
    assert_eq!(bumped(&running).await, statuses.len() - 1);
}

// What hyper says itself.

#[tokio::test]
async fn an_answer_of_the_http_parser_has_no_body_and_no_header_of_the_protocol() {
    let running = Running::new(everything()).await;
    for (bytes, status) in [
        ("nonsense\r\n\r\n".to_owned(), 400),
        (get(&format!("/rpc/add?{}", "x".repeat(100_000))), 431),
        (format!("GET /rpc/add HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "x: y\r\n".repeat(101)), 431),
    ] {
        let mut caller = Caller::to(running.address).await;
        caller.send(bytes).await;
        let answer = caller.answer().await;
        assert_eq!((answer.status, answer.body.as_str()), (status, ""));
        assert_eq!((answer.header("byname-protocol"), answer.header("connection")), ("", "close"), "{answer:?}");
        assert_eq!(caller.rest().await, "");
    }
}

#[tokio::test]
async fn a_thousand_requests_sent_ahead_are_answered_one_by_one() {
    let running = Running::new(everything()).await;
    let mut caller = Caller::to(running.address).await;
    caller.send(post("/rpc/counter.bump", "[]").repeat(1000)).await;
    for nth in 1..=1000 {
        assert_eq!(within(caller.answer()).await.body, nth.to_string());
    }
}
