//! The scenarios over TLS: HTTP/1.1 plain and by path, HTTP/2, and frames in both codecs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use byname::{Client, Next, Request, Transport};
use serde_json::Value;

use super::harness::tls::{Authority, client_config, connect, server_tls, trusting};
use super::harness::{Running, everything, within};
use super::{CODECS, scenarios, through_client, through_http2, typed_stubs};

#[tokio::test]
async fn over_tls_it_is_all_the_same() {
    let authority = Authority::new("the authority of the scenarios");
    let tls = server_tls(&authority.sign(&["127.0.0.1"]));
    let running = Running::new(everything().tls(tls.clone())).await;
    let client = |running: &Running| Client::builder(running.https()).tls(trusting(&authority));

    let by_path = client(&running).transport(Transport::Http).build().unwrap();
    by_path.call::<Value>("nothing", ()).await.unwrap();
    through_client("path over HTTP/1 over TLS", &by_path).await;
    typed_stubs(&by_path).await;

    let without_paths = Running::new(everything().path(false).tls(tls.clone())).await;
    let plain = client(&without_paths).transport(Transport::Http).build().unwrap();
    through_client("plain over HTTP/1 over TLS", &plain).await;

    let stream = connect(running.address, client_config(&authority, &["h2", "http/1.1"])).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    through_http2("http://localhost", "HTTP/2 over TLS", stream).await;

    for codec in CODECS {
        // A call by frames has no header of HTTP.
        let by_frames = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&by_frames);
        let server = everything().tls(tls.clone()).intercept(move |request: Request, next: Next| {
            let is_by_frames = request.header("host").is_none();
            counted.fetch_add(is_by_frames.into(), Ordering::Relaxed);
            next.run(request)
        });
        let running = Running::new(server).await;
        let client = client(&running).codec(codec).build().unwrap();
        within(async {
            while by_frames.load(Ordering::Relaxed) == 0 {
                client.call::<Value>("nothing", ()).await.unwrap();
                tokio::task::yield_now().await;
            }
        })
        .await;
        let before = by_frames.load(Ordering::Relaxed);
        through_client(&format!("frames in {codec:?} over TLS"), &client).await;
        assert_eq!(by_frames.load(Ordering::Relaxed) - before, scenarios().len(), "every call went by frames");
    }
}
