//! tarpc over TCP with bincode, with its limit of the requests of a channel.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use tarpc::client::RpcError;
use tarpc::server::{BaseChannel, Channel};
use tarpc::tokio_serde::formats::Bincode;
use tarpc::{client, context, serde_transport, server};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::LengthDelimitedCodec;

use super::{Caller, NoAnswer};
use crate::function::Work;

#[tarpc::service]
pub trait Jobs {
    async fn work(number: u64) -> u64;
}

#[derive(Clone)]
struct Functions(Arc<Work>);

impl Jobs for Functions {
    async fn work(self, _: context::Context, number: u64) -> u64 {
        self.0.run(number).await
    }
}

/// Room for all calls, in queues that are too small by default.
const ROOM: usize = 1 << 16;

pub async fn serve(listener: TcpListener, work: Arc<Work>, in_flight_of_each: usize) -> Result<()> {
    let config = server::Config { pending_response_buffer: ROOM };
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let transport = serde_transport::new(LengthDelimitedCodec::builder().new_framed(stream), Bincode::default());
        let channel = BaseChannel::new(config.clone(), transport).max_concurrent_requests(in_flight_of_each);
        let requests = channel.execute(Functions(Arc::clone(&work)).serve());
        // As in its documentation: a task for each request.
        tokio::spawn(requests.for_each(|request| async move { drop(tokio::spawn(request)) }));
    }
}

pub struct TarpcCaller {
    clients: Vec<JobsClient>,
    next: AtomicUsize,
}

impl TarpcCaller {
    pub async fn connect(server: SocketAddr, connections: usize) -> Result<Self> {
        let mut config = client::Config::default();
        config.max_in_flight_requests = ROOM;
        config.pending_request_buffer = ROOM;
        let mut clients = Vec::new();
        for _ in 0..connections {
            let stream = TcpStream::connect(server).await?;
            stream.set_nodelay(true)?;
            let stream = LengthDelimitedCodec::builder().new_framed(stream);
            let transport = serde_transport::new(stream, Bincode::default());
            clients.push(JobsClient::new(config.clone(), transport).spawn());
        }
        Ok(Self { clients, next: AtomicUsize::new(0) })
    }
}

impl Caller for TarpcCaller {
    fn call(&self, number: u64, left: Duration) -> BoxFuture<'_, Result<u64, NoAnswer>> {
        let client = &self.clients[self.next.fetch_add(1, Ordering::Relaxed) % self.clients.len()];
        // The server gets the deadline too.
        let mut context = context::current();
        context.deadline = Instant::now() + left;
        async move { client.work(context, number).await.map_err(no_answer) }.boxed()
    }
}

fn no_answer(error: RpcError) -> NoAnswer {
    match error {
        RpcError::DeadlineExceeded => NoAnswer::Late,
        // By bincode the kind of the error comes as another one than was sent.
        RpcError::Server(error) if error.detail == "server throttled the request." => NoAnswer::Refused,
        _ => NoAnswer::Failed(error.to_string()),
    }
}
