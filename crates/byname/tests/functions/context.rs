//! The context of a call that is served, and the cancellation of calls whose callers go away.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::harness::foreign::{self, Foreign};
use crate::harness::{Caller, Running, Tap, everything, get, post, post_with, raw, whoami, within};
use byname::{Client, Codec, Context, Server, rpc};
use futures_util::{Stream, stream};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

/// What a context says, as far as it can be compared.
#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Seen {
    method: String,
    user: Option<String>,
    peer: Option<String>,
    /// Milliseconds until the deadline.
    left: u64,
}

fn seen() -> Option<Seen> {
    let call = Context::current()?;
    Some(Seen {
        method: call.method().to_owned(),
        user: call.header("X-User").map(str::to_owned),
        peer: call.peer().map(|peer| peer.to_string()),
        left: call.deadline().saturating_duration_since(tokio::time::Instant::now()).as_millis() as u64,
    })
}

#[rpc(readonly, alias = "same")]
async fn here() -> Option<Seen> {
    tokio::task::yield_now().await;
    seen()
}

#[rpc(readonly)]
fn plainly() -> Option<Seen> {
    seen()
}

#[rpc(blocking)]
fn on_a_thread() -> Option<Seen> {
    seen()
}

#[rpc]
async fn joined() -> Vec<bool> {
    let one = async {
        tokio::task::yield_now().await;
        Context::current().is_some()
    };
    let (a, b) = tokio::join!(one, async { Context::current().is_some() });
    let carried = Context::spawn(async { Context::current().is_some() });
    let detached = tokio::spawn(async { Context::current().is_some() });
    let thread = tokio::task::spawn_blocking(|| Context::current().is_some());
    vec![a, b, carried.await.unwrap(), detached.await.unwrap(), thread.await.unwrap()]
}

fn contexts() -> Server {
    Server::new().method::<here>().method::<plainly>().method::<on_a_thread>().method::<joined>().function(
        "closure",
        || {
            let early = seen();
            async move { (early, seen()) }
        },
    )
}

#[tokio::test]
async fn a_function_that_is_called_locally_has_no_context() {
    assert_eq!((here().await, plainly(), on_a_thread()), (None, None, None));
    assert!(whoami().await.values().all(Option::is_none));
}

#[tokio::test]
async fn every_kind_of_served_function_has_a_context() {
    let running = Running::new(contexts()).await;
    let mut caller = Caller::to(running.address).await;
    let peer = Some(caller.stream.local_addr().unwrap().to_string());
    for name in ["here", "same", "plainly", "on_a_thread"] {
        let headers = "x-user: ada\r\nbyname-timeout-ms: 20000\r\n";
        let answer = caller.ask(post_with(&format!("/rpc/{name}"), headers, "")).await;
        let Seen { method, user, peer: from, left } = serde_json::from_value(answer.json()).unwrap();
        assert_eq!((method.as_str(), user.as_deref(), &from), (name, Some("ada"), &peer), "the name that was called");
        assert!(left > 0 && left <= 20_000, "{name}: {left}");
    }
    let both: (Option<Seen>, Option<Seen>) =
        serde_json::from_value(caller.ask(post("/rpc/closure", "")).await.json()).unwrap();
    assert!(both.0.is_some_and(|early| both.1.is_some_and(|late| late.method == early.method)));
    let left = caller.ask(post("/rpc/here", "")).await.json()["left"].as_u64().unwrap();
    assert!(left <= 30_000, "the default is a deadline too: {left}");
}

#[tokio::test]
async fn a_context_within_the_process_has_no_peer() {
    let client = Client::local(&contexts()).unwrap().header("x-user", "ada").timeout(Duration::from_secs(5));
    for client in [client.clone(), client.encoded(true)] {
        for seen in [here::on(&client).await.unwrap(), on_a_thread::on(&client).await.unwrap()] {
            let Seen { user, peer, left, .. } = seen.unwrap();
            assert_eq!((user.as_deref(), peer), (Some("ada"), None));
            assert!(left <= 5000, "{left}");
        }
    }
}

