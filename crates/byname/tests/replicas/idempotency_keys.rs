//! Calls with an idempotency key: they run once, and a duplicate gets the reply of the first.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use self::StoreFault::*;
use crate::harness::foreign::{Foreign, answer};
use crate::harness::{BankError, Raw, Running, post_with, raw, within};
use byname::{
    CallError, Client, Code, Codec, Context, Error, Executed, IdempotencyKey, KeyClaim, KeyStore, KeyStoreFuture, Next,
    Request, Server, StoredReply, Transport, rpc,
};
use futures_util::future::join_all;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::JoinSet;

/// Pays as often as it is called.
#[derive(Clone, Default)]
struct Bank {
    paid: Arc<AtomicU32>,
}

#[rpc]
impl Bank {
    #[rpc(keyed)]
    async fn pay(&self, order: u64, cents: u64) -> u64 {
        let _ = (order, cents);
        u64::from(self.paid.fetch_add(1, Ordering::SeqCst) + 1)
    }

    /// A key is optional.
    async fn withdraw(&self, account: String, amount: u64) -> Result<u64, BankError> {
        self.paid.fetch_add(1, Ordering::SeqCst);
        if account == "ada" { Ok(amount) } else { Err(BankError::Overdrawn { by: amount }) }
    }

    async fn fails(&self) -> Result<(), Error> {
        self.paid.fetch_add(1, Ordering::SeqCst);
        Context::current().unwrap().reply_header("x-why", "it is down")?;
        Err(Error::new(Code::Unavailable, "the database is down"))
    }

    /// The key that the function sees, and that of a call which it makes.
    async fn own_key(&self) -> Option<String> {
        Context::current()?.idempotency_key().map(|key| key.to_string())
    }
}

impl Bank {
    fn paid(&self) -> u32 {
        self.paid.load(Ordering::SeqCst)
    }

    fn server(&self) -> Server {
        Server::new().inject(self.clone())
    }
}

/// A function that says when it runs and waits until it may end.
struct Held {
    runs: mpsc::UnboundedSender<u32>,
    ends: Arc<Semaphore>,
    count: AtomicU32,
}

#[rpc]
impl Held {
    #[rpc(keyed)]
    async fn hold(&self) -> u32 {
        let count = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        self.runs.send(count).unwrap();
        self.ends.acquire().await.unwrap().forget();
        count
    }
}

fn held() -> (Server, mpsc::UnboundedReceiver<u32>, Arc<Semaphore>) {
    let (runs, running) = mpsc::unbounded_channel();
    let ends = Arc::new(Semaphore::new(0));
    (Server::new().inject(Held { runs, ends: Arc::clone(&ends), count: AtomicU32::new(0) }), running, ends)
}

async fn with_key(server: &Running, path: &str, key: &str, body: &str) -> Raw {
    raw(server.address, post_with(path, &format!("idempotency-key: {key}\r\n"), body)).await
}

/// A client of each kind.
async fn clients(server: &Running) -> Vec<Client> {
    let by_frames = |codec| Client::builder(server.address.to_string()).transport(Transport::Frames).codec(codec);
    let mut clients = vec![server.client()];
    for codec in [Codec::Json, Codec::MessagePack] {
        let client = by_frames(codec).build().unwrap();
        // Its first call goes over HTTP and finds out that the server takes frames.
        for _ in 0..100 {
            Bank::on(&client).own_key().await.unwrap();
        }
        clients.push(client);
    }
    clients
}

// What a duplicate gets.

