//! The life of a server, from binding to draining.

mod harness;

use std::sync::{Arc, Barrier};
use std::time::Duration;

use byname::{Client, Code, Error, Executed, Fake, Server, rpc, server};
use futures_util::future::join_all;
use harness::foreign::skip;
use harness::frames::{self, Http2};
use harness::peer::{self, Peer};
use harness::{Caller, Counter, Gate, Log, Process, Raw, Running, add, everything, get, post, raw, within};
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

fn one() -> Server {
    Server::new().method::<add>()
}

/// Waits until nothing listens at an address any more.
async fn refused(address: std::net::SocketAddr) {
    within(async { while TcpStream::connect(address).await.is_ok() {} }).await;
}

/// That this is what a connection without a call ends with.
fn said_goodbye(answer: &Raw) {
    let error = &answer.json()["err"];
    assert_eq!((answer.status, answer.header("connection")), (408, "close"), "{answer:?}");
    assert_eq!((&error["code"], &error["executed"]), (&json!("unavailable"), &json!("no")), "{answer:?}");
    assert_eq!(answer.header("byname-protocol"), "1");
}

#[tokio::test]
async fn binding_tells_the_address_and_takes_connections_before_it_serves() {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let bound = one().serve("127.0.0.1:0").until(async { drop(stopped.await) }).bind().await.unwrap();
    let address = bound.local_addr().socket_addr().unwrap();
    assert_ne!(address.port(), 0);
    let mut caller = Caller::to(address).await;
    caller.send(post("/rpc/add", "[1,2]")).await;
    let served = tokio::spawn(bound.into_future());
    assert_eq!(caller.answer().await.body, "3");
    drop(stop);
    within(served).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_name_an_address_and_a_bound_listener_all_serve() {
    let blocking = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let expected = [blocking.local_addr().unwrap(), listener.local_addr().unwrap()];
    let bound = [one().serve(blocking).bind().await.unwrap(), one().serve(listener).bind().await.unwrap()];
    assert_eq!([bound[0].local_addr(), bound[1].local_addr()], expected.map(byname::Address::from));
    let free: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    let more = [
        one().serve(free).bind().await.unwrap(),
        one().serve(String::from("localhost:0")).bind().await.unwrap(),
        one().serve("[::1]:0").bind().await.unwrap_or(one().serve(free).bind().await.unwrap()),
    ];
    for bound in bound.into_iter().chain(more) {
        let address = bound.local_addr().socket_addr().unwrap();
        let served = tokio::spawn(bound.into_future());
        assert_eq!(raw(address, post("/rpc/add", "[1,2]")).await.body, "3");
        served.abort();
    }
}

#[tokio::test]
async fn the_error_names_an_address_that_cannot_be_bound() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = one().serve(address.to_string()).await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::Unavailable, Executed::No));
    assert!(error.message().contains(&address.to_string()) && error.message().contains("port 0"), "{error}");
    let error = one().serve(address).await.unwrap_err();
    assert!(error.message().contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn the_error_about_a_mistaken_address_says_what_to_write() {
    let port = "expected 127.0.0.1:9130 for callers on this machine, or 0.0.0.0:9130 for all";
    let host_and_port = "expected host:port, such as 127.0.0.1:8080";
    for (address, words) in [
        (":9130", port),
        ("9130", port),
        ("localhost", host_and_port),
        ("[::1]", host_and_port),
        ("", host_and_port),
        ("http://localhost:9130", "it has a scheme"),
        ("localhost:9130/rpc", "`Server::endpoint`"),
        ("localhost: 9130", "it has a space"),
        ("localhost:http", "its port is not a number up to 65535"),
        ("localhost:65536", "its port is not a number up to 65535"),
        ("localhost:+80", "its port is not a number up to 65535"),
        ("::1:80", "such as [::1]:8080"),
        (":http", "it has no host"),
    ] {
        let error = one().serve(address).await.unwrap_err();
        assert_eq!((error.code(), error.executed()), (Code::InvalidArgument, Executed::No), "{address}");
        assert!(error.message().contains(words), "{address}: {error}");
    }
}

/// Whether this machine has IPv6.
fn has_ipv6() -> bool {
    std::net::TcpListener::bind("[::1]:0").is_ok()
}

#[tokio::test]
async fn localhost_is_both_of_its_addresses() {
    let expected = if has_ipv6() { vec!["127.0.0.1", "::1"] } else { vec!["127.0.0.1"] };
    let bound = one().serve("localhost:0").until(std::future::pending()).bind().await.unwrap();
    let addresses: Vec<_> = bound.local_addrs().iter().filter_map(byname::Address::socket_addr).collect();
    assert_eq!(addresses.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>(), expected);
    assert!(addresses.iter().all(|address| Some(address.port()) == bound.local_addr().port()));
    let served = tokio::spawn(bound.into_future());
    for address in addresses {
        assert_eq!(raw(address, post("/rpc/add", "[1,2]")).await.body, "3", "{address}");
    }
    served.abort();
}

#[tokio::test]
async fn localhost_does_not_start_where_one_of_its_addresses_is_taken() {
    for taken in ["127.0.0.1:0", "[::1]:0"].into_iter().take(if has_ipv6() { 2 } else { 1 }) {
        let held = std::net::TcpListener::bind(taken).unwrap();
        let taken = held.local_addr().unwrap();
        let error = one().serve(format!("localhost:{}", taken.port())).await.unwrap_err();
        assert!(error.message().contains(&taken.to_string()), "{error}");
    }
}

#[tokio::test]
async fn the_error_about_an_unreachable_endpoint_says_what_to_write() {
    for (path, words) in [("/ü", "`/%C3%BC`"), ("a b", "`/a%20b`"), ("/rpc?x", "`/rpc%3Fx`"), ("/../rpc", "`..`")] {
        let error = one().endpoint(path).serve("127.0.0.1:0").await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.message().contains(words), "{error}");
        let error = one().endpoint(path).into_service().unwrap_err();
        assert!(error.message().contains(words), "{error}");
    }
    let running = Running::new(one().endpoint("/%C3%BC")).await;
    assert_eq!(raw(running.address, post("/%C3%BC/add", "[1,2]")).await.body, "3");
    let client = Client::new(format!("{}/%C3%BC", running.address)).unwrap();
    assert_eq!(add::on(&client, 1, 2).await.unwrap(), 3);
}

