//! Errors of streams.

use std::sync::{Arc, Mutex};

use byname::{Client, Code, Codec, Error, Remote, Server, StreamCall, Streaming, Transport, rpc};
use futures_util::{Stream, StreamExt, stream};
use serde_json::Value;
use tokio::sync::Notify;

use super::harness::foreign::{Foreign, frame, gone_over};
use super::harness::{Running, Tap, add, post, raw, within};
use super::{Page, SHORT, Seen, failed};

#[rpc(readonly)]
fn ticks(count: u32) -> impl Stream<Item = u32> {
    stream::iter(1..=count)
}

/// Nothing behind the first.
#[rpc(readonly)]
fn once() -> impl Stream<Item = u32> {
    stream::iter([1]).chain(stream::pending())
}

#[rpc(readonly)]
fn texts(length: usize) -> impl Stream<Item = String> {
    stream::repeat_with(move || "x".repeat(length))
}

#[rpc]
async fn sum(mut numbers: Streaming<i64>) -> Result<i64, Error> {
    let mut sum = 0;
    while let Some(number) = numbers.next().await {
        sum += number?;
    }
    Ok(sum)
}

fn server() -> Server {
    Server::new()
        .method::<ticks>()
        .method::<once>()
        .method::<texts>()
        .method::<sum>()
        .method::<add>()
        .function("nothing", async || ())
}

/// What a stream ends with.
async fn ended<A: Send, R: Remote<Err: Into<Seen>>>(mut stream: StreamCall<A, R>) -> Seen {
    loop {
        let item = within(stream.next()).await.expect("it fails");
        if let Err(error) = item.into_result() {
            return error.into();
        }
    }
}

/// A client by frames and its server.
async fn by_frames(server: Server) -> (Running, Tap, Client) {
    let running = Running::new(server).await;
    let (tap, client) = Tap::client_by_frames(&running, Codec::Json).await;
    (running, tap, client)
}

/// What a stream ends with that is answered by these bytes and the end of the connection.
async fn answered_by(rest: &str) -> Seen {
    let head = "HTTP/1.1 200 OK\r\nbyname-protocol: 1\r\ncontent-type: application/x-ndjson\r\n";
    let foreign = Foreign::ending_after(format!("{head}{rest}")).await;
    ended(ticks::on(&foreign.client(), 3)).await
}

