//! `null` is `None`, absence is the default, and a value that a caller passes arrives, on every way in. A server that
//! doesn't know an argument gets the call without it, if its value is the caller's default.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::{Running, Tap, get, nothing, post, raw};
use byname::{Args, Client, Code, Codec, Error, Executed, Next, Request, Server, Streaming, rpc};
use futures_util::{Stream, stream};
use serde_json::json;

/// The functions as the server has them.
mod server {
    use super::*;

    #[rpc(readonly)]
    pub(super) async fn limit(#[rpc(default = Some(10))] limit: Option<u32>) -> Option<u32> {
        limit
    }

    #[rpc(readonly)]
    pub(super) async fn count(#[rpc(default = 20)] count: u32) -> u32 {
        count
    }

    /// It knows none of the arguments that came later.
    #[rpc]
    pub(super) async fn search(word: &str) -> String {
        word.to_owned()
    }

    #[rpc]
    pub(super) fn walk(to: u32) -> impl Stream<Item = u32> {
        stream::iter(1..=to)
    }

    #[rpc]
    pub(super) async fn sum(mut numbers: Streaming<i64>) -> Result<i64, Error> {
        let mut sum = 0;
        while let Some(number) = numbers.next().await {
            sum += number?;
        }
        Ok(sum)
    }
}

/// The same functions as a caller of another version has them.
mod caller {
    use super::*;

