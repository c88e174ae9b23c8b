//! A client whose calls are refused sends fewer.

use crate::harness::{Running, add, everything};
use byname::{Client, Code, Executed, Transport};

#[tokio::test]
async fn most_calls_to_a_server_that_refuses_all_are_not_sent() {
    for transport in [Transport::Http, Transport::Frames] {
        let running = Running::new(everything().limits(|limits| limits.in_flight = 0)).await;
        let client = Client::builder(running.address.to_string()).transport(transport).build().unwrap();
        let client = client.policy("*", |policy| policy.attempts = 1);
        let (mut sent, mut held_back) = (0, 0);
        for _ in 0..3000 {
            let refused = add::on(&client, 1, 2).await.unwrap_err();
            assert_eq!((refused.code(), refused.executed()), (Code::ResourceExhausted, Executed::No), "{refused}");
            match refused.to_string().contains("`add` was not sent, because ") {
                true => held_back += 1,
                false => sent += 1,
            }
        }
        assert!(held_back > sent, "{held_back} {sent}");
        let explained = client.explain("add").await.to_string();
        assert!(explained.contains("of the calls are not sent, because the service refuses others"), "{explained}");
    }
}