#[tokio::test]
async fn the_context_holds_in_the_functions_task_and_can_be_passed_on() {
    let running = Running::new(contexts()).await;
    let answer = raw(running.address, post("/rpc/joined", "")).await;
    assert_eq!(answer.json(), json!([true, true, true, false, false]));
}

#[tokio::test]
async fn calls_at_once_have_each_their_own() {
    let running = Running::new(contexts().method::<whoami>()).await;
    let client = running.client();
    let calls = (0..50).map(|user| {
        let client = client.header("x-user", &user.to_string());
        async move { (user.to_string(), whoami::on(&client).await.unwrap()) }
    });
    let calls: Vec<_> = calls.map(tokio::spawn).collect();
    for call in calls {
        let (user, seen) = call.await.unwrap();
        assert_eq!(seen["x-user"], Some(user));
    }
}

#[tokio::test]
async fn a_function_adds_headers_to_its_reply() {
    let running = Running::new(everything()).await;
    let answer = raw(running.address, get("/rpc/whoami")).await;
    assert_eq!(answer.header("x-served"), "whoami");
    let (_, metadata) = running.client().call::<Value>("whoami", ()).with_metadata().await.unwrap();
    assert_eq!(metadata["x-served"], "whoami");
}

/// A server whose functions call `inner` at another one.
fn relays(inner: &Client) -> Server {
    let one = inner.clone();
    let two = inner.clone();
    let three = inner.clone();
    Server::new()
        .function("spawned", move || {
            let call = three.call::<i64>("inner", ());
            async move { Context::spawn(call).await.unwrap().map_err(|error| error.to_string()) }
        })
        .function("relay", move || {
            let inner = one.clone();
            async move { inner.call::<i64>("inner", ()).await.map_err(|error| error.to_string()) }
        })
        .function("patient", move || {
            let inner = two.clone();
            async move { inner.call::<i64>("inner", ()).timeout(Duration::from_secs(3600)).await.unwrap_or(-1) }
        })
}

