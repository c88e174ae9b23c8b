//! Messages that are longer than a piece, beside others on the same connection.

use std::time::Duration;

use crate::harness::foreign::{self, Foreign, frame, start};
use byname::{CallError, Client, Code, Context, Server, rpc};
use tokio::task::yield_now;

/// What this call came by.
#[rpc(readonly)]
async fn way() -> String {
    let over_http = Context::current().is_some_and(|call| call.header("host").is_some());
    if over_http { "http" } else { "frames" }.into()
}

/// It must not be sent again, so that the caller sees a failure of the connection.
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
    let client = Client::builder(bound.local_addr().to_string()).build().expect("an address");
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
async fn dropped_large_replies_free_their_memory() {
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

#[tokio::test]
async fn pieces_of_an_abandoned_reply_are_released() {
    const CALL: u8 = 3;
    const REPLY: u8 = 4;
    const MORE: u8 = 1;
    let (server, upgraded) = Foreign::of_frames(|mut connection| async move {
        let mut calls = 0;
        loop {
            if let (CALL, id) = connection.frame().await {
                calls += 1;
                // Of every other reply no more than the first piece.
                match calls % 2 {
                    1 => connection.send(frame(REPLY, MORE, id, &[0; 3000])).await,
                    _ => connection.send(frame(REPLY, 0, id, b"\x07")).await,
                }
            }
        }
    })
    .await;
    let client = server.builder().limits(|limits| limits.message = 4000).build().unwrap();
    foreign::gone_over(&client, &upgraded).await;
    for _ in 0..20 {
        let mut given_up = client.call::<String>("large", ()).into_future();
        start(&mut given_up).await;
        assert_eq!(client.call::<u8>("small", ()).await.unwrap(), 7);
        drop(given_up);
    }
}

#[tokio::test]
async fn a_large_call_reaches_its_function_despite_later_names() {
    let client = gone_over().await;
    let mut large = count::on(&client, "x".repeat(1 << 20)).into_future();
    start(&mut large).await;
    let mut others: Vec<_> = (0..1100).map(|n| client.call::<()>(&format!("no{n}"), ()).into_future()).collect();
    for other in &mut others {
        start(other).await;
    }
    assert_eq!(large.await, Ok(1 << 20));
}

#[tokio::test]
async fn a_call_that_waits_for_others_to_end_keeps_its_deadline() {
    let (server, upgraded) = Foreign::of_frames(|connection| async move {
        std::future::pending::<()>().await;
        drop(connection);
    })
    .await;
    let client = server.client();
    foreign::gone_over(&client, &upgraded).await;
    // As many as the server takes at once.
    let mut calls: Vec<_> = (0..9).map(|_| client.call::<u8>("stuck", ()).into_future()).collect();
    for call in &mut calls {
        start(call).await;
    }
    let late = client.call::<u8>("stuck", ()).timeout(Duration::from_millis(20));
    let late = tokio::time::timeout(Duration::from_secs(10), late.into_future()).await.expect("it ends by itself");
    let CallError::Rpc(late) = late.unwrap_err() else { panic!("no function ran") };
    assert_eq!(late.code(), Code::DeadlineExceeded);
}
