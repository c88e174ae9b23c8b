//! A service to look at in the console, the page at the endpoint. `tests/console/run` uses each part of it.
//!
//! ```console
//! $ cargo run --example console_playground --features byname/schema -- 127.0.0.1:8080
//! ```
//!
//! Then open <http://127.0.0.1:8080/rpc>. Without an address it chooses a port and prints where it serves. With `--traffic` it
//! calls its own functions, so that there are figures to see. With `--hosts` and names after it, it is there for browsers under these
//! names.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use byname::{Args, Bytes, CallError, Client, Error, MethodError, Server, Streaming, rpc};
use futures_util::{Stream, StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// The client with which functions here call others, over the network.
static SELF: OnceLock<Client> = OnceLock::new();

#[derive(Serialize, Deserialize)]
struct Order {
    customer: Customer,
    lines: Vec<OrderLine>,
    delivery: Delivery,
    payment: Payment,
    note: Option<String>,
    labels: BTreeMap<String, String>,
    /// Longitude and latitude.
    place: Option<(f64, f64)>,
}

#[derive(Serialize, Deserialize)]
struct Customer {
    name: String,
    kind: CustomerKind,
    address: Option<Address>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum CustomerKind {
    Person,
    Company,
    Authority,
}

#[derive(Serialize, Deserialize)]
struct Address {
    street: String,
    city: String,
    #[serde(default)]
    country: String,
}

#[derive(Serialize, Deserialize)]
struct OrderLine {
    article: u64,
    count: u16,
    discount: Option<f32>,
}

/// Tagged by a member.
#[derive(Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
enum Delivery {
    Post { express: bool },
    PickUp { shop: u32 },
    Email,
}

/// Tagged by the name of the variant.
#[derive(Serialize, Deserialize)]
enum Payment {
    Invoice,
    Card { number: String, expires: (u8, u16) },
    Transfer(String),
}

/// Tagged beside the content.
#[derive(Serialize, Deserialize)]
#[serde(tag = "type", content = "value")]
enum Setting {
    Text(String),
    Number(i64),
    Switch { on: bool },
    Unset,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Key {
    Id(u64),
    Name(String),
}

#[derive(Serialize, Deserialize)]
struct Folder {
    name: String,
    folders: Vec<Folder>,
    parent_of: Option<Box<Folder>>,
}

#[derive(Serialize, Deserialize)]
struct Receipt {
    order: u64,
    total_cents: u64,
    paid: bool,
}

#[derive(Debug, Serialize, Deserialize, MethodError)]
enum OrderError {
    #[code(not_found)]
    NoSuchArticle {
        article: u64,
    },
    #[code(resource_exhausted)]
    SoldOut {
        article: u64,
        available: u16,
    },
    #[code(unavailable)]
    NotCharged {
        why: String,
    },
    Empty,
}

/// What a function that calls another fails with.
impl From<CallError<OrderError>> for OrderError {
    fn from(failed: CallError<OrderError>) -> Self {
        match failed {
            CallError::Method(own) => own,
            other => Self::NotCharged { why: other.to_string() },
        }
    }
}

impl fmt::Display for OrderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchArticle { article } => write!(f, "there is no article {article}"),
            Self::SoldOut { article, available } => write!(f, "article {article} is sold out, {available} are left"),
            Self::NotCharged { why } => write!(f, "nothing was charged: {why}"),
            Self::Empty => f.write_str("an order needs at least one line"),
        }
    }
}

/// Adds two integers.
#[rpc(readonly)]
async fn add(a: i64, #[rpc(default = 2)] b: i64) -> i64 {
    a.saturating_add(b)
}

/// Gives back what it gets, however large the numbers are.
///
/// - `whole` has up to 128 bits,
/// - `exact` is any JSON, of which **every digit** is kept.
#[rpc(name = "numbers.echo", readonly)]
async fn echo_numbers(id: u64, whole: i128, exact: Box<RawValue>) -> (u64, i128, Box<RawValue>) {
    (id, whole, exact)
}

