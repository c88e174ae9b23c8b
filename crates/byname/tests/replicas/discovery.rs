//! Where the replicas of a service are: lists, names, files, and discovery of the user's own.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{fs, io};

use crate::harness::unix::{TemporaryDirectory, UnixRunning};
use crate::harness::{Log, Running, Served, within};
use byname::{Address, Client, Code, Discover, DiscoverFuture, Error, Replicas, Server, Transport, rpc};
use tokio::runtime::Runtime;
use tokio::sync::{oneshot, watch};

/// Says which replica it is.
struct Replica(u16);

#[rpc]
impl Replica {
    #[rpc(readonly)]
    fn who(&self) -> u16 {
        self.0
    }
}

fn replica(number: u16) -> Server {
    Server::new().inject(Replica(number))
}

async fn who(client: &Client) -> Result<u16, Error> {
    within(client.call("who", ())).await.map_err(|error| error.rpc().expect("it has no error of its own").clone())
}

/// Calls until this replica answers.
async fn until(client: &Client, number: u16) {
    within(async { while who(client).await.unwrap() != number {} }).await;
}

fn client(url: &str, transport: Transport) -> Client {
    Client::builder(url).transport(transport).build().unwrap()
}

/// The answer that the test gives. Each lookup after the first waits for another.
struct Watched(watch::Receiver<Result<Replicas, &'static str>>);

impl Watched {
    fn new(first: &[Address]) -> (watch::Sender<Result<Replicas, &'static str>>, Self) {
        let (now, watched) = watch::channel(watch_answer(first));
        (now, Self(watched))
    }
}

fn watch_answer(addresses: &[Address]) -> Result<Replicas, &'static str> {
    Ok(Replicas::new(addresses.to_vec()).fresh_for(Duration::ZERO))
}

impl Discover for Watched {
    fn replicas<'a>(&'a self, known: Option<&'a Replicas>) -> DiscoverFuture<'a> {
        let mut now = self.0.clone();
        Box::pin(async move {
            Ok(now.wait_for(|now| now.as_ref().ok().is_none_or(|now| Some(now) != known)).await?.clone()?)
        })
    }
}

/// A port where nobody listens.
async fn dead() -> Address {
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    socket.local_addr().unwrap().into()
}

#[tokio::test]
async fn a_list_is_used_up_to_its_last_replica() {
    let (mut one, two) = (Running::new(replica(1)).await, Running::new(replica(2)).await);
    let client = client(&format!("{},{}", one.address, two.address), Transport::Http);
    assert!([1, 2].contains(&who(&client).await.unwrap()));
    let known = client.replicas().unwrap();
    assert_eq!((known.addresses, known.age), (vec![one.address.into(), two.address.into()], Duration::ZERO));
    one.stop();
    until(&client, 2).await;
}

#[tokio::test]
async fn frames_are_spread_over_a_list() {
    let (one, two) = (Running::new(replica(1)).await, UnixRunning::new(replica(2)).await);
    let three = UnixRunning::new(replica(3)).await;
    let tcp = client(&format!("{},localhost:{}", one.address, one.address.port()), Transport::Frames);
    assert_eq!(who(&tcp).await.unwrap(), 1);
    let unix = client(&format!("{},{}", two.address(), three.address()), Transport::Frames);
    until(&unix, 3).await;
    until(&unix, 2).await;
}

#[tokio::test]
async fn a_name_stands_for_its_addresses() {
    let running = Running::at(replica(1), "localhost:0").await;
    let client = client(&format!("localhost:{}/rpc", running.address.port()), Transport::Http);
    assert_eq!(client.replicas(), None, "nothing is looked up before the first call");
    assert_eq!(who(&client).await.unwrap(), 1);
    let known = client.replicas().unwrap();
    assert!(known.addresses.contains(&running.address.into()), "{known:?}");
    assert_eq!(known.failure, None);
}

#[tokio::test]
async fn a_name_that_is_not_found_leaves_the_rest_of_a_list() {
    let mut log = Log::new();
    let running = Running::new(replica(1)).await;
    let client = client(&format!("replica.invalid:1,{}", running.address), Transport::Http);
    assert_eq!(who(&client).await.unwrap(), 1);
    assert!(client.replicas().unwrap().failure.unwrap().starts_with("`replica.invalid:1`: "));
    log.until("a part of the replicas of http://replica.invalid:1,127.0.0.1:").await;
}

