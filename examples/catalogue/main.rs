//! A service with many kinds of types, whose documents other programs read: OpenAPI and OpenRPC. `tests/documents/run` checks them.
//!
//! It needs the feature `schema` of byname. Without it every schema is `true`.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU8;

use byname::{Error, MethodError, Server, Streaming, rpc};
use futures_util::{Stream, stream};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Article {
    id: u32,
    #[serde(alias = "title")]
    name: String,
    price: Price,
    #[serde(default)]
    tags: Vec<String>,
    size: Option<(u16, u16, u16)>,
    stock: BTreeMap<String, u64>,
    parts: Vec<Article>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Price {
    Fixed { cents: u32 },
    Graduated { steps: Vec<Step> },
    OnRequest,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    from: NonZeroU8,
    cents: u32,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Order {
    ByName,
    ByPrice,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Key {
    Id(u32),
    Name(String),
}

#[derive(Debug, Serialize, Deserialize, MethodError)]
enum CatalogueError {
    #[code(not_found)]
    Unknown {
        name: String,
    },
    Closed,
}

impl fmt::Display for CatalogueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { name } => write!(f, "there is no article {name:?}"),
            Self::Closed => f.write_str("the catalogue is closed"),
        }
    }
}

fn article(id: u32, name: String) -> Article {
    let price = Price::Graduated { steps: vec![Step { from: NonZeroU8::MIN, cents: id }] };
    Article { id, name, price, tags: Vec::new(), size: None, stock: BTreeMap::new(), parts: Vec::new() }
}

/// Articles whose names begin so.
///
/// There are never more than `limit`.
#[rpc(name = "articles.search", readonly)]
async fn search(word: String, #[rpc(default = 10)] limit: u8, order: Option<Order>) -> Vec<Article> {
    let _ = order;
    (0..limit.min(3)).map(|id| article(id.into(), word.clone())).collect()
}

/// One article.
#[rpc(name = "articles.get", readonly)]
async fn get(key: Key) -> Result<Article, CatalogueError> {
    match key {
        Key::Id(id) => Ok(article(id, format!("number {id}"))),
        Key::Name(name) => Err(CatalogueError::Unknown { name }),
    }
}

/// Puts an article into the catalogue. The result is how many parts it has.
#[rpc(name = "articles.put", idempotent)]
async fn put(article: Article) -> u64 {
    article.parts.len() as u64
}

/// Sells one. It needs a key.
#[rpc(name = "articles.sell", keyed)]
async fn sell(id: u32, count: NonZeroU8) -> Result<u32, CatalogueError> {
    id.checked_mul(count.get().into()).ok_or(CatalogueError::Closed)
}

/// The names, as they come.
#[rpc(name = "articles.names", readonly)]
fn names(limit: u8) -> impl Stream<Item = String> {
    stream::iter((0..limit).map(|id| format!("number {id}")))
}

/// Adds what comes.
#[rpc]
async fn sum(mut numbers: Streaming<i32>) -> Result<i64, Error> {
    let mut sum = 0;
    while let Some(number) = numbers.next().await {
        sum += i64::from(number?);
    }
    Ok(sum)
}

/// Says nothing.
#[deprecated = "say nothing yourself"]
#[rpc]
async fn nothing() {}

#[tokio::main]
async fn main() -> Result<(), Error> {
    #[allow(deprecated, reason = "documents show it")]
    let server = Server::new().method::<nothing>();
    let server =
        server.method::<search>().method::<get>().method::<put>().method::<sell>().method::<names>().method::<sum>();
    let bound = server.serve("127.0.0.1:0").bind().await?;
    println!("{}", bound.local_addr());
    bound.await
}
