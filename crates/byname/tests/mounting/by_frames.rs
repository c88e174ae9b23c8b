//! Frames where a server is mounted: who may have them, what calls know, and which limits hold.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::http::{Extensions, StatusCode};
use axum::middleware::{Next, from_fn, map_request};
use axum::response::Response;
use byname::{Client, Codec, Context, Limits, Server, Streaming, rpc};
use futures_util::{TryStreamExt as _, stream};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::net::TcpStream;
use tower_http::set_status::SetStatusLayer;

use super::harness::peer::{CALL, Came, GOAWAY, GREETING, HELLO, METADATA, NAME, PING, REPLY};
use super::harness::peer::{Peer, asking, call, frame, message};
use super::harness::{Caller, Log, Mounted, add, everything, get, nothing, post, raw, within};
use super::{User, functions, peer, user, user_of_stream, user_streamed};

const SHORT: Duration = Duration::from_millis(50);

/// An application in which byname's endpoint is at `/rpc`, with layers around it that `layered` adds.
pub(super) async fn at_rpc(server: Server, layered: impl FnOnce(Router) -> Router) -> Mounted {
    let service = server.into_service().unwrap();
    Mounted::serving(layered(Router::new().fallback_service(service))).await
}

/// Counts the calls that a server gets over HTTP, and those by frames.
#[derive(Clone, Default)]
pub(super) struct Ways(Arc<[AtomicUsize; 2]>);

impl Ways {
    pub(super) fn counting(&self, server: Server) -> Server {
        let ways = self.clone();
        server.intercept(move |request: byname::Request, next: byname::Next| {
            let way = usize::from(request.header("host").is_none());
            ways.0[way].fetch_add(1, Ordering::Relaxed);
            next.run(request)
        })
    }

    pub(super) fn by_http(&self) -> usize {
        self.0[0].load(Ordering::Relaxed)
    }

    pub(super) fn by_frames(&self) -> usize {
        self.0[1].load(Ordering::Relaxed)
    }

