//! A server as a part of an axum application, with layers around it.

mod by_frames;
#[path = "../harness/mod.rs"]
mod harness;
mod layers;
mod stopping;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::map_request;
use axum::routing::get as route;
use axum::{Router, serve};
use byname::{Client, Code, Context, Executed, Limits, Server, rpc};
use harness::{Caller, add, get, post, post_with, raw, within};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::TimeoutLayer;

/// Where the application serves until the test's runtime ends.
async fn serving(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).into_future());
    address
}

#[rpc(readonly)]
async fn peer() -> Option<SocketAddr> {
    Context::current()?.peer()?.address.socket_addr()
}

fn functions() -> Server {
    Server::new().method::<add>().method::<peer>()
}

#[tokio::test]
async fn an_application_has_routes_of_its_own_beside_the_calls() {
    let app = Router::new()
        .route("/", route(|| async { "hello" }))
        .nest_service("/api", functions().into_service().unwrap())
        .nest_service("/at/the/place", functions().endpoint("/").into_service().unwrap());
    let address = serving(app).await;
    for (request, status, body) in [
        (get("/"), 200, "hello"),
        (post("/api/rpc/add", "[1,2]"), 200, "3"),
        (get("/api/rpc/add?a=1&b=2"), 200, "3"),
        (post("/api/rpc", r#"{"fun":"add","args":[1,2]}"#), 200, r#"{"ret":3}"#),
        (post("/at/the/place", r#"{"fun":"add","args":[1,2]}"#), 200, r#"{"ret":3}"#),
        (post("/at/the/place/add", "[1,2]"), 200, "3"),
        (get("/api/rpc/!ready"), 200, "ok\n"),
    ] {
        let answer = raw(address, &request).await;
        assert_eq!((answer.status, answer.body.as_str()), (status, body), "{request}");
    }
    let nothing = raw(address, post("/api/rpc/sub", "[1,2]")).await;
    assert_eq!((nothing.status, nothing.header("content-type")), (404, "application/problem+json"));
    let elsewhere = raw(address, post("/api/add", "[1,2]")).await;
    let message = elsewhere.json()["message"].to_string();
    assert_eq!(elsewhere.status, 404);
    assert!(message.contains("nothing is at `…/add`: a call is `POST …/rpc/name`"), "{message}");
    assert_eq!(raw(address, get("/elsewhere")).await.status, 404);
}

#[tokio::test]
async fn json_rpc_is_spoken_where_it_is_mounted() {
    let (called, mut calls) = tokio::sync::mpsc::unbounded_channel();
    let noted = move |text: String| {
        let called = called.clone();
        async move { called.send(text).unwrap() }
    };
    let rpc = functions().function("note", noted).into_service().unwrap();
    let address = serving(Router::new().route("/", route(|| async { "hello" })).nest_service("/api", rpc)).await;
    let add = r#"{"jsonrpc":"2.0","method":"add","params":[1,2],"id":1.0}"#;
    let sum = r#"{"jsonrpc":"2.0","result":3,"id":1.0}"#;
    let note = |word: &str| format!(r#"{{"jsonrpc":"2.0","method":"note","params":{{"arg0":"{word}"}}}}"#);
    let mut caller = Caller::to(address).await;
    for (body, status, expected) in [
        (add.to_owned(), 200, sum.to_owned()),
        (note("alone"), 204, String::new()),
        (format!("[{add},{},{add}]", note("among others")), 200, format!("[{sum},{sum}]")),
        (format!("[{}]", note("all")), 204, String::new()),
    ] {
        let answer = caller.ask(post("/api/rpc", &body)).await;
        assert_eq!((answer.status, answer.body), (status, expected), "{body}");
    }
    for word in ["alone", "among others", "all"] {
        assert_eq!(calls.try_recv().unwrap(), word, "it had run when it was answered");
    }
    let unknown = caller.ask(post("/api/rpc", r#"{"jsonrpc":"2.0","method":"sub","id":7}"#)).await;
    assert_eq!((unknown.status, &unknown.json()["error"]["code"]), (200, &(-32601).into()));
    assert_eq!(caller.ask(post("/api", add)).await.status, 404, "it is not mounted there");
}

#[tokio::test]
async fn clients_call_what_is_mounted_as_they_call_a_server() {
    let app = Router::new().nest_service("/api", functions().into_service().unwrap());
    let client = Client::new(format!("{}/api/rpc", serving(app).await)).unwrap();
    for n in 0..10 {
        assert_eq!(add::on(&client, n, 1).await.unwrap(), n + 1);
    }
    let unknown = client.call::<i64>("sub", (1, 2)).await.unwrap_err();
    assert_eq!((unknown.rpc().unwrap().code(), unknown.executed()), (Code::Unimplemented, Executed::No));
    let (_, metadata) = add::on(&client, 1, 2).with_metadata().await.unwrap();
    assert_eq!(metadata["keep-alive"], "timeout=5", "the outer server may close its connections soon");
}

#[tokio::test]
async fn the_peer_is_what_the_outer_server_says() {
    let rpc = functions().into_service().unwrap();
    let alone = serving(Router::new().nest_service("/api", rpc.clone())).await;
    assert_eq!(raw(alone, post("/api/rpc/peer", "")).await.body, "null");
    let named = map_request(|ConnectInfo(peer): ConnectInfo<SocketAddr>, mut request: Request| async move {
        request.extensions_mut().insert(peer);
        request
    });
    let address = serving(Router::new().nest_service("/api", rpc).layer(named)).await;
    let mut caller = Caller::to(address).await;
    let own = caller.stream.local_addr().unwrap();
    assert_eq!(caller.ask(post("/api/rpc/peer", "")).await.body, format!("\"{own}\""));
}

#[tokio::test]
async fn the_peer_is_read_from_axums_connect_info() {
    let from_axum = |extensions: &axum::http::Extensions| Some(extensions.get::<ConnectInfo<SocketAddr>>()?.0);
    let rpc = functions().into_service().unwrap().peer_from(from_axum);
    let address = serving(Router::new().nest_service("/api", rpc)).await;
    let mut caller = Caller::to(address).await;
    let own = caller.stream.local_addr().unwrap();
    assert_eq!(caller.ask(post("/api/rpc/peer", "")).await.body, format!("\"{own}\""));

    // Without it, a plain address counts.
    let proxied: SocketAddr = "10.0.0.1:80".parse().unwrap();
    let rpc = functions().into_service().unwrap().peer_from(|_| None::<SocketAddr>);
    let app = Router::new().nest_service("/api", rpc).layer(axum::Extension(proxied));
    assert_eq!(raw(serving(app).await, post("/api/rpc/peer", "")).await.body, format!("\"{proxied}\""));
}

/// Who has connected to the application's unix socket, as the application says it.
#[cfg(unix)]
#[derive(Clone)]
struct Known(byname::Peer);

#[cfg(unix)]
impl axum::extract::connect_info::Connected<axum::serve::IncomingStream<'_, tokio::net::UnixListener>> for Known {
    fn connect_info(stream: axum::serve::IncomingStream<'_, tokio::net::UnixListener>) -> Self {
        let said = stream.io().peer_cred().unwrap();
        let pid = said.pid().and_then(|pid| pid.try_into().ok());
        let mut peer = byname::Peer::from(byname::Address::Unix(None));
        peer.identity = Some(byname::Identity::Unix(byname::UnixCredentials::new(said.uid(), said.gid(), pid)));
        Self(peer)
    }
}

#[cfg(unix)]
#[rpc(readonly)]
async fn printed_peer() -> Option<String> {
    Some(Context::current()?.peer()?.to_string())
}

#[cfg(unix)]
#[tokio::test]
async fn a_mounted_server_has_the_credentials_that_the_application_gives() {
    use byname::{Identity, Transport};
    use std::os::unix::fs::MetadataExt as _;

    let directory = harness::unix::TemporaryDirectory::new();
    let own = std::fs::metadata(directory.path()).unwrap();
    let (uid, gid, pid) = (own.uid(), own.gid(), std::process::id());
    let is_own = move |request: &byname::Request| matches!(request.peer().and_then(|peer| peer.identity.as_ref()), Some(Identity::Unix(caller)) if caller.uid == uid);
    // From the application's own extension by `peer_from`, and from a `Peer` without it.
    for name in ["found", "plain"] {
        let rpc = Server::new().method::<printed_peer>().allow("*", is_own).frames(true).into_service().unwrap();
        let app = match name {
            "found" => {
                let known = |extensions: &byname::Extensions| Some(extensions.get::<ConnectInfo<Known>>()?.0.0.clone());
                Router::new().nest_service("/api", rpc.peer_from(known))
            }
            _ => Router::new().nest_service("/api", rpc).layer(map_request(
                |ConnectInfo(Known(peer)): ConnectInfo<Known>, mut request: Request| async move {
                    request.extensions_mut().insert(peer);
                    request
                },
            )),
        };
        let path = directory.path().join(name);
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        tokio::spawn(serve(listener, app.into_make_service_with_connect_info::<Known>()).into_future());
        for transport in [Transport::Http, Transport::Frames] {
            let builder = Client::builder(format!("unix:{}", path.display())).endpoint("/api/rpc");
            let client = builder.transport(transport).build().unwrap();
            for _ in 0..12 {
                let expected = format!("unix: (uid {uid}, gid {gid}, pid {pid})");
                assert_eq!(printed_peer::on(&client).await.unwrap(), Some(expected), "{name} by {transport:?}");
            }
        }
    }
}

/// What a middleware of the application finds out.
#[derive(Clone)]
struct User(String);

/// What an interceptor makes of it.
#[derive(Clone)]
struct Greeted(String);

fn found() -> String {
    let context = Context::current().unwrap();
    let extensions = context.extensions();
    format!("{} {}", extensions.get::<User>().unwrap().0, extensions.get::<Greeted>().unwrap().0)
}

#[rpc(readonly)]
async fn user() -> String {
    found()
}

#[rpc(readonly)]
fn user_streamed() -> impl futures_util::Stream<Item = String> {
    futures_util::stream::once(async { found() })
}

#[rpc]
async fn user_of_stream(mut numbers: byname::Streaming<u8>) -> String {
    use futures_util::TryStreamExt as _;
    while numbers.try_next().await.unwrap().is_some() {}
    found()
}

#[tokio::test]
async fn extensions_of_a_request_are_those_of_its_calls_by_every_way() {
    let server = Server::new().method::<user>().method::<user_streamed>().method::<user_of_stream>();
    let greet = |mut request: byname::Request, next: byname::Next| async move {
        let User(user) = request.extensions().get::<User>().cloned().expect("the middleware was first");
        request.extensions_mut().insert(Greeted(format!("hello {user}")));
        Ok(next.run(request).await)
    };
    let identify = map_request(|mut request: Request| async move {
        let user = request.headers().get("x-user").map(|user| user.to_str().unwrap().to_owned());
        request.extensions_mut().insert(User(user.unwrap()));
        request
    });
    let rpc = server.intercept(greet).into_service().unwrap();
    let address = serving(Router::new().nest_service("/api", rpc).layer(identify)).await;
    let mut caller = Caller::to(address).await;
    for name in ["ada", "bob"] {
        let head = format!("x-user: {name}\r\n");
        let expected = format!("{name} hello {name}");
        let one = r#"{"jsonrpc":"2.0","method":"user","id":1}"#;
        let batch = format!("[{one},{one}]");
        for (path, body, count) in [
            ("/api/rpc/user", "", 1),
            ("/api/rpc", r#"{"fun":"user"}"#, 1),
            ("/api/rpc", one, 1),
            ("/api/rpc", &batch, 2),
            ("/api/rpc/user_of_stream", "1\n2\n", 1),
        ] {
            let answer = caller.ask(post_with(path, &head, body)).await;
            assert_eq!((answer.status, answer.body.matches(&expected).count()), (200, count), "{path} {answer:?}");
        }
        let client = Client::builder(format!("{address}/api/rpc")).build().unwrap().header("x-user", name);
        let streamed = user_streamed::on(&client);
        let items: Vec<_> = futures_util::TryStreamExt::try_collect(streamed).await.unwrap();
        assert_eq!(items, std::slice::from_ref(&expected));
        assert_eq!(user::on(&client).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn layers_work_around_the_calls() {
    let held = Arc::new(Notify::new());
    let (hold, ended) = (Arc::clone(&held), Arc::new(Notify::new()));
    let end = Arc::clone(&ended);
    let server = functions().function("echo", |text: String| async { text }).function("hold", move || {
        let (hold, end) = (Arc::clone(&hold), Arc::clone(&end));
        async move {
            hold.notified().await;
            end.notify_one();
        }
    });
    let app = Router::new()
        .nest_service("/api", server.into_service().unwrap())
        .layer(SetResponseHeaderLayer::overriding(header::SERVER, HeaderValue::from_static("outer")))
        .layer(RequestBodyLimitLayer::new(1000))
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, Duration::from_millis(100)));
    let address = serving(app).await;
    assert_eq!(raw(address, post("/api/rpc/add", "[1,2]")).await.header("server"), "outer");

    let client = Client::new(format!("{address}/api/rpc")).unwrap();
    let large = client.call::<String>("echo", ("x".repeat(2000),)).await.unwrap_err();
    assert_eq!(large.rpc().unwrap().code(), Code::ResourceExhausted, "{large}");
    let late = client.call::<()>("hold", ()).await.unwrap_err();
    assert_eq!((late.rpc().unwrap().code(), late.executed()), (Code::DeadlineExceeded, Executed::Unknown), "{late}");
    // The layer gave up; the function runs to its end all the same.
    held.notify_one();
    within(ended.notified()).await;

    // Beyond the layer's limit in a body that doesn't say how long it is.
    let chunks = format!("transfer-encoding: chunked\r\n\r\n7d0\r\n\"{}\"\r\n0\r\n\r\n", "x".repeat(1998));
    let head = format!("POST /api/rpc/echo HTTP/1.1\r\nhost: localhost\r\n{chunks}");
    let cut = raw(address, head).await;
    assert!((400..500).contains(&cut.status), "{cut:?}");
}

#[tokio::test]
async fn limits_of_calls_hold_and_those_of_connections_are_the_outer_servers() {
    let server = |change: fn(&mut Limits)| {
        let server = functions().function("forever", std::future::pending::<()>);
        serving(Router::new().nest_service("/api", server.limits(change).into_service().unwrap()))
    };
    let address = server(|limits| limits.message = 10).await;
    let answer = raw(address, post("/api/rpc/add", "[1,    2]  ")).await;
    assert_eq!((answer.status, &answer.json()["limit"]), (413, &"message".into()));

    let address = server(|limits| limits.nesting = 2).await;
    let answer = raw(address, post("/api/rpc/add", "[[[1]],2]")).await;
    assert_eq!((answer.status, &answer.json()["limit"]), (400, &"nesting".into()));

    let address = server(|limits| limits.call = Duration::from_millis(20)).await;
    let answer = raw(address, post("/api/rpc/forever", "")).await;
    assert_eq!((answer.status, &answer.json()["limit"]), (504, &"call".into()));

    let address = server(|limits| limits.body_progress = Duration::from_millis(20)).await;
    let mut slow = Caller::to(address).await;
    slow.send("POST /api/rpc/add HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\n[1,").await;
    let answer = slow.answer().await;
    assert_eq!((answer.status, &answer.json()["limit"]), (504, &"body_progress".into()));

    let address = server(|limits| limits.in_flight = 0).await;
    let answer = raw(address, post("/api/rpc/add", "[1,2]")).await;
    assert_eq!((answer.status, &answer.json()["limit"]), (429, &"in_flight".into()));

    let address = server(|limits| limits.header = 100).await;
    let long = format!("x-long: {}\r\n", "x".repeat(200));
    assert_eq!(raw(address, post_with("/api/rpc/add", &long, "[1,2]")).await.body, "3", "axum reads the header");
}

#[tokio::test]
async fn the_rules_about_hosts_and_origins_hold() {
    let any = serving(Router::new().nest_service("/api", functions().into_service().unwrap())).await;
    let call = |host: &str, more: &str| {
        format!("POST /api/rpc/add HTTP/1.1\r\nhost: {host}\r\n{more}content-length: 5\r\n\r\n[1,2]")
    };
    assert_eq!(raw(any, call("api.example", "")).await.status, 200, "where it is bound is not known");
    assert_eq!(raw(any, call("api.example", "origin: https://evil.example\r\n")).await.status, 403);
    let named = functions().hosts(["api.example"]).into_service().unwrap();
    let named = serving(Router::new().nest_service("/api", named)).await;
    assert_eq!(raw(named, call("api.example", "")).await.status, 200);
    assert_eq!(raw(named, call("evil.example", "")).await.status, 421);
}

#[tokio::test]
async fn a_call_is_answered_though_the_service_is_dropped_with_it() {
    let request = axum::http::Request::post("/rpc/add").header("host", "localhost");
    let request = request.body(axum::body::Body::from("[1,2]")).unwrap();
    let answered = tower::ServiceExt::oneshot(functions().frames(true).into_service().unwrap(), request);
    assert_eq!(answered.await.unwrap().status(), StatusCode::OK);
}

#[test]
fn a_service_without_functions_is_an_error() {
    let error = Server::new().into_service().unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    let twice = Server::new().method::<add>().method::<add>().into_service().unwrap_err();
    assert!(twice.message().contains("`add`"), "{twice}");
}