#[tokio::test]
async fn a_duplicate_gets_the_first_reply_by_every_way_in() {
    let bank = Bank::default();
    let server = Running::new(bank.server()).await;
    let clients = clients(&server).await;
    for (at, first) in clients.iter().enumerate() {
        let key = format!("order-{at}");
        let paid = within(Bank::on(first).pay(7, 1999).idempotency_key(&key)).await.unwrap();
        assert_eq!(bank.paid(), paid as u32);
        for client in &clients {
            assert_eq!(within(Bank::on(client).pay(7, 1999).idempotency_key(&key)).await, Ok(paid));
            let by_name = client.call::<u64>("pay", serde_json::json!({"cents": 1999, "order": 7}));
            assert_eq!(within(by_name.idempotency_key(&key)).await.unwrap(), paid);
            let by_position = client.call::<u64>("pay", (7, 1999)).idempotency_key(&key);
            assert_eq!(within(by_position).await, Ok(paid));
        }
        let (ret, result) = (format!(r#"{{"ret":{paid}}}"#), format!(r#"{{"jsonrpc":"2.0","result":{paid},"id":1}}"#));
        for (path, body, expected) in [
            ("/rpc/pay", "[7, 1999]", paid.to_string()),
            ("/rpc/pay", r#"{ "cents": 1999, "order": 7 }"#, paid.to_string()),
            ("/rpc", r#"{"fun":"pay","args":[7],"kwargs":{"cents":1999}}"#, ret),
            ("/rpc", r#"{"jsonrpc":"2.0","method":"pay","params":[7,1999],"id":1}"#, result),
        ] {
            assert_eq!(with_key(&server, path, &key, body).await.body.trim(), expected, "{path} {body}");
        }
    }
    assert_eq!(bank.paid() as usize, clients.len());
}

#[tokio::test]
async fn within_the_process_a_duplicate_gets_the_first_reply_too() {
    let bank = Bank::default();
    let client = Client::local(&bank.server()).unwrap();
    for _ in 0..3 {
        assert_eq!(Bank::on(&client).pay(7, 1999).idempotency_key("a").await, Ok(1));
    }
    assert_eq!(Bank::on(&client).pay(7, 1999).await, Ok(2));
    assert_eq!(Bank::on(&client).own_key().idempotency_key("a").await, Ok(Some("own_key anonymous a".to_owned())));
    assert_eq!(Bank::on(&client).own_key().await, Ok(None));
}

#[tokio::test]
async fn an_error_of_the_function_is_a_reply_too() {
    let bank = Bank::default();
    let server = Running::new(bank.server()).await;
    for client in &clients(&server).await {
        for _ in 0..3 {
            let error = Bank::on(client).withdraw("bob".into(), 5).idempotency_key("bob").await.unwrap_err();
            assert_eq!(error.method(), Some(&BankError::Overdrawn { by: 5 }));
            let error = Bank::on(client).fails().idempotency_key("down").await.unwrap_err();
            let error = Error::from(error);
            assert_eq!((error.code(), error.executed()), (Code::Unavailable, Executed::Yes));
            assert_eq!(error.message(), "the database is down");
        }
    }
    assert_eq!(with_key(&server, "/rpc/fails", "down", "[]").await.header("x-why"), "it is down");
    assert_eq!(bank.paid(), 2);
}

#[tokio::test]
async fn duplicates_wait_for_the_first_call() {
    let (server, mut running, ends) = held();
    let server = Running::new(server).await;
    let client = server.client();
    let calls: Vec<_> =
        (0..20).map(|_| tokio::spawn(Held::on(&client).hold().idempotency_key("k").into_future())).collect();
    assert_eq!(within(running.recv()).await, Some(1));
    ends.add_permits(1);
    for call in join_all(calls).await {
        assert_eq!(call.unwrap(), Ok(1));
    }
    assert!(running.try_recv().is_err());
}

#[tokio::test]
async fn a_function_whose_caller_went_away_runs_to_its_end_and_its_reply_is_kept() {
    let (server, mut running, ends) = held();
    let server = Running::new(server).await;
    let client = server.client();
    let gone = tokio::spawn(Held::on(&client).hold().idempotency_key("k").into_future());
    assert_eq!(within(running.recv()).await, Some(1));
    gone.abort();
    ends.add_permits(1);
    assert_eq!(within(Held::on(&client).hold().idempotency_key("k")).await, Ok(1));
    assert!(running.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_of_a_late_call_gets_the_reply() {
    let (server, mut running, ends) = held();
    let client = Client::local(&server).unwrap();
    for _ in 0..2 {
        let late = Held::on(&client).hold().idempotency_key("k").timeout(Duration::from_secs(1)).await.unwrap_err();
        assert_eq!((late.code(), late.executed()), (Code::DeadlineExceeded, Executed::Unknown));
    }
    ends.add_permits(1);
    assert_eq!(Held::on(&client).hold().idempotency_key("k").await, Ok(1));
    assert_eq!((running.try_recv(), running.try_recv().is_err()), (Ok(1), true));
}

/// A transaction that was rolled back, for example.
#[tokio::test]
async fn a_function_that_has_changed_nothing_releases_its_key() {
    let runs = Arc::new(AtomicU32::new(0));
    for store in [None, Some(SharedStore::default())] {
        let counted = Arc::clone(&runs);
        let function = move || {
            let count = counted.fetch_add(1, Ordering::SeqCst) + 1;
            async move {
                if count % 2 == 1 {
                    Context::current().unwrap().idempotency_key().unwrap().release();
                    return Err(Error::new(Code::Unavailable, "busy"));
                }
                Ok(count)
            }
        };
        let server = Server::new().function("count", function);
        let server = match store.clone() {
            None => server,
            Some(store) => server.key_store(store),
        };
        let server = Running::new(server).await;
        let call = || server.client().call::<u32>("count", ()).idempotency_key("k").into_future();
        let before = runs.load(Ordering::SeqCst);
        assert!(call().await.is_err());
        assert_eq!((call().await.unwrap(), call().await.unwrap()), (before + 2, before + 2));
        if let Some(store) = store {
            let said = store.said();
            assert_eq!(said[1], "release count anonymous k");
            assert_eq!(said[3], "complete count anonymous k");
        }
    }
}

#[tokio::test]
async fn other_arguments_are_an_error() {
    let bank = Bank::default();
    let server = Running::new(bank.server()).await;
    for client in &clients(&server).await {
        Bank::on(client).pay(7, 1999).idempotency_key("k").await.unwrap();
        let other = Bank::on(client).pay(7, 2000).idempotency_key("k").await.unwrap_err();
        assert_eq!((other.code(), other.executed()), (Code::InvalidArgument, Executed::No));
        assert!(other.message().contains("other arguments"), "{other}");
    }
    assert_eq!(bank.paid(), 1);
}

#[tokio::test]
async fn a_call_that_did_not_run_leaves_no_key() {
    let bank = Bank::default();
    let server = Running::new(bank.server()).await;
    let refused = with_key(&server, "/rpc/pay", "k", r#"["seven", 1999]"#).await;
    assert_eq!((refused.status, bank.paid()), (400, 0));
    assert_eq!(with_key(&server, "/rpc/pay", "k", "[7, 1999]").await.body.trim(), "1");
}

/// Callers of other services ask for it: ietf-wg-httpapi/idempotency#46, ikyriak/IdempotentAPI#85.
#[tokio::test]
async fn a_reply_says_whether_it_is_the_first() {
    let (bank, store) = (Bank::default(), SharedStore::default());
    for server in [bank.server(), bank.server().key_store(store)] {
        let server = Running::new(server).await;
        for (at, client) in clients(&server).await.into_iter().enumerate() {
            let key = format!("k{at}");
            let pay = || Bank::on(&client).pay(7, 1999).idempotency_key(&key).with_metadata().into_future();
            let (first, metadata) = within(pay()).await.unwrap();
            assert_eq!(metadata.get("idempotent-replayed"), None);
            let (again, metadata) = within(pay()).await.unwrap();
            assert_eq!(again, first);
            assert_eq!(metadata["idempotent-replayed"], "true");
        }
    }
}

/// A panic is a reply, so its key is not in progress forever: VilledeMontreal/express-idempotency#32, ikyriak/IdempotentAPI#37.
#[tokio::test]
async fn a_function_that_panics_has_run() {
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let function = move || {
        counted.fetch_add(1, Ordering::SeqCst);
        async {
            if true {
                panic!("on purpose")
            }
        }
    };
    let server = Running::new(Server::new().function("boom", function)).await;
    for _ in 0..3 {
        let CallError::Rpc(error) = server.client().call::<()>("boom", ()).idempotency_key("k").await.unwrap_err()
        else {
            panic!("it is not an error of the function")
        };
        assert_eq!((error.code(), error.executed()), (Code::Internal, Executed::Yes));
    }
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

// Which keys there are.

#[tokio::test]
async fn a_keyed_function_needs_a_key_and_a_client_makes_one_for_each_call() {
    let bank = Bank::default();
    let server = Running::new(bank.server()).await;
    let refused = raw(server.address, post_with("/rpc/pay", "", "[7, 1999]")).await;
    assert_eq!((refused.status, bank.paid()), (400, 0));
    assert!(refused.body.contains("send a header `idempotency-key`"), "{}", refused.body);
    let CallError::Rpc(by_name) = server.client().call::<u64>("pay", (7, 1999)).await.unwrap_err() else {
        panic!("it is not an error of the function")
    };
    assert_eq!(by_name.code(), Code::InvalidArgument, "the client does not know that it is keyed");
    let mut paid = 0;
    for client in &clients(&server).await {
        for _ in 0..2 {
            paid += 1;
            assert_eq!(Bank::on(client).pay(7, 1999).await, Ok(paid));
        }
    }
}

#[tokio::test]
async fn what_is_no_key_is_refused() {
    let bank = Bank::default();
    let server = Running::new(bank.server()).await;
    for wrong in ["", "a b", "ä", &"x".repeat(256)] {
        let refused = Bank::on(&server.client()).pay(7, 1999).idempotency_key(wrong).await.unwrap_err();
        assert_eq!((refused.code(), refused.executed()), (Code::InvalidArgument, Executed::No), "{wrong}");
    }
    assert_eq!(with_key(&server, "/rpc/pay", "a b", "[7, 1999]").await.status, 400);
    let twice = with_key(&server, "/rpc/pay", "a\r\nidempotency-key: b", "[7, 1999]").await;
    assert!(twice.body.contains("is there twice"), "{}", twice.body);
    assert_eq!(bank.paid(), 0);
}

#[tokio::test]
async fn a_batch_has_no_key() {
    let bank = Bank::default();
    let server = Running::new(bank.server()).await;
    let call = r#"{"jsonrpc":"2.0","method":"pay","params":[7,1999],"id":1}"#;
    let refused = with_key(&server, "/rpc", "k", &format!("[{call},{call}]")).await;
    assert_eq!(refused.body.matches("a batch can't have an `idempotency-key`").count(), 4, "{}", refused.body);
    assert_eq!(bank.paid(), 0);
}

#[tokio::test]
async fn a_stream_has_no_key() {
    use futures_util::stream;

    #[rpc]
    fn numbers() -> impl futures_util::Stream<Item = u32> {
        stream::iter(0..3)
    }

    let server = Running::new(Server::new().method::<numbers>()).await;
    let refused = with_key(&server, "/rpc/numbers", "k", "[]").await;
    assert!(refused.body.contains("`numbers` streams"), "{}", refused.body);
    let mut without = numbers::on(&server.client());
    assert_eq!(without.next().await.unwrap(), Ok(0));
}

#[tokio::test]
async fn a_key_belongs_to_a_function_and_a_caller() {
    let bank = Bank::default();
    let server = Running::new(bank.server()).await;
    let client = server.client();
    let as_user = |token: &str| client.header("authorization", &format!("Bearer {token}"));
    let (ada, bob) = (as_user("ada"), as_user("bob"));
    for (client, expected) in [(&ada, 1), (&bob, 2), (&client, 3), (&ada, 1), (&bob, 2), (&client, 3)] {
        assert_eq!(Bank::on(client).pay(7, 1999).idempotency_key("k").await, Ok(expected));
    }
    assert_eq!(Bank::on(&ada).withdraw("ada".into(), 5).idempotency_key("k").await.unwrap(), 5);
    let key = Bank::on(&ada).own_key().idempotency_key("k").await.unwrap().unwrap();
    assert!(key.starts_with("own_key authorization:") && key.ends_with(" k") && !key.contains("ada"), "{key}");
}

#[tokio::test]
async fn rules_and_interceptors_come_before_a_stored_reply() {
    let bank = Bank::default();
    let is_open = Arc::new(AtomicBool::new(true));
    let (admits, seen) = (Arc::clone(&is_open), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&seen);
    let server = bank.server().allow("*", move |_| admits.load(Ordering::SeqCst)).intercept(
        move |request: Request, next: Next| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move { next.run(request).await }
        },
    );
    let server = Running::new(server).await;
    let pay = || Bank::on(&server.client()).pay(7, 1999).idempotency_key("k").into_future();
    assert_eq!((pay().await, pay().await), (Ok(1), Ok(1)));
    is_open.store(false, Ordering::SeqCst);
    assert_eq!(pay().await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!((bank.paid(), seen.load(Ordering::SeqCst)), (1, 3));
}

// The window.

#[tokio::test]
async fn a_full_window_refuses_other_keys_and_keeps_those_that_it_has() {
    let bank = Bank::default();
    let server = Running::new(bank.server().limits(|limits| limits.key_bytes = 4096)).await;
    let client = server.client().policy("*", |policy| policy.attempts = 1);
    let mut refused = None;
    for key in 0..20 {
        match Bank::on(&client).pay(7, 1999).idempotency_key(&key.to_string()).await {
            Ok(paid) => assert_eq!(paid, key + 1),
            Err(error) => {
                refused = Some((key, error));
                break;
            }
        }
    }
    let (key, refused) = refused.expect("the window is small");
    assert_eq!((refused.code(), refused.executed()), (Code::ResourceExhausted, Executed::No));
    assert_eq!(refused.limit(), Some("key_bytes"));
    assert!(refused.retry_after().is_some_and(|after| after <= Duration::from_secs(600)), "{refused}");
    assert_eq!(u64::from(bank.paid()), key);
    for key in 0..key {
        assert_eq!(Bank::on(&client).pay(7, 1999).idempotency_key(&key.to_string()).await, Ok(key + 1));
    }
}

#[tokio::test]
async fn a_reply_that_has_no_room_is_not_kept_and_does_not_run_again() {
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let function = move || {
        counted.fetch_add(1, Ordering::SeqCst);
        async { "x".repeat(2000) }
    };
    let server = Server::new().function("long", function).limits(|limits| limits.key_bytes = 1024);
    let server = Running::new(server).await;
    let call = || server.client().call::<String>("long", ()).idempotency_key("k").into_future();
    assert_eq!(call().await.unwrap().len(), 2000);
    let CallError::Rpc(again) = call().await.unwrap_err() else { panic!("it is not an error of the function") };
    assert_eq!((again.code(), again.executed()), (Code::ResourceExhausted, Executed::Yes));
    assert!(again.message().contains("its reply was not kept"), "{again}");
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_is_forgotten_after_the_window() {
    let bank = Bank::default();
    let client = Client::local(&bank.server()).unwrap();
    let pay = || Bank::on(&client).pay(7, 1999).idempotency_key("k").into_future();
    assert_eq!(pay().await, Ok(1));
    tokio::time::advance(Duration::from_secs(599)).await;
    assert_eq!(pay().await, Ok(1));
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(pay().await, Ok(2));
}

// What the client does about a failure.

/// Passes connections on to a server, and cuts them when it is told.
struct Cutter {
    address: std::net::SocketAddr,
    server: Arc<Mutex<std::net::SocketAddr>>,
    cut: Arc<Notify>,
    _task: JoinSet<()>,
}

impl Cutter {
    async fn before(server: &Running) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (server, cut) = (Arc::new(Mutex::new(server.address)), Arc::new(Notify::new()));
        let (to, cutting) = (Arc::clone(&server), Arc::clone(&cut));
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let (mut client, _) = accepted.unwrap();
                        let to = *to.lock().unwrap();
                        connections.spawn(async move {
                            if let Ok(mut server) = TcpStream::connect(to).await {
                                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                            }
                        });
                    }
                    () = cutting.notified() => connections.shutdown().await,
                }
            }
        });
        Self { address, server, cut, _task: task }
    }

    fn client(&self, transport: Transport) -> Client {
        Client::builder(self.address.to_string()).transport(transport).build().unwrap()
    }
}

/// Calls until the client has learned all that it learns of the server.
async fn warm(client: &Client) {
    for key in 0..100 {
        // Over HTTP a server says only in answers to such calls that it knows keys.
        client.call::<()>("nothing", ()).idempotency_key(&key.to_string()).await.unwrap();
    }
}

#[tokio::test]
async fn a_call_that_may_have_run_is_repeated_at_its_server_and_runs_once() {
    for transport in [Transport::Http, Transport::Frames] {
        let (server, mut running, ends) = held();
        let server = Running::new(server.function("nothing", || async {})).await;
        let cutter = Cutter::before(&server).await;
        let client = cutter.client(transport);
        warm(&client).await;
        let call = tokio::spawn(Held::on(&client).hold().into_future());
        assert_eq!(within(running.recv()).await, Some(1));
        cutter.cut.notify_one();
        ends.add_permits(1);
        assert_eq!(within(call).await.unwrap(), Ok(1), "{transport:?}");
        assert!(running.try_recv().is_err());
    }
}

#[tokio::test]
async fn another_server_does_not_run_a_call_that_may_have_run() {
    for transport in [Transport::Http, Transport::Frames] {
        let (server, mut running, _ends) = held();
        let server = Running::new(server.function("nothing", || async {})).await;
        let cutter = Cutter::before(&server).await;
        let client = cutter.client(transport);
        warm(&client).await;
        let call = tokio::spawn(Held::on(&client).hold().into_future());
        assert_eq!(within(running.recv()).await, Some(1));
        let (restarted, mut runs_again, _ends) = held();
        let restarted = Running::new(restarted.function("nothing", || async {})).await;
        *cutter.server.lock().unwrap() = restarted.address;
        cutter.cut.notify_one();
        let error = within(call).await.unwrap().unwrap_err();
        assert_eq!((error.code(), error.executed()), (Code::FailedPrecondition, Executed::Unknown), "{error}");
        assert!(error.message().contains("the first attempt at this call went to the server"), "{error}");
        assert!(runs_again.try_recv().is_err());
    }
}

#[tokio::test]
async fn a_call_whose_server_is_not_known_is_not_repeated() {
    let (server, mut running, _ends) = held();
    let server = Running::new(server).await;
    let cutter = Cutter::before(&server).await;
    let client = cutter.client(Transport::Http);
    let call = tokio::spawn(Held::on(&client).hold().into_future());
    assert_eq!(within(running.recv()).await, Some(1));
    cutter.cut.notify_one();
    let error = within(call).await.unwrap().unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::Unavailable, Executed::Unknown), "{error}");
    assert!(error.message().contains("has not said on its connection that it knows keys"), "{error}");
}

// Stores.

/// A store that several servers share, and that fails as the test says.
#[derive(Clone, Default)]
struct SharedStore(Arc<Mutex<Stored>>);

#[derive(Default)]
struct Stored {
    replies: HashMap<String, Vec<u8>>,
    says: Vec<String>,
    claim_fails: bool,
    complete_fails: bool,
    runs_elsewhere: bool,
    /// What it does in place of an answer.
    fault: Option<StoreFault>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum StoreFault {
    ClaimPanics,
    ClaimHangs,
    CompletePanics,
    CompleteHangs,
}

impl Stored {
    /// Panics, or says whether to hang.
    fn has_fault(&self, panics: StoreFault, hangs: StoreFault) -> bool {
        assert!(self.fault != Some(panics), "on purpose");
        self.fault == Some(hangs)
    }
}

impl SharedStore {
    fn said(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().says)
    }

    fn set(&self, change: impl FnOnce(&mut Stored)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl KeyStore for SharedStore {
    fn claim<'a>(&'a self, key: &'a IdempotencyKey) -> KeyStoreFuture<'a, KeyClaim> {
        let hangs = self.0.lock().unwrap_or_else(PoisonError::into_inner).has_fault(ClaimPanics, ClaimHangs);
        Box::pin(async move {
            if hangs {
                std::future::pending::<()>().await;
            }
            let mut stored = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            stored.says.push(format!("claim {key}"));
            match stored.replies.get(key.as_str()) {
                _ if stored.claim_fails => Err("the database is down".into()),
                _ if stored.runs_elsewhere => Ok(KeyClaim::RunsElsewhere),
                Some(reply) => Ok(KeyClaim::Reply(StoredReply::from_bytes(reply)?)),
                None => Ok(KeyClaim::Run),
            }
        })
    }

    fn complete<'a>(&'a self, key: &'a IdempotencyKey, reply: &'a StoredReply) -> KeyStoreFuture<'a, ()> {
        Box::pin(async move {
            let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let hangs = lock().has_fault(CompletePanics, CompleteHangs);
            if hangs {
                std::future::pending::<()>().await;
            }
            let mut stored = lock();
            stored.says.push(format!("complete {key}"));
            if stored.complete_fails {
                return Err("the disk is full".into());
            }
            stored.replies.insert(key.to_string(), reply.to_bytes());
            Ok(())
        })
    }

    fn release<'a>(&'a self, key: &'a IdempotencyKey) -> KeyStoreFuture<'a, ()> {
        Box::pin(async move {
            self.0.lock().unwrap().says.push(format!("release {key}"));
            Ok(())
        })
    }
}

#[tokio::test]
async fn servers_with_one_store_run_a_call_once() {
    let (bank, store) = (Bank::default(), SharedStore::default());
    let one = Running::new(bank.server().key_store(store.clone())).await;
    let two = Running::new(bank.server().key_store(store.clone())).await;
    for client in [one.client(), two.client(), one.client()] {
        assert_eq!(Bank::on(&client).pay(7, 1999).idempotency_key("k").await, Ok(1));
    }
    let other = Bank::on(&two.client()).pay(7, 2000).idempotency_key("k").await.unwrap_err();
    assert_eq!((other.code(), other.executed()), (Code::InvalidArgument, Executed::No));
    let claim = "claim pay anonymous k".to_owned();
    assert_eq!(store.said(), [&claim, "complete pay anonymous k", &claim, &claim, &claim]);
    assert_eq!(with_key(&one, "/rpc/pay", "other", "[7, null]").await.status, 400);
    assert_eq!(store.said(), ["claim pay anonymous other", "release pay anonymous other"]);
}

#[tokio::test]
async fn a_call_may_be_repeated_at_any_server_of_a_shared_store() {
    for transport in [Transport::Http, Transport::Frames] {
        let (store, bank) = (SharedStore::default(), Bank::default());
        let (first, mut running, _ends) = held();
        let first = Running::new(first.function("nothing", || async {}).key_store(store.clone())).await;
        let cutter = Cutter::before(&first).await;
        let client = cutter.client(transport);
        warm(&client).await;
        let call = tokio::spawn(Held::on(&client).hold().into_future());
        assert_eq!(within(running.recv()).await, Some(1));
        let second = bank.server().function("hold", || async { 2_u32 });
        let second = Running::new(second.key_store(store.clone())).await;
        *cutter.server.lock().unwrap() = second.address;
        cutter.cut.notify_one();
        assert_eq!(within(call).await.unwrap(), Ok(2), "{transport:?}");
    }
}

#[tokio::test]
async fn a_store_that_fails_is_said_honestly() {
    let (bank, store) = (Bank::default(), SharedStore::default());
    let server = Running::new(bank.server().key_store(store.clone())).await;
    let client = server.client().policy("*", |policy| policy.attempts = 1);
    let pay = |key: &str| Bank::on(&client).pay(7, 1999).idempotency_key(key).into_future();
    store.set(|stored| stored.claim_fails = true);
    let refused = pay("a").await.unwrap_err();
    assert_eq!((refused.code(), refused.executed(), bank.paid()), (Code::Unavailable, Executed::No, 0));
    store.set(|stored| (stored.claim_fails, stored.runs_elsewhere) = (false, true));
    let elsewhere = pay("a").await.unwrap_err();
    assert_eq!((elsewhere.code(), elsewhere.executed(), bank.paid()), (Code::Unavailable, Executed::Unknown, 0));
    store.set(|stored| (stored.runs_elsewhere, stored.complete_fails) = (false, true));
    assert_eq!(pay("a").await, Ok(1), "the caller gets its reply");
    assert_eq!(pay("a").await, Ok(1), "this server has kept it");
    store.set(|stored| stored.complete_fails = false);
    assert_eq!((pay("b").await, pay("b").await), (Ok(2), Ok(2)));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_panics_or_hangs_has_failed() {
    for fault in [ClaimPanics, ClaimHangs, CompletePanics, CompleteHangs] {
        let (bank, store) = (Bank::default(), SharedStore::default());
        let client = Client::local(&bank.server().key_store(store.clone())).unwrap();
        let client = client.policy("*", |policy| policy.attempts = 1);
        let pay = || Bank::on(&client).pay(7, 1999).idempotency_key("k").timeout(Duration::from_secs(100));
        store.set(|stored| stored.fault = Some(fault));
        let first = pay().await;
        if [ClaimPanics, ClaimHangs].contains(&fault) {
            let refused = first.unwrap_err();
            assert_eq!((refused.code(), refused.executed()), (Code::Unavailable, Executed::No), "{fault:?}: {refused}");
        } else {
            assert_eq!(first, Ok(1), "{fault:?}: the caller gets its reply");
        }
        assert_eq!(bank.paid(), u32::from(![ClaimPanics, ClaimHangs].contains(&fault)), "{fault:?}");
        store.set(|stored| stored.fault = None);
        assert_eq!((pay().await, pay().await), (Ok(1), Ok(1)), "{fault:?}");
    }
}

/// The transaction of a function has stored the reply, but the server has ended before its own word.
#[tokio::test]
async fn a_reply_that_the_function_has_stored_itself_is_the_reply() {
    let store = SharedStore::default();
    let stores = store.clone();
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let function = move || {
        let (store, count) = (stores.clone(), counted.fetch_add(1, Ordering::SeqCst) + 1);
        async move {
            let key = Context::current().unwrap().idempotency_key().unwrap().clone();
            let reply = StoredReply::success(&key, &count).unwrap();
            store.set(|stored| {
                stored.replies.insert(key.to_string(), reply.to_bytes());
                stored.complete_fails = true;
            });
            count
        }
    };
    for _ in 0..3 {
        let server = Server::new().function("count", function.clone()).key_store(store.clone());
        let server = Running::new(server).await;
        let call = server.client().call::<u32>("count", ()).idempotency_key("k");
        assert_eq!(call.await.unwrap(), 1);
    }
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

/// The headers of a server that takes calls by the plain way alone.
const PLAIN: &str = "byname-protocol: 1\r\nbyname-ways: plain\r\n";

/// A server of an earlier version ignores keys, so a repetition would run again.
#[tokio::test]
async fn a_call_is_not_repeated_at_a_server_that_knows_no_keys() {
    let pay = async |knows_keys: &str| {
        let headers = format!("{PLAIN}byname-instance: 9f3c62d027ab51d0\r\n{knows_keys}");
        let first = answer("200 OK", &headers, r#"{"ret":1}"#);
        let server = Foreign::new(move |mut connection| {
            let first = first.clone();
            async move {
                // The second request of a connection gets no answer.
                if connection.request().await.is_some() {
                    connection.send(&*first).await;
                    connection.request().await;
                }
            }
        })
        .await;
        let client = server.client();
        let look = client.call::<u64>("look", ());
        assert_eq!(look.await.unwrap(), 1);
        let paid = Bank::on(&client).pay(7, 1999).idempotency_key("k").await;
        (paid, server.requests().len())
    };
    let (refused, requests) = pay("").await;
    let refused = refused.unwrap_err();
    assert_eq!((refused.code(), refused.executed(), requests), (Code::Unavailable, Executed::Unknown, 2), "{refused}");
    assert_eq!(pay("byname-keys: own\r\n").await, (Ok(1), 3));
}
