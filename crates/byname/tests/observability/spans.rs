//! Spans: one for each call on each side, and no more names than there are functions.

use std::time::Duration;

use crate::harness::{Caller, Log, Running, Tap, everything, foreign, get, nothing, post, post_with, raw, within};
use byname::{Client, Code, Codec, Context, Server, Transport};
use serde_json::Value;
use tokio::sync::mpsc;

#[tokio::test]
async fn a_call_is_one_span_on_each_side() {
    let mut log = Log::new();
    let running = Running::new(everything()).await;
    let client = running.client();
    for (name, arguments, code) in [
        ("add", serde_json::json!([1, 2]), "ok"),
        ("counter.bump", serde_json::json!([]), "ok"),
        ("same", serde_json::json!([1]), "ok"),
        ("add", serde_json::json!([1]), "invalid_argument"),
        ("withdraw", serde_json::json!(["bob", 1]), "not_found"),
        ("panics", serde_json::json!([""]), "internal"),
    ] {
        let _ = client.call::<Value>(name, arguments).await;
        let spans = log.spans("rpc.serve");
        let registered = if name == "same" { "echo" } else { name };
        assert_eq!(spans.len(), 1, "{name}: {spans:?}");
        assert_eq!(spans[0].fields["rpc.method"], registered, "{spans:?}");
        assert_eq!(spans[0].fields["rpc.response.status_code"], code, "{spans:?}");
    }
}

#[tokio::test]
async fn a_client_has_a_span_of_its_own() {
    let mut log = Log::new();
    let running = Running::new(everything()).await;
    let client = running.client();
    client.call::<i64>("add", (1, 2)).await.unwrap();
    let _ = client.call::<i64>("none", ()).await;
    let summary: Vec<_> = log
        .spans("rpc.call")
        .iter()
        .map(|span| {
            let names = ["rpc.method", "rpc.response.status_code", "byname.attempts", "server.address", "server.port"];
            names.map(|name| span.fields[name].clone()).join(" ")
        })
        .collect();
    let server = running.address.to_string().replace(':', " ");
    assert_eq!(summary, [format!("add ok 1 {server}"), format!("none unimplemented 1 {server}")]);
}

/// Often enough that the connection polls quick functions inline.
#[tokio::test]
async fn a_call_by_frames_is_one_span_on_each_side_with_and_without_interceptors() {
    for is_intercepted in [false, true] {
        let mut log = Log::new();
        let mut server = everything();
        if is_intercepted {
            server = server.intercept(|request: byname::Request, next: byname::Next| next.run(request));
        }
        let running = Running::new(server).await;
        let (_tap, client) = Tap::client_by_frames(&running, Codec::MessagePack).await;
        log.spans("rpc.call");
        log.spans("rpc.serve");
        for (name, arguments, code) in [
            ("add", serde_json::json!([1, 2]), "ok"),
            ("same", serde_json::json!([1]), "ok"),
            ("add", serde_json::json!([1]), "invalid_argument"),
            ("withdraw", serde_json::json!(["bob", 1]), "not_found"),
            ("panics", serde_json::json!([""]), "internal"),
        ] {
            for _ in 0..20 {
                let _ = client.call::<Value>(name, arguments.clone()).await;
                let (calls, served) = (log.spans("rpc.call"), log.spans("rpc.serve"));
                let registered = if name == "same" { "echo" } else { name };
                assert_eq!((calls.len(), served.len()), (1, 1), "{name}: {calls:?}, {served:?}");
                assert_eq!(calls[0].fields["rpc.method"], name);
                assert_eq!(served[0].fields["rpc.method"], registered, "{served:?}");
                for fields in [&calls[0].fields, &served[0].fields] {
                    assert_eq!(fields["rpc.response.status_code"], code, "{fields:?}");
                }
                assert_eq!(calls[0].fields["byname.attempts"], "1");
                assert_eq!(served[0].fields["trace_id"], calls[0].fields["trace_id"]);
                assert_eq!(served[0].fields["parent_id"], calls[0].fields["span_id"]);
            }
        }
    }
}

#[tokio::test]
async fn a_call_that_is_not_sent_has_a_span_with_its_error() {
    let mut log = Log::new();
    let client = byname::Client::new("localhost:1").unwrap();
    let _ = client.call::<i64>("add", (1, 2)).timeout(Duration::ZERO).await;
    let _ = client.call::<i64>("not a name", (1, 2)).await;
    drop(client.call::<i64>("add", (1, 2)));
    let spans = log.spans("rpc.call");
    let seen: Vec<_> = spans.iter().map(|span| span.fields["rpc.response.status_code"].as_str()).collect();
    assert_eq!(seen, ["deadline_exceeded"], "a name that is not valid is in no span: {spans:?}");
}

