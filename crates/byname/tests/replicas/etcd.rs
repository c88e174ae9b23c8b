//! Servers that announce themselves in a real etcd, and clients that find them there: etcd is killed, paused and compacted.
//!
//! `cargo test -p byname --features etcd --test replicas -- --ignored etcd::`, where etcd is installed.
#![cfg(target_os = "linux")]

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::harness::unix::TemporaryDirectory;
use crate::harness::{Log, post, raw, within};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use byname::{Client, Error, KnownReplicas, Server, Transport, rpc};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, yield_now};

/// How long etcd keeps the key of a server that says nothing.
const TTL: Duration = Duration::from_secs(10);

/// Says which replica it is.
struct Replica(u16);

#[rpc]
impl Replica {
    #[rpc(readonly)]
    fn who(&self) -> u16 {
        self.0
    }
}

/// A member of etcd, mostly the only one of its cluster. It ends when this is dropped.
struct Etcd {
    address: SocketAddr,
    peers: SocketAddr,
    /// All members, with the addresses for their peers.
    cluster: String,
    directory: TemporaryDirectory,
    child: Option<Child>,
    /// Keep the ports from others: bound here, where nobody listens.
    _bound: [Socket; 2],
}

impl Etcd {
    async fn new() -> Self {
        let mut etcd = Self::not_started();
        etcd.start().await;
        etcd
    }

    fn not_started() -> Self {
        let bound = [(); 2].map(|()| {
            let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            bound.set_reuse_address(true).unwrap();
            bound.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
            bound
        });
        let [address, peers] = [0, 1].map(|at| bound[at].local_addr().unwrap().as_socket().unwrap());
        let cluster = format!("{0}=http://{peers}", address.port());
        Self { address, peers, cluster, directory: TemporaryDirectory::new(), child: None, _bound: bound }
    }

    /// Three members.
    async fn cluster() -> [Self; 3] {
        let mut members = [(); 3].map(|()| Self::not_started());
        let cluster = members.each_ref().map(|member| member.cluster.clone()).join(",");
        for member in &mut members {
            member.cluster.clone_from(&cluster);
            member.spawn();
        }
        for member in &members {
            member.answers().await;
        }
        members
    }

    /// Starts it, with what it had stored before, and waits until it answers.
    async fn start(&mut self) {
        self.spawn();
        self.answers().await;
    }

    fn spawn(&mut self) {
        let (clients, peers) = (format!("http://{}", self.address), format!("http://{}", self.peers));
        let data = self.directory.path().join("data");
        let log = fs::File::create(self.directory.path().join("log")).unwrap();
        let mut command = Command::new("etcd");
        command.args(["--name", &self.address.port().to_string(), "--data-dir", data.to_str().unwrap()]);
        command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
        command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
        command.args(["--initial-cluster", &self.cluster]);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).kill_on_drop(true);
        self.child = Some(command.spawn().expect("etcd must be installed for this test"));
    }

    async fn answers(&self) {
        within(async {
            while TcpStream::connect(self.address).await.is_err() {
                yield_now().await;
            }
            // It listens before it has a leader.
            while self.asked("/v3/kv/put", json!({ "key": "YQ==" })).await.get("header").is_none() {
                yield_now().await;
            }
        })
        .await;
    }

    async fn kill(&mut self) {
        self.child.take().unwrap().kill().await.unwrap();
    }

    async fn signal(&self, signal: &str) {
        let id = self.child.as_ref().unwrap().id().unwrap().to_string();
        assert!(Command::new("kill").args(["-s", signal, &id]).status().await.unwrap().success());
    }

    async fn asked(&self, path: &str, body: Value) -> Value {
        let answer = raw(self.address, post(path, &body.to_string())).await;
        // An error may be without a body.
        serde_json::from_str(&answer.body).unwrap_or_default()
    }

    async fn put(&self, key: &str, value: &str) {
        let [key, value] = [key, value].map(|text| BASE64_STANDARD.encode(text));
        within(async {
            // Not while there is no leader.
            while self.asked("/v3/kv/put", json!({ "key": key, "value": value })).await.get("header").is_none() {
                yield_now().await;
            }
        })
        .await;
    }

    /// Forgets every revision but the last.
    async fn compact(&self) {
        let revision = self.below("orders").await["header"]["revision"].clone();
        let answer = self.asked("/v3/kv/compaction", json!({ "revision": revision, "physical": true })).await;
        assert!(answer.get("error").is_none(), "{answer}");
    }

    /// The keys below a prefix and their values.
    async fn keys(&self, prefix: &str) -> Vec<(String, String)> {
        let answer = self.below(prefix).await;
        let text = |value: &Value| String::from_utf8(BASE64_STANDARD.decode(value.as_str().unwrap()).unwrap()).unwrap();
        let entries = answer["kvs"].as_array().cloned().unwrap_or_default();
        entries.iter().map(|entry| (text(&entry["key"]), text(&entry["value"]))).collect()
    }

    async fn below(&self, prefix: &str) -> Value {
        let [key, range_end] = [format!("{prefix}/"), format!("{prefix}0")].map(|text| BASE64_STANDARD.encode(text));
        self.asked("/v3/kv/range", json!({ "key": key, "range_end": range_end })).await
    }

    async fn has_keys(&self, count: usize) {
        within(async {
            while self.keys("orders").await.len() != count {
                yield_now().await;
            }
        })
        .await;
    }

    fn url(&self) -> String {
        format!("etcd://{}/orders", self.address)
    }

    fn client(&self) -> Client {
        Client::builder(self.url()).transport(Transport::Frames).build().unwrap()
    }
}

