//! byname serves what `tests/interop/original_server.py` serves with Tornado, and more for other clients, and prints
//! where: `interop_server [ORIGIN…]`, whose pages may call.

mod streams;

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use byname::{Context, rpc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[rpc(readonly)]
async fn add(a: i64, b: i64) -> i64 {
    a + b
}

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

/// What the caller said in a header, in the reply and in a header of it.
#[rpc(readonly)]
async fn said(filling: Option<String>) -> Result<Option<String>, byname::Error> {
    let call = Context::current();
    let said = call.as_ref().and_then(|call| call.header("x-said"));
    if let (Some(call), Some(said)) = (&call, said) {
        call.reply_header("x-heard", said)?;
    }
    drop(filling);
    Ok(said.map(str::to_owned))
}

/// How many calls of `wait` there are now.
static WAITING: AtomicUsize = AtomicUsize::new(0);

struct Waiting;

impl Drop for Waiting {
    fn drop(&mut self) {
        WAITING.fetch_sub(1, Ordering::Relaxed);
    }
}

#[rpc(readonly)]
async fn wait(ms: u64) {
    WAITING.fetch_add(1, Ordering::Relaxed);
    let _waiting = Waiting;
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

#[rpc(readonly)]
async fn waiting() -> usize {
    WAITING.load(Ordering::Relaxed)
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

#[tokio::main]
async fn main() -> Result<(), byname::Error> {
    let server = byname::server!().inject(Counter::default()).origins(std::env::args().skip(1));
    let bound = server.serve("127.0.0.1:0").bind().await?;
    println!("{}", bound.local_addr());
    bound.await
}
