//! What a server and a client count: each call once, by every way, and the pages that show it.

use std::time::Duration;

use crate::harness::{
    Caller, Gate, Log, Running, Tap, everything, foreign, get, nothing, post, post_with, raw, within,
};
use byname::{Client, Code, Codec, Context, FunctionStats, Server, ServerStats, Streaming, Transport, rpc};
use futures_util::{Stream, stream};
use serde_json::Value;

#[rpc]
async fn sum(mut numbers: Streaming<u64>) -> Result<u64, byname::Error> {
    let mut sum = 0;
    while let Some(number) = numbers.next().await {
        sum += number?;
    }
    Ok(sum)
}

#[rpc]
fn count(to: u32) -> impl Stream<Item = u32> {
    stream::iter(0..to)
}

#[rpc(readonly)]
async fn unsteady() -> Result<(), byname::Error> {
    match Context::current().unwrap().attempt() {
        1 => Err(byname::Error::new(Code::Unavailable, "not yet")),
        _ => Ok(()),
    }
}

fn of<'s>(stats: &'s ServerStats, name: &str) -> &'s FunctionStats {
    stats.functions.iter().find(|function| function.name == name).unwrap()
}

/// The calls of a function and its errors.
fn counted(function: &FunctionStats) -> (u64, &[(Code, u64)]) {
    (function.calls, &function.errors)
}

