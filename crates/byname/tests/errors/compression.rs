//! What goes wrong with compressed bodies.

use std::io::Write as _;

use byname::{Client, Transport};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::harness::foreign::{BYNAME, Foreign, answer};
use super::harness::{Caller, Raw, Running};
use super::{Page, failed, one};

/// A build without compression provokes it.
pub(crate) async fn of_server(page: &mut Page) {
    page.keep("### A server compresses, but the feature `compression` is off");
}

/// As above.
pub(crate) fn of_client(page: &mut Page) {
    page.keep("### A client compresses, but the feature `compression` is off");
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

/// A frame of zstd whose header announces a window of 16 MiB.
fn wide_frame() -> Vec<u8> {
    let mut context = zstd_safe::CCtx::create();
    context.set_parameter(zstd_safe::CParameter::WindowLog(24)).unwrap();
    let mut out = Vec::with_capacity(1000);
    let mut input = zstd_safe::InBuffer::around(b"[1,2]");
    context.compress_stream(&mut zstd_safe::OutBuffer::around(&mut out), &mut input).unwrap();
    let length = out.len();
    context.end_stream(&mut zstd_safe::OutBuffer::around_pos(&mut out, length)).unwrap();
    out
}

async fn sent(running: &Running, coding: &str, body: &[u8]) -> Raw {
    let length = body.len();
    let head = format!(
        "POST /rpc/add HTTP/1.1\r\nhost: localhost\r\ncontent-encoding: {coding}\r\ncontent-length: {length}\r\n\r\n"
    );
    Caller::to(running.address).await.ask([head.as_bytes(), body].concat()).await
}

pub(crate) async fn compression(page: &mut Page) {
    page.section("Compression");
    let running = Running::new(one().compress(true)).await;
    page.add(
        "The body has another coding than the server decodes",
        sent(&running, "br", b"?").await,
        "Compress it with zstd or gzip, and once, or send it as it is.",
    );
    let whole = gzip(b"[1,2]");
    page.add(
        "A compressed body is cut off",
        sent(&running, "gzip", &whole[..whole.len() - 2]).await,
        "Find out why the sender, or a proxy, sends a part of it. A stream of gzip must be finished, not only flushed.",
    );
    page.add(
        "Something follows a compressed body",
        sent(&running, "gzip", &[&whole[..], &whole].concat()).await,
        "Compress the whole body at once. byname reads no further members, because each costs the server far more than its \
         sender.",
    );
    page.add(
        "The body is not what its coding says",
        sent(&running, "gzip", b"[1,2]").await,
        "Remove the header `content-encoding`, or compress the body.",
    );
    page.add(
        "A zstd frame needs too much memory",
        sent(&running, "zstd", &wide_frame()).await,
        "Use a level of at most 19, or set the window (`zstd --ultra -22 --zstd=wlog=23`).",
    );
    let server = Foreign::ending_after(answer("200 OK", &format!("{BYNAME}content-encoding: gzip\r\n"), "{}")).await;
    let client = Client::builder(server.url()).transport(Transport::Http).compress(true).build().unwrap();
    page.add(
        "A compressed answer can't be decoded",
        failed(client.call::<u8>("add", (1, 2)).await),
        "Find out what is between client and server and changes the body or its headers. The function ran if the status is 2xx.",
    );
}