#[tokio::test]
async fn a_server_without_functions_does_not_start() {
    let error = Server::new().serve("127.0.0.1:0").await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert!(error.message().contains(".method::<f>()") && error.message().contains(".inject("), "{error}");
}

#[rpc(name = "other.add")]
async fn renamed() {}

struct Adder;

#[rpc]
impl Adder {
    async fn add(&self, a: i64, b: i64) -> i64 {
        a + b
    }
}

/// A contract, one type that implements it, and one of any type, which nothing can know before there is one.
#[rpc(prefix = "books")]
trait Books {
    #[rpc(alias = "one")]
    async fn first(&self) -> Result<(), Error>;
    async fn second(&self) -> Result<(), Error>;
    async fn third(&self) -> Result<(), Error>;
    async fn fourth(&self) -> Result<(), Error>;
}

struct Paper;

#[rpc]
impl Books for Paper {
    async fn first(&self) -> Result<(), Error> {
        Ok(())
    }
    async fn second(&self) -> Result<(), Error> {
        Ok(())
    }
    async fn third(&self) -> Result<(), Error> {
        Ok(())
    }
    async fn fourth(&self) -> Result<(), Error> {
        Ok(())
    }
}

struct Shelf<T>(T);

#[rpc]
impl<T: Send + Sync + 'static> Books for Shelf<T> {
    async fn first(&self) -> Result<(), Error> {
        Ok(())
    }
    async fn second(&self) -> Result<(), Error> {
        Ok(())
    }
    async fn third(&self) -> Result<(), Error> {
        Ok(())
    }
    async fn fourth(&self) -> Result<(), Error> {
        Ok(())
    }
}

struct Aliased;

#[rpc]
impl Aliased {
    #[rpc(alias = "add")]
    async fn plus(&self) {}
}

#[tokio::test]
async fn an_address_that_is_not_of_this_machine_fails_with_one_that_could_be() {
    // No label of a name is as long, so that no resolver asks another machine.
    for address in ["192.0.2.1:0".to_owned(), format!("{}:0", "x".repeat(64))] {
        let error = one().serve(&*address).bind().await.unwrap_err();
        assert_eq!(error.code(), Code::Unavailable, "{error}");
        assert!(error.message().contains("; expected host:port of this machine, such as 127.0.0.1:8080"), "{error}");
    }
}

#[tokio::test]
async fn names_that_collide_fail_at_the_start_and_say_where_both_are() {
    let closure = |server: Server| server.function("add", || async {});
    for (collide, places) in [
        (closure(one()), ["harness/mod.rs", "lifecycle.rs"]),
        (one().inject(Adder), ["harness/mod.rs", "lifecycle.rs"]),
        (one().inject(Aliased), ["harness/mod.rs", "lifecycle.rs"]),
        (closure(Server::new().inject(Aliased)), ["lifecycle.rs", "lifecycle.rs"]),
        (Server::new().inject(Adder).inject(Aliased), ["lifecycle.rs", "lifecycle.rs"]),
    ] {
        let error = collide.clone().serve("127.0.0.1:0").bind().await.unwrap_err();
        assert_eq!(error.code(), Code::AlreadyExists, "{error}");
        let message = error.message();
        assert!(message.contains("two functions are named `add`"), "{message}");
        let (first, second) = message.split_once(" and ").unwrap();
        for (side, place) in [first, second].into_iter().zip(places) {
            assert!(side.contains(place), "{side:?} of {message}");
        }
        assert_eq!(Client::local(&collide).unwrap_err(), error, "in a process as well");
    }
    for twice in [one().method::<add>(), Server::new().inject(Adder).inject(Adder)] {
        let error = twice.serve("127.0.0.1:0").bind().await.unwrap_err();
        assert_eq!(error.code(), Code::AlreadyExists, "{error}");
        let message = error.message();
        assert!(message.starts_with("`add` is served twice: `add("), "{message}");
        assert!(message.contains("leave one out") && !message.contains("#[rpc(name"), "{message}");
    }
    let error = one().inject_as("other", Adder).method::<renamed>().serve("127.0.0.1:0").await.unwrap_err();
    assert!(error.message().contains("two functions are named `other.add`"), "{error}");
    let apart = one().inject_as("x", Adder).inject_as("y", Adder).function("z", || async {});
    assert!(apart.serve("127.0.0.1:0").bind().await.is_ok());
}

