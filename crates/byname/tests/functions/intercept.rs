//! Interceptors, on the server and on the client: the same for every way in.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::harness::{Running, Tap, get, post, post_with, raw, verb, within};
use byname::{Args, Client, Code, Codec, Context, Error, Executed, Kind, Next, Reply, Request, Server, rpc};
use serde_json::{Value, json};

#[derive(Clone)]
struct User(String);

/// Who is calling, as the interceptor established it.
#[rpc(readonly, alias = "me")]
async fn whoami() -> Option<String> {
    Context::current()?.extensions().get::<User>().map(|user| user.0.clone())
}

/// Only for the root user.
#[rpc]
async fn erase(what: String) -> String {
    format!("erased {what}")
}

#[rpc]
async fn fails(own: bool) -> Result<(), String> {
    if own {
        return Err("own".into());
    }
    panic!("on purpose")
}

/// A bearer token establishes who calls; some functions are for root only.
async fn authenticate(mut request: Request, next: Next) -> Result<Reply, Error> {
    let user = match request.header("authorization").and_then(|value| value.strip_prefix("Bearer ")) {
        Some("1234") => User("ada".into()),
        Some("0000") => User("root".into()),
        _ => return Err(Error::new(Code::Unauthenticated, "send authorization: Bearer and your token")),
    };
    // By the function and not by the name, which may be an alias.
    let for_root = request.method().is_some_and(|method| method.name == "erase");
    if for_root && user.0 != "root" {
        return Err(Error::new(Code::PermissionDenied, format!("{} may not erase", user.0)));
    }
    request.extensions_mut().insert(user);
    Ok(next.run(request).await)
}

fn guarded() -> Server {
    Server::new().method::<whoami>().method::<erase>().method::<fails>().intercept(authenticate)
}

/// The same server over HTTP/1.1, by both ways, and in this process, with and without encoding.
async fn clients(server: Server) -> (Running, Vec<Client>) {
    let local = Client::local(&server).unwrap();
    let running = Running::new(server).await;
    let plain = Client::new(format!("{}/rpc", running.address)).unwrap();
    let all = vec![plain, local.encoded(true), local];
    (running, all)
}

#[tokio::test]
async fn a_token_establishes_an_identity_that_functions_read() {
    let (_running, clients) = clients(guarded()).await;
    for client in clients {
        for _ in 0..2 {
            let refused = whoami::on(&client).await.unwrap_err();
            assert_eq!((refused.code(), refused.executed()), (Code::Unauthenticated, Executed::No), "{client:?}");
            let ada = client.header("authorization", "Bearer 1234");
            assert_eq!(whoami::on(&ada).await.unwrap().as_deref(), Some("ada"));
            assert_eq!(ada.call::<Option<String>>("me", ()).await.unwrap().as_deref(), Some("ada"));
            let refused = erase::on(&ada, "all".into()).await.unwrap_err();
            assert_eq!((refused.code(), refused.executed()), (Code::PermissionDenied, Executed::No));
            let root = client.header("authorization", "Bearer 0000");
            assert_eq!(erase::on(&root, "all".into()).await.unwrap(), "erased all");
        }
    }
}

