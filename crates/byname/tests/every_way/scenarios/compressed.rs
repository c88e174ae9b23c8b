//! The scenarios with every request and every answer compressed, by each way over HTTP/2.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::{Scenario, came, check, error, json_rpc, params, scenarios};
use crate::harness::{Running, everything};

fn encoded(coding: &str, body: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        _ => {
            let mut out = Vec::with_capacity(zstd_safe::compress_bound(body.len()));
            zstd_safe::compress(&mut out, body, 3).unwrap();
            out
        }
    }
}

fn decoded(coding: &str, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 << 20);
    match coding {
        "gzip" => drop(GzDecoder::new(body).read_to_end(&mut out).unwrap()),
        _ => drop(zstd_safe::decompress(&mut out, body).unwrap()),
    }
    out
}

#[tokio::test]
async fn compressed_it_is_all_the_same() {
    let running = Running::new(everything().compress(true)).await;
    for coding in ["zstd", "gzip"] {
        let stream = TcpStream::connect(running.address).await.unwrap();
        let (mut send, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut post = async |path: &str, body: Value| {
            let request = hyper::Request::post(format!("http://localhost{path}"))
                .header("content-encoding", coding)
                // Without this, short answers are sent as they are.
                .header("accept-encoding", format!("{coding}, identity;q=0"))
                .body(Full::new(Bytes::from(encoded(coding, body.to_string().as_bytes()))));
            let (head, body) = send.send_request(request.unwrap()).await.unwrap().into_parts();
            assert_eq!(head.headers["content-encoding"], coding);
            let body = decoded(coding, &body.collect().await.unwrap().to_bytes());
            (head.status.as_u16(), serde_json::from_slice::<Value>(&body).unwrap())
        };
        for scenario in scenarios() {
            let Scenario { name, args, kwargs, .. } = &scenario;
            let (status, body) = post("/rpc", json!({"fun": name, "args": args, "kwargs": kwargs})).await;
            let plain = if status == 200 { Ok(body["ret"].clone()) } else { error(&body["err"]) };
            check(&format!("plain in {coding}"), &scenario, plain);
            let Some(params) = params(&scenario) else { continue };
            let (status, body) = post(&format!("/rpc/{name}"), params.clone()).await;
            check(&format!("path in {coding}"), &scenario, if status == 200 { Ok(body) } else { error(&body) });
            let (_, reply) = post("/rpc", json_rpc((7, &scenario)).unwrap()).await;
            check(&format!("JSON-RPC in {coding}"), &scenario, came(7, &reply));
        }
    }
}
