//! Every layer of tower-http around the mounted service: directly, within an axum application, and around the
//! application. A layer that doesn't fit is a compile error.

use std::io;
use std::iter::once;
use std::time::Duration;

use crate::harness::peer::{Peer, asking, call};
use crate::harness::{add, raw};
use axum::body::Body as AxumBody;
use axum::http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use axum::{BoxError, Router};
use byname::{HttpService, Server};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service, ServiceExt};
use tower_http::add_extension::AddExtensionLayer;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::cors::CorsLayer;
use tower_http::csrf::CsrfLayer;
use tower_http::decompression::{DecompressionLayer, RequestDecompressionLayer};
use tower_http::follow_redirect::FollowRedirectLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::map_request_body::MapRequestBodyLayer;
use tower_http::map_response_body::MapResponseBodyLayer;
use tower_http::metrics::InFlightRequestsLayer;
use tower_http::normalize_path::NormalizePathLayer;
use tower_http::on_early_drop::OnEarlyDropLayer;
use tower_http::propagate_header::PropagateHeaderLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::sensitive_headers::{
    SetSensitiveHeadersLayer, SetSensitiveRequestHeadersLayer, SetSensitiveResponseHeadersLayer,
};
use tower_http::set_header::{SetRequestHeaderLayer, SetResponseHeaderLayer};
use tower_http::set_status::SetStatusLayer;
use tower_http::timeout::{RequestBodyTimeoutLayer, ResponseBodyTimeoutLayer, TimeoutLayer};
use tower_http::trace::TraceLayer;
use tower_http::validate_request::ValidateRequestHeaderLayer;

const MINUTE: Duration = Duration::from_secs(60);
const NAME: HeaderName = HeaderName::from_static("x-name");

fn service() -> HttpService {
    Server::new().method::<add>().into_service().unwrap()
}

fn request<B: From<&'static str>>(path: &str) -> Request<B> {
    let request = Request::post(path).header("host", "localhost").header("content-type", "application/json");
    request.body(B::from("[1,2]")).unwrap()
}

fn with_frames() -> HttpService {
    Server::new().method::<add>().frames(true).into_service().unwrap()
}

type Boxed = BoxCloneSyncService<Request<AxumBody>, Response<AxumBody>, io::Error>;

fn boxed<S, R>(service: S) -> Boxed
where
    S: Service<Request<AxumBody>, Response = Response<R>> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    BoxCloneSyncService::new(service.map_response(|answer| answer.map(AxumBody::new)).map_err(io::Error::other))
}

/// Calls `service` by frames, on a connection of hyper's server.
async fn calls_by_frames(service: Boxed, what: &str) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // Frames end with the last clone of the service.
    let _kept = service.clone();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let service = service_fn(move |request: Request<Incoming>| service.clone().oneshot(request.map(AxumBody::new)));
        http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await
    });
    // The status of an upgrade that `SetStatusLayer` changes is no upgrade any more.
    if what.starts_with("SetStatusLayer") {
        return assert_eq!(raw(address, asking(|_| ())).await.status, 200, "{what}");
    }
    println!("by frames through {what}");
    let mut peer = Peer::calling(address, "add").await;
    peer.say(call(0, 1, "[1,2]")).await;
    let reply = peer.frame().await;
    assert_eq!(reply.payload, b"3", "{what}");
}

/// What `service` answers to a call, whatever its bodies are.
async fn called<S, B, R>(service: S, path: &str) -> (StatusCode, String)
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: std::fmt::Debug,
    B: From<&'static str>,
    R: Body<Data = Bytes>,
    R::Error: std::fmt::Debug,
{
    let (head, body) = service.oneshot(request(path)).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status, String::from_utf8(body.to_vec()).unwrap())
}

