//! Streams, the same by every way: within the process, over HTTP, and by frames in both codecs.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context as Task, Poll};
use std::time::Duration;

use crate::harness::{Running, Tap, within};
use byname::{
    CallError, Client, Code, Codec, Context, Error, Executed, Next, Request, Server, Streaming, Transport, rpc,
};
use futures_util::{Stream, StreamExt, stream};
use serde_json::Value;
use tokio::sync::{Notify, mpsc};

/// Counts down to one.
#[rpc(readonly)]
fn countdown(from: u32) -> impl Stream<Item = u32> {
    stream::iter((1..=from).rev())
}

/// Words up to one that is forbidden.
#[rpc]
async fn words(text: &str, until: &str) -> impl Stream<Item = Result<String, Vec<String>>> {
    stream::iter(text.split(' ')).map(move |word| match word == until {
        true => Err(vec![word.to_owned()]),
        false => Ok(word.to_owned()),
    })
}

/// Ones, and at last what this process says.
#[rpc(readonly)]
fn ours(ones: usize) -> impl Stream<Item = Result<u8, Error>> {
    let ones = stream::iter(vec![Ok(1); ones]);
    ones.chain(stream::once(async { Err(Error::new(Code::DataLoss, "it is lost")) }))
}

#[rpc(readonly)]
fn boom(after: u32) -> impl Stream<Item = u32> {
    stream::iter(0..).map(move |at| if at < after { at } else { panic!("secret") })
}

/// Sends this number of items, and then nothing: the stream does not end.
#[rpc(readonly)]
fn silent(after: u32) -> impl Stream<Item = u32> {
    stream::iter(0..after).chain(stream::pending())
}

/// After this number of items, one that is not a number.
#[rpc(readonly)]
fn numbers(after: u32) -> impl Stream<Item = f64> {
    stream::iter(0..after).map(f64::from).chain(stream::once(async { f64::NAN }))
}

#[rpc(readonly)]
fn texts(count: usize, length: usize) -> impl Stream<Item = String> {
    stream::iter(0..count).map(move |at| at.to_string().repeat(length))
}

/// What the body of a stream knows of its call.
#[rpc(readonly)]
fn whoami() -> impl Stream<Item = Option<String>> {
    stream::iter(0..2).then(|_| async {
        tokio::task::yield_now().await;
        Context::current().map(|call| call.header("x-user").unwrap_or("a stranger").to_owned())
    })
}

#[rpc]
async fn sum(factor: i64, mut numbers: Streaming<i64>) -> Result<i64, Error> {
    let mut sum = 0;
    while let Some(number) = numbers.next().await {
        sum += number? * factor;
    }
    Ok(sum)
}

/// The first number, whatever comes behind it.
#[rpc]
async fn first(mut numbers: Streaming<i64>) -> Option<i64> {
    numbers.next().await?.ok()
}

#[rpc]
fn double(numbers: Streaming<i64>) -> impl Stream<Item = Result<i64, Error>> {
    numbers.map(|number| number.map(|number| number * 2))
}

#[rpc(readonly)]
async fn add(a: i64, b: i64) -> i64 {
    a + b
}

/// Says when its streams are dropped, and how many items were made.
#[derive(Default)]
struct Producer {
    made: Arc<AtomicUsize>,
    dropped: Arc<Notify>,
    /// An upload has begun, and broken off.
    began: Notify,
    broke: Notify,
}

#[rpc(prefix = "producer")]
impl Producer {
    /// Without an end. It borrows the instance, and so does its stream.
    fn endless(&self, length: usize) -> impl Stream<Item = String> {
        let guard = Dropped(Arc::clone(&self.dropped));
        stream::repeat_with(move || {
            let _ = &guard;
            self.made.fetch_add(1, Ordering::SeqCst);
            "x".repeat(length)
        })
    }

    /// Reads until there is no more, and says whether that was the end.
    async fn upload(&self, mut items: Streaming<u32>) -> bool {
        while let Some(item) = items.next().await {
            if item.is_err() {
                self.broke.notify_one();
                return false;
            }
            self.began.notify_one();
        }
        true
    }
}