/// Places an order, and gives it a number.
///
/// It reserves the articles and charges the customer, each by a call of its own.
#[rpc(name = "orders.place", keyed)]
async fn place_order(order: Order) -> Result<Receipt, OrderError> {
    let Some(first) = order.lines.first() else { return Err(OrderError::Empty) };
    if first.article == 0 {
        return Err(OrderError::NoSuchArticle { article: 0 });
    }
    let total = checkout(first.article, first.count).await?;
    Ok(Receipt {
        order: first.article * 1000 + 7,
        total_cents: total,
        paid: !matches!(order.payment, Payment::Invoice),
    })
}

/// What an order would cost. It calls `stock.reserve` and `payments.charge` over the network.
#[rpc(name = "orders.checkout", idempotent)]
async fn checkout(article: u64, count: u16) -> Result<u64, OrderError> {
    let client = SELF.get().expect("it is set before the service begins");
    let cents = reserve::on(client, article, count).await?;
    charge::on(client, cents).await.map_err(|why| OrderError::NotCharged { why: why.to_string() })?;
    // The receipt is written.
    tokio::time::sleep(Duration::from_millis(13)).await;
    Ok(cents)
}

/// Sets articles aside.
#[rpc(name = "stock.reserve", idempotent)]
async fn reserve(article: u64, count: u16) -> Result<u64, OrderError> {
    tokio::time::sleep(Duration::from_millis(14 + article % 5)).await;
    if count > 100 {
        return Err(OrderError::SoldOut { article, available: 100 });
    }
    Ok(u64::from(count) * (article % 1000))
}

/// Charges an amount.
#[rpc(name = "payments.charge")]
async fn charge(cents: u64) -> bool {
    tokio::time::sleep(Duration::from_millis(18 + cents % 7)).await;
    true
}

/// Finds one thing by its number or its name.
#[rpc(name = "orders.find", readonly)]
async fn find(key: Key, since: Option<String>, #[rpc(default = 20)] limit: u8) -> Result<Vec<Receipt>, OrderError> {
    let _ = since;
    match key {
        Key::Id(id) if id < 1_000_000 => Ok((0..u64::from(limit))
            .map(|at| Receipt { order: id + at, total_cents: at * 199, paid: at % 3 != 0 })
            .collect()),
        Key::Id(article) => Err(OrderError::NoSuchArticle { article }),
        Key::Name(_) => Err(OrderError::NoSuchArticle { article: 0 }),
    }
}

/// Changes a setting.
#[rpc(name = "settings.set")]
async fn set(name: String, setting: Setting) -> Setting {
    let _ = name;
    setting
}

/// Counts folders, the inner ones too.
#[rpc(name = "files.count", readonly)]
async fn count_folders(root: Folder) -> u64 {
    fn count(folder: &Folder) -> u64 {
        1 + folder.folders.iter().map(count).sum::<u64>() + folder.parent_of.as_deref().map_or(0, count)
    }
    count(&root)
}

/// The length of a file, and its first bytes.
#[rpc(name = "files.inspect", readonly)]
async fn inspect(content: Bytes) -> (usize, Bytes) {
    (content.len(), Bytes::from(content[..content.len().min(16)].to_vec()))
}

/// Takes a while. Cancel it: it is `readonly`, so it stops.
#[rpc(name = "slow.wait", readonly)]
async fn wait(#[rpc(default = 30_000)] ms: u32) -> u32 {
    tokio::time::sleep(Duration::from_millis(ms.into())).await;
    ms
}

/// Numbers from `from` down to 1, one each `pause_ms`.
#[rpc(name = "streams.countdown", readonly)]
fn countdown(from: u32, #[rpc(default = 200)] pause_ms: u32) -> impl Stream<Item = u32> {
    stream::iter((1..=from).rev()).then(move |number| async move {
        tokio::time::sleep(Duration::from_millis(pause_ms.into())).await;
        number
    })
}

/// Some items, and then an error.
#[rpc(name = "streams.breaks", readonly)]
fn breaks(after: u8) -> impl Stream<Item = Result<u8, OrderError>> {
    stream::iter((0..after).map(Ok).chain([Err(OrderError::Empty)]))
}

/// Adds what is sent, times `factor`.
#[rpc(name = "streams.sum")]
async fn sum(#[rpc(default = 1)] factor: i64, mut numbers: Streaming<i64>) -> Result<i64, Error> {
    let mut sum = 0i64;
    while let Some(number) = numbers.next().await {
        sum = sum.saturating_add(number?);
    }
    Ok(sum.saturating_mul(factor))
}