#[tokio::test]
async fn names_out_of_the_grammar_fail_at_the_start() {
    for server in [
        one().function("no name", || async {}),
        one().function("rpc.discover", || async {}),
        one().inject_as("", Adder),
        one().inject_as("1", Adder),
        one().inject_as(&"x".repeat(128), Adder),
    ] {
        let error = server.serve("127.0.0.1:0").await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        assert!(error.message().contains("lifecycle.rs"), "{error}");
    }
}

#[tokio::test]
async fn server_takes_every_function_of_its_package_and_nothing_else() {
    let client = Client::local(&server!()).unwrap();
    assert_eq!(client.call::<i64>("add", (1, 2)).await.unwrap(), 3, "of the harness");
    client.call::<()>("other.add", ()).await.unwrap();
    for method in ["bump", "pass", "plus"] {
        let error = client.call::<()>(method, ()).await.unwrap_err();
        assert_eq!(error.rpc().unwrap().code(), Code::Unimplemented, "an instance must be injected: {error}");
    }
}

#[tokio::test]
async fn server_of_a_crate_without_functions_does_not_start() {
    for (server, name) in [(server!(serde_json), "serde_json"), (server!(serde_json, tracing), "serde_json")] {
        let error = server.serve("127.0.0.1:0").await.unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition);
        assert!(error.message().contains(&format!("crate `{name}` has no `#[rpc]` function")), "{error}");
    }
    let error = server!(serde_json).method::<add>().serve("127.0.0.1:0").await.unwrap_err();
    assert!(error.message().contains("crate `serde_json`"), "it was named, so it is missed: {error}");
}

#[tokio::test]
async fn the_log_says_what_is_served_and_from_where() {
    let mut log = Log::new();
    let running = Running::new(one().inject_as("x", Adder)).await;
    assert_eq!(raw(running.address, post("/rpc/x.add", "[1,2]")).await.body, "3");
    let lines = log.lines();
    for words in ["serving `add(a: i64, b: i64) -> i64` of byname", "serving `x.add(a: i64, b: i64) -> i64` of byname"]
    {
        assert!(lines.iter().any(|line| line.starts_with("DEBUG") && line.contains(words)), "{words}: {lines:?}");
    }
    let address = format!("serving 2 functions at http://{}/rpc", running.address);
    let seen: Vec<_> = lines.iter().filter(|line| line.starts_with("INFO")).collect();
    assert!(seen.len() == 1 && seen[0].contains(&address) && seen[0].contains("functions=add, x.add"), "{lines:?}");
    let many = (0..500).fold(Server::new(), |server, at| server.function(format!("f{at}"), || async {}));
    let _running = Running::new(many).await;
    let line = log.until("serving 500 functions").await;
    assert!(line.contains("f0, f1, ") && line.contains("f19 and 480 more"), "{line}");
}

#[tokio::test]
async fn served_methods_can_be_listed() {
    let server = one().inject_as("x", Adder).function("double", |n: i64| async move { n * 2 });
    let signatures: Vec<_> = server.methods().map(byname::Method::signature).collect();
    let expected = ["add(a: i64, b: i64) -> i64", "x.add(a: i64, b: i64) -> i64", "double(arg0: i64) -> i64"];
    assert_eq!(signatures, expected);
    assert_eq!(Server::new().methods().len(), 0);
}

#[tokio::test]
async fn the_log_names_functions_that_are_linked_and_not_served() {
    let words = "linked but not served: ";
    let mut log = Log::new();
    let all = server!()
        .inject_as("counter", Counter::default())
        .inject_as("x", Adder)
        .inject_as("y", Aliased)
        .inject_as("z", Arc::new(Paper))
        .inject_as("m", Meeting(Barrier::new(2)))
        .inject_as("gate", Gate::new().0);
    let all = Running::new(all).await;
    assert_eq!(raw(all.address, post("/rpc/add", "[1,2]")).await.body, "3");
    let lines = log.lines();
    assert!(!lines.iter().any(|line| line.contains(words)), "everything is: {lines:?}");

    // What the name in the log says makes the server complete, and a function of the same name does not.
    let other = everything().function("other.add", || async {});
    for (server, is_missing) in [(everything(), true), (everything().method::<renamed>(), false), (other, true)] {
        let running = Running::new(server).await;
        // Of the module of the harness it serves most.
        let line = log.until(words).await;
        assert!(
            line.starts_with("INFO") && line.contains("1 `#[rpc]` function is") && line.contains("`pass` at"),
            "{line}"
        );
        // Both lines are written at once.
        let others = log.lines().into_iter().find(|line| line.contains(words)).unwrap_or_default();
        let place = "`other.add` at crates/byname/tests/lifecycle.rs:";
        let how = "(add `.method::<lifecycle::renamed>()`)";
        assert_eq!(others.contains(place) && others.contains(how), is_missing, "{others}");
        assert!(!others.contains("x.add") && others.starts_with("DEBUG"), "{others}");
        within(running.stopped()).await.unwrap();
    }
    // One of many functions of a module was probably forgotten.
    let most = server!()
        .inject_as("counter", Counter::default())
        .inject_as("x", Adder)
        .inject_as("y", Aliased)
        .inject_as("z", Arc::new(Paper))
        .inject_as("gate", Gate::new().0);
    let _running = Running::new(most).await;
    let line = log.until(words).await;
    assert!(line.starts_with("INFO") && line.contains("`lifecycle::Meeting`"), "{line}");
    // A server that is mounted says so as well.
    let _service = one().into_service().unwrap();
    let line = log.until(words).await;
    assert!(line.contains("24 `#[rpc]`") && line.contains("`greet` at") && line.ends_with(" and 16 more"), "{line}");
}

