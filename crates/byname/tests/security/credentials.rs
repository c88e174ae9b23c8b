//! Tokens and other headers that bear authority: how servers read them, how clients get and send them, and who sees them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use crate::harness::{Log, Running, Tap, post_with, raw};
use byname::{Client, Code, Codec, Context, Error, Executed, IssuedToken, Next, Request, Server, rpc};
use futures_util::future::join_all;
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::Semaphore;
use tokio::task::yield_now;
use tokio::time::{advance, pause};

#[rpc]
async fn nothing() {}

/// The `authorization` of this call.
#[rpc(readonly)]
async fn authorization() -> Option<String> {
    Context::current()?.header("authorization").map(str::to_owned)
}

fn server() -> Server {
    Server::new().method::<nothing>().method::<authorization>()
}

/// A server, and clients of it by every way.
struct Ways {
    clients: Vec<(&'static str, Client)>,
    running: Running,
    _taps: [Tap; 2],
}

async fn ways(server: Server) -> Ways {
    let local = Client::local(&server).unwrap();
    let running = Running::new(server).await;
    let path = running.client();
    path.call::<()>("nothing", ()).await.unwrap();
    let (json, by_json) = Tap::client_by_frames(&running, Codec::Json).await;
    let (message_pack, by_message_pack) = Tap::client_by_frames(&running, Codec::MessagePack).await;
    let clients = vec![
        ("HTTP", running.client()),
        ("HTTP by path", path),
        ("frames in JSON", by_json),
        ("frames in MessagePack", by_message_pack),
        ("in process, encoded", local.encoded(true)),
        ("in process", local),
    ];
    Ways { clients, running, _taps: [json, message_pack] }
}

/// A source of tokens that end after 100 s: `1`, `2`, `3`, ….
#[derive(Clone)]
struct Issuer {
    asked: Arc<AtomicUsize>,
    /// Permits to answer.
    open: Arc<Semaphore>,
    /// It fails while there is something.
    broken: Arc<Mutex<Option<&'static str>>>,
}

impl Issuer {
    fn new() -> Self {
        let broken = Arc::default();
        Self { asked: Arc::default(), open: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)), broken }
    }

    /// It answers nobody until [`open`](Self::open) has permits.
    fn closed() -> Self {
        Self { open: Arc::new(Semaphore::new(0)), ..Self::new() }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    fn breaks(&self, why: Option<&'static str>) {
        *self.broken.lock().unwrap() = why;
    }

    fn client(&self, client: &Client) -> Client {
        let this = self.clone();
        client.bearer_from(move || {
            let this = this.clone();
            async move {
                let number = this.asked.fetch_add(1, Ordering::Relaxed) + 1;
                this.open.acquire().await.unwrap().forget();
                let broken = *this.broken.lock().unwrap();
                match broken {
                    Some("panic") => panic!("on purpose"),
                    Some(why) => Err(why),
                    None => Ok(IssuedToken::new(format!("secret-{number}"), Duration::from_secs(100))),
                }
            }
        })
    }
}

fn local() -> Client {
    Client::local(&server()).unwrap()
}