#[tokio::test]
async fn no_way_in_bypasses_an_interceptor() {
    let running = Running::new(guarded()).await;
    for request in [
        post("/rpc", r#"{"fun": "erase", "args": ["all"]}"#),
        post("/rpc", r#"{"fun": "nothing"}"#),
        post("/rpc/erase", r#"["all"]"#),
        post("/rpc/erase", r#"[1, 2, 3]"#),
        post("/rpc/me", ""),
        post("/rpc/nothing", ""),
        get("/rpc/whoami"),
        get("/rpc/erase?what=all"),
        get("/rpc/nothing"),
        verb("OPTIONS", "/rpc/erase", ""),
        verb("OPTIONS", "/rpc/nothing", ""),
        verb("PUT", "/rpc/erase", ""),
    ] {
        let answer = raw(running.address, request.clone()).await;
        assert_eq!(answer.status, 401, "nothing is told of what is there: {request:?}: {answer:?}");
        assert!(!answer.body.contains("erase"), "{answer:?}");
    }
    let answer = raw(running.address, verb("GET", "/rpc/erase?what=all", "authorization: Bearer 0000\r\n")).await;
    assert_eq!((answer.status, answer.header("allow")), (405, "POST, OPTIONS"), "{answer:?}");
    assert_eq!(answer.json()["status"], 405);
    for probe in ["/rpc/!live", "/rpc/!ready"] {
        assert_eq!(raw(running.address, get(probe)).await.status, 200, "an orchestrator has no token");
    }
}

/// One request of JSON-RPC; without an id it is a notification.
fn json_rpc(name: &str, params: &Value, id: Option<u8>) -> Value {
    let id = id.map(|id| format!(r#","id":{id}"#)).unwrap_or_default();
    serde_json::from_str(&format!(r#"{{"jsonrpc":"2.0","method":"{name}","params":{params}{id}}}"#)).unwrap()
}

/// The results and the codes of a batch's replies.
fn outcomes(replies: &Value) -> Vec<Value> {
    let outcome = |reply: &Value| reply.get("result").unwrap_or(&reply["error"]["data"]["code"]).clone();
    replies.as_array().unwrap().iter().map(outcome).collect()
}

#[tokio::test]
async fn no_json_rpc_request_bypasses_an_interceptor() {
    let erased = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&erased);
    let erase = move |_: String| {
        count.fetch_add(1, Ordering::Relaxed);
        async {}
    };
    let running = Running::new(Server::new().method::<whoami>().function("erase", erase).intercept(authenticate)).await;
    let requests = [
        json_rpc("whoami", &json!([]), Some(1)),
        json_rpc("erase", &json!(["all"]), Some(2)),
        json_rpc("erase", &json!(["all"]), None),
        json_rpc("erase", &json!(["too", "many"]), Some(3)),
        json_rpc("nothing", &json!([]), Some(4)),
        json_rpc("me", &json!({}), Some(5)),
    ];
    let batch = json!(requests).to_string();
    let ask = async |headers: &str, body: &str| raw(running.address, post_with("/rpc", headers, body)).await;
    let (ada, root) = ("authorization: Bearer 1234\r\n", "authorization: Bearer 0000\r\n");

    let refused = ask("", &batch).await;
    assert_eq!(
        outcomes(&refused.json()),
        vec![json!("unauthenticated"); 5],
        "each, and nothing is told of what is there"
    );
    assert!(!refused.body.contains("erase"), "{refused:?}");
    for request in &requests {
        let alone = ask("", &request.to_string()).await;
        let status = if request.get("id").is_some() { 200 } else { 204 };
        assert_eq!((alone.status, alone.body.contains("result")), (status, false), "{request}: {alone:?}");
    }
    let (denied, unknown) = (json!("permission_denied"), json!("unimplemented"));
    let told = outcomes(&ask(ada, &batch).await.json());
    assert_eq!(told, [json!("ada"), denied.clone(), denied, unknown.clone(), json!("ada")]);
    assert_eq!(erased.load(Ordering::Relaxed), 0);

    let told = outcomes(&ask(root, &batch).await.json());
    assert_eq!(told, [json!("root"), Value::Null, json!("invalid_argument"), unknown, json!("root")]);
    assert_eq!(erased.load(Ordering::Relaxed), 2, "the notification as well");
}

#[tokio::test]
async fn a_log_and_a_rate_limit_count_each_request_of_a_batch() {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&lines);
    let count = Arc::new(AtomicUsize::new(0));
    let server = Server::new().method::<whoami>().method::<fails>();
    let server = server.intercept(move |request: Request, next: Next| {
        let log = Arc::clone(&log);
        async move {
            let called = request.name().to_owned();
            let reply = next.run(request).await;
            log.lock().unwrap().push((called, reply.code()));
            reply
        }
    });
    let server = server.intercept(move |request: Request, next: Next| {
        let is_too_much = count.fetch_add(1, Ordering::Relaxed) >= 4;
        async move {
            if is_too_much {
                return Err(Error::new(Code::ResourceExhausted, "four calls are enough"));
            }
            Ok(next.run(request).await)
        }
    });
    let running = Running::new(server).await;
    let body = json!([
        json_rpc("me", &json!([]), Some(1)),
        json_rpc("fails", &json!([true]), Some(2)),
        json_rpc("fails", &json!([true]), None),
        json_rpc("nothing", &json!([]), Some(3)),
        json_rpc("me", &json!([]), Some(4)),
        "no request",
        json_rpc("me", &json!([]), None),
    ]);
    let replies = raw(running.address, post("/rpc", &body.to_string())).await.json();
    let told = ["unknown", "unimplemented", "resource_exhausted", "invalid_argument"].map(Value::from);
    assert_eq!(outcomes(&replies), [&[Value::Null][..], &told[..]].concat());
    let seen = [
        ("me", None),
        ("fails", Some(Code::Unknown)),
        ("fails", Some(Code::Unknown)),
        ("nothing", Some(Code::Unimplemented)),
        ("me", Some(Code::ResourceExhausted)),
        ("me", Some(Code::ResourceExhausted)),
    ];
    assert_eq!(*lines.lock().unwrap(), seen.map(|(name, code)| (name.to_owned(), code)));
}

/// What a log would write of each call.
#[tokio::test]
async fn a_log_interceptor_sees_every_call_and_its_outcome() {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&lines);
    let server = Server::new().method::<whoami>().method::<fails>().intercept(move |request: Request, next: Next| {
        let log = Arc::clone(&log);
        async move {
            let (called, found) = (request.name().to_owned(), request.method().map(|method| method.name.to_string()));
            let reply = next.run(request).await;
            let own = reply.error().is_some_and(|error| error.kind() == Kind::Method);
            log.lock().unwrap().push((called, found, reply.code(), own));
            reply
        }
    });
    let (_running, clients) = clients(server).await;
    for client in clients {
        client.call::<Value>("me", ()).await.unwrap();
        fails::on(&client, true).await.unwrap_err();
        fails::on(&client, false).await.unwrap_err();
        client.call::<Value>("nothing", ()).await.unwrap_err();
        client.call::<Value>("fails", ("too", "many")).await.unwrap_err();
        let fails = Some("fails".to_owned());
        let expected = [
            ("me".to_owned(), Some("whoami".to_owned()), None, false),
            ("fails".to_owned(), fails.clone(), Some(Code::Unknown), true),
            ("fails".to_owned(), fails.clone(), Some(Code::Internal), false),
            ("nothing".to_owned(), None, Some(Code::Unimplemented), false),
            ("fails".to_owned(), fails, Some(Code::InvalidArgument), false),
        ];
        assert_eq!(std::mem::take(&mut *lines.lock().unwrap()), expected, "{client:?}");
    }
}

/// At most so many calls for each caller, until somebody counts anew.
#[tokio::test]
async fn a_rate_limit_counts_by_caller() {
    let counts = Arc::new(Mutex::new(HashMap::<String, usize>::new()));
    let server = Server::new().method::<whoami>().intercept(move |request: Request, next: Next| {
        let caller = request.header("x-user").unwrap_or("nobody").to_owned();
        let count = {
            let mut counts = counts.lock().unwrap();
            let count = counts.entry(caller).or_default();
            *count += 1;
            *count
        };
        async move {
            if count > 2 {
                let error = Error::new(Code::ResourceExhausted, "two calls are enough");
                return Reply::from(error.with_retry_after(Duration::from_secs(7)));
            }
            next.run(request).await
        }
    });
    let running = Running::new(server).await;
    for (user, expected) in [("ada", 200), ("ada", 200), ("bob", 200), ("ada", 429), ("bob", 200), ("bob", 429)] {
        let answer = raw(running.address, post_with("/rpc/whoami", &format!("x-user: {user}\r\n"), "")).await;
        assert_eq!(answer.status, expected, "{user}");
        if expected == 429 {
            assert_eq!((answer.header("retry-after"), &answer.json()["executed"]), ("7", &json!("no")));
        }
    }
}

#[tokio::test]
async fn the_first_added_is_the_outermost_on_both_sides() {
    let mark = |mark: &'static str| {
        move |mut request: Request, next: Next| async move {
            let trail = format!("{}{mark}", request.header("x-trail").unwrap_or_default());
            request.set_header("x-trail", &trail)?;
            let mut reply = next.run(request).await;
            let back = reply.metadata().get("x-back").map_or("", |value| value.to_str().unwrap()).to_owned();
            reply.set_header("x-back", &format!("{back}{mark}"))?;
            Ok::<_, Error>(reply)
        }
    };
    let trail = || async { Context::current().unwrap().header("x-trail").map(ToOwned::to_owned) };
    let server = Server::new().function("trail", trail).intercept(mark("c")).intercept(mark("d"));
    let (_running, clients) = clients(server).await;
    for client in clients {
        let client = client.intercept(mark("a")).intercept(mark("b"));
        let (there, metadata) = client.call::<String>("trail", ()).with_metadata().await.unwrap();
        assert_eq!((there.as_str(), metadata["x-back"].to_str().unwrap()), ("abcd", "dcba"), "{client:?}");
    }
}

#[tokio::test]
async fn an_error_of_an_interceptor_says_whether_the_function_ran() {
    let ran = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ran);
    let server = Server::new()
        .function("count", move || {
            count.fetch_add(1, Ordering::Relaxed);
            async {}
        })
        .intercept(|request: Request, next: Next| async move {
            match request.header("x-when").map(ToOwned::to_owned).as_deref() {
                Some("before") => Err(Error::new(Code::Aborted, "before")),
                Some("panics before") => panic!("on purpose"),
                Some("after") => {
                    next.run(request).await;
                    Err(Error::new(Code::Aborted, "after"))
                }
                Some("panics after") => {
                    next.run(request).await;
                    panic!("on purpose")
                }
                _ => Ok(next.run(request).await),
            }
        });
    let (_running, clients) = clients(server).await;
    for client in clients {
        for (when, code, executed) in [
            ("before", Code::Aborted, Executed::No),
            ("panics before", Code::Internal, Executed::No),
            ("after", Code::Aborted, Executed::Yes),
            ("panics after", Code::Internal, Executed::Yes),
        ] {
            let before = ran.load(Ordering::Relaxed);
            let call = client.header("x-when", when).call::<()>("count", ()).await.unwrap_err();
            let error = call.rpc().unwrap();
            assert_eq!((error.code(), error.executed()), (code, executed), "{when}: {client:?}");
            assert!(!error.message().contains("on purpose"), "{error}");
            let times = ran.load(Ordering::Relaxed) - before;
            // What provably did not run is sent again, so the count says more than that it stayed.
            assert_eq!(times, usize::from(executed == Executed::Yes), "{when}: {client:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_interceptor_ends_at_the_deadline_of_its_call() {
    let server = Server::new().method::<whoami>().intercept(|_: Request, _: Next| std::future::pending::<Reply>());
    let client = Client::local(&server).unwrap().timeout(Duration::from_secs(5));
    let error = whoami::on(&client).await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::DeadlineExceeded, Executed::No));
    assert!(error.message().contains("interceptor"), "{error}");
}

#[tokio::test]
async fn interceptors_are_work_in_flight() {
    let server = Server::new()
        .method::<whoami>()
        .limits(|limits| limits.in_flight = 1)
        .intercept(|_: Request, _: Next| std::future::pending::<Reply>());
    let client = Client::local(&server).unwrap();
    let mut first = Box::pin(whoami::on(&client).into_future());
    assert!(poll_once(&mut first).is_pending());
    let error = whoami::on(&client).await.unwrap_err();
    assert_eq!((error.code(), error.limit()), (Code::ResourceExhausted, Some("in_flight")));
    drop(first);
    let mut again = Box::pin(whoami::on(&client).into_future());
    assert!(poll_once(&mut again).is_pending(), "the place was given back");
}

fn poll_once<F: Future + Unpin>(future: &mut F) -> std::task::Poll<F::Output> {
    std::pin::Pin::new(future).poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
}

#[tokio::test]
async fn a_client_can_refuse_a_call_before_it_is_sent() {
    let server = Server::new().method::<erase>();
    let (_running, clients) = clients(server).await;
    for client in clients {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let client = client.intercept(move |request: Request, next: Next| {
            let log = Arc::clone(&log);
            async move {
                log.lock().unwrap().push((request.name().to_owned(), request.method().is_some()));
                if request.method().is_none() {
                    return Err(Error::new(Code::FailedPrecondition, "only typed calls"));
                }
                Ok(next.run(request).await)
            }
        });
        assert_eq!(erase::on(&client, "x".into()).await.unwrap(), "erased x");
        let refused = client.call::<String>("erase", Args::new().arg("x")).await.unwrap_err();
        let refused = refused.rpc().unwrap();
        assert_eq!((refused.code(), refused.executed()), (Code::FailedPrecondition, Executed::No));
        assert_eq!(*seen.lock().unwrap(), [("erase".to_owned(), true), ("erase".to_owned(), false)]);
    }
}

/// The task that this call runs in.
#[rpc(readonly)]
async fn task() -> String {
    tokio::task::id().to_string()
}

/// Without one for each call: that of the connection runs quick functions itself, and the interceptors around them.
#[tokio::test]
async fn quick_functions_behind_an_interceptor_run_in_the_task_of_their_connection() {
    let server = Server::new().function("nothing", || async {}).method::<task>();
    let server = server.intercept(|request: Request, next: Next| async move { next.run(request).await });
    let running = Running::new(server).await;
    let (_tap, client) = Tap::client_by_frames(&running, Codec::MessagePack).await;
    within(async {
        let mut last = task::on(&client).await.unwrap();
        loop {
            let this = task::on(&client).await.unwrap();
            if this == last {
                break;
            }
            last = this;
        }
    })
    .await;
}

#[tokio::test]
async fn an_interceptor_that_waits_delays_no_other_call_of_its_connection() {
    let waiting = Arc::new(tokio::sync::Semaphore::new(0));
    let door = Arc::clone(&waiting);
    let server = Server::new().function("nothing", || async {}).method::<task>();
    let server = server.intercept(move |request: Request, next: Next| {
        let door = Arc::clone(&door);
        async move {
            if request.header("x-waits").is_some() {
                door.acquire().await.unwrap().forget();
            }
            let mut reply = next.run(request).await;
            reply.set_header("x-seen", "yes")?;
            Ok::<_, Error>(reply)
        }
    });
    let running = Running::new(server).await;
    let (_tap, client) = Tap::client_by_frames(&running, Codec::MessagePack).await;
    // Enough for the function to be quick.
    for _ in 0..50 {
        task::on(&client).await.unwrap();
    }
    let held = client.header("x-waits", "yes");
    let held: Vec<_> = (0..3).map(|_| tokio::spawn(task::on(&held).with_metadata())).collect();
    for _ in 0..50 {
        let (_, metadata) = task::on(&client).with_metadata().await.unwrap();
        assert_eq!(metadata["x-seen"], "yes");
    }
    waiting.add_permits(held.len());
    for held in held {
        let (_, metadata) = within(held).await.unwrap().unwrap();
        assert_eq!(metadata["x-seen"], "yes");
    }
}