/// A replica that announces itself, until it is stopped or killed.
struct Announced {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), Error>>,
}

impl Announced {
    async fn new(number: u16, etcd: &Etcd) -> Self {
        Self::at(number, &etcd.url()).await
    }

    async fn at(number: u16, url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let serve = Server::new().inject(Replica(number)).serve(listener).announce(url, address.to_string());
        let until = async {
            let _ = stopped.await;
        };
        let bound = serve.until(until).bind().await.unwrap();
        Self { address, stop, task: tokio::spawn(bound.into_future()) }
    }

    /// Drains.
    async fn stopped(self) {
        self.stop.send(()).unwrap();
        within(self.task).await.unwrap().unwrap();
    }

    /// Ends without a drain.
    async fn kill(self) {
        self.task.abort();
        assert!(within(self.task).await.unwrap_err().is_cancelled());
    }
}

async fn who(client: &Client) -> Result<u16, Error> {
    within(client.call("who", ())).await.map_err(|error| error.rpc().expect("it has no error of its own").clone())
}

/// Calls until this replica answers.
async fn until(client: &Client, number: u16) {
    within(async { while who(client).await.unwrap() != number {} }).await;
}

/// Calls until what the client knows is like this.
async fn knows(client: &Client, is_so: impl Fn(&KnownReplicas) -> bool) -> KnownReplicas {
    within(async {
        loop {
            who(client).await.unwrap();
            match client.replicas() {
                Some(known) if is_so(&known) => return known,
                _ => {}
            }
        }
    })
    .await
}