struct Dropped(Arc<Notify>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

fn everything() -> Server {
    Server::new()
        .method::<countdown>()
        .method::<words>()
        .method::<ours>()
        .method::<boom>()
        .method::<silent>()
        .method::<numbers>()
        .method::<texts>()
        .method::<whoami>()
        .method::<sum>()
        .method::<first>()
        .method::<double>()
        .method::<add>()
        .function("nothing", async || ())
}

/// What a client's calls go to.
struct Behind {
    running: Running,
    _tap: Option<Tap>,
}

/// A client by each way.
async fn ways(server: impl Fn() -> Server) -> Vec<(&'static str, Client, Option<Behind>)> {
    let local = Client::local(&server()).unwrap();
    let http = Running::new(server()).await;
    let mut ways = vec![
        ("local", local.clone(), None),
        ("local in JSON", local.encoded(true), None),
        ("local in MessagePack", local.encoded(true).codec(Codec::MessagePack), None),
        ("HTTP", http.client(), Some(Behind { running: http, _tap: None })),
    ];
    for (name, codec) in [("frames in JSON", Codec::Json), ("frames in MessagePack", Codec::MessagePack)] {
        let running = Running::new(server()).await;
        let (tap, client) = Tap::client_by_frames(&running, codec).await;
        ways.push((name, client, Some(Behind { running, _tap: Some(tap) })));
    }
    ways
}

/// All items, and the error that they ended with.
async fn all<T, E>(stream: impl Stream<Item = Result<T, E>>) -> (Vec<T>, Option<E>) {
    let (mut items, mut stream) = (Vec::new(), std::pin::pin!(stream));
    let mut failure = None;
    while let Some(item) = within(stream.next()).await {
        assert!(failure.is_none(), "nothing comes after an error");
        match item {
            Ok(item) => items.push(item),
            Err(error) => failure = Some(error),
        }
    }
    (items, failure)
}

fn rpc_error<E: std::fmt::Debug + 'static>(error: Option<CallError<E>>) -> Error {
    match error {
        Some(CallError::Rpc(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_functions_stream_arrives_by_every_way() {
    for (way, client, _running) in ways(everything).await {
        assert_eq!(all(countdown::on(&client, 3)).await, (vec![3, 2, 1], None), "{way}");
        assert_eq!(all(countdown::on(&client, 0)).await, (vec![], None), "{way}");
        let (many, failure) = all(countdown::on(&client, 20_000)).await;
        assert!(many.len() == 20_000 && many.is_sorted_by(|a, b| a > b) && failure.is_none(), "{way}");
        let (large, failure) = all(texts::on(&client, 12, 100_000)).await;
        assert!(failure.is_none(), "{way}: {failure:?}");
        assert_eq!(large, (0..12).map(|at: u32| at.to_string().repeat(100_000)).collect::<Vec<_>>(), "{way}");
        let by_name = client.stream::<Value>("countdown", (2,));
        let (by_name, failure) = all(by_name).await;
        assert_eq!((by_name, failure.is_none()), (vec![2.into(), 1.into()], true), "{way}: {failure:?}");
    }
}

#[tokio::test]
async fn a_failure_follows_the_items_before_it() {
    for (way, client, _running) in ways(everything).await {
        let (got, failure) = all(words::on(&client, "a b c d", "c")).await;
        assert_eq!(got, ["a", "b"], "{way}");
        assert!(matches!(failure, Some(CallError::Method(own)) if own == ["c"]), "{way}");
        // What fails before the first item fails the call, and is seen in the same place.
        let (got, failure) = all(words::on(&client, "a", "a")).await;
        assert!(got.is_empty() && matches!(failure, Some(CallError::Method(own)) if own == ["a"]), "{way}");

        for ones in [0, 2] {
            let (got, failure) = all(ours::on(&client, ones)).await;
            let error = rpc_error(failure);
            assert_eq!(got.len(), ones, "{way}");
            assert_eq!(
                (error.code(), error.executed(), error.message()),
                (Code::DataLoss, Executed::Yes, "it is lost")
            );
            let (got, failure) = all(boom::on(&client, ones as u32)).await;
            let error = failure.unwrap();
            assert_eq!((got.len(), error.code(), error.executed()), (ones, Code::Internal, Executed::Yes), "{way}");
            assert!(error.message().contains("`boom` panicked"), "{way}: {error}");
        }
        if way != "local" {
            let (got, failure) = all(numbers::on(&client, 1)).await;
            let error = failure.unwrap();
            assert_eq!((got, error.code()), (vec![0.0], Code::Internal), "{way}");
            assert!(error.message().contains("NaN"), "{way}: {error}");
        }
        let unknown = rpc_error(all(client.stream::<u8>("countdow", ())).await.1);
        assert_eq!((unknown.code(), unknown.executed()), (Code::Unimplemented, Executed::No), "{way}: {unknown}");
        let invalid = rpc_error(all(client.stream::<u8>("countdown", ("x",))).await.1);
        assert!(invalid.message().contains("argument `from`: invalid type"), "{way}: {invalid}");
    }
}

#[tokio::test]
async fn a_callers_stream_arrives_by_every_way() {
    for (way, client, _running) in ways(everything).await {
        assert_eq!(sum::on(&client, 2, Streaming::from(vec![1, 2, 3])).await.unwrap(), 12, "{way}");
        assert_eq!(sum::on(&client, 2, Streaming::from(vec![])).await.unwrap(), 0, "{way}");
        let many = Streaming::new(stream::iter(0..50_000));
        assert_eq!(sum::on(&client, 1, many).await.unwrap(), (0..50_000).sum::<i64>(), "{way}");
        let by_name = client.call::<i64>("sum", (3,)).streaming(Streaming::from(vec![1, 2]));
        assert_eq!(by_name.await.unwrap(), 9, "{way}");
        // A function need not read it all.
        let endless = Streaming::new(stream::iter(7..));
        assert_eq!(within(first::on(&client, endless)).await.unwrap(), Some(7), "{way}");
        assert_eq!(add::on(&client, 1, 2).await.unwrap(), 3, "{way}: the connection goes on");
    }
}

#[tokio::test]
async fn both_ways_at_once() {
    for (way, client, _running) in ways(everything).await {
        let (send, mut sent) = mpsc::channel(1);
        let numbers = Streaming::new(stream::poll_fn(move |cx| sent.poll_recv(cx)));
        let mut doubled = double::on(&client, numbers);
        for number in 0..100 {
            // Each is sent once the answer to the one before is there.
            send.send(number).await.unwrap();
            assert_eq!(within(doubled.next()).await.unwrap().unwrap(), number * 2, "{way}");
        }
        drop(send);
        assert!(within(doubled.next()).await.is_none(), "{way}");

        let many = (0..30_000).collect();
        let (doubled, failure) = all(double::on(&client, many)).await;
        assert!(failure.is_none() && doubled.into_iter().eq((0..30_000).map(|number| number * 2)), "{way}");
    }
}

/// By frames what is sent goes out whether the caller reads the answers or not.
#[tokio::test]
async fn sending_does_not_wait_for_reading() {
    let running = Running::new(everything()).await;
    let (_tap, client) = Tap::client_by_frames(&running, Codec::MessagePack).await;
    let (send, mut sent) = mpsc::channel(1);
    let numbers = Streaming::new(stream::poll_fn(move |cx| sent.poll_recv(cx)));
    let mut doubled = double::on(&client, numbers);
    send.send(0).await.unwrap();
    assert_eq!(within(doubled.next()).await.unwrap().unwrap(), 0);
    for number in 1..100 {
        within(send.send(number)).await.unwrap();
    }
    drop(send);
    let (rest, failure) = all(doubled).await;
    assert!(failure.is_none() && rest.into_iter().eq((1..100).map(|number| number * 2)));
}

#[tokio::test]
async fn a_stream_that_is_dropped_stops_its_producer() {
    let dropped = Arc::new(Notify::new());
    let server = || everything().inject(Producer { dropped: Arc::clone(&dropped), ..Producer::default() });
    for (way, client, _running) in ways(server).await {
        for read in [0, 1, 5] {
            let mut endless = Producer::on(&client).endless(10);
            for _ in 0..read {
                assert_eq!(within(endless.next()).await.unwrap().unwrap().len(), 10, "{way}");
            }
            drop(endless);
            if read > 0 {
                within(dropped.notified()).await;
            }
        }
        assert_eq!(add::on(&client, 1, 2).await.unwrap(), 3, "{way}");
    }
}

#[tokio::test]
async fn a_slow_reader_slows_only_its_own_producer() {
    let made = Arc::new(AtomicUsize::new(0));
    let server = everything().inject(Producer { made: Arc::clone(&made), ..Producer::default() });
    let running = Running::new(server).await;
    let (_tap, client) = Tap::client_by_frames(&running, Codec::MessagePack).await;
    let mut slow = Producer::on(&client).endless(1000);
    assert!(within(slow.next()).await.unwrap().is_ok());
    // Other streams and calls go on beside it, on the same connection.
    for _ in 0..20 {
        assert_eq!(all(countdown::on(&client, 5_000)).await.0.len(), 5_000);
        assert_eq!(add::on(&client, 1, 2).await.unwrap(), 3);
    }
    // 256 KiB of credit, and one more go of 16 KiB.
    let most = (256 + 16 + 1) * 1024 / 1000 + 1;
    let before = made.load(Ordering::SeqCst);
    assert!(before <= most, "{before} items were made, and there was room for {most}");
    for _ in 0..2 * most {
        assert!(within(slow.next()).await.unwrap().is_ok());
    }
    assert!(made.load(Ordering::SeqCst) > before, "it goes on once it is read");
}

#[tokio::test]
async fn many_streams_share_a_connection() {
    let running = Running::new(everything()).await;
    let (tap, client) = Tap::client_by_frames(&running, Codec::MessagePack).await;
    let streams = (0..200).map(|at| all(texts::on(&client, 50, 20 + at)));
    let all = futures_util::future::join_all(streams).await;
    for (at, (texts, failure)) in all.into_iter().enumerate() {
        assert!(failure.is_none(), "{failure:?}");
        assert!(texts.into_iter().eq((0..50).map(|item: usize| item.to_string().repeat(20 + at))));
    }
    assert!(tap.calls_by_frames() >= 200);
}

#[tokio::test]
async fn the_context_holds_in_the_bodies_of_streams() {
    for (way, client, _running) in ways(everything).await {
        let (who, failure) = all(whoami::on(&client).header("x-user", "ada")).await;
        assert_eq!((who, failure), (vec![Some("ada".to_owned()), Some("ada".to_owned())], None), "{way}");
    }
    assert_eq!(whoami().collect::<Vec<_>>().await, [None, None]);
}

#[tokio::test]
async fn the_first_item_has_a_deadline_and_each_after_it_a_limit() {
    let server = || everything().limits(|limits| limits.stream_idle = Duration::from_millis(50));
    for (way, client, _running) in ways(server).await {
        let (got, failure) = all(silent::on(&client, 0).timeout(Duration::from_millis(50))).await;
        let error = failure.unwrap();
        assert_eq!((got.len(), error.code()), (0, Code::DeadlineExceeded), "{way}: {error}");
        assert_eq!(error.executed(), Executed::Unknown, "{way}: {error}");
        let (got, failure) = all(silent::on(&client, 3)).await;
        let error = failure.unwrap();
        assert_eq!((got.len(), error.code(), error.executed()), (3, Code::DeadlineExceeded, Executed::Yes), "{way}");
        assert_eq!(error.limit(), Some("stream_idle"), "{way}: {error}");
    }
}

#[tokio::test]
async fn a_client_ends_a_silent_stream_before_the_deadline_of_its_call() {
    let running = Running::new(everything()).await;
    for transport in [Transport::Frames, Transport::Http] {
        let tap = Tap::before(running.address).await;
        let builder = Client::builder(&tap.url).transport(transport);
        let client = builder.limits(|limits| limits.stream_idle = Duration::from_millis(50)).build().unwrap();
        while transport == Transport::Frames && tap.calls_by_frames() == 0 {
            within(client.call::<Value>("nothing", ())).await.unwrap();
            tokio::task::yield_now().await;
        }
        // Half of the time to the next ping, at which the connection looks at all deadlines.
        let before_a_ping = Duration::from_secs(15);
        let ended = tokio::time::timeout(before_a_ping, all(silent::on(&client, 3)));
        let (got, failure) = ended.await.unwrap_or_else(|_| panic!("{transport:?}: the stream has not ended"));
        let error = failure.unwrap();
        assert_eq!((got.len(), error.code()), (3, Code::DeadlineExceeded), "{transport:?}: {error}");
        assert!(error.message().contains("`Limits::stream_idle` of the client"), "{transport:?}: {error}");
    }
}

#[tokio::test]
async fn an_upload_may_last_longer_than_the_time_to_its_first_item() {
    const FIRST: Duration = Duration::from_millis(200);
    // Interceptors on both sides don't cut it short either.
    let through = |request: Request, next: Next| next.run(request);
    for (way, client, _running) in ways(|| everything().intercept(through)).await {
        let client = client.intercept(through);
        // The second item comes when the time for the first has long passed.
        let late = stream::once(async {
            tokio::time::sleep(2 * FIRST).await;
            2
        });
        let numbers = Streaming::new(stream::iter([1]).chain(late));
        assert_eq!(within(sum::on(&client, 1, numbers).timeout(FIRST)).await, Ok(3), "{way}");
    }
}

#[tokio::test]
async fn a_reader_that_takes_nothing_has_a_limit_too() {
    let dropped = Arc::new(Notify::new());
    let server = everything().inject(Producer { dropped: Arc::clone(&dropped), ..Producer::default() });
    let running = Running::new(server.limits(|limits| limits.stream_idle = Duration::from_millis(50))).await;
    let (_tap, client) = Tap::client_by_frames(&running, Codec::MessagePack).await;
    let mut endless = Producer::on(&client).endless(1000);
    assert!(within(endless.next()).await.unwrap().is_ok());
    within(dropped.notified()).await;
    let (_, failure) = all(endless).await;
    let error = failure.unwrap();
    assert_eq!((error.code(), error.limit()), (Code::DeadlineExceeded, Some("stream_idle")), "{error}");
}

/// A stream of the caller's that says whether it was dropped.
struct Sending(mpsc::UnboundedReceiver<Result<u32, Error>>);

impl Stream for Sending {
    type Item = Result<u32, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}

#[tokio::test]
async fn a_function_gets_an_error_when_the_rest_of_its_stream_does_not_come() {
    for breaks in [true, false] {
        let producer = Arc::new(Producer::default());
        for (way, client, _running) in ways(|| everything().inject(Arc::clone(&producer))).await {
            let (send, sent) = mpsc::unbounded_channel();
            let upload = async move { Producer::on(&client).upload(Streaming::fallible(Sending(sent))).await };
            let upload = tokio::spawn(upload);
            send.send(Ok(1)).unwrap();
            within(producer.began.notified()).await;
            if breaks {
                send.send(Err(Error::new(Code::Aborted, "the disk is full"))).unwrap();
                let error = match within(upload).await.unwrap() {
                    // Within the process the function has its answer ready sooner.
                    Ok(whole) => {
                        assert!(!whole && way.starts_with("local"), "{way}");
                        None
                    }
                    Err(error) => Some(error),
                };
                if let Some(error) = error {
                    assert_eq!((error.code(), error.message()), (Code::Aborted, "the disk is full"), "{way}");
                }
            } else {
                upload.abort();
            }
            within(producer.broke.notified()).await;
        }
    }
}

#[tokio::test]
async fn a_server_that_stops_ends_its_streams_with_an_error_that_says_so() {
    for (way, client, running) in ways(|| {
        let limits = |limits: &mut byname::Limits| limits.drain = Duration::from_secs(2);
        everything().inject(Producer::default()).limits(limits)
    })
    .await
    {
        let Some(Behind { running, _tap }) = running else { continue };
        let mut waiting = silent::on(&client, 1);
        let mut endless = Producer::on(&client).endless(100);
        assert!(within(waiting.next()).await.unwrap().is_ok(), "{way}");
        assert!(within(endless.next()).await.unwrap().is_ok(), "{way}");
        let stopped = tokio::spawn(running.stopped());
        let (waiting, endless) = futures_util::join!(all(waiting), all(endless));
        for error in [waiting.1.unwrap(), endless.1.unwrap()] {
            assert_eq!((error.code(), error.executed()), (Code::Unavailable, Executed::Yes), "{way}: {error}");
            assert!(error.message().contains("the server is stopping"), "{way}: {error}");
        }
        assert!(within(stopped).await.unwrap().is_ok(), "{way}");
    }
}

#[tokio::test]
async fn a_stream_is_not_accepted_as_a_value_nor_a_value_as_a_stream() {
    for (way, client, _running) in ways(everything).await {
        let Err(CallError::Rpc(error)) = client.call::<Vec<u32>>("countdown", (3,)).await else {
            panic!("{way}");
        };
        assert_eq!(error.code(), Code::FailedPrecondition, "{way}: {error}");
        assert!(
            error.message().contains("`countdown` returned a stream") || error.executed() == Executed::No,
            "{error}"
        );
        let error = rpc_error(all(client.stream::<i64>("add", (1, 2))).await.1);
        assert_eq!((error.code(), error.executed()), (Code::FailedPrecondition, Executed::Yes), "{way}: {error}");
        let Err(CallError::Rpc(error)) = client.call::<i64>("sum", (3,)).await else { panic!("{way}") };
        if way != "HTTP" {
            // There an empty body is an empty stream.
            assert!(error.message().contains("argument `numbers` is missing"), "{way}: {error}");
        }
        let surplus = client.call::<i64>("add", (1, 2)).streaming(Streaming::from(vec![1]));
        let Err(CallError::Rpc(error)) = surplus.await else { panic!("{way}") };
        assert_eq!((error.code(), error.executed()), (Code::InvalidArgument, Executed::No), "{way}: {error}");
        assert!(error.message().contains("takes no stream"), "{way}: {error}");
        let wrong = client.call::<i64>("sum", (1,)).streaming(Streaming::from(vec!["x".to_owned()]));
        let Err(CallError::Rpc(error)) = wrong.await else { panic!("{way}") };
        assert!(error.message().contains("item 1 of the stream `numbers` can't be read"), "{way}: {error}");
    }
}

#[tokio::test]
async fn an_item_keeps_to_the_limit_of_a_message() {
    for (way, client, _running) in ways(|| everything().limits(|limits| limits.message = 70_000)).await {
        if way == "local" {
            continue;
        }
        let (got, failure) = all(texts::on(&client, 12, 60_000)).await;
        let error = failure.unwrap();
        assert_eq!((got.len(), error.code(), error.limit()), (10, Code::ResourceExhausted, Some("message")), "{way}");
        let large = Streaming::from(vec!["1".repeat(80_000)]);
        let Err(CallError::Rpc(error)) = client.call::<i64>("sum", (1,)).streaming(large).await else {
            panic!("{way}")
        };
        assert_eq!((error.code(), error.limit()), (Code::ResourceExhausted, Some("message")), "{way}: {error}");
    }
}

#[tokio::test]
async fn interceptors_stand_around_streams_on_both_sides() {
    let seen = Arc::new(AtomicUsize::new(0));
    let server = || {
        let seen = Arc::clone(&seen);
        everything().intercept(move |request: Request, next: Next| {
            let seen = Arc::clone(&seen);
            async move {
                let reply = next.run(request).await;
                assert_eq!(reply.code(), None);
                seen.fetch_add(1, Ordering::SeqCst);
                reply
            }
        })
    };
    for (way, client, _running) in ways(server).await {
        let before = seen.load(Ordering::SeqCst);
        let client = client.intercept(|mut request: Request, next: Next| async move {
            request.set_header("x-user", "eve")?;
            Ok::<_, Error>(next.run(request).await)
        });
        assert_eq!(all(whoami::on(&client)).await.0, vec![Some("eve".to_owned()); 2], "{way}");
        assert_eq!(sum::on(&client, 1, Streaming::from(vec![1, 2])).await.unwrap(), 3, "{way}");
        assert_eq!(seen.load(Ordering::SeqCst), before + 2, "{way}");
    }
}

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
enum FeedError {
    Unknown(String),
    Rpc(Error),
}

impl From<Error> for FeedError {
    fn from(error: Error) -> Self {
        Self::Rpc(error)
    }
}

/// A contract with streams.
#[rpc(prefix = "feed")]
trait Feed {
    fn follow(&self, topic: String) -> impl Stream<Item = Result<u32, FeedError>>;
    async fn publish(&self, topic: String, items: Streaming<u32>) -> Result<u32, FeedError>;
}

struct Ticker;

#[rpc]
impl Feed for Ticker {
    fn follow(&self, topic: String) -> impl Stream<Item = Result<u32, FeedError>> {
        let end = stream::once(async { Err(FeedError::Unknown(topic)) });
        stream::iter([Ok(1), Ok(2)]).chain(end)
    }

    async fn publish(&self, _topic: String, items: Streaming<u32>) -> Result<u32, FeedError> {
        let items: Vec<_> = items.collect().await;
        items.into_iter().sum::<Result<u32, Error>>().map_err(FeedError::from)
    }
}

async fn read(feed: &impl Feed) -> (Vec<u32>, Option<FeedError>) {
    assert_eq!(feed.publish("x".into(), Streaming::from(vec![1, 2, 3])).await, Ok(6));
    all(feed.follow("x".into())).await
}

#[tokio::test]
async fn a_contract_can_stream() {
    let expected = || (vec![1, 2], Some(FeedError::Unknown("x".into())));
    assert_eq!(read(&Ticker).await, expected());
    for (way, client, _running) in ways(|| everything().inject(Ticker)).await {
        assert_eq!(read(&FeedClient::on(&client)).await, expected(), "{way}");
    }
}