#[tokio::test]
async fn a_file_lists_replicas_of_every_kind() {
    let directory = TemporaryDirectory::new();
    let (one, two) = (Running::new(replica(1)).await, UnixRunning::new(replica(2).endpoint("/orders")).await);
    let path = directory.path().join("orders.replicas");
    let client = client(&format!("file://{}", path.display()), Transport::Http);
    let error = who(&client).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains("orders.replicas: can't read `/"), "{error}");

    fs::write(&path, format!("# two\n{}?endpoint=/orders\n{}\n", two.address(), one.address)).unwrap();
    assert_eq!(who(&client).await.unwrap(), 2);
    drop(two);
    until(&client, 1).await;
    assert_eq!(client.replicas().unwrap().addresses.len(), 2);
}

#[tokio::test]
async fn calls_leave_a_replica_that_discovery_no_longer_answers() {
    let (one, two) = (Running::new(replica(1)).await, Running::new(replica(2)).await);
    let (now, watched) = Watched::new(&[one.address.into()]);
    let client = Client::builder("localhost/rpc").discover(watched).transport(Transport::Http).build().unwrap();
    assert_eq!(who(&client).await.unwrap(), 1);
    now.send(watch_answer(&[two.address.into()])).unwrap();
    // The first one still runs, and there is a connection to it.
    until(&client, 2).await;
    assert_eq!(who(&client).await.unwrap(), 2);
    now.send(watch_answer(&[one.address.into(), two.address.into()])).unwrap();
    within(async {
        while client.replicas().unwrap().addresses.len() < 2 {
            who(&client).await.unwrap();
        }
    })
    .await;
    until(&client, 1).await;
}

/// It takes two looks at the connections of frames, which are ten seconds apart.
#[tokio::test]
#[ignore = "it takes 20 s"]
async fn calls_by_frames_leave_a_replica_that_discovery_no_longer_answers() {
    let (one, two) = (Running::new(replica(1)).await, Running::new(replica(2)).await);
    let (now, watched) = Watched::new(&[one.address.into()]);
    let client = Client::builder("localhost/rpc").discover(watched).build().unwrap();
    until(&client, 1).await;
    now.send(watch_answer(&[two.address.into()])).unwrap();
    until(&client, 2).await;
    for _ in 0..100 {
        assert_eq!(who(&client).await.unwrap(), 2, "the connection to the first one is left");
    }
}

#[tokio::test]
async fn the_last_good_answer_is_kept_with_its_age() {
    let mut log = Log::new();
    let running = Running::new(replica(1)).await;
    let (now, watched) = Watched::new(&[running.address.into()]);
    let client = Client::builder("localhost/rpc").discover(watched).transport(Transport::Http).build().unwrap();
    assert_eq!(who(&client).await.unwrap(), 1);
    now.send(Err("the registry is down")).unwrap();
    let failed = async {
        loop {
            assert_eq!(who(&client).await.unwrap(), 1, "the last good answer is used");
            let known = client.replicas().unwrap();
            if let Some(failure) = known.failure {
                assert_eq!(
                    (failure.as_str(), known.addresses),
                    ("`Discover::replicas` failed: the registry is down", vec![running.address.into()])
                );
                return assert!(known.age > Duration::ZERO);
            }
        }
    };
    within(failed).await;
    log.until("the replicas of http://localhost/rpc were not found, and the 1 that were found ").await;
    assert!(!log.lines().iter().any(|line| line.contains("were not found")), "it is said once");
}

#[tokio::test]
async fn the_call_that_finds_all_replicas_dead_takes_the_next_answer() {
    let running = Running::new(replica(1)).await;
    let addresses = [dead().await.socket_addr().unwrap(), running.address];
    /// Answers the first address, and then the second.
    struct Moved([SocketAddr; 2], AtomicUsize);
    impl Discover for Moved {
        fn replicas<'a>(&'a self, _: Option<&'a Replicas>) -> DiscoverFuture<'a> {
            let lookup = self.1.fetch_add(1, Ordering::Relaxed);
            let answer = Replicas::new([self.0[lookup.min(1)]]).fresh_for(Duration::from_secs(3600));
            Box::pin(async { Ok(answer) })
        }
    }
    let discover = Moved(addresses, AtomicUsize::new(0));
    let client = Client::builder("localhost/rpc").discover(discover).build().unwrap();
    // A second after the first lookup there is another, although the answer says that it holds for an hour.
    within(async { while who(&client).await.is_err() {} }).await;
    assert_eq!(client.replicas().unwrap().addresses, [running.address.into()]);
}

