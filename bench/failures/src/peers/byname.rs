//! byname on its defaults. Nothing around it repeats or chooses.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use byname::{CallError, Client, Code, Error, Executed, Server, Transport, rpc};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Caller, DEADLINE, Failed, Peer, Work, Worked};

struct Orders(Arc<dyn Work>);

#[rpc]
impl Orders {
    #[rpc(readonly)]
    async fn look(&self, order: u64) -> Result<u32, Error> {
        answer(self.0.look(order).await)
    }

    async fn place(&self, order: u64) -> Result<u32, Error> {
        answer(self.0.place(order).await)
    }
}

fn answer(worked: Worked) -> Result<u32, Error> {
    worked.map_err(|_| Error::new(Code::Unavailable, "the work can't be done now"))
}

pub async fn serve(
    listener: TcpListener,
    work: Arc<dyn Work>,
    idle: Option<Duration>,
    stop: CancellationToken,
) -> Result<()> {
    let server = Server::new().inject(Orders(work)).limits(|limits| limits.idle = idle.unwrap_or(limits.idle));
    Ok(server.serve(listener).until(stop.cancelled_owned()).await?)
}

pub struct BynameCaller(Client);

impl BynameCaller {
    pub fn new(peer: Peer, addresses: &[SocketAddr]) -> Result<Self> {
        let mut builder = Client::builder("localhost/rpc").addresses(addresses);
        if peer == Peer::BynameHttp {
            builder = builder.transport(Transport::Http);
        }
        let client = builder.build()?.timeout(DEADLINE);
        Ok(Self(if peer == Peer::BynameHedged { client.policy("look", |policy| policy.hedge = true) } else { client }))
    }
}

impl Caller for BynameCaller {
    fn look(&self, order: u64) -> BoxFuture<'_, Result<u32, Failed>> {
        Orders::on(&self.0).look(order).into_future().map(|answer| answer.map_err(failed)).boxed()
    }

    fn place(&self, order: u64) -> BoxFuture<'_, Result<u32, Failed>> {
        Orders::on(&self.0).place(order).into_future().map(|answer| answer.map_err(failed)).boxed()
    }
}

fn failed(error: CallError<Error>) -> Failed {
    Failed { did_not_run: error.executed() == Executed::No, why: error.to_string() }
}
