//! What a build without TLS says of it.

use byname::Client;

use super::{Page, failed};

pub(crate) fn https(page: &mut Page) {
    page.add(
        "The address is https, but the feature `tls` is off",
        failed(Client::new("https://data.internal/rpc")),
        "Enable the feature. It is off by default because it needs a C compiler, and a build takes 1.6 times as long.",
    );
}

pub(crate) async fn tls(page: &mut Page) {
    page.keep("## TLS");
}