/// Answers once. Later lookups never end, and say when they begin and when they are dropped.
struct Silent {
    address: SocketAddr,
    lookups: AtomicUsize,
    begun: watch::Sender<usize>,
    dropped: Mutex<Option<oneshot::Sender<()>>>,
}

impl Silent {
    fn new(address: SocketAddr) -> (Arc<Self>, watch::Receiver<usize>, oneshot::Receiver<()>) {
        let (dropped, was_dropped) = oneshot::channel();
        let (begun, lookups) = watch::channel(0);
        let silent = Self { address, lookups: AtomicUsize::new(0), begun, dropped: Mutex::new(Some(dropped)) };
        (Arc::new(silent), lookups, was_dropped)
    }
}

struct SilentDiscovery(Arc<Silent>);

impl Discover for SilentDiscovery {
    fn replicas<'a>(&'a self, _: Option<&'a Replicas>) -> DiscoverFuture<'a> {
        let this = &self.0;
        let lookup = this.lookups.fetch_add(1, Ordering::Relaxed);
        this.begun.send_replace(lookup + 1);
        if lookup == 0 {
            let answer = Replicas::new([this.address]).fresh_for(Duration::ZERO);
            return Box::pin(async { Ok(answer) });
        }
        let dropped = this.dropped.lock().unwrap().take();
        Box::pin(async move {
            let _dropped = dropped;
            pending().await
        })
    }
}

/// Calls until this many lookups have begun.
async fn until_looked_up(client: &Client, lookups: &watch::Receiver<usize>, count: usize) {
    within(async {
        while *lookups.borrow() < count {
            assert_eq!(who(client).await.unwrap(), 1, "no call waits for a lookup");
        }
    })
    .await;
}

#[tokio::test]
async fn a_lookup_ends_with_its_client() {
    let running = Running::new(replica(1)).await;
    let (silent, lookups, was_dropped) = Silent::new(running.address);
    let client =
        Client::builder("localhost/rpc").discover(SilentDiscovery(silent)).transport(Transport::Http).build().unwrap();
    assert_eq!(who(&client).await.unwrap(), 1);
    assert_eq!(*lookups.borrow(), 1, "one call takes one lookup");
    until_looked_up(&client, &lookups, 2).await;
    drop(client);
    within(was_dropped).await.unwrap_err();
}

#[test]
fn a_lookup_that_was_lost_with_its_runtime_begins_again() {
    let servers = Runtime::new().unwrap();
    let running = servers.block_on(Running::new(replica(1)));
    let (silent, lookups, was_dropped) = Silent::new(running.address);
    let client =
        Client::builder("localhost/rpc").discover(SilentDiscovery(silent)).transport(Transport::Http).build().unwrap();
    let first = Runtime::new().unwrap();
    first.block_on(until_looked_up(&client, &lookups, 2));
    drop(first);
    servers.block_on(was_dropped).unwrap_err();
    servers.block_on(until_looked_up(&client, &lookups, 3));
}

#[tokio::test]
async fn a_discovery_that_panics_or_answers_nonsense_is_an_error() {
    struct Panics;
    impl Discover for Panics {
        fn replicas<'a>(&'a self, _: Option<&'a Replicas>) -> DiscoverFuture<'a> {
            panic!("in discovery")
        }
    }
    struct Answers(Address);
    impl Discover for Answers {
        fn replicas<'a>(&'a self, _: Option<&'a Replicas>) -> DiscoverFuture<'a> {
            Box::pin(async { Ok(Replicas::new([self.0.clone()])) })
        }
    }
    struct Fails;
    impl Discover for Fails {
        fn replicas<'a>(&'a self, _: Option<&'a Replicas>) -> DiscoverFuture<'a> {
            Box::pin(async { Err(io::Error::other("the registry is down").into()) })
        }
    }
    let here = [127, 0, 0, 1];
    let why = async |builder: byname::ClientBuilder| {
        let error = who(&builder.build().unwrap()).await.unwrap_err();
        assert_eq!(error.code(), Code::Unavailable);
        error.message().to_owned()
    };
    let builder = || Client::builder("localhost/rpc");
    assert!(why(builder().discover(Panics)).await.contains("`Discover::replicas` panicked"));
    assert!(why(builder().discover(Fails)).await.contains("the registry is down"));
    for nonsense in [Address::Ip(here.into()), SocketAddr::from((here, 0)).into(), Address::Unix(None)] {
        let message = why(builder().discover(Answers(nonsense))).await;
        assert!(message.contains("is not an address of a replica: it has no port or no path"), "{message}");
    }
}