#[tokio::test]
async fn a_call_within_the_process_has_spans_on_both_sides() {
    let mut log = Log::new();
    let client = byname::Client::local(&everything()).unwrap();
    client.call::<i64>("add", (1, 2)).await.unwrap();
    for (name, field) in [("rpc.serve", "rpc.response.status_code"), ("rpc.call", "rpc.response.status_code")] {
        let spans = log.spans(name);
        assert_eq!((spans.len(), spans[0].fields["rpc.method"].as_str()), (1, "add"), "{spans:?}");
        assert!(spans[0].fields.contains_key(field), "{spans:?}");
    }
}

#[tokio::test]
async fn unknown_names_make_no_spans_and_no_log_lines() {
    let mut log = Log::new();
    let running = Running::new(everything()).await;
    let mut caller = Caller::to(running.address).await;
    for at in 0..500 {
        let name = format!("stray_{at}");
        assert_eq!(caller.ask(post(&format!("/rpc/{name}"), "[]")).await.status, 404);
        assert_eq!(caller.ask(post("/rpc", &format!("{{\"fun\": \"{name}\"}}"))).await.status, 502);
    }
    assert_eq!(caller.ask(get("/rpc/add?a=1&b=2")).await.body, "3");
    let spans: Vec<_> = log.spans("rpc.serve").into_iter().map(|span| span.fields["rpc.method"].clone()).collect();
    assert_eq!(spans, ["add"]);
    let stray: Vec<_> = log.lines().into_iter().filter(|line| line.contains("stray")).collect();
    assert!(stray.is_empty(), "{stray:?}");
}

#[tokio::test]
async fn a_task_that_is_a_part_of_a_call_is_in_its_span() {
    let mut log = Log::new();
    let running = Running::new(Server::new().function("spawns", || async {
        Context::spawn(async { tracing::info!("in a task") }).await.unwrap();
    }))
    .await;
    assert_eq!(raw(running.address, post("/rpc/spawns", "")).await.status, 200);
    let line = log.until("in a task").await;
    assert!(line.contains("rpc.serve"), "{line}");
}

#[tokio::test]
async fn log_events_are_in_the_functions_span_after_the_caller_is_gone() {
    let mut log = Log::new();
    let server = Server::new().function("talks", || async {
        tracing::info!("it begins");
        Context::current().unwrap().cancellation().cancelled().await;
        tracing::info!("it goes on alone");
    });
    let running = Running::new(server).await;
    let answer = raw(running.address, post_with("/rpc/talks", "byname-timeout-ms: 20\r\n", "")).await;
    assert_eq!(answer.status, 504);
    for words in ["it begins", "it goes on alone"] {
        let line = log.until(words).await;
        assert!(line.contains("rpc.serve"), "{line}");
    }
    within(running.stopped()).await.unwrap();
    let spans = log.spans("rpc.serve");
    assert_eq!((spans.len(), spans[0].fields["rpc.response.status_code"].as_str()), (1, "deadline_exceeded"));
}

/// A function that changes something runs to its end without its caller.
#[tokio::test]
async fn a_call_whose_caller_goes_away_is_cancelled_by_every_way() {
    for transport in [Transport::Http, Transport::Frames] {
        let mut log = Log::new();
        let (told_in, mut told) = mpsc::unbounded_channel();
        let waits = move || {
            let told = told_in.clone();
            async move {
                told.send("started").unwrap();
                Context::current().unwrap().cancellation().cancelled().await;
                told.send("told").unwrap();
            }
        };
        let running = Running::new(Server::new().function("waits", waits).method::<nothing>().access_log(true)).await;
        let mut tap = None;
        let client = if transport == Transport::Frames {
            let (frames, client) = Tap::client_by_frames(&running, Codec::MessagePack).await;
            tap = Some(frames);
            client
        } else {
            // The connection of a call that is dropped is closed at once.
            let builder = Client::builder(format!("{}/rpc", running.address)).transport(transport);
            builder.limits(|limits| limits.abandoned = Duration::from_millis(1)).build().unwrap()
        };
        let mut call = client.call::<()>("waits", ());
        assert_eq!(foreign::during(&mut call, told.recv()).await, Some("started"));
        drop(call);
        assert_eq!(within(told.recv()).await, Some("told"), "{transport:?}");
        let mut logged = log.access().await;
        while logged["rpc.method"] != "waits" {
            logged = log.access().await;
        }
        assert_eq!(logged["rpc.response.status_code"], "cancelled", "{transport:?}: {logged:?}");
        let stats = running.stats();
        let waits = stats.functions.iter().find(|function| function.name == "waits").unwrap();
        assert_eq!((waits.calls, &*waits.errors), (1, &[(Code::Cancelled, 1)][..]), "{transport:?}");
        drop((client, tap));
        within(running.stopped()).await.unwrap();
        let spans = log.spans("rpc.serve");
        let waits = spans.iter().find(|span| span.fields["rpc.method"] == "waits").unwrap();
        assert_eq!(waits.fields["rpc.response.status_code"], "cancelled", "{transport:?}");
    }
}
