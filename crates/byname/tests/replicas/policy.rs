//! `Client::policy`: each setting, which of several policies counts, and what is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::harness::{Running, within};
use byname::{Client, Code, Context, Error, Server, rpc};
use tokio::time::Instant;

#[rpc(readonly)]
async fn fails() -> Result<u32, Error>;

/// The milliseconds until the deadline of its call.
#[rpc]
async fn left() -> u64 {
    let deadline = Context::current().unwrap().deadline();
    deadline.saturating_duration_since(Instant::now()).as_millis() as u64
}

#[rpc(timeout = "700ms")]
async fn declared_left() -> u64 {
    left().await
}

/// How often `fails` was called by a client with this policy.
async fn calls(change: impl FnOnce(&Client) -> Client) -> usize {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let function = move || {
        counted.fetch_add(1, Ordering::SeqCst);
        async { Err::<u32, _>(Error::new(Code::Unavailable, "down")) }
    };
    let server = Running::new(Server::new().function("fails", function)).await;
    let error = Error::from(within(fails::on(&change(&server.client()))).await.unwrap_err());
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    count.load(Ordering::SeqCst)
}

fn local() -> Client {
    Client::local(&Server::new().method::<left>().method::<declared_left>().inject_as("shop.left", Shop)).unwrap()
}

struct Shop;

#[rpc]
impl Shop {
    async fn left(&self) -> u64 {
        left().await
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[tokio::test]
async fn a_policy_says_how_often_a_call_is_sent() {
    assert_eq!(calls(Client::clone).await, 3);
    assert_eq!(calls(|client| client.policy("*", |p| p.attempts = 2)).await, 2);
    assert_eq!(calls(|client| client.policy("fails", |p| p.attempts = 1)).await, 1);
    let often = |client: &Client| {
        client.policy("fails", |p| {
            p.attempts = 6;
            p.first_delay = Duration::ZERO;
        })
    };
    assert_eq!(calls(often).await, 6);
    assert_eq!(calls(|client| client.policy("other", |p| p.attempts = 1)).await, 3);
    assert_eq!(
        calls(|client| client.intercept(|request, next| next.run(request)).policy("*", |p| p.attempts = 2)).await,
        2
    );
}

#[tokio::test(start_paused = true)]
async fn a_policy_says_how_long_a_call_may_take() {
    let client = local();
    assert_eq!(left::on(&client).await, Ok(30_000), "`Limits::call`");
    assert_eq!(declared_left::on(&client).await, Ok(700), "`#[rpc(timeout)]`");
    let client = client.policy("*", |p| p.timeout = ms(500));
    assert_eq!(left::on(&client).await, Ok(500));
    assert_eq!(declared_left::on(&client).await, Ok(500), "a policy goes before `#[rpc]`");
    assert_eq!(left::on(&client).timeout(ms(900)).await, Ok(900), "an option of the call goes before a policy");
    assert_eq!(client.call::<u64>("left", ()).await, Ok(500), "calls by name have it too");
}

#[tokio::test(start_paused = true)]
async fn the_most_specific_pattern_counts_and_among_equal_ones_the_last() {
    let client = local().policy("left", |p| p.timeout = ms(1)).policy("*", |p| p.timeout = ms(2));
    assert_eq!((left::on(&client).await, declared_left::on(&client).await), (Ok(1), Ok(2)));
    let again = client.policy("left", |p| p.timeout = ms(3));
    assert_eq!((left::on(&again).await, left::on(&client).await), (Ok(3), Ok(1)), "clients are as they were");
    let more = client.policy("left", |p| p.timeout *= 4);
    assert_eq!(left::on(&more).await, Ok(4), "a policy changes what others have set");
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_handle_counts_as_a_policy_for_all_names() {
    let client = local().timeout(ms(1)).policy("*", |p| p.timeout = ms(2)).policy("left", |p| p.timeout = ms(3));
    assert_eq!((left::on(&client).await, declared_left::on(&client).await), (Ok(3), Ok(2)));
    let client = client.timeout(ms(4));
    assert_eq!((left::on(&client).await, declared_left::on(&client).await), (Ok(3), Ok(4)));
    let first = local().policy("declared_left", |p| p.attempts = 1).timeout(ms(5));
    assert_eq!((left::on(&first).await, declared_left::on(&first).await), (Ok(5), Ok(5)));
}

#[tokio::test(start_paused = true)]
async fn a_pattern_is_of_whole_names() {
    let client = local().policy("shop.*", |p| p.timeout = ms(1)).policy("left", |p| p.timeout = ms(2));
    assert_eq!(Shop::on(&client.prefix("shop.left")).left().await, Ok(1));
    assert_eq!(left::on(&client).await, Ok(2));
}

#[tokio::test]
async fn what_cannot_be_a_policy_fails_the_calls() {
    let client = local();
    for (wrong, expected) in [
        (client.policy("shop*", |p| p.attempts = 1), "`shop*` is not a pattern"),
        (client.policy("*", |p| p.attempts = 0), "has 0 attempts"),
        (client.policy("left", |p| p.timeout = Duration::ZERO), "a time-out of zero"),
    ] {
        let error = left::on(&wrong.prefix("shop")).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.message().contains(expected), "{error}");
    }
}
