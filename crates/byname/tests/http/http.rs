//! The protocol over HTTP for clients that are not byname's, byte by byte.

use std::time::Duration;

use crate::harness::{BankError, Caller, Log, Raw, Running, everything, get, post, post_with, raw, verb};
use byname::{Context, Error, Server, rpc};
use futures_util::Stream;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// Checks ERROR as it stands in a body, and gives its message.
#[track_caller]
fn error(error: &Value, code: &str, executed: &str) -> String {
    assert_eq!((&error["code"], &error["executed"]), (&json!(code), &json!(executed)), "{error}");
    error["message"].as_str().unwrap().to_owned()
}

/// Checks an answer on the plain way, and gives the message of its ERROR.
#[track_caller]
fn plainly(answer: &Raw, status: u16, code: &str, executed: &str) -> String {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/json", "{answer:?}");
    error(&answer.json()["err"], code, executed)
}

/// Checks an answer on the path way, and gives the message of its ERROR.
#[track_caller]
fn problem(answer: &Raw, status: u16, code: &str, executed: &str) -> String {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/problem+json", "{answer:?}");
    let body = answer.json();
    assert_eq!((&body["type"], &body["status"]), (&json!("about:blank"), &json!(status)), "{body}");
    assert!(body["title"].is_string(), "{body}");
    assert_eq!(body["detail"], body["message"], "{body}");
    error(&body, code, executed)
}

#[tokio::test]
async fn curl_calls_without_any_option_but_its_data() {
    let running = Running::new(everything()).await;
    // What `curl -d '[1,2]' localhost:port/rpc/add` sends.
    let request = format!(
        "POST /rpc/add HTTP/1.1\r\nHost: localhost:{}\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\nContent-Length: 5\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n\r\n[1,2]",
        running.address.port()
    );
    let answer = raw(running.address, request).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "3"), "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/json");
}

