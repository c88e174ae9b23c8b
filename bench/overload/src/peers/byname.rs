//! byname: a client for each connection, whose throttle and retry budget are its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use byname::{Client, Code, Context, Error, Executed, Server, Transport, rpc};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

use super::{Caller, NoAnswer};
use crate::function::Work;

/// The header that says how much time a call has left, in microseconds.
pub const LEFT: &str = "left-us";

struct Jobs(Arc<Work>);

// Not idempotent, as functions are by default.
#[rpc]
impl Jobs {
    async fn work(&self, number: u64) -> u64 {
        self.0.run(number).await
    }
}

/// Every request of HTTP says what host it is for.
#[rpc(readonly)]
pub async fn is_by_frames() -> bool {
    Context::current().is_some_and(|context| context.header("host").is_none())
}

pub async fn serve(listener: TcpListener, work: Arc<Work>, in_flight: Option<usize>) -> Result<()> {
    let server = Server::new().inject(Jobs(work)).method::<is_by_frames>();
    let server = server.limits(|limits| limits.in_flight = in_flight.unwrap_or(limits.in_flight));
    Ok(server.serve(listener).await?)
}

#[derive(Clone, Copy, PartialEq)]
pub enum By {
    Frames,
    /// With the header [`LEFT`].
    FramesWithTime,
    Http,
}

pub struct BynameCaller {
    clients: Vec<Client>,
    says_time: bool,
    next: AtomicUsize,
}

impl BynameCaller {
    pub async fn connect(server: SocketAddr, clients: usize, by: By) -> Result<Self> {
        let client = || {
            let builder = Client::builder(format!("{server}/rpc"));
            let builder = if by == By::Http { builder.transport(Transport::Http) } else { builder };
            // A call that was refused did not run, so it would be sent again if its deadline leaves time for that. The other
            // clients send each call once.
            Ok::<_, Error>(builder.build()?.policy("work", |policy| policy.attempts = 1))
        };
        let clients = (0..clients).map(|_| client()).collect::<Result<Vec<_>, _>>()?;
        for client in &clients {
            settle(client, by).await?;
        }
        Ok(Self { clients, says_time: by == By::FramesWithTime, next: AtomicUsize::new(0) })
    }
}

/// Calls use frames after the first calls over HTTP.
async fn settle(client: &Client, by: By) -> Result<()> {
    let began = Instant::now();
    while !is_by_frames::on(client).await? && by != By::Http {
        ensure!(began.elapsed() < Duration::from_secs(5), "calls of a client go over HTTP still after 5 s");
        sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

impl Caller for BynameCaller {
    fn call(&self, number: u64, left: Duration) -> BoxFuture<'_, Result<u64, NoAnswer>> {
        let client = &self.clients[self.next.fetch_add(1, Ordering::Relaxed) % self.clients.len()];
        let call = Jobs::on(client).work(number).timeout(left);
        let call = if self.says_time { call.header(LEFT, &left.as_micros().to_string()) } else { call };
        call.map(|answer| answer.map_err(|error| no_answer(&error))).boxed()
    }
}

fn no_answer(error: &Error) -> NoAnswer {
    // The message of the client's throttle begins so, behind the name of the function.
    let is_throttled = error.message().starts_with("`work` was not sent, because ");
    match error.code() {
        _ if is_throttled => NoAnswer::HeldBack,
        // The limits of the client.
        Code::ResourceExhausted if matches!(error.limit(), Some("connections" | "waiting")) => NoAnswer::HeldBack,
        Code::ResourceExhausted if error.executed() == Executed::No => NoAnswer::Refused,
        Code::DeadlineExceeded => NoAnswer::Late,
        _ => NoAnswer::Failed(error.to_string()),
    }
}
