//! A server that is changed while it runs.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use crate::harness::unix::TemporaryDirectory;
use crate::harness::{Log, within};
use byname::{Client, Code, Executed, Server, Transport, rpc};
use tokio::sync::{Notify, mpsc};
use tokio::task::yield_now;

/// A function that says when it runs, and waits until it may end.
struct Reports {
    runs: mpsc::UnboundedSender<()>,
    ends: Arc<Notify>,
}

#[rpc(prefix = "reports")]
impl Reports {
    async fn build(&self) {
        self.runs.send(()).unwrap();
        self.ends.notified().await;
    }
}

#[rpc]
async fn quick() -> u8 {
    1
}

fn server() -> (Server, mpsc::UnboundedReceiver<()>, Arc<Notify>) {
    let (runs, running) = mpsc::unbounded_channel();
    let ends = Arc::new(Notify::new());
    (Server::new().inject(Reports { runs, ends: Arc::clone(&ends) }).method::<quick>(), running, ends)
}

fn client(address: impl ToString, transport: Transport) -> Client {
    let client = Client::builder(address.to_string()).transport(transport).build().unwrap();
    client.policy("*", |policy| policy.attempts = 1)
}

#[tokio::test]
async fn the_limit_of_calls_in_flight_is_changed_while_they_run() {
    for transport in [Transport::Http, Transport::Frames] {
        let (server, mut runs, ends) = server();
        let bound = server.limits(|limits| limits.in_flight = 2).serve("127.0.0.1:0").bind().await.unwrap();
        let (handle, client) = (bound.handle(), client(bound.local_addr(), transport));
        let serving = tokio::spawn(bound.into_future());
        let reports = Reports::on(&client);
        let mut calls = Vec::new();
        for _ in 0..2 {
            calls.push(tokio::spawn(reports.build().into_future()));
            within(runs.recv()).await.unwrap();
        }
        let refused = reports.build().await.unwrap_err();
        assert_eq!((refused.code(), refused.executed()), (Code::ResourceExhausted, Executed::No));
        handle.change_limits(|limits| limits.in_flight = 3).unwrap();
        assert_eq!(handle.limits().in_flight, 3);
        calls.push(tokio::spawn(reports.build().into_future()));
        within(runs.recv()).await.unwrap();
        // Fewer than run: none is stopped, and none is admitted.
        handle.change_limits(|limits| limits.in_flight = 1).unwrap();
        let refused = reports.build().await.unwrap_err();
        assert!(refused.to_string().contains("1 calls are in flight, which is `Limits::in_flight`"), "{refused}");
        ends.notify_waiters();
        for call in calls {
            within(call).await.unwrap().unwrap();
        }
        serving.abort();
    }
}

#[tokio::test]
async fn a_limit_that_can_not_be_changed_is_named_and_nothing_is_changed() {
    let (server, ..) = server();
    let handle = server.into_service().unwrap().handle();
    let why = handle.change_limits(|limits| (limits.in_flight, limits.message) = (7, 1)).unwrap_err();
    assert!(why.message().starts_with("`Limits::message` can't be changed while the server runs; "), "{why}");
    assert_eq!(handle.limits().in_flight, 10_000);
    handle.change_limits(|limits| limits.drain = Duration::from_secs(7)).unwrap();
    assert_eq!(handle.limits().drain, Duration::from_secs(7));
}

#[tokio::test]
async fn a_function_is_closed_for_maintenance_and_opened_again() {
    let (server, ..) = server();
    let bound = server.serve("127.0.0.1:0").bind().await.unwrap();
    let (handle, address) = (bound.handle(), bound.local_addr());
    let serving = tokio::spawn(bound.into_future());
    for transport in [Transport::Http, Transport::Frames] {
        let client = client(&address, transport);
        assert_eq!(quick::on(&client).await, Ok(1));
        handle.close("quick", Duration::from_secs(30)).unwrap();
        assert_eq!(handle.closed(), ["quick"]);
        let refused = quick::on(&client).await.unwrap_err();
        assert_eq!((refused.code(), refused.executed()), (Code::Unavailable, Executed::No));
        assert_eq!(refused.retry_after(), Some(Duration::from_secs(30)));
        assert!(refused.to_string().contains("`quick` is closed for maintenance; try again in 30s"), "{refused}");
        assert_eq!(handle.open("quick"), Ok(true));
        assert_eq!(quick::on(&client).await, Ok(1));
    }
    let why = handle.close("orders.*", Duration::ZERO).unwrap_err();
    assert_eq!(
        why.message(),
        "`orders.*` matches no function of the server; expected the name of one, or a pattern such as `reports.*`"
    );
    serving.abort();
}

#[tokio::test(start_paused = true)]
async fn a_file_changes_the_server_and_what_is_wrong_in_it_is_logged_once() {
    let mut log = Log::new();
    let (server, ..) = server();
    let handle = server.into_service().unwrap().handle();
    let directory = TemporaryDirectory::new();
    let path = directory.path().join("limits");
    let following = tokio::spawn(handle.follow_file(path.to_str().unwrap()));
    let a_while = async || {
        tokio::time::advance(Duration::from_millis(100)).await;
        yield_now().await;
    };
    let in_flight = async |expected: usize| {
        while handle.limits().in_flight != expected {
            a_while().await;
        }
    };
    fs::write(&path, "in_flight = 5\nclose reports.* 10s\n").unwrap();
    in_flight(5).await;
    assert_eq!(handle.closed(), ["reports.*"]);
    fs::write(&path, "in_flight = 6\nclose orders.* 10s\n").unwrap();
    let mut warnings = Vec::new();
    while warnings.is_empty() {
        a_while().await;
        warnings = log.lines().into_iter().filter(|line| line.contains("`orders.*` matches no function")).collect();
    }
    assert_eq!((handle.limits().in_flight, handle.closed().len()), (5, 1));
    fs::write(&path, "# nothing\n").unwrap();
    in_flight(10_000).await;
    assert!(!log.lines().iter().any(|line| line.contains("matches no function")), "once is enough");
    assert_eq!(handle.closed().len(), 0);
    // Only the file could open what it has closed.
    fs::write(&path, "in_flight = 7\nclose reports.* 10s\n").unwrap();
    in_flight(7).await;
    assert_eq!(handle.closed().len(), 1);
    following.abort();
    assert!(following.await.unwrap_err().is_cancelled());
    assert_eq!((handle.closed().len(), handle.limits().in_flight), (0, 7));
}
