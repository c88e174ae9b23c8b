//! Messages that are longer than a piece, beside others on the same connection.

use std::time::Duration;

use byname::{Client, Context, Server, rpc};
use tokio::task::yield_now;

/// What this call came by.
#[rpc(readonly)]
async fn way() -> String {
    let over_http = Context::current().is_some_and(|call| call.header("host").is_some());
    if over_http { "http" } else { "frames" }.into()
}

/// Not to be sent again: whoever calls it sees how the connection fared.
#[rpc]
async fn count(text: String) -> usize {
    text.len()
}

#[rpc]
async fn large() -> String {
    "x".repeat(3 << 20)
}

async fn gone_over() -> Client {
    let server = Server::new().method::<way>().method::<count>().method::<large>();
    let bound = server.serve("127.0.0.1:0").until(std::future::pending()).bind().await.expect("a free port");
    let client = Client::new(&bound.local_addr().to_string()).expect("an address");
    tokio::spawn(bound.into_future());
    let over = async {
        while way::on(&client).await.expect("it is served") != "frames" {
            yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), over).await.expect("frames are never reached");
    client
}

#[tokio::test]
async fn a_large_reply_arrives() {
    let client = gone_over().await;
    for _ in 0..3 {
        assert_eq!(large::on(&client).await.map(|text| text.len()), Ok(3 << 20));
    }
}

#[tokio::test]
async fn small_calls_go_between_the_pieces_of_a_large_one() {
    let client = gone_over().await;
    let (large, small) = ("x".repeat(1 << 20), "x");
    let calls = (0..20).map(|n| {
        let (client, text) = (client.clone(), if n % 4 == 0 { large.clone() } else { small.into() });
        tokio::spawn(async move { count::on(&client, text.clone()).await.map(|length| length == text.len()) })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap(), Ok(true));
    }
}

#[tokio::test]
async fn a_large_call_has_its_metadata() {
    let client = gone_over().await;
    assert_eq!(count::on(&client, "x".repeat(1 << 20)).header("x-said", "hi").await, Ok(1 << 20));
}

#[tokio::test]
async fn large_replies_that_are_given_up_leave_their_room_to_others() {
    let client = gone_over().await;
    for turns in 0..200 {
        let mut call = Box::pin(large::on(&client).into_future());
        for _ in 0..turns % 40 {
            tokio::select! {
                biased;
                _ = &mut call => break,
                () = yield_now() => {}
            }
        }
        drop(call);
        assert_eq!(count::on(&client, "x".into()).await, Ok(1));
    }
    assert_eq!(way::on(&client).await.unwrap(), "frames");
}
