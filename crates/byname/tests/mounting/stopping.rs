//! The end of a server that is mounted in another one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use byname::{Client, Code, Error, Executed, HttpService, Server, rpc};
use futures_util::{FutureExt as _, Stream, StreamExt as _, future, stream};
use http_body_util::Full;
use hyper::body::Bytes;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tower::ServiceExt as _;

use super::by_frames::Ways;
use super::functions;
use super::harness::peer::{Came, GOAWAY, Peer, asking, call};
use super::harness::{Caller, Gate, Log, Mounted, add, everything, get, post, raw, within};

/// An application that stops as one in production does: first byname's drain, then axum's graceful shutdown.
struct Application {
    address: SocketAddr,
    service: HttpService,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), Error>>,
}

impl Application {
    async fn new(server: Server) -> Self {
        let service = server.into_service().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let (app, drain) = (Router::new().fallback_service(service.clone()), service.drain());
        let task = tokio::spawn(async move {
            let (drained, end) = oneshot::channel();
            let shutdown = async move {
                let _ = stopped.await;
                let _ = drained.send(drain.await);
            };
            axum::serve(listener, app).with_graceful_shutdown(shutdown).await.unwrap();
            end.await.unwrap()
        });
        Self { address, service, stop, task }
    }
}

#[tokio::test]
async fn a_drain_answers_what_is_in_flight_and_rejects_what_comes_later() {
    let (gate, mut handle) = Gate::new();
    let (end, ends) = watch::channel(());
    let server = everything().inject_as("gate", gate).frames(true);
    let server = server.method::<counting>().function("held", move || {
        let mut ends = ends.clone();
        async move {
            let _ = ends.changed().await;
            "held"
        }
    });
    let Application { address, stop, mut task, .. } = Application::new(server).await;
    let mut by_frames = Peer::calling(address, "gate.pass").await;
    by_frames.say(call(0, 1, "[]")).await;
    within(&mut handle.started).await.unwrap();
    let mut idle = Peer::calling(address, "add").await;
    let mut by_http = Caller::to(address).await;
    by_http.send(post("/rpc/held", "")).await;
    let mut kept = Caller::to(address).await;
    assert_eq!(kept.ask(post("/rpc/add", "[1,2]")).await.status, 200);
    let client = Client::new(format!("{address}/rpc")).unwrap();
    let mut streamed = std::pin::pin!(counting::on(&client, 1000));
    assert_eq!(streamed.next().await.unwrap().unwrap(), 0);

    stop.send(()).unwrap();
    assert_eq!(by_frames.frame().await.kind, GOAWAY);
    assert_eq!(idle.frame().await.kind, GOAWAY);
    assert_eq!(idle.closed().await.0, 1001, "no call runs on it");
    let ready = raw(address, get("/rpc/!ready")).await;
    assert_eq!((ready.status, ready.body.as_str()), (503, "draining\n"));
    assert_eq!(raw(address, get("/rpc/!live")).await.status, 200);
    for path in ["/rpc/add", "/rpc"] {
        let refused = raw(address, post(path, r#"{"fun":"add","args":[1,2]}"#)).await;
        assert_eq!((refused.status, refused.header("connection")), (503, "close"), "{path}");
        let error = refused.json();
        let error = error.get("err").unwrap_or(&error);
        assert_eq!((&error["code"], &error["executed"]), (&json!("unavailable"), &json!("no")), "{error}");
    }
    assert_eq!(kept.ask(post("/rpc/add", "[1,2]")).await.status, 503, "on a connection that was open before");
    assert_eq!(raw(address, asking(|_| ())).await.status, 503, "no further connection of frames");
    by_frames.say(call(0, 2, "[]")).await;
    let refused = by_frames.frame().await;
    assert_eq!(
        (refused.id, &refused.error()["code"], &refused.error()["executed"]),
        (2, &json!("unavailable"), &json!("no"))
    );
    assert!((&mut task).now_or_never().is_none(), "calls are still in flight");

    // A stream that ends by itself ends as it would have.
    let rest: Vec<_> = streamed.map(Result::unwrap).collect().await;
    assert!(rest.into_iter().eq(1..1000));
    handle.release.send(()).unwrap();
    assert_eq!(by_frames.frame().await.payload, b"true");
    assert_eq!(by_frames.closed().await.0, 1001);
    assert!(!within(handle.ended).await.unwrap(), "its caller was there");
    end.send(()).unwrap();
    assert_eq!(by_http.answer().await.body, "\"held\"");
    within(task).await.unwrap().unwrap();
}

#[rpc]
fn counting(to: u64) -> impl Stream<Item = u64> {
    stream::iter(0..to).then(|n| async move {
        tokio::task::yield_now().await;
        n
    })
}

#[tokio::test]
async fn a_stuck_function_ends_the_drain_of_an_application_at_its_limit_by_name() {
    let (started, mut starts) = watch::channel(false);
    let stuck = move || {
        started.send_replace(true);
        future::pending::<()>()
    };
    let server = functions().function("stuck", stuck).frames(true);
    let server = server.limits(|limits| limits.drain = Duration::from_millis(20));
    let service = server.into_service().unwrap();
    let mounted = Mounted::serving(Router::new().fallback_service(service.clone())).await;
    let mut caller = Peer::calling(mounted.address, "stuck").await;
    caller.say(call(0, 1, "[]")).await;
    within(starts.wait_for(|started| *started)).await.unwrap();
    for _ in ["the first", "and whoever asks again"] {
        let error = within(service.drain()).await.unwrap_err();
        assert_eq!((error.code(), error.limit()), (Code::DeadlineExceeded, Some("drain")));
        assert!(error.message().contains("`stuck` (1)"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_application_that_is_told_to_stop_is_not_ready_and_serves_for_the_drain_delay() {
    let server = functions().frames(true).limits(|limits| limits.drain_delay = Duration::from_secs(60));
    let service = server.into_service().unwrap();
    let answered = async |path: &str, body: &str| {
        let verb = if body.is_empty() { "GET" } else { "POST" };
        let request = hyper::Request::builder().method(verb).uri(path).header("host", "localhost");
        let request = request.body(Full::<Bytes>::from(body.to_owned())).unwrap();
        service.clone().oneshot(request).await.unwrap().status().as_u16()
    };
    assert_eq!((answered("/rpc/!ready", "").await, answered("/rpc/add", "[1,2]").await), (200, 200));
    let mut drain = std::pin::pin!(service.drain());
    assert!(drain.as_mut().now_or_never().is_none());
    assert_eq!((answered("/rpc/!ready", "").await, answered("/rpc/add", "[1,2]").await), (503, 200));
    // The paused clock advances to the end of the delay.
    drain.await.unwrap();
    assert_eq!((answered("/rpc/!ready", "").await, answered("/rpc/add", "[1,2]").await), (503, 503));
}

/// Calls in flight while one of two applications is stopped.
const CALLERS: usize = 16;
const CALLS: usize = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_by_frames_is_lost_or_runs_twice_when_an_application_is_stopped() {
    let ran = Arc::new(Mutex::new(BTreeMap::<usize, usize>::new()));
    let ways = Ways::default();
    let server = || {
        let ran = Arc::clone(&ran);
        let once = move |id: usize| {
            *ran.lock().unwrap().entry(id).or_default() += 1;
            async move {
                tokio::task::yield_now().await;
                id
            }
        };
        ways.counting(everything().function("once", once).method::<counting>().frames(true))
    };
    let (stays, leaves) = (Application::new(server()).await, Application::new(server()).await);
    let client = Client::builder("localhost/rpc").addresses([stays.address, leaves.address]).build().unwrap();
    // Until both have a connection of frames.
    within(async {
        let connections = |app: &Application| format!("{:?}", app.service).contains("connections: 1");
        while !connections(&stays) || !connections(&leaves) {
            client.call::<()>("nothing", ()).await.unwrap();
            tokio::task::yield_now().await;
        }
    })
    .await;
    let done = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (client, done) = (client.clone(), Arc::clone(&done));
        callers.spawn(async move {
            for n in 0..CALLS {
                let id = caller * CALLS + n;
                assert_eq!(client.call::<usize>("once", (id,)).await.unwrap(), id);
                if n % 50 == 0 {
                    let items: Vec<_> = counting::on(&client, 100).map(Result::unwrap).collect().await;
                    assert!(items.into_iter().eq(0..100));
                }
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    within(async {
        while done.load(Ordering::Relaxed) < CALLERS * CALLS / 4 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    leaves.stop.send(()).unwrap();
    within(leaves.task).await.unwrap().unwrap();
    assert!(done.load(Ordering::Relaxed) < CALLERS * CALLS, "it was stopped under load");
    while let Some(ended) = within(callers.join_next()).await {
        ended.unwrap();
    }
    assert!(ways.by_frames() > ways.by_http(), "calls never went over to frames");
    let ran = ran.lock().unwrap();
    assert_eq!(ran.len(), CALLERS * CALLS);
    assert!(ran.values().all(|times| *times == 1), "a call ran twice");
}

#[tokio::test]
async fn frames_end_with_their_application_and_the_log_says_so() {
    let mut log = Log::new();
    let (gate, mut handle) = Gate::new();
    let mounted = Mounted::new(functions().inject_as("gate", gate).frames(true).endpoint("/")).await;
    let url = mounted.address;
    let mut caller = Peer::asking_at(url, "/api", "gate.pass").await;
    caller.say(call(0, 1, "[]")).await;
    within(&mut handle.started).await.unwrap();
    drop(mounted);
    let line = log.until("gone without `HttpService::drain`; connections of frames that are told to end: 1").await;
    assert!(line.contains("WARN"), "{line}");
    assert_eq!(caller.frame().await.kind, GOAWAY);
    handle.release.send(()).unwrap();
    assert_eq!(caller.frame().await.payload, b"true", "what was in flight is answered");
    assert_eq!(caller.closed().await.0, 1001);
}

#[tokio::test]
async fn frames_end_with_the_runtime_of_their_application() {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let service = functions().frames(true).into_service().unwrap();
    // The service outlives the runtime, as in a program that builds several.
    let app = Router::new().fallback_service(service.clone());
    let mounted = runtime.spawn(Mounted::serving(app)).await.unwrap();
    let mut caller = Peer::calling(mounted.address, "add").await;
    caller.say(call(0, 1, "[1,2]")).await;
    assert_eq!(caller.frame().await.payload, b"3");
    runtime.shutdown_background();
    assert_eq!(caller.next().await, Came::End);
    within(service.drain()).await.unwrap();
}

#[tokio::test]
async fn axum_server_serves_frames_and_drains() {
    let ways = Ways::default();
    let service = ways.counting(everything().frames(true)).into_service().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let handle = axum_server::Handle::new();
    let serving = axum_server::from_tcp(listener).unwrap().handle(handle.clone());
    let app = Mounted::app(service.clone());
    let serving = tokio::spawn(serving.serve(app.into_make_service()));
    let client = Client::new(format!("{address}/api/rpc")).unwrap();
    ways.gone_over(&client).await;
    let (http, frames) = (ways.by_http(), ways.by_frames());
    for n in 0..100 {
        assert_eq!(add::on(&client, n, 1).await.unwrap(), n + 1);
    }
    assert_eq!((ways.by_http(), ways.by_frames()), (http, frames + 100));
    within(service.drain()).await.unwrap();
    handle.graceful_shutdown(None);
    within(serving).await.unwrap().unwrap();
    let gone = add::on(&client, 1, 2).await.unwrap_err();
    assert_eq!((gone.code(), gone.executed()), (Code::Unavailable, Executed::No));
}