#[tokio::test]
async fn calls_made_while_serving_inherit_what_is_left_of_the_time_and_the_trace_and_no_authority() {
    let inner = Foreign::answering(foreign::ret("7")).await;
    let running = Running::new(relays(&inner.client())).await;
    let trace = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\ntracestate: a=1,b=2\r\n";
    let headers =
        format!("byname-timeout-ms: 5000\r\nbyname-attempt: 2\r\nauthorization: secret\r\nx-user: ada\r\n{trace}");
    for name in ["relay", "patient", "spawned"] {
        let answer = raw(running.address, post_with(&format!("/rpc/{name}"), &headers, "")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let asked = inner.requests();
    assert_eq!(asked.len(), 3);
    for asked in asked {
        let left: u64 = asked.header("byname-timeout-ms").parse().unwrap();
        assert!(left > 0 && left <= 4995, "5 ms are for the error of the call: {left}");
        let (before, after) = ("00-0af7651916cd43dd8448eb211c80319c-", "-01");
        let traceparent = asked.header("traceparent");
        let span = traceparent.strip_prefix(before).and_then(|rest| rest.strip_suffix(after)).unwrap_or(traceparent);
        assert!(span.len() == 16 && span != "b7ad6b7169203331", "the parent is the call that is served: {traceparent}");
        assert_eq!(asked.header("tracestate"), "a=1,b=2");
        assert_eq!(asked.header("byname-attempt"), "2");
        assert_eq!((asked.header("authorization"), asked.header("x-user")), ("", ""), "authority is never inherited");
    }
}

/// A function on whose behalf another is called: what it knows of its trace, and what the two called ones are told.
fn traced(inner: &Client) -> Server {
    let (one, two, three) = (inner.clone(), inner.clone(), inner.clone());
    let own = || Context::current().unwrap().traceparent();
    Server::new()
        .function("asks", move || {
            let inner = one.clone();
            async move {
                let told =
                    [inner.call::<Value>("told", ()).await.unwrap(), inner.call::<Value>("told", ()).await.unwrap()];
                (own(), told)
            }
        })
        .function("asks_by_itself", move || {
            let inner = two.clone();
            async move {
                let call = inner.call::<Value>("told", ());
                call.header("traceparent", "00-11111111111111111111111111111111-2222222222222222-00").await.unwrap()
            }
        })
        .function("passes_on", move || {
            let inner = three.clone();
            async move { (own(), inner.call::<Value>("asks", ()).await.unwrap()) }
        })
        .function("told", || async {
            let call = Context::current().unwrap();
            let told =
                |name: &str| call.metadata().get_all(name).iter().map(|value| value.to_str().unwrap().to_owned());
            [told("traceparent").collect::<Vec<_>>(), told("tracestate").collect()]
        })
}

/// What [`traced`] serves, over HTTP and by frames, and within the process.
async fn traced_every_way() -> (Vec<(String, Client)>, impl Sized) {
    let inner = Running::new(traced(&Client::new("localhost:1").unwrap())).await;
    let middle = Running::new(traced(&inner.client())).await;
    let outer = Running::new(traced(&middle.client())).await;
    let mut ways = vec![("HTTP".to_owned(), outer.client())];
    let mut open = vec![];
    for codec in [Codec::MessagePack, Codec::Json] {
        let (one, by_frames) = Tap::client_by_frames_calling(&inner, codec, "told").await;
        let middle = Running::new(traced(&by_frames)).await;
        let (two, by_frames) = Tap::client_by_frames_calling(&middle, codec, "told").await;
        let outer = Running::new(traced(&by_frames)).await;
        let (three, client) = Tap::client_by_frames_calling(&outer, codec, "told").await;
        ways.push((format!("frames in {codec:?}"), client));
        open.push((middle, outer, [one, two, three]));
    }
    let inner_local = Client::local(&traced(&Client::new("localhost:1").unwrap())).unwrap();
    let middle_local = Client::local(&traced(&inner_local)).unwrap();
    ways.push(("in process".to_owned(), Client::local(&traced(&middle_local)).unwrap()));
    (ways, (inner, middle, outer, open))
}

/// The id of a span in a trace that is recorded.
#[track_caller]
fn span(traceparent: &Value) -> String {
    let text = traceparent.as_str().unwrap();
    let span = text.strip_prefix("00-0af7651916cd43dd8448eb211c80319c-").and_then(|rest| rest.strip_suffix("-01"));
    let span = span.unwrap_or_else(|| panic!("{text} is of another trace"));
    assert!(span.len() == 16 && span.bytes().all(|byte| byte.is_ascii_hexdigit()), "{text}");
    span.to_owned()
}

#[tokio::test]
async fn each_call_that_is_made_has_an_id_of_its_own_in_the_trace_of_the_call_that_is_served() {
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let (ways, _open) = traced_every_way().await;
    for (way, client) in ways {
        let client = client.header("traceparent", trace).header("tracestate", "a=1,b=2");
        let mut spans = std::collections::BTreeSet::from(["b7ad6b7169203331".to_owned()]);
        for round in 0..3 {
            let came = client.call::<Value>("passes_on", ()).await.unwrap();
            let (first, second, told) = (&came[0], &came[1][0], &came[1][1]);
            for told in [&told[0], &told[1]] {
                assert_eq!(told[1], json!(["a=1,b=2"]), "{way}");
                spans.insert(span(&told[0][0]));
            }
            spans.extend([span(first), span(second)]);
            assert_eq!(spans.len(), 1 + 4 * (round + 1), "{way}: two calls that are served, and two that are made");
        }
        let told = client.call::<Value>("asks_by_itself", ()).await.unwrap();
        assert_eq!(told, json!([["00-11111111111111111111111111111111-2222222222222222-00"], []]), "{way}");
    }
}

#[tokio::test]
async fn a_trace_begins_at_the_first_call_that_is_served_without_one() {
    let (ways, _open) = traced_every_way().await;
    for (way, client) in ways {
        let wrong = client
            .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331")
            .header("tracestate", "a=1");
        for client in [&client, &wrong] {
            let came = client.call::<Value>("passes_on", ()).await.unwrap();
            let all = [&came[0], &came[1][0], &came[1][1][0][0][0], &came[1][1][1][0][0]];
            let parts: Vec<Vec<&str>> = all.iter().map(|text| text.as_str().unwrap().split('-').collect()).collect();
            let ids: std::collections::BTreeSet<_> = parts.iter().map(|parts| parts[2]).collect();
            assert!(parts.iter().all(|of| of[0] == "00" && of[1] == parts[0][1] && of[3] == "02"), "{way}: {parts:?}");
            assert_eq!((ids.len(), parts[0][1].len()), (4, 32), "{way}: {parts:?}");
            assert_ne!(parts[0][1], "0af7651916cd43dd8448eb211c80319c", "{way}");
            assert_eq!((&came[1][1][0][1], &came[1][1][1][1]), (&json!([]), &json!([])), "{way}: the state is dropped");
        }
        let told = client.call::<Value>("told", ()).await.unwrap();
        assert_eq!(told, json!([[], []]), "{way}: outside of a call no trace is recorded");
    }
}

/// The baggage goes with the calls of a client that passes it on, and no other header does.
#[tokio::test]
async fn baggage_is_passed_on_where_the_client_says_so() {
    let asked = Foreign::answering(foreign::ret("7")).await;
    let (plain, passing) = (asked.client(), asked.client().pass_on_baggage(true));
    let own = passing.clone();
    let call = |client: Client| {
        move || {
            let client = client.clone();
            async move { client.call::<i64>("inner", ()).await.unwrap() }
        }
    };
    let server =
        Server::new().function("plain", call(plain)).function("passing", call(passing)).function("own", move || {
            let client = own.clone();
            async move { client.call::<i64>("inner", ()).header("baggage", "mine=1").await.unwrap() }
        });
    let running = Running::new(server).await;
    let baggage = "baggage: plan=gold;source=crm, tenant=7\r\nbaggage: x=%20\r\nx-user: ada\r\n";
    for (name, expected) in [("plain", ""), ("passing", "plan=gold;source=crm,tenant=7,x=%20"), ("own", "mine=1")] {
        assert_eq!(raw(running.address, post_with(&format!("/rpc/{name}"), baggage, "")).await.status, 200);
        let asked = asked.requests().pop().unwrap();
        assert_eq!((asked.header("baggage"), asked.header("x-user")), (expected, ""), "{name}");
    }
    let (_tap, by_frames) = Tap::client_by_frames_calling(&running, Codec::MessagePack, "plain").await;
    by_frames.header("baggage", "tenant=8").call::<i64>("passing", ()).await.unwrap();
    assert_eq!(asked.requests().pop().unwrap().header("baggage"), "tenant=8");
}

/// Says what it is told, from within its stream.
#[rpc(readonly)]
fn streams_what_is_told() -> impl Stream<Item = Value> {
    stream::once(async {
        let inner = Client::local(&traced(&Client::new("localhost:1").unwrap())).unwrap();
        let told = inner.call::<Value>("told", ()).await.unwrap();
        json!([Context::current().unwrap().traceparent(), told[0][0]])
    })
}

#[tokio::test]
async fn calls_that_a_stream_makes_are_of_its_trace() {
    let running =
        Running::new(Server::new().method::<streams_what_is_told>().method::<crate::harness::nothing>()).await;
    let (_tap, by_frames) = Tap::client_by_frames(&running, Codec::MessagePack).await;
    for client in [running.client(), by_frames] {
        let client = client.header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        let told = streams_what_is_told::on(&client).next().await.unwrap().unwrap();
        let ids = std::collections::BTreeSet::from([span(&told[0]), span(&told[1]), "b7ad6b7169203331".to_owned()]);
        assert_eq!(ids.len(), 3);
    }
}

#[tokio::test]
async fn a_call_without_time_left_is_not_sent_on() {
    let inner = Foreign::answering(foreign::ret("7")).await;
    let client = inner.client();
    let server = Server::new().function("late", move || {
        let client = client.clone();
        async move {
            let call = Context::current().unwrap();
            call.cancellation().cancelled().await;
            client.call::<i64>("inner", ()).await.unwrap_err().to_string()
        }
    });
    let running = Running::new(server).await;
    let answer = raw(running.address, post_with("/rpc/late", "byname-timeout-ms: 20\r\n", "")).await;
    assert_eq!(answer.status, 504);
    within(running.stopped()).await.unwrap();
    assert_eq!(inner.opened(), 0);
}

#[rpc(readonly)]
async fn bottom() -> Result<(), byname::Error> {
    std::future::pending().await
}

#[rpc(readonly)]
async fn middle() -> Result<(), byname::Error>;

#[tokio::test(start_paused = true)]
async fn a_caller_hears_the_error_of_the_innermost_call_in_place_of_its_own_time_out() {
    let below = Client::local(&Server::new().method::<bottom>()).unwrap();
    let server = Server::new().function("middle", move || {
        let call = bottom::on(&below);
        async move { call.await.map_err(byname::Error::from) }
    });
    let below = Client::local(&server).unwrap();
    let server = Server::new().function("top", move || {
        let call = middle::on(&below);
        async move { call.await.map_err(byname::Error::from) }
    });
    let top = Client::local(&server).unwrap();
    let error = top.call::<()>("top", ()).timeout(Duration::from_secs(1)).await.unwrap_err();
    assert!(error.to_string().contains("`bottom` did not answer within 990ms"), "{error}");
}

#[tokio::test]
async fn a_task_of_a_function_that_is_called_locally_is_an_ordinary_one() {
    assert!(!Context::spawn(async { Context::current().is_some() }).await.unwrap());
    let outside = std::thread::spawn(|| pollster::block_on(Context::spawn(async { 7 })).unwrap());
    assert_eq!(outside.join().unwrap(), 7);
}

/// Functions whose task says how it ended.
struct Spawns(mpsc::UnboundedSender<&'static str>);

impl Spawns {
    async fn spawn(&self) {
        let say = self.0.clone();
        let task = Context::spawn(async move {
            let mut ended = Ended(Some(say.clone()));
            say.send("started").unwrap();
            Context::current().unwrap().cancellation().cancelled().await;
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            ended.0.take().unwrap().send("told, and ended").unwrap();
        });
        task.await.unwrap();
    }
}

#[rpc]
impl Spawns {
    async fn change(&self) {
        self.spawn().await;
    }

    #[rpc(readonly)]
    async fn look(&self) {
        self.spawn().await;
    }

    /// Its task goes on after its answer.
    #[rpc(readonly)]
    async fn leave(&self) {
        let say = self.0.clone();
        let (go, gone) = oneshot::channel();
        drop(Context::spawn(async move {
            let mut ended = Ended(Some(say));
            gone.await.unwrap();
            ended.0.take().unwrap().send("ended").unwrap();
        }));
        go.send(()).unwrap();
    }
}

#[tokio::test]
async fn a_task_of_a_readonly_function_is_dropped_with_it_and_that_of_another_is_told() {
    let (ended, mut ending) = mpsc::unbounded_channel();
    let server = Server::new().inject(Spawns(ended)).method::<crate::harness::nothing>();
    let local = Client::local(&server).unwrap();
    let running = Running::new(server).await;
    let (_tap, by_frames) = Tap::client_by_frames(&running, Codec::MessagePack).await;
    for client in [by_frames, local] {
        for (name, end) in [("change", "told, and ended"), ("look", "dropped")] {
            let call = tokio::spawn(client.call::<()>(name, ()));
            assert_eq!(within(ending.recv()).await, Some("started"));
            call.abort();
            assert_eq!(within(ending.recv()).await, Some(end), "{name}");
        }
        within(client.call::<()>("leave", ())).await.unwrap();
        assert_eq!(within(ending.recv()).await, Some("ended"), "an answer cancels nothing");
    }
}

#[tokio::test]
async fn the_handle_of_a_task_that_was_dropped_says_so() {
    let (say, mut said) = mpsc::unbounded_channel();
    struct Keeps(mpsc::UnboundedSender<tokio::task::JoinHandle<()>>);

    #[rpc]
    impl Keeps {
        #[rpc(readonly)]
        async fn look(&self) {
            self.0.send(Context::spawn(std::future::pending())).unwrap();
            std::future::pending().await
        }
    }

    let client = Client::local(&Server::new().inject(Keeps(say))).unwrap();
    within(client.call::<()>("look", ()).timeout(Duration::from_millis(20))).await.unwrap_err();
    let task = within(said.recv()).await.unwrap();
    assert!(within(task).await.unwrap_err().is_cancelled());
}

/// Functions that say how they ended.
struct Watched(mpsc::UnboundedSender<&'static str>);

/// Says that it was dropped, unless it ended before.
struct Ended(Option<mpsc::UnboundedSender<&'static str>>);

impl Drop for Ended {
    fn drop(&mut self) {
        if let Some(ended) = self.0.take() {
            ended.send("dropped").unwrap();
        }
    }
}

impl Watched {
    async fn wait(&self) {
        let mut ended = Ended(Some(self.0.clone()));
        self.0.send("started").unwrap();
        Context::current().unwrap().cancellation().cancelled().await;
        // Some more of the work.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        ended.0.take().unwrap().send("told, and ended").unwrap();
    }
}

#[rpc]
impl Watched {
    async fn change(&self) {
        self.wait().await;
    }

    #[rpc(readonly)]
    async fn look(&self) {
        self.wait().await;
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_cancels_a_function_and_drops_a_readonly_one() {
    let (ended, mut ending) = mpsc::unbounded_channel();
    let running = Running::new(Server::new().inject(Watched(ended))).await;
    for (name, end) in [("change", "told, and ended"), ("look", "dropped")] {
        let mut caller = Caller::to(running.address).await;
        caller.send(post(&format!("/rpc/{name}"), "")).await;
        assert_eq!(within(ending.recv()).await, Some("started"));
        drop(caller);
        assert_eq!(within(ending.recv()).await, Some(end), "{name}");
    }
    within(running.stopped()).await.unwrap();
}

#[tokio::test]
async fn a_deadline_cancels_a_function_and_drops_a_readonly_one() {
    let (ended, mut ending) = mpsc::unbounded_channel();
    let server = Server::new().inject(Watched(ended));
    let local = Client::local(&server).unwrap();
    let running = Running::new(server).await;
    for client in [running.client(), local] {
        for (name, end) in [("change", "told, and ended"), ("look", "dropped")] {
            let error = client.call::<()>(name, ()).timeout(Duration::from_millis(20)).await.unwrap_err();
            assert_eq!(error.executed(), byname::Executed::Unknown);
            assert_eq!(within(ending.recv()).await, Some("started"));
            assert_eq!(within(ending.recv()).await, Some(end), "{name}");
        }
    }
}

/// Each of these is still at work at its deadline.
struct AtWork(std::sync::Mutex<std::sync::mpsc::Receiver<()>>);

#[rpc]
impl AtWork {
    #[rpc(timeout = "20ms")]
    async fn changes(&self) {
        std::future::pending().await
    }

    #[rpc(readonly, timeout = "20ms")]
    async fn reads(&self) {
        std::future::pending().await
    }

    #[rpc(readonly, blocking, timeout = "20ms")]
    fn reads_on_a_thread(&self) {
        self.0.lock().unwrap().recv().unwrap();
    }

    #[rpc(timeout = "20ms")]
    async fn prepares_a_stream(&self) -> impl Stream<Item = u64> {
        std::future::pending::<()>().await;
        stream::empty()
    }

    #[rpc(timeout = "20ms")]
    fn streams(&self) -> impl Stream<Item = u64> {
        stream::pending()
    }
}

#[tokio::test]
async fn the_error_at_the_deadline_says_whether_the_function_was_stopped() {
    let (release, released) = std::sync::mpsc::channel();
    let client = Client::local(&Server::new().inject(AtWork(std::sync::Mutex::new(released)))).unwrap();
    let (stopped, running) = ("it was stopped", "it was asked to stop and may still be running");
    for (name, state) in [("changes", running), ("reads", stopped), ("reads_on_a_thread", running)] {
        let error = within(client.call::<()>(name, ())).await.unwrap_err();
        let expected = format!("`{name}` did not answer within 20ms; {state}. Allow more time");
        assert!(error.to_string().contains(&expected), "{error}");
    }
    for (name, state) in [("prepares_a_stream", running), ("streams", stopped)] {
        let error = within(client.stream::<u64>(name, ()).next()).await.unwrap().unwrap_err();
        let expected = format!("`{name}` did not answer within 20ms; {state}. Allow more time");
        assert!(error.to_string().contains(&expected), "{error}");
    }
    release.send(()).unwrap();
}

#[tokio::test]
async fn a_call_that_is_dropped_within_the_process_is_cancelled_too() {
    let (ended, mut ending) = mpsc::unbounded_channel();
    let client = Client::local(&Server::new().inject(Watched(ended))).unwrap();
    for (name, end) in [("change", "told, and ended"), ("look", "dropped")] {
        let call = tokio::spawn(client.call::<()>(name, ()));
        assert_eq!(within(ending.recv()).await, Some("started"));
        call.abort();
        assert_eq!(within(ending.recv()).await, Some(end), "{name}");
    }
}

#[tokio::test]
async fn a_call_whose_caller_left_before_it_was_complete_is_not_run() {
    let counter = Arc::new(crate::harness::Counter::default());
    let running = Running::new(Server::new().inject(Arc::clone(&counter))).await;
    for start in [
        "POST /rpc/bump HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n\r\n[1",
        "POST /rpc/bump HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n",
        "POST /rpc/bump HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n3\r\n[1]\r\n",
        "POST /rpc/bump HTTP/1.1\r\nhost: localhost\r\n",
    ] {
        Caller::to(running.address).await.send(start).await;
    }
    assert_eq!(raw(running.address, post("/rpc/bump", "[100]")).await.body, "100");
    within(running.stopped()).await.unwrap();
    assert_eq!(counter.total(), 100);
}

#[tokio::test]
async fn a_cancelled_function_still_has_its_context() {
    let (say, said) = oneshot::channel();
    let say = Mutex::new(Some(say));
    let server = Server::new().function("f", move || {
        let say = say.lock().unwrap().take().unwrap();
        async move {
            Context::current().unwrap().cancellation().cancelled().await;
            let call = Context::current().map(|call| call.header("x-user").map(str::to_owned));
            say.send(call).unwrap();
        }
    });
    let running = Running::new(server).await;
    let headers = "x-user: ada\r\nbyname-timeout-ms: 20\r\n";
    assert_eq!(raw(running.address, post_with("/rpc/f", headers, "")).await.status, 504);
    assert_eq!(within(said).await.unwrap(), Some(Some("ada".into())));
}
