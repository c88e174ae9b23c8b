//! Callers that close their half of an HTTP/1 connection behind their request: each is answered, for every
//! kind of call and every moment of the close. The server does not wait for callers that are gone.

use std::sync::Arc;
use std::time::Duration;

use crate::harness::{Caller, Counter, Gate, Running, everything, get, post, post_with, raw, within};
use byname::{Context, Next, Request, Server, Streaming, rpc};
use futures_util::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

/// Sends a request with the end right behind it, and gives all that comes.
async fn half_closing(running: &Running, request: impl AsRef<[u8]>) -> String {
    let mut caller = Caller::to(running.address).await;
    caller.send(request).await;
    caller.stream.shutdown().await.unwrap();
    caller.rest().await
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}")).1
}

#[rpc]
async fn slowly(by: u64) -> u64 {
    for _ in 0..by {
        tokio::task::yield_now().await;
    }
    by
}

#[rpc]
fn numbers(from: u64) -> impl Stream<Item = u64> {
    futures_util::stream::unfold(from, |next| async move {
        slowly(next).await;
        (next > 0).then(|| (next, next - 1))
    })
}

#[rpc]
async fn sum(numbers: Streaming<u64>) -> u64 {
    let mut numbers = numbers;
    let mut sum = 0;
    while let Some(number) = numbers.next().await {
        sum += slowly(number.unwrap()).await;
    }
    sum
}

fn functions() -> Server {
    everything().method::<slowly>().method::<numbers>().method::<sum>()
}

