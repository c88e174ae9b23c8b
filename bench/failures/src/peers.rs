//! What is compared: a server and a client of each framework, behind one interface.

mod axum_reqwest;
mod byname;
mod tarpc;
mod tonic;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::repeats::Repeats;

/// The time that a caller has for an answer.
pub const DEADLINE: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    Byname,
    BynameHedged,
    BynameHttp,
    Tonic,
    /// Without a budget.
    TonicAttempts,
    Tarpc,
    /// tarpc's own stub that repeats.
    TarpcRetry,
    AxumReqwest,
    /// reqwest's own policy.
    ReqwestRetry,
}

/// What a server does for a call.
pub trait Work: Send + Sync + 'static {
    /// May be repeated.
    fn look(&self, order: u64) -> BoxFuture<'static, Worked>;

    /// Must not be repeated.
    fn place(&self, order: u64) -> BoxFuture<'static, Worked>;
}

/// The number of the replica that did it.
pub type Worked = Result<u32, Unavailable>;

/// The work can't be done now.
#[derive(Debug)]
pub struct Unavailable;

/// A client as an application has it.
pub trait Caller: Send + Sync + 'static {
    fn look(&self, order: u64) -> BoxFuture<'_, Result<u32, Failed>>;

    fn place(&self, order: u64) -> BoxFuture<'_, Result<u32, Failed>>;
}

/// A call that failed.
#[derive(Clone, Debug)]
pub struct Failed {
    /// Its error says that it did not run.
    pub did_not_run: bool,
    pub why: String,
}

impl Peer {
    pub fn name(self) -> &'static str {
        match self {
            Self::Byname => "byname",
            Self::BynameHedged => "byname, hedged",
            Self::BynameHttp => "byname over HTTP",
            Self::Tonic => "tonic",
            Self::TonicAttempts => "tonic, no budget",
            Self::Tarpc => "tarpc",
            Self::TarpcRetry => "tarpc, its Retry",
            Self::AxumReqwest => "axum + reqwest",
            Self::ReqwestRetry => "axum + reqwest, its retry",
        }
    }

    /// Differs from another peer in how it repeats, for a service of one replica.
    pub fn is_for_tiers(self) -> bool {
        matches!(self, Self::TonicAttempts | Self::TarpcRetry | Self::ReqwestRetry)
    }

    /// How the program takes its name.
    pub fn argument(self) -> String {
        self.to_possible_value().expect("no peer is hidden").get_name().to_owned()
    }

    /// The packages whose versions count.
    pub fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Byname | Self::BynameHedged | Self::BynameHttp => &["byname"],
            Self::Tonic | Self::TonicAttempts => &["tonic", "tower"],
            Self::Tarpc | Self::TarpcRetry => &["tarpc"],
            Self::AxumReqwest | Self::ReqwestRetry => &["axum", "reqwest", "hyper"],
        }
    }

    /// Serves until it is told to stop, then answers what it has begun. A connection without a call is closed after `idle`,
    /// where the framework has that.
    pub async fn serve(
        self,
        listener: TcpListener,
        work: Arc<dyn Work>,
        idle: Option<Duration>,
        stop: CancellationToken,
    ) -> Result<()> {
        match self {
            Self::Byname | Self::BynameHedged | Self::BynameHttp => byname::serve(listener, work, idle, stop).await,
            Self::Tonic | Self::TonicAttempts => tonic::serve(listener, work, idle, stop).await,
            Self::Tarpc | Self::TarpcRetry => tarpc::serve(listener, work, stop).await,
            Self::AxumReqwest | Self::ReqwestRetry => axum_reqwest::serve(listener, work, idle, stop).await,
        }
    }

    pub fn caller(self, addresses: &[SocketAddr]) -> Result<Arc<dyn Caller>> {
        Ok(match self {
            Self::Byname | Self::BynameHedged | Self::BynameHttp => {
                Arc::new(byname::BynameCaller::new(self, addresses)?)
            }
            Self::Tonic => Arc::new(tonic::TonicCaller::new(addresses, Repeats::default())?),
            Self::TonicAttempts => Arc::new(tonic::TonicCaller::new(addresses, Repeats::without_budget())?),
            Self::Tarpc => Arc::new(tarpc::TarpcCaller::new(addresses)),
            Self::TarpcRetry => Arc::new(tarpc::RetryCaller::new(addresses[0])),
            Self::AxumReqwest => Arc::new(axum_reqwest::ReqwestCaller::new(addresses, false)?),
            Self::ReqwestRetry => Arc::new(axum_reqwest::ReqwestCaller::new(addresses, true)?),
        })
    }
}
