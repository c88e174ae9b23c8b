//! tonic with its own balancing, `Channel::balance_list`. It has no retries: those are around it.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{ConnectError, Request, Response, Status};

use self::orders_client::OrdersClient;
use self::orders_server::{Orders, OrdersServer};
use super::{Caller, DEADLINE, Failed, Work, Worked};
use crate::repeats::Repeats;

// What `package failures; service Orders { … }` makes of a .proto file.
include!(concat!(env!("OUT_DIR"), "/failures.Orders.rs"));

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Order {
    #[prost(uint64, tag = "1")]
    number: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Answered {
    #[prost(uint32, tag = "1")]
    replica: u32,
}

struct Functions(Arc<dyn Work>);

#[tonic::async_trait]
impl Orders for Functions {
    async fn look(&self, order: Request<Order>) -> Result<Response<Answered>, Status> {
        answer(self.0.look(order.into_inner().number).await)
    }

    async fn place(&self, order: Request<Order>) -> Result<Response<Answered>, Status> {
        answer(self.0.place(order.into_inner().number).await)
    }
}

fn answer(worked: Worked) -> Result<Response<Answered>, Status> {
    let answered = worked.map(|replica| Response::new(Answered { replica }));
    answered.map_err(|_| Status::unavailable("the work can't be done now"))
}

pub async fn serve(
    listener: TcpListener,
    work: Arc<dyn Work>,
    idle: Option<Duration>,
    stop: CancellationToken,
) -> Result<()> {
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let mut server = Server::builder();
    // It does not close connections that are idle, but those that are old.
    if let Some(age) = idle {
        server = server.max_connection_age(age);
    }
    let router = server.add_service(OrdersServer::new(Functions(work)));
    Ok(router.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await?)
}

pub struct TonicCaller {
    client: OrdersClient<Channel>,
    repeats: Repeats,
}

impl TonicCaller {
    pub fn new(addresses: &[SocketAddr], repeats: Repeats) -> Result<Self> {
        let endpoint = |address| {
            let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
            // Pings find a connection that is dead within two seconds.
            let endpoint = endpoint.tcp_nodelay(true).connect_timeout(Duration::from_millis(500)).timeout(DEADLINE);
            let endpoint = endpoint.http2_keep_alive_interval(Duration::from_secs(1));
            anyhow::Ok(endpoint.keep_alive_timeout(Duration::from_secs(1)).keep_alive_while_idle(true))
        };
        let endpoints = addresses.iter().map(endpoint).collect::<Result<Vec<_>>>()?;
        let client = OrdersClient::new(Channel::balance_list(endpoints.into_iter()));
        Ok(Self { client, repeats })
    }
}

impl Caller for TonicCaller {
    fn look(&self, number: u64) -> BoxFuture<'_, Result<u32, Failed>> {
        let attempt = move || async move { read(self.client.clone().look(Order { number }).await) };
        self.repeats.idempotent(attempt).boxed()
    }

    fn place(&self, number: u64) -> BoxFuture<'_, Result<u32, Failed>> {
        let attempt = move || async move { read(self.client.clone().place(Order { number }).await) };
        self.repeats.once(attempt).boxed()
    }
}

fn read(answer: Result<Response<Answered>, Status>) -> Result<u32, Failed> {
    answer.map(|answered| answered.into_inner().replica).map_err(|status| {
        // The one error that says it: the connection was not there.
        let mut why: Option<&(dyn Error + 'static)> = Some(&status);
        let mut did_not_run = false;
        while let Some(error) = why {
            did_not_run |= error.is::<ConnectError>();
            why = error.source();
        }
        Failed { did_not_run, why: status.to_string() }
    })
}
