//! What is compared: a server and a client of each framework, behind one interface.

mod axum;
mod byname;
mod byname_rules;
mod tarpc;
mod tonic;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use futures_util::future::BoxFuture;
use tokio::net::TcpListener;

use crate::function::Work;
use crate::limit_rules::{Fixed, Gradient2, InFlightByDelay, OldestWaits, Step};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// byname on its defaults
    BynameFrames,
    /// The same with its client over HTTP
    BynameHttp,
    /// byname with a small `Limits::in_flight`
    BynameFixed,
    /// byname by frames with a fixed limit of calls in flight in place of its admission
    RuleFixed,
    /// The same with a limit that grows by one and falls by a tenth with the queue delay of 100 ms
    RuleAimd,
    /// The same with Netflix's Gradient2
    RuleGradient2,
    /// The same, with every call refused while the oldest one waits for too long
    RuleOldest,
    /// tonic with tower's load-shed and concurrency limit
    Tonic,
    /// axum over HTTP/2 with tower's load-shed and concurrency limit
    Axum,
    /// tarpc with the limit of requests of a channel
    Tarpc,
}

/// The limits of peers that have fixed ones.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// The calls that are admitted at once.
    pub in_flight: usize,
    /// The connections that share it.
    pub connections: usize,
    /// How many calls a connection of HTTP/2 may have in flight, unless by default.
    pub streams: Option<u32>,
    /// How many cancelled streams a connection of HTTP/2 may have before it is closed, unless by default.
    pub cancelled_streams: Option<usize>,
}

/// A client with its connections.
pub trait Caller: Send + Sync + 'static {
    /// Makes a call, for which this time is left. The answer is the number.
    fn call(&self, number: u64, left: Duration) -> BoxFuture<'_, Result<u64, NoAnswer>>;
}

/// Why a call was not answered.
#[derive(Clone, Debug, PartialEq)]
pub enum NoAnswer {
    /// The time was over.
    Late,
    /// The server refused it.
    Refused,
    /// The client did not send it, because the server had refused others.
    HeldBack,
    Failed(String),
}