#[tokio::test]
async fn a_caller_that_half_closes_is_answered_however_it_calls() {
    let running = Running::new(functions()).await;
    let chunks = "transfer-encoding: chunked\r\n\r\n2\r\n[7\r\n1\r\n]\r\n0\r\n\r\n";
    let call = r#"{"jsonrpc":"2.0","method":"slowly","params":[7],"id":1}"#;
    let result = r#"{"jsonrpc":"2.0","result":7,"id":1}"#;
    for (request, expected) in [
        (get("/rpc/add?a=1&b=2"), "3".to_owned()),
        (post("/rpc/add", "[1,2]"), "3".into()),
        (post("/rpc/slowly", "[0]"), "0".into()),
        (post("/rpc/slowly", "[1]"), "1".into()),
        (post("/rpc/slowly", "[100]"), "100".into()),
        (post("/rpc", r#"{"fun":"slowly","args":[7]}"#), r#"{"ret":7}"#.into()),
        (format!("POST /rpc/slowly HTTP/1.1\r\nhost: localhost\r\n{chunks}"), "7".into()),
        (post("/rpc", call), result.into()),
        (post("/rpc", &format!("[{call},{call}]")), format!("[{result},{result}]")),
        (post("/rpc/sum", &"1\n2\n3\n".repeat(1000)), "6000".into()),
        (get("/rpc/!live"), "ok\n".into()),
    ] {
        for _ in 0..50 {
            assert_eq!(body(&half_closing(&running, &request).await), expected, "{request}");
        }
    }
    for _ in 0..50 {
        let items = half_closing(&running, post("/rpc/numbers", "[3]")).await;
        let lines: Vec<_> = items.lines().filter(|line| line.starts_with('{')).collect();
        assert_eq!(lines, [r#"{"item":3}"#, r#"{"item":2}"#, r#"{"item":1}"#, r#"{"end":3}"#], "{items}");
    }
}

#[tokio::test]
async fn calls_that_were_sent_ahead_of_the_end_are_all_answered() {
    let running = Running::new(functions()).await;
    let answers = half_closing(&running, post("/rpc/counter.bump", "[]").repeat(1000)).await;
    assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 1000);
    let answers = half_closing(&running, post("/rpc/slowly", "[5]").repeat(100)).await;
    assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 100);
}

#[tokio::test]
async fn an_early_refusal_reaches_a_caller_that_half_closes() {
    let running = Running::new(functions()).await;
    for request in [post_with("/rpc/add", "content-encoding: gzip\r\n", "[1,2]"), post("/elsewhere", "[1,2]")] {
        let answer = half_closing(&running, &request).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    let cut = half_closing(&running, "POST /rpc/add HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\n[1,").await;
    assert!(cut.contains(r#""executed":"no""#), "{cut}");
}

/// Says that it was dropped before its end.
struct Dropped(mpsc::UnboundedSender<&'static str>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send("dropped");
    }
}

struct Waiting(mpsc::UnboundedSender<&'static str>);

impl Waiting {
    async fn wait(&self) {
        let dropped = Dropped(self.0.clone());
        self.0.send("started").unwrap();
        std::future::pending::<()>().await;
        drop(dropped);
    }
}

#[rpc]
impl Waiting {
    #[rpc(readonly)]
    async fn look(&self) {
        self.wait().await;
    }

    #[rpc(readonly)]
    fn items(&self) -> impl Stream<Item = u8> {
        futures_util::stream::unfold(0, move |next| async move {
            if next == 1 {
                self.wait().await;
            }
            Some((next, next + 1))
        })
    }

    fn begun(&self) -> impl Stream<Item = u8> {
        futures_util::stream::unfold(0, move |next| async move {
            if next == 1 {
                self.wait().await;
            }
            Some((next, next + 1))
        })
    }

    async fn told(&self) -> String {
        self.0.send("started").unwrap();
        Context::current().unwrap().cancellation().cancelled().await;
        "told".to_owned()
    }
}

#[tokio::test]
async fn a_readonly_function_is_dropped_when_its_caller_half_closes_and_the_caller_is_told() {
    let (say, mut said) = mpsc::unbounded_channel();
    let running = Running::new(Server::new().inject(Waiting(say))).await;
    let look = r#"{"jsonrpc":"2.0","method":"look","id":1}"#;
    for (request, expected) in [
        (get("/rpc/look"), "HTTP/1.1 499 "),
        (post("/rpc/look", ""), "HTTP/1.1 499 "),
        (post("/rpc", r#"{"fun":"look"}"#), "HTTP/1.1 499 "),
        (post("/rpc", look), r#""code":-32001"#),
        (post("/rpc", &format!("[{look},{look}]")), r#""code":-32001"#),
        (get("/rpc/items"), r#"{"err":{"code":"cancelled""#),
    ] {
        let count = if request.contains("[{") { 2 } else { 1 };
        let mut caller = Caller::to(running.address).await;
        caller.send(&request).await;
        for _ in 0..count {
            assert_eq!(within(said.recv()).await, Some("started"), "{request}");
        }
        caller.stream.shutdown().await.unwrap();
        for _ in 0..count {
            assert_eq!(within(said.recv()).await, Some("dropped"), "{request}");
        }
        let answer = caller.rest().await;
        assert!(answer.contains(expected), "{request}: {answer}");
        assert!(
            answer.contains("the caller closed its half") && answer.contains(r#""executed":"unknown""#),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn a_function_of_a_half_closed_caller_is_cancelled_and_its_result_is_sent() {
    let (say, mut said) = mpsc::unbounded_channel();
    let running = Running::new(Server::new().inject(Waiting(say))).await;
    let told = r#"{"jsonrpc":"2.0","method":"told","id":1}"#;
    for (request, expected) in [
        (post("/rpc/told", ""), "\"told\"".to_owned()),
        (post("/rpc", &format!("[{told}]")), r#"[{"jsonrpc":"2.0","result":"told","id":1}]"#.to_owned()),
    ] {
        let mut caller = Caller::to(running.address).await;
        caller.send(&request).await;
        assert_eq!(within(said.recv()).await, Some("started"));
        caller.stream.shutdown().await.unwrap();
        assert_eq!(body(&caller.rest().await), expected);
    }
}

#[tokio::test]
async fn a_stream_whose_reader_has_gone_ends_soon() {
    let (say, mut said) = mpsc::unbounded_channel();
    let running = Running::new(Server::new().inject(Waiting(say))).await;
    let mut caller = Caller::to(running.address).await;
    caller.send(post("/rpc/begun", "")).await;
    assert_eq!(within(said.recv()).await, Some("started"));
    // With nothing left to read the socket is closed by a FIN, as it would be by one that waits.
    let mut came = Vec::new();
    while !came.ends_with(b"{\"item\":0}\n\r\n") {
        assert!(within(caller.stream.read_buf(&mut came)).await.unwrap() > 0);
    }
    drop(caller);
    assert_eq!(within(said.recv()).await, Some("dropped"));
}

#[tokio::test]
async fn a_caller_that_resets_its_connection_is_gone() {
    let (gate, handle) = Gate::new();
    let (say, mut said) = mpsc::unbounded_channel();
    let running = Running::new(Server::new().inject(gate).inject(Waiting(say))).await;
    let reset = |caller: Caller| socket2::SockRef::from(&caller.stream).set_linger(Some(Duration::ZERO)).unwrap();

    let mut caller = Caller::to(running.address).await;
    caller.send(post("/rpc/look", "")).await;
    assert_eq!(within(said.recv()).await, Some("started"));
    reset(caller);
    assert_eq!(within(said.recv()).await, Some("dropped"));

    // What changes something runs to its end, and is told.
    let mut caller = Caller::to(running.address).await;
    caller.send(post("/rpc/pass", "")).await;
    within(handle.started).await.unwrap();
    reset(caller);
    let mut caller = Caller::to(running.address).await;
    caller.send(post("/rpc/told", "")).await;
    assert_eq!(within(said.recv()).await, Some("started"));
    reset(caller);
    handle.release.send(()).unwrap();
    assert!(within(handle.ended).await.unwrap(), "it was told that its caller is gone");
    within(running.stopped()).await.unwrap();
}

/// Holds calls of `bump` back until it is told to let them go on.
fn holding(counter: &Arc<Counter>, held: mpsc::UnboundedSender<()>, go_on: Arc<tokio::sync::Semaphore>) -> Server {
    Server::new().inject(Arc::clone(counter)).intercept(move |request: Request, next: Next| {
        let (held, go_on) = (held.clone(), Arc::clone(&go_on));
        async move {
            if request.name() == "bump" {
                let _ = held.send(());
                go_on.acquire().await.unwrap().forget();
            }
            Ok(next.run(request).await)
        }
    })
}

#[tokio::test]
async fn a_call_that_has_not_started_runs_for_a_caller_that_half_closed_and_not_for_one_that_is_gone() {
    let (counter, go_on) = (Arc::new(Counter::default()), Arc::new(tokio::sync::Semaphore::new(0)));
    let (held, mut holds) = mpsc::unbounded_channel();
    let running = Running::new(holding(&counter, held, Arc::clone(&go_on))).await;
    let mut gone = Caller::to(running.address).await;
    gone.send(post("/rpc/bump", "[]")).await;
    within(holds.recv()).await.unwrap();
    socket2::SockRef::from(&gone.stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(gone);
    let mut caller = Caller::to(running.address).await;
    caller.send(post("/rpc/bump", "[]")).await;
    within(holds.recv()).await.unwrap();
    caller.stream.shutdown().await.unwrap();
    // Meanwhile the server has seen both.
    assert_eq!(raw(running.address, get("/rpc/total")).await.body, "0");
    go_on.add_permits(2);
    assert_eq!(body(&caller.rest().await), "1");
    assert_eq!(raw(running.address, get("/rpc/total")).await.body, "1");
}
