//! Functions that stream. Where one waits, or is watched, a caller does it by a name of its own: `of`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use byname::{Context, Error, Streaming, rpc};
use futures_util::{Stream, StreamExt, stream};
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::Failure;

#[rpc(readonly)]
fn countdown(from: u32) -> impl Stream<Item = u32> {
    stream::iter((1..=from).rev())
}

/// Fails behind so many items.
#[rpc(readonly)]
fn breaks_off(after: u32) -> impl Stream<Item = Result<u32, Failure>> {
    let failure = Failure { asked: "it was asked to fail".to_owned() };
    stream::iter(1..=after).map(Ok).chain(stream::iter([Err(failure)]))
}

#[rpc]
async fn sum(#[rpc(default = 1)] factor: i64, mut numbers: Streaming<i64>) -> Result<i64, Error> {
    let mut sum = 0;
    while let Some(number) = numbers.next().await {
        sum += number? * factor;
    }
    Ok(sum)
}

#[rpc]
fn echoes(values: Streaming<Value>) -> impl Stream<Item = Result<Value, Error>> {
    values
}

/// As many items as asked for, and in a header what the caller said in one.
#[rpc(readonly)]
fn said_by_stream(items: u32) -> impl Stream<Item = Result<u32, Error>> {
    let call = Context::current();
    let said = call.as_ref().and_then(|call| call.header("x-said")).map(str::to_owned);
    let heard = call.zip(said).map_or(Ok(()), |(call, said)| call.reply_header("x-heard", &said));
    stream::iter(1..=items).map(move |item| heard.clone().map(|()| item))
}

/// What is known by a caller's own name for it.
struct Watched {
    ticks: Semaphore,
    /// How many streams there are now.
    streams: AtomicUsize,
    /// How many items were made or taken.
    items: AtomicUsize,
}

static WATCHED: Mutex<BTreeMap<String, Arc<Watched>>> = Mutex::new(BTreeMap::new());

fn watched(of: String) -> Arc<Watched> {
    let new = || Watched { ticks: Semaphore::new(0), streams: AtomicUsize::new(0), items: AtomicUsize::new(0) };
    let mut all = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(all.entry(of).or_insert_with(|| Arc::new(new())))
}

/// A stream that is there until it is dropped.
struct Streamed(Arc<Watched>);

impl Streamed {
    fn begin(of: String) -> Self {
        let watched = watched(of);
        watched.streams.fetch_add(1, Ordering::Relaxed);
        Self(watched)
    }

    async fn tick(&self) {
        if let Ok(tick) = self.0.ticks.acquire().await {
            tick.forget();
        }
    }

    fn count(&self) -> usize {
        self.0.items.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

#[rpc]
async fn tick(of: String) {
    watched(of).ticks.add_permits(1);
}

/// How many streams there are now.
#[rpc(readonly)]
async fn streams(of: String) -> usize {
    watched(of).streams.load(Ordering::Relaxed)
}

/// How many items were made or taken.
#[rpc(readonly)]
async fn items(of: String) -> usize {
    watched(of).items.load(Ordering::Relaxed)
}

/// Counts the ticks.
#[rpc(readonly)]
fn ticks(of: String) -> impl Stream<Item = usize> {
    stream::unfold(Streamed::begin(of), async |streamed| {
        streamed.tick().await;
        Some((streamed.count(), streamed))
    })
}

/// Texts of that length, as fast as they are taken.
#[rpc(readonly)]
fn endless(of: String, length: usize) -> impl Stream<Item = String> {
    let streamed = Streamed::begin(of);
    let text = "x".repeat(length);
    stream::repeat_with(move || {
        streamed.count();
        text.clone()
    })
}

/// Takes an item at each tick, and says how many there were.
#[rpc]
async fn sips(of: String, mut values: Streaming<Value>) -> Result<usize, Error> {
    let streamed = Streamed::begin(of);
    let mut taken = 0;
    loop {
        streamed.tick().await;
        match values.next().await {
            Some(value) => drop(value?),
            None => return Ok(taken),
        }
        taken = streamed.count();
    }
}

/// Takes one item and no more, and returns it after a tick.
#[rpc]
async fn first(of: String, mut values: Streaming<Value>) -> Result<Option<Value>, Error> {
    let streamed = Streamed::begin(of);
    let first = values.next().await.transpose()?;
    drop(values);
    streamed.tick().await;
    Ok(first)
}