impl Peer {
    pub fn name(self) -> &'static str {
        match self {
            Self::BynameFrames => "byname-frames",
            Self::BynameHttp => "byname-http",
            Self::BynameFixed => "byname-fixed",
            Self::RuleFixed => "rule-fixed",
            Self::RuleAimd => "rule-aimd",
            Self::RuleGradient2 => "rule-gradient2",
            Self::RuleOldest => "rule-oldest",
            Self::Tonic => "tonic",
            Self::Axum => "axum",
            Self::Tarpc => "tarpc",
        }
    }

    /// How the program takes its name.
    pub fn argument(self) -> String {
        self.to_possible_value().expect("no peer is hidden").get_name().to_owned()
    }

    /// Whether it has a limit that someone has to choose.
    pub fn has_fixed_limit(self) -> bool {
        matches!(self, Self::BynameFixed | Self::RuleFixed | Self::Tonic | Self::Axum | Self::Tarpc)
    }

    /// Whether it is byname with another rule. It runs only where it is named.
    pub fn is_rule(self) -> bool {
        matches!(self, Self::RuleFixed | Self::RuleAimd | Self::RuleGradient2 | Self::RuleOldest)
    }

    /// The packages whose versions count.
    pub fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Tonic => &["tonic", "tower", "hyper", "h2"],
            Self::Axum => &["axum", "tower", "hyper", "h2"],
            Self::Tarpc => &["tarpc"],
            _ => &["byname", "hyper"],
        }
    }

    pub async fn serve(self, listener: TcpListener, work: Arc<Work>, limit: Limit) -> Result<()> {
        match self {
            Self::BynameFrames | Self::BynameHttp => byname::serve(listener, work, None).await,
            Self::BynameFixed => byname::serve(listener, work, Some(limit.in_flight)).await,
            Self::RuleFixed => byname_rules::serve(listener, work, Box::new(Fixed(limit.in_flight))).await,
            Self::RuleAimd => {
                byname_rules::serve(listener, work, Box::new(InFlightByDelay::new(Step::Aimd, 20.0))).await
            }
            Self::RuleGradient2 => byname_rules::serve(listener, work, Box::new(Gradient2::new())).await,
            Self::RuleOldest => byname_rules::serve(listener, work, Box::new(OldestWaits::new(0))).await,
            Self::Tonic => tonic::serve(listener, work, limit).await,
            Self::Axum => axum::serve(listener, work, limit).await,
            Self::Tarpc => tarpc::serve(listener, work, limit.in_flight.div_ceil(limit.connections)).await,
        }
    }

    /// Connects.
    pub async fn caller(self, server: SocketAddr, connections: usize) -> Result<Arc<dyn Caller>> {
        Ok(match self {
            Self::BynameFrames | Self::BynameFixed => {
                Arc::new(byname::BynameCaller::connect(server, connections, byname::By::Frames).await?)
            }
            Self::BynameHttp => Arc::new(byname::BynameCaller::connect(server, connections, byname::By::Http).await?),
            Self::RuleFixed | Self::RuleAimd | Self::RuleGradient2 | Self::RuleOldest => {
                Arc::new(byname::BynameCaller::connect(server, connections, byname::By::FramesWithTime).await?)
            }
            Self::Tonic => Arc::new(tonic::TonicCaller::connect(server, connections).await?),
            Self::Axum => Arc::new(axum::HyperCaller::connect(server, connections).await?),
            Self::Tarpc => Arc::new(tarpc::TarpcCaller::connect(server, connections).await?),
        })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::function::Function;

    /// A server with a limit of one, and a caller with one connection.
    async fn start(peer: Peer) -> (JoinHandle<Result<()>>, Arc<dyn Caller>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap();
        let work = Arc::new(Work::new(Function::Wait, Duration::ZERO));
        let serving = tokio::spawn(peer.serve(
            listener,
            work,
            Limit { in_flight: 1, connections: 1, streams: None, cancelled_streams: None },
        ));
        (serving, peer.caller(server, 1).await.unwrap())
    }

    async fn at_once(caller: &Arc<dyn Caller>, count: u64) -> Vec<Result<u64, NoAnswer>> {
        join_all((0..count).map(|number| caller.call(number, Duration::from_secs(10)))).await
    }

    fn count(answers: &[Result<u64, NoAnswer>], wanted: &Result<u64, NoAnswer>) -> usize {
        answers.iter().filter(|answer| *answer == wanted).count()
    }

    #[tokio::test]
    async fn every_peer_answers() {
        for peer in Peer::value_variants() {
            let (serving, caller) = start(*peer).await;
            assert_eq!(at_once(&caller, 1).await, [Ok(0)], "{peer:?}");
            serving.abort();
        }
    }

    #[tokio::test]
    async fn peers_with_a_limit_refuse_what_is_beyond() {
        for peer in Peer::value_variants() {
            let (serving, caller) = start(*peer).await;
            let answers = at_once(&caller, 4).await;
            let answered = answers.iter().filter(|answer| answer.is_ok()).count();
            let expected = if peer.has_fixed_limit() { (1, 3) } else { (4, 0) };
            assert_eq!((answered, count(&answers, &Err(NoAnswer::Refused))), expected, "{peer:?}: {answers:?}");
            serving.abort();
        }
    }

    /// The client's refusals are known by their message.
    #[tokio::test]
    async fn what_the_client_of_byname_holds_back_is_told_from_what_the_server_refuses() {
        let (serving, caller) = start(Peer::BynameFixed).await;
        let answers = at_once(&caller, 50).await;
        assert_eq!(count(&answers, &Err(NoAnswer::Refused)), 49, "{answers:?}");
        let answers = at_once(&caller, 50).await;
        let [refused, held_back] = [NoAnswer::Refused, NoAnswer::HeldBack].map(|why| count(&answers, &Err(why)));
        let answered = answers.iter().filter(|answer| answer.is_ok()).count();
        assert!(held_back > 25 && answered + refused + held_back == 50, "{answers:?}");
        serving.abort();
    }
}