#[tokio::test]
async fn the_plain_way_accepts_an_envelope_with_optional_members() {
    let running = Running::new(everything()).await;
    let mut caller = Caller::to(running.address).await;
    for (body, expected) in [
        (r#"{"fun": "add", "args": [1, 2], "kwargs": {}}"#, r#"{"ret":3}"#),
        (r#"{"kwargs": {"b": 2}, "args": [1], "fun": "add"}"#, r#"{"ret":3}"#),
        (r#"{"fun": "add", "args": [1, 2]}"#, r#"{"ret":3}"#),
        (r#"{"fun": "add", "kwargs": {"a": 1, "b": 2}}"#, r#"{"ret":3}"#),
        (r#"{"fun": "add", "args": null, "kwargs": {"a": 1, "b": 2}}"#, r#"{"ret":3}"#),
        (r#"{"fun": "nothing"}"#, r#"{"ret":null}"#),
        (r#"{"fun": "nothing", "ext": {"of": ["what", "may", "come"]}}"#, r#"{"ret":null}"#),
        (" {\"f\\u0075n\" : \"add\",\n\"args\": [ 1 , 2 ] } ", r#"{"ret":3}"#),
    ] {
        for path in ["/rpc", "/rpc/"] {
            let answer = caller.ask(post(path, body)).await;
            assert_eq!((answer.status, answer.body.as_str()), (200, expected), "{path} {body}");
        }
    }
}

#[tokio::test]
async fn the_plain_way_rejects_bodies_that_are_not_envelopes() {
    let running = Running::new(everything()).await;
    let mut caller = Caller::to(running.address).await;
    for (body, words) in [
        ("", "it is empty"),
        ("null", "not a JSON object"),
        (r#""add""#, "not a JSON object"),
        (r#"{"args": [1, 2]}"#, "missing field `fun`"),
        (r#"{"fun": 1}"#, "expected a"),
        (r#"{"fun": "add", "fun": "nothing"}"#, "duplicate field `fun`"),
        (r#"{"fun": "add", "args": [1, 2], "args": [3, 4]}"#, "duplicate field `args`"),
        (r#"{"fun": "add", "argz": [1, 2]}"#, "unknown field `argz`"),
        (r#"{"fun": "add", "args": {"a": 1, "b": 2}}"#, "`args` must be an array"),
        (r#"{"fun": "add", "kwargs": [1, 2]}"#, "`kwargs` must be an object"),
        (r#"{"fun": "add", "args": [1, 2]}{"#, "trailing characters"),
        (r#"{"fun": "add", "args": [1, 2"#, "EOF"),
        ("\u{feff}{\"fun\": \"nothing\"}", "at line 1 column 1"),
        (r#"{"fun": "echo", "args": ["\ud800"]}"#, "argument `value`"),
    ] {
        let answer = caller.ask(post("/rpc", body)).await;
        let message = plainly(&answer, 400, "invalid_argument", "no");
        assert!(message.contains(words), "{body}: {message}");
    }
}

#[tokio::test]
async fn an_unknown_function_gets_the_reply_of_the_original() {
    let running = Running::new(everything()).await;
    let answer = raw(running.address, post("/rpc", r#"{"fun": "addd", "args": [1, 2], "kwargs": {}}"#)).await;
    assert_eq!(answer.reason, "no func found err");
    let message = plainly(&answer, 502, "unimplemented", "no");
    assert!(message.contains("did you mean `add`?"), "{message}");
    assert_eq!(answer.json().as_object().unwrap().len(), 1, "`err` and nothing else");
}

#[tokio::test]
async fn a_method_is_suggested_for_any_prefix() {
    let running = Running::new(everything()).await;
    for (asked, meant) in
        [("ADD", "add"), ("Math.add", "add"), ("bump", "counter.bump"), ("My.Counter.Bump", "counter.bump")]
    {
        let answer = raw(running.address, post(&format!("/rpc/{asked}"), "[]")).await;
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(&format!("did you mean `{meant}`")), "{message}");
    }
}

#[tokio::test]
async fn only_a_call_that_did_not_run_is_answered_by_the_reason_of_the_original() {
    let server = Server::new()
        .function("planned", || async { Err::<(), _>(Error::new(byname::Code::Unimplemented, "not yet")) });
    let running = Running::new(server).await;
    let answer = raw(running.address, post("/rpc", r#"{"fun": "planned"}"#)).await;
    assert_eq!(plainly(&answer, 404, "unimplemented", "yes"), "not yet");
    assert_eq!(answer.reason, "Not Found");
}

#[tokio::test]
async fn an_unknown_function_is_a_problem_by_path() {
    let running = Running::new(everything()).await;
    let mut caller = Caller::to(running.address).await;
    for name in ["addd", "no.such", "add/", "add%20", "!no", "a\u{e9}", &"x".repeat(50_000)] {
        let answer = caller.ask(post(&format!("/rpc/{name}"), "[1,2]")).await;
        problem(&answer, 404, "unimplemented", "no");
        assert!(answer.body.len() < 1000, "a name is not echoed whole");
    }
    let answer = caller.ask(get("/rpc/addd?a=1")).await;
    problem(&answer, 404, "unimplemented", "no");
    assert_eq!(answer.json()["title"], "Not Found");
    assert_eq!(answer.json()["kind"], "rpc");
}

#[tokio::test]
async fn near_names_are_told_only_where_listing_is_on() {
    for (server, told) in [
        (everything(), true),
        (everything().listing(false), false),
        (everything().hosts(["localhost"]), false),
        (everything().hosts(["localhost"]).listing(true), true),
    ] {
        let running = Running::new(server).await;
        let answer = raw(running.address, post("/rpc/addd", "[]")).await;
        assert_eq!(answer.json()["message"].as_str().unwrap().contains("`add`"), told, "{answer:?}");
    }
}

#[tokio::test]
async fn a_functions_own_error_has_the_status_of_its_code_and_is_whole() {
    let running = Running::new(everything()).await;
    let answer = raw(running.address, post("/rpc", r#"{"fun": "withdraw", "args": ["ada", 107]}"#)).await;
    plainly(&answer, 400, "failed_precondition", "yes");
    let whole = &answer.json()["err"];
    assert_eq!((&whole["kind"], &whole["data"]), (&json!("method"), &json!({"Overdrawn": {"by": 7}})));

    let answer = raw(running.address, post("/rpc/withdraw", r#"{"account": "bob", "amount": 1}"#)).await;
    problem(&answer, 404, "not_found", "yes");
    assert_eq!((&answer.json()["kind"], &answer.json()["data"]), (&json!("method"), &json!("NoSuchAccount")));
}

#[tokio::test]
async fn a_path_takes_an_array_an_object_or_nothing() {
    let running = Running::new(everything()).await;
    let mut caller = Caller::to(running.address).await;
    for (path, body, expected) in [
        ("/rpc/add", " [1, 2] ", "3"),
        ("/rpc/add", "\n{\"b\": 1, \"a\": 2}", "3"),
        ("/rpc/nothing", "", "null"),
        ("/rpc/nothing", "null", "null"),
        ("/rpc/nothing", "[]", "null"),
        ("/rpc/nothing", "{}", "null"),
        ("/rpc/counter.bump", "", "1"),
        ("/rpc/counter.bump?by=9", "[2]", "3"),
        ("/rpc/echo", "[{\"a\": 1.50, \"a\\u0000\": \"\\/\"}]", "{\"a\":1.5,\"a\\u0000\":\"/\"}"),
    ] {
        let answer = caller.ask(post(path, body)).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, expected), "{path} {body}");
    }
    for (body, words) in [
        ("3", "must be a JSON array"),
        ("\"[1,2]\"", "must be a JSON array"),
        ("a=1&b=2", "must be a JSON array"),
        ("[1,2", "EOF"),
        ("[1,2]]", "trailing characters"),
        ("[1,2,]", "at line 1 column 6"),
        ("{\"a\": 1, \"b\": 2, \"a\": 1}", "argument `a` is given twice"),
        ("[1, NaN]", "it is not JSON: expected a JSON value at line 1 column 5"),
        ("[1, 1e400]", "argument `b`"),
    ] {
        let message = problem(&caller.ask(post("/rpc/add", body)).await, 400, "invalid_argument", "no");
        assert!(message.contains(words), "{body}: {message}");
    }
}

/// A newtype of a string.
#[derive(serde::Serialize, serde::Deserialize)]
struct Label(String);

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Side {
    Left,
    Right,
}

type Texts = (Option<String>, Option<Label>, Option<Side>);
type Others = (Option<f64>, Option<bool>, Option<Vec<i64>>);

#[rpc(readonly)]
fn every_kind(
    text: Option<String>,
    label: Option<Label>,
    side: Option<Side>,
    number: Option<f64>,
    on: Option<bool>,
    list: Option<Vec<i64>>,
) -> (Texts, Others) {
    ((text, label, side), (number, on, list))
}

#[tokio::test]
async fn a_get_calls_only_readonly_functions() {
    let running = Running::new(everything().method::<every_kind>()).await;
    let mut caller = Caller::to(running.address).await;
    for (path, expected) in [
        ("/rpc/add?a=1&b=2", "3"),
        ("/rpc/add?b=-2&a=%31&", "-1"),
        ("/rpc/greet?name=Ada", "\"hello Ada\""),
        ("/rpc/greet?name=Ada+L.%20Z%C3%B6e&greeting=a%26b%3Dc%2B", "\"a&b=c+ Ada L. Zöe\""),
        ("/rpc/greet?name=7", "\"hello 7\""),
        ("/rpc/greet?name=null&mark=!", "\"hello null!\""),
        ("/rpc/greet?name=%22x%22", "\"hello \\\"x\\\"\""),
        ("/rpc/greet?n%61me=", "\"hello \""),
        ("/rpc/echo?value=[1]", "\"[1]\""),
        ("/rpc/every_kind", "[[null,null,null],[null,null,null]]"),
        ("/rpc/every_kind?text=a+b&label=x&side=left", "[[\"a b\",\"x\",\"left\"],[null,null,null]]"),
        ("/rpc/every_kind?number=1e2&on=true&list=[1,2]", "[[null,null,null],[100.0,true,[1,2]]]"),
        ("/rpc/counter.total", "0"),
    ] {
        let answer = caller.ask(get(path)).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, expected), "{path}: {answer:?}");
    }
    for (path, words) in [
        ("/rpc/add?a=1&b=2&a=1", "argument `a` is given twice"),
        ("/rpc/greet?name=x&name=x", "argument `name` is given twice"),
        ("/rpc/add?a=1&b=2&c=3", "unknown argument `c`"),
        ("/rpc/add?a=1", "argument `b` is missing"),
        ("/rpc/add?a=1&b", "argument `b`"),
        ("/rpc/add?a=1&b=two", "argument `b`"),
        ("/rpc/every_kind?list=[1", "argument `list`"),
    ] {
        let message = problem(&caller.ask(get(path)).await, 400, "invalid_argument", "no");
        assert!(message.contains(words), "{path}: {message}");
    }
}

#[tokio::test]
async fn an_answer_to_a_get_forbids_sniffing_and_storing() {
    let running = Running::new(everything()).await;
    let mut caller = Caller::to(running.address).await;
    for path in ["/rpc/add?a=1&b=2", "/rpc/add", "/rpc/nothing", "/rpc/none", "/rpc", "/rpc/!live", "/elsewhere"] {
        let answer = caller.ask(get(path)).await;
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
    }
}

/// What it costs.
#[rpc(readonly, max_age = "60s")]
async fn price(of: String) -> Result<u8, BankError> {
    if of == "tea" { Ok(3) } else { Err(BankError::NoSuchAccount) }
}

/// It has this many letters.
#[rpc(readonly, max_age = "1d", public)]
async fn long_kept(letters: usize) -> String {
    "x".repeat(letters)
}

#[rpc(readonly)]
async fn long(letters: usize) -> String {
    "x".repeat(letters)
}

#[rpc(readonly)]
async fn versioned() -> Result<u8, Error> {
    Context::current().unwrap().reply_header("etag", "\"v7\"")?;
    Ok(1)
}

fn kept() -> Server {
    everything().method::<price>().method::<long_kept>().method::<long>().method::<versioned>()
}

#[tokio::test]
async fn an_answer_that_the_caller_has_already_is_not_sent_again() {
    let running = Running::new(kept()).await;
    let mut caller = Caller::to(running.address).await;
    let tag = caller.ask(get("/rpc/add?a=1&b=2")).await.header("etag").to_owned();
    assert_eq!(tag, caller.ask(get("/rpc/add?a=2&b=1")).await.header("etag"), "the answer is the same");
    assert_ne!(tag, caller.ask(get("/rpc/add?a=2&b=2")).await.header("etag"));
    let strong = tag.strip_prefix("W/").unwrap();
    assert!(strong.len() > 20 && strong.starts_with('"') && strong.ends_with('"'), "{tag}");
    for verb in ["GET", "HEAD"] {
        let mut ask = async |tags: &str| caller.ask(self::verb(verb, "/rpc/add?a=1&b=2", tags)).await;
        for tags in [&tag[..], strong, "*", &format!("\"other\", {tag}"), &format!("\"a\"\r\nif-none-match: {strong}")]
        {
            let answer = ask(&format!("if-none-match: {tags}\r\n")).await;
            assert_eq!((answer.status, answer.body.as_str()), (304, ""), "{tags}: {answer:?}");
            assert_eq!((answer.header("etag"), answer.header("cache-control")), (tag.as_str(), "no-store"), "{tags}");
            assert_eq!((answer.header("content-type"), answer.header("content-length")), ("", ""), "{answer:?}");
        }
    }
    for tags in ["\"other\"", "W/\"*\"", "", "é", &strong[1..strong.len() - 1]] {
        let headers = format!("if-none-match: {tags}\r\n");
        let answer = caller.ask(verb("GET", "/rpc/add?a=1&b=2", &headers)).await;
        assert_eq!((answer.status, answer.header("etag")), (200, tag.as_str()), "{tags}: {answer:?}");
    }
    let (status, head, body) = head_of(&running, "HEAD", "/rpc/add?a=1&b=2").await;
    assert_eq!((status.as_str(), body.as_str()), ("HTTP/1.1 200 OK", ""));
    assert!(head.contains(&format!("etag: {tag}")), "{head:?}");
    // A POST is a call, whatever the caller has.
    let posted = caller.ask(post_with("/rpc/add", "if-none-match: *\r\n", "[1,2]")).await;
    assert_eq!((posted.status, posted.body.as_str(), posted.header("etag")), (200, "3", ""), "{posted:?}");
    // An error must not be cached.
    let failed = caller.ask(verb("GET", "/rpc/add?a=1", "if-none-match: *\r\n")).await;
    assert_eq!((failed.status, failed.header("etag")), (400, ""), "{failed:?}");
    // A function's own tag stays.
    assert_eq!(caller.ask(get("/rpc/versioned")).await.header("etag"), "\"v7\"");
    assert_eq!(caller.ask(verb("GET", "/rpc/versioned", "if-none-match: W/\"v7\"\r\n")).await.status, 304);
    // A long one that nobody keeps has none: the quotes count too.
    for (letters, has_tag) in [((256 << 10) - 2, true), ((256 << 10) - 1, false)] {
        assert_eq!(!caller.ask(get(&format!("/rpc/long?letters={letters}"))).await.header("etag").is_empty(), has_tag);
        assert_ne!(caller.ask(get(&format!("/rpc/long_kept?letters={letters}"))).await.header("etag"), "");
    }
}

#[tokio::test]
async fn an_answer_may_be_kept_where_its_function_says_so() {
    let running = Running::new(kept().origins(["https://app.example"])).await;
    let mut caller = Caller::to(running.address).await;
    for (path, rule) in
        [("/rpc/price?of=tea", "private, max-age=60"), ("/rpc/long_kept?letters=1", "public, max-age=86400")]
    {
        let answer = caller.ask(get(path)).await;
        assert_eq!((answer.status, answer.header("cache-control")), (200, rule), "{answer:?}");
        assert_eq!(answer.header("vary"), "authorization, origin, accept, accept-encoding");
        let tag = format!("if-none-match: {}\r\norigin: https://app.example\r\n", answer.header("etag"));
        for verb in ["GET", "HEAD"] {
            let answer = caller.ask(self::verb(verb, path, &tag)).await;
            assert_eq!((answer.status, answer.header("cache-control")), (304, rule), "{answer:?}");
            assert!(answer.header("vary").contains("authorization"), "{answer:?}");
            assert_eq!(answer.header("access-control-allow-origin"), "https://app.example");
        }
    }
    for (path, status) in [("/rpc/price?of=cake", 404), ("/rpc/price", 400), ("/rpc/price?of=1&x=2", 400)] {
        let answer = caller.ask(get(path)).await;
        assert_eq!((answer.status, answer.header("cache-control")), (status, "no-store"), "{answer:?}");
        assert_eq!((answer.header("etag"), answer.header("vary")), ("", ""), "{answer:?}");
    }
    let posted = caller.ask(post("/rpc/price", "[\"tea\"]")).await;
    assert_eq!((posted.header("cache-control"), posted.header("vary")), ("", ""), "no cache keeps a POST");
}

#[tokio::test]
async fn a_get_never_changes_anything() {
    let running = Running::new(everything()).await;
    let mut caller = Caller::to(running.address).await;
    let answer = caller.ask(get("/rpc/counter.bump?by=5")).await;
    let message = problem(&answer, 405, "unimplemented", "no");
    assert!(message.contains("POST"), "{message}");
    assert_eq!(answer.header("allow"), "POST, OPTIONS");
    assert_eq!(caller.ask(post("/rpc/counter.total", "")).await.body, "0");
}

#[tokio::test]
async fn other_verbs_are_told_the_allowed_ones() {
    let running = Running::new(everything()).await;
    for (path, allowed, words) in [
        ("/rpc", "POST, OPTIONS", "POST"),
        ("/rpc/add", "GET, HEAD, POST, OPTIONS", "POST or GET"),
        ("/rpc/nothing", "POST, OPTIONS", "POST"),
        ("/rpc/!live", "GET, HEAD, OPTIONS", "GET"),
        ("/rpc/!ready", "GET, HEAD, OPTIONS", "GET"),
    ] {
        let mut caller = Caller::to(running.address).await;
        for other in ["PUT", "DELETE", "PATCH", "TRACE"] {
            let answer = caller.ask(verb(other, path, "")).await;
            assert_eq!((answer.status, answer.header("allow")), (405, allowed), "{other} {path}: {answer:?}");
            assert!(
                answer.body.contains(&format!("`{other}` calls nothing at `{path}`; use {words}")),
                "{other} {path}: {answer:?}"
            );
        }
        for unknown in ["BREW", "post", "QUERY"] {
            let answer = caller.ask(verb(unknown, path, "")).await;
            assert_eq!((answer.status, answer.header("allow")), (501, ""), "{unknown} {path}: {answer:?}");
            assert!(answer.body.contains(&format!("`{unknown}` is not a method that this server knows")), "{answer:?}");
        }
        let answer = caller.ask(verb("OPTIONS", path, "")).await;
        assert_eq!((answer.status, answer.header("allow"), &*answer.body), (204, allowed, ""), "{path}: {answer:?}");
        assert_eq!(answer.header("byname-protocol"), "1");
    }
    let answer = raw(running.address, get("/rpc")).await;
    plainly(&answer, 405, "unimplemented", "no");
    assert_eq!(answer.header("allow"), "POST, OPTIONS");
}

#[tokio::test]
async fn options_lists_the_methods_and_calls_nothing() {
    let running = Running::new(everything()).await;
    let mut caller = Caller::to(running.address).await;
    for (path, status, allowed) in [
        ("*", 204, "GET, HEAD, POST, OPTIONS"),
        ("/rpc/counter.bump?by=5", 204, "POST, OPTIONS"),
        ("/rpc/counter.bump", 204, "POST, OPTIONS"),
        ("/rpc/none", 404, ""),
        ("/elsewhere", 404, ""),
    ] {
        let answer = caller.ask(verb("OPTIONS", path, "")).await;
        assert_eq!((answer.status, answer.header("allow")), (status, allowed), "{path}: {answer:?}");
    }
    // With a body, which is ignored.
    let body = post("/rpc/counter.bump", "[5]").replace("POST", "OPTIONS");
    assert_eq!(caller.ask(body).await.status, 204);
    assert_eq!(caller.ask(post("/rpc/counter.total", "")).await.body, "0");
}

/// An answer on a connection that ends behind it: its status, its fields but the date, in order, and what else came.
async fn head_of(running: &Running, method: &str, path: &str) -> (String, Vec<String>, String) {
    let mut caller = Caller::to(running.address).await;
    caller.send(verb(method, path, "connection: close\r\n")).await;
    let answer = caller.rest().await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut lines = head.split("\r\n").map(str::to_owned);
    let status = lines.next().unwrap();
    let mut fields: Vec<_> = lines.filter(|line| !line.starts_with("date")).collect();
    fields.sort();
    (status, fields, body.to_owned())
}

#[tokio::test]
async fn head_is_answered_as_get_without_the_body() {
    let running = Running::new(everything().method::<countdown>()).await;
    for path in [
        "/rpc/add?a=1&b=2",
        "/rpc/add?a=1",
        "/rpc/echo?value=%22long%22",
        "/rpc/counter.total",
        "/rpc/none",
        "/rpc/!live",
        "/rpc/!ready",
        "/elsewhere",
    ] {
        let (status, head, body) = head_of(&running, "GET", path).await;
        assert!(!body.is_empty(), "{path}");
        assert_eq!(head_of(&running, "HEAD", path).await, (status, head, String::new()), "{path}");
    }
    // What a function that streams says is not made for it.
    let (status, head, body) = head_of(&running, "HEAD", "/rpc/countdown?from=3").await;
    assert_eq!((status.as_str(), body.as_str()), ("HTTP/1.1 200 OK", ""));
    assert!(head.contains(&"content-type: application/x-ndjson".to_owned()), "{head:?}");
    assert!(!head.iter().any(|field| field.starts_with("content-length")), "{head:?}");
    // It is a call like GET, and changes nothing.
    let (status, head, _) = head_of(&running, "HEAD", "/rpc/counter.bump").await;
    assert_eq!(status, "HTTP/1.1 405 Method Not Allowed");
    assert!(head.contains(&"allow: POST, OPTIONS".to_owned()), "{head:?}");
    assert_eq!(raw(running.address, post("/rpc/counter.total", "")).await.body, "0");
}

#[rpc(readonly)]
fn countdown(from: u64) -> impl Stream<Item = u64> {
    futures_util::stream::iter((1..=from).rev())
}

#[tokio::test]
async fn head_over_http_2_has_no_body_either() {
    let running = Running::new(everything()).await;
    let stream = TcpStream::connect(running.address).await.unwrap();
    let (mut send, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for _ in 0..2 {
        let request = hyper::Request::head(format!("http://{}/rpc/add?a=1&b=20", running.address));
        let answer = send.send_request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
        assert_eq!((answer.status().as_u16(), &answer.headers()["content-length"]), (200, &"2".parse().unwrap()));
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "");
    }
}

#[tokio::test]
async fn a_target_may_be_a_url_but_not_a_host_alone() {
    let running = Running::new(everything().endpoint("/")).await;
    let call = |target: &str, host: &str| format!("POST {target} HTTP/1.1\r\n{host}content-length: 5\r\n\r\n[1,2]");
    for (target, host, status) in [
        ("/add", "host: localhost\r\n", 200),
        ("http://localhost/add", "host: localhost\r\n", 200),
        ("http://LOCALHOST/add", "host: localhost\r\n", 200),
        // RFC 9112, section 3.2: a request of HTTP/1.1 has a host, whatever its target.
        ("http://localhost/add", "", 400),
        ("http://localhost/add", "host: 127.0.0.1\r\n", 400),
        ("http://evil.test/add", "host: evil.test\r\n", 421),
        ("localhost:80", "host: localhost:80\r\n", 400),
        ("localhost", "host: localhost\r\n", 400),
    ] {
        let answer = raw(running.address, call(target, host)).await;
        assert_eq!(answer.status, status, "{target} {host}: {answer:?}");
    }
    let connect = raw(running.address, "CONNECT localhost:80 HTTP/1.1\r\nhost: localhost:80\r\n\r\n").await;
    assert_eq!(connect.status, 501, "there is no tunnel: {connect:?}");
}

#[tokio::test]
async fn a_refused_encoding_says_which_is_taken() {
    let running = Running::new(everything()).await;
    let answer = raw(running.address, post_with("/rpc/add", "content-encoding: gzip\r\n", "[1,2]")).await;
    assert_eq!((answer.status, answer.header("accept-encoding")), (415, "identity"));
    // RFC 9110, section 12.5.3: an answer to a wrong type must not have the header.
    let text = "sec-fetch-site: same-origin\r\ncontent-type: text/plain\r\n";
    let answer = raw(running.address, post_with("/rpc/add", text, "[1,2]")).await;
    assert_eq!((answer.status, answer.header("accept-encoding")), (415, ""));
}

#[tokio::test]
async fn every_answer_says_what_the_server_is() {
    let running = Running::new(everything().hosts(["x"]).limits(|limits| limits.message = 1000)).await;
    for (request, status) in [
        (post("/rpc/add", "[1,2]"), 200),
        (post("/rpc", r#"{"fun": "add", "args": [1, 2]}"#), 200),
        (post("/rpc", "?"), 400),
        (post("/rpc", r#"{"fun": "none"}"#), 502),
        (post("/rpc/none", ""), 404),
        (post("/rpc/withdraw", r#"["bob", 1]"#), 404),
        (post("/rpc/panics", r#"["x"]"#), 500),
        (post("/rpc/add", &" ".repeat(1001)), 413),
        (post("/elsewhere", ""), 404),
        (get("/rpc/!live"), 200),
        (verb("PUT", "/rpc/add", ""), 405),
        (verb("POST", "/rpc/add", "origin: http://evil.test\r\n"), 403),
        ("GET /rpc/add HTTP/1.1\r\nhost: evil.test\r\n\r\n".into(), 421),
        ("GET /rpc/add HTTP/1.1\r\n\r\n".into(), 400),
    ] {
        let answer = raw(running.address, request).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.header("byname-protocol"), "1", "{answer:?}");
        assert_eq!(answer.header("byname-ways"), "plain, path, json-rpc, frames", "{answer:?}");
    }
}

#[tokio::test]
async fn the_first_answer_says_how_long_a_connection_is_kept_and_every_one_where_that_is_short() {
    let plain = post("/rpc", r#"{"fun": "nothing"}"#);
    let running = Running::new(everything()).await;
    assert_eq!(raw(running.address, &plain).await.header("keep-alive"), "timeout=75");
    let brief = everything().limits(|limits| limits.idle = std::time::Duration::from_secs(7));
    let running = Running::new(brief).await;
    for request in [plain, post("/rpc/nothing", ""), get("/rpc/none")] {
        assert_eq!(raw(running.address, request).await.header("keep-alive"), "timeout=7");
    }
}

#[tokio::test]
async fn each_way_can_be_switched_off() {
    let by_path = post("/rpc/add", "[1,2]");
    let plain = post("/rpc", r#"{"fun": "add", "args": [1, 2]}"#);

    let running = Running::new(everything().plain(false)).await;
    assert_eq!(raw(running.address, &by_path).await.header("byname-ways"), "path, json-rpc, frames");
    let message = plainly(&raw(running.address, &plain).await, 404, "unimplemented", "no");
    assert!(message.contains("POST /rpc/name"), "{message}");

    let running = Running::new(everything().path(false)).await;
    assert_eq!(raw(running.address, &plain).await.header("byname-ways"), "plain, json-rpc, frames");
    let message = problem(&raw(running.address, &by_path).await, 404, "unimplemented", "no");
    assert!(message.contains("`POST /rpc` with `{\"fun\""), "{message}");
    problem(&raw(running.address, get("/rpc/add?a=1&b=2")).await, 404, "unimplemented", "no");

    let running = Running::new(everything().json_rpc(false)).await;
    for json_rpc in [r#"{"jsonrpc": "2.0", "method": "add", "params": [1, 2], "id": 1}"#, "[]"] {
        let answer = raw(running.address, post("/rpc", json_rpc)).await;
        assert_eq!(answer.header("byname-ways"), "plain, path, frames");
        let message = plainly(&answer, 400, "invalid_argument", "no");
        assert!(message.contains("expected {\"fun\""), "{message}");
    }

    let running = Running::new(everything().plain(false).path(false)).await;
    let message = plainly(&raw(running.address, &plain).await, 404, "unimplemented", "no");
    assert!(message.contains("`POST /rpc` with `{\"jsonrpc\": \"2.0\""), "{message}");

    let running = Running::new(everything().plain(false).path(false).json_rpc(false).frames(false)).await;
    let answer = raw(running.address, &plain).await;
    assert_eq!(answer.header("byname-ways"), "");
    assert!(plainly(&answer, 404, "unimplemented", "no").contains("no calls over HTTP"));
    assert_eq!(raw(running.address, get("/rpc/!ready")).await.status, 200);
}

#[tokio::test]
async fn the_endpoint_can_be_anywhere() {
    for (given, plain, by_path, live) in [
        ("/x", "/x", "/x/add", "/x/!live"),
        ("x/y/", "/x/y", "/x/y/add", "/x/y/!live"),
        ("/", "/", "/add", "/!live"),
        ("", "/", "/add", "/!live"),
    ] {
        let running = Running::new(everything().endpoint(given)).await;
        let answer = raw(running.address, post(plain, r#"{"fun": "add", "args": [1, 2]}"#)).await;
        assert_eq!(answer.body, r#"{"ret":3}"#, "{given}");
        assert_eq!(raw(running.address, post(by_path, "[1,2]")).await.body, "3", "{given}");
        assert_eq!(raw(running.address, get(live)).await.body, "ok\n", "{given}");
        for foreign in ["/rpc/add", "/xx/add", "/x/yy/add"] {
            problem(&raw(running.address, post(foreign, "[1,2]")).await, 404, "unimplemented", "no");
        }
    }
}

#[tokio::test]
async fn an_encoded_body_is_refused() {
    let running = Running::new(everything()).await;
    for encoding in ["gzip", "br", "gzip, gzip"] {
        let header = format!("content-encoding: {encoding}\r\n");
        let answer = raw(running.address, post_with("/rpc/add", &header, "[1,2]")).await;
        let message = problem(&answer, 415, "invalid_argument", "no");
        assert!(message.contains(encoding), "{message}");
    }
    let answer = raw(running.address, post_with("/rpc/add", "content-encoding: identity\r\n", "[1,2]")).await;
    assert_eq!(answer.body, "3");
}

#[tokio::test]
async fn the_callers_time_is_whole_milliseconds() {
    let running = Running::new(everything()).await;
    let call = async |timeout: &str| {
        let header = format!("byname-timeout-ms: {timeout}\r\n");
        raw(running.address, post_with("/rpc/counter.bump", &header, "[]")).await
    };
    for bad in ["", "-1", "+5", "1.5", "1s", "0x10", "18446744073709551616"] {
        let message = problem(&call(bad).await, 400, "invalid_argument", "no");
        assert!(message.contains("`byname-timeout-ms`"), "{bad}: {message}");
    }
    let message = problem(&call("0").await, 504, "deadline_exceeded", "no");
    assert!(message.contains("`counter.bump`"), "{message}");
    let header = "byname-timeout-ms: nonsense\r\n";
    let answer = raw(running.address, verb("GET", "/rpc/counter.total", header)).await;
    problem(&answer, 400, "invalid_argument", "no");
    assert_eq!(call("18446744073709551615").await.body, "1", "none of the others was counted");
}

#[tokio::test]
async fn a_body_behind_expect_continue_is_requested_when_it_will_be_read() {
    let running = Running::new(everything()).await;
    let mut caller = Caller::to(running.address).await;
    let head = |path: &str, headers: &str, length: usize| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\n{headers}content-length: {length}\r\n\r\n"
        )
    };
    assert_eq!(caller.ask(head("/rpc/add", "", 5)).await.status, 100);
    assert_eq!(caller.ask("[1,2]").await.body, "3");
    // The body comes early.
    caller.send(head("/rpc/add", "", 5) + "[3,4]").await;
    let mut answer = caller.answer().await;
    if answer.status == 100 {
        answer = caller.answer().await;
    }
    assert_eq!(answer.body, "7");
    assert_eq!(caller.ask(post("/rpc/add", "[1,2]")).await.body, "3", "the connection goes on");
    // Rejected without reading it: its bytes must not be read as a request.
    caller.send(head("/rpc/add", "content-encoding: gzip\r\n", 70)).await;
    assert_eq!(caller.answer().await.status, 415);
    caller.send(post("/rpc/counter.bump", "[]")).await;
    assert_eq!(caller.rest().await, "");
    assert_eq!(raw(running.address, get("/rpc/counter.total")).await.body, "0");
}

#[tokio::test]
async fn a_body_may_come_in_chunks() {
    let running = Running::new(everything()).await;
    let mut caller = Caller::to(running.address).await;
    let chunked = "POST /rpc/add HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    for pieces in
        [&["5\r\n[1,2]\r\n0\r\n\r\n"][..], &["1\r\n[\r\n", "3;x=y\r\n1,2\r\n1\r", "\n]\r\n", "0\r\nt: x\r\n\r\n"]]
    {
        caller.send(chunked).await;
        for piece in pieces {
            caller.send(piece).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(caller.answer().await.body, "3", "{pieces:?}");
    }
    caller.send(format!("{chunked}ffffffffffffffffff\r\n[1,2]")).await;
    let answer = caller.answer().await;
    assert!((400..500).contains(&answer.status), "{answer:?}");
    assert_eq!(caller.rest().await, "", "and the connection is closed");
}

#[tokio::test]
async fn requests_may_be_sent_ahead() {
    let running = Running::new(everything()).await;
    let mut caller = Caller::to(running.address).await;
    caller.send(post("/rpc/add", "[1,2]") + &get("/rpc/add?a=3&b=4") + &post("/rpc/none", "[]") + "POST /rpc/ad").await;
    assert_eq!(caller.answer().await.body, "3");
    assert_eq!(caller.answer().await.body, "7");
    assert_eq!(caller.answer().await.status, 404);
    assert_eq!(caller.ask("d HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\n[5,6]").await.body, "11");
}

#[tokio::test]
async fn one_request_is_never_read_as_two() {
    let running = Running::new(everything()).await;
    let smuggled = post("/rpc/counter.bump", "[]");
    for headers in [
        format!("content-length: {}\r\ncontent-length: 0\r\n", smuggled.len()),
        "content-length: +5\r\n".into(),
        "content-length: 0x5\r\n".into(),
        "content-length: 18446744073709551616\r\n".into(),
        "transfer-encoding: xchunked\r\n".into(),
        "transfer-encoding: chunked, identity\r\n".into(),
        " content-length: 5\r\n".into(),
        "content-length : 5\r\n".into(),
    ] {
        let mut caller = Caller::to(running.address).await;
        let head = format!("POST /rpc/nothing HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n");
        caller.send(head + &smuggled).await;
        let answer = caller.rest().await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{headers}: {answer}");
        assert!(answer.starts_with("HTTP/1.1 400 "), "{headers}: {answer}");
    }
    // With both, the chunks count, and the connection ends with the answer.
    let mut caller = Caller::to(running.address).await;
    let both = format!("content-length: {}\r\ntransfer-encoding: chunked\r\n", smuggled.len() + 5);
    caller.send(format!("POST /rpc/nothing HTTP/1.1\r\nhost: localhost\r\n{both}\r\n0\r\n\r\n{smuggled}")).await;
    let answer = caller.rest().await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert_eq!(raw(running.address, get("/rpc/counter.total")).await.body, "0");
}

#[tokio::test]
async fn http_1_0_is_answered_and_closed() {
    let running = Running::new(everything()).await;
    let mut caller = Caller::to(running.address).await;
    caller.send("POST /rpc/add HTTP/1.0\r\nhost: localhost\r\ncontent-length: 5\r\n\r\n[1,2]").await;
    let answer = caller.rest().await;
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n3"), "{answer}");
}

/// HTTP/1.0 needs no `Host`, and health checks of balancers send none. Whatever may run code needs one.
#[tokio::test]
async fn a_probe_over_http_1_0_needs_no_host_and_a_call_does() {
    let running = Running::new(everything().hosts(["data.internal"])).await;
    let answer = async |request: &str| {
        let mut caller = Caller::to(running.address).await;
        caller.send(request).await;
        caller.rest().await
    };
    for probe in ["/rpc/!live", "/rpc/!ready"] {
        for headers in ["", "host: elsewhere\r\n"] {
            let answer = answer(&format!("GET {probe} HTTP/1.0\r\n{headers}\r\n")).await;
            assert!(answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.ends_with("\r\n\r\nok\n"), "{answer}");
        }
        let answer = answer(&format!("HEAD {probe} HTTP/1.0\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    }
    let refused = async |request: &str| {
        let answer = answer(request).await;
        assert!(answer.contains(" 400 Bad Request\r\n"), "{request}: {answer}");
        answer
    };
    for call in ["GET /rpc/add?a=1&b=2", "GET /rpc/!list", "POST /rpc", "OPTIONS *"] {
        let answer = refused(&format!("{call} HTTP/1.0\r\n\r\n")).await;
        assert!(answer.contains("the `Host` header is missing"), "{call}: {answer}");
    }
    let connection = "connection: close\r\n";
    refused(&format!("GET /rpc/!ready HTTP/1.1\r\n{connection}\r\n")).await;
    refused("GET /rpc/!ready HTTP/1.0\r\nhost: a\r\nhost: a\r\n\r\n").await;
    refused("GET /rpc/!ready HTTP/1.0\r\nhost: a b\r\n\r\n").await;
}

/// Sends one request over HTTP/2 and reads its answer.
async fn over_http2(running: &Running, request: hyper::http::request::Builder, body: &str) -> (u16, Value) {
    let stream = TcpStream::connect(running.address).await.unwrap();
    let (mut send, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let answer = send.send_request(request.body(Full::new(Bytes::from(body.to_owned()))).unwrap()).await.unwrap();
    let (head, body) = answer.into_parts();
    assert_eq!(head.headers["byname-protocol"], "1");
    assert!(!head.headers.contains_key("keep-alive"), "HTTP/2 forbids it");
    let body = body.collect().await.unwrap().to_bytes();
    (head.status.as_u16(), serde_json::from_slice(&body).unwrap_or_else(|_| String::from_utf8_lossy(&body).into()))
}

#[tokio::test]
async fn http_2_carries_probes_and_calls_and_an_unknown_function_is_a_404() {
    let running = Running::new(everything()).await;
    let at = |path: &str| format!("http://{}{path}", running.address);
    let live = over_http2(&running, hyper::Request::get(at("/rpc/!live")), "").await;
    assert_eq!(live, (200, json!("ok\n")));
    let sum = over_http2(&running, hyper::Request::post(at("/rpc/add")), "[1,2]").await;
    assert_eq!(sum, (200, json!(3)));
    let (status, body) = over_http2(&running, hyper::Request::post(at("/rpc")), r#"{"fun": "none"}"#).await;
    assert_eq!((status, &body["err"]["code"]), (404, &json!("unimplemented")), "there is no reason to tell it by");
    let foreign = hyper::Request::post("http://evil.test/rpc/add");
    assert_eq!(over_http2(&running, foreign, "[1,2]").await.0, 421);
    let torn = hyper::Request::post(at("/rpc/add")).header("host", "evil.test");
    assert_eq!(over_http2(&running, torn, "[1,2]").await.0, 400);
}

#[tokio::test]
async fn probes_are_answered_under_any_host_name() {
    for server in [everything(), everything().hosts(["data.internal"])] {
        let running = Running::new(server).await;
        for path in ["/rpc/!live", "/rpc/!ready"] {
            for headers in ["host: 10.1.2.3:8080\r\n", "host: localhost\r\nsec-fetch-site: cross-site\r\n"] {
                let answer = raw(running.address, format!("GET {path} HTTP/1.1\r\n{headers}\r\n")).await;
                assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"), "{path} {headers}");
                assert_eq!(answer.header("content-type"), "text/plain");
            }
            let mut caller = Caller::to(running.address).await;
            caller.send(verb("HEAD", path, "connection: close\r\n")).await;
            let answer = caller.rest().await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_request_must_name_exactly_one_known_host() {
    let running = Running::new(everything()).await;
    let call =
        async |headers: &str| raw(running.address, format!("GET /rpc/add?a=1&b=2 HTTP/1.1\r\n{headers}\r\n")).await;
    for ours in ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:8080"] {
        assert_eq!(call(&format!("host: {ours}\r\n")).await.body, "3", "{ours}");
    }
    for none in ["", "host: localhost\r\nhost: localhost\r\n", "host: me@localhost\r\n", "host: localhost/rpc\r\n"] {
        let message = problem(&call(none).await, 400, "invalid_argument", "no");
        assert!(message.contains("`Host`"), "{message}");
    }
    for foreign in ["evil.test", "localhost.evil.test", "127.0.0.1.evil.test"] {
        let message = problem(&call(&format!("host: {foreign}\r\n")).await, 421, "permission_denied", "no");
        assert!(message.contains("Server::hosts"), "{message}");
    }
    let answer = raw(running.address, "GET http://evil.test/rpc/add?a=1&b=2 HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    problem(&answer, 400, "invalid_argument", "no");

    let named = Running::new(everything().hosts(["data.internal"])).await;
    for (host, status) in [("data.internal", 200), ("Data.Internal:80", 200), ("localhost", 200), ("evil.test", 421)] {
        let answer = raw(named.address, format!("GET /rpc/add?a=1&b=2 HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
        assert_eq!(answer.status, status, "{host}");
    }
}

#[tokio::test]
async fn on_a_public_address_any_host_is_accepted_unless_hosts_are_given() {
    for (server, status) in [(everything(), 200), (everything().hosts(["data.internal"]), 421)] {
        let running = Running::at(server, "0.0.0.0:0").await;
        let near = ([127, 0, 0, 1], running.address.port()).into();
        let answer = raw(near, "GET /rpc/add?a=1&b=2 HTTP/1.1\r\nhost: any.name\r\n\r\n").await;
        assert_eq!(answer.status, status);
    }
}

#[tokio::test]
async fn pages_of_other_sites_are_rejected_before_anything_runs() {
    let running = Running::new(everything()).await;
    let json = "content-type: application/json\r\n";
    for headers in [
        "origin: http://evil.test\r\n",
        "origin: null\r\n",
        "origin: http://localhost:1\r\n",
        "sec-fetch-site: cross-site\r\n",
        "sec-fetch-site: same-site\r\n",
        "sec-fetch-site: cross-site\r\norigin: http://localhost\r\n",
    ] {
        let answer = raw(running.address, post_with("/rpc/counter.bump", &format!("{json}{headers}"), "[]")).await;
        let message = problem(&answer, 403, "permission_denied", "no");
        assert!(message.contains("Server::origins"), "{message}");
        assert_eq!(answer.header("access-control-allow-origin"), "");
    }
    for headers in ["origin: http://localhost\r\n", "sec-fetch-site: same-origin\r\n", "sec-fetch-site: none\r\n"] {
        // Of a page of our own, but a form could send it.
        let answer = raw(running.address, post_with("/rpc/counter.bump", headers, "[]")).await;
        problem(&answer, 415, "invalid_argument", "no");
        let answer = raw(running.address, post_with("/rpc/counter.total", &format!("{json}{headers}"), "[]")).await;
        assert_eq!(answer.body, "0", "{headers}: nothing was bumped");
        assert_eq!(answer.header("access-control-allow-origin"), "", "{headers}: it needs none");
    }
}

#[tokio::test]
async fn pages_of_named_origins_may_call() {
    let running = Running::new(everything().origins(["https://app.example", "http://Other.example:8080/"])).await;
    let json = "content-type: application/json\r\n";
    for origin in ["https://app.example", "http://other.example:8080"] {
        let headers = format!("{json}sec-fetch-site: cross-site\r\norigin: {origin}\r\n");
        let answer = raw(running.address, post_with("/rpc/add", &headers, "[1,2]")).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "3"), "{answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), origin);
        assert_eq!(answer.header("vary"), "origin");
        let answer = raw(running.address, post_with("/rpc/none", &headers, "[1,2]")).await;
        assert_eq!(answer.status, 404, "{answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), origin, "a page may read errors too");

        let asked = format!("origin: {origin}\r\naccess-control-request-method: POST\r\n");
        let answer = raw(running.address, verb("OPTIONS", "/rpc/add", &asked)).await;
        assert_eq!((answer.status, answer.body.as_str()), (204, ""), "{answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), origin);
        assert_eq!(answer.header("access-control-allow-methods"), "GET, POST");
        assert!(answer.header("access-control-allow-headers").contains("content-type"), "{answer:?}");
        assert_eq!(answer.header("access-control-allow-credentials"), "", "none are asked for");
        assert_eq!(answer.header("access-control-max-age"), "600", "as long as nobody says otherwise");
        assert_eq!(answer.header("access-control-expose-headers"), "byname-protocol, byname-ways, retry-after");
    }
    let asked = "origin: https://evil.test\r\naccess-control-request-method: POST\r\n";
    let answer = raw(running.address, verb("OPTIONS", "/rpc/add", asked)).await;
    problem(&answer, 403, "permission_denied", "no");
}

#[tokio::test]
async fn pages_of_origins_that_fit_a_pattern_may_call_by_every_way() {
    let running = Running::new(everything().origins(["https://*.app.example"])).await;
    for (origin, is_allowed) in [
        ("https://pr-17.app.example", true),
        ("https://app.example", false),
        ("https://a.b.app.example", false),
        ("https://pr-17.app.example.evil.test", false),
        ("http://pr-17.app.example", false),
    ] {
        let page = format!("content-type: application/json\r\nsec-fetch-site: cross-site\r\norigin: {origin}\r\n");
        let preflight = format!("origin: {origin}\r\naccess-control-request-method: POST\r\n");
        let upgrade = crate::harness::peer::asking(|headers| headers.push(("origin", origin.into())));
        for (request, status) in [
            (post_with("/rpc/add", &page, "[1,2]"), 200),
            (post_with("/rpc", &page, r#"{"fun":"add","args":[1,2]}"#), 200),
            (verb("OPTIONS", "/rpc/add", &preflight), 204),
            (upgrade, 101),
        ] {
            let answer = raw(running.address, &request).await;
            assert_eq!(answer.status, if is_allowed { status } else { 403 }, "{request}");
            assert_eq!(answer.header("access-control-allow-origin"), if is_allowed { origin } else { "" }, "{request}");
        }
    }
}

#[tokio::test]
async fn pages_of_named_origins_are_told_what_else_they_may_do() {
    let running = Running::new(everything().origins(["https://app.example"]).cors(|cors| {
        cors.allow_headers(["x-user", "X-Tenant"])
            .expose_headers(["x-served", "retry-after"])
            .allow_credentials(true)
            .max_age(Duration::from_millis(600_999))
    }))
    .await;
    let page = "origin: https://app.example\r\nsec-fetch-site: cross-site\r\n";
    let asked = format!("{page}access-control-request-method: GET\r\naccess-control-request-headers: x-user\r\n");
    let leave = raw(running.address, verb("OPTIONS", "/rpc/whoami", &asked)).await;
    assert_eq!((leave.status, leave.header("access-control-allow-origin")), (204, "https://app.example"), "{leave:?}");
    assert_eq!(leave.header("access-control-allow-credentials"), "true");
    assert_eq!(leave.header("access-control-max-age"), "600");
    assert_eq!(
        leave.header("access-control-allow-headers"),
        "authorization, byname-timeout-ms, content-type, idempotency-key, traceparent, tracestate, x-user, X-Tenant"
    );
    for (request, status) in [
        (verb("GET", "/rpc/whoami", &format!("{page}x-user: ada\r\n")), 200),
        (verb("GET", "/rpc/none", page), 404),
        // What a page did wrong, it may read.
        (verb("GET", "/rpc/whoami", &format!("{page}byname-timeout-ms: soon\r\n")), 400),
    ] {
        let answer = raw(running.address, request).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), "https://app.example", "{answer:?}");
        assert_eq!(answer.header("access-control-allow-credentials"), "true");
        assert_eq!(
            answer.header("access-control-expose-headers"),
            "byname-protocol, byname-ways, retry-after, x-served"
        );
        assert_eq!(answer.header("access-control-max-age"), "", "it is about preflights");
    }
    for others in ["", "origin: http://localhost\r\n", "origin: https://evil.test\r\n"] {
        let answer = raw(running.address, verb("GET", "/rpc/whoami", others)).await;
        let granted = answer.headers.keys().find(|name| name.starts_with("access-control-"));
        assert_eq!(granted, None, "{others}");
    }
}

#[tokio::test]
async fn cors_settings_that_browsers_ignore_fail_the_start() {
    let start = |server: Server| match server.into_service() {
        Ok(_) => None,
        Err(error) => Some(error.message().to_owned()),
    };
    let credentials = || everything().cors(|cors| cors.allow_credentials(true));
    let named = credentials().origins(["https://app.example"]).cors(|cors| cors.allow_headers(["x-user"]));
    assert_eq!(start(named), None);
    assert_eq!(start(credentials().origins(["https://*.app.example"])), None);
    assert_eq!(start(everything().origins(["*"])), None);
    let both = start(everything().origins(["*", "https://a.example"])).unwrap();
    assert!(
        both.contains("`Server::origins` has `*`, which is every page of the web, so `https://a.example` beside it"),
        "{both}"
    );
    assert_eq!(start(everything().cors(|cors| cors.allow_headers(["*"]).expose_headers(["*"]))), None);
    for (server, named) in [
        (credentials().origins(["https://app.example", "*"]), "`Server::origins` has `*`"),
        (credentials().cors(|cors| cors.allow_headers(["*"])), "`Cors::allow_headers` has `*`"),
        (credentials().cors(|cors| cors.expose_headers(["*"])), "`Cors::expose_headers` has `*`"),
        (everything().origins(["app.example"]), "`Server::origins`: `app.example`"),
        (everything().cors(|cors| cors.allow_headers(["x-a, x-b"])), "`Cors::allow_headers`: `x-a, x-b`"),
        (everything().cors(|cors| cors.expose_headers([""])), "`Cors::expose_headers`: ``"),
    ] {
        let message = start(server).unwrap();
        assert!(message.contains(named), "{message}");
    }
}

#[tokio::test]
async fn a_server_with_require_json_accepts_only_json() {
    let running = Running::new(everything().require_json(true)).await;
    for (content_type, status) in [
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("application/jsonp", 415),
    ] {
        let header = format!("content-type: {content_type}\r\n");
        let answer = raw(running.address, post_with("/rpc/add", &header, "[1,2]")).await;
        assert_eq!(answer.status, status, "{content_type}");
    }
    problem(&raw(running.address, post("/rpc/add", "[1,2]")).await, 415, "invalid_argument", "no");
    assert_eq!(raw(running.address, post("/rpc/nothing", "")).await.body, "null", "no body has no type");
    assert_eq!(raw(running.address, get("/rpc/add?a=1&b=2")).await.body, "3");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_and_closed() {
    let running = Running::new(everything().limits(|limits| limits.header = 256 << 10)).await;
    let long = "x".repeat(100_000);
    let headers: String = (0..101).map(|at| format!("x-{at}: y\r\n")).collect();
    for (request, status) in [
        (get(&format!("/rpc/greet?name={long}")), 414),
        (verb("GET", "/rpc/add?a=1&b=2", &format!("x: {}\r\n", long.repeat(10))), 431),
        (verb("GET", "/rpc/add?a=1&b=2", &headers), 431),
    ] {
        let mut caller = Caller::to(running.address).await;
        caller.send(request).await;
        let answer = caller.rest().await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    }
    let answer = raw(running.address, verb("GET", "/rpc/add?a=1&b=2", &format!("x: {long}\r\n"))).await;
    assert_eq!(answer.body, "3", "this one is within the limit");
}

#[tokio::test]
async fn a_connection_that_is_not_http_is_closed_and_the_log_says_why() {
    let mut log = Log::new();
    let running = Running::new(everything().limits(|limits| limits.header_read = std::time::Duration::from_millis(20)));
    let running = running.await;
    for (bytes, words) in [(&b"PRI * HTTP/2.0\r\n\r\nS"[..], "`Limits::header_read`"), (b"", "`Limits::header_read`")] {
        let mut caller = Caller::to(running.address).await;
        caller.send(bytes).await;
        assert_eq!(caller.rest().await, "");
        log.until(words).await;
    }
    for bytes in
        ["nonsense\r\n\r\n", "GET /rpc HTTP/3.0\r\n\r\n", "GET / HTTP/1.1\r\nhost: localhost\r\n x: y\r\n\r\n", "PRI x"]
    {
        let mut caller = Caller::to(running.address).await;
        caller.send(bytes).await;
        let answer = caller.rest().await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{bytes:?}: {answer}");
    }
}

#[tokio::test]
async fn a_tls_handshake_on_a_plain_port_is_told_so() {
    let running = Running::new(everything()).await;
    let mut log = Log::new();
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    // What nobody reads must not destroy the answer.
    for bytes in [&hello[..], &[0x16; 1 << 20]] {
        let mut caller = Caller::to(running.address).await;
        caller.send(bytes).await;
        let answer = caller.answer().await;
        assert_eq!((answer.status, answer.header("connection")), (400, "close"), "{answer:?}");
        let error = &answer.json()["err"];
        assert_eq!((&error["code"], &error["executed"]), (&"failed_precondition".into(), &"no".into()));
        let expected =
            "this port speaks plain HTTP, but the connection began with a TLS handshake; call it with http://";
        assert_eq!(error["message"], expected);
        assert_eq!(caller.rest().await, "");
        let line = log.until("rejected a connection: the peer speaks TLS, this port is plain HTTP").await;
        assert!(line.starts_with("DEBUG"), "the client is told everything: {line}");
    }
    // Only the first bytes of a connection are looked at.
    let mut caller = Caller::to(running.address).await;
    assert_eq!(caller.ask(get("/rpc/add?a=1&b=2")).await.body, "3");
    caller.send(hello).await;
    let answer = caller.rest().await;
    assert!(!answer.contains("TLS"), "{answer}");
}

#[tokio::test]
async fn an_http_2_preface_may_come_in_pieces() {
    let running = Running::new(everything()).await;
    let stream = TcpStream::connect(running.address).await.unwrap();
    let (near, mut far) = tokio::io::duplex(64 << 10);
    // A slow line: one byte at a time.
    tokio::spawn(async move {
        let (mut from, mut to) = stream.into_split();
        tokio::spawn(async move {
            let (mut far_read, mut far_write) = tokio::io::split(&mut far);
            let up = async {
                use tokio::io::{AsyncReadExt, AsyncWriteExt};
                let mut byte = [0];
                while far_read.read_exact(&mut byte).await.is_ok() {
                    to.write_all(&byte).await.unwrap();
                    tokio::task::yield_now().await;
                }
            };
            let down = tokio::io::copy(&mut from, &mut far_write);
            let _ = tokio::join!(up, down);
        });
    });
    let (mut send, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(near)).await.unwrap();
    tokio::spawn(connection);
    let request = hyper::Request::get(format!("http://{}/rpc/add?a=1&b=2", running.address));
    let answer = send.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "3");
}

#[tokio::test]
async fn a_function_cannot_change_the_framing_of_its_answer() {
    let server = Server::new().function("headers", || {
        let call = byname::Context::current().unwrap();
        let own = [
            "content-length",
            "Transfer-Encoding",
            "connection",
            "keep-alive",
            "upgrade",
            "byname-protocol",
            "a b",
            "content-type",
        ];
        let refused = own.map(|name| call.reply_header(name, "1").is_err());
        call.reply_header("x-more", "1").unwrap();
        call.reply_header("x-more", "2").unwrap();
        assert!(call.reply_header("x", "a\r\nb: c").is_err());
        async move { refused }
    });
    let running = Running::new(server).await;
    let answer = raw(running.address, post("/rpc/headers", "")).await;
    assert_eq!(answer.json(), json!(vec![true; 8]), "{answer:?}");
    assert_eq!((answer.header("byname-protocol"), answer.header("content-type")), ("1", "application/json"));
    assert_eq!(answer.header("x-more"), "2", "the last of two");
}