#[tokio::test]
async fn a_call_is_counted_once_by_every_way() {
    let running = Running::new(everything()).await;
    let mut caller = Caller::to(running.address).await;
    let calls = [
        post("/rpc/add", "[1, 2]"),
        get("/rpc/add?a=1&b=2"),
        post("/rpc", r#"{"fun": "add", "args": [1, 2]}"#),
        post("/rpc", r#"{"jsonrpc": "2.0", "method": "add", "params": [1, 2], "id": 1}"#),
        post(
            "/rpc",
            r#"[{"jsonrpc": "2.0", "method": "add", "params": [1, 2]}, {"jsonrpc": "2.0", "method": "add", "params": [1, 2], "id": 1}]"#,
        ),
        post("/rpc/add", "[1]"),
        post("/rpc/add", "not JSON"),
    ];
    for call in calls {
        caller.ask(call).await;
    }
    let stats = running.stats();
    assert_eq!(counted(of(&stats, "add")), (8, &[(Code::InvalidArgument, 2)][..]), "{stats:?}");
    assert_eq!((stats.other.calls, of(&stats, "add").in_flight), (0, 0));
    assert!(of(&stats, "add").request_bytes > 100 && of(&stats, "add").response_bytes > 7);
    let (_tap, client) = Tap::client_by_frames(&running, Codec::MessagePack).await;
    let before = of(&running.stats(), "add").calls;
    // Often enough that the connection polls it inline.
    for _ in 0..30 {
        client.call::<i64>("add", (1, 2)).await.unwrap();
        let _ = client.call::<Value>("withdraw", ("bob", 1)).await;
    }
    client.call::<Value>("same", (1,)).await.unwrap();
    let stats = running.stats();
    assert_eq!(of(&stats, "add").calls, before + 30);
    assert_eq!(counted(of(&stats, "withdraw")), (30, &[(Code::NotFound, 30)][..]));
    assert_eq!(of(&stats, "echo").calls, 1, "an alias counts for its function");
    assert!(stats.connections >= 2 && stats.connections_accepted >= 2, "{stats:?}");
}

#[tokio::test]
async fn names_that_no_function_has_count_together() {
    let running = Running::new(everything()).await;
    let mut caller = Caller::to(running.address).await;
    for at in 0..50 {
        caller.ask(post(&format!("/rpc/stray_{at}"), "[]")).await;
        caller.ask(post("/rpc", &format!("{{\"fun\": \"stray_{at}\"}}"))).await;
    }
    caller.ask(post("/rpc", "not JSON")).await;
    let stats = running.stats();
    assert_eq!(counted(&stats.other), (101, &[(Code::InvalidArgument, 1), (Code::Unimplemented, 100)][..]));
    assert!(stats.functions.iter().all(|function| function.calls == 0));
    let page = caller.ask(get("/rpc/!metrics")).await.body;
    // As Prometheus asks.
    assert_eq!(caller.ask(get("/rpc/%21metrics")).await.status, 200);
    assert!(page.contains(r#"rpc_method="_OTHER""#) && !page.contains("stray"), "{page}");
}

#[tokio::test]
async fn a_stream_is_one_call_with_its_items() {
    let running = Running::new(Server::new().method::<count>()).await;
    let client = running.client();
    let mut numbers = client.stream::<u32>("count", (10,));
    let mut sum = 0;
    while let Some(number) = numbers.next().await {
        sum += number.unwrap();
    }
    assert_eq!(sum, 45);
    let (server, client) = (running.stats(), client.stats().unwrap());
    assert_eq!((of(&server, "count").calls, of(&server, "count").items_sent), (1, 10));
    assert_eq!((client.functions[0].calls, client.functions[0].items_received), (1, 10));
}

#[tokio::test]
async fn the_items_that_a_function_takes_are_counted() {
    let running = Running::new(Server::new().method::<sum>()).await;
    let mut caller = Caller::to(running.address).await;
    let answer = caller.ask(post("/rpc/sum", "1\n2\n3\n")).await;
    assert_eq!((answer.status, &*answer.body), (200, "6"), "{}", answer.body);
    let stats = running.stats();
    assert_eq!((of(&stats, "sum").calls, of(&stats, "sum").items_received), (1, 3));
    assert_eq!(of(&stats, "sum").request_bytes, 3, "without the ends of lines");
}

#[tokio::test]
async fn what_a_caller_sends_in_a_stream_is_counted_on_both_sides_and_logged() {
    for is_by_frames in [false, true] {
        let mut log = Log::new();
        let running = Running::new(Server::new().method::<sum>().method::<nothing>().access_log(true)).await;
        let (_tap, client) = match is_by_frames {
            true => {
                let (tap, client) = Tap::client_by_frames(&running, Codec::Json).await;
                (Some(tap), client)
            }
            false => (None, running.client()),
        };
        let bytes = |stats: &ServerStats| of(stats, "sum").request_bytes;
        assert_eq!(sum::on(&client, Streaming::from(vec![])).await.unwrap(), 0);
        let without = bytes(&running.stats());
        let mut log_of_sum = async || {
            let mut logged = log.access().await;
            while logged["rpc.method"] != "sum" {
                logged = log.access().await;
            }
            (logged["items_received"].clone(), logged["request_bytes"].parse::<u64>().unwrap())
        };
        assert_eq!(log_of_sum().await, ("0".into(), without));
        let of_client =
            || client.stats().unwrap().functions.into_iter().find(|function| function.name == "sum").unwrap();
        let before = of_client().request_bytes;
        assert_eq!(sum::on(&client, Streaming::from(vec![10, 20, 300])).await.unwrap(), 330);
        assert_eq!(
            (of_client().items_sent, of_client().request_bytes),
            (3, 2 * before + 7),
            "by frames: {is_by_frames}"
        );
        let stats = running.stats();
        assert_eq!(
            (of(&stats, "sum").items_received, bytes(&stats)),
            (3, 2 * without + 7),
            "by frames: {is_by_frames}"
        );
        assert_eq!(log_of_sum().await, ("3".into(), without + 7), "by frames: {is_by_frames}");
    }
}

#[tokio::test]
async fn a_running_call_is_in_flight_and_a_caller_that_is_gone_is_cancelled() {
    let server = Server::new().function("waits", || async {
        Context::current().unwrap().cancellation().cancelled().await;
    });
    let running = Running::new(server).await;
    let answer = raw(running.address, post_with("/rpc/waits", "byname-timeout-ms: 20\r\n", "")).await;
    assert_eq!(answer.status, 504);
    let stats = running.stats();
    assert_eq!(counted(of(&stats, "waits")), (1, &[(Code::DeadlineExceeded, 1)][..]));
    assert!(of(&stats, "waits").percentile(0.5) >= Some(Duration::from_millis(20)));
    within(running.stopped()).await.unwrap();
}

#[tokio::test]
async fn a_client_counts_what_its_callers_get() {
    let running = Running::new(everything()).await;
    let client = running.client();
    client.call::<i64>("add", (1, 2)).await.unwrap();
    client.prefix("counter").call::<i64>("bump", ()).await.unwrap();
    let _ = client.call::<Value>("withdraw", ("bob", 1)).await;
    for name in ["stray", "nowhere"] {
        let _ = client.call::<Value>(name, ()).await;
    }
    let stats = client.stats().unwrap();
    let shown: Vec<_> = stats.functions.iter().map(|function| (&*function.name, function.calls)).collect();
    assert_eq!(shown, [("add", 1), ("counter.bump", 1), ("withdraw", 1), ("_OTHER", 2)], "{stats:?}");
    assert!(stats.connections >= 1 && stats.connections_opened >= 1, "{stats:?}");
    assert!(stats.url.ends_with("/rpc"), "{stats:?}");
    drop(client);
    let again = running.client().stats().unwrap();
    assert_eq!((again.functions[0].calls, again.connections), (1, 0), "the counters outlive a client");
    assert!(Client::local(&everything()).unwrap().stats().is_none());
}

#[tokio::test]
async fn the_pages_are_there_where_names_are_or_where_they_are_turned_on() {
    let statuses = async |server: Server, header: &'static str| {
        let running = Running::new(server).await;
        let mut statuses = Vec::new();
        for page in ["/rpc/!metrics", "/rpc/!stats"] {
            let host = "data.example";
            let request = format!("GET {page} HTTP/1.1\r\nhost: {host}\r\n{header}connection: close\r\n\r\n");
            statuses.push(raw(running.address, request).await.status);
        }
        statuses
    };
    let forwarded = "x-forwarded-for: 192.0.2.1\r\n";
    let named = || everything().hosts(["data.example"]);
    assert_eq!(statuses(named(), "").await, [404, 404]);
    assert_eq!(statuses(named().listing(true), "").await, [200, 200]);
    assert_eq!(statuses(named().metrics(true), forwarded).await, [200, 200]);
    assert_eq!(statuses(named().listing(true).metrics(false), "").await, [404, 404]);
    let running = Running::new(everything()).await;
    let mut caller = Caller::to(running.address).await;
    let page = caller.ask(get("/rpc/!metrics")).await;
    assert_eq!(page.header("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(page.body.ends_with("# EOF\n"), "{}", page.body);
    let from_zero = r#"count{rpc_system_name="byname",rpc_method="add",rpc_response_status_code="ok"} 0"#;
    assert!(page.body.contains(from_zero), "the first call is an increase: {}", page.body);
    let accept = "GET /rpc/!metrics HTTP/1.1\r\nhost: localhost\r\naccept: text/plain;version=0.0.4\r\nconnection: close\r\n\r\n";
    let page = raw(running.address, accept.to_owned()).await;
    assert_eq!(page.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert!(page.body.contains("# TYPE byname_server_connections_accepted_total counter\n"), "{}", page.body);
}

#[tokio::test]
async fn the_pages_are_answered_while_calls_are_refused() {
    let (gate, handle) = Gate::new();
    let server = Server::new().inject_as("stuck", gate).limits(|limits| limits.in_flight = 1);
    let running = Running::new(server).await;
    let client = running.client();
    let mut call = client.call::<bool>("stuck.pass", ());
    foreign::during(&mut call, handle.started).await.unwrap();
    let refused = raw(running.address, post("/rpc/stuck.pass", "[]")).await;
    assert!(refused.body.contains("resource_exhausted"), "{refused:?}");
    for page in ["/rpc/!stats", "/rpc/!metrics"] {
        assert_eq!(raw(running.address, get(page)).await.status, 200);
    }
    let page = raw(running.address, get("/rpc/!metrics")).await.body;
    for line in [r#"byname_server_shed_total{rpc_method="stuck.pass"} 1"#, "byname_server_in_flight 1"] {
        assert!(page.lines().any(|written| written == line), "{line}\n{page}");
    }
}

#[tokio::test]
async fn a_client_says_how_many_calls_wait_for_a_connection() {
    let (gate, handle) = Gate::new();
    let running = Running::new(Server::new().inject_as("stuck", gate)).await;
    let builder = Client::builder(running.address.to_string()).transport(Transport::Http);
    let client = builder.limits(|limits| limits.connections = 1).build().unwrap();
    let mut first = client.call::<bool>("stuck.pass", ());
    foreign::during(&mut first, handle.started).await.unwrap();
    let mut waits = [client.call::<bool>("stuck.pass", ()), client.call("stuck.pass", ())];
    for call in &mut waits {
        assert!(futures_util::poll!(call).is_pending());
    }
    assert_eq!(client.stats().unwrap().waiting, 2);
    let page = raw(running.address, get("/rpc/!stats")).await.body;
    let page: Value = serde_json::from_str(&page).unwrap();
    let of_client = page["clients"].as_array().unwrap().iter().find(|one| one["url"] == client.stats().unwrap().url);
    assert_eq!(of_client.unwrap()["waiting"], 2);
    assert!(page["server"]["queue_delay_us"].is_u64());
    drop(waits);
    assert_eq!(client.stats().unwrap().waiting, 0);
}

#[tokio::test]
async fn a_call_that_failed_stays_on_the_page_under_load() {
    let running = Running::new(everything()).await;
    let client = running.client();
    let _ = client.call::<Value>("withdraw", ("bob", 1)).await;
    for _ in 0..5 {
        // A reader is offered the next call of each kind.
        running.client().service_stats().await.unwrap();
        for _ in 0..400 {
            client.call::<i64>("add", (1, 2)).await.unwrap();
            let _ = client.call::<Value>("add", (1,)).await;
        }
    }
    let page = client.service_stats().await.unwrap();
    let of_server = |call: &&Value| call["kind"] == "server";
    let codes = |list: &str| -> Vec<_> {
        page[list].as_array().unwrap().iter().filter(of_server).map(|call| call["code"].as_str().unwrap()).collect()
    };
    let failed = codes("failed");
    assert_eq!(failed.last(), Some(&"not_found"), "{failed:?}");
    assert!((2..=50).contains(&failed.len()) && failed[0] == "invalid_argument", "{failed:?}");
}

#[tokio::test]
async fn a_call_that_was_sent_again_says_how_often() {
    for transport in [Transport::Http, Transport::Frames] {
        let running = Running::new(Server::new().method::<unsteady>()).await;
        let client = running.client_by(transport);
        unsteady::on(&client).await.unwrap();
        let page = client.service_stats().await.unwrap();
        let url = format!("http://{}/rpc", running.address);
        let made: Vec<_> = page["recent"].as_array().unwrap().iter().filter(|call| call["url"] == *url).collect();
        assert_eq!((made.len(), &made[0]["attempts"], &made[0]["code"]), (1, &2.into(), &"ok".into()), "{made:?}");
        assert!(
            page["recent"]
                .as_array()
                .unwrap()
                .iter()
                .all(|call| call["kind"] == "client" || call["attempts"].is_null())
        );
    }
}

#[tokio::test]
async fn a_question_about_the_server_is_not_in_its_figures() {
    let passes = |request: byname::Request, next: byname::Next| next.run(request);
    let ruled = || everything().metrics(true).allow("*", |_: &byname::Request| true);
    for server in [everything(), ruled(), everything().intercept(passes), ruled().intercept(passes)] {
        let running = Running::new(server).await;
        let mut caller = Caller::to(running.address).await;
        let (_tap, client) = Tap::client_by_frames(&running, Codec::MessagePack).await;
        let by_path: Value = serde_json::from_str(&caller.ask(get("/rpc/!stats")).await.body).unwrap();
        let plain: Value = serde_json::from_str(&caller.ask(post("/rpc", r#"{"fun": "!stats"}"#)).await.body).unwrap();
        let by_frames = client.service_stats().await.unwrap();
        for page in [&by_path, &plain["ret"], &by_frames] {
            assert_eq!(page["server"]["in_flight"], 0, "{page}");
        }
        let metrics = caller.ask(get("/rpc/!metrics")).await.body;
        assert!(metrics.lines().any(|line| line == "byname_server_in_flight 0"), "{metrics}");
        assert_eq!(running.stats().other.calls, 0);
    }
}

#[tokio::test]
async fn rules_and_interceptors_decide_about_the_pages() {
    let open = |request: &byname::Request| request.metadata().get("x-open").is_some();
    let server = everything().metrics(true).allow("add", open).allow("echo", |_: &byname::Request| true);
    let running = Running::new(server).await;
    let names = async |header: &str| {
        let request = format!("GET /rpc/!stats HTTP/1.1\r\nhost: localhost\r\n{header}connection: close\r\n\r\n");
        let page: Value = serde_json::from_str(&raw(running.address, request).await.body).unwrap();
        page["functions"].as_array().unwrap().iter().map(|function| function["name"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(names("").await, ["echo"]);
    assert_eq!(names("x-open: 1\r\n").await, ["add", "echo"]);
    let refuses = |_: byname::Request, _: byname::Next| async {
        byname::Reply::from(byname::Error::new(Code::PermissionDenied, "not for you"))
    };
    let running = Running::new(everything().metrics(true).intercept(refuses)).await;
    let mut caller = Caller::to(running.address).await;
    assert_eq!(caller.ask(get("/rpc/!metrics")).await.status, 403);
}

#[tokio::test]
async fn the_page_of_statistics_has_recent_calls_without_what_they_brought() {
    let running = Running::new(everything()).await;
    let mut caller = Caller::to(running.address).await;
    let traceparent = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
    caller.ask(post_with("/rpc/echo", traceparent, r#"["secret"]"#)).await;
    caller.ask(post("/rpc/withdraw", r#"["bob", 1]"#)).await;
    let page = caller.ask(get("/rpc/!stats")).await.body;
    assert!(!page.contains("secret"), "{page}");
    let page: Value = serde_json::from_str(&page).unwrap();
    // Other tests of this process have clients.
    let of_server = |call: &&Value| call["kind"] == "server";
    let recent: Vec<_> = page["recent"].as_array().unwrap().iter().filter(of_server).collect();
    let shown: Vec<_> = recent.iter().map(|call| (call["name"].as_str(), call["code"].as_str())).collect();
    assert_eq!(shown, [(Some("withdraw"), Some("not_found")), (Some("echo"), Some("ok"))], "the newest is first");
    assert_eq!(recent[1]["trace_id"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(recent[1]["parent_id"], "b7ad6b7169203331");
    assert_eq!((&recent[1]["kind"], &recent[1]["way"]), (&"server".into(), &"path".into()));
    let (ns, ms) = (recent[1]["ended_ago_ns"].as_u64().unwrap(), recent[1]["ended_ms_ago"].as_u64().unwrap());
    assert!(ns / 1_000_000 == ms && ns > recent[0]["ended_ago_ns"].as_u64().unwrap(), "{recent:?}");
    let failed: Vec<_> = page["failed"].as_array().unwrap().iter().filter(of_server).collect();
    assert_eq!(failed, [recent[0]], "it has only calls that failed");
    let slowest = page["slowest"].as_array().unwrap();
    assert!(slowest.is_sorted_by_key(|call| std::cmp::Reverse(call["duration_us"].as_u64())), "{slowest:?}");
    assert!(slowest.len() >= 2, "{slowest:?}");
    let echo = page["functions"].as_array().unwrap().iter().find(|function| function["name"] == "echo").unwrap();
    let latency = echo["latency"].as_array().unwrap();
    assert_eq!((latency.len(), &latency[0][1]), (1, &1.into()), "{echo}");
    assert!(page["limits"].as_array().unwrap().iter().any(|limit| limit["name"] == "Limits::in_flight"));
    assert_eq!(page["server"]["in_flight_limit"], 10_000);
}
