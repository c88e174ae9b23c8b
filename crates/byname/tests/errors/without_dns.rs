//! What a build without DNS says of it.

use byname::Client;

use super::{Page, failed};

pub(crate) fn dns(page: &mut Page) {
    page.add(
        "The replicas are in SRV records, but the feature `dns` is off",
        failed(Client::new("srv://_rpc._tcp.orders.internal")),
        "Enable the feature. It is off by default because it brings a resolver. A name with the addresses of the replicas, such \
         as that of a headless Service of Kubernetes, needs no feature.",
    );
}
