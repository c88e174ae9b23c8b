//! What two sides tell each other of the structure of functions.

use crate::harness::peer::*;
use crate::harness::{Running, add, within};
use byname::{Client, Server, Transport, rpc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::task::yield_now;

#[derive(Serialize, Deserialize)]
struct Line {
    article: u32,
    quantity: u8,
}

#[rpc]
async fn price(lines: Vec<Line>) -> u64 {
    lines.iter().map(|line| u64::from(line.article) * u64::from(line.quantity)).sum()
}

#[rpc]
async fn weigh(lines: Vec<Line>) -> u64 {
    lines.iter().map(|line| u64::from(line.quantity)).sum()
}

/// What a caller was built for.
mod caller {
    use byname::rpc;
    use serde::{Deserialize, Serialize};

    /// The same structure by other names.
    #[derive(Serialize, Deserialize)]
    pub(super) struct Item {
        pub(super) quantity: u8,
        pub(super) article: u32,
    }

    #[derive(Serialize, Deserialize)]
    pub(super) struct WideItem {
        pub(super) article: u64,
        pub(super) quantity: u8,
    }

    #[rpc]
    pub(super) async fn price(lines: Vec<Item>) -> u64;

    #[rpc]
    pub(super) async fn weigh(lines: Vec<WideItem>) -> u64;
}

/// What each replica has said of the function that `explained` is about.
async fn said(client: &Client, weighed: bool) -> Vec<Option<bool>> {
    let explained = match weighed {
        true => caller::weigh::on(client, Vec::new()).explain().await,
        false => caller::price::on(client, Vec::new()).explain().await,
    };
    explained.service.unwrap().replicas.iter().map(|replica| replica.is_same_function).collect()
}

#[tokio::test]
async fn a_client_learns_whether_a_function_has_the_same_structure_at_the_server() {
    let running = Running::new(Server::new().method::<price>().method::<weigh>()).await;
    let client = running.client_by(Transport::Frames);
    assert_eq!(said(&client, false).await, [], "no call was made");
    within(async {
        while said(&client, false).await != [Some(true)] || said(&client, true).await != [Some(false)] {
            let item = caller::Item { article: 3, quantity: 2 };
            assert_eq!(caller::price::on(&client, vec![item]).await.unwrap(), 6);
            let item = caller::WideItem { article: 3, quantity: 2 };
            assert_eq!(caller::weigh::on(&client, vec![item]).await.unwrap(), 2);
            yield_now().await;
        }
    })
    .await;
    let printed = caller::weigh::on(&client, Vec::new()).explain().await.to_string();
    assert!(printed.contains(", another structure\n"), "{printed}");
}

/// As a client in another language does it: the fingerprint is that of the schema document.
#[tokio::test]
async fn the_server_sends_the_fingerprint_of_its_schema_once_before_an_answer() {
    let server = || Server::new().method::<add>();
    let fingerprint = server().schema().functions[0].fingerprint.clone().unwrap();
    let running = Running::new(server()).await;
    let mut peer = Peer::to(running.address).await;
    assert_eq!(peer.hello["shapes"], json!(true));
    peer.say([frame(HELLO, 0, 0, 0, greeting(true)), frame(NAME, 0, 5, 0, "add")].concat()).await;
    // This side's own may come at any time. The server's is not known before its first call.
    peer.say(frame(12, 0, 5, 0, [7; 16])).await;
    let (mut shapes, mut id) = (Vec::new(), 0);
    within(async {
        while shapes.is_empty() {
            id += 1;
            peer.say(call(5, id, "[1,2]")).await;
            loop {
                let came = peer.frame().await;
                if came.kind == REPLY {
                    break;
                }
                shapes.push(came);
            }
        }
    })
    .await;
    peer.say(call(5, id + 1, "[1,2]")).await;
    assert_eq!(peer.frame().await.kind, REPLY, "it is sent once");
    let [shape] = &shapes[..] else { panic!("{shapes:?}") };
    assert_eq!((shape.kind, shape.number, shape.id), (12, 5, 0));
    let hex: String = shape.payload.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, fingerprint);
}

#[tokio::test]
async fn a_fingerprint_of_another_length_ends_the_connection_if_both_sides_send_them() {
    let running = Running::new(Server::new().method::<add>()).await;
    let hello = |shapes| [frame(HELLO, 0, 0, 0, greeting(shapes)), frame(NAME, 0, 0, 0, "add")].concat();
    let wrong = frame(12, 0, 0, 0, [7; 15]);
    let mut peer = Peer::to(running.address).await;
    peer.say([hello(true), wrong.clone()].concat()).await;
    let (code, why) = peer.closed().await;
    assert!(code == 1002 && why.contains("SHAPE"), "{code} {why}");
    let mut peer = Peer::to(running.address).await;
    peer.say([hello(false), wrong, call(0, 1, "[1,2]")].concat()).await;
    assert_eq!(peer.frame().await.kind, REPLY);
}

fn greeting(shapes: bool) -> String {
    let mut greeting: Value = serde_json::from_str(GREETING).unwrap();
    greeting["shapes"] = json!(shapes);
    greeting.to_string()
}