    /// Calls `nothing` until a call goes by frames.
    pub(super) async fn gone_over(&self, client: &Client) {
        within(async {
            while self.by_frames() == 0 {
                client.call::<Value>("nothing", ()).await.unwrap();
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn frames_are_offered_where_it_is_mounted_only_if_the_server_says_so() {
    let without = at_rpc(functions(), |app| app).await;
    let plain = raw(without.address, get("/rpc")).await;
    assert!(!plain.header("byname-ways").contains("frames"), "{plain:?}");
    let asked = raw(without.address, asking(|_| ())).await;
    assert_eq!((asked.status, asked.header("upgrade"), &asked.body), (plain.status, "", &plain.body), "as a plain GET");
    assert_eq!(asked.status, 405);

    let with = at_rpc(functions().frames(true), |app| app).await;
    assert_eq!(raw(with.address, get("/rpc")).await.header("byname-ways"), "plain, path, json-rpc, frames");
    assert_eq!(raw(with.address, asking(|_| ())).await.status, 101);
    let mut by_frames = Peer::calling(with.address, "add").await;
    by_frames.say(call(0, 1, "[1,2]")).await;
    assert_eq!(by_frames.frame().await.payload, b"3");
    let elsewhere = raw(with.address, asking(|_| ()).replace("/rpc", "/rpc/add")).await;
    assert_eq!((elsewhere.status, elsewhere.header("upgrade")), (400, ""), "{elsewhere:?}");
}

#[tokio::test]
async fn clients_go_over_to_frames_where_they_are_offered() {
    for codec in [Codec::Json, Codec::MessagePack] {
        let ways = Ways::default();
        let mounted = Mounted::new(ways.counting(everything().frames(true))).await;
        let client = Client::builder(format!("{}/api/rpc", mounted.address)).codec(codec).build().unwrap();
        ways.gone_over(&client).await;
        let (http, frames) = (ways.by_http(), ways.by_frames());
        for n in 0..100 {
            assert_eq!(add::on(&client, n, 1).await.unwrap(), n + 1);
        }
        assert_eq!((ways.by_http(), ways.by_frames()), (http, frames + 100), "{codec:?}");
    }
}

/// Lets in who has a token, as a layer that knows nothing of byname does.
async fn only_with_token(mut request: Request, next: Next) -> Result<Response, StatusCode> {
    match request.headers().get("x-token") {
        Some(token) if token == "1234" => {
            request.extensions_mut().insert(User("ada".into()));
            Ok(next.run(request).await)
        }
        _ => Err(StatusCode::UNAUTHORIZED),
    }
}

#[tokio::test]
async fn a_layer_that_authorizes_sees_every_call_unless_the_server_asks_for_frames() {
    let token = || ("x-token", "1234".to_owned());
    let guarded = |server: Server| at_rpc(server, |app| app.layer(from_fn(only_with_token)));
    let ways = Ways::default();
    let mounted = guarded(ways.counting(everything())).await;
    assert_eq!(raw(mounted.address, post("/rpc/add", "[1,2]")).await.status, 401);
    assert_eq!(raw(mounted.address, asking(|_| ())).await.status, 401);
    let asked = raw(mounted.address, asking(|headers| headers.push(token()))).await;
    assert_eq!((asked.status, asked.header("upgrade")), (405, ""));
    // What follows the request is HTTP, and not frames that no layer would see.
    let mut caller = Caller::to(mounted.address).await;
    assert_eq!(caller.ask(asking(|headers| headers.push(token()))).await.status, 405);
    let hello = [frame(HELLO, 0, 0, 0, GREETING), frame(NAME, 0, 0, 0, "add"), call(0, 1, "[1,2]")].concat();
    caller.send(message(0x82, true, hello)).await;
    caller.rest().await;
    assert_eq!((ways.by_http(), ways.by_frames()), (0, 0));
    let client = Client::new(format!("{}/rpc", mounted.address)).unwrap().header("x-token", "1234");
    for n in 0..20 {
        assert_eq!(add::on(&client, n, 1).await.unwrap(), n + 1);
    }
    assert_eq!((ways.by_http(), ways.by_frames()), (20, 0));

    // With frames it sees the upgrade, and what it says of it is known to each call. The calls bear their own headers.
    let server = Server::new().function("who", || async {
        let context = Context::current().unwrap();
        let user = context.extensions().get::<User>().map(|user| user.0.clone());
        (user, context.header("x-token").map(str::to_owned))
    });
    let mounted = guarded(server.frames(true)).await;
    assert_eq!(raw(mounted.address, asking(|_| ())).await.status, 401);
    let mut caller = Peer::asking_with(mounted.address, |headers| headers.push(token())).await;
    caller.say([frame(HELLO, 0, 0, 0, GREETING), frame(NAME, 0, 0, 0, "who"), call(0, 1, "[]")].concat()).await;
    assert_eq!(caller.frame().await.payload, br#"["ada",null]"#);

    // The upgrade of byname's client has no header of a call, so this layer refuses it, and calls stay with HTTP.
    let ways = Ways::default();
    let mut log = Log::new();
    let mounted = guarded(ways.counting(everything().frames(true))).await;
    let client = Client::new(format!("{}/rpc", mounted.address)).unwrap().header("x-token", "1234");
    for n in 0..20 {
        assert_eq!(add::on(&client, n, 1).await.unwrap(), n + 1);
    }
    log.until("the answer is 401, not 101").await;
    assert_eq!(add::on(&client, 1, 2).await.unwrap(), 3);
    assert_eq!((ways.by_http(), ways.by_frames()), (21, 0));
}

#[tokio::test]
async fn extensions_of_the_upgrade_are_those_of_each_call_by_frames() {
    #[derive(Clone)]
    struct Before;

    #[rpc(readonly)]
    fn only_user() -> String {
        Context::current().unwrap().extensions().get::<User>().unwrap().0.clone()
    }

    let identify = map_request(|mut request: Request| async move {
        request.extensions_mut().insert(User("ada".into()));
        request
    });
    // Without interceptors quick functions are polled in place.
    let plain = Server::new().method::<only_user>().frames(true);
    let mounted = at_rpc(plain, |app| app.layer(identify.clone())).await;
    let mut caller = Peer::calling(mounted.address, "only_user").await;
    for id in 1..=200 {
        caller.say(call(0, id, "[]")).await;
        assert_eq!(caller.frame().await.payload, br#""ada""#, "{id}");
    }

    let ways = Ways::default();
    let server =
        Server::new().method::<user>().method::<user_streamed>().method::<user_of_stream>().method::<nothing>();
    let server = server.intercept(|mut request: byname::Request, next: byname::Next| async move {
        let User(user) = request.extensions().get::<User>().cloned().expect("the middleware was first");
        // What is put into one call is not in the next.
        assert!(request.extensions_mut().insert(Before).is_none());
        request.extensions_mut().insert(super::Greeted(format!("hello {user}")));
        Ok(next.run(request).await)
    });
    let mounted = at_rpc(ways.counting(server.frames(true)), |app| app.layer(identify)).await;
    let client = Client::new(format!("{}/rpc", mounted.address)).unwrap();
    ways.gone_over(&client).await;
    let http = ways.by_http();
    for _ in 0..100 {
        assert_eq!(user::on(&client).await.unwrap(), "ada hello ada");
    }
    let items: Vec<_> = user_streamed::on(&client).try_collect().await.unwrap();
    assert_eq!(items, ["ada hello ada"]);
    assert_eq!(user_of_stream::on(&client, Streaming::new(stream::iter([1, 2]))).await.unwrap(), "ada hello ada");
    assert_eq!(ways.by_http(), http, "every call went by frames");
}

#[tokio::test]
async fn the_peer_of_a_call_by_frames_is_that_of_the_upgrade() {
    let from_axum = |extensions: &Extensions| Some(extensions.get::<ConnectInfo<SocketAddr>>()?.0);
    let service = functions().frames(true).into_service().unwrap().peer_from(from_axum);
    let mounted = Mounted::serving(Router::new().fallback_service(service)).await;
    let mut caller = Peer::calling(mounted.address, "peer").await;
    let own = caller.stream.local_addr().unwrap();
    caller.say(call(0, 1, "[]")).await;
    assert_eq!(caller.frame().await.payload, format!("\"{own}\"").into_bytes());

    let nobody = at_rpc(Server::new().method::<peer>().frames(true), |app| app).await;
    let mut caller = Peer::calling(nobody.address, "peer").await;
    caller.say(call(0, 1, "[]")).await;
    assert_eq!(caller.frame().await.payload, b"null");
}

#[tokio::test]
async fn requests_of_http_2_are_served_beside_frames() {
    let mounted = Mounted::new(everything().frames(true)).await;
    let mut by_frames = TcpStream::connect(mounted.address).await.unwrap();
    let asked = asking(|_| ()).replace("GET /rpc", "GET /api/rpc");
    tokio::io::AsyncWriteExt::write_all(&mut by_frames, asked.as_bytes()).await.unwrap();
    let stream = TcpStream::connect(mounted.address).await.unwrap();
    let (mut send, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for (path, status, body) in
        [("rpc/add?a=1&b=2", 200, Some("3")), ("rpc", 405, None), ("rpc/!ready", 200, Some("ok\n"))]
    {
        let request = hyper::Request::get(format!("http://{}/api/{path}", mounted.address));
        let (head, got) = send.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap().into_parts();
        assert_eq!(head.status, status, "{path}");
        assert_eq!(head.headers["byname-ways"], "plain, path, json-rpc, frames");
        let got = got.collect().await.unwrap().to_bytes();
        assert!(body.is_none_or(|body| body == got), "{path}: {got:?}");
    }
}

#[tokio::test]
async fn idle_holds_on_connections_of_frames() {
    let mounted = at_rpc(functions().frames(true).limits(|limits| limits.idle = SHORT), |app| app).await;
    for greets in [true, false] {
        let mut caller = Peer::to(mounted.address).await;
        if greets {
            caller.say(frame(HELLO, 0, 0, 0, GREETING)).await;
        }
        assert_eq!(caller.frame().await.kind, GOAWAY, "{greets}");
        assert_eq!(caller.closed().await.0, 1001, "{greets}");
    }
}

#[tokio::test]
async fn write_progress_holds_on_connections_of_frames() {
    let mut log = Log::new();
    let limited = functions().frames(true).limits(|limits| limits.write_progress = SHORT);
    let mounted = at_rpc(limited, |app| app).await;
    let mut caller = Peer::with_buffer(mounted.address, 4096).await;
    let pings: Vec<_> = (0..1000).flat_map(|_| message(PING, true, [0; 125])).collect();
    let flood = async { while tokio::io::AsyncWriteExt::write_all(&mut caller.stream, &pings).await.is_ok() {} };
    let (line, ()) = tokio::join!(log.until("`Limits::write_progress`"), within(flood));
    assert!(line.contains("a connection of frames ended"), "{line}");
    assert_eq!(raw(mounted.address, post("/rpc/add", "[1,2]")).await.body, "3");
}

#[tokio::test]
async fn limits_of_calls_hold_by_frames_and_the_header_of_the_upgrade_is_the_outer_servers() {
    let limited = |change: fn(&mut Limits)| at_rpc(functions().frames(true).limits(change), |app| app);
    let mounted = limited(|limits| limits.header = 100).await;
    // The header of the upgrade has more than 100 bytes.
    let mut caller = Peer::calling(mounted.address, "add").await;
    let metadata = format!(r#"{{"x-long":"{}"}}"#, "x".repeat(200));
    let head = [&60_000u32.to_be_bytes(), &(metadata.len() as u32).to_be_bytes()[..], metadata.as_bytes()].concat();
    caller.say(frame(CALL, METADATA, 0, 1, [&head[..], b"[1,2]"].concat())).await;
    assert_eq!(caller.frame().await.error()["limit"], "header");
    caller.say(call(0, 2, "[1,2]")).await;
    assert_eq!(caller.frame().await.payload, b"3");

    let mounted = limited(|limits| limits.message = 10).await;
    let mut caller = Peer::calling(mounted.address, "add").await;
    caller.say(call(0, 1, "[1,    2]  ")).await;
    assert_eq!(caller.frame().await.error()["limit"], "message");
    caller.say(call(0, 2, "[1,2]")).await;
    assert_eq!(caller.frame().await.kind, REPLY);

    let mounted = limited(|limits| limits.in_flight = 0).await;
    let mut caller = Peer::calling(mounted.address, "add").await;
    caller.say(call(0, 1, "[1,2]")).await;
    assert_eq!(caller.frame().await.error()["limit"], "in_flight");
}

#[tokio::test]
async fn an_upgrade_whose_answer_a_layer_replaces_is_forgotten() {
    let service = functions().frames(true).into_service().unwrap();
    let app = Router::new().fallback_service(service.clone()).layer(SetStatusLayer::new(StatusCode::OK));
    let mounted = Mounted::serving(app).await;
    let mut caller = Caller::to(mounted.address).await;
    assert_eq!(caller.ask(asking(|_| ())).await.status, 200);
    assert_eq!(caller.ask(post("/rpc/add", "[1,2]")).await.body, "3", "the connection goes on with HTTP");
    // It is open, and hyper may still upgrade it. The drain does not wait for that.
    within(service.drain()).await.unwrap();
    assert!(format!("{service:?}").contains("connections: 0"), "{service:?}");
}

#[tokio::test]
async fn pages_of_other_sites_get_no_frames_where_it_is_mounted() {
    let mounted = at_rpc(functions().frames(true), |app| app).await;
    let evil = asking(|headers| headers.push(("origin", "https://evil.example".into())));
    assert_eq!(raw(mounted.address, evil).await.status, 403);
    let mut own =
        Peer::asking_with(mounted.address, |headers| headers.push(("origin", "http://localhost".into()))).await;
    own.say(message(0x89, true, "")).await;
    assert!(!matches!(own.next().await, Came::End));
}
