//! One trace in OpenTelemetry: a page, a business tier and a data tier. Each tier has a thread, a subscriber and an exporter of its own,
//! as a process has.

mod harness;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use byname::{CallError, Client, Code, Context, Error, Server, Transport, rpc};
use futures_util::future::join_all;
use futures_util::{Stream, StreamExt as _, stream};
use harness::{Log, foreign, post, post_with, raw, within};
use opentelemetry::trace::{Event, SpanKind, Status, TracerProvider as _};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use serde_json::json;
use tokio::sync::{Notify, oneshot};
use tokio::task::yield_now;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::layer::SubscriberExt as _;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
/// The span of the page.
const PAGE: &str = "b7ad6b7169203331";

/// A server in a thread of its own, with its own OpenTelemetry.
struct Tier {
    address: SocketAddr,
    exported: InMemorySpanExporter,
    stop: oneshot::Sender<()>,
    /// Its exporter forgets everything with the provider.
    thread: JoinHandle<SdkTracerProvider>,
}

impl Tier {
    fn new(server: impl FnOnce() -> Server + Send + 'static) -> Self {
        // Its subscribers keep those of other threads from deciding for this one.
        drop(Log::new());
        let exported = InMemorySpanExporter::default();
        let (stop, stopped) = oneshot::channel::<()>();
        let (tell, told) = mpsc::channel();
        let exporter = exported.clone();
        let thread = std::thread::spawn(move || {
            let (_subscriber, provider) = exporting(exporter);
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                let until = async { drop(stopped.await) };
                let bound = server().serve("127.0.0.1:0").until(until).bind().await.unwrap();
                tell.send(bound.local_addr().socket_addr().unwrap()).unwrap();
                bound.await.unwrap();
            });
            provider
        });
        let address = told.recv().expect("the thread has bound its socket");
        Self { address, exported, stop, thread }
    }

    fn url(&self) -> String {
        format!("{}/rpc", self.address)
    }

    /// All its spans, once it has ended.
    fn spans(self) -> Vec<SpanData> {
        drop(self.stop);
        let _provider = self.thread.join().unwrap();
        self.exported.get_finished_spans().unwrap()
    }
}

/// This thread's spans go to that exporter.
fn exporting(exporter: InMemorySpanExporter) -> (DefaultGuard, SdkTracerProvider) {
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    (guard, provider)
}

/// The attribute of this name, as text.
fn attribute(span: &SpanData, name: &str) -> String {
    let found: Vec<_> = span.attributes.iter().filter(|attribute| attribute.key.as_str() == name).collect();
    assert!(found.len() < 2, "{name}: {span:?}");
    found.first().map_or("-".to_owned(), |attribute| attribute.value.to_string())
}

/// The attempts after the first: the event of each, its number, and why it was made.
fn attempts(span: &SpanData) -> Vec<[String; 4]> {
    // The exporter has the log lines of the span too.
    let events = span.events.iter().filter(|event| event.name.starts_with("byname."));
    let said = |event: &Event, name| {
        let found = event.attributes.iter().find(|attribute| attribute.key.as_str() == name);
        found.map_or("-".to_owned(), |attribute| attribute.value.to_string())
    };
    let attempt = |event: &Event| {
        let [number, code, message] = ["byname.attempt", "error.type", "error.message"].map(|name| said(event, name));
        [event.name.to_string(), number, code, message]
    };
    events.map(attempt).collect()
}

#[track_caller]
fn only<'s>(spans: &'s [SpanData], name: &str, kind: SpanKind) -> &'s SpanData {
    let found: Vec<_> = spans.iter().filter(|span| span.name == name && span.span_kind == kind).collect();
    assert_eq!(found.len(), 1, "{name}, {kind:?}: {spans:#?}");
    found[0]
}

/// The id of the parent.
fn parent(span: &SpanData) -> String {
    span.parent_span_id.to_string()
}

fn id(span: &SpanData) -> String {
    span.span_context.span_id().to_string()
}

