//! What a build with Kubernetes says of it outside of a cluster.

use byname::Client;

use super::{Page, failed};

pub(crate) fn kubernetes(page: &mut Page) {
    page.keep("### The replicas are in Kubernetes, but the feature `kubernetes` is off");
    page.add(
        "The replicas are in Kubernetes, but the client is not",
        failed(Client::new("k8s://shop/orders")),
        "Use it in a pod. Elsewhere use an address that leads into the cluster.",
    );
}
