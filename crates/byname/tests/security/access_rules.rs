//! Rules about who may call what: the same for every way in, and a caller learns nothing of what it may not call.

use std::cell::Cell;
use std::sync::Arc;

use crate::harness::peer::{self, Peer};
use crate::harness::{Caller, Log, Running, Tap, get, post, post_with, raw, verb};
use byname::{Bytes, CallError, Client, Code, Codec, Error, Executed, Listen, Next, Request, Server, Streaming, rpc};
use futures_util::{Stream, StreamExt, stream};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};

thread_local! {
    /// Counts the functions that ran. Each test has a thread and a runtime of its own, so it counts its own functions.
    static RAN: Cell<usize> = const { Cell::new(0) };
}

fn ran<T>(value: T) -> T {
    RAN.set(RAN.get() + 1);
    value
}

#[rpc]
async fn nothing() {}

#[rpc(name = "orders.get", alias = "order", readonly)]
async fn get_order(id: u64) -> u64 {
    id
}

#[rpc(name = "admin.erase", alias = "wipe")]
async fn erase(what: String) -> String {
    ran(what)
}

#[rpc(name = "admin.count", readonly)]
async fn count() -> u64 {
    ran(7)
}

#[rpc(name = "admin.load")]
async fn load(data: Bytes) -> usize {
    ran(data.len())
}

#[rpc(name = "admin.sum")]
async fn sum(mut numbers: Streaming<u64>) -> Result<u64, Error> {
    let mut sum = ran(0);
    while let Some(number) = numbers.next().await {
        sum += number?;
    }
    Ok(sum)
}

#[rpc(name = "admin.follow", readonly)]
fn follow() -> impl Stream<Item = u64> {
    ran(stream::iter([1, 2]))
}

/// No rule speaks of it.
#[rpc]
async fn forgotten() -> u64 {
    ran(1)
}