#[rpc(readonly)]
async fn stock(item: u64) -> Result<u64, Error> {
    match (item, Context::current().unwrap().attempt()) {
        (404, _) => Err(Error::new(Code::NotFound, "there is none")),
        (503, 1) => Err(Error::new(Code::Unavailable, "not yet")),
        _ => Ok(item),
    }
}

#[rpc(readonly)]
fn prices(count: u64) -> impl Stream<Item = Result<u64, Error>> {
    stream::iter(0..=count).map(move |price| match price {
        price if price == count && count > 2 => Err(Error::new(Code::DataLoss, "there are no more")),
        price => Ok(price),
    })
}

/// Told when [`hangs`] runs.
static HANGS: Notify = Notify::const_new();

#[rpc(readonly)]
async fn hangs() {
    HANGS.notify_one();
    std::future::pending().await
}

#[rpc(readonly)]
fn endless() -> impl Stream<Item = u64> {
    stream::iter(0..).then(|number| async move {
        yield_now().await;
        number
    })
}

/// The business tier, which calls the data tier at this URL.
fn business(url: String, transport: Transport) -> Server {
    let data = Client::builder(&url).transport(transport).build().unwrap();
    let (one, two) = (data.clone(), data.clone());
    Server::new()
        .function("checkout", move |item: u64| {
            let data = one.clone();
            async move {
                stock::on(&data, item).await.map_err(|failed| match failed {
                    CallError::Rpc(error) | CallError::Method(error) => error.code().as_str(),
                })
            }
        })
        .function("list", move |count: u64| {
            let data = two.clone();
            async move { prices::on(&data, count).map(|price| price.is_ok()).collect::<Vec<_>>().await }
        })
        .function("until_by_frames", move || {
            let data = data.clone();
            async move {
                while !data.call::<bool>("came_by_frames", ()).await.unwrap() {
                    yield_now().await;
                }
            }
        })
}

fn data() -> Server {
    let came_by_frames = || async { Context::current().unwrap().header("host").is_none() };
    Server::new().method::<stock>().method::<prices>().function("came_by_frames", came_by_frames)
}

/// A data tier, and a business tier that calls it by this transport.
async fn two_tiers(transport: Transport) -> (Tier, Tier) {
    let data_tier = Tier::new(data);
    let url = data_tier.url();
    let business_tier = Tier::new(move || business(url, transport));
    if transport == Transport::Frames {
        assert_eq!(raw(business_tier.address, post("/rpc/until_by_frames", "[]")).await.status, 200);
    }
    (business_tier, data_tier)
}

/// The spans of [`TRACE`] that both tiers have exported.
fn spans_of((business, data): (Tier, Tier)) -> (Vec<SpanData>, Vec<SpanData>) {
    let of_trace = |tier: Tier| {
        let mut spans = tier.spans();
        spans.retain(|span| span.span_context.trace_id().to_string() == TRACE);
        spans
    };
    (of_trace(business), of_trace(data))
}

/// Calls the business tier as a page does.
async fn page(business: &Tier, name: &str, argument: u64, flags: &str) -> String {
    let headers = format!("traceparent: 00-{TRACE}-{PAGE}-{flags}\r\ntracestate: page=1\r\n");
    let answer =
        raw(business.address, post_with(&format!("/rpc/{name}"), &headers, &json!([argument]).to_string())).await;
    assert_eq!(answer.status, if name == "checkout" && argument == 404 { 422 } else { 200 }, "{answer:?}");
    answer.body
}

