//! What a build without etcd says of it.

use byname::Client;

use super::{Page, failed, one};

pub(crate) async fn of_server(page: &mut Page) {
    page.add(
        "A server announces itself, but the feature `etcd` is off",
        failed(one().serve("127.0.0.1:0").announce("etcd://10.0.0.1:2379/orders", "10.0.0.7:8080").bind().await),
        "Enable the feature.",
    );
}

pub(crate) fn of_client(page: &mut Page) {
    page.add(
        "The replicas are in etcd, but the feature `etcd` is off",
        failed(Client::new("etcd://10.0.0.1:2379/orders")),
        "Enable the feature.",
    );
}

pub(crate) async fn etcd(page: &mut Page) {
    page.keep("## etcd");
}
