//! What a build without Kubernetes says of it.

use byname::Client;

use super::{Page, failed};

pub(crate) fn kubernetes(page: &mut Page) {
    page.add(
        "The replicas are in Kubernetes, but the feature `kubernetes` is off",
        failed(Client::new("k8s://shop/orders")),
        "Enable the feature. It is off by default because it turns on `tls`, which needs a C compiler. The name of a headless \
         Service needs no feature.",
    );
    page.keep("### The replicas are in Kubernetes, but the client is not");
}
