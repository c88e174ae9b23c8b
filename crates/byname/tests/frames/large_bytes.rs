//! Calls with large `Bytes` by frames. They arrive unchanged, and their memory is shared and not copied.

use std::time::Duration;

use byname::{Bytes, CallError, Client, Code, Context, Server, rpc};
use serde::{Deserialize, Serialize};
use tokio::task::yield_now;

#[rpc(readonly)]
async fn way() -> String {
    let over_http = Context::current().is_some_and(|call| call.header("host").is_some());
    if over_http { "http" } else { "frames" }.into()
}

/// Polled where it arrives.
#[rpc(readonly)]
async fn made(length: usize) -> Bytes {
    bytes(length)
}

#[rpc]
async fn echoed(bytes: Bytes) -> Bytes {
    if let Some(context) = Context::current() {
        let _ = context.reply_header("x-length", &bytes.len().to_string());
    }
    bytes
}

#[rpc(keyed)]
async fn kept(bytes: Bytes) -> Bytes {
    bytes
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Album {
    name: String,
    pictures: Vec<Bytes>,
    cover: Option<Bytes>,
    #[serde(flatten)]
    more: std::collections::BTreeMap<String, Bytes>,
}

#[rpc]
async fn sorted(name: String, mut album: Album, cover: Bytes) -> Result<Album, Album> {
    if album.pictures.is_empty() {
        return Err(album);
    }
    album.name += &name;
    album.pictures.sort();
    album.cover = Some(cover);
    Ok(album)
}

/// What no two positions of a piece have in common.
fn bytes(length: usize) -> Bytes {
    (0..length).map(|at| (at ^ at >> 8 ^ at >> 16) as u8).collect()
}

/// The lengths at which something changes: one piece, what is copied, the length of a message in two and in four bytes.
const LENGTHS: [usize; 9] = [0, 1, 65_000, 65_535, 65_536, 65_537, 131_072, 1 << 20, (4 << 20) - 100];

async fn gone_over() -> Client {
    let functions = Server::new().method::<way>().method::<made>().method::<echoed>().method::<kept>();
    let server = functions.method::<sorted>().limits(|limits| limits.message = 4 << 20);
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
async fn bytes_of_every_length_arrive_in_both_directions() {
    let client = gone_over().await;
    for length in LENGTHS {
        let sent = bytes(length);
        assert!(made::on(&client, length).await.expect("it is made") == sent, "{length}");
        let (back, metadata) = echoed::on(&client, sent.clone()).with_metadata().await.expect("it is echoed");
        assert!(back == sent && metadata["x-length"] == length.to_string(), "{length}");
        let key = format!("key-{length}");
        for _ in 0..2 {
            let back = kept::on(&client, sent.clone()).idempotency_key(&key).await.expect("it is kept");
            assert!(back == sent, "{length}");
        }
    }
}

#[tokio::test]
async fn many_calls_at_once_get_their_own_bytes_and_keep_them() {
    let client = gone_over().await;
    let calls = (0..24).map(|n| {
        let client = client.clone();
        tokio::spawn(async move {
            let mut kept = Vec::new();
            for round in 0..4 {
                let sent: Bytes = vec![(n * 4 + round) as u8; 50_000 + 30_000 * n].into();
                let back = echoed::on(&client, sent.clone()).await.expect("it is echoed");
                kept.push((sent, back));
            }
            kept.iter().all(|(sent, back)| sent == back)
        })
    });
    for call in calls.collect::<Vec<_>>() {
        assert!(call.await.unwrap(), "later messages must not change what an earlier one brought");
    }
}

#[tokio::test]
async fn bytes_within_other_values_and_errors_arrive() {
    let client = gone_over().await;
    let more = (0..20).map(|n| (format!("{n:02}"), bytes(n * 10_000))).collect();
    let pictures = vec![bytes(300_000), bytes(70_000), bytes(10)];
    let album = Album { name: "a".into(), pictures, cover: None, more };
    let cover = bytes(100_000);
    let mut expected = Album { name: "ab".into(), cover: Some(cover.clone()), ..album.clone() };
    expected.pictures.sort();
    let name = || "b".to_owned();
    assert!(sorted::on(&client, name(), album.clone(), cover.clone()).await.expect("it is sorted") == expected);
    let empty = Album { pictures: Vec::new(), ..album };
    match sorted::on(&client, name(), empty.clone(), cover).await {
        Err(CallError::Method(error)) => assert!(error == empty),
        other => panic!("{:?}", other.map(|album| album.name)),
    }
}

#[tokio::test]
async fn the_limits_count_bytes_that_are_not_copied() {
    let client = gone_over().await;
    let refused = made::on(&client, 4 << 20).await.unwrap_err();
    assert_eq!((refused.code(), refused.limit()), (Code::ResourceExhausted, Some("message")));
    let refused = echoed::on(&client, bytes(4 << 20)).await.unwrap_err();
    assert_eq!((refused.code(), refused.limit()), (Code::ResourceExhausted, Some("message")));
    assert!(made::on(&client, 9).await.expect("the connection goes on") == bytes(9));
}