#[tokio::test]
async fn the_log_names_methods_whose_instance_is_not_injected() {
    let words = "linked but not served: ";
    let mut log = Log::new();
    let adder = "`add` at crates/byname/tests/lifecycle.rs:";
    let inject = "(add `.inject(…)` with an instance of `lifecycle::Adder`)";
    let paper = "`books.first`, `books.second`, `books.third` and 1 more at crates/byname/tests/lifecycle.rs:";
    let contract = "(add `.inject(…)` with an instance of `lifecycle::Paper`)";
    let functions = || server!().inject_as("counter", Counter::default()).inject_as("gate", Gate::new().0);
    for (server, no_adder, no_contract) in [
        (functions(), true, true),
        (functions().inject_as("x", Adder), false, true),
        (functions().contract::<BooksContract, _>(Paper), true, false),
        // Another implementation of the contract is served.
        (functions().inject_as("x", Shelf(1)), true, false),
        // A test that fakes one method knows of the others.
        (functions().inject_as("x", Fake::of::<Adder>().add(|a, b| async move { a + b })), false, true),
        // Another function of the same name is not a method of the block.
        (functions().function("x.add", |a: i64| async move { a }), true, true),
    ] {
        let running = Running::new(server).await;
        let line = log.until(words).await;
        assert_eq!(line.contains(adder) && line.contains(inject), no_adder, "{line}");
        assert_eq!(line.contains(paper) && line.contains(contract), no_contract, "{line}");
        assert!(!line.contains("Shelf") && !line.contains("Counter"), "{line}");
        within(running.stopped()).await.unwrap();
    }
}