#[tokio::test]
async fn a_trace_goes_from_a_page_through_the_business_tier_to_the_data_tier() {
    for transport in [Transport::Http, Transport::Frames] {
        let tiers = two_tiers(transport).await;
        assert_eq!(page(&tiers.0, "checkout", 7, "01").await, "7");
        let port = tiers.1.address.port().to_string();
        let (business, data) = spans_of(tiers);
        let checkout = only(&business, "checkout", SpanKind::Server);
        let made = only(&business, "stock", SpanKind::Client);
        let served = only(&data, "stock", SpanKind::Server);
        assert_eq!((business.len(), data.len()), (2, 1));
        for span in [checkout, made, served] {
            assert_eq!(span.span_context.trace_id().to_string(), TRACE);
            assert_eq!(span.span_context.trace_state().header(), "page=1");
            assert_eq!(attribute(span, "rpc.system.name"), "byname");
            assert_eq!(attribute(span, "rpc.method"), span.name);
            assert_eq!(attribute(span, "rpc.response.status_code"), "ok");
            assert_eq!((attribute(span, "error.type"), &span.status), ("-".to_owned(), &Status::Unset));
            assert_eq!(attribute(span, "span_id"), id(span), "logs have the ids of OpenTelemetry");
        }
        assert_eq!([parent(checkout), parent(made), parent(served)], [PAGE.to_owned(), id(checkout), id(made)]);
        assert!(checkout.parent_span_is_remote && served.parent_span_is_remote && !made.parent_span_is_remote);
        assert_eq!(
            ["server.address", "server.port", "byname.attempts"].map(|name| attribute(made, name)),
            ["127.0.0.1", &port, "1"]
        );
    }
}

#[tokio::test]
async fn an_error_is_the_status_of_the_call_and_of_the_server_if_it_is_the_servers() {
    let tiers = two_tiers(Transport::Http).await;
    assert!(page(&tiers.0, "checkout", 404, "01").await.contains("not_found"));
    let (business, data) = spans_of(tiers);
    let made = only(&business, "stock", SpanKind::Client);
    let served = only(&data, "stock", SpanKind::Server);
    for span in [made, served] {
        let codes = ["rpc.response.status_code", "error.type"].map(|name| attribute(span, name));
        assert_eq!(codes, ["not_found", "not_found"]);
    }
    assert_eq!(
        (&made.status, &served.status),
        (&Status::error("there is none"), &Status::Unset),
        "the caller asked for what is not there"
    );
    let checkout = only(&business, "checkout", SpanKind::Server);
    let said = Status::error("`checkout` returned its own error: \"not_found\"");
    assert_eq!((attribute(checkout, "error.type"), &checkout.status), ("unknown".to_owned(), &said));
}

#[tokio::test]
async fn a_status_says_nothing_of_arguments() {
    let data_tier =
        Tier::new(|| data().function("fails", || async { Err::<(), _>(Error::new(Code::Internal, "no room")) }));
    let exported = InMemorySpanExporter::default();
    let (_subscriber, _provider) = exporting(exported.clone());
    let client = Client::builder(data_tier.url()).transport(Transport::Http).build().unwrap();
    for (name, arguments) in [("stock", json!(["secret"])), ("fails", json!([]))] {
        client.call::<u64>(name, arguments.as_array().unwrap().clone()).await.unwrap_err();
    }
    let (business, data) = (exported.get_finished_spans().unwrap(), data_tier.spans());
    let made = ["stock", "fails"].map(|name| &only(&business, name, SpanKind::Client).status);
    assert_eq!(made, [&Status::error(""), &Status::error("no room")]);
    assert_eq!(only(&data, "fails", SpanKind::Server).status, Status::error("no room"));
    assert!(!format!("{business:?}{data:?}").contains("secret"));
}

#[tokio::test]
async fn attempts_share_the_span_of_their_call() {
    for transport in [Transport::Http, Transport::Frames] {
        let tiers = two_tiers(transport).await;
        assert_eq!(page(&tiers.0, "checkout", 503, "01").await, "503");
        let (business, data) = spans_of(tiers);
        let made = only(&business, "stock", SpanKind::Client);
        assert_eq!((attribute(made, "byname.attempts"), &made.status), ("2".to_owned(), &Status::Unset));
        assert_eq!(attempts(made), [["byname.retry", "2", "unavailable", "not yet"]], "{transport:?}");
        let codes: Vec<_> = data.iter().map(|span| attribute(span, "rpc.response.status_code")).collect();
        assert_eq!(codes, ["unavailable", "ok"]);
        assert!(data.iter().all(|span| parent(span) == id(made)), "{data:#?}");
        assert_ne!(id(&data[0]), id(&data[1]));
    }
}