#[derive(Clone)]
struct User(&'static str);

/// The rules read what an interceptor has found out.
fn guarded() -> Server {
    let server = Server::new().method::<nothing>().method::<get_order>().method::<erase>().method::<count>();
    let server = server.method::<load>().method::<sum>().method::<follow>().method::<forgotten>().listing(false);
    let server = server.intercept(|mut request: Request, next: Next| async move {
        match request.header("authorization") {
            Some("Bearer root") => request.extensions_mut().insert(User("root")),
            Some("Bearer ada") => request.extensions_mut().insert(User("ada")),
            _ => None,
        };
        next.run(request).await
    });
    with_rules(server, |request| request.extensions().get::<User>().is_some_and(|user| user.0 == "root"))
}

/// The same without an interceptor: the rules read the header.
fn guarded_by_rules_alone() -> Server {
    let server = Server::new().method::<nothing>().method::<get_order>().method::<erase>().method::<count>();
    let server = server.method::<load>().method::<sum>().method::<follow>().method::<forgotten>().listing(false);
    with_rules(server, |request| request.header("authorization") == Some("Bearer root"))
}

fn with_rules(server: Server, is_root: impl Fn(&Request) -> bool + Send + Sync + 'static) -> Server {
    server.allow("admin.*", is_root).allow_anyone("orders.get").allow_anyone("nothing")
}

/// A server, and clients of it by every way.
struct Ways {
    clients: Vec<(&'static str, Client)>,
    _open: (Running, [Tap; 2]),
}

async fn ways(server: Server) -> Ways {
    let local = Client::local(&server).unwrap();
    let running = Running::new(server).await;
    let first = running.client();
    let path = running.client();
    path.call::<()>("nothing", ()).await.unwrap();
    let (json, by_json) = Tap::client_by_frames(&running, Codec::Json).await;
    let (message_pack, by_message_pack) = Tap::client_by_frames(&running, Codec::MessagePack).await;
    let clients = vec![
        ("HTTP", first),
        ("HTTP by path", path),
        ("frames in JSON", by_json),
        ("frames in MessagePack", by_message_pack),
        ("in process, encoded", local.encoded(true)),
        ("in process", local),
    ];
    Ways { clients, _open: (running, [json, message_pack]) }
}

/// What a caller sees of a refusal, without the name that it wrote itself.
fn seen(error: &Error, name: &str) -> String {
    let message = error.message().replace(&format!("`{name}`"), "NAME");
    format!("{}, {:?}, {:?}: {message}", error.code(), error.executed(), error.data())
}

fn of(error: CallError<Value>, name: &str) -> String {
    seen(error.rpc().unwrap(), name)
}

/// What a refused caller sees of every name.
const UNIDENTIFIED: &str = "unauthenticated, No, None: there is no function NAME, or only callers that say who they are may \
                            call it; check the name, and send `authorization: Bearer …` (`Client::bearer`)";
const DENIED: &str = "permission_denied, No, None: there is no function NAME, or this caller may not call it; check the name, \
                      and what the rules of the server (`Server::allow`) ask of callers";

#[tokio::test]
async fn the_same_is_refused_by_every_way_and_does_not_run() {
    for server in [guarded(), guarded_by_rules_alone()] {
        let Ways { clients, _open } = ways(server).await;
        let before = RAN.get();
        for (way, client) in &clients {
            let root = client.header("authorization", "Bearer root");
            let ada = client.header("authorization", "Bearer ada");
            // Often enough that frames poll it inline.
            for round in 0..12 {
                for id in [client, &ada, &root] {
                    assert_eq!(get_order::on(id, 7).await.unwrap(), 7, "{way}");
                    assert_eq!(id.call::<u64>("order", (7,)).await.unwrap(), 7, "{way}: the alias of what is allowed");
                }
                let since = RAN.get();
                assert_eq!(erase::on(&root, "all".to_owned()).await.unwrap(), "all", "{way}");
                assert_eq!(root.call::<String>("wipe", ("all",)).await.unwrap(), "all", "{way}");
                assert_eq!(count::on(&root).await.unwrap(), 7, "{way}");
                let numbers = Streaming::new(stream::iter([1, 2]));
                assert_eq!(sum::on(&root, numbers).await.unwrap(), 3, "{way}");
                let items: Vec<_> = follow::on(&root).map(Result::unwrap).collect().await;
                assert_eq!(items, [1, 2], "{way}");
                assert_eq!(RAN.get() - since, 5, "{way}");

                for (caller, expected) in [(client, UNIDENTIFIED), (&ada, DENIED)] {
                    // What exists, by its name and by an alias, what does not exist, and what no rule names.
                    for name in ["admin.erase", "wipe", "admin.count", "forgotten", "admin.nothing", "elsewhere", "x.y"]
                    {
                        let refused = caller.call::<Value>(name, ()).await.unwrap_err();
                        assert_eq!(of(refused, name), expected, "{way}, round {round}: {name}");
                    }
                    let refused = erase::on(caller, "all".to_owned()).await.unwrap_err();
                    assert_eq!(seen(&refused, "admin.erase"), expected, "{way}: a stub");
                    let items: Vec<_> = follow::on(caller).collect().await;
                    let [Err(refused)] = items.as_slice() else { panic!("{items:?}") };
                    assert_eq!(seen(refused, "admin.follow"), expected, "{way}: a stream");
                    let numbers = Streaming::new(stream::iter([1, 2]));
                    let Err(CallError::Rpc(refused)) = sum::on(caller, numbers).await else { panic!("{way}") };
                    assert_eq!(seen(&refused, "admin.sum"), expected, "{way}: a stream of the caller");
                }
                assert_eq!(RAN.get() - since, 5, "{way}: what was refused did not run");
                let forgotten = forgotten::on(&root).await.unwrap_err();
                assert_eq!(seen(&forgotten, "forgotten"), DENIED, "{way}: no rule matches it");
            }
        }
        assert!(RAN.get() > before);
    }
}

/// The answer to a request that calls `name`, as a refused caller sees it: without the name, and without what differs anyway.
async fn answer_to(running: &Running, request: &str, name: &str) -> String {
    let mut answer = raw(running.address, request).await;
    for header in ["content-length", "date"] {
        answer.headers.remove(header);
    }
    format!("{} {:?} {}", answer.status, answer.headers, answer.body.replace(name, "NAME"))
}

#[tokio::test]
async fn over_http_a_name_that_exists_is_answered_as_one_that_does_not() {
    for server in [guarded(), guarded_by_rules_alone()] {
        let running = Running::new(server.limits(|limits| limits.message = 1000)).await;
        for (token, status) in [("", "401 "), ("authorization: Bearer ada\r\n", "403 ")] {
            let path = |name: &str, query: &str| format!("/rpc/{name}{query}");
            let with = |header: &str| format!("{token}{header}\r\n");
            let octets = with("content-type: application/octet-stream");
            let (gzip, lines) = (with("content-encoding: gzip"), with("content-type: application/x-ndjson"));
            let requests = |name: &str| {
                [
                    post_with("/rpc", token, &json!({"fun": name}).to_string()),
                    post_with("/rpc", &lines, &format!("{}\n1\n", json!({"fun": name}))),
                    post_with(&path(name, ""), token, "[]"),
                    post_with(&path(name, ""), token, "[1, 2, 3]"),
                    post_with(&path(name, ""), token, "7"),
                    post_with(&path(name, ""), token, "[1,"),
                    post_with(&path(name, ""), &octets, "7"),
                    post_with(&path(name, ""), token, &"7".repeat(1001)),
                    post_with(&path(name, ""), &gzip, "7"),
                    post_with(&path(name, "?a=%ff"), token, "[]"),
                    verb("GET", &path(name, ""), token),
                    verb("GET", &path(name, "?a=%ff"), token),
                    verb("OPTIONS", &path(name, ""), token),
                    verb("PUT", &path(name, ""), token),
                ]
            };
            for name in ["admin.erase", "admin.count", "admin.load", "admin.sum", "admin.follow", "wipe", "forgotten"] {
                for (request, unknown) in requests(name).iter().zip(requests("nowhere.to")) {
                    let unknown = answer_to(&running, &unknown, "nowhere.to").await;
                    assert!(unknown.starts_with(status), "{request}: {unknown}");
                    assert_eq!(answer_to(&running, request, name).await, unknown, "{request}");
                }
            }
        }
        // Who may call it learns what is wrong.
        let root = "authorization: Bearer root\r\n";
        for (request, status) in [
            (post_with("/rpc/admin.erase", root, "7"), 400),
            (post_with("/rpc/admin.erase", &format!("{root}content-encoding: gzip\r\n"), "7"), 415),
            (post_with("/rpc/admin.erase", root, &"7".repeat(1001)), 413),
            (post_with("/rpc/admin.sum?a=%ff", root, "1\n"), 400),
            (verb("GET", "/rpc/admin.count?a=%ff", root), 400),
            (verb("GET", "/rpc/admin.erase", root), 405),
            (verb("OPTIONS", "/rpc/admin.erase", root), 204),
            (get("/rpc/!live"), 200),
            (get("/rpc/!ready"), 200),
        ] {
            let answer = raw(running.address, &request).await;
            assert_eq!(answer.status, status, "{request}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_stream_that_is_hidden_is_waited_for_as_the_body_of_a_name_that_does_not_exist() {
    let running = Running::new(guarded()).await;
    let head = |name: &str, headers: &str| format!("POST /rpc/{name} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n\r\n");
    let unfinished = |name: &str, headers: &str| head(name, &format!("content-length: 10\r\n{headers}")) + "[1";
    for headers in ["byname-timeout-ms: 50", "byname-timeout-ms: 50\r\nauthorization: Bearer ada"] {
        let unknown = answer_to(&running, &unfinished("nowhere.to", headers), "nowhere.to").await;
        assert!(unknown.starts_with("504 "), "{unknown}");
        for name in ["admin.sum", "admin.load", "admin.erase"] {
            assert_eq!(answer_to(&running, &unfinished(name, headers), name).await, unknown, "{name}");
        }
    }
    // It is also asked for a body that it has announced.
    for name in ["nowhere.to", "admin.sum", "admin.erase"] {
        let mut caller = Caller::to(running.address).await;
        caller.send(head(name, "expect: 100-continue\r\ncontent-length: 2")).await;
        assert_eq!(caller.answer().await.status, 100, "{name}");
        caller.send("[]").await;
        assert_eq!(caller.answer().await.status, 401, "{name}");
        // Its connection continues.
        assert_eq!(caller.ask(get("/rpc/orders.get?id=7")).await.body, "7", "{name}");
    }
    // It is not asked for a body that would be too large.
    let too_large = |name: &str| head(name, "expect: 100-continue\r\ncontent-length: 1000000000");
    let unknown = answer_to(&running, &too_large("nowhere.to"), "nowhere.to").await;
    assert!(unknown.starts_with("401 "), "{unknown}");
    for name in ["admin.sum", "admin.erase"] {
        assert_eq!(answer_to(&running, &too_large(name), name).await, unknown, "{name}");
    }
}

#[cfg(feature = "compression")]
#[tokio::test]
async fn a_compressed_stream_that_is_hidden_has_the_limits_of_the_body_of_a_name_that_does_not_exist() {
    let running = Running::new(guarded().compress(true).limits(|limits| limits.message = 1000)).await;
    // Empty frames of zstd: they decode to nothing. The body is not complete.
    let frames = b"\x28\xb5\x2f\xfd\x20\0\x01\0\0".repeat(400);
    for name in ["nowhere.to", "admin.sum", "admin.erase"] {
        let headers = "byname-timeout-ms: 5000\r\ncontent-encoding: zstd\r\ncontent-length: 4000";
        let head = format!("POST /rpc/{name} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n\r\n");
        let answer = raw(running.address, [head.as_bytes(), &frames].concat()).await;
        assert_eq!(answer.status, 401, "{name}: {answer:?}");
    }
}

#[tokio::test]
async fn who_is_not_identified_is_told_how() {
    let running = Running::new(guarded()).await;
    let answer = raw(running.address, post("/rpc/admin.erase", r#"["all"]"#)).await;
    assert_eq!((answer.status, answer.header("www-authenticate")), (401, "Bearer"));
    let answer =
        raw(running.address, post_with("/rpc/admin.erase", "authorization: Bearer ada\r\n", r#"["all"]"#)).await;
    assert_eq!((answer.status, answer.header("www-authenticate")), (403, ""));
}

#[tokio::test]
async fn each_request_of_a_batch_has_its_rule() {
    let running = Running::new(guarded()).await;
    let request = |name: &str, params: Value| json!({"jsonrpc": "2.0", "id": 1, "method": name, "params": params});
    let batch = json!([
        request("admin.erase", json!(["all"])),
        request("orders.get", json!([7])),
        request("nowhere", json!([])),
        request("admin.erase", json!([1, 2, 3])),
    ]);
    let outcomes = async |headers: &str| {
        let replies = raw(running.address, post_with("/rpc", headers, &batch.to_string())).await.json();
        let outcome = |reply: &Value| reply.get("result").unwrap_or(&reply["error"]["data"]["code"]).clone();
        replies.as_array().unwrap().iter().map(outcome).collect::<Vec<_>>()
    };
    let denied = json!("unauthenticated");
    assert_eq!(outcomes("").await, [denied.clone(), json!(7), denied.clone(), denied]);
    let denied = json!("permission_denied");
    let wrong = json!("invalid_argument");
    // `forgotten` is hidden from root, so an unknown name is not told either.
    assert_eq!(outcomes("authorization: Bearer root\r\n").await, [json!("all"), json!(7), denied, wrong]);
}

#[tokio::test]
async fn http_2_has_the_same_rules() {
    let running = Running::new(guarded()).await;
    let stream = tokio::net::TcpStream::connect(running.address).await.unwrap();
    let (mut send, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for (name, token, status) in [
        ("admin.count", "Bearer root", 200),
        ("admin.count", "Bearer ada", 403),
        ("admin.none", "Bearer ada", 403),
        ("orders.get?id=7", "Bearer ada", 200),
    ] {
        let request = hyper::Request::get(format!("http://{}/rpc/{name}", running.address));
        let request = request.header("authorization", token).body(Full::<hyper::body::Bytes>::default()).unwrap();
        let answer = send.send_request(request).await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{name}");
        answer.into_body().collect().await.unwrap();
    }
}

#[tokio::test]
async fn only_names_that_the_caller_may_call_are_suggested() {
    let Ways { clients, _open } = ways(guarded().listing(true)).await;
    for (way, client) in clients {
        let hint = async |client: &Client, name: &str| {
            let error = client.call::<Value>(name, ()).await.unwrap_err();
            error.rpc().unwrap().message().split_once("; did").map(|(_, hint)| hint.to_owned())
        };
        assert_eq!(hint(&client, "orders.gett").await.as_deref(), Some(" you mean `orders.get` or `order`?"), "{way}");
        assert_eq!(hint(&client, "admin.erasee").await, None, "{way}");
        let root = client.header("authorization", "Bearer root");
        let suggested = hint(&root, "admin.erasee").await.unwrap();
        assert!(suggested.starts_with(" you mean `admin.erase`"), "{way}: {suggested}");
        assert_eq!(hint(&root, "forgoten").await, None, "{way}: no rule names it");
    }
}

/// Nothing is hidden, so an unknown name is told as it is without rules.
#[tokio::test]
async fn who_may_call_everything_is_told_that_a_name_is_unknown() {
    let server = Server::new().method::<count>().method::<get_order>().listing(true);
    let server = server.allow("*", |request| request.header("authorization").is_some());
    let running = Running::new(server).await;
    let answer = raw(running.address, post_with("/rpc/admin.cont", "authorization: Bearer x\r\n", "7")).await;
    assert_eq!(answer.status, 404, "{answer:?}");
    assert!(answer.body.contains("no function is named `admin.cont` here; did you mean `admin.count`?"), "{answer:?}");
    assert_eq!(raw(running.address, post("/rpc/admin.cont", "")).await.status, 401);
}

#[tokio::test]
async fn the_first_rule_that_matches_decides() {
    let server = Server::new().method::<count>().method::<erase>().method::<get_order>();
    let server = server.allow_anyone("admin.count").allow("admin.*", |_| false).allow_anyone("*");
    let client = Client::local(&server).unwrap();
    assert_eq!(client.call::<u64>("admin.count", ()).await.unwrap(), 7);
    assert_eq!(client.call::<u64>("order", (1,)).await.unwrap(), 1);
    let refused = client.call::<Value>("wipe", ("all",)).await.unwrap_err();
    assert_eq!(refused.rpc().unwrap().code(), Code::Unauthenticated);
}

/// A rule sees which function is meant, whatever the call has named.
#[tokio::test]
async fn a_rule_sees_the_function_and_the_call() {
    let server = Server::new().method::<count>().method::<erase>();
    let server = server.method::<nothing>().allow_anyone("nothing").allow("*", |request| {
        let method = request.method().expect("a rule decides about a function");
        method.readonly && request.header("x-who") == Some("ada")
    });
    let Ways { clients, _open } = ways(server).await;
    for (way, client) in clients {
        let ada = client.header("x-who", "ada");
        assert_eq!(count::on(&ada).await.unwrap(), 7, "{way}");
        assert!(erase::on(&ada, "all".into()).await.is_err(), "{way}");
        assert!(count::on(&client).await.is_err(), "{way}");
    }
}

#[tokio::test]
async fn a_rule_that_panics_refuses() {
    let mut log = Log::new();
    let server = Server::new().method::<count>().allow("admin.count", |_| panic!("on purpose"));
    let client = Client::local(&server).unwrap();
    let refused = count::on(&client).await.unwrap_err();
    assert_eq!((refused.code(), refused.executed()), (Code::Unauthenticated, Executed::No));
    let line = log.until("a rule for `admin.count` panicked").await;
    assert!(line.contains("the call is refused"), "{line}");
}

/// What an interceptor passes on is decided by the function that runs, not by the one that was called.
#[tokio::test]
async fn a_request_that_an_interceptor_passes_on_has_the_rule_of_its_own_function() {
    let kept = Arc::new(std::sync::Mutex::new(None));
    let server =
        Server::new().method::<count>().method::<get_order>().intercept(move |request: Request, next: Next| {
            let before = kept.lock().unwrap().replace(request);
            async move {
                match before {
                    Some(before) => next.run(before).await,
                    None => Error::new(Code::Aborted, "kept").into(),
                }
            }
        });
    let client = Client::local(&server.allow("admin.*", |_| false).allow_anyone("orders.get")).unwrap();
    let kept = count::on(&client).await.unwrap_err();
    assert_eq!(kept.code(), Code::Aborted);
    let refused = get_order::on(&client, 7).await.unwrap_err();
    assert_eq!(seen(&refused, "admin.count"), UNIDENTIFIED);
}

#[tokio::test]
async fn a_rule_that_decides_about_nothing_is_an_error_at_the_start() {
    let server = || Server::new().method::<count>().method::<get_order>();
    let why = |server: Server| Client::local(&server).unwrap_err().message().to_owned();
    for (server, expected) in [
        (
            server().allow("admn.*", |_| false),
            "the rule for `admn.*` matches no function of the server; did you mean `admin.*`?",
        ),
        (
            server().allow_anyone("order.*"),
            "the rule for `order.*` matches no function of the server; did you mean `orders.*`?",
        ),
        (
            server().allow_anyone("Orders.*"),
            "the rule for `Orders.*` matches no function of the server; did you mean `orders.*`?",
        ),
        (
            server().allow_anyone("orders.git"),
            "the rule for `orders.git` matches no function of the server; did you mean `orders.get`?",
        ),
        (server().allow_anyone("xyz"), "the rule for `xyz` matches no function of the server; correct the pattern"),
        (
            server().allow_anyone("order"),
            "the rule for `order` matches no function of the server; it is an alias of `orders.get`",
        ),
        (server().allow_anyone("ord*"), "a rule of the server: `ord*` is not a pattern; expected a name"),
        (
            server().allow_anyone("*").allow("admin.*", |_| false),
            "the rule for `admin.*` never decides, because rules before it match all its functions (`*`)",
        ),
        (server().allow_anyone("orders.*").allow_anyone("orders.get"), "the rule for `orders.get` never decides"),
    ] {
        let why = why(server.clone());
        assert!(why.starts_with(expected), "{why}");
        assert!(server.serve("127.0.0.1:0").bind().await.is_err(), "{why}");
    }
}

#[tokio::test]
async fn a_function_that_no_rule_matches_is_a_warning_at_the_start() {
    let mut log = Log::new();
    let _running = Running::new(guarded()).await;
    let line = log.until("nobody can call").await;
    assert!(line.starts_with("WARN"), "{line}");
    assert!(line.contains("no rule matches `forgotten`: nobody can call it; add a rule by `Server::allow`"), "{line}");

    let names: Vec<_> = (0..20).map(|number| format!("f{number:02}")).collect();
    let many = names.iter().fold(Server::new().method::<nothing>().allow_anyone("nothing"), |server, name| {
        server.function(name.as_str(), || async { 1 })
    });
    let _running = Running::new(many.clone()).await;
    let line = log.until("nobody can call").await;
    assert!(line.contains("`f06`, `f07` and 12 more: nobody can call them") && !line.contains("f08"), "{line}");
    let _mounted = many.into_service().unwrap();
    log.until("nobody can call").await;

    // Without rules everybody can call everything.
    let _running = Running::new(Server::new().method::<nothing>()).await;
    log.until("serving 1 function at").await;
    assert!(!log.lines().iter().any(|line| line.contains("nobody can call")));
}

#[tokio::test]
async fn the_log_says_which_rule_has_refused() {
    let mut log = Log::new();
    let running = Running::new(guarded()).await;
    for (name, why) in [
        ("admin.erase", "the rule for `admin.*` does not admit its caller"),
        ("forgotten", "no rule matches it"),
        ("admin.nothing", "no function has this name, and the rules hide some from this caller"),
    ] {
        assert_eq!(raw(running.address, post(&format!("/rpc/{name}"), "[]")).await.status, 401);
        let line = log.until("refused a call of").await;
        assert!(line.starts_with("DEBUG") && line.contains(&format!("refused a call of `{name}`: {why}")), "{line}");
    }
}

/// Only an interceptor can identify a caller by an `authorization` header that has no bearer token.
#[tokio::test]
async fn another_authorization_identifies_nobody_by_itself() {
    let server = || Server::new().method::<count>().method::<get_order>().listing(false);
    let ruled = server().allow_anyone("orders.get").allow("admin.*", |_| false);
    let understood = ruled.clone().intercept(|mut request: Request, next: Next| async move {
        if request.header("authorization") == Some("Basic YWRhOjE=") {
            request.extensions_mut().insert(User("ada"));
        }
        next.run(request).await
    });
    let (ruled, understood) = (Running::new(ruled).await, Running::new(understood).await);
    let hint = "(`Client::bearer`): the `authorization` of this call is not `Bearer`, one space and a token";
    for name in ["admin.count", "admin.nothing"] {
        let path = format!("/rpc/{name}");
        for header in ["Token x", "Basic YWRhOjE=", "bearer  x", "Bearer", "x"] {
            let answer = raw(ruled.address, post_with(&path, &format!("authorization: {header}\r\n"), "[]")).await;
            assert_eq!((answer.status, answer.header("www-authenticate")), (401, "Bearer"), "{header}: {answer:?}");
            assert!(answer.body.contains(hint), "{header}: {answer:?}");
        }
        let answer = raw(ruled.address, post_with(&path, "authorization: bearer x\r\n", "[]")).await;
        assert_eq!(answer.status, 403, "{answer:?}");
        for (header, status) in [("Basic YWRhOjE=", 403), ("Basic YWRhOjI=", 401)] {
            let answer = raw(understood.address, post_with(&path, &format!("authorization: {header}\r\n"), "[]")).await;
            assert_eq!(answer.status, status, "{name}, {header}: {answer:?}");
        }
    }
}

/// A caller that pipelines is answered in order, whatever is refused.
#[tokio::test]
async fn a_connection_goes_on_after_a_refusal() {
    let running = Running::new(guarded()).await;
    let mut caller = Caller::to(running.address).await;
    for _ in 0..2 {
        let refused = caller.ask(post("/rpc/admin.sum", "1\n2\n")).await;
        assert_eq!(refused.status, 401, "{refused:?}");
        assert_eq!(caller.ask(post("/rpc/orders.get", "[7]")).await.body, "7");
    }
}

/// Who has proven who it is gets 403 and no 401. A proxy proves nothing of those behind it.
#[cfg(unix)]
#[tokio::test]
async fn who_calls_over_a_unix_socket_is_identified_unless_a_proxy_passes_the_call_on() {
    let server = Server::new().method::<count>().method::<get_order>().allow("admin.*", |request| {
        request.peer().is_some_and(|peer| peer.identity.is_some()) && request.header("x-in").is_some()
    });
    let running = crate::harness::unix::UnixRunning::new(server.clone()).await;
    let client = running.client();
    assert_eq!(count::on(&client.header("x-in", "1")).await.unwrap(), 7);
    assert_eq!(count::on(&client).await.unwrap_err().code(), Code::PermissionDenied);
    let forwarded = client.header("x-forwarded-for", "192.0.2.1");
    assert_eq!(count::on(&forwarded).await.unwrap_err().code(), Code::Unauthenticated);

    let directory = crate::harness::unix::TemporaryDirectory::new();
    let introduced = Listen::unix(directory.path().join("orders.sock"));
    let running =
        crate::harness::unix::UnixRunning::at(server, Listen::from(introduced).proxy_protocol(["unix"])).await;
    let request =
        "POST /rpc/admin.count HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 2\r\n\r\n[]";
    // A proxy that says that it calls itself is the caller.
    for (header, status) in [("PROXY UNKNOWN\r\n", 403), ("PROXY TCP4 192.0.2.1 10.0.0.1 4711 443\r\n", 401)] {
        let answer = running.raw(&format!("{header}{request}")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{header}: {answer}");
    }
}

/// On a connection of frames that a proxy has passed on, no names are told. A function that is polled inline must not be
/// known by that.
#[tokio::test]
async fn behind_a_proxy_a_refusal_by_frames_suggests_nothing() {
    let server = Server::new().method::<count>().function("admin.counts", || async { 1 });
    let server = server.allow("admin.count", |request| request.header("x-in").is_some()).allow_anyone("admin.counts");
    let running = Running::new(server).await;
    for _ in 0..10 {
        // Often enough to be polled inline.
        assert_eq!(count::on(&running.client().header("x-in", "1")).await.unwrap(), 7);
    }
    for (forwarded, is_told) in [(false, true), (true, false)] {
        for name in ["admin.count", "admin.coumt"] {
            let mut peer = Peer::asking_with(running.address, |headers| {
                if forwarded {
                    headers.push(("x-forwarded-for", "192.0.2.1".into()));
                }
            })
            .await;
            let hello = peer::frame(peer::HELLO, 0, 0, 0, peer::GREETING);
            peer.say([hello, peer::frame(peer::NAME, 0, 0, 0, name), peer::call(0, 1, "[]")].concat()).await;
            let answer = peer.frame().await;
            let text = String::from_utf8_lossy(&answer.payload);
            assert!(text.contains("only callers that say who they are"), "{name}: {text}");
            assert_eq!(text.contains("did you mean `admin.counts`?"), is_told, "{name}, {forwarded}: {text}");
        }
    }
}
