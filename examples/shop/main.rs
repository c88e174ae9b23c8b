//! A shop and the stock that it asks, to be watched: `byname top` shows them, and `tests/metrics/run` has Prometheus scrape them.
//!
//! `shop stock` serves a replica of the stock. `shop URL` serves a shop that asks the stock at this URL. Each prints its address.

use std::future::pending;
use std::process::ExitCode;

use byname::{Client, Code, Context, Error, MethodError, Server, Streaming, rpc};
use futures_util::{Stream, stream};
use serde::{Deserialize, Serialize};

/// The most calls of the shop that are in flight.
const IN_FLIGHT: usize = 64;

/// How many pieces of an article there are.
///
/// The first attempt to learn it of article 1 fails, and that of article 2 has no answer.
#[rpc(name = "stock.level", readonly, hedge)]
async fn level(article: u32) -> Result<u32, Error> {
    let attempt = Context::current().map_or(1, |context| context.attempt());
    match (article, attempt) {
        (1, 1) => Err(Error::new(Code::Unavailable, "the shelf is being moved; ask again")),
        (2, 1) => pending().await,
        _ => Ok(article % 7),
    }
}

struct Shop {
    stock: Client,
}

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    article: u32,
    pieces: u32,
}

#[derive(Debug, Serialize, Deserialize, MethodError)]
enum OrderError {
    #[code(not_found)]
    NoSuchArticle(u32),
    #[code(failed_precondition)]
    TooFew { left: u32 },
}

impl std::fmt::Display for OrderError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoSuchArticle(article) => write!(f, "there is no article {article}"),
            Self::TooFew { left } => write!(f, "there are only {left} pieces left"),
        }
    }
}

#[rpc(prefix = "orders")]
impl Shop {
    /// How many pieces can be ordered.
    #[rpc(readonly)]
    async fn available(&self, article: u32) -> Result<u32, Error> {
        Ok(level::on(&self.stock, article).await?)
    }

    /// Takes an order. There are no articles from 900 on.
    #[rpc(idempotent)]
    async fn place(&self, order: Order) -> Result<u32, OrderError> {
        match order {
            Order { article: article @ 900.., .. } => Err(OrderError::NoSuchArticle(article)),
            Order { article, pieces } if pieces > article % 7 => Err(OrderError::TooFew { left: article % 7 }),
            Order { article, .. } => Ok(article),
        }
    }

    /// The orders, as they come.
    #[rpc(readonly)]
    fn export(&self, count: u32) -> impl Stream<Item = Order> {
        stream::iter((0..count).map(|article| Order { article, pieces: 1 }))
    }

    /// Takes many orders. The result is how many pieces they have.
    async fn import(&self, mut orders: Streaming<Order>) -> Result<u32, Error> {
        let mut pieces = 0;
        while let Some(order) = orders.next().await {
            pieces += order?.pieces;
        }
        Ok(pieces)
    }

    /// Waits for an order that never comes.
    #[rpc(readonly)]
    async fn follow(&self) -> Order {
        pending().await
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let served = match std::env::args().nth(1).as_deref() {
        Some("stock") => serve(Server::new().method::<level>()).await,
        Some(url) => match Client::new(url) {
            Ok(stock) => {
                serve(Server::new().inject(Shop { stock }).limits(|limits| limits.in_flight = IN_FLIGHT)).await
            }
            Err(error) => Err(error),
        },
        None => Err(Error::new(Code::InvalidArgument, "usage: shop stock | shop URL-OF-THE-STOCK")),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shop: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(server: Server) -> Result<(), Error> {
    let bound = server.serve("127.0.0.1:0").bind().await?;
    println!("{}", bound.local_addr());
    bound.await
}