/// A replica that answers when it is let.
#[derive(Default)]
struct Replica {
    arrived: AtomicUsize,
    stands_still: AtomicBool,
    released: Notify,
}

#[rpc]
impl Replica {
    #[rpc(readonly, hedge)]
    async fn look(&self) {
        self.arrived.fetch_add(1, Ordering::SeqCst);
        while self.stands_still.load(Ordering::SeqCst) {
            self.released.notified().await;
        }
    }
}

impl Replica {
    fn stand_still(&self, stands_still: bool) {
        self.stands_still.store(stands_still, Ordering::SeqCst);
        // One that has looked at the flag and does not wait yet has the permit.
        self.released.notify_waiters();
        self.released.notify_one();
    }

    fn arrived(&self) -> usize {
        self.arrived.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn a_second_attempt_beside_the_first_is_an_event_of_the_call() {
    let replicas = [(); 2].map(|()| Arc::new(Replica::default()));
    let tiers = replicas.clone().map(|replica| Tier::new(move || data().inject(replica)));
    let exported = InMemorySpanExporter::default();
    let (_subscriber, provider) = exporting(exported.clone());
    let client = Client::builder("localhost/rpc").addresses(tiers.iter().map(|tier| tier.address));
    let client = client.transport(Transport::Http).build().unwrap();
    while replicas.iter().any(|replica| replica.arrived() == 0) {
        within(Replica::on(&client).look()).await.unwrap();
    }
    // They all begin before the first is answered, so none of them is hedged, and each takes longer than any later one.
    replicas.iter().for_each(|replica| replica.stand_still(true));
    let before = replicas.iter().map(|replica| replica.arrived()).sum::<usize>();
    let calls = join_all((0..300).map(|_| Replica::on(&client).look()));
    let release = async {
        while replicas.iter().map(|replica| replica.arrived()).sum::<usize>() < before + 100 {
            yield_now().await;
        }
        replicas.iter().for_each(|replica| replica.stand_still(false));
    };
    let (answers, ()) = within(async { tokio::join!(calls, release) }).await;
    assert!(answers.iter().all(Result::is_ok));
    exported.reset();
    replicas[0].stand_still(true);
    let before = replicas[0].arrived();
    while replicas[0].arrived() == before {
        within(Replica::on(&client).look()).await.unwrap();
    }
    replicas[0].stand_still(false);
    let made = exported.get_finished_spans().unwrap().pop().unwrap();
    assert_eq!(attempts(&made), [["byname.hedge", "2", "-", "-"]]);
    assert_eq!(
        (attribute(&made, "byname.attempts"), attribute(&made, "rpc.response.status_code")),
        ("2".into(), "ok".into())
    );
    drop((client, provider));
    for tier in tiers {
        let served = tier.spans();
        assert_eq!(served.iter().filter(|served| parent(served) == id(&made)).count(), 1, "both are under the call");
    }
}

#[tokio::test]
async fn the_spans_of_a_stream_end_with_it() {
    for transport in [Transport::Http, Transport::Frames] {
        for (count, code, status) in [(2, "ok", Status::Unset), (5, "data_loss", Status::error("there are no more"))] {
            let tiers = two_tiers(transport).await;
            page(&tiers.0, "list", count, "01").await;
            let (business, data) = spans_of(tiers);
            let (made, served) = (only(&business, "prices", SpanKind::Client), only(&data, "prices", SpanKind::Server));
            assert_eq!((parent(served), parent(made)), (id(made), id(only(&business, "list", SpanKind::Server))));
            for span in [made, served] {
                assert_eq!((attribute(span, "rpc.response.status_code"), &span.status), (code.to_owned(), &status));
            }
        }
    }
}

/// On more than one thread, because this one waits for the tier, which waits until the connections of the client are closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_spans_of_a_call_and_of_a_stream_that_are_dropped_end() {
    for transport in [Transport::Http, Transport::Frames] {
        let data_tier = Tier::new(|| data().method::<endless>().method::<hangs>());
        let exported = InMemorySpanExporter::default();
        let (_subscriber, _provider) = exporting(exported.clone());
        let soon = Duration::from_millis(1);
        let client = Client::builder(data_tier.url()).transport(transport).limits(|limits| limits.abandoned = soon);
        let client = client.build().unwrap();
        while transport == Transport::Frames && !client.call::<bool>("came_by_frames", ()).await.unwrap() {
            yield_now().await;
        }
        let mut call = hangs::on(&client);
        foreign::during(&mut call, HANGS.notified()).await;
        drop(call);
        let mut numbers = endless::on(&client);
        numbers.next().await.unwrap().unwrap();
        drop(numbers);
        let (business, data) = (exported.get_finished_spans().unwrap(), data_tier.spans());
        for name in ["hangs", "endless"] {
            let (made, served) = (only(&business, name, SpanKind::Client), only(&data, name, SpanKind::Server));
            assert_eq!(parent(served), id(made));
            for span in [made, served] {
                assert_eq!(attribute(span, "rpc.response.status_code"), "cancelled", "{transport:?}: {span:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_trace_that_is_not_sampled_is_passed_on_so() {
    let data_tier = Tier::new(|| {
        let told = || async { Context::current().unwrap().header("traceparent").map(str::to_owned) };
        data().function("told", told)
    });
    let url = data_tier.url();
    let business_tier = Tier::new(move || {
        let data = Client::builder(&url).transport(Transport::Http).build().unwrap();
        Server::new().function("told", move |_: u64| {
            let data = data.clone();
            async move { data.call::<Option<String>>("told", ()).await.unwrap() }
        })
    });
    let told = page(&business_tier, "told", 0, "00").await;
    assert!(told.starts_with(&format!("\"00-{TRACE}-")) && told.ends_with("-00\""), "{told}");
    assert!(!told.contains(PAGE), "{told}");
    assert_eq!((business_tier.spans().len(), data_tier.spans().len()), (0, 0));
}

/// Enough calls that the connection changes to frames, and that quick functions are polled inline.
#[tokio::test]
async fn every_call_by_frames_is_joined() {
    let data_tier = Tier::new(data);
    let exported = InMemorySpanExporter::default();
    let _provider = {
        let (_subscriber, provider) = exporting(exported.clone());
        let client = Client::new(data_tier.url()).unwrap();
        while !within(client.call::<bool>("came_by_frames", ())).await.unwrap() {
            yield_now().await;
        }
        for item in 0..50 {
            stock::on(&client, item).await.unwrap();
        }
        provider
    };
    let (made, served) = (exported.get_finished_spans().unwrap(), data_tier.spans());
    assert!(made.len() >= 50 && made.len() == served.len(), "{} and {}", made.len(), served.len());
    for made in &made {
        let one = served.iter().filter(|served| parent(served) == id(made)).collect::<Vec<_>>();
        assert_eq!((one.len(), made.span_kind.clone()), (1, SpanKind::Client));
        assert_eq!(one[0].span_context.trace_id(), made.span_context.trace_id(), "each call begins a trace");
    }
}

#[tokio::test]
async fn a_call_is_under_the_span_of_the_code_around_it() {
    use tracing::Instrument as _;
    let data_tier = Tier::new(data);
    let exported = InMemorySpanExporter::default();
    let _provider = {
        let (_subscriber, provider) = exporting(exported.clone());
        let client = Client::builder(data_tier.url()).transport(Transport::Http).build().unwrap();
        async {
            stock::on(&client, 1).await.unwrap();
            stock::on(&client, 2).await.unwrap();
        }
        .instrument(tracing::info_span!("nightly"))
        .await;
        provider
    };
    let spans = exported.get_finished_spans().unwrap();
    let nightly = only(&spans, "nightly", SpanKind::Internal);
    let calls: Vec<_> = spans.iter().filter(|span| span.name == "stock").map(parent).collect();
    assert_eq!(calls, [id(nightly), id(nightly)]);
    let trace = nightly.span_context.trace_id();
    assert!(data_tier.spans().iter().all(|span| span.span_context.trace_id() == trace));
}
