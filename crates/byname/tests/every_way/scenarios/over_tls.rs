//! Over TLS, what the table does not have: HTTP/1.1 with the name in the body, and typed stubs.

use byname::{Client, Transport};

use super::{through_client, typed_stubs};
use crate::harness::tls::{Authority, server_tls, trusting};
use crate::harness::{Running, everything};

#[tokio::test]
async fn plain_and_by_typed_stubs_over_tls() {
    let authority = Authority::new("the authority of the scenarios");
    let tls = server_tls(&authority.sign(&["127.0.0.1"]));
    let running = Running::new(everything().path(false).tls(tls)).await;
    let builder = Client::builder(running.https()).tls(trusting(&authority));
    let client = builder.transport(Transport::Http).build().unwrap();
    through_client("plain over HTTP/1 over TLS", &client).await;
    typed_stubs(&client).await;
}
