//! axum with tower's load-shed around its concurrency limit, over HTTP/2, and hyper's bare client.
//!
//! Over HTTP/1.1 a connection has one call at a time, so eight connections would never have more than eight calls in flight.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use axum::error_handling::HandleErrorLayer;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Request, StatusCode, Uri};
use axum::routing::post;
use axum::{BoxError, Json, Router};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceBuilder;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower::load_shed::LoadShedLayer;

use super::{Caller, Limit, NoAnswer};
use crate::function::Work;

pub async fn serve(listener: TcpListener, work: Arc<Work>, limit: Limit) -> Result<()> {
    let layers = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(|_: BoxError| async { StatusCode::SERVICE_UNAVAILABLE }))
        .layer(LoadShedLayer::new())
        .layer(GlobalConcurrencyLimitLayer::new(limit.in_flight));
    let function = move |Json(number): Json<u64>| {
        let work = Arc::clone(&work);
        async move { Json(work.run(number).await) }
    };
    let router = Router::new().route("/work", post(function)).layer(layers);
    // As in axum's example `serve-with-hyper`: `axum::serve` has no setting for cancelled streams.
    loop {
        let (stream, _) = listener.accept().await?;
        let _ = stream.set_nodelay(true);
        let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        server.timer(TokioTimer::new());
        if let Some(most) = limit.streams {
            server.max_concurrent_streams(most);
        }
        if let Some(most) = limit.cancelled_streams {
            server.max_pending_accept_reset_streams(most);
        }
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
    }
}

pub struct HyperCaller {
    connections: Vec<Arc<Connection>>,
    next: AtomicUsize,
    uri: Uri,
}

struct Connection {
    server: SocketAddr,
    requests: Mutex<SendRequest<Full<Bytes>>>,
    is_opening: AtomicBool,
}

impl HyperCaller {
    pub async fn connect(server: SocketAddr, connections: usize) -> Result<Self> {
        let mut open = Vec::new();
        for _ in 0..connections {
            let (requests, is_opening) = (Mutex::new(handshake(server).await?), AtomicBool::new(false));
            open.push(Arc::new(Connection { server, requests, is_opening }));
        }
        Ok(Self { connections: open, next: AtomicUsize::new(0), uri: format!("http://{server}/work").parse()? })
    }
}

async fn handshake(server: SocketAddr) -> Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    let (requests, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(requests)
}

impl Connection {
    /// Where requests go. A connection that has ended is opened again, and calls fail until it is.
    fn requests(self: &Arc<Self>) -> SendRequest<Full<Bytes>> {
        let requests = self.requests.lock().expect("no call panics").clone();
        if requests.is_closed() && !self.is_opening.swap(true, Ordering::Relaxed) {
            let connection = Arc::clone(self);
            tokio::spawn(async move {
                if let Ok(requests) = handshake(connection.server).await {
                    *connection.requests.lock().expect("no call panics") = requests;
                }
                connection.is_opening.store(false, Ordering::Relaxed);
            });
        }
        requests
    }
}

impl Caller for HyperCaller {
    fn call(&self, number: u64, _: Duration) -> BoxFuture<'_, Result<u64, NoAnswer>> {
        let connection = &self.connections[self.next.fetch_add(1, Ordering::Relaxed) % self.connections.len()];
        let mut requests = connection.requests();
        let mut request = Request::new(Full::from(number.to_string()));
        *request.method_mut() = axum::http::Method::POST;
        *request.uri_mut() = self.uri.clone();
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        async move {
            let answer = requests.send_request(request).await.map_err(failed)?;
            match answer.status() {
                StatusCode::OK => {}
                StatusCode::SERVICE_UNAVAILABLE => return Err(NoAnswer::Refused),
                status => return Err(failed(format!("status {status}"))),
            }
            let body = answer.into_body().collect().await.map_err(failed)?.to_bytes();
            serde_json::from_slice(&body).map_err(failed)
        }
        .boxed()
    }
}

fn failed(why: impl ToString) -> NoAnswer {
    NoAnswer::Failed(why.to_string())
}
