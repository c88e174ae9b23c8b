//! What goes wrong with replicas in etcd.

use byname::{Client, Server};
use serde_json::json;

use super::harness::foreign::{Foreign, answer};
use super::{Page, Seen, failed, one};

/// A build without etcd provokes it.
pub(crate) async fn of_server(page: &mut Page) {
    page.keep("### A server announces itself, but the feature `etcd` is off");
}

/// As above.
pub(crate) fn of_client(page: &mut Page) {
    page.keep("### The replicas are in etcd, but the feature `etcd` is off");
}

pub(crate) async fn etcd(page: &mut Page) {
    page.section("etcd");
    let announced = async |url: &str, address: &str| {
        let server: Server = one();
        failed(server.serve("127.0.0.1:0").announce(url, address).bind().await)
    };
    page.add(
        "A server announces itself at a URL without its scheme",
        announced("10.0.0.1:2379/orders", "10.0.0.7:8080").await,
        "Write the same URL as in the clients.",
    );
    page.add(
        "A server announces what clients can't connect to",
        announced("etcd://10.0.0.1:2379/orders", "0.0.0.0:8080").await,
        "Write the address at which other machines reach this one. In Kubernetes it is the IP address of the pod.",
    );
    let (dead, _kept) = dead();
    page.add(
        "No etcd can be reached",
        called(&dead).await,
        "Start etcd, or correct the URL. Of several members each is told. A client that has found replicas before uses those.",
    );
    page.add(
        "etcd has no replica",
        found(json!({ "header": { "revision": "7" } })).await,
        "Start a server, or find out why it can't announce itself: its log says so. A client that has found replicas before \
         uses those.",
    );
    let value = |text: &str| {
        use base64::Engine as _;
        let [key, value] = ["orders/a", text].map(|text| base64::prelude::BASE64_STANDARD.encode(text));
        json!({ "header": { "revision": "7" }, "kvs": [{ "key": key, "value": value }] })
    };
    page.add(
        "A value in etcd is no replica",
        found(value("10.0.0.1:8080")).await,
        "Only servers of a service write below its prefix. If other values are right, calls go to those, and the log and \
         `Client::replicas` have this message.",
    );
    page.add(
        "A value in etcd has no address",
        found(value(r#"{"host": "10.0.0.1:8080"}"#)).await,
        "Write the address as `address`. Other members of the object are ignored.",
    );
    page.add(
        "etcd refuses",
        of_etcd("400 Bad Request", r#"{"error": "etcdserver: user name is empty", "code": 3}"#).await,
        "The text is that of etcd. byname does not log in to etcd, so etcd must not ask for that.",
    );
    page.add(
        "What answers is not etcd's JSON gateway",
        of_etcd("200 OK", r#"{"pong": true}"#).await,
        "Look for another service at this port. The gateway is on unless etcd has `--enable-grpc-gateway=false`.",
    );
    page.add(
        "What answers is no JSON",
        of_etcd("404 Not Found", "404 page not found\n").await,
        "etcd must be 3.4 or later. Earlier versions have the gateway at another path.",
    );
}

/// An address where nobody listens, as long as the socket is kept.
fn dead() -> (String, socket2::Socket) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    (socket.local_addr().unwrap().as_socket().unwrap().to_string(), socket)
}

async fn called(etcd: &str) -> Seen {
    let client = Client::new(format!("etcd://{etcd}/orders")).unwrap();
    failed(client.call::<u8>("add", (1, 2)).await)
}

async fn found(keys: serde_json::Value) -> Seen {
    of_etcd("200 OK", &keys.to_string()).await
}

/// The outcome of a call whose replicas are looked up where this is the answer.
async fn of_etcd(status: &str, body: &str) -> Seen {
    let etcd = Foreign::answering(answer(status, "", body)).await;
    called(&etcd.address.to_string()).await
}
