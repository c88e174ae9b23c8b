//! The peers: a file for each, and a line in [`PEERS`].

mod axum_hyper;
mod axum_reqwest;
mod axum_server;
mod byname;

use std::net::SocketAddr;
use std::pin::Pin;

use anyhow::Result;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use tokio::net::TcpListener;

use crate::load::{self, Load, Outcome};
use crate::work::User;

pub static PEERS: &[AnyPeer] = &[
    AnyPeer::of::<axum_hyper::AxumHyper>(),
    AnyPeer::of::<axum_reqwest::AxumReqwest>(),
    AnyPeer::of::<byname::Byname>(),
];

/// A server and a client that speak with each other, at the best settings that they document.
pub trait Peer: 'static {
    /// What the command line and the tables call it.
    const NAME: &'static str;
    /// The dependencies of this crate whose versions say what was measured.
    const PACKAGES: &'static [&'static str];

    type Caller: Caller;

    async fn serve(listener: TcpListener) -> Result<()>;

    /// A caller for each slot, that is for each call in flight.
    async fn connect(server: SocketAddr, slots: usize) -> Result<Vec<Self::Caller>>;
}

/// Makes one call after the other. The futures are `Send` because every slot is a task of its own.
pub trait Caller: Send + 'static {
    fn add(&mut self, a: i64, b: i64) -> impl Future<Output = Result<i64>> + Send;

    fn record(&mut self, users: Vec<User>) -> impl Future<Output = Result<Vec<User>>> + Send;
}

/// A [`Peer`] as a value, so that one can be chosen at run time. What the load runs is still
/// compiled for each.
pub struct AnyPeer {
    pub name: &'static str,
    pub packages: &'static [&'static str],
    pub serve: fn(TcpListener) -> LocalFuture<Result<()>>,
    pub load: fn(Load) -> LocalFuture<Result<Outcome>>,
}

pub type LocalFuture<T> = Pin<Box<dyn Future<Output = T>>>;

impl AnyPeer {
    const fn of<P: Peer>() -> Self {
        AnyPeer {
            name: P::NAME,
            packages: P::PACKAGES,
            serve: |listener| Box::pin(P::serve(listener)),
            load: |load| Box::pin(load::generate::<P>(load)),
        }
    }
}

/// Reads a peer's name from the command line.
pub fn parser() -> impl TypedValueParser<Value = &'static AnyPeer> {
    PossibleValuesParser::new(PEERS.iter().map(|peer| peer.name)).map(|name| {
        let known = PEERS.iter().find(|peer| peer.name == name);
        known.expect("clap accepts only these names")
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::ValueEnum;

    use super::*;
    use crate::accept::accepted;
    use crate::work::Work;

    #[tokio::test]
    async fn every_peer_answers_every_work() {
        for peer in PEERS {
            for &work in Work::value_variants() {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let load = Load {
                    server: listener.local_addr().unwrap(),
                    server_process: None,
                    work,
                    in_flight: 4,
                    warm_up: Duration::from_millis(10),
                    window: Duration::from_millis(50),
                };
                let before = accepted();
                let outcome = tokio::select! {
                    outcome = (peer.load)(load) => outcome.unwrap(),
                    ended = (peer.serve)(listener) => panic!("{} ended: {ended:?}", peer.name),
                };
                assert!(outcome.calls > 0, "{} {work}: {outcome:?}", peer.name);
                assert_eq!(outcome.failures, 0, "{} {work}: {outcome:?}", peer.name);
                assert!(accepted() > before, "{} {work}", peer.name);
            }
        }
    }
}
