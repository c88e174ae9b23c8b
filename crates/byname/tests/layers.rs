//! Every layer of tower-http around the mounted service: directly, within an axum application, and around the
//! application. A layer that doesn't fit is a compile error.

mod harness;

use std::iter::once;
use std::time::Duration;

use axum::Router;
use axum::body::Body as AxumBody;
use axum::http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use byname::{HttpService, Server};
use bytes::Bytes;
use harness::add;
use http_body_util::{BodyExt, Full};
use hyper::body::Body;
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

/// Calls through each layer in each place.
macro_rules! calls_through {
    ($($layer:expr),+ $(,)?) => {
        $(
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