async fn sent(client: &Client) -> String {
    authorization::on(client).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_token_is_read_and_compared_by_every_way() {
    let server = server().allow_anyone("nothing");
    let server = server.allow("*", |request| request.bearer().is_some_and(|token| token.matches("secret")));
    let Ways { clients, running, _taps } = ways(server).await;
    for (way, client) in clients {
        // Often enough that frames poll it inline.
        for _ in 0..12 {
            assert_eq!(sent(&client.bearer("secret")).await, "Bearer secret", "{way}");
            let refused = authorization::on(&client.bearer("secre")).await.unwrap_err();
            assert_eq!((refused.code(), refused.executed()), (Code::PermissionDenied, Executed::No), "{way}");
            assert_eq!(authorization::on(&client).await.unwrap_err().code(), Code::Unauthenticated, "{way}");
        }
    }
    for (header, status) in [
        ("authorization: bearer secret\r\n", 200),
        ("Authorization: BEARER secret\r\n", 200),
        ("authorization: Basic secret\r\n", 401),
        ("authorization: Bearer  secret\r\n", 401),
        ("authorization: Bearer secret\r\nauthorization: Bearer other\r\n", 401),
    ] {
        let answer = raw(running.address, post_with("/rpc/authorization", header, "")).await;
        assert_eq!(answer.status, status, "{header}: {answer:?}");
    }
}

#[tokio::test]
async fn the_last_token_that_a_client_was_given_is_sent() {
    let issuer = Issuer::new();
    let fixed = local().bearer("first");
    assert_eq!(sent(&fixed.bearer("second")).await, "Bearer second");
    let renewed = issuer.client(&fixed);
    assert_eq!(sent(&renewed).await, "Bearer secret-1");
    assert_eq!(sent(&renewed.bearer("third")).await, "Bearer third");
    let own = authorization::on(&renewed).header("authorization", "Basic eDp5").await;
    assert_eq!(own.unwrap().as_deref(), Some("Basic eDp5"), "a call's own is kept");
    let refused = authorization::on(&local().bearer("no token")).await.unwrap_err();
    assert_eq!((refused.code(), refused.executed()), (Code::InvalidArgument, Executed::No));
    assert!(!refused.message().contains("no token"), "{refused}");
}

#[tokio::test]
async fn a_token_is_fetched_once_for_all_callers_by_every_way() {
    for (way, client) in ways(server()).await.clients {
        let issuer = Issuer::closed();
        let client = issuer.client(&client);
        let calls = join_all((0..100).map(|_| {
            let client = client.clone();
            async move { sent(&client).await }
        }));
        let released = async {
            while issuer.asked() == 0 {
                yield_now().await;
            }
            issuer.open.add_permits(1);
        };
        let (tokens, ()) = tokio::join!(calls, released);
        assert_eq!(tokens, vec!["Bearer secret-1"; 100], "{way}");
        // With interceptors a call goes another way.
        let client = client.intercept(|request: Request, next: Next| async move {
            assert_eq!(request.header("authorization"), None, "an interceptor could log it");
            next.run(request).await
        });
        assert_eq!(sent(&client).await, "Bearer secret-1", "{way}");
        assert_eq!(issuer.asked(), 1, "{way}");
    }
}

#[tokio::test]
async fn a_token_is_renewed_before_its_end_and_never_used_after_it() {
    pause();
    let (issuer, client) = (Issuer::new(), local());
    let client = issuer.client(&client);
    assert_eq!(sent(&client).await, "Bearer secret-1");
    advance(Duration::from_secs(79)).await;
    assert_eq!((sent(&client).await.as_str(), issuer.asked()), ("Bearer secret-1", 1));
    advance(Duration::from_secs(2)).await;
    assert_eq!(sent(&client).await, "Bearer secret-1", "no call waits for the renewal");
    while issuer.asked() < 2 || sent(&client).await != "Bearer secret-2" {
        yield_now().await;
    }
    // Nobody calls for longer than it lives.
    advance(Duration::from_secs(101)).await;
    assert_eq!((sent(&client).await.as_str(), issuer.asked()), ("Bearer secret-3", 3));
}

#[tokio::test]
async fn a_failed_fetch_fails_the_call_before_it_is_sent() {
    let issuer = Issuer::new();
    for (way, client) in ways(server()).await.clients {
        let client = issuer.client(&client);
        issuer.breaks(Some("the issuer is closed"));
        for _ in 0..2 {
            let failed = authorization::on(&client).await.unwrap_err();
            assert_eq!((failed.code(), failed.executed()), (Code::Unavailable, Executed::No), "{way}");
            let why = "the call was not sent, because `Client::bearer_from` got no token from its function: the issuer is closed";
            assert_eq!(failed.message(), why, "{way}");
        }
        issuer.breaks(Some("panic"));
        let failed = authorization::on(&client).await.unwrap_err();
        assert!(failed.message().ends_with("the function panicked, or its runtime has ended"), "{way}: {failed}");
        issuer.breaks(None);
        assert!(sent(&client).await.starts_with("Bearer secret-"), "{way}: the next call fetches again");
    }
}

#[tokio::test]
async fn a_failed_renewal_leaves_the_old_token_until_its_end() {
    pause();
    let mut log = Log::new();
    let issuer = Issuer::new();
    let client = issuer.client(&local());
    assert_eq!(sent(&client).await, "Bearer secret-1");
    issuer.breaks(Some("closed"));
    advance(Duration::from_secs(90)).await;
    assert_eq!(sent(&client).await, "Bearer secret-1");
    let line = log.until("a bearer token is used until its end").await;
    assert!(line.contains("closed") && !line.contains("secret"), "{line}");
    for _ in 0..10 {
        assert_eq!(sent(&client).await, "Bearer secret-1");
        yield_now().await;
    }
    assert_eq!(issuer.asked(), 2, "it is not asked again for a second");
    advance(Duration::from_millis(1100)).await;
    assert_eq!(sent(&client).await, "Bearer secret-1");
    while issuer.asked() < 3 {
        yield_now().await;
    }
    advance(Duration::from_secs(10)).await;
    assert_eq!(authorization::on(&client).await.unwrap_err().code(), Code::Unavailable);
    issuer.breaks(None);
    assert_eq!(sent(&client).await, "Bearer secret-5");
}

#[tokio::test]
async fn a_call_that_is_given_up_takes_the_token_from_no_other() {
    let issuer = Issuer::closed();
    let client = issuer.client(&local());
    let mut first = Box::pin(sent(&client));
    while issuer.asked() == 0 {
        assert!(futures_util::poll!(&mut first).is_pending());
        yield_now().await;
    }
    drop(first);
    issuer.open.add_permits(1);
    assert_eq!((sent(&client).await.as_str(), issuer.asked()), ("Bearer secret-1", 1));
}

#[tokio::test]
async fn a_fetch_that_does_not_end_fails_its_calls_and_is_begun_anew() {
    pause();
    let issuer = Issuer::closed();
    let client = issuer.client(&local());
    let late = authorization::on(&client).timeout(Duration::from_secs(1)).await.unwrap_err();
    assert_eq!((late.code(), late.executed()), (Code::DeadlineExceeded, Executed::No));
    assert!(late.message().starts_with("`authorization` was still waiting for its bearer token"), "{late}");
    let failed = authorization::on(&client).timeout(Duration::from_secs(60)).await.unwrap_err();
    assert_eq!((failed.code(), failed.executed()), (Code::Unavailable, Executed::No));
    assert!(failed.message().ends_with("it took longer than 30s"), "{failed}");
    assert_eq!(issuer.asked(), 1);
    issuer.open.add_permits(1);
    assert_eq!((sent(&client).await.as_str(), issuer.asked()), ("Bearer secret-2", 2));
}

/// A server that accepts one token of an [`Issuer`] at a time, and calls without a token.
#[derive(Clone)]
struct Rotating {
    /// The number of the token.
    valid: Arc<AtomicUsize>,
    rejected: Arc<AtomicUsize>,
    server: Server,
}

impl Rotating {
    fn new(valid: usize) -> Self {
        let (valid, rejected) = (Arc::new(AtomicUsize::new(valid)), Arc::<AtomicUsize>::default());
        let (key, count) = (Arc::clone(&valid), Arc::clone(&rejected));
        let server =
            server().method::<rejects>().method::<followed>().intercept(move |request: Request, next: Next| {
                let expected = format!("secret-{}", key.load(Ordering::Relaxed));
                let is_valid = request.bearer().is_none_or(|token| token.matches(&expected));
                let count = Arc::clone(&count);
                async move {
                    if is_valid {
                        return Ok(next.run(request).await);
                    }
                    count.fetch_add(1, Ordering::Relaxed);
                    Err(Error::new(Code::Unauthenticated, "this token is not valid any more"))
                }
            });
        Self { valid, rejected, server }
    }

    fn accepts(&self, token: usize) {
        self.valid.store(token, Ordering::Relaxed);
        self.rejected.store(0, Ordering::Relaxed);
    }

    fn rejected(&self) -> usize {
        self.rejected.load(Ordering::Relaxed)
    }
}

/// It runs, and rejects its caller itself.
#[rpc]
async fn rejects() -> Result<(), Error> {
    Err(Error::new(Code::Unauthenticated, "not you"))
}

#[rpc(readonly)]
fn followed() -> impl Stream<Item = u64> {
    stream::iter([1, 2])
}

fn through_an_interceptor(client: &Client) -> Client {
    client.intercept(|request: Request, next: Next| next.run(request))
}

#[tokio::test]
async fn a_rejected_token_is_replaced_once_for_all_callers_by_every_way() {
    let rotating = Rotating::new(0);
    for (way, client) in ways(rotating.server.clone()).await.clients {
        for intercepted in [false, true] {
            let issuer = Issuer::new();
            let mut client = issuer.client(&client);
            if intercepted {
                client = through_an_interceptor(&client);
            }
            rotating.accepts(1);
            assert_eq!(sent(&client).await, "Bearer secret-1", "{way}");
            rotating.accepts(2);
            let tokens = join_all((0..20).map(|_| sent(&client))).await;
            assert_eq!(tokens, vec!["Bearer secret-2"; 20], "{way}");
            assert_eq!(issuer.asked(), 2, "{way}: one fetch for the callers of one token");
            assert!((1..=20).contains(&rotating.rejected()), "{way}: {}", rotating.rejected());
        }
        // The answer may be a stream.
        let issuer = Issuer::new();
        rotating.accepts(1);
        let client = issuer.client(&client);
        sent(&client).await;
        rotating.accepts(2);
        let items: Vec<_> = followed::on(&client).map(Result::unwrap).collect().await;
        assert_eq!((items, issuer.asked()), (vec![1, 2], 2), "{way}");
    }
}

#[tokio::test]
async fn a_server_that_rejects_every_token_causes_one_fetch_a_second() {
    pause();
    let rotating = Rotating::new(0);
    let issuer = Issuer::new();
    let client = issuer.client(&Client::local(&rotating.server).unwrap());
    let refused = async || {
        let refused = authorization::on(&client).await.unwrap_err();
        assert_eq!((refused.code(), refused.executed()), (Code::Unauthenticated, Executed::No));
        assert_eq!(refused.message(), "this token is not valid any more");
        (issuer.asked(), rotating.rejected())
    };
    assert_eq!(refused().await, (2, 2), "the new token is refused too, and is not sent twice");
    for calls in 1..=10 {
        assert_eq!(refused().await, (2, 2 + calls));
    }
    advance(Duration::from_millis(1100)).await;
    assert_eq!(refused().await, (3, 14));
    // Without another token the caller gets what the server has answered.
    issuer.breaks(Some("closed"));
    advance(Duration::from_millis(1100)).await;
    assert_eq!(refused().await, (4, 15));
    issuer.breaks(None);
    rotating.accepts(5);
    advance(Duration::from_millis(1100)).await;
    assert_eq!(sent(&client).await, "Bearer secret-5");
}

#[tokio::test]
async fn a_rejected_call_is_sent_again_only_with_another_token_of_the_issuer() {
    let rotating = Rotating::new(0);
    for (way, client) in ways(rotating.server.clone()).await.clients {
        // The issuer does not know of the revocation.
        rotating.accepts(0);
        let asked = Arc::<AtomicUsize>::default();
        let counts = Arc::clone(&asked);
        let same = client.bearer_from(move || {
            counts.fetch_add(1, Ordering::Relaxed);
            async { Ok::<_, String>(IssuedToken::new("secret-1", Duration::from_secs(100))) }
        });
        assert_eq!(authorization::on(&same).await.unwrap_err().code(), Code::Unauthenticated, "{way}");
        assert_eq!((asked.load(Ordering::Relaxed), rotating.rejected()), (2, 1), "{way}");
        // The caller's own credentials.
        rotating.accepts(0);
        let issuer = Issuer::new();
        let renewed = issuer.client(&client);
        let own = authorization::on(&renewed).header("authorization", "Bearer own").await.unwrap_err();
        assert_eq!((own.code(), issuer.asked(), rotating.rejected()), (Code::Unauthenticated, 0, 1), "{way}");
        let fixed = authorization::on(&client.bearer("fixed")).await.unwrap_err();
        assert_eq!((fixed.code(), rotating.rejected()), (Code::Unauthenticated, 2), "{way}");
        // A function that ran.
        rotating.accepts(1);
        let ran = rejects::on(&renewed).await.unwrap_err();
        assert_eq!(
            ran.rpc().map(|ran| (ran.code(), ran.executed())),
            Some((Code::Unauthenticated, Executed::Yes)),
            "{way}"
        );
        assert_eq!((issuer.asked(), rotating.rejected()), (1, 0), "{way}");
    }
}

static KEPT: LazyLock<Issuer> = LazyLock::new(Issuer::new);

#[test]
fn a_token_outlives_the_runtime_that_fetched_it() {
    let client = KEPT.client(&local());
    for _ in 0..2 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        assert_eq!(runtime.block_on(sent(&client)), "Bearer secret-1");
    }
    assert_eq!(authorization::on(&client).wait().unwrap().as_deref(), Some("Bearer secret-1"), "and without a runtime");

    // A runtime that ends in the middle of a fetch.
    let closed = Issuer::closed();
    let client = closed.client(&local());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut call = Box::pin(sent(&client));
        while closed.asked() == 0 {
            assert!(futures_util::poll!(&mut call).is_pending());
            yield_now().await;
        }
    });
    drop(runtime);
    closed.open.add_permits(1);
    assert_eq!(authorization::on(&client).wait().unwrap().as_deref(), Some("Bearer secret-2"));
}

