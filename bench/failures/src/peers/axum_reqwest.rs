//! axum, and reqwest with its pool. reqwest chooses among no replicas: the URLs are taken in turn here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use axum::http::StatusCode;
use axum::routing::post;
use axum::serve::ListenerExt;
use axum::{Json, Router};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use reqwest::{Client, Url};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Caller, DEADLINE, Failed, Work, Worked};
use crate::repeats::Repeats;

pub async fn serve(
    listener: TcpListener,
    work: Arc<dyn Work>,
    idle: Option<Duration>,
    stop: CancellationToken,
) -> Result<()> {
    let (looks, places) = (Arc::clone(&work), work);
    let look = move |Json(order): Json<u64>| answer(looks.look(order));
    let place = move |Json(order): Json<u64>| answer(places.place(order));
    let router = Router::new().route("/look", post(look)).route("/place", post(place));
    let Some(idle) = idle else {
        let listener = listener.tap_io(|connection| {
            let _ = connection.set_nodelay(true);
        });
        return Ok(axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await?);
    };
    // `axum::serve` leaves idle connections open; as axum's example `serve-with-hyper` does it, with hyper's limit.
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let (stream, _) = accepted?;
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        let mut server = http1::Builder::new();
        let server = server.timer(TokioTimer::new()).header_read_timeout(idle);
        tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
    }
    Ok(())
}

async fn answer(work: BoxFuture<'static, Worked>) -> Result<Json<u32>, StatusCode> {
    work.await.map(Json).map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
}

pub struct ReqwestCaller {
    client: Client,
    /// Of each replica, those to look and to place.
    urls: Vec<[Url; 2]>,
    next: AtomicUsize,
    repeats: Repeats,
    repeats_itself: bool,
}

impl ReqwestCaller {
    pub fn new(addresses: &[SocketAddr], repeats_itself: bool) -> Result<Self> {
        let mut builder = Client::builder().no_proxy().tcp_nodelay(true);
        if repeats_itself {
            // Two more attempts within a budget of a fifth are its default.
            builder = builder.retry(reqwest::retry::for_host("127.0.0.1").classify_fn(|answer| {
                let has_failed = answer.status().is_none_or(|status| status.is_server_error());
                if has_failed && answer.uri().path() == "/look" { answer.retryable() } else { answer.success() }
            }));
        }
        let client = builder.connect_timeout(Duration::from_millis(500)).timeout(DEADLINE).build()?;
        let url = |address, path| Url::parse(&format!("http://{address}/{path}"));
        let urls = addresses.iter().map(|address| anyhow::Ok([url(address, "look")?, url(address, "place")?]));
        let (urls, next) = (urls.collect::<Result<_>>()?, AtomicUsize::new(0));
        Ok(Self { client, urls, next, repeats: Repeats::default(), repeats_itself })
    }

    async fn post(&self, which: usize, order: u64) -> Result<u32, Failed> {
        let replica = self.next.fetch_add(1, Ordering::Relaxed) % self.urls.len();
        let answer = self.client.post(self.urls[replica][which].clone()).json(&order).send().await;
        let answer = answer.and_then(reqwest::Response::error_for_status).map_err(failed)?;
        answer.json().await.map_err(failed)
    }
}

/// That it could not connect is the one error that says it.
fn failed(error: reqwest::Error) -> Failed {
    let mut why = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(error) = source {
        why = format!("{why}: {error}");
        source = error.source();
    }
    Failed { did_not_run: error.is_connect(), why }
}

impl Caller for ReqwestCaller {
    fn look(&self, order: u64) -> BoxFuture<'_, Result<u32, Failed>> {
        if self.repeats_itself {
            return self.post(0, order).boxed();
        }
        self.repeats.idempotent(move || self.post(0, order)).boxed()
    }

    fn place(&self, order: u64) -> BoxFuture<'_, Result<u32, Failed>> {
        self.repeats.once(move || self.post(1, order)).boxed()
    }
}