    #[rpc(readonly)]
    pub(super) async fn limit(#[rpc(default = Some(30))] limit: Option<u32>) -> Option<u32>;

    #[rpc(readonly)]
    pub(super) async fn count(#[rpc(default = 10)] count: u32) -> u32;

    #[rpc]
    pub(super) async fn search(
        word: &str,
        #[rpc(default = 10)] limit: u32,
        #[rpc(default = "en")] language: &str,
        #[rpc(default = Some(1.5))] weight: Option<f32>,
        after: Option<u64>,
    ) -> String;

    #[rpc]
    pub(super) fn walk(to: u32, #[rpc(default = 1)] step: u32) -> impl Stream<Item = u32>;

    #[rpc]
    pub(super) async fn sum(#[rpc(default = 1)] factor: i64, numbers: Streaming<i64>) -> Result<i64, Error>;
}

fn everything() -> Server {
    Server::new()
        .method::<server::limit>()
        .method::<server::count>()
        .method::<server::search>()
        .method::<server::walk>()
        .method::<server::sum>()
        .method::<nothing>()
}

/// A client of each kind, with how many calls its server has begun with.
struct Ways {
    clients: Vec<(String, Client, Arc<AtomicUsize>)>,
    _running: Vec<Running>,
    _taps: Vec<Tap>,
}

impl Ways {
    async fn new() -> Self {
        let mut ways = Self { clients: Vec::new(), _running: Vec::new(), _taps: Vec::new() };
        for (name, by_path) in [("path over HTTP", true), ("plain over HTTP", false)] {
            let (server, calls) = counted(everything().path(by_path));
            let running = Running::new(server).await;
            let client = running.client();
            nothing::on(&client).await.unwrap(); // from here on the path way is known
            ways.clients.push((name.into(), client, calls));
            ways._running.push(running);
        }
        for codec in [Codec::MessagePack, Codec::Json] {
            let (server, calls) = counted(everything());
            let running = Running::new(server).await;
            let (tap, client) = Tap::client_by_frames(&running, codec).await;
            ways.clients.push((format!("frames in {codec:?}"), client, calls));
            ways._running.push(running);
            ways._taps.push(tap);

            let (server, calls) = counted(everything());
            let client = Client::local(&server).unwrap().encoded(true).codec(codec);
            ways.clients.push((format!("in process, encoded as {codec:?}"), client, calls));
        }
        let (server, calls) = counted(everything());
        ways.clients.push(("in process".into(), Client::local(&server).unwrap(), calls));
        ways
    }
}

/// Counts the calls that come in.
fn counted(server: Server) -> (Server, Arc<AtomicUsize>) {
    let calls = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&calls);
    let server = server.intercept(move |request: Request, next: Next| {
        count.fetch_add(1, Ordering::Relaxed);
        next.run(request)
    });
    (server, calls)
}

#[tokio::test]
async fn a_value_passed_by_a_stub_arrives_for_all_defaults() {
    for (way, client, _) in &Ways::new().await.clients {
        for value in [None, Some(10), Some(30), Some(7)] {
            assert_eq!(server::limit::on(client, value).await, Ok(value), "{way}, the same default");
            assert_eq!(caller::limit::on(client, value).await, Ok(value), "{way}, another default");
        }
        for value in [10, 20, 7] {
            assert_eq!(server::count::on(client, value).await, Ok(value), "{way}, the same default");
            assert_eq!(caller::count::on(client, value).await, Ok(value), "{way}, another default");
        }
    }
}

#[tokio::test]
async fn null_by_name_is_none_and_absence_is_the_default() {
    let null = Option::<u32>::None;
    for (way, client, _) in &Ways::new().await.clients {
        let limit = async |args: Args| client.call::<Option<u32>>("limit", args).await.unwrap();
        assert_eq!(limit(Args::new()).await, Some(10), "{way}");
        assert_eq!(limit(Args::new().arg(null)).await, None, "{way}");
        assert_eq!(limit(Args::new().kwarg("limit", null)).await, None, "{way}");
        assert_eq!(limit(Args::new().kwarg("limit", 3)).await, Some(3), "{way}");
        let error = client.call::<u32>("count", (null,)).await.unwrap_err();
        let error = error.rpc().unwrap();
        assert!(error.message().starts_with("argument `count`: invalid type: null"), "{way}: {error}");
    }
}

#[tokio::test]
async fn on_the_wire_null_is_none_and_absence_is_the_default() {
    #[rpc(readonly)]
    async fn both(first: u8, #[rpc(default = Some(10))] limit: Option<u32>) -> (u8, Option<u32>) {
        (first, limit)
    }
    let running = Running::new(everything().method::<both>()).await;
    let ask = async |request| raw(running.address, request).await.json();
    let json_rpc = |params: &str| format!(r#"{{"jsonrpc":"2.0","method":"limit","params":{params},"id":1}}"#);
    for (body, expected) in [
        (r#"{"fun":"limit"}"#, json!(10)),
        (r#"{"fun":"limit","args":[null]}"#, json!(null)),
        (r#"{"fun":"limit","kwargs":{"limit":null}}"#, json!(null)),
        (r#"{"fun":"both","args":[1],"kwargs":{"limit":null}}"#, json!([1, null])),
        (r#"{"fun":"both","args":[1],"kwargs":{}}"#, json!([1, 10])),
    ] {
        assert_eq!(ask(post("/rpc", body)).await["ret"], expected, "{body}");
    }
    for (params, expected) in
        [("[]", json!(10)), ("{}", json!(10)), ("[null]", json!(null)), (r#"{"limit":null}"#, json!(null))]
    {
        assert_eq!(ask(post("/rpc", &json_rpc(params))).await["result"], expected, "JSON-RPC {params}");
        assert_eq!(ask(post("/rpc/limit", params)).await, expected, "by path {params}");
    }
    assert_eq!(ask(get("/rpc/limit")).await, json!(10));
    assert_eq!(ask(get("/rpc/limit?limit=null")).await, json!(null));
    assert_eq!(ask(get("/rpc/limit?limit=3")).await, json!(3));
}

#[tokio::test]
async fn the_error_about_an_unknown_argument_names_it_on_every_way() {
    let expected = json!({"unknown_argument": "b"});
    for (way, client, _) in &Ways::new().await.clients {
        let error = client.call::<u32>("count", Args::new().kwarg("b", 1)).await.unwrap_err();
        let error = error.rpc().unwrap();
        assert_eq!((error.code(), error.executed()), (Code::InvalidArgument, Executed::No), "{way}");
        assert_eq!(error.data(), Some(&expected), "{way}");
        let error = client.call::<u32>("count", Args::new().arg("x")).await.unwrap_err();
        assert_eq!(error.rpc().unwrap().data(), None, "{way}: another mistake");
        // A caller can send a name of any length, which doesn't come back.
        let error = client.call::<u32>("count", Args::new().kwarg(&"b".repeat(129), 1)).await.unwrap_err();
        assert_eq!(error.rpc().unwrap().data(), None, "{way}: a long name");
    }
    let running = Running::new(everything()).await;
    let ask = async |request| raw(running.address, request).await.json();
    assert_eq!(ask(post("/rpc", r#"{"fun":"count","kwargs":{"b":1}}"#)).await["err"]["data"], expected);
    assert_eq!(ask(post("/rpc/count", r#"{"b":1}"#)).await["data"], expected);
    assert_eq!(ask(get("/rpc/count?b=1")).await["data"], expected);
    let json_rpc = r#"{"jsonrpc":"2.0","method":"count","params":{"b":1},"id":1}"#;
    assert_eq!(ask(post("/rpc", json_rpc)).await["error"]["data"]["data"], expected);
}

/// How many calls a client makes of one whose last `unknown` arguments its server doesn't know.
fn expected_calls(way: &str, unknown: usize) -> usize {
    // Within the process it is seen before the call.
    if way.starts_with("in process") { 1 } else { 1 + unknown }
}

#[tokio::test]
async fn a_server_that_does_not_know_an_argument_is_called_without_its_default() {
    for (way, client, calls) in &Ways::new().await.clients {
        let search = async |limit, language: &str, weight, after| {
            let before = calls.load(Ordering::Relaxed);
            let found = caller::search::on(client, "a", limit, language, weight, after).await;
            (found, calls.load(Ordering::Relaxed) - before)
        };
        let found = search(10, "en", Some(1.5), None).await;
        assert_eq!(found, (Ok("a".into()), expected_calls(way, 3)), "{way}: all have their defaults");

        let unknown = |(found, _): (Result<String, Error>, usize)| {
            let error = found.unwrap_err();
            assert_eq!((error.code(), error.executed()), (Code::InvalidArgument, Executed::No), "{way}: {error}");
            error.data().unwrap()["unknown_argument"].clone()
        };
        assert_eq!(unknown(search(11, "en", Some(1.5), None).await), "limit", "{way}");
        assert_eq!(unknown(search(10, "", Some(1.5), None).await), "language", "{way}");
        assert_eq!(unknown(search(10, "en", None, None).await), "weight", "{way}: `None` is not the default");
        assert_eq!(unknown(search(10, "en", Some(1.5), Some(0)).await), "after", "{way}: it has no default");
    }
}

#[tokio::test]
async fn a_call_without_a_stub_is_sent_once() {
    for (way, client, calls) in &Ways::new().await.clients {
        let before = calls.load(Ordering::Relaxed);
        let args = Args::new().arg("a").kwarg("limit", 10);
        assert!(client.call::<String>("search", args).await.is_err(), "{way}");
        assert_eq!(calls.load(Ordering::Relaxed) - before, 1, "{way}");
    }
}

#[tokio::test]
async fn interceptors_of_the_client_see_one_call() {
    for (way, client, calls) in &Ways::new().await.clients {
        let (before, seen) = (calls.load(Ordering::Relaxed), Arc::<AtomicUsize>::default());
        let count = Arc::clone(&seen);
        let client = client.intercept(move |request: Request, next: Next| {
            count.fetch_add(1, Ordering::Relaxed);
            next.run(request)
        });
        assert_eq!(caller::search::on(&client, "a", 10, "en", Some(1.5), None).await, Ok("a".into()), "{way}");
        assert_eq!(seen.load(Ordering::Relaxed), 1, "{way}");
        assert_eq!(calls.load(Ordering::Relaxed) - before, expected_calls(way, 3), "{way}");
    }
}

#[tokio::test]
async fn a_stream_is_called_for_again_without_its_default() {
    for (way, client, calls) in &Ways::new().await.clients {
        let before = calls.load(Ordering::Relaxed);
        let mut numbers = caller::walk::on(client, 2, 1);
        let mut came = Vec::new();
        while let Some(number) = numbers.next().await {
            came.push(number.unwrap());
        }
        assert_eq!(came, [1, 2], "{way}");
        assert_eq!(calls.load(Ordering::Relaxed) - before, expected_calls(way, 1), "{way}");
        let error = caller::walk::on(client, 2, 2).next().await.unwrap().unwrap_err();
        assert_eq!(error.data(), Some(&json!({"unknown_argument": "step"})), "{way}");
    }
}

#[tokio::test]
async fn a_call_with_a_stream_is_sent_again_only_if_no_item_was_taken() {
    for (way, client, calls) in &Ways::new().await.clients {
        let is_local = way.starts_with("in process");
        // Its first item is made once the second attempt has begun.
        let (before, begun) = (calls.load(Ordering::Relaxed), Arc::clone(calls));
        let numbers = stream::once(async move {
            while !is_local && begun.load(Ordering::Relaxed) < before + 2 {
                tokio::task::yield_now().await;
            }
            7
        });
        let sum = caller::sum::on(client, 1, Streaming::new(numbers)).await;
        assert_eq!(sum.unwrap(), 7, "{way}");

        // One that was taken from would be another.
        let sum = caller::sum::on(client, 1, Streaming::from(vec![1, 2, 3])).await;
        match sum {
            Ok(sum) => assert_eq!(sum, 6, "{way}"),
            Err(error) => {
                let error = error.rpc().unwrap();
                assert_eq!(error.data(), Some(&json!({"unknown_argument": "factor"})), "{way}: {error}");
                assert!(!is_local, "{way}");
            }
        }
    }
}

/// The value may be in an order of its own.
#[tokio::test]
async fn a_default_is_known_by_its_value() {
    use newer::Weights;

    mod newer {
        use super::*;

        pub(super) type Weights = std::collections::HashMap<String, u8>;

        #[rpc]
        pub(super) async fn count(
            count: u32,
            #[rpc(default = (0..20).map(|at| (at.to_string(), at)).collect())] weights: Weights,
        ) -> u32;
    }
    for (way, client, _) in &Ways::new().await.clients {
        let weights: Weights = (0..20).rev().map(|at| (at.to_string(), at)).collect();
        assert_eq!(newer::count::on(client, 1, weights).await, Ok(1), "{way}");
        let error = newer::count::on(client, 1, Weights::new()).await.unwrap_err();
        assert_eq!(error.data(), Some(&json!({"unknown_argument": "weights"})), "{way}");
    }
}