/// On Linux `0.0.0.0` is this machine, which byname does not rely on.
#[tokio::test]
async fn a_token_does_not_leave_this_machine_unencrypted() {
    let running = Running::new(server().hosts(["0.0.0.0", "127.0.0.1"])).await;
    let port = running.address.port();
    let away = Client::new(format!("0.0.0.0:{port}")).unwrap();
    for client in [away.bearer("secret"), Issuer::new().client(&away)] {
        let refused = authorization::on(&client).await.unwrap_err();
        assert_eq!((refused.code(), refused.executed()), (Code::FailedPrecondition, Executed::No));
        let expected = format!("a bearer token for http://0.0.0.0:{port}/rpc could be read by others");
        assert!(refused.message().starts_with(&expected) && !refused.message().contains("secret"), "{refused}");
    }
    authorization::on(&away).await.expect("without a token");
    let here = Client::new(running.address.to_string()).unwrap().bearer("secret");
    assert_eq!(sent(&here).await, "Bearer secret");
    if cfg!(target_os = "linux") {
        assert_eq!(sent(&away.allow_plaintext_token().bearer("secret")).await, "Bearer secret");
        assert_eq!(sent(&away.bearer("secret").allow_plaintext_token()).await, "Bearer secret");
    }
}

/// What `Debug` shows of this call.
#[rpc(readonly)]
async fn shown() -> String {
    let context = Context::current().unwrap();
    format!("{context:?} {:?}", context.metadata())
}