/// Gives back each item when it comes.
#[rpc(name = "streams.echo")]
fn echo(items: Streaming<Box<RawValue>>) -> impl Stream<Item = Result<Box<RawValue>, Error>> {
    items
}

static HITS: AtomicU64 = AtomicU64::new(0);

/// How often it was called. Each call of it changes something.
#[rpc(name = "counter.hit")]
async fn hit() -> u64 {
    HITS.fetch_add(1, Ordering::Relaxed) + 1
}

/// How often `counter.hit` was called.
#[rpc(name = "counter.hits", readonly)]
async fn hits() -> u64 {
    HITS.load(Ordering::Relaxed)
}

#[derive(Serialize, Deserialize)]
struct Hostile {
    #[serde(rename = "<script>alert('member')</script>")]
    member: String,
    #[serde(rename = "\u{1b}[31mred\u{202e}")]
    escape: Option<String>,
}

#[derive(Debug, Serialize, Deserialize, MethodError)]
enum HostileError {
    #[serde(rename = "<img src=x onerror=alert(1)>")]
    #[code(aborted)]
    Script(String),
}

impl fmt::Display for HostileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Script(text) = self;
        write!(f, "<script>document.title='owned'</script> \u{1b}]0;owned\u{7} {text}")
    }
}

/// <script>document.title = "owned"</script> <img src=x onerror="document.title='owned'">
///
/// Texts that want to be code: `<b>bold</b>`, [a link](javascript:alert(1)), &lt;escaped&gt;.
#[rpc(name = "hostile.texts")]
async fn hostile(text: String, given: Hostile) -> Result<Hostile, HostileError> {
    match &*text {
        "fail" => Err(HostileError::Script("</pre><script>alert(1)</script>".to_owned())),
        _ => Ok(given),
    }
}

/// Was replaced.
#[deprecated = "call `orders.place` in place of it, <script>alert(1)</script>"]
#[rpc(name = "orders.create")]
async fn create_order(article: u64) -> u64 {
    article
}

/// Calls some functions again and again.
async fn traffic(client: Client) {
    let mut ticks = tokio::time::interval(Duration::from_millis(40));
    for round in 0u64.. {
        ticks.tick().await;
        let client = client.clone();
        tokio::spawn(async move {
            let _ = client.call::<i64>("add", (round as i64, 1)).await;
            if round % 2 == 0 {
                let _ = client.call::<u64>("orders.checkout", (round + 1, if round % 34 == 0 { 200 } else { 3 })).await;
            }
            if round % 5 == 0 {
                let key = if round % 15 == 0 { 1_000_000 } else { round };
                let _ = client.call::<Value>("orders.find", Args::new().kwarg("key", key).kwarg("limit", 5)).await;
            }
            if round % 50 == 0 {
                let _ = client.call::<Value>("slow.wait", (400,)).await;
            }
        });
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| options.iter().any(|option| option == name);
    let address = options
        .iter()
        .take_while(|option| *option != "--hosts")
        .find(|option| !option.starts_with("--"))
        .map_or("127.0.0.1:0", String::as_str);
    #[allow(deprecated, reason = "the page shows it")]
    let server = Server::new().method::<create_order>();
    let server = server
        .method::<add>()
        .method::<echo_numbers>()
        .method::<place_order>()
        .method::<checkout>()
        .method::<find>()
        .method::<reserve>()
        .method::<charge>()
        .method::<set>()
        .method::<count_folders>()
        .method::<inspect>()
        .method::<wait>()
        .method::<countdown>()
        .method::<breaks>()
        .method::<sum>()
        .method::<echo>()
        .method::<hit>()
        .method::<hits>()
        .method::<hostile>()
        .frames(!has("--no-frames"))
        .path(!has("--no-paths"));
    let names: Vec<_> = options.iter().skip_while(|option| *option != "--hosts").skip(1).cloned().collect();
    let server = if names.is_empty() { server } else { server.hosts(names).console(true) };
    let bound = server.serve(address).bind().await?;
    let at = bound.local_addr();
    let client = Client::new(format!("{at}/rpc"))?;
    let _ = SELF.set(client.clone());
    println!("{at}");
    if has("--traffic") {
        tokio::spawn(traffic(client));
    }
    Ok(bound.await?)
}