#[tokio::test]
async fn the_error_says_that_an_instance_is_not_injected_where_listing_is_on() {
    for listing in [true, false] {
        let server = Server::new().method::<add>().inject_as("x", Adder).listing(listing);
        let running = Running::new(server).await;
        for (request, hint) in [
            (
                "books.first",
                "; it is linked but not served: add `.inject(…)` with an instance of `lifecycle::Paper` to the server",
            ),
            (
                "books.one",
                "; it is linked but not served: add `.inject(…)` with an instance of `lifecycle::Paper` to the server",
            ),
            (
                "bump",
                "; it is linked but not served: add `.inject(…)` with an instance of `lifecycle::harness::Counter` to the server",
            ),
            // It is served, under another name.
            ("adder", "; did you mean `add`?"),
        ] {
            let answer = raw(running.address, post(&format!("/rpc/{request}"), "")).await;
            assert_eq!((answer.status, answer.body.contains(hint)), (404, listing), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn the_error_says_that_a_function_is_linked_and_not_served_where_listing_is_on() {
    for listing in [true, false] {
        let running = Running::new(one().listing(listing)).await;
        for (request, status) in [
            (post("/rpc/other.add", ""), 404),
            (post("/rpc", r#"{"fun":"other.add"}"#), 502),
            (post("/rpc", r#"{"jsonrpc":"2.0","method":"other.add","id":1}"#), 200),
        ] {
            let answer = raw(running.address, request).await;
            let hint = "; it is linked but not served: add `.method::<lifecycle::renamed>()` to the server";
            assert_eq!((answer.status, answer.body.contains(hint)), (status, listing), "{answer:?}");
            assert!(answer.body.contains("no function is named `other.add` here"), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn draining_lets_calls_in_flight_finish_and_takes_no_new_ones() {
    let (gate, handle) = Gate::new();
    let mut running = Running::new(everything().inject(gate)).await;
    let address = running.address;
    let mut idle = Caller::to(address).await;
    assert_eq!(idle.ask(post("/rpc/add", "[1,2]")).await.header("connection"), "");
    let mut held = Caller::to(address).await;
    held.send(post("/rpc/pass", "")).await;
    within(handle.started).await.unwrap();

    running.stop();
    refused(address).await;
    said_goodbye(&idle.answer().await);
    assert_eq!(idle.rest().await, "", "a connection without a call is closed");
    handle.release.send(()).unwrap();
    let answer = held.answer().await;
    assert_eq!((answer.body.as_str(), answer.header("connection")), ("true", "close"), "{answer:?}");
    assert_eq!(held.rest().await, "");
    within(running.stopped()).await.unwrap();
}

/// The drain counts connections. One whose client is slow must count until the client has its replies.
#[tokio::test]
async fn a_drain_waits_until_replies_by_frames_are_written() {
    const CALLS: u64 = 3;
    let long = || async { "x".repeat(3 << 20) };
    let mut running = Running::new(Server::new().function("long", long)).await;
    let mut slow = Peer::with_buffer(running.address, 4096).await;
    let greeting = [peer::frame(peer::HELLO, 0, 0, 0, peer::GREETING), peer::frame(peer::NAME, 0, 0, 0, "long")];
    let calls = (1..=CALLS).map(|id| peer::call(0, id, "[]"));
    slow.say(greeting.into_iter().chain(calls).collect::<Vec<_>>().concat()).await;
    within(slow.stream.readable()).await.unwrap();

    running.stop();
    refused(running.address).await;
    // Any number of polls is too few for a server that waits.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert!(!running.has_stopped(), "the replies are not written");
    let mut ended = Vec::new();
    loop {
        match within(slow.next()).await {
            peer::Came::Frame(frame)
                if [peer::REPLY, peer::ERROR].contains(&frame.kind) && frame.flags & peer::MORE == 0 =>
            {
                ended.push(frame.id);
            }
            peer::Came::End => break,
            _ => {}
        }
    }
    ended.sort_unstable();
    assert_eq!(ended, Vec::from_iter(1..=CALLS), "each call has its outcome");
    within(running.stopped()).await.unwrap();
}

#[tokio::test]
async fn a_server_that_drains_is_alive_and_not_ready() {
    let mut running = Running::new(everything()).await;
    let mut callers = Vec::new();
    for (path, status, body) in [("/rpc/!ready", 503, "draining\n"), ("/rpc/!live", 200, "ok\n")] {
        let mut caller = Caller::to(running.address).await;
        caller.send(&get(path)[..20]).await;
        callers.push((caller, path, status, body));
    }
    running.stop();
    refused(running.address).await;
    for (mut caller, path, status, body) in callers {
        let answer = caller.ask(&get(path)[20..]).await;
        assert_eq!((answer.status, answer.body.as_str()), (status, body));
        assert_eq!(answer.header("connection"), "close");
    }
    within(running.stopped()).await.unwrap();
}

/// Waits until a server that was told to stop says that it is not ready.
async fn not_ready(address: std::net::SocketAddr) {
    within(async { while raw(address, get("/rpc/!ready")).await.status != 503 {} }).await;
}

#[tokio::test]
async fn a_server_told_to_stop_is_not_ready_and_serves_for_the_drain_delay() {
    let mut log = Log::new();
    let server = everything().limits(|limits| limits.drain_delay = Duration::from_secs(60));
    let mut running = Running::new(server).await;
    let address = running.address;
    let mut by_frames = Peer::calling(address, "add").await;
    let mut kept = Caller::to(address).await;
    let ready = kept.ask(get("/rpc/!ready")).await;
    assert_eq!((ready.status, ready.body.as_str()), (200, "ok\n"));

    running.stop();
    not_ready(address).await;
    for id in 1..=2 {
        let ready = kept.ask(get("/rpc/!ready")).await;
        assert_eq!((ready.status, ready.body.as_str(), ready.header("connection")), (503, "draining\n", ""));
        let live = kept.ask(get("/rpc/!live")).await;
        assert_eq!((live.status, live.body.as_str()), (200, "ok\n"));
        let mut fresh = Caller::to(address).await;
        for caller in [&mut kept, &mut fresh] {
            let answer = caller.ask(post("/rpc/add", "[1,2]")).await;
            assert_eq!((answer.body.as_str(), answer.header("connection")), ("3", ""), "{answer:?}");
        }
        for peer in [&mut by_frames, &mut Peer::calling(address, "add").await] {
            peer.say(peer::call(0, id, "[1,2]")).await;
            assert_eq!(peer.frame().await.kind, peer::REPLY);
        }
        skip(Duration::from_secs(25)).await;
    }
    assert!(!log.lines().iter().any(|line| line.contains("draining: no new calls")));
    skip(Duration::from_secs(10)).await;
    refused(address).await;
    said_goodbye(&kept.answer().await);
    assert_eq!(by_frames.frame().await.kind, peer::GOAWAY);
    drop(by_frames);
    within(running.stopped()).await.unwrap();
}

#[tokio::test]
async fn a_server_without_a_drain_delay_drains_at_once() {
    let mut log = Log::new();
    let mut running = Running::new(one()).await;
    running.stop();
    log.until("draining: no new calls, 30s for those in flight").await;
    refused(running.address).await;
    within(running.stopped()).await.unwrap();
}

#[tokio::test]
async fn a_call_that_has_arrived_when_the_server_is_told_to_stop_is_answered() {
    let stopped_server = async || {
        let mut running = Running::new(everything()).await;
        let mut kept = Caller::to(running.address).await;
        assert_eq!(kept.ask(post("/rpc/add", "[1,2]")).await.body, "3");
        let mut fresh = Caller::to(running.address).await;
        let call = post("/rpc/add", "[3,4]");
        // Straight into the sockets, so that no other task comes between.
        for caller in [&mut kept, &mut fresh] {
            assert_eq!(caller.stream.try_write(call.as_bytes()).unwrap(), call.len());
        }
        running.stop();
        for caller in [&mut kept, &mut fresh] {
            let answer = caller.answer().await;
            assert_eq!((answer.body.as_str(), answer.header("connection")), ("7", "close"));
            assert_eq!(caller.rest().await, "");
        }
        within(running.stopped()).await.unwrap();
    };
    join_all((0..20).map(|_| stopped_server())).await;
}

#[tokio::test]
async fn a_call_that_crosses_the_end_of_its_connection_is_told_that_it_was_not_run() {
    let counter = Arc::new(Counter::default());
    let mut running = Running::new(Server::new().inject(Arc::clone(&counter))).await;
    let mut kept = Caller::to(running.address).await;
    assert_eq!(kept.ask(post("/rpc/bump", "[1]")).await.body, "1");
    running.stop();
    // The connection has ended on the server's side, and its end is here; the call is written all the same.
    within(kept.stream.readable()).await.unwrap();
    for _ in 0..2 {
        kept.send(post("/rpc/bump", "[1]")).await;
    }
    said_goodbye(&kept.answer().await);
    assert_eq!(within(kept.stream.read(&mut [0])).await.unwrap(), 0, "it was not reset");
    drop(kept);
    within(running.stopped()).await.unwrap();
    assert_eq!(counter.total(), 1);
}

#[tokio::test]
async fn a_peer_that_does_not_close_is_waited_for_only_shortly() {
    let mut running = Running::new(everything()).await;
    let mut kept = Caller::to(running.address).await;
    assert_eq!(kept.ask(post("/rpc/add", "[1,2]")).await.body, "3");
    let mut last = Caller::to(running.address).await;
    last.send(&post("/rpc/add", "[3,4]")[..20]).await;
    running.stop();
    refused(running.address).await;
    said_goodbye(&kept.answer().await);
    let answer = last.ask(&post("/rpc/add", "[3,4]")[20..]).await;
    assert_eq!((answer.body.as_str(), answer.header("connection")), ("7", "close"));
    // Neither is told more, and both ends are open on this side.
    assert_eq!((kept.rest().await, last.rest().await), (String::new(), String::new()));
    skip(Duration::from_secs(1)).await;
    within(running.stopped()).await.unwrap();
}

#[tokio::test]
async fn a_new_connection_may_send_a_call_while_the_server_stops() {
    for speaks in [true, false] {
        let counter = Arc::new(Counter::default());
        let mut running = Running::new(Server::new().inject(Arc::clone(&counter))).await;
        let mut fresh = Caller::to(running.address).await;
        running.stop();
        refused(running.address).await;
        if speaks {
            fresh.send(post("/rpc/bump", "[1]")).await;
        } else {
            skip(Duration::from_secs(1)).await;
        }
        let answer = fresh.answer().await;
        match answer.status {
            200 if speaks => assert_eq!((counter.total(), answer.header("connection")), (1, "close")),
            // A slow machine may have taken too long to speak.
            _ => said_goodbye(&answer),
        }
        assert_eq!(counter.total(), i64::from(answer.status == 200));
        drop(fresh);
        within(running.stopped()).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_is_dropped_leaves_no_connection_behind() {
    let bound = everything().serve("127.0.0.1:0").until(std::future::pending()).bind().await.unwrap();
    let address = bound.local_addr().socket_addr().unwrap();
    let served = tokio::spawn(bound.into_future());
    let mut kept = Caller::to(address).await;
    assert_eq!(kept.ask(post("/rpc/add", "[1,2]")).await.body, "3");
    let mut fresh = Caller::to(address).await;
    served.abort();
    said_goodbye(&kept.answer().await);
    assert_eq!(kept.rest().await, "");
    // It need not have been accepted.
    let rest = fresh.rest().await;
    assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 408"), "{rest}");
    refused(address).await;
}

#[tokio::test]
async fn a_stuck_function_ends_the_drain_at_its_limit_by_name() {
    let (gate, handle) = Gate::new();
    let (other, other_handle) = Gate::new();
    let server = Server::new().inject_as("a", gate).inject_as("b", other);
    let running = Running::new(server.limits(|limits| limits.drain = Duration::from_millis(20))).await;
    let mut callers = Vec::new();
    for name in ["a", "b"] {
        let mut caller = Caller::to(running.address).await;
        caller.send(post(&format!("/rpc/{name}.pass"), "")).await;
        callers.push(caller);
    }
    within(handle.started).await.unwrap();
    within(other_handle.started).await.unwrap();
    // One whose caller is gone counts as well.
    drop(callers.remove(0));
    let error = within(running.stopped()).await.unwrap_err();
    assert_eq!((error.code(), error.limit()), (Code::DeadlineExceeded, Some("drain")));
    assert!(error.message().contains("`a.pass` (1), `b.pass` (1)"), "{error}");
}

/// What the child of the next test runs.
async fn serve_until_told() -> Result<(), Error> {
    // It ends with a line on standard input, so that the test says when.
    let server = one().function("hold", || async {
        println!("holding");
        let line = tokio::task::spawn_blocking(|| std::io::stdin().lines().next());
        line.await.unwrap().unwrap().unwrap()
    });
    let bound = server.serve("127.0.0.1:0").bind().await?;
    println!("listening {}", bound.local_addr());
    bound.await?;
    println!("drained");
    Ok(())
}

#[cfg(unix)]
#[tokio::test]
async fn sigterm_and_sigint_drain() {
    const CHILD: &str = "BYNAME_TEST_SERVES";
    if std::env::var_os(CHILD).is_some() {
        return serve_until_told().await.unwrap();
    }
    for signal in ["TERM", "INT"] {
        let mut child = Process::run("sigterm_and_sigint_drain", CHILD, "1");
        let address = child.said("listening ").await.parse().unwrap();
        let mut held = Caller::to(address).await;
        held.send(post("/rpc/hold", "")).await;
        child.said("holding").await;

        child.signal(signal).await;
        refused(address).await;
        child.tell("released").await;
        let answer = held.answer().await;
        assert_eq!((answer.json(), answer.header("connection")), (json!("released"), "close"), "{signal}");
        child.said("drained").await;
        assert!(child.ended().await.success(), "{signal}");
    }
}

/// What the child of the next test runs.
async fn serve_with_a_delay(delay: Duration) {
    let bound = one().limits(|limits| limits.drain_delay = delay).serve("127.0.0.1:0").bind().await.unwrap();
    println!("listening {}", bound.local_addr());
    bound.await.unwrap();
    println!("drained");
}

#[cfg(unix)]
#[tokio::test]
async fn a_signal_ends_readiness_first_and_ctrl_c_in_the_delay_ends_the_process() {
    use std::os::unix::process::ExitStatusExt;
    const NAME: &str = "a_signal_ends_readiness_first_and_ctrl_c_in_the_delay_ends_the_process";
    const CHILD: &str = "BYNAME_TEST_SERVES";
    match std::env::var(CHILD).as_deref() {
        Ok("never ends") => {
            tracing_subscriber::fmt().init();
            return serve_with_a_delay(Duration::MAX).await;
        }
        Ok(_) => return serve_with_a_delay(Duration::from_millis(1)).await,
        Err(_) => {}
    }
    for signal in ["TERM", "INT"] {
        // The first answer says that signals are waited for.
        let serving = async |child: &mut Process| {
            let address = child.said("listening ").await.parse().unwrap();
            assert_eq!(raw(address, post("/rpc/add", "[1,2]")).await.body, "3");
            address
        };
        let mut child = Process::run(NAME, CHILD, "never ends");
        let address = serving(&mut child).await;
        child.signal(signal).await;
        child.said("told to stop: not ready any more, and calls are served for").await;
        not_ready(address).await;
        assert_eq!(raw(address, post("/rpc/add", "[1,2]")).await.body, "3");
        child.signal("INT").await;
        assert_eq!(child.ended().await.signal(), Some(2), "{signal}");

        let mut child = Process::run(NAME, CHILD, "ends");
        serving(&mut child).await;
        child.signal(signal).await;
        child.said("drained").await;
        assert!(child.ended().await.success(), "{signal}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn another_ctrl_c_in_the_drain_ends_the_process_and_the_log_says_so() {
    use std::os::unix::process::ExitStatusExt;
    const CHILD: &str = "BYNAME_TEST_SERVES";
    if std::env::var_os(CHILD).is_some() {
        tracing_subscriber::fmt().init();
        return serve_until_told().await.unwrap();
    }
    for (first, second, ended_by) in [("INT", "INT", Some(2)), ("TERM", "INT", Some(2)), ("TERM", "TERM", None)] {
        let mut child = Process::run("another_ctrl_c_in_the_drain_ends_the_process_and_the_log_says_so", CHILD, "1");
        let address = child.said("listening ").await.parse().unwrap();
        let mut held = Caller::to(address).await;
        held.send(post("/rpc/hold", "")).await;
        child.said("holding").await;
        child.signal(first).await;
        child.said("draining: no new calls, 30s for those in flight; another ctrl-c ends the process at once").await;
        child.signal(second).await;
        if ended_by.is_none() {
            // Orchestrators and shells may repeat it.
            child.tell("released").await;
            assert_eq!(held.answer().await.json(), json!("released"));
        }
        assert_eq!(child.ended().await.signal(), ended_by, "{first} {second}");
    }
}

/// What the child of the next test runs: a process goes on without its server.
async fn serve_and_be_aborted() {
    let bound = one().serve("127.0.0.1:0").bind().await.unwrap();
    let address = bound.local_addr().socket_addr().unwrap();
    let served = tokio::spawn(bound.into_future());
    assert_eq!(raw(address, post("/rpc/add", "[1,2]")).await.body, "3");
    served.abort();
    assert!(served.await.unwrap_err().is_cancelled());
    println!("aborted");
    std::future::pending().await
}

#[cfg(unix)]
#[tokio::test]
async fn a_process_whose_server_was_aborted_ends_by_a_signal() {
    use std::os::unix::process::ExitStatusExt;
    const CHILD: &str = "BYNAME_TEST_SERVES";
    if std::env::var_os(CHILD).is_some() {
        return serve_and_be_aborted().await;
    }
    for (signal, number) in [("TERM", 15), ("INT", 2)] {
        let mut child = Process::run("a_process_whose_server_was_aborted_ends_by_a_signal", CHILD, "1");
        child.said("aborted").await;
        child.signal(signal).await;
        assert_eq!(child.ended().await.signal(), Some(number));
    }
}

#[rpc(blocking)]
fn blocks() {
    println!("blocks began");
    std::io::stdin().lines().next();
}

/// What the child of the next test runs.
async fn serve_until_stuck() {
    let stuck = || async {
        println!("stuck began");
        std::future::pending::<()>().await;
    };
    let server = one().function("stuck", stuck).method::<blocks>();
    let server = server.limits(|limits| limits.drain = Duration::from_millis(20));
    let bound = server.serve("127.0.0.1:0").bind().await.unwrap();
    println!("listening {}", bound.local_addr());
    println!("ended {}", bound.await.unwrap_err());
}

#[cfg(unix)]
#[tokio::test]
async fn a_stuck_function_is_named_at_the_end_of_the_drain_over_http_1_and_http_2() {
    const NAME: &str = "a_stuck_function_is_named_at_the_end_of_the_drain_over_http_1_and_http_2";
    const CHILD: &str = "BYNAME_TEST_SERVES";
    if std::env::var_os(CHILD).is_some() {
        return serve_until_stuck().await;
    }
    for is_http2 in [false, true] {
        let mut child = Process::run(NAME, CHILD, "1");
        let address = child.said("listening ").await.parse().unwrap();
        let mut http1 = [Caller::to(address).await, Caller::to(address).await];
        let mut http2 = Http2::to(address, &[]).await;
        for (at, name) in ["stuck", "blocks"].into_iter().enumerate() {
            let path = format!("/rpc/{name}");
            if is_http2 {
                http2.send(frames::post(1 + 2 * at as u32, &path, "[]")).await;
            } else {
                http1[at].send(post(&path, "[]")).await;
            }
            child.said(&format!("{name} began")).await;
        }
        child.signal("TERM").await;
        if is_http2 {
            http2.until(frames::GOAWAY).await;
        }
        let error = child.said("ended ").await;
        for words in ["deadline_exceeded", "`stuck` (1), `blocks` (1)", "`Limits::drain`"] {
            assert!(error.contains(words), "{error}");
        }
        // The server has ended; tokio waits for a thread that blocks.
        child.tell("go on").await;
        assert!(child.ended().await.success());
    }
}

#[tokio::test]
async fn the_connection_and_the_server_continue_after_a_panic() {
    let mut log = Log::new();
    let server = everything().function("early", |on: bool| {
        assert!(!on, "secret");
        async {}
    });
    let running = Running::new(server).await;
    let mut caller = Caller::to(running.address).await;
    for (name, arguments) in [("panics", "[\"secret\"]"), ("early", "[true]")] {
        for _ in 0..3 {
            let answer = caller.ask(post(&format!("/rpc/{name}"), arguments)).await;
            let error = answer.json();
            assert_eq!((answer.status, &error["code"], &error["executed"]), (500, &json!("internal"), &json!("yes")));
            assert!(!answer.body.contains("secret"), "{answer:?}");
            assert!(log.until("panicked").await.contains(name));
        }
    }
    assert_eq!(caller.ask(post("/rpc/add", "[1,2]")).await.body, "3");
    within(running.stopped()).await.expect("no call is counted as being at work");
}

/// Meets a test at its barrier, twice.
struct Meeting(Barrier);

#[rpc]
impl Meeting {
    #[rpc(blocking)]
    fn meet(&self) -> u8 {
        self.0.wait();
        self.0.wait();
        7
    }

    #[rpc(blocking)]
    fn panics(&self) {
        panic!("secret")
    }
}

#[tokio::test]
async fn a_blocking_function_delays_no_other_call() {
    let meeting = Arc::new(Meeting(Barrier::new(2)));
    let running = Running::new(one().inject(Arc::clone(&meeting))).await;
    let mut held = Caller::to(running.address).await;
    held.send(post("/rpc/meet", "")).await;
    let wait = async || {
        let meeting = Arc::clone(&meeting);
        within(tokio::task::spawn_blocking(move || meeting.0.wait())).await.unwrap();
    };
    wait().await;
    // It blocks a thread now; this test and its server have only one of their own.
    assert_eq!(raw(running.address, post("/rpc/add", "[1,2]")).await.body, "3");
    wait().await;
    assert_eq!(held.answer().await.body, "7");
    assert_eq!(held.ask(post("/rpc/panics", "")).await.status, 500);
    assert_eq!(held.ask(post("/rpc/add", "[1,2]")).await.body, "3");
}

#[tokio::test]
async fn servers_in_one_process_do_not_share_anything() {
    let (first, second) = (Running::new(everything()).await, Running::new(everything()).await);
    assert_eq!(raw(first.address, post("/rpc/counter.bump", "[5]")).await.body, "5");
    assert_eq!(raw(second.address, post("/rpc/counter.total", "")).await.body, "0");
    within(first.stopped()).await.unwrap();
    assert_eq!(raw(second.address, post("/rpc/add", "[1,2]")).await.body, "3");
}