/// Calls through each layer in each place, and asks for frames there.
macro_rules! calls_through {
    ($($layer:expr),+ $(,)?) => {
        $(
            let by_frames = boxed($layer.layer(with_frames()));
            calls_by_frames(by_frames, stringify!($layer)).await;
            let by_frames = boxed($layer.layer(Router::new().fallback_service(with_frames())));
            calls_by_frames(by_frames, concat!(stringify!($layer), ", around axum")).await;
            let expected = (StatusCode::OK, "3".to_owned());
            let what = stringify!($layer);
            assert_eq!(called::<_, Full<Bytes>, _>($layer.layer(service()), "/rpc/add").await, expected, "{what}");
            let within = Router::new().nest_service("/api", $layer.layer(service()));
            assert_eq!(called::<_, AxumBody, _>(within, "/api/rpc/add").await, expected, "{what}, within axum");
            let around = $layer.layer(Router::new().nest_service("/api", service()));
            assert_eq!(called::<_, AxumBody, _>(around, "/api/rpc/add").await, expected, "{what}, around axum");
        )+
    };
}

#[tokio::test]
async fn every_layer_of_tower_http_fits_around_the_mounted_service() {
    calls_through![
        AddExtensionLayer::new(7_u8),
        CatchPanicLayer::new(),
        CompressionLayer::new(),
        CorsLayer::permissive(),
        CsrfLayer::new(),
        DecompressionLayer::new(),
        RequestDecompressionLayer::new(),
        FollowRedirectLayer::new(),
        RequestBodyLimitLayer::new(1000),
        MapRequestBodyLayer::new(|body| body),
        MapResponseBodyLayer::new(|body| body),
        InFlightRequestsLayer::pair().0,
        NormalizePathLayer::trim_trailing_slash(),
        OnEarlyDropLayer::builder(),
        PropagateHeaderLayer::new(NAME),
        SetRequestIdLayer::x_request_id(MakeRequestUuid),
        PropagateRequestIdLayer::x_request_id(),
        SetSensitiveHeadersLayer::new(once(header::AUTHORIZATION)),
        SetSensitiveRequestHeadersLayer::new(once(header::AUTHORIZATION)),
        SetSensitiveResponseHeadersLayer::new(once(header::SET_COOKIE)),
        SetRequestHeaderLayer::overriding(NAME, HeaderValue::from_static("ada")),
        SetResponseHeaderLayer::overriding(NAME, HeaderValue::from_static("ada")),
        SetStatusLayer::new(StatusCode::OK),
        TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, MINUTE),
        RequestBodyTimeoutLayer::new(MINUTE),
        ResponseBodyTimeoutLayer::new(MINUTE),
        TraceLayer::new_for_http(),
        TraceLayer::new_for_grpc(),
        ValidateRequestHeaderLayer::accept("application/json"),
    ];
}

#[tokio::test(start_paused = true)]
async fn a_layer_may_answer_in_place_of_the_mounted_service() {
    let cors = CorsLayer::new().allow_origin(["https://app.example".parse().unwrap()]).allow_methods([Method::POST]);
    let asked = || {
        let request = Request::options("/rpc/add").header("host", "localhost").header("origin", "https://app.example");
        request.header("access-control-request-method", "POST").body(Full::<Bytes>::default()).unwrap()
    };
    let answer = cors.layer(service()).oneshot(asked()).await.unwrap();
    assert_eq!(answer.headers()["access-control-allow-origin"], "https://app.example");
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "");

    let forever = |_: i64, _: i64| std::future::pending::<()>();
    let forever = Server::new().function("forever", forever).into_service().unwrap();
    let late = TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, Duration::from_millis(1)).layer(forever);
    assert_eq!(called::<_, Full<Bytes>, _>(late, "/rpc/forever").await, (StatusCode::REQUEST_TIMEOUT, String::new()));

    let guarded = ValidateRequestHeaderLayer::accept("text/html").layer(service());
    let mut request = request::<Full<Bytes>>("/rpc/add");
    request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    assert_eq!(guarded.oneshot(request).await.unwrap().status(), StatusCode::NOT_ACCEPTABLE);
}
