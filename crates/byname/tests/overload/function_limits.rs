//! The limits of single functions.

use std::sync::Arc;

use crate::harness::{Running, add, post_with, raw, within};
use byname::{Client, Code, Executed, ProxyHeader, Server, Transport, rpc};
use tokio::sync::{Notify, mpsc};

/// A function that says when it runs, and waits until it may end.
struct Held {
    runs: mpsc::UnboundedSender<()>,
    ends: Arc<Notify>,
}

#[rpc]
impl Held {
    #[rpc(in_flight = 2)]
    async fn few(&self) {
        self.runs.send(()).unwrap();
        self.ends.notified().await;
    }

    async fn many(&self) {}
}

#[tokio::test]
async fn no_more_calls_of_a_function_run_than_its_attribute_says() {
    for transport in [Transport::Http, Transport::Frames] {
        let (runs, mut running_ones) = mpsc::unbounded_channel();
        let ends = Arc::new(Notify::new());
        let running = Running::new(Server::new().inject(Held { runs, ends: Arc::clone(&ends) })).await;
        let client = Client::builder(running.address.to_string()).transport(transport).build().unwrap();
        let client = client.policy("*", |policy| policy.attempts = 1);
        let held = Held::on(&client);
        let two = [held.few(), held.few()].map(|call| tokio::spawn(call.into_future()));
        for _ in 0..2 {
            within(running_ones.recv()).await.unwrap();
        }
        let refused = held.few().await.unwrap_err();
        assert_eq!((refused.code(), refused.executed()), (Code::ResourceExhausted, Executed::No));
        let expected = "2 calls of `few` are in flight, as many as `#[rpc(in_flight = 2)]` allows; try again later";
        assert!(refused.to_string().contains(expected), "{refused}");
        held.many().await.unwrap();
        ends.notify_one();
        let mut two = two.into_iter();
        // One of both has ended, and another may run.
        let next = tokio::spawn(held.few().into_future());
        within(running_ones.recv()).await.unwrap();
        for call in [two.next().unwrap(), two.next().unwrap(), next] {
            ends.notify_one();
            within(call).await.unwrap().unwrap();
        }
    }
}

/// A function may have reached its own limit while the service has room for other calls.
#[tokio::test]
async fn refusals_of_a_functions_own_limit_hold_no_other_calls_back() {
    let server = Server::new().method::<add>().function("other", || async { 7 });
    let running = Running::new(server.limits_for("add", |limits| limits.in_flight = Some(0))).await;
    let client = Client::new(running.address.to_string()).unwrap().policy("*", |policy| policy.attempts = 1);
    for _ in 0..200 {
        let refused = add::on(&client, 1, 2).await.unwrap_err();
        let expected =
            "0 calls of `add` are in flight, as many as `Server::limits_for(\"add\", …)` allows; try again later";
        assert_eq!((refused.message(), refused.limit()), (expected, None));
    }
    assert_eq!(client.call::<i32>("other", ()).await.unwrap(), 7);
}

/// Netflix/atlas#1967: the first of two limits counted a call that the second refused.
#[tokio::test]
async fn a_call_that_the_server_refuses_uses_nothing_of_a_rate() {
    let (runs, mut running_ones) = mpsc::unbounded_channel();
    let ends = Arc::new(Notify::new());
    let server = Server::new().inject(Held { runs, ends: Arc::clone(&ends) }).method::<add>();
    let server = server.limits(|limits| limits.in_flight = 1).limits_for("add", |limits| limits.rate = Some(1));
    let running = Running::new(server).await;
    let client = running.client().policy("*", |policy| policy.attempts = 1);
    let held = tokio::spawn(Held::on(&client).few().into_future());
    within(running_ones.recv()).await.unwrap();
    for _ in 0..3 {
        let refused = add::on(&client, 1, 2).await.unwrap_err();
        assert_eq!(refused.limit(), Some("in_flight"), "{refused}");
    }
    ends.notify_one();
    within(held).await.unwrap().unwrap();
    assert_eq!(add::on(&client, 1, 2).await, Ok(3));
}

#[tokio::test]
async fn a_caller_behind_a_trusted_proxy_has_its_own_rate() {
    let server = Server::new().method::<add>().trust_proxy(["127.0.0.1"], ProxyHeader::XForwardedFor);
    let running = Running::new(server.limits_for("*", |limits| limits.rate_per_caller = Some(1))).await;
    let ask = async |caller: &str| {
        raw(running.address, post_with("/rpc/add", &format!("x-forwarded-for: {caller}\r\n"), "[1,2]")).await
    };
    // Of an IPv6 address the first half counts.
    for (first, again) in [("10.0.0.1", "10.0.0.1"), ("2001:db8::1", "2001:db8::2")] {
        assert_eq!(ask(first).await.status, 200);
        let refused = ask(again).await;
        assert_eq!(refused.status, 429);
        assert!(refused.body.contains("this caller calls `add` more often than"), "{}", refused.body);
        assert!(["1", "2"].contains(&refused.header("retry-after")), "{refused:?}");
    }
    assert_eq!(ask("10.0.0.2").await.status, 200);
}
