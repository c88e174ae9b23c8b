//! What a build without compression says of it.

use byname::Client;

use super::{Page, failed, one, refused};

pub(crate) async fn of_server(page: &mut Page) {
    page.add(
        "A server compresses, but the feature `compression` is off",
        refused(one().compress(true)).await,
        "Enable the feature. It is off by default because zstd takes a C compiler.",
    );
}

pub(crate) fn of_client(page: &mut Page) {
    page.add(
        "A client compresses, but the feature `compression` is off",
        failed(Client::builder("data.internal/rpc").compress(true).build()),
        "Enable the feature. It is off by default because zstd takes a C compiler.",
    );
}

pub(crate) async fn compression(page: &mut Page) {
    page.keep("## Compression");
}