#[ignore = "needs etcd"]
#[tokio::test]
async fn servers_announce_themselves_and_a_client_finds_them() {
    let etcd = Etcd::new().await;
    let client = etcd.client();
    let error = who(&client).await.unwrap_err();
    assert!(error.message().contains("etcd has no replica there; servers announce themselves"), "{error}");
    let one = Announced::new(1, &etcd).await;
    etcd.has_keys(1).await;
    let (key, value) = etcd.keys("orders").await.remove(0);
    assert_eq!(serde_json::from_str::<Value>(&value).unwrap(), json!({ "address": one.address.to_string() }));
    let id = key.strip_prefix("orders/").unwrap();
    assert!(id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{key}");
    // The next call looks again at once.
    assert_eq!(who(&client).await.unwrap(), 1);
    // This one is told by the watch.
    let two = Announced::new(2, &etcd).await;
    let known = knows(&client, |known| known.addresses.len() == 2).await;
    assert!(known.addresses.contains(&two.address.into()) && known.failure.is_none(), "{known:?}");
    until(&client, 2).await;
    until(&client, 1).await;
    // What is no address is told, and the rest is used.
    etcd.put("orders/other", "10.0.0.1:8080").await;
    let known = knows(&client, |known| known.failure.is_some()).await;
    assert_eq!(known.addresses.len(), 2);
    assert!(known.failure.unwrap().contains("the value of `orders/other` in etcd is not that of a replica"));
    // A longer prefix is another service.
    etcd.put("orders/eu/1", r#"{"address": "127.0.0.1:1"}"#).await;
    etcd.put("orders/other", r#"{"address": "127.0.0.1:2?endpoint=/rpc"}"#).await;
    let known = knows(&client, |known| known.failure.is_none()).await;
    assert_eq!(known.addresses.len(), 3, "{known:?}");
}

#[ignore = "needs etcd"]
#[tokio::test]
async fn a_server_that_drains_takes_itself_out_first_and_no_call_fails() {
    let etcd = Etcd::new().await;
    let mut log = Log::new();
    let (one, two) = (Announced::new(1, &etcd).await, Announced::new(2, &etcd).await);
    etcd.has_keys(2).await;
    let client = etcd.client();
    until(&client, 1).await;
    until(&client, 2).await;
    let has_stopped = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (client, has_stopped) = (client.clone(), Arc::clone(&has_stopped));
            tokio::spawn(async move {
                while !has_stopped.load(Ordering::Relaxed) {
                    who(&client).await.unwrap();
                }
            })
        })
        .collect();
    log.lines();
    let (address, gone) = (two.address, one.address);
    one.stopped().await;
    let lines = log.lines();
    let at = |words: &str| {
        lines.iter().position(|line| line.contains(words)).unwrap_or_else(|| panic!("{words}: {lines:?}"))
    };
    assert!(at(&format!("{gone} is taken out of {}", etcd.url())) < at("draining"), "{lines:?}");
    assert_eq!(etcd.keys("orders").await.len(), 1);
    let known = knows(&client, |known| known.addresses == [address.into()]).await;
    assert_eq!(known.failure, None);
    has_stopped.store(true, Ordering::Relaxed);
    for caller in callers {
        within(caller).await.unwrap();
    }
}

#[ignore = "needs etcd"]
#[tokio::test]
async fn while_etcd_is_down_calls_go_on_and_after_it_new_replicas_are_found() {
    let mut etcd = Etcd::new().await;
    let one = Announced::new(1, &etcd).await;
    etcd.has_keys(1).await;
    let client = etcd.client();
    assert_eq!(who(&client).await.unwrap(), 1);
    etcd.kill().await;
    let known = knows(&client, |known| known.failure.is_some()).await;
    assert_eq!(known.addresses, [one.address.into()]);
    assert!(known.failure.as_ref().unwrap().contains(&format!("etcd at {}: ", etcd.address)), "{known:?}");
    let older = knows(&client, |known| known.failure.is_some()).await;
    assert!(older.age > known.age);
    // This one can't announce itself yet.
    let mut log = Log::new();
    let two = Announced::new(2, &etcd).await;
    log.until(&format!("can't announce {} at {}", two.address, etcd.url())).await;
    etcd.start().await;
    let known = knows(&client, |known| known.addresses.len() == 2).await;
    assert_eq!(known.failure, None, "{known:?}");
    until(&client, 2).await;
    etcd.has_keys(2).await;
}

#[ignore = "needs etcd"]
#[tokio::test]
async fn a_server_announces_itself_again_when_etcd_was_paused_for_longer_than_the_lease() {
    let etcd = Etcd::new().await;
    let mut log = Log::new();
    let one = Announced::new(1, &etcd).await;
    etcd.has_keys(1).await;
    let before = etcd.keys("orders").await;
    let client = etcd.client();
    assert_eq!(who(&client).await.unwrap(), 1);
    etcd.signal("STOP").await;
    // The client is used, and notices that the watch is dead.
    knows(&client, |known| known.age > TTL + Duration::from_secs(2)).await;
    knows(&client, |known| known.failure.is_some()).await;
    etcd.signal("CONT").await;
    log.until(&format!("{} has dropped {}", etcd.url(), one.address)).await;
    log.until("announced").await;
    etcd.has_keys(1).await;
    assert_eq!(etcd.keys("orders").await, before, "it has the same instance");
    let known = knows(&client, |known| known.failure.is_none()).await;
    assert_eq!(known.addresses, [one.address.into()]);
}

/// micro-in-cn/questions#5, etcd-io/etcd#14189: the key was gone while the lease was alive, and the server was not found
/// again.
#[ignore = "needs etcd"]
#[tokio::test]
async fn a_server_announces_itself_again_when_its_key_was_deleted() {
    let etcd = Etcd::new().await;
    let one = Announced::new(1, &etcd).await;
    etcd.has_keys(1).await;
    let before = etcd.keys("orders").await;
    let client = etcd.client();
    assert_eq!(who(&client).await.unwrap(), 1);
    let mut log = Log::new();
    etcd.asked("/v3/kv/deleterange", json!({ "key": BASE64_STANDARD.encode(&before[0].0) })).await;
    etcd.has_keys(0).await;
    etcd.has_keys(1).await;
    assert_eq!(etcd.keys("orders").await, before);
    log.until(&format!("{} has no key of {} any more", etcd.url(), one.address)).await;
    // The key has the new lease, which is kept alive: it outlives the old one.
    one.stopped().await;
    etcd.has_keys(0).await;
}

/// etcd-io/etcd#14303: after etcd was restored from a snapshot, watches waited for a revision that was far away.
#[ignore = "needs etcd"]
#[tokio::test]
async fn an_etcd_that_has_lost_its_data_gets_the_keys_again_and_is_followed() {
    let mut etcd = Etcd::new().await;
    let one = Announced::new(1, &etcd).await;
    etcd.has_keys(1).await;
    for value in 0..50 {
        etcd.put("other", &value.to_string()).await;
    }
    let client = etcd.client();
    assert_eq!(who(&client).await.unwrap(), 1);
    etcd.kill().await;
    fs::remove_dir_all(etcd.directory.path().join("data")).unwrap();
    etcd.start().await;
    etcd.has_keys(1).await;
    let two = Announced::new(2, &etcd).await;
    let known = knows(&client, |known| known.addresses.len() == 2).await;
    assert!(known.addresses.contains(&one.address.into()) && known.addresses.contains(&two.address.into()));
    // The watch is alive at the new revisions.
    two.stopped().await;
    knows(&client, |known| known.addresses == [one.address.into()]).await;
}

#[ignore = "needs etcd"]
#[tokio::test]
async fn a_compaction_between_two_watches_loses_no_change() {
    let etcd = Etcd::new().await;
    let _one = Announced::new(1, &etcd).await;
    etcd.has_keys(1).await;
    let client = etcd.client();
    assert_eq!(who(&client).await.unwrap(), 1);
    // The first lookup has ended, and the next one watches from here on.
    let two = Announced::new(2, &etcd).await;
    etcd.has_keys(2).await;
    etcd.put("orders/x", "1").await;
    etcd.put("orders/x", r#"{"address": "127.0.0.1:1"}"#).await;
    etcd.compact().await;
    let mut log = Log::new();
    let known = knows(&client, |known| known.addresses.len() == 3).await;
    assert!(known.addresses.contains(&two.address.into()), "{known:?}");
    log.until(&format!("{} was compacted", etcd.url())).await;
    // The watch that follows is alive.
    etcd.put("orders/x", r#"{"address": "127.0.0.1:2"}"#).await;
    knows(&client, |known| known.addresses.contains(&SocketAddr::from(([127, 0, 0, 1], 2)).into())).await;
}

#[ignore = "needs etcd"]
#[tokio::test]
async fn the_key_of_a_server_that_was_killed_goes_with_its_lease() {
    let etcd = Etcd::new().await;
    let (one, two) = (Announced::new(1, &etcd).await, Announced::new(2, &etcd).await);
    etcd.has_keys(2).await;
    let client = etcd.client();
    until(&client, 1).await;
    let address = two.address;
    one.kill().await;
    assert_eq!(etcd.keys("orders").await.len(), 2, "nothing has taken it out");
    knows(&client, |known| known.addresses == [address.into()]).await;
    assert_eq!(etcd.keys("orders").await.len(), 1);
}

#[ignore = "needs etcd"]
#[tokio::test]
async fn a_server_serves_without_etcd_and_announces_itself_once_it_is_there() {
    let mut etcd = Etcd::not_started();
    let mut log = Log::new();
    let one = Announced::new(1, &etcd).await;
    let line = log.until("can't announce").await;
    assert!(line.contains(&etcd.url()) && line.contains("WARN"), "{line}");
    let direct = Client::new(one.address.to_string()).unwrap();
    assert_eq!(who(&direct).await.unwrap(), 1);
    etcd.start().await;
    log.until(&format!("announced {} at {}, under `orders/", one.address, etcd.url())).await;
    assert_eq!(who(&etcd.client()).await.unwrap(), 1);
    // Without etcd a server stops all the same.
    etcd.kill().await;
    one.stopped().await;
    log.until(&format!("can't take {}", direct.replicas().unwrap().addresses[0])).await;
}

#[ignore = "needs etcd"]
#[tokio::test]
async fn a_member_that_is_down_is_passed_over() {
    let (etcd, dead) = (Etcd::new().await, Etcd::not_started());
    let _one = Announced::new(1, &etcd).await;
    etcd.has_keys(1).await;
    // Each of them begins with any member.
    for _ in 0..8 {
        let client = Client::new(format!("etcd://{},{}/orders", dead.address, etcd.address)).unwrap();
        assert_eq!(who(&client).await.unwrap(), 1);
    }
}

#[ignore = "needs etcd"]
#[tokio::test]
async fn a_client_that_is_not_used_keeps_no_connection_to_etcd() {
    let etcd = Etcd::new().await;
    let _one = Announced::new(1, &etcd).await;
    etcd.has_keys(1).await;
    let (address, mut open) = counted(etcd.address).await;
    // By frames a client goes on trying to connect to a replica that is dead, which is a use.
    let url = format!("etcd://{address}/orders");
    let client = Client::builder(url).transport(Transport::Http).build().unwrap();
    // The first lookup has ended, and the next one watches.
    assert_eq!(who(&client).await.unwrap(), 1);
    etcd.put("orders/x", r#"{"address": "127.0.0.1:1"}"#).await;
    knows(&client, |known| known.addresses.len() == 2).await;
    assert!(*open.borrow_and_update() > 0);
    within(open.wait_for(|open| *open == 0)).await.unwrap();
    assert_eq!(who(&client).await.unwrap(), 1);
    within(open.wait_for(|open| *open > 0)).await.unwrap();
}

/// Passes connections on to etcd, and counts those that are open.
async fn counted(etcd: SocketAddr) -> (SocketAddr, watch::Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (open, opened) = watch::channel(0);
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let open = open.clone();
            tokio::spawn(async move {
                open.send_modify(|open| *open += 1);
                let mut etcd = TcpStream::connect(etcd).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut etcd).await;
                open.send_modify(|open| *open -= 1);
            });
        }
    });
    (address, opened)
}

#[ignore = "needs etcd"]
#[tokio::test]
async fn a_cluster_that_loses_one_member_after_another_is_watched_on() {
    let mut cluster = Etcd::cluster().await;
    let urls = cluster.iter().map(|etcd| etcd.address.to_string()).collect::<Vec<_>>().join(",");
    let url = format!("etcd://{urls}/orders");
    let one = Announced::at(1, &url).await;
    cluster[0].has_keys(1).await;
    let client = Client::builder(&url).transport(Transport::Frames).build().unwrap();
    assert_eq!(who(&client).await.unwrap(), 1);
    let added = |at: usize| SocketAddr::from(([127, 0, 0, 1], at as u16 + 1));
    for at in 0..3 {
        // Whichever it is: one of them is watched.
        cluster[at].kill().await;
        let other = &cluster[(at + 1) % 3];
        other.put(&format!("orders/{at}"), &json!({ "address": added(at).to_string() }).to_string()).await;
        let known = knows(&client, |known| known.addresses.contains(&added(at).into())).await;
        assert!(known.addresses.contains(&one.address.into()), "its lease is kept alive: {known:?}");
        cluster[at].start().await;
    }
}
