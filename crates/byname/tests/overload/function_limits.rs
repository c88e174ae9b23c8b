//! The limits of single functions.

use std::sync::Arc;

use crate::harness::{Running, within};
use byname::{Client, Code, Executed, Server, Transport, rpc};
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
        let expected = "as many calls of `few` are in flight as `#[rpc(in_flight = 2)]` allows; try again later";
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
