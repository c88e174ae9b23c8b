//! Two replicas of a service, real processes, restarted in turn under load: no call fails and none runs twice.
//!
//! `BYNAME_RESTARTS=100 cargo test --release --test deployment -- --nocapture --test-threads 1 restarts::` is the long run,
//! whose figures stand in `docs/drain.md`.
#![cfg(target_os = "linux")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::error::Error as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[cfg(feature = "tls")]
use crate::harness::tls::{Authority, Folder, trusting};
use crate::harness::unix::TemporaryDirectory;
use crate::harness::{Process, within};
#[cfg(feature = "tls")]
use byname::ServerTls;
use byname::{Client, Context, Server, Transport, rpc};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use socket2::{Domain, Socket, Type};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Restarts without a word from outside: few, for this is also one of many tests.
const RESTARTS: usize = 6;

/// Callers that wait for their answers.
const CALLERS: usize = 64;

/// The time between two calls that wait for no answers.
const EVERY: Duration = Duration::from_millis(1);

/// How many calls a replica must have answered before it may be stopped.
const ANSWERED: u64 = 1000;

/// Where a child serves.
const REPLICA: &str = "BYNAME_TEST_REPLICA";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_over_http1_fails_or_runs_twice() {
    if serves().await {
        return;
    }
    let replicas = [Place::new(), Place::new()];
    let addresses = replicas.each_ref().map(|place| place.address);
    let client = Client::builder("localhost/rpc").addresses(addresses).transport(Transport::Http).build().unwrap();
    let call = move |id| {
        let call = client.call::<u32>("once", (id,));
        async move { call.await.map_err(|why| why.to_string()) }
    };
    let seen =
        restart("no_call_over_http1_fails_or_runs_twice", &replicas, restarts(RESTARTS), Load::Callers(CALLERS), call)
            .await;
    seen.check("HTTP/1.1, byname's client");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_by_frames_fails_or_runs_twice() {
    if serves().await {
        return;
    }
    let replicas = [Place::new(), Place::new()];
    let addresses = replicas.each_ref().map(|place| place.address);
    let client = Client::builder("localhost/rpc").addresses(addresses).build().unwrap();
    let call = move |id| {
        let call = client.call::<u32>("once", (id,));
        async move { call.await.map_err(|why| why.to_string()) }
    };
    let seen =
        restart("no_call_by_frames_fails_or_runs_twice", &replicas, restarts(RESTARTS), Load::Callers(CALLERS), call)
            .await;
    assert!(seen.by_frames > 0, "calls never went over to frames");
    seen.check("frames, byname's client");
}

/// Calls arrive throughout the drain, because none waits for the answer of another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_that_waits_for_no_other_fails_or_runs_twice() {
    if serves().await {
        return;
    }
    let test = "no_call_that_waits_for_no_other_fails_or_runs_twice";
    for transport in [Transport::Http, Transport::Frames] {
        let replicas = [Place::new(), Place::new()];
        let addresses = replicas.each_ref().map(|place| place.address);
        let client = Client::builder("localhost/rpc").addresses(addresses).transport(transport).build().unwrap();
        let call = move |id| {
            let call = client.call::<u32>("once", (id,));
            async move { call.await.map_err(|why| why.to_string()) }
        };
        let seen = restart(test, &replicas, restarts(2), Load::Every(EVERY), call).await;
        assert_eq!(seen.by_frames > 0, transport == Transport::Frames);
        seen.check(&format!("a call every {EVERY:?}, {transport:?}, byname's client"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_over_http2_fails_or_runs_twice() {
    if serves().await {
        return;
    }
    let replicas = [Place::new(), Place::new()];
    let addresses = replicas.each_ref().map(|place| place.address);
    let connections = [(); 4].map(|()| Arc::new(Http2::new(addresses)));
    let call = move |id: u64| {
        let connection = Arc::clone(&connections[id as usize % connections.len()]);
        async move { connection.call(id).await }
    };
    let seen =
        restart("no_call_over_http2_fails_or_runs_twice", &replicas, restarts(RESTARTS), Load::Callers(CALLERS), call)
            .await;
    seen.check("HTTP/2, hyper's client");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_on_a_connection_of_its_own_fails_or_runs_twice() {
    if serves().await {
        return;
    }
    let replicas = [Place::new(), Place::new()];
    let addresses = replicas.each_ref().map(|place| place.address);
    // Fewer, for each call leaves a socket in TIME_WAIT.
    let name = "no_call_on_a_connection_of_its_own_fails_or_runs_twice";
    let seen =
        restart(name, &replicas, restarts(RESTARTS), Load::Callers(CALLERS / 8), move |id| single(addresses, id)).await;
    seen.check("HTTP/1.1, a connection a call");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_over_unix_sockets_fails_or_runs_twice() {
    if serves().await {
        return;
    }
    for transport in [Transport::Http, Transport::Frames] {
        let replicas = [SocketPlace::new(), SocketPlace::new()];
        let addresses = replicas.each_ref().map(PlaceOfReplica::address);
        let client = Client::builder("localhost/rpc").addresses(addresses).transport(transport).build().unwrap();
        let call = move |id| {
            let call = client.call::<u32>("once", (id,));
            async move { call.await.map_err(|why| why.to_string()) }
        };
        let seen = restart(
            "no_call_over_unix_sockets_fails_or_runs_twice",
            &replicas,
            restarts(RESTARTS),
            Load::Callers(CALLERS),
            call,
        )
        .await;
        assert_eq!(seen.by_frames > 0, transport == Transport::Frames);
        seen.check(&format!("unix sockets, {transport:?}, byname's client"));
    }
}

#[cfg(feature = "tls")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_over_tls_fails_or_runs_twice() {
    if serves().await {
        return;
    }
    let test = "no_call_over_tls_fails_or_runs_twice";
    for transport in [Transport::Http, Transport::Frames] {
        restart_over_tls(test, RESTARTS, transport).await;
    }
}

#[cfg(feature = "tls")]
#[ignore = "it takes a minute; `.ci/run` runs it"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_restarts_over_tls_by_frames_fail_no_call_and_run_none_twice() {
    if serves().await {
        return;
    }
    let test = "a_hundred_restarts_over_tls_by_frames_fail_no_call_and_run_none_twice";
    restart_over_tls(test, 100, Transport::Frames).await;
}

#[cfg(feature = "tls")]
async fn restart_over_tls(test: &str, usually: usize, transport: Transport) {
    let authority = Authority::new("the authority");
    let folder = Folder::new(test);
    let (certificate, key) = authority.sign(&["127.0.0.1"]);
    folder.write("cert.pem", &certificate);
    folder.write("key.pem", &key);
    let replicas = [(); 2].map(|()| TlsPlace { place: Place::new(), certificate: folder.path("") });
    let addresses = replicas.each_ref().map(|replica| replica.place.address);
    let builder = Client::builder("https://127.0.0.1/rpc").addresses(addresses).tls(trusting(&authority));
    let client = builder.transport(transport).build().unwrap();
    let call = move |id| {
        let call = client.call::<u32>("once", (id,));
        async move { call.await.map_err(|why| why.to_string()) }
    };
    let seen = restart(test, &replicas, restarts(usually), Load::Callers(CALLERS), call).await;
    assert_eq!(seen.by_frames > 0, transport != Transport::Http);
    seen.check(&format!("TLS, {transport:?}, byname's client"));
}

// The replicas.

/// The calls that ran in one replica, and the connections that brought them.
#[derive(Default)]
struct Ledger {
    ran: Mutex<Vec<u64>>,
    peers: Mutex<BTreeSet<SocketAddr>>,
    by_frames: AtomicU64,
}

#[rpc]
impl Ledger {
    /// Not idempotent. Says which process ran it.
    async fn once(&self, id: u64) -> u32 {
        self.ran.lock().unwrap().push(id);
        let context = Context::current().unwrap();
        self.peers.lock().unwrap().extend(context.peer().and_then(|peer| peer.address.socket_addr()));
        // Every request of HTTP says what host it is for.
        self.by_frames.fetch_add(u64::from(context.header("host").is_none()), Ordering::Relaxed);
        // The work: some is in flight for long, some hardly.
        tokio::time::sleep(Duration::from_millis(id % 16)).await;
        std::process::id()
    }
}

/// In a child: serves until SIGTERM, and says what ran.
async fn serves() -> bool {
    let Ok(at) = std::env::var(REPLICA) else {
        return false;
    };
    let ledger = Arc::new(Ledger::default());
    let server = Server::new().inject(Arc::clone(&ledger));
    let bound = match at.split_once('\n') {
        None => server.serve(at),
        #[cfg(feature = "tls")]
        Some((address, folder)) => {
            let file = |name| std::path::Path::new(folder).join(name);
            server.tls(ServerTls::files(file("cert.pem"), file("key.pem")).unwrap()).serve(address)
        }
        #[cfg(not(feature = "tls"))]
        Some(_) => unreachable!("only tests of TLS have certificates"),
    };
    let bound = bound.bind().await.unwrap();
    println!("listening");
    bound.await.unwrap();
    println!("connections {}", ledger.peers.lock().unwrap().len());
    println!("by frames {}", ledger.by_frames.load(Ordering::Relaxed));
    let ran: Vec<_> = ledger.ran.lock().unwrap().iter().map(u64::to_string).collect();
    println!("ran {}", ran.join(" "));
    true
}

/// Where a replica comes back to.
trait PlaceOfReplica {
    fn address(&self) -> String;
}

impl PlaceOfReplica for Place {
    fn address(&self) -> String {
        self.address.to_string()
    }
}

/// The path of a unix socket.
struct SocketPlace(TemporaryDirectory);

impl SocketPlace {
    fn new() -> Self {
        Self(TemporaryDirectory::new())
    }
}

impl PlaceOfReplica for SocketPlace {
    fn address(&self) -> String {
        format!("unix:{}", self.0.path().join("replica.sock").display())
    }
}

/// An address with TLS, and the folder of its certificate.
#[cfg(feature = "tls")]
struct TlsPlace {
    place: Place,
    certificate: std::path::PathBuf,
}

#[cfg(feature = "tls")]
impl PlaceOfReplica for TlsPlace {
    fn address(&self) -> String {
        format!("{}\n{}", self.place.address, self.certificate.display())
    }
}

/// An address that a replica comes back to. Nobody else gets it meanwhile, for it is bound here, where nobody listens.
struct Place {
    address: SocketAddr,
    _bound: Socket,
}

impl Place {
    fn new() -> Self {
        let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        bound.set_reuse_address(true).unwrap();
        bound.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        Self { address: bound.local_addr().unwrap().as_socket().unwrap(), _bound: bound }
    }
}

struct Replica(Process);

impl Replica {
    async fn start(test: &str, place: &impl PlaceOfReplica) -> Self {
        let mut process = Process::run(&format!("restarts::{test}"), REPLICA, &place.address());
        process.said("listening").await;
        Self(process)
    }

    fn id(&self) -> u32 {
        self.0.id()
    }

    async fn stop(&mut self, seen: &mut Seen) {
        let Self(process) = self;
        process.signal("TERM").await;
        seen.connections += process.said("connections").await.parse::<usize>().unwrap();
        seen.by_frames += process.said("by frames").await.parse::<u64>().unwrap();
        for id in process.said("ran").await.split(' ').filter(|id| !id.is_empty()) {
            *seen.ran.entry(id.parse().unwrap()).or_default() += 1;
        }
        assert!(process.ended().await.success());
    }
}

// The callers.

/// What callers have to say.
#[derive(Default)]
struct Calls {
    next: AtomicU64,
    is_over: AtomicBool,
    succeeded: Mutex<Vec<u64>>,
    failed: Mutex<BTreeMap<u64, String>>,
    /// How many calls each process has answered.
    answered: watch::Sender<HashMap<u32, u64>>,
}

impl Calls {
    /// The number of the next call.
    fn next(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn ended(&self, id: u64, answer: Result<u32, String>) {
        match answer {
            Ok(by) => {
                self.succeeded.lock().unwrap().push(id);
                self.answered.send_modify(|answered| *answered.entry(by).or_default() += 1);
            }
            Err(why) => drop(self.failed.lock().unwrap().insert(id, why)),
        }
    }
}

/// What came of it, on both sides.
#[derive(Default)]
struct Seen {
    restarts: usize,
    connections: usize,
    by_frames: u64,
    ran: HashMap<u64, usize>,
    succeeded: Vec<u64>,
    failed: BTreeMap<u64, String>,
}

/// How many restarts a test makes.
fn restarts(usually: usize) -> usize {
    std::env::var("BYNAME_RESTARTS").map_or(usually, |restarts| restarts.parse().unwrap())
}

/// When the next call is made.
#[derive(Clone, Copy)]
enum Load {
    /// Each of this number of callers makes its next call when the last one is answered.
    Callers(usize),
    /// After this time, whether the others are answered or not.
    Every(Duration),
}

/// Restarts the replicas in turn under this load.
async fn restart<F: Future<Output = Result<u32, String>> + Send + 'static>(
    test: &str,
    places: &[impl PlaceOfReplica; 2],
    restarts: usize,
    load: Load,
    call: impl Fn(u64) -> F + Clone + Send + 'static,
) -> Seen {
    let calls = Arc::new(Calls::default());
    let mut seen = Seen::default();
    let mut replicas = [Replica::start(test, &places[0]).await, Replica::start(test, &places[1]).await];
    let mut running = JoinSet::new();
    match load {
        Load::Callers(callers) => {
            for _ in 0..callers {
                let (calls, call) = (Arc::clone(&calls), call.clone());
                running.spawn(async move {
                    while !calls.is_over.load(Ordering::Relaxed) {
                        let id = calls.next();
                        calls.ended(id, call(id).await);
                    }
                });
            }
        }
        Load::Every(pause) => {
            let calls = Arc::clone(&calls);
            running.spawn(async move {
                let (mut due, mut unanswered) = (tokio::time::interval(pause), JoinSet::new());
                while !calls.is_over.load(Ordering::Relaxed) {
                    due.tick().await;
                    let (calls, id) = (Arc::clone(&calls), calls.next());
                    let call = call(id);
                    unanswered.spawn(async move { calls.ended(id, call.await) });
                }
                unanswered.join_all().await;
            });
        }
    }
    let mut answered = calls.answered.subscribe();
    for turn in 0..restarts {
        // In turn where both have calls; one connection that bears all has them at one.
        let ids = replicas.each_ref().map(Replica::id);
        let has_load = |answered: &HashMap<u32, u64>, at: usize| answered.get(&ids[at]).is_some_and(|n| *n >= ANSWERED);
        let next =
            |answered: &HashMap<u32, u64>| [turn % 2, 1 - turn % 2].into_iter().find(|at| has_load(answered, *at));
        let next = next(&within(answered.wait_for(|answered| next(answered).is_some())).await.unwrap()).unwrap();
        replicas[next].stop(&mut seen).await;
        replicas[next] = Replica::start(test, &places[next]).await;
        seen.restarts += 1;
    }
    calls.is_over.store(true, Ordering::Relaxed);
    while let Some(ended) = within(running.join_next()).await {
        ended.unwrap();
    }
    for replica in &mut replicas {
        replica.stop(&mut seen).await;
    }
    seen.succeeded = std::mem::take(&mut calls.succeeded.lock().unwrap());
    seen.failed = std::mem::take(&mut calls.failed.lock().unwrap());
    seen
}

impl Seen {
    fn check(&self, callers: &str) {
        let twice = self.ran.values().filter(|count| **count > 1).count();
        let lost = self.succeeded.iter().filter(|id| !self.ran.contains_key(id)).count();
        println!(
            "{callers}: {} restarts, {} calls, {} of them by frames, {} failed, {twice} run twice, {} connections",
            self.restarts,
            self.succeeded.len() + self.failed.len(),
            self.by_frames,
            self.failed.len(),
            self.connections,
        );
        for (id, why) in self.failed.iter().take(10) {
            println!("  call {id}, run {} times: {why}", self.ran.get(id).unwrap_or(&0));
        }
        assert_eq!((self.failed.len(), twice, lost), (0, 0, 0), "{callers}: failed, run twice, answered but not run");
    }
}

/// One HTTP/2 connection to the replica that accepts it, opened again when that replica ends.
struct Http2 {
    addresses: [SocketAddr; 2],
    kept: tokio::sync::Mutex<Option<Sender>>,
}

#[derive(Clone)]
struct Sender {
    sender: http2::SendRequest<Full<Bytes>>,
    /// Closed once the connection has ended.
    open: watch::Receiver<()>,
}

impl Http2 {
    fn new(addresses: [SocketAddr; 2]) -> Self {
        Self { addresses, kept: tokio::sync::Mutex::new(None) }
    }

    async fn call(&self, id: u64) -> Result<u32, String> {
        let mut request = once(id);
        loop {
            let Sender { mut sender, mut open } = self.sender().await?;
            let sent = tokio::select! {
                biased;
                sent = sender.try_send_request(request) => sent,
                // hyper's client may never say what came of a request that it took just as its connection ended. If the
                // server has run it after all, that shows, for then it runs twice.
                () = long_ended(&mut open) => {
                    request = once(id);
                    continue;
                }
            };
            match sent {
                Ok(response) => return read(response).await,
                // The server had said goodbye before the request was sent.
                Err(mut why) => match why.take_message() {
                    Some(unsent) => request = unsent,
                    None => match why.into_error() {
                        why if is_beyond_the_end(&why) => request = once(id),
                        why => return Err(format!("{why:?}")),
                    },
                },
            }
        }
    }

    async fn sender(&self) -> Result<Sender, String> {
        let mut kept = self.kept.lock().await;
        if let Some(kept) = &mut *kept
            && kept.sender.ready().await.is_ok()
        {
            return Ok(kept.clone());
        }
        let stream = TokioIo::new(connect(self.addresses).await?);
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), stream).await.map_err(|why| why.to_string())?;
        let (ends, open) = watch::channel(());
        tokio::spawn(async move {
            let _ = connection.await;
            drop(ends);
        });
        Ok(kept.insert(Sender { sender, open }).clone())
    }
}

/// What a connection has read is handed out by tasks of their own, some time after its end at the latest.
async fn long_ended(open: &mut watch::Receiver<()>) {
    while open.changed().await.is_ok() {}
    tokio::time::sleep(Duration::from_secs(5)).await;
}

/// Whether a request came after the last that a server of HTTP/2 had said it would answer (RFC 9113, section 6.8), which
/// is what reqwest sends again as well.
fn is_beyond_the_end(why: &hyper::Error) -> bool {
    let why = why.source().and_then(|why| why.downcast_ref::<h2::Error>());
    why.is_some_and(|why| why.is_go_away() && why.is_remote() && why.reason() == Some(h2::Reason::NO_ERROR))
}

/// One call by HTTP/1.1 on a connection that is opened for it, to each address in turn.
async fn single(mut addresses: [SocketAddr; 2], id: u64) -> Result<u32, String> {
    addresses.rotate_left(id as usize % 2);
    let words = |why: hyper::Error| format!("{why:?}");
    let stream = TokioIo::new(connect(addresses).await?);
    let (mut sender, connection) = http1::handshake(stream).await.map_err(words)?;
    let connection = tokio::spawn(connection);
    let answer = read(sender.send_request(once(id)).await.map_err(words)?).await;
    drop(sender);
    let _ = connection.await;
    answer
}

async fn connect(addresses: [SocketAddr; 2]) -> Result<TcpStream, String> {
    match TcpStream::connect(addresses[0]).await {
        Ok(stream) => Ok(stream),
        Err(_) => TcpStream::connect(addresses[1]).await.map_err(|why| why.to_string()),
    }
}

fn once(id: u64) -> Request<Full<Bytes>> {
    let request = Request::post("http://localhost/rpc/once").header("host", "localhost");
    request.body(Full::from(format!("[{id}]"))).unwrap()
}

async fn read(response: Response<hyper::body::Incoming>) -> Result<u32, String> {
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|why| format!("{why:?}"))?.to_bytes();
    match serde_json::from_slice(&body) {
        Ok(by) if status == StatusCode::OK => Ok(by),
        _ => Err(format!("{status}: {}", String::from_utf8_lossy(&body))),
    }
}
