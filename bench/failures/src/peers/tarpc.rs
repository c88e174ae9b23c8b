//! tarpc over TCP with bincode. Its client has one connection that stays closed once it is: what connects again and takes
//! the replicas in turn is here, as an application has to write it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use tarpc::client::RpcError;
use tarpc::client::stub::retry::Retry;
use tarpc::server::{BaseChannel, Channel};
use tarpc::tokio_serde::formats::Bincode;
use tarpc::{client, context, serde_transport, server};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, OnceCell};
use tokio_util::codec::LengthDelimitedCodec;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Caller, DEADLINE, Failed, Work};
use crate::repeats::Repeats;

#[tarpc::service]
pub trait Orders {
    async fn look(order: u64) -> Option<u32>;
    async fn place(order: u64) -> Option<u32>;
}

#[derive(Clone)]
struct Functions(Arc<dyn Work>);

impl Orders for Functions {
    async fn look(self, _: context::Context, order: u64) -> Option<u32> {
        self.0.look(order).await.ok()
    }

    async fn place(self, _: context::Context, order: u64) -> Option<u32> {
        self.0.place(order).await.ok()
    }
}

pub async fn serve(listener: TcpListener, work: Arc<dyn Work>, stop: CancellationToken) -> Result<()> {
    let tasks = TaskTracker::new();
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let (stream, _) = accepted?;
        stream.set_nodelay(true)?;
        let transport = serde_transport::new(LengthDelimitedCodec::builder().new_framed(stream), Bincode::default());
        let channel = BaseChannel::new(server::Config::default(), transport);
        let requests = channel.execute(Functions(Arc::clone(&work)).serve());
        let (stop, started) = (stop.clone(), tasks.clone());
        tasks.spawn(async move {
            // It has no drain: requests are read for as long as any runs.
            let running = TaskTracker::new();
            let mut requests = std::pin::pin!(requests);
            while let Some(Some(request)) = stop.run_until_cancelled(requests.next()).await {
                started.spawn(running.track_future(request));
            }
            running.close();
            // Answers go out while requests are polled for.
            loop {
                tokio::select! {
                    biased;
                    request = requests.next() => match request {
                        Some(request) => drop(started.spawn(running.track_future(request))),
                        None => return,
                    },
                    () = running.wait() => break,
                }
            }
            // The last answers may still be on their way out.
            let _ = tokio::time::timeout(Duration::from_millis(50), requests.next()).await;
        });
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
    Ok(())
}

pub struct TarpcCaller {
    replicas: Vec<Arc<Replica>>,
    next: AtomicUsize,
    repeats: Repeats,
}

struct Replica {
    address: SocketAddr,
    client: Mutex<Option<OrdersClient>>,
}

impl TarpcCaller {
    pub fn new(addresses: &[SocketAddr]) -> Self {
        let replica = |address: &SocketAddr| Arc::new(Replica { address: *address, client: Mutex::default() });
        let replicas = addresses.iter().map(replica).collect();
        Self { replicas, next: AtomicUsize::new(0), repeats: Repeats::default() }
    }

    fn next(&self) -> Arc<Replica> {
        Arc::clone(&self.replicas[self.next.fetch_add(1, Ordering::Relaxed) % self.replicas.len()])
    }
}

impl Replica {
    /// Its connection, which is opened if there is none.
    async fn client(&self) -> Result<OrdersClient, Failed> {
        let mut kept = self.client.lock().await;
        if let Some(client) = &*kept {
            return Ok(client.clone());
        }
        let unconnected = |why: String| Failed { did_not_run: true, why };
        let connect = tokio::time::timeout(Duration::from_millis(500), TcpStream::connect(self.address)).await;
        let stream = connect.map_err(|_| unconnected("not connected in time".into()))?;
        let stream = stream.map_err(|why| unconnected(why.to_string()))?;
        stream.set_nodelay(true).map_err(|why| unconnected(why.to_string()))?;
        let transport = serde_transport::new(LengthDelimitedCodec::builder().new_framed(stream), Bincode::default());
        Ok(kept.insert(OrdersClient::new(config(), transport).spawn()).clone())
    }

