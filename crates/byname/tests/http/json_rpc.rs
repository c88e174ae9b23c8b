//! JSON-RPC 2.0 for clients that are not byname's.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::harness::{Caller, Gate, Log, Raw, Running, everything, get, post, post_with, raw, verb, within};
use byname::{Code, Context, Error, Next, Request, Server};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::Barrier;

/// One request as text; `more` is what stands behind the method.
fn call(method: &str, more: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"{method}"{more}}}"#)
}

fn batch<S: AsRef<str>>(calls: impl IntoIterator<Item = S>) -> String {
    let calls: Vec<_> = calls.into_iter().map(|call| call.as_ref().to_owned()).collect();
    format!("[{}]", calls.join(","))
}

/// What a body is answered, which is always 200.
async fn ask(running: &Running, body: impl AsRef<str>) -> Value {
    let answer = raw(running.address, post("/rpc", body.as_ref())).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"), "{answer:?}");
    answer.json()
}

#[track_caller]
fn is_nothing(answer: &Raw) {
    assert_eq!((answer.status, answer.body.as_str(), answer.header("content-type")), (204, "", ""), "{answer:?}");
    assert_eq!(answer.header("byname-protocol"), "1", "{answer:?}");
}

/// Checks a reply that is an error, and gives its ERROR.
#[track_caller]
fn error(reply: &Value, id: impl Into<Value>, code: i32) -> &Value {
    assert_eq!(reply.as_object().map(|members| members.len()), Some(3), "{reply}");
    assert_eq!((&reply["jsonrpc"], &reply["id"]), (&json!("2.0"), &id.into()), "{reply}");
    let (error, whole) = (&reply["error"], &reply["error"]["data"]);
    assert_eq!((&error["code"], &error["message"]), (&json!(code), &whole["message"]), "{reply}");
    serde_json::from_value::<Error>(whole.clone()).expect("`data` is ERROR");
    whole
}

fn of_the_specification() -> Server {
    Server::new()
        .method::<subtract>()
        .function("sum", |a: i64, b: i64, c: i64| async move { a + b + c })
        .function("notify_sum", |_: i64, _: i64, _: i64| async {})
        .function("update", |_: i64, _: i64, _: i64, _: i64, _: i64| async {})
        .function("notify_hello", |_: i64| async {})
        .function("get_data", || async { ("hello", 5) })
}

#[byname::rpc(readonly)]
async fn subtract(minuend: i64, subtrahend: i64) -> i64 {
    minuend - subtrahend
}

/// A reply with its error's code alone: the specification leaves `data` to us, and the words.
fn in_short(reply: &Value) -> Value {
    match reply["error"]["code"].as_i64() {
        Some(code) => json!({"jsonrpc": reply["jsonrpc"], "error": code, "id": reply["id"]}),
        None => reply.clone(),
    }
}

