//! byname serves what `tests/interop/original_server.py` serves with Tornado, and prints where.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use byname::{Context, rpc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[rpc(readonly)]
async fn greet(name: &str, #[rpc(default = "hello")] greeting: &str) -> String {
    format!("{greeting}, {name}")
}

#[rpc(readonly)]
async fn echo(value: Value) -> Value {
    value
}

#[rpc(readonly)]
async fn signed(value: i64) -> i64 {
    value
}

#[rpc(readonly)]
async fn unsigned(value: u64) -> u64 {
    value
}

#[rpc(readonly)]
async fn power_of_two(exponent: u32) -> Option<u64> {
    2u64.checked_pow(exponent)
}

#[rpc(readonly)]
async fn twice(größe: i64) -> i64 {
    2 * größe
}

#[rpc]
async fn nothing() {}

#[rpc]
async fn not_a_number() -> f64 {
    f64::NAN
}

#[derive(Debug, Serialize, Deserialize)]
struct Failure {
    asked: String,
}

#[rpc]
async fn fail() -> Result<(), Failure> {
    Err(Failure { asked: "it was asked to fail".to_owned() })
}

#[rpc]
async fn slow(ms: u64) -> u64 {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    ms
}

#[derive(Default)]
struct Counter {
    total: AtomicI64,
}

#[rpc]
impl Counter {
    async fn bump(&self, #[rpc(default = 1)] by: i64) -> i64 {
        self.total.fetch_add(by, Ordering::Relaxed) + by
    }
}

/// Knows each connection by its caller's port.
#[derive(Default)]
struct Callers {
    seen: Mutex<HashSet<SocketAddr>>,
}

#[rpc]
impl Callers {
    #[rpc(readonly)]
    async fn add(&self, a: i64, b: i64) -> i64 {
        self.note();
        a + b
    }

    /// How many connections brought a call of these two so far.
    #[rpc(readonly)]
    async fn connections(&self) -> usize {
        self.note();
        self.seen.lock().unwrap().len()
    }
}

impl Callers {
    fn note(&self) {
        let peer = Context::current().and_then(|call| call.peer());
        self.seen.lock().unwrap().extend(peer);
    }
}

#[tokio::main]
async fn main() -> Result<(), byname::Error> {
    let server = byname::server!().inject(Counter::default()).inject(Callers::default());
    let bound = server.serve("127.0.0.1:0").bind().await?;
    println!("{}", bound.local_addr());
    bound.await
}