pub(super) async fn streams(page: &mut Page) {
    page.section("Streams");
    let local = Client::local(&server()).unwrap();
    let running = Running::new(server()).await;
    let http = running.client();
    page.add(
        "A function that streams was called for one value",
        failed(local.call::<Value>("ticks", (3,)).await),
        "Call it with its stub or with `Client::stream`. JSON-RPC carries no streams: use POST and the function's \
         path.",
    );
    page.add(
        "A stream came, but one value was expected",
        failed(http.call::<Value>("ticks", (3,)).await),
        "As above. Over HTTP a caller does not say what it expects, so the function has begun.",
    );
    page.add(
        "A value came, but a stream was expected",
        ended(local.stream::<i64>("add", (1, 2))).await,
        "Call it with its stub or with `Client::call`.",
    );
    page.add(
        "An argument is a stream, but none was sent",
        failed(local.call::<i64>("sum", ()).await),
        "Send a stream with the call. For a call by name, use `.streaming(…)`.",
    );
    page.add(
        "A stream was sent to a function that takes none",
        failed(local.call::<i64>("add", (1, 2)).streaming(Streaming::from(vec![1])).await),
        "Leave out the stream, or call a function that takes one.",
    );
    page.add(
        "A value was sent for an argument that is a stream",
        raw(running.address, post("/rpc/sum?numbers=1", "")).await,
        "Send the items as the lines of the body.",
    );
    page.add(
        "An item is of another type",
        failed(local.call::<i64>("sum", ()).streaming(Streaming::from(vec!["one".to_owned()])).await),
        "Send the type that the function takes. The message has the number of the item, counted from 1.",
    );
    page.add(
        "An item is nested too deeply",
        raw(running.address, post("/rpc/sum", &format!("{}{}\n", "[".repeat(200), "]".repeat(200)))).await,
        "Send flatter items, or raise `Limits::nesting`.",
    );
    let nan = Streaming::from(vec![f64::NAN]);
    page.add(
        "An item of the caller's can't be encoded",
        failed(local.encoded(true).call::<i64>("sum", ()).streaming(nan).await),
        "Send an `Option` that is `None` if there is no number. The items before it were sent.",
    );
    page.add(
        "The caller's stream breaks off",
        {
            let broken = Streaming::<i64>::fallible(stream::pending());
            let (send, sent) = tokio::sync::oneshot::channel();
            let why = Server::new().function("said", async || ()).inject(Told(Mutex::new(Some(send))));
            let client = Client::local(&why).unwrap();
            let _ = Told::on(&client).told(broken).timeout(SHORT).await;
            within(sent).await.unwrap()
        },
        "The function reads this at the end of its stream. It should end: no caller waits for its answer.",
    );

    let (_running, _tap, client) = by_frames(server().limits(|limits| limits.message = 1000)).await;
    page.add(
        "An item is larger than the server sends",
        ended(texts::on(&client, 2000)).await,
        "Cut a large item into several, or raise the limit on both sides.",
    );
    let large = || Streaming::from(vec!["x".repeat(2000)]);
    page.add(
        "An item is larger than the server takes, by frames",
        failed(client.call::<i64>("sum", ()).streaming(large()).await),
        "As above.",
    );
    let small = Running::new(server().limits(|limits| limits.message = 1000)).await;
    page.add(
        "A line is longer than the server takes",
        raw(small.address, post("/rpc/sum", &"1".repeat(2000))).await,
        "Each line is an item: check that there are line breaks between them.",
    );
    let picky = Client::builder(running.address.to_string()).transport(Transport::Http);
    let picky = picky.limits(|limits| limits.message = 1000).build().unwrap();
    page.add(
        "An item is larger than the client takes",
        ended(texts::on(&picky, 2000)).await,
        "Raise the limit of this client, or let the function send several smaller items.",
    );

    page.add(
        "A stream has no item for too long",
        ended(once::on(&Client::local(&server().limits(|limits| limits.stream_idle = SHORT)).unwrap())).await,
        "If long pauses are normal, let the function send an item from time to time, or raise the limit on both \
         sides.",
    );
    let builder = Client::builder(running.address.to_string()).transport(Transport::Http);
    let impatient = builder.limits(|limits| limits.stream_idle = SHORT).build().unwrap();
    page.add(
        "The client hears nothing of a stream for too long, over HTTP",
        ended(once::on(&impatient)).await,
        "As above, but with the limit of the client.",
    );
    let tap = Tap::before(running.address).await;
    let builder = Client::builder(&tap.url).limits(|limits| limits.stream_idle = SHORT);
    let impatient = builder.build().unwrap();
    while tap.calls_by_frames() == 0 {
        within(impatient.call::<Value>("nothing", ())).await.unwrap();
        tokio::task::yield_now().await;
    }
    page.add(
        "The client hears nothing of a stream for too long, by frames",
        ended(once::on(&impatient)).await,
        "As above, but with the limit of the client.",
    );
    let dropped = Arc::new(Notify::new());
    let server_of_endless = server().inject(Endless(Arc::clone(&dropped)));
    let (_running, _tap, client) = by_frames(server_of_endless.limits(|limits| limits.stream_idle = SHORT)).await;
    let mut unread = Endless::on(&client).endless();
    assert!(within(unread.next()).await.unwrap().is_ok());
    within(dropped.notified()).await;
    page.add(
        "A reader reads nothing of a stream for too long",
        ended(unread).await,
        "Read the stream in a separate task, or drop it if it is not needed. Raise `Limits::stream_idle` of the \
         server if pauses are intended.",
    );

    let stopping = Running::new(server().limits(|limits| limits.drain = std::time::Duration::from_secs(1))).await;
    let mut last = once::on(&stopping.client());
    assert!(within(last.next()).await.unwrap().is_ok());
    let stopped = tokio::spawn(stopping.stopped());
    page.add(
        "The server stops in the middle of a stream",
        ended(last).await,
        "Call again: another server may already be running. Streams have half of `Limits::drain` to end by \
         themselves.",
    );
    within(stopped).await.unwrap().unwrap();

    page.add(
        "A stream ends without its end",
        answered_by("\r\n{\"item\":3}\n").await,
        "The server or a proxy closed the connection. The items before are valid. The program must decide whether \
         to call again.",
    );
    page.add(
        "The connection breaks in the middle of a stream",
        answered_by("content-length: 99\r\n\r\n{\"item\":3}\n").await,
        "As above.",
    );
    page.add(
        "A line of a stream is not an item",
        answered_by("\r\nhello\n").await,
        "Look at the answer with `curl -N`. Something other than byname may answer there.",
    );
    page.add(
        "No item came before the deadline, over HTTP",
        {
            let foreign = Foreign::new(|mut connection| async move {
                connection.request().await;
                let head = "HTTP/1.1 200 OK\r\nbyname-protocol: 1\r\ncontent-type: application/x-ndjson\r\n\r\n";
                connection.send(head).await;
                connection.rest().await;
            })
            .await;
            let client = foreign.client();
            ended(ticks::on(&client, 3).timeout(SHORT)).await
        },
        "The head of the answer came, but no item. Allow more time, or find out why the function has no item.",
    );
    for (title, bytes, remedy) in [
        (
            "The connection breaks in the middle of a stream, by frames",
            frame(8, 0, 1 << 20, b"1"),
            "As over HTTP: the items before are valid.",
        ),
        (
            "A value comes in the middle of a stream",
            [frame(8, 0, 1 << 20, b"1"), frame(4, 0, 1 << 20, b"1")].concat(),
            "The server violates the protocol, or a proxy changed the bytes.",
        ),
    ] {
        let (foreign, upgraded) = Foreign::of_frames(move |mut connection| {
            let bytes = bytes.clone();
            async move {
                connection.begun().await;
                connection.send(bytes).await;
            }
        })
        .await;
        let client = foreign.client();
        gone_over(&client, &upgraded).await;
        page.add(title, ended(ticks::on(&client, 3)).await, remedy);
    }
    let (foreign, upgraded) = Foreign::of_frames(move |mut connection| async move {
        connection.begun().await;
        // Credit, and once something of the stream has come, GOAWAY before the call.
        connection.send(frame(10, 0, 1 << 20, &1u32.to_be_bytes())).await;
        while connection.frame().await.0 != 8 {}
        connection.send(frame(7, 0, 1, b"")).await;
        connection.rest().await;
    })
    .await;
    let client = foreign.client();
    gone_over(&client, &upgraded).await;
    let numbers = Streaming::new(stream::iter([1i64]).chain(stream::pending()));
    page.add(
        "A server that has a part of the caller's stream goes away",
        failed(within(client.call::<i64>("sum", ()).streaming(numbers)).await),
        "The call did not run. byname can't send it again because it no longer has the items. The program can, with \
         the whole stream.",
    );
}

/// Streams without an end, and says that it was stopped.
struct Endless(Arc<Notify>);

struct Dropped(Arc<Notify>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[rpc]
impl Endless {
    fn endless(&self) -> impl Stream<Item = String> {
        let guard = Dropped(Arc::clone(&self.0));
        stream::repeat_with(move || {
            let _ = &guard;
            "x".repeat(1000)
        })
    }
}

/// Says what its stream ended with.
struct Told(Mutex<Option<tokio::sync::oneshot::Sender<Error>>>);

#[rpc]
impl Told {
    async fn told(&self, mut numbers: Streaming<i64>) {
        let why = loop {
            match numbers.next().await {
                Some(Ok(_)) => {}
                Some(Err(why)) => break why,
                None => break Error::new(Code::Internal, "it ended"),
            }
        };
        let _ = self.0.lock().unwrap().take().unwrap().send(why);
    }
}
