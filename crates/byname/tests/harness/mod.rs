//! What tests share: a service with something of everything, and the ways to reach it.
#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test uses a part")]

mod caller;
mod connection_balancer;
pub mod foreign;
pub mod frames;
mod log;
mod mounted;
pub mod peer;
mod process;
mod tap;
#[cfg(feature = "tls")]
pub mod tls;
pub mod unix;

pub use caller::{Caller, Raw, get, post, post_with, raw, verb, within};
pub use connection_balancer::ConnectionBalancer;
pub use log::{Log, Span};
#[cfg(feature = "tls")]
pub use mounted::TlsMounted;
pub use mounted::{Mounted, UnixMounted};
pub use process::Process;
pub use tap::Tap;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use byname::{
    Address, Client, Code, Context, Error, Listen, MethodError, Server, ServerHandle, ServerStats, Transport, rpc,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Adds two integers.
#[rpc(readonly)]
pub async fn add(a: i64, b: i64) -> i64 {
    a + b
}

#[rpc(readonly)]
pub fn greet(name: &str, #[rpc(default = "hello".to_owned())] greeting: String, mark: Option<char>) -> String {
    format!("{greeting} {name}{}", mark.map(String::from).unwrap_or_default())
}

#[rpc(readonly, alias = "same")]
pub async fn echo(value: Value) -> Value {
    value
}

#[rpc]
pub async fn nothing() {}

#[rpc]
pub async fn edges(i: i64, u: u64) -> (i64, u64) {
    (i, u)
}

#[rpc]
pub async fn ratio(a: f64, b: f64) -> f64 {
    a / b
}

#[rpc(blocking)]
pub fn total(numbers: &[i64]) -> i64 {
    numbers.iter().sum()
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum BankError {
    NoSuchAccount,
    Overdrawn { by: u64 },
}

impl MethodError for BankError {
    fn code(&self) -> Code {
        match self {
            BankError::NoSuchAccount => Code::NotFound,
            BankError::Overdrawn { .. } => Code::FailedPrecondition,
        }
    }
}

#[rpc]
pub async fn withdraw(account: String, amount: u64) -> Result<u64, BankError> {
    match account.as_str() {
        "ada" if amount <= 100 => Ok(100 - amount),
        "ada" => Err(BankError::Overdrawn { by: amount - 100 }),
        _ => Err(BankError::NoSuchAccount),
    }
}

#[rpc]
pub async fn ours() -> Result<(), Error> {
    Err(Error::new(Code::AlreadyExists, "it is there").with_data("here"))
}

#[rpc]
pub async fn panics(why: String) -> u8 {
    panic!("{why}")
}

#[rpc(readonly)]
pub async fn whoami() -> BTreeMap<String, Option<String>> {
    let context = Context::current();
    let header = |name: &str| context.as_ref().and_then(|context| context.header(name)).map(str::to_owned);
    if let Some(context) = &context {
        context.reply_header("x-served", context.method()).unwrap();
    }
    ["x-user", "traceparent"].iter().map(|name| (name.to_string(), header(name))).collect()
}

#[rpc(readonly, name = "type")]
pub async fn r#type(r#fn: u8) -> u8 {
    r#fn
}

#[derive(Default)]
pub struct Counter {
    total: AtomicI64,
}

#[rpc]
impl Counter {
    /// Adds to the counter.
    pub async fn bump(&self, #[rpc(default = 1)] by: i64) -> i64 {
        self.total.fetch_add(by, Ordering::Relaxed) + by
    }

    #[rpc(readonly)]
    pub fn total(&self) -> i64 {
        self.total.load(Ordering::Relaxed)
    }
}

/// Functions that start and end when a test says so.
#[derive(Default)]
pub struct Gate {
    started: Mutex<Option<oneshot::Sender<()>>>,
    release: Mutex<Option<oneshot::Receiver<()>>>,
    ended: Mutex<Option<oneshot::Sender<bool>>>,
}

/// The test's ends of a [`Gate`].
pub struct Handle {
    pub started: oneshot::Receiver<()>,
    pub release: oneshot::Sender<()>,
    /// Whether the function was told that its caller is gone.
    pub ended: oneshot::Receiver<bool>,
}

impl Gate {
    pub fn new() -> (Self, Handle) {
        let (started_in, started) = oneshot::channel();
        let (release, release_in) = oneshot::channel();
        let (ended_in, ended) = oneshot::channel();
        let gate = Self {
            started: Mutex::new(Some(started_in)),
            release: Mutex::new(Some(release_in)),
            ended: Mutex::new(Some(ended_in)),
        };
        (gate, Handle { started, release, ended })
    }
}

#[rpc]
impl Gate {
    /// Waits until it is released. A second call returns at once.
    pub async fn pass(&self) -> bool {
        let take = |()| (self.started.lock().unwrap().take(), self.release.lock().unwrap().take());
        let (Some(started), Some(release)) = take(()) else {
            return false;
        };
        let _ = started.send(());
        let _ = release.await;
        let told = Context::current().unwrap().cancellation().is_cancelled();
        if let Some(ended) = self.ended.lock().unwrap().take() {
            let _ = ended.send(told);
        }
        true
    }
}

/// Serves all of the above, by every way in.
pub fn everything() -> Server {
    Server::new()
        .method::<add>()
        .method::<greet>()
        .method::<echo>()
        .method::<nothing>()
        .method::<edges>()
        .method::<ratio>()
        .method::<total>()
        .method::<withdraw>()
        .method::<ours>()
        .method::<panics>()
        .method::<whoami>()
        .method::<r#type>()
        .inject_as("counter", Counter::default())
        .inject_as("left", Counter::default())
        .function("shout", |text: String| async move { text.to_uppercase() })
        .function("sneaky", |fail: bool| async move { if fail { Err("no") } else { Ok(1) } })
}

/// The message of an error without what a comparison of its stub with the service has found. The feature `schema` adds it, and only to
/// calls over a network.
pub fn without_comparison(error: &Error) -> String {
    match (error.message().split_once("; the service differs from what this client was built for: "), error.code()) {
        (None, _) => error.message().to_owned(),
        (Some((message, _)), Code::Internal) => format!("{message}; do both sides agree on the signature?"),
        (Some((message, _)), _) => message.to_owned(),
    }
}

/// A server that runs, over whatever.
pub trait Served {
    fn address(&self) -> Address;
}

impl Served for Running {
    fn address(&self) -> Address {
        self.address.into()
    }
}

/// A server that runs over TCP until it is dropped or stopped.
pub struct Running {
    pub address: SocketAddr,
    handle: ServerHandle,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), Error>>,
}

