//! tonic with tower's load-shed around its concurrency limit of the whole server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status};
use tower::ServiceBuilder;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower::load_shed::LoadShedLayer;

use self::jobs_client::JobsClient;
use self::jobs_server::{Jobs, JobsServer};
use super::{Caller, Limit, NoAnswer};
use crate::function::Work;

// What `package overload; service Jobs { … }` makes of a .proto file.
include!(concat!(env!("OUT_DIR"), "/overload.Jobs.rs"));

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Job {
    #[prost(uint64, tag = "1")]
    number: u64,
}

struct Functions(Arc<Work>);

#[tonic::async_trait]
impl Jobs for Functions {
    async fn work(&self, job: Request<Job>) -> Result<Response<Job>, Status> {
        Ok(Response::new(Job { number: self.0.run(job.into_inner().number).await }))
    }
}

pub async fn serve(listener: TcpListener, work: Arc<Work>, limit: Limit) -> Result<()> {
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    // tonic answers `resource_exhausted` where tower's load-shed fails.
    let in_flight = GlobalConcurrencyLimitLayer::new(limit.in_flight);
    let layers = ServiceBuilder::new().layer(LoadShedLayer::new()).layer(in_flight);
    let server = match limit.streams {
        Some(most) => Server::builder().max_concurrent_streams(most),
        None => Server::builder(),
    };
    let server = server
        .http2_max_pending_accept_reset_streams(limit.cancelled_streams)
        .layer(layers.into_inner())
        .add_service(JobsServer::new(Functions(work)));
    Ok(server.serve_with_incoming(incoming).await?)
}

pub struct TonicCaller {
    clients: Vec<JobsClient<Channel>>,
    next: AtomicUsize,
}

impl TonicCaller {
    pub async fn connect(server: SocketAddr, connections: usize) -> Result<Self> {
        let mut clients = Vec::new();
        for _ in 0..connections {
            let endpoint = Endpoint::from_shared(format!("http://{server}"))?.tcp_nodelay(true);
            clients.push(JobsClient::new(endpoint.connect().await?));
        }
        Ok(Self { clients, next: AtomicUsize::new(0) })
    }
}

impl Caller for TonicCaller {
    fn call(&self, number: u64, left: Duration) -> BoxFuture<'_, Result<u64, NoAnswer>> {
        let mut client = self.clients[self.next.fetch_add(1, Ordering::Relaxed) % self.clients.len()].clone();
        let mut request = Request::new(Job { number });
        // The server gets it too, as `grpc-timeout`.
        request.set_timeout(left);
        async move { client.work(request).await.map(|answer| answer.into_inner().number).map_err(no_answer) }.boxed()
    }
}

fn no_answer(status: Status) -> NoAnswer {
    match status.code() {
        Code::ResourceExhausted => NoAnswer::Refused,
        // tonic says `cancelled` where its time-out is over.
        Code::DeadlineExceeded | Code::Cancelled => NoAnswer::Late,
        _ => NoAnswer::Failed(status.to_string()),
    }
}