#[tokio::test]
async fn debug_and_the_log_show_no_secret() {
    let mut log = Log::new();
    let seen = Arc::<Mutex<String>>::default();
    let shows = Arc::clone(&seen);
    let intercepted = server().method::<shown>().intercept(move |request: Request, next: Next| {
        *shows.lock().unwrap() += &format!("{request:?} {:?}", request.metadata());
        next.run(request)
    });
    for server in [server().method::<shown>(), intercepted] {
        let server = server.sensitive_headers(["X-Api-Key"]).access_log(true);
        let Ways { clients, running, _taps } = ways(server).await;
        for (way, client) in clients {
            let client = client.bearer("secret").header("cookie", "a=secret").header("x-api-key", "secret");
            let client = client.header("x-other", "plain");
            for _ in 0..12 {
                let text = shown::on(&client).await.unwrap();
                assert!(!text.contains("secret") && text.contains("plain"), "{way}: {text}");
                assert_eq!(text.matches("Sensitive").count(), 6, "{way}: {text}");
            }
            let text = format!("{client:?} {:?}", shown::on(&client));
            assert!(!text.contains("secret"), "{way}: {text}");
        }
        let headers =
            "authorization: Basic secret\r\nproxy-authorization: Basic secret\r\ncookie: secret\r\ncookie: secret\r\n";
        for (path, status) in [("/rpc/shown", 200), ("/rpc/shown?", 200), ("/rpc/nobody", 404)] {
            let answer = raw(running.address, post_with(path, headers, "")).await;
            assert_eq!((answer.status, answer.body.contains("secret")), (status, false), "{answer:?}");
        }
    }
    let seen = seen.lock().unwrap();
    assert!(!seen.contains("secret") && seen.contains("plain"), "{seen}");
    let lines = log.lines();
    assert!(!lines.is_empty() && lines.iter().all(|line| !line.contains("secret")), "{lines:?}");
    let why = Client::local(&server().sensitive_headers(["x key"])).unwrap_err();
    assert!(why.message().starts_with("`x key` can't be a header"), "{why}");
}