impl Running {
    pub async fn new(server: Server) -> Self {
        Self::at(server, "127.0.0.1:0").await
    }

    pub async fn at(server: Server, at: impl Into<Listen>) -> Self {
        log::begin();
        let (stop, stopped) = oneshot::channel();
        let until = async {
            let _ = stopped.await;
        };
        let bound = server.serve(at).until(until).bind().await.unwrap();
        let address = bound.local_addr().socket_addr().expect("a server over TCP");
        let handle = bound.handle();
        Self { address, handle, stop: Some(stop), task: tokio::spawn(bound.into_future()) }
    }

    /// What it has counted.
    pub fn stats(&self) -> ServerStats {
        self.handle.stats()
    }

    /// A client that stays with HTTP, whatever the server offers: when calls go over to frames is not for tests to know.
    pub fn client(&self) -> Client {
        self.client_by(Transport::Http)
    }

    pub fn client_by(&self, transport: Transport) -> Client {
        Client::builder(format!("{}/rpc", self.address)).transport(transport).build().unwrap()
    }

    /// Tells it to stop.
    pub fn stop(&mut self) {
        drop(self.stop.take());
    }

    /// Whether the server has ended.
    pub fn has_stopped(&self) -> bool {
        self.task.is_finished()
    }

    /// Its result, once it has stopped.
    pub async fn stopped(mut self) -> Result<(), Error> {
        self.stop();
        self.task.await.unwrap()
    }
}