#[cfg(feature = "tls")]
mod with_tls {
    use super::*;
    use crate::harness::tls::{Authority, server_tls, trusting};

    #[tokio::test]
    async fn replicas_have_the_certificate_of_the_service() {
        let authority = Authority::new("the authority");
        let tls = server_tls(&authority.sign(&["orders.internal"]));
        let served = |number| replica(number).tls(tls.clone()).hosts(["orders.internal"]);
        let (one, two) = (Running::new(served(1)).await, Running::new(served(2)).await);
        let directory = TemporaryDirectory::new();
        let path = directory.path().join("orders.replicas");
        fs::write(&path, format!("{}\n{}\n", one.address, two.address)).unwrap();
        let lines = directory.path().join("with-names.replicas");
        fs::write(&lines, format!("{}?tls=orders.internal\n", two.address)).unwrap();
        for (url, expected) in [
            (format!("{},{}?tls=orders.internal", one.address, two.address), vec![1, 2]),
            (format!("file://{}?tls=orders.internal", path.display()), vec![1, 2]),
            (format!("file://{}", lines.display()), vec![2]),
        ] {
            for transport in [Transport::Http, Transport::Frames] {
                let builder = Client::builder(&url).tls(trusting(&authority)).transport(transport);
                let answered = who(&builder.build().unwrap()).await.unwrap();
                assert!(expected.contains(&answered), "{url}: {answered}");
            }
        }
        let (_now, watched) = Watched::new(&[one.address.into()]);
        let builder = Client::builder("https://orders.internal").discover(watched).tls(trusting(&authority));
        assert_eq!(who(&builder.build().unwrap()).await.unwrap(), 1);
        // Without a name each replica is called by its own address.
        let list = format!("https://{},{}", one.address, two.address);
        let error = who(&Client::builder(list).tls(trusting(&authority)).build().unwrap()).await.unwrap_err();
        assert!(error.message().contains("is for `orders.internal`, not for `127.0.0.1`"), "{error}");
    }
}

/// Lets this time pass in the runtime of the caller. What follows runs by the real clock.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

fn one_thread() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn a_runtime_that_is_not_polled_does_not_stop_discovery_in_another() {
    let serving = Runtime::new().unwrap();
    let (one, two) = serving.block_on(async { (Running::new(replica(1)).await, Running::new(replica(2)).await) });
    let (now, watched) = Watched::new(&[one.address.into()]);
    let client = Client::builder("localhost/rpc").discover(watched).transport(Transport::Http).build().unwrap();
    let (stopped, other) = (one_thread(), one_thread());
    stopped.block_on(async {
        assert_eq!(who(&client).await, Ok(1));
        pass(Duration::from_secs(2)).await;
        // The next lookup begins in the background, and is polled while the call waits.
        assert_eq!(who(&client).await, Ok(1));
    });
    now.send(watch_answer(&[two.address.into()])).unwrap();
    other.block_on(async {
        pass(Duration::from_secs(20)).await;
        until(&client, 2).await;
    });
    drop(stopped);
}

/// The first lookup never ends.
struct SilentFirst(AtomicUsize, Address);

impl Discover for SilentFirst {
    fn replicas<'a>(&'a self, _: Option<&'a Replicas>) -> DiscoverFuture<'a> {
        let is_first = self.0.fetch_add(1, Ordering::Relaxed) == 0;
        let found = Replicas::new(vec![self.1.clone()]);
        Box::pin(async move { if is_first { pending().await } else { Ok(found) } })
    }
}

#[tokio::test]
async fn a_call_that_is_not_polled_does_not_keep_the_first_lookup_from_others() {
    let one = Running::new(replica(1)).await;
    let discover = SilentFirst(AtomicUsize::new(0), one.address.into());
    let client = Client::builder("localhost/rpc").discover(discover).transport(Transport::Http).build().unwrap();
    let mut unpolled = Box::pin(who(&client));
    crate::harness::foreign::start(&mut unpolled).await;
    let (answered, ()) = tokio::join!(who(&client), pass(Duration::from_secs(20)));
    assert_eq!(answered, Ok(1));
    assert_eq!(unpolled.await, Ok(1), "it goes on with what the other has found");
}
