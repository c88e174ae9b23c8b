//! One client and several servers behind one address, where a balancer of connections chooses the server of each.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::harness::{ConnectionBalancer, Running, within};
use byname::{Client, Context, Server, Transport};
use tokio::task::{JoinSet, yield_now};

/// A server whose function `who` says its name, and whether the call came by frames.
async fn server(name: &'static str) -> Running {
    let who = move || async move { (name, Context::current().unwrap().header("host").is_none()) };
    Running::new(Server::new().function("who", who)).await
}

async fn who(client: &Client) -> String {
    within(client.call::<(String, bool)>("who", ())).await.unwrap().0
}

/// Makes this number of calls, one after the other. Returns how many of them each server got.
async fn calls(client: &Client, count: usize) -> BTreeMap<String, usize> {
    let mut calls = BTreeMap::new();
    for _ in 0..count {
        *calls.entry(who(client).await).or_default() += 1;
    }
    calls
}

/// Calls until these servers have answered by frames.
async fn has_found(client: &Client, names: &[&str]) {
    let mut missing = names.to_vec();
    within(async {
        while !missing.is_empty() {
            let (name, is_by_frames) = client.call::<(String, bool)>("who", ()).await.unwrap();
            missing.retain(|missing| !is_by_frames || **missing != *name);
        }
    })
    .await;
}

#[tokio::test]
async fn two_servers_share_the_calls_of_a_client_from_the_first_one() {
    let (one, two) = (server("one").await, server("two").await);
    let balancer = ConnectionBalancer::of([one.address, two.address]).await;
    let calls = calls(&balancer.client(Transport::Frames), 400).await;
    assert!(calls.len() == 2 && calls.values().all(|calls| *calls <= 240), "{calls:?}");
}

#[tokio::test]
async fn a_server_that_ends_is_replaced_by_another_behind_the_same_address_and_no_call_fails() {
    let (one, two, three) = (server("one").await, server("two").await, server("three").await);
    let balancer = ConnectionBalancer::of([one.address, two.address]).await;
    let client = balancer.client(Transport::Frames);
    has_found(&client, &["one", "two"]).await;
    balancer.servers_are([two.address, three.address]);
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        let client = client.clone();
        callers.spawn(async move { has_found(&client, &["three"]).await });
    }
    one.stopped().await.unwrap();
    within(callers.join_all()).await;
    assert!(!calls(&client, 100).await.contains_key("one"));
}

#[tokio::test]
async fn a_server_that_is_alone_has_one_connection_after_a_few_tries() {
    let one = server("one").await;
    let balancer = ConnectionBalancer::of([one.address]).await;
    let client = balancer.client(Transport::Frames);
    has_found(&client, &["one"]).await;
    // The tries end within a second or so of calls: one for HTTP, one that is kept, and five.
    within(async {
        while balancer.opened() < 7 || balancer.open() > 1 {
            who(&client).await;
            yield_now().await;
        }
    })
    .await;
    calls(&client, 1000).await;
    assert_eq!((balancer.opened(), balancer.open()), (7, 1));
}

#[tokio::test]
async fn an_old_connection_is_replaced_and_no_call_fails() {
    let (one, two) = (server("one").await, server("two").await);
    let balancer = ConnectionBalancer::of([one.address]).await;
    let client = Client::builder(format!("{}/rpc", balancer.address));
    let client = client.limits(|limits| limits.connection_age = Duration::from_millis(50)).build().unwrap();
    has_found(&client, &["one"]).await;
    // The first server goes on. Only new connections reach the second.
    balancer.servers_are([two.address]);
    has_found(&client, &["two"]).await;
}

#[tokio::test]
async fn over_http_calls_at_once_use_all_servers() {
    let (one, two) = (server("one").await, server("two").await);
    let balancer = ConnectionBalancer::of([one.address, two.address]).await;
    let client = balancer.client(Transport::Http);
    let mut callers = JoinSet::new();
    for _ in 0..20 {
        let client = client.clone();
        callers.spawn(async move { calls(&client, 20).await });
    }
    let mut all = BTreeMap::<String, usize>::new();
    for (name, calls) in within(callers.join_all()).await.into_iter().flatten() {
        *all.entry(name).or_default() += calls;
    }
    assert_eq!(all.len(), 2, "{all:?}");
}

#[tokio::test]
async fn over_http_calls_one_after_the_other_are_shared_by_two_servers() {
    let (one, two) = (server("one").await, server("two").await);
    let balancer = ConnectionBalancer::of([one.address, two.address]).await;
    let client = balancer.client(Transport::Http);
    let calls = calls(&client, 400).await;
    assert!(calls.len() == 2 && calls.values().all(|calls| *calls <= 240), "{calls:?}");
}

#[tokio::test]
async fn over_http_a_server_that_ends_is_replaced_by_another_behind_the_same_address() {
    let (one, two, three) = (server("one").await, server("two").await, server("three").await);
    let balancer = ConnectionBalancer::of([one.address, two.address]).await;
    let client = balancer.client(Transport::Http);
    within(async { while calls(&client, 20).await.len() < 2 {} }).await;
    balancer.servers_are([two.address, three.address]);
    one.stopped().await.unwrap();
    within(async { while !calls(&client, 20).await.contains_key("three") {} }).await;
    within(async { while calls(&client, 20).await.len() < 2 {} }).await;
}

#[tokio::test]
async fn over_http_a_server_that_is_alone_gets_few_connections() {
    let one = server("one").await;
    let balancer = ConnectionBalancer::of([one.address]).await;
    let client = balancer.client(Transport::Http);
    calls(&client, 16).await;
    assert_eq!(balancer.opened(), 1);
    calls(&client, 2000).await;
    // One more after 16, 80, 336 and 1,360 calls.
    within(async {
        while balancer.opened() < 5 {
            yield_now().await;
        }
    })
    .await;
    calls(&client, 100).await;
    assert_eq!(balancer.opened(), 5);
}

#[tokio::test]
async fn over_http_a_connection_is_closed_after_the_call_in_which_it_is_too_old() {
    let (one, two) = (server("one").await, server("two").await);
    let balancer = ConnectionBalancer::of([one.address, two.address]).await;
    let of_age = |age| {
        let client = Client::builder(format!("{}/rpc", balancer.address)).transport(Transport::Http);
        client.limits(move |limits| limits.connection_age = age).build().unwrap()
    };
    let old = of_age(Duration::ZERO);
    assert_eq!(calls(&old, 10).await, BTreeMap::from([("one".to_owned(), 5), ("two".to_owned(), 5)]));
    assert_eq!(balancer.opened(), 10);
    let young = of_age(Duration::from_secs(600));
    assert_eq!(calls(&young, 10).await.len(), 1);
    assert_eq!(balancer.opened(), 11);
}