#[tokio::test]
async fn the_examples_of_the_specification() {
    let result = |result: Value, id: Value| json!({"jsonrpc": "2.0", "result": result, "id": id});
    let fails = |code: i32, id: Value| json!({"jsonrpc": "2.0", "error": code, "id": id});
    let nothing = Value::Null;
    let running = Running::new(of_the_specification()).await;
    let mut caller = Caller::to(running.address).await;
    for (body, expected) in [
        // By position.
        (r#"{"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}"#, result(json!(19), json!(1))),
        (r#"{"jsonrpc": "2.0", "method": "subtract", "params": [23, 42], "id": 2}"#, result(json!(-19), json!(2))),
        // By name.
        (
            r#"{"jsonrpc": "2.0", "method": "subtract", "params": {"subtrahend": 23, "minuend": 42}, "id": 3}"#,
            result(json!(19), json!(3)),
        ),
        (
            r#"{"jsonrpc": "2.0", "method": "subtract", "params": {"minuend": 42, "subtrahend": 23}, "id": 4}"#,
            result(json!(19), json!(4)),
        ),
        // Notifications, of a method and of none.
        (r#"{"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}"#, nothing.clone()),
        (r#"{"jsonrpc": "2.0", "method": "foobar"}"#, nothing.clone()),
        // A method that there is not.
        (r#"{"jsonrpc": "2.0", "method": "foobar", "id": "1"}"#, fails(-32601, json!("1"))),
        // No JSON.
        (r#"{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]"#, fails(-32700, json!(null))),
        // No request.
        (r#"{"jsonrpc": "2.0", "method": 1, "params": "bar"}"#, fails(-32600, json!(null))),
        // A batch that is not JSON.
        (
            r#"[
                {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},
                {"jsonrpc": "2.0", "method"
            ]"#,
            fails(-32700, json!(null)),
        ),
        // A batch of nothing.
        ("[]", fails(-32600, json!(null))),
        // Batches of items that are not requests.
        ("[1]", json!([fails(-32600, json!(null))])),
        ("[1,2,3]", json!([fails(-32600, json!(null)), fails(-32600, json!(null)), fails(-32600, json!(null))])),
        // A batch of everything.
        (
            r#"[
                {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},
                {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},
                {"jsonrpc": "2.0", "method": "subtract", "params": [42,23], "id": "2"},
                {"foo": "boo"},
                {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},
                {"jsonrpc": "2.0", "method": "get_data", "id": "9"}
            ]"#,
            json!([
                result(json!(7), json!("1")),
                result(json!(19), json!("2")),
                fails(-32600, json!(null)),
                fails(-32601, json!("5")),
                result(json!(["hello", 5]), json!("9")),
            ]),
        ),
        // A batch of notifications.
        (
            r#"[
                {"jsonrpc": "2.0", "method": "notify_sum", "params": [1,2,4]},
                {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]}
            ]"#,
            nothing,
        ),
    ] {
        let answer = caller.ask(post("/rpc", body)).await;
        if expected.is_null() {
            is_nothing(&answer);
            continue;
        }
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"), "{body}: {answer:?}");
        let came = match answer.json() {
            Value::Array(replies) => replies.iter().map(in_short).collect(),
            reply => in_short(&reply),
        };
        assert_eq!(came, expected, "{body}");
    }
}

#[tokio::test]
async fn an_answer_has_exactly_the_bytes_of_the_protocol() {
    let running = Running::new(everything()).await;
    let answer = async |body: &str| raw(running.address, post("/rpc", body)).await.body;
    let add = |id: &str| call("add", &format!(r#", "params": [1,2], "id": {id}"#));
    for id in ["1", "1.0", "1e3", "-0", "12345678901234567890123", "null", r#""a\u0062\/""#, "\"Zoë 🦀\"", "\"\""] {
        assert_eq!(answer(&add(id)).await, format!(r#"{{"jsonrpc":"2.0","result":3,"id":{id}}}"#));
    }
    let both = batch([add("1.0"), add("1")]);
    assert_eq!(answer(&both).await, r#"[{"jsonrpc":"2.0","result":3,"id":1.0},{"jsonrpc":"2.0","result":3,"id":1}]"#);
    assert_eq!(
        answer(&call("withdraw", r#","params":["ada",101],"id":"w""#)).await,
        r#"{"jsonrpc":"2.0","error":{"code":-32000,"message":"`withdraw` returned its own error: {\"Overdrawn\":{\"by\":1}}","data":{"code":"failed_precondition","message":"`withdraw` returned its own error: {\"Overdrawn\":{\"by\":1}}","executed":"yes","kind":"method","data":{"Overdrawn":{"by":1}}}},"id":"w"}"#
    );
}

#[tokio::test]
async fn every_code_has_its_number() {
    let server = Server::new().function("fail", |code: Code| async move { Err::<(), _>(Error::new(code, "as asked")) });
    let running = Running::new(server).await;
    for (at, code) in Code::ALL.into_iter().enumerate() {
        let reply = ask(&running, call("fail", &format!(r#","params":["{code}"],"id":{at}"#))).await;
        let whole = error(&reply, at, code.json_rpc_code());
        assert_eq!((&whole["code"], &whole["executed"]), (&json!(code), &json!("yes")), "{reply}");
    }
}

#[tokio::test]
async fn an_invalid_request_is_rejected_and_nothing_runs() {
    let running = Running::new(everything()).await;
    for (body, code, words) in [
        (call("counter.bump", r#","id":1,"id":1"#), -32600, "duplicate field `id`"),
        (call("counter.bump", r#","params":[1],"params":[2]"#), -32600, "duplicate field `params`"),
        (call("counter.bump", r#","jsonrpc":"2.0""#), -32600, "duplicate field `jsonrpc`"),
        (call("counter.bump", r#","kwargs":{}"#), -32600, "unknown field `kwargs`"),
        (call("counter.bump", r#","id":true"#), -32600, "`id` must be"),
        (call("counter.bump", r#","id":{}"#), -32600, "`id` must be"),
        (call("counter.bump", r#","params":1"#), -32600, "`params` must be"),
        (r#"{"jsonrpc":"1.0","method":"counter.bump"}"#.into(), -32600, "`jsonrpc` must be \"2.0\""),
        (r#"{"jsonrpc":2.0,"method":"counter.bump"}"#.into(), -32600, "`jsonrpc` must be \"2.0\""),
        (r#"{"jsonrpc":null,"fun":"counter.bump"}"#.into(), -32600, "unknown field `fun`"),
        (r#"{"jsonrpc":"2.0","params":[]}"#.into(), -32600, "missing field `method`"),
        (call("counter.bump", "") + "x", -32700, "trailing characters"),
        (call("counter.bump", r#","params":[1"#), -32700, "expected"),
        (batch([call("counter.bump", ""), "{".into()]), -32700, "Parse error"),
        ("[".repeat(100_000), -32700, "EOF"),
    ] {
        let reply = ask(&running, &body).await;
        let whole = error(&reply, Value::Null, code);
        assert_eq!((&whole["code"], &whole["executed"]), (&json!("invalid_argument"), &json!("no")), "{body}");
        assert!(whole["message"].as_str().unwrap().contains(words), "{body}: {reply}");
    }
    assert_eq!(raw(running.address, get("/rpc/counter.total")).await.body, "0");

    // With an id beyond doubt it comes back.
    for body in
        [r#"{"jsonrpc":"1.0","method":"add","id":"x"}"#, r#"{"jsonrpc":"2.0","method":"add","parms":[],"id":"x"}"#]
    {
        error(&ask(&running, body).await, "x", -32600);
    }
}

#[tokio::test]
async fn names_and_arguments_are_refused_as_on_the_other_ways() {
    let running = Running::new(everything()).await;
    for (body, code, words) in [
        (call("addd", r#","id":7"#), -32601, "did you mean `add`"),
        (call("rpc.discovery", r#","id":7"#), -32601, "no function is named"),
        (call(&"x".repeat(1 << 20), r#","id":7"#), -32601, "no function is named"),
        (call("", r#","id":7"#), -32601, "no function is named"),
        (call("add", r#","id":7"#), -32602, "argument `a` is missing"),
        (call("add", r#","params":{"a":1,"b":2,"a":1},"id":7"#), -32602, "argument `a` is given twice"),
        (call("echo", r#","params":[18446744073709551616],"id":7"#), -32602, "more than 64 bits"),
        (call("panics", r#","params":["secret"],"id":7"#), -32603, "`panics` panicked"),
    ] {
        let reply = ask(&running, &body).await;
        let message = error(&reply, 7, code)["message"].as_str().unwrap();
        assert!(message.contains(words) && message.len() < 500, "{message}");
    }
    let deep = |depth: usize| format!(r#","params":{}{},"id":7"#, "[".repeat(depth), "]".repeat(depth));
    let answer = raw(running.address, post("/rpc", &call("echo", &deep(128)))).await;
    assert!(answer.body.starts_with(r#"{"jsonrpc":"2.0","result":[[["#), "{answer:?}");
    let reply = ask(&running, call("echo", &deep(129))).await;
    assert_eq!(error(&reply, 7, -32602)["limit"], "nesting");
    let reply = ask(&running, batch([call("echo", &deep(100_000)), call("nothing", r#","id":8"#)])).await;
    assert_eq!((error(&reply[0], 7, -32602)["limit"].as_str(), &reply[1]["result"]), (Some("nesting"), &Value::Null));

    let same = r#"["Zoë 🦀\u0000",9007199254740993,-9223372036854775808,18446744073709551615,-0.0,1e+300]"#;
    let answer = raw(running.address, post("/rpc", &call("echo", &format!(r#","params":[{same}],"id":7"#)))).await;
    assert_eq!(answer.body, format!(r#"{{"jsonrpc":"2.0","result":{same},"id":7}}"#));
}

#[tokio::test]
async fn params_may_be_left_out_or_null() {
    let running = Running::new(everything()).await;
    for params in ["", r#","params":null"#, r#","params":[]"#, r#","params":{}"#, r#","ext":{"of":"what may come"}"#] {
        let reply = ask(&running, call("nothing", &format!(r#"{params},"id":1"#))).await;
        assert_eq!(reply, json!({"jsonrpc": "2.0", "result": null, "id": 1}));
    }
}

#[tokio::test]
async fn a_batch_beyond_its_limit_is_refused_as_a_whole() {
    let running = Running::new(everything()).await;
    let bumps = |count: usize, more: &str| batch(vec![call("counter.bump", more); count]);
    let reply = ask(&running, bumps(100, r#","id":1"#)).await;
    assert_eq!(reply.as_array().unwrap().len(), 100);
    assert_eq!(reply[99]["result"], 100);
    // Notifications and invalid requests count too.
    for body in [bumps(101, r#","id":1"#), bumps(101, ""), format!("[{}1]", "[],".repeat(100))] {
        let reply = ask(&running, body).await;
        let whole = error(&reply, Value::Null, Code::ResourceExhausted.json_rpc_code());
        assert_eq!((&whole["limit"], &whole["executed"]), (&json!("batch"), &json!("no")), "{reply}");
        assert!(whole["message"].as_str().unwrap().contains("101 requests, more than 100 (`Limits::batch`"), "{reply}");
    }
    assert_eq!(raw(running.address, get("/rpc/counter.total")).await.body, "100");

    let running = Running::new(everything().limits(|limits| limits.batch = 1)).await;
    assert_eq!(ask(&running, bumps(1, r#","id":1"#)).await[0]["result"], 1);
    error(&ask(&running, bumps(2, r#","id":1"#)).await, Value::Null, -32008);
}

#[tokio::test]
async fn nested_batches_are_not_requests() {
    let running = Running::new(everything()).await;
    let add = call("add", r#","params":[1,2],"id":1"#);
    let reply = ask(&running, format!("[[{add}],{add},[],[[[]]],{}{}]", "[".repeat(50_000), "]".repeat(50_000))).await;
    assert_eq!(reply[1]["result"], 3);
    for at in [0, 2, 3, 4] {
        error(&reply[at], Value::Null, -32600);
    }
}

/// A server whose function `meet` returns its argument once so many calls of it have come together.
fn meeting(count: usize) -> Server {
    let barrier = Arc::new(Barrier::new(count));
    everything().function("meet", move |number: i64| {
        let barrier = Arc::clone(&barrier);
        async move {
            barrier.wait().await;
            number
        }
    })
}

fn meet(number: i64) -> String {
    call("meet", &format!(r#","params":[{number}],"id":{number}"#))
}

#[tokio::test]
async fn the_calls_of_a_batch_run_at_once_and_are_answered_in_order() {
    // The second of more than a connection may otherwise have running.
    for count in [100, 300] {
        let running = Running::new(meeting(count as usize).limits(|limits| limits.batch = count as usize)).await;
        let replies = within(ask(&running, batch((0..count).map(meet)))).await;
        for (at, reply) in replies.as_array().unwrap().iter().enumerate() {
            assert_eq!((&reply["id"], &reply["result"]), (&json!(at), &json!(at)));
        }
    }
}

#[tokio::test]
async fn each_of_a_batch_counts_as_a_call_in_flight() {
    let server = Server::new().function("linger", || async { tokio::task::yield_now().await });
    let running = Running::new(server.limits(|limits| limits.in_flight = 2)).await;
    let linger = |count: usize| batch((0..count).map(|id| call("linger", &format!(r#","id":{id}"#))));
    let replies = ask(&running, linger(5)).await;
    for at in 0..2 {
        assert_eq!(replies[at], json!({"jsonrpc": "2.0", "result": null, "id": at}));
    }
    for at in 2..5 {
        let whole = error(&replies[at], at, Code::ResourceExhausted.json_rpc_code());
        assert_eq!((&whole["limit"], &whole["executed"]), (&json!("in_flight"), &json!("no")));
        assert!(whole["retry_after_ms"].is_u64(), "{whole}");
    }
    let again = ask(&running, linger(2)).await;
    assert_eq!(again[1].get("result"), Some(&Value::Null), "the places were given back");
}

#[tokio::test]
async fn a_failed_call_of_a_batch_affects_no_other() {
    let running = Running::new(everything()).await;
    let replies = ask(
        &running,
        batch([
            call("counter.bump", r#","id":1"#),
            call("panics", r#","params":["secret"],"id":2"#),
            call("counter.bump", r#","id":3"#),
            call("withdraw", r#","params":["bob",1],"id":4"#),
            call("panics", r#","params":["secret"]"#),
            call("add", r#","params":[1,"x"],"id":5"#),
            call("counter.bump", r#","id":6"#),
        ]),
    )
    .await;
    let results: Vec<_> = [0, 2, 5].map(|at| &replies[at]["result"]).into_iter().collect();
    assert_eq!(results, [1, 2, 3], "{replies}");
    assert_eq!(error(&replies[1], 2, -32603)["executed"], "yes");
    assert_eq!(error(&replies[3], 4, -32000)["data"], "NoSuchAccount");
    error(&replies[4], 5, -32602);
    assert!(!replies.to_string().contains("secret"), "{replies}");
}

#[tokio::test]
async fn a_notification_has_run_when_its_answer_comes() {
    let done = Arc::new(AtomicBool::new(false));
    let sets = Arc::clone(&done);
    let server = everything().function("takes_its_time", move || {
        let sets = Arc::clone(&sets);
        async move {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            sets.store(true, Ordering::SeqCst);
        }
    });
    let running = Running::new(server).await;
    let mut caller = Caller::to(running.address).await;
    for body in [call("takes_its_time", ""), batch([call("takes_its_time", ""), call("takes_its_time", "")])] {
        is_nothing(&caller.ask(post("/rpc", &body)).await);
        assert!(done.swap(false, Ordering::SeqCst), "{body}");
    }
}

#[tokio::test]
async fn a_notification_that_fails_is_not_answered_and_its_span_says_so() {
    let mut log = Log::new();
    let running = Running::new(everything()).await;
    let mut caller = Caller::to(running.address).await;
    for body in [
        call("panics", r#","params":["x"]"#),
        call("withdraw", r#","params":["bob",1]"#),
        call("add", ""),
        call("none", ""),
        call("rpc.x", ""),
        batch([call("withdraw", r#","params":["ada",101]"#), call("none", ""), call("add", r#","params":[1,2]"#)]),
    ] {
        is_nothing(&caller.ask(post("/rpc", &body)).await);
    }
    let spans = log.spans("rpc.serve");
    let codes: Vec<_> = spans.iter().map(|span| span.fields["rpc.response.status_code"].as_str()).collect();
    assert_eq!(codes, ["internal", "not_found", "invalid_argument", "failed_precondition", "ok"], "{spans:?}");
}

#[tokio::test]
async fn a_notification_is_waited_for_until_its_deadline() {
    let (gate, handle) = Gate::new();
    let running = Running::new(Server::new().inject(gate)).await;
    is_nothing(&raw(running.address, post_with("/rpc", "byname-timeout-ms: 20\r\n", &call("pass", ""))).await);
    handle.release.send(()).unwrap();
    assert!(within(handle.ended).await.unwrap(), "it ran on and was told");
}

#[tokio::test]
async fn a_batch_is_cancelled_when_its_caller_goes_away_and_runs_to_its_end() {
    let (said, mut says) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::new().function("outlasts", move || {
        let said = said.clone();
        async move {
            said.send("started").unwrap();
            Context::current().unwrap().cancellation().cancelled().await;
            tokio::task::yield_now().await;
            said.send("ended").unwrap();
        }
    });
    let running = Running::new(server).await;
    let mut caller = Caller::to(running.address).await;
    caller.send(post("/rpc", &batch([call("outlasts", r#","id":1"#), call("outlasts", "")]))).await;
    assert_eq!([within(says.recv()).await, within(says.recv()).await], [Some("started"); 2]);
    drop(caller);
    assert_eq!([within(says.recv()).await, within(says.recv()).await], [Some("ended"); 2]);
    within(running.stopped()).await.unwrap();
}

#[tokio::test]
async fn the_headers_of_a_batch_count_for_each_of_its_calls() {
    let running = Running::new(everything()).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = format!("x-user: ada\r\ntraceparent: {trace}\r\n");
    let body = batch([call("whoami", r#","id":1"#), call("whoami", r#","id":2"#)]);
    let answer = raw(running.address, post_with("/rpc", &headers, &body)).await;
    for at in 0..2 {
        assert_eq!(answer.json()[at]["result"], json!({"x-user": "ada", "traceparent": trace}));
    }
    let late = raw(running.address, post_with("/rpc", "byname-timeout-ms: 0\r\n", &body)).await;
    assert_eq!(late.status, 200);
    for (at, reply) in late.json().as_array().unwrap().iter().enumerate() {
        assert_eq!(error(reply, at + 1, Code::DeadlineExceeded.json_rpc_code())["executed"], "no");
    }
}

#[tokio::test]
async fn the_headers_of_a_reply_go_with_a_single_one() {
    let running = Running::new(everything()).await;
    let served = async |body: String| {
        let answer = raw(running.address, post("/rpc", &body)).await;
        (answer.status, answer.header("x-served").to_owned())
    };
    assert_eq!(served(call("whoami", r#","id":1"#)).await, (200, "whoami".into()));
    assert_eq!(served(batch([call("whoami", r#","id":1"#)])).await, (200, String::new()));
    assert_eq!(served(call("whoami", "")).await, (204, String::new()));
}

#[tokio::test]
async fn replies_over_the_limit_are_errors_and_other_replies_arrive() {
    let server = everything()
        .function("long", |length: usize| async move { "x".repeat(length) })
        .function("long_error", |length: usize| async move { Err::<(), _>("x".repeat(length)) })
        .limits(|limits| limits.message = 1000);
    let running = Running::new(server).await;
    let long = |length: usize, id: u32| call("long", &format!(r#","params":[{length}],"id":{id}"#));
    let limit = Code::ResourceExhausted.json_rpc_code();
    let over = |reply: &Value, id: u32| {
        let whole = error(reply, id, limit);
        assert_eq!((&whole["limit"], &whole["executed"]), (&json!("message"), &json!("yes")), "{reply}");
        assert!(whole["message"].as_str().unwrap().contains("`Limits::message` of the server"), "{reply}");
    };
    let empty = r#"{"jsonrpc":"2.0","result":"","id":1}"#.len();
    let fits = 1000 - empty;
    assert_eq!(ask(&running, long(fits, 1)).await["result"].as_str().unwrap().len(), fits);
    over(&ask(&running, long(fits + 1, 1)).await, 1);
    let own = ask(&running, call("long_error", r#","params":[1000],"id":1"#)).await;
    over(&own, 1);

    // As many bytes as fit, brackets and commas included.
    let half = (1000 - 3) / 2 - empty;
    let answer = raw(running.address, post("/rpc", &batch([long(half, 1), long(half + 1, 2)]))).await;
    assert_eq!(answer.body.len(), 1000, "{answer:?}");
    let replies =
        ask(&running, batch([long(half, 1), long(half + 2, 2), long(100, 3), call("none", r#","id":4"#)])).await;
    assert_eq!(replies[0]["result"].as_str().unwrap().len(), half);
    over(&replies[1], 2);
    assert_eq!(replies[2]["result"].as_str().unwrap().len(), 100, "what is smaller still fits");
    error(&replies[3], 4, -32601);
}

#[tokio::test]
async fn interceptors_see_each_call_of_a_batch() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sees = Arc::clone(&seen);
    let server =
        everything().intercept(move |mut request: Request, next: Next| {
            sees.lock().unwrap().push(request.name().to_owned());
            let refused = request.name() == "add" && request.extensions().get::<u8>().is_none();
            request.extensions_mut().insert(1u8);
            async move {
                if refused { Err(Error::new(Code::PermissionDenied, "not you")) } else { Ok(next.run(request).await) }
            }
        });
    let running = Running::new(server).await;
    let body =
        batch([call("add", r#","params":[1,2],"id":1"#), call("nothing", ""), call("none", r#","id":2"#), "1".into()]);
    let replies = ask(&running, body).await;
    assert_eq!(error(&replies[0], 1, Code::PermissionDenied.json_rpc_code())["executed"], "no");
    error(&replies[1], 2, -32601);
    error(&replies[2], Value::Null, -32600);
    assert_eq!(*seen.lock().unwrap(), ["add", "nothing", "none"]);
}

#[tokio::test]
async fn a_function_sees_no_other_call_of_its_batch() {
    let server = Server::new().function("said", |word: String| async move {
        let call = Context::current().unwrap();
        call.reply_header("x-said", &word).unwrap();
        tokio::task::yield_now().await;
        (Context::current().unwrap().method().to_owned(), call.peer().is_some(), word)
    });
    let running = Running::new(server).await;
    let said = |word: &str| call("said", &format!(r#","params":["{word}"],"id":"{word}""#));
    let replies = ask(&running, batch([said("a"), said("b")])).await;
    for (at, word) in ["a", "b"].into_iter().enumerate() {
        assert_eq!(replies[at], json!({"jsonrpc": "2.0", "result": ["said", true, word], "id": word}));
    }
}

#[tokio::test]
async fn the_rules_for_every_request_apply_to_json_rpc() {
    let running = Running::new(everything().limits(|limits| limits.message = 500)).await;
    let body = call("counter.bump", r#","id":1"#);
    for (request, status) in [
        (get("/rpc"), 405),
        (verb("PUT", "/rpc", ""), 405),
        (post_with("/rpc", "origin: http://evil.test\r\ncontent-type: application/json\r\n", &body), 403),
        (post_with("/rpc", "sec-fetch-site: cross-site\r\n", &body), 403),
        (post_with("/rpc", "sec-fetch-site: same-origin\r\n", &body), 415),
        (post_with("/rpc", "content-encoding: gzip\r\n", &body), 415),
        (post_with("/rpc", "byname-timeout-ms: soon\r\n", &body), 400),
        (post("/rpc", &batch(vec![body.clone(); 20])), 413),
        (post("/rpc", &body).replace("localhost", "evil.test"), 421),
        // Neither an array nor an object that says so: a plain call, and a wrong one.
        (post("/rpc", "1"), 400),
        (post("/rpc", r#"{"method":"counter.bump","id":1}"#), 400),
    ] {
        let answer = raw(running.address, &request).await;
        assert_eq!(answer.status, status, "{request}: {answer:?}");
        assert_eq!(answer.json()["err"]["executed"], "no", "{answer:?}");
    }
    assert_eq!(raw(running.address, get("/rpc/counter.total")).await.body, "0");
    let own = "sec-fetch-site: same-origin\r\ncontent-type: application/json; charset=utf-8\r\n";
    assert_eq!(raw(running.address, post_with("/rpc", own, &body)).await.json()["result"], 1);
}

#[tokio::test]
async fn it_can_be_the_only_way() {
    let running = Running::new(everything().plain(false).path(false)).await;
    let answer = raw(running.address, post("/rpc", &call("add", r#","params":[1,2],"id":1"#))).await;
    assert_eq!((answer.header("byname-ways"), &answer.json()["result"]), ("json-rpc, frames", &json!(3)));
    assert_eq!(raw(running.address, post("/rpc", r#"{"fun":"add","args":[1,2]}"#)).await.status, 404);
}

#[tokio::test]
async fn it_is_the_same_over_http_2() {
    let running = Running::new(everything()).await;
    let stream = TcpStream::connect(running.address).await.unwrap();
    let (mut send, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut ask = async |body: String| {
        let request = hyper::Request::post(format!("http://{}/rpc", running.address));
        let answer = send.send_request(request.body(Full::new(Bytes::from(body))).unwrap()).await.unwrap();
        let (head, body) = answer.into_parts();
        (head.status.as_u16(), String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap())
    };
    let add = call("add", r#","params":[1,2],"id":1.0"#);
    let sum = r#"{"jsonrpc":"2.0","result":3,"id":1.0}"#;
    assert_eq!(ask(add.clone()).await, (200, sum.into()));
    assert_eq!(ask(batch([add.clone(), call("nothing", ""), add])).await, (200, format!("[{sum},{sum}]")));
    assert_eq!(ask(call("nothing", "")).await, (204, String::new()));
    let (status, none) = ask(call("none", r#","id":1"#)).await;
    assert_eq!(status, 200);
    error(&serde_json::from_str(&none).unwrap(), 1, -32601);
}