static BACK: LazyLock<Client> = LazyLock::new(|| Client::local(&Server::new().method::<headers>()).unwrap());

/// The names of this call's headers.
#[rpc(readonly)]
async fn headers() -> Vec<String> {
    Context::current().unwrap().metadata().keys().map(|name| name.as_str().to_owned()).collect()
}

/// Calls another service, as a part of its own call.
#[rpc(readonly)]
async fn passes_on() -> Result<(Vec<String>, Vec<String>), Error> {
    Ok((headers().await, headers::on(&BACK).await?))
}

#[tokio::test]
async fn no_header_that_bears_authority_is_inherited() {
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let names = ["authorization", "cookie", "x-api-key", "traceparent"];
    let Ways { clients, running, _taps } = ways(server().method::<passes_on>()).await;
    for (way, client) in clients {
        let client = client.bearer("secret").header("cookie", "secret").header("x-api-key", "secret");
        let client = client.header("traceparent", traceparent);
        for _ in 0..12 {
            let (came, went) = passes_on::on(&client).await.unwrap();
            assert!(names.iter().all(|name| came.iter().any(|came| came == name)), "{way}: {came:?}");
            assert_eq!(went, ["traceparent"], "{way}");
        }
    }
    let headers = format!(
        "authorization: Basic x\r\nproxy-authorization: Basic x\r\ncookie: x\r\nx-forwarded-user: x\r\ntraceparent: {traceparent}\r\n"
    );
    let answer = raw(running.address, post_with("/rpc/passes_on", &headers, "")).await;
    assert_eq!(answer.json()[1], serde_json::json!(["traceparent"]), "{answer:?}");
}
