//! What a build without TLS says of it.

use byname::Client;

use super::{Page, failed};

pub(crate) fn https(page: &mut Page) {
    page.add(
        "The address is https, and byname was built without TLS",
        failed(Client::new("https://data.internal/rpc")),
        "Turn the feature on. It is off by default because it takes as long to build as all the rest.",
    );
}

pub(crate) async fn tls(page: &mut Page) {
    page.keep("## TLS");
}
