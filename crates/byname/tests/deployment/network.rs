//! Networks that fail silently: packets are lost, delayed, duplicated and reordered, and no peer learns that the other is gone.
//!
//! `cargo test --test deployment -- --ignored network::`, as root on Linux, where `unshare`, `ip` and python3 are installed.
//! Each test runs once more as a process in a network namespace of its own, with `network/wire.py` for the wire.
#![cfg(target_os = "linux")]

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Output, Stdio};
use std::time::Duration;

use crate::harness::foreign::{during, skip};
use crate::harness::peer::{Peer, call};
use crate::harness::{Caller, Gate, Log, Running, everything, post, within};
use byname::{CallError, Client, ClientBuilder, Code, Context, Error, Executed, Server, Transport, rpc};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::runtime::Runtime;
use tokio::task::yield_now;

/// By this in its environment a test knows that it is the one in a network of its own.
const INSIDE: &str = "BYNAME_TEST_NETWORK";

/// Where servers listen, and where clients find them.
const HERE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// A deadline that passes while a test waits for it.
const SOON: Duration = Duration::from_millis(50);

/// How long the slowest test may take.
const PATIENCE: Duration = Duration::from_secs(180);

// The network.

/// The wire between all clients and all servers of a test.
struct Wire {
    _child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Wire {
    /// Runs `test` once more, in a network of its own, and waits for its end: then this is `None`.
    async fn of(test: &str) -> Option<Self> {
        // Where Debian has `ip`, which is not in every user's path.
        let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
        if std::env::var_os(INSIDE).is_some() {
            return Some(Self::begin(&path).await);
        }
        let mut command = Command::new("unshare");
        command.arg("--net").arg(std::env::current_exe().unwrap());
        command.args(["--exact", &format!("network::{test}"), "--include-ignored", "--nocapture"]);
        let alone = command
            .env(INSIDE, "")
            .env("PATH", path)
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let ended = tokio::time::timeout(PATIENCE, alone).await.unwrap_or_else(|_| panic!("{test} takes too long"));
        let Output { status, stdout, stderr } = ended.expect("`unshare` must be installed for this test");
        let said = [stdout, stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
        assert!(status.success() && said.contains("1 passed"), "{test}, in a network of its own: {status}\n{said}");
        None
    }

    async fn begin(path: &str) -> Self {
        let mut command = Command::new("python3");
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/deployment/network/wire.py")).env("PATH", path);
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn();
        let mut child = spawned.expect("python3 must be installed for this test");
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut wire = Self { _child: child, stdin, lines: BufReader::new(stdout).lines() };
        wire.says("ready").await;
        wire
    }

    /// What becomes of packets from now on.
    async fn is(&mut self, mode: &str) {
        self.stdin.write_all(format!("{mode}\n").as_bytes()).await.unwrap();
        self.says(mode).await;
    }

    async fn says(&mut self, words: &str) {
        let line = within(self.lines.next_line()).await.unwrap();
        assert_eq!(line.as_deref(), Some(words), "the wire has ended");
    }
}

async fn serve(server: Server) -> Running {
    Running::at(server.method::<way>(), SocketAddr::from((HERE, 0))).await
}

fn client(port: u16, transport: Transport) -> ClientBuilder {
    Client::builder(format!("{THERE}:{port}/rpc")).transport(transport)
}

/// A server or a client whose process has died, as far as its peers can know: its sockets are closed by nobody but the
/// kernel.
struct Doomed(Option<Runtime>);

impl Doomed {
    fn new() -> Self {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        Self(Some(runtime.worker_threads(1).enable_all().build().unwrap()))
    }

    async fn run<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> T {
        within(self.0.as_ref().unwrap().spawn(future)).await.unwrap()
    }

    /// Returns once it is dead.
    async fn dies(mut self) {
        let runtime = self.0.take().unwrap();
        within(tokio::task::spawn_blocking(move || drop(runtime))).await.unwrap();
    }
}

impl Drop for Doomed {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// How many sockets this process has.
fn sockets() -> usize {
    let targets = fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}

async fn until_sockets_are(count: usize) {
    let open = async {
        while sockets() != count {
            yield_now().await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(20), open).await.is_err() {
        panic!("{} sockets are open instead of {count}", sockets());
    }
}

/// Lets so much time pass for this runtime, and everybody act in between.
async fn pass(seconds: usize) {
    for _ in 0..seconds {
        skip(Duration::from_secs(1)).await;
        for _ in 0..10 {
            yield_now().await;
        }
    }
}

/// As long as it takes to ask a peer whether it is there, and to give it up.
const KEEPALIVE: usize = 42;

/// What this call came by: every request of HTTP says what host it is for.
#[rpc(readonly)]
async fn way() -> String {
    if Context::current().unwrap().header("host").is_some() { "http" } else { "frames" }.into()
}

/// Calls until calls go by frames.
async fn gone_over(client: &Client) {
    within(async {
        while way::on(client).await.unwrap() != "frames" {
            yield_now().await;
        }
    })
    .await;
}

/// How a call fails that nobody answers for a while.
async fn unanswered(client: &Client) -> (Code, Executed) {
    how(client.call::<i64>("add", (1, 2)).timeout(SOON).await)
}

fn how<T: std::fmt::Debug>(failed: Result<T, CallError<Value>>) -> (Code, Executed) {
    let failed: Error = failed.unwrap_err().rpc().cloned().expect("it is ours");
    (failed.code(), failed.executed())
}

async fn answered(client: &Client) {
    assert_eq!(within(client.call::<i64>("add", (1, 2)).into_future()).await.unwrap(), 3);
}

const MAY_HAVE_RUN: (Code, Executed) = (Code::DeadlineExceeded, Executed::Unknown);
const WAS_NOT_SENT: (Code, Executed) = (Code::DeadlineExceeded, Executed::No);
const LONG: Duration = Duration::from_secs(600);

// A black hole: nothing comes through in either direction, and nobody is told.

#[ignore = "needs root and a network namespace; .ci/run runs it"]
#[tokio::test]
async fn in_a_black_hole_calls_by_frames_end_at_their_deadline_and_keepalive_finds_it() {
    let test = "in_a_black_hole_calls_by_frames_end_at_their_deadline_and_keepalive_finds_it";
    let Some(mut wire) = Wire::of(test).await else { return };
    let mut log = Log::new();
    let (gate, handle) = Gate::new();
    let running = serve(everything().inject(gate)).await;
    let listening = sockets();
    let client = client(running.address.port(), Transport::Frames).build().unwrap();
    gone_over(&client).await;
    // Both ends of the connection of frames: none of HTTP is kept beside it.
    until_sockets_are(listening + 2).await;
    let mut held = Box::pin(client.call::<bool>("pass", ()).timeout(LONG).into_future());
    during(&mut held, handle.started).await.unwrap();

    wire.is("none").await;
    assert_eq!(unanswered(&client).await, MAY_HAVE_RUN);
    pass(KEEPALIVE).await;
    assert_eq!(how(within(held).await), (Code::Unavailable, Executed::Unknown));
    handle.release.send(()).unwrap();
    assert!(within(handle.ended).await.unwrap(), "the function is told that its caller is gone");
    until_sockets_are(listening).await;
    let lines = log.lines().concat();
    for end in ["a connection of frames with", "a connection of frames ended"] {
        assert!(lines.contains(end), "{end}: {lines}");
    }
    assert_eq!(unanswered(&client).await, WAS_NOT_SENT);

    wire.is("whole").await;
    answered(&client).await;
    gone_over(&client).await;
    drop(client);
    until_sockets_are(listening).await;
}

#[ignore = "needs root and a network namespace; .ci/run runs it"]
#[tokio::test]
async fn in_a_black_hole_calls_over_http_end_at_their_deadline_and_nothing_leaks() {
    let test = "in_a_black_hole_calls_over_http_end_at_their_deadline_and_nothing_leaks";
    let Some(mut wire) = Wire::of(test).await else { return };
    let mut log = Log::new();
    let (gate, handle) = Gate::new();
    let running = serve(everything().inject(gate).limits(|limits| limits.idle = Duration::from_secs(10))).await;
    let listening = sockets();
    let client = client(running.address.port(), Transport::Http).build().unwrap();
    let mut held = Box::pin(client.call::<bool>("pass", ()).timeout(Duration::from_secs(20)).into_future());
    during(&mut held, handle.started).await.unwrap();
    answered(&client).await;

    wire.is("none").await;
    assert_eq!(unanswered(&client).await, MAY_HAVE_RUN);
    assert_eq!(unanswered(&client).await, WAS_NOT_SENT);
    pass(20).await;
    assert_eq!(how(within(held).await), MAY_HAVE_RUN);
    handle.release.send(()).unwrap();
    assert!(within(handle.ended).await.unwrap(), "the function is told that its time is over");
    // `Limits::abandoned` closes the client's ends, `Limits::idle` those of the server.
    pass(12).await;
    log.until("`Limits::idle`").await;
    until_sockets_are(listening).await;

    wire.is("whole").await;
    answered(&client).await;
    drop(client);
    until_sockets_are(listening).await;
}

// A half-open connection: the other end is gone, and neither FIN nor RST arrives.

#[ignore = "needs root and a network namespace; .ci/run runs it"]
#[tokio::test]
async fn keepalive_detects_a_silently_lost_server_of_frames() {
    let test = "keepalive_detects_a_silently_lost_server_of_frames";
    let Some(mut wire) = Wire::of(test).await else { return };
    let mut log = Log::new();
    let doomed = Doomed::new();
    let (gate, handle) = Gate::new();
    let running = doomed.run(async { serve(everything().inject(gate)).await }).await;
    let client = client(running.address.port(), Transport::Frames).build().unwrap();
    gone_over(&client).await;
    let mut held = Box::pin(client.call::<bool>("pass", ()).timeout(LONG).into_future());
    during(&mut held, handle.started).await.unwrap();

    wire.is("endless").await;
    doomed.dies().await;
    let left = sockets();
    assert_eq!(unanswered(&client).await, MAY_HAVE_RUN);
    pass(KEEPALIVE).await;
    assert_eq!(how(within(held).await), (Code::Unavailable, Executed::Unknown));
    log.until("the server no longer answers").await;
    until_sockets_are(left - 1).await;

    let again = Running::at(everything().method::<way>(), running.address).await;
    let listening = sockets();
    answered(&client).await;
    gone_over(&client).await;
    wire.is("whole").await;
    drop(client);
    // `Limits::abandoned` closes what may still wait for an answer of the first.
    pass(6).await;
    until_sockets_are(listening).await;
    drop(again);
}

#[ignore = "needs root and a network namespace; .ci/run runs it"]
#[tokio::test]
async fn calls_to_a_silently_lost_http_server_end_at_their_deadline() {
    let test = "calls_to_a_silently_lost_http_server_end_at_their_deadline";
    let Some(mut wire) = Wire::of(test).await else { return };
    let doomed = Doomed::new();
    let running = doomed.run(async { serve(everything()).await }).await;
    let client = client(running.address.port(), Transport::Http).build().unwrap();
    answered(&client).await;

    wire.is("endless").await;
    doomed.dies().await;
    let left = sockets();
    let again = Running::at(everything().method::<way>(), running.address).await;
    assert_eq!(unanswered(&client).await, MAY_HAVE_RUN);
    answered(&client).await;
    // By now `Limits::abandoned` has closed the dead one; the other is a pair, and there is a listener again.
    pass(6).await;
    until_sockets_are(left - 1 + 2 + 1).await;
    drop((client, again));
}

#[ignore = "needs root and a network namespace; .ci/run runs it"]
#[tokio::test]
async fn keepalive_and_idle_detect_silently_lost_clients() {
    let test = "keepalive_and_idle_detect_silently_lost_clients";
    let Some(mut wire) = Wire::of(test).await else { return };
    let mut log = Log::new();
    let (gate, handle) = Gate::new();
    let running = serve(everything().inject(gate).limits(|limits| limits.idle = Duration::from_secs(30))).await;
    let listening = sockets();
    let there = SocketAddr::from((THERE, running.address.port()));
    let mut by_frames = Peer::calling(there, "pass").await;
    by_frames.say(call(0, 1, "[]")).await;
    within(handle.started).await.unwrap();
    let mut over_http = Caller::to(there).await;
    over_http.ask(post("/rpc/add", "[1,2]")).await;
    assert_eq!(sockets(), listening + 4);

    wire.is("endless").await;
    drop((by_frames, over_http));
    assert_eq!(sockets(), listening + 2, "the server knows nothing of it");
    pass(KEEPALIVE).await;
    until_sockets_are(listening).await;
    let lines = log.lines().concat();
    for end in ["`Limits::idle`", "a connection of frames ended"] {
        assert!(lines.contains(end), "{end}: {lines}");
    }
    handle.release.send(()).unwrap();
    assert!(within(handle.ended).await.unwrap(), "the function is told that its caller is gone");
}

// A rough network.

#[ignore = "needs root and a network namespace; .ci/run runs it"]
#[tokio::test]
async fn over_a_rough_network_no_reply_by_frames_reaches_another_call() {
    let test = "over_a_rough_network_no_reply_by_frames_reaches_another_call";
    let Some(mut wire) = Wire::of(test).await else { return };
    let running = serve(everything()).await;
    let client = client(running.address.port(), Transport::Frames).build().unwrap();
    gone_over(&client).await;
    wire.is("rough").await;
    each_gets_its_own(&client, 128, 8).await;
    assert_eq!(way::on(&client).await.unwrap(), "frames");
}

#[ignore = "needs root and a network namespace; .ci/run runs it"]
#[tokio::test]
async fn over_a_rough_network_no_reply_over_http_reaches_another_call() {
    let test = "over_a_rough_network_no_reply_over_http_reaches_another_call";
    let Some(mut wire) = Wire::of(test).await else { return };
    let running = serve(everything()).await;
    // Fewer connections than callers, so that each bears many calls.
    let builder = client(running.address.port(), Transport::Http).limits(|limits| limits.connections = 48);
    let client = builder.build().unwrap();
    wire.is("rough").await;
    each_gets_its_own(&client, 64, 10).await;
}

/// So many callers that make so many calls each, one after the other. Every call has a number of its own, some are large,
/// and some are given up before their replies can come, which then must reach nobody.
async fn each_gets_its_own(client: &Client, callers: usize, calls: usize) {
    let callers = (0..callers).map(|caller| {
        let client = client.clone();
        tokio::spawn(async move {
            let mut given_up = 0;
            for n in 0..calls {
                let number = caller * calls + n;
                let size = if number.is_multiple_of(256) { 100_000 } else { number % 500 };
                let value = Value::from(format!("{number} {}", "x".repeat(size)));
                if number % 5 == 1 {
                    let failed = client.call::<Value>("echo", (value,)).timeout(SOON).await;
                    assert_eq!(how(failed).0, Code::DeadlineExceeded);
                    given_up += 1;
                    continue;
                }
                let same = client.call::<Value>("echo", (value.clone(),)).timeout(PATIENCE).await.unwrap();
                assert!(same == value, "{number} got the answer of another: {:.20}", same.to_string());
            }
            given_up
        })
    });
    let mut given_up = 0;
    for caller in callers.collect::<Vec<_>>() {
        given_up += caller.await.unwrap();
    }
    assert!(given_up > 0);
}