    async fn read(&self, answer: Result<Option<u32>, RpcError>) -> Result<u32, Failed> {
        let unknown = |why: String| Failed { did_not_run: false, why };
        match answer {
            Ok(Some(replica)) => Ok(replica),
            Ok(None) => Err(unknown("the work can't be done now".into())),
            Err(error) => {
                if !matches!(error, RpcError::DeadlineExceeded | RpcError::Server(_)) {
                    *self.client.lock().await = None;
                }
                Err(unknown(error.to_string()))
            }
        }
    }
}

/// Room for all calls.
fn config() -> client::Config {
    let mut config = client::Config::default();
    config.max_in_flight_requests = 4096;
    config.pending_request_buffer = 4096;
    config
}

/// Its own deadline is ten seconds.
fn in_time() -> context::Context {
    let mut context = context::current();
    context.deadline = Instant::now() + DEADLINE;
    context
}

impl Caller for TarpcCaller {
    fn look(&self, order: u64) -> BoxFuture<'_, Result<u32, Failed>> {
        let attempt = move || async move {
            let replica = self.next();
            replica.read(replica.client().await?.look(in_time(), order).await).await
        };
        self.repeats.idempotent(attempt).boxed()
    }

    fn place(&self, order: u64) -> BoxFuture<'_, Result<u32, Failed>> {
        let attempt = move || async move {
            let replica = self.next();
            replica.read(replica.client().await?.place(in_time(), order).await).await
        };
        self.repeats.once(attempt).boxed()
    }
}

/// tarpc's stub `Retry` as its example has it: three attempts, with neither a delay nor a budget. It has one replica, which
/// stays.
pub struct RetryCaller {
    address: SocketAddr,
    client: OnceCell<OrdersClient<Attempts>>,
}

type Attempts = Retry<ShouldRetry, client::Channel<Arc<OrdersRequest>, OrdersResponse>>;
type ShouldRetry = fn(&Result<OrdersResponse, RpcError>, u32) -> bool;

impl RetryCaller {
    pub fn new(address: SocketAddr) -> Self {
        Self { address, client: OnceCell::new() }
    }

    async fn client(&self) -> Result<&OrdersClient<Attempts>, Failed> {
        let connect = || async {
            let stream = TcpStream::connect(self.address).await?;
            stream.set_nodelay(true)?;
            let stream = LengthDelimitedCodec::builder().new_framed(stream);
            let channel = client::new(config(), serde_transport::new(stream, Bincode::default())).spawn();
            Ok(OrdersClient::from(Retry::new(channel, should_retry as ShouldRetry)))
        };
        let unconnected = |why: std::io::Error| Failed { did_not_run: true, why: why.to_string() };
        self.client.get_or_try_init(connect).await.map_err(unconnected)
    }
}

fn should_retry(answer: &Result<OrdersResponse, RpcError>, attempts: u32) -> bool {
    attempts < 3 && !matches!(answer, Ok(OrdersResponse::Look(Some(_)) | OrdersResponse::Place(_)))
}

impl Caller for RetryCaller {
    fn look(&self, order: u64) -> BoxFuture<'_, Result<u32, Failed>> {
        async move { answered(self.client().await?.look(in_time(), order).await) }.boxed()
    }

    fn place(&self, order: u64) -> BoxFuture<'_, Result<u32, Failed>> {
        async move { answered(self.client().await?.place(in_time(), order).await) }.boxed()
    }
}

fn answered(answer: Result<Option<u32>, RpcError>) -> Result<u32, Failed> {
    let failed = |why: String| Failed { did_not_run: false, why };
    answer.map_err(|error| failed(error.to_string()))?.ok_or_else(|| failed("the work can't be done now".into()))
}
