//! Kills the bank of `examples/transfers` at every step of a transfer, and checks that each transfer with a key happens once.
//! With unix sockets, and the signals that ended a process, it is for unix.
#![cfg(unix)]

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use byname::{CallError, Client, Code, Error, MethodError, Transport, rpc};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

const KILLS: usize = 1000;

/// The points of `examples/transfers/crash_points.rs`, in the order of a transfer. At `None` the test kills the process at any
/// moment, for example while the reply is on its way.
const STEPS: [Option<&str>; 9] = [
    Some("before_claim"),
    Some("after_claim"),
    Some("before_work"),
    Some("after_work"),
    Some("before_commit"),
    Some("after_commit"),
    Some("before_complete"),
    Some("after_complete"),
    None,
];

const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;

#[rpc(keyed)]
async fn transfer(from: String, to: String, cents: u32) -> Result<Receipt, BankError>;

#[rpc(readonly)]
async fn balances() -> Result<BTreeMap<String, i64>, BankError>;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Receipt {
    number: i64,
    from: String,
    to: String,
    cents: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, MethodError)]
enum BankError {
    NoSuchAccount(String),
    Overdrawn(String),
    RanElsewhere,
    Database,
}

impl std::fmt::Display for BankError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Cargo puts examples beside the folder that tests run from, and builds them for `cargo test`.
fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let example = test.parent().and_then(Path::parent).unwrap().join("examples/transfers");
    assert!(
        example.exists(),
        "{example:?} is not there: `cargo build --example transfers`, in the same profile, makes it"
    );
    example
}

/// A folder for the database and the socket. The path of a socket has a limit of about 100 bytes, so it is not in the target
/// directory.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("transfers-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn database(&self) -> PathBuf {
        self.0.join("bank.sqlite")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The process of the bank, which ends when this is dropped.
struct BankProcess {
    child: Child,
    address: String,
    /// The bank ends when this is closed, and `Child::wait` would close it.
    _stdin: Option<ChildStdin>,
}

impl BankProcess {
    /// Starts it, and waits until it says that it serves. It ends itself when it reaches this point, such as `after_commit:2`.
    async fn start(folder: &Folder, socket: &str, crash: Option<&str>) -> Self {
        let address = format!("unix:{}", folder.0.join(socket).display());
        let mut command = Command::new(example());
        command.arg("serve").arg(&address).arg(folder.database());
        command.envs(crash.map(|crash| ("TRANSFERS_CRASH", crash)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut said).await.unwrap();
        assert!(!said.is_empty(), "the bank ended before it served");
        Self { _stdin: child.stdin.take(), child, address }
    }

    /// A client that sends each call once, and does so by this transport from now on.
    async fn client(&self, transport: Transport) -> Client {
        let client = Client::builder(&self.address).transport(transport).build().unwrap();
        let client = client.policy("*", |policy| policy.attempts = 1);
        let is_by_frames = async || {
            let service = client.explain("transfer").await.service.unwrap();
            service.replicas.iter().any(|replica| replica.is_by_frames)
        };
        while matches!(transport, Transport::Frames) && !is_by_frames().await {
            balances::on(&client).await.unwrap();
        }
        client
    }
}

/// A transfer with a key, and what its caller was told.
struct Order {
    key: String,
    from: &'static str,
    to: &'static str,
    cents: u32,
    outcome: Option<Result<Receipt, BankError>>,
}

impl Order {
    fn random(number: usize, dice: &mut fastrand::Rng) -> Self {
        let mut accounts = ["ada", "bob", "eve"];
        dice.shuffle(&mut accounts);
        let [from, to, _] = accounts;
        Self { key: format!("order-{number}"), from, to, cents: dice.u32(1..6_000), outcome: None }
    }

    /// Sends it. The answer is the one that an earlier call with this key had.
    async fn send(&mut self, bank: &Client) -> Result<(), Error> {
        let call = transfer::on(bank, self.from.into(), self.to.into(), self.cents).idempotency_key(&self.key);
        let outcome = match call.await {
            Ok(receipt) => Ok(receipt),
            Err(CallError::Method(error)) => Err(error),
            Err(CallError::Rpc(error)) => return Err(error),
        };
        if let Some(first) = &self.outcome {
            assert_eq!(&outcome, first, "{}", self.key);
        }
        self.outcome = Some(outcome);
        Ok(())
    }
}

/// The orders of the test, and the dice that everything follows from.
struct Orders {
    all: Vec<Order>,
    dice: fastrand::Rng,
}

impl Orders {
    /// Sends orders until one fails, because the bank was killed. One that has no answer comes first, and some are sent twice.
    async fn send_until_it_fails(&mut self, bank: &Client) -> Error {
        loop {
            let waits = self.all.last().is_some_and(|order| order.outcome.is_none());
            let at = match waits {
                true => self.all.len() - 1,
                false if !self.all.is_empty() && self.dice.u8(..4) == 0 => self.dice.usize(..self.all.len()),
                false => {
                    self.all.push(Order::random(self.all.len(), &mut self.dice));
                    self.all.len() - 1
                }
            };
            if let Err(error) = self.all[at].send(bank).await {
                return error;
            }
        }
    }

    /// Returns how many transfers were made and how many were refused.
    fn assert_each_happened_once(&self, folder: &Folder) -> (usize, usize) {
        let database = Connection::open(folder.database()).unwrap();
        let mut transfers: HashMap<String, Vec<Receipt>> = HashMap::new();
        let mut rows = database.prepare("SELECT key, number, payer, payee, cents FROM transfers").unwrap();
        let mut rows = rows.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let key: String = row.get(0).unwrap();
            let key = key.rsplit(' ').next().unwrap().to_owned();
            let [number, from, to, cents] = [1, 2, 3, 4].map(|column| row.get_ref(column).unwrap());
            let text = |value: rusqlite::types::ValueRef<'_>| value.as_str().unwrap().to_owned();
            let receipt = Receipt {
                number: number.as_i64().unwrap(),
                from: text(from),
                to: text(to),
                cents: cents.as_i64().unwrap() as u32,
            };
            transfers.entry(key).or_default().push(receipt);
        }
        let (mut done, mut refused) = (0, 0);
        for order in &self.all {
            let made = transfers.remove(&order.key).unwrap_or_default();
            match order.outcome.as_ref().expect("each was sent until it had an answer") {
                Ok(receipt) => {
                    assert_eq!(made, std::slice::from_ref(receipt), "{}", order.key);
                    let expected = (order.from, order.to, order.cents);
                    assert_eq!((&*receipt.from, &*receipt.to, receipt.cents), expected, "{}", order.key);
                    done += 1;
                }
                Err(error) => {
                    assert_eq!(
                        (&made[..], error),
                        (&[][..], &BankError::Overdrawn(order.from.into())),
                        "{}",
                        order.key
                    );
                    refused += 1;
                }
            }
        }
        assert_eq!(transfers, HashMap::new(), "these were not asked for");
        let sum: i64 = database.query_one("SELECT SUM(cents) FROM accounts", [], |row| row.get(0)).unwrap();
        assert_eq!(sum, 30_000);
        (done, refused)
    }
}

#[tokio::test]
async fn each_transfer_happens_once_although_the_bank_is_killed_at_every_step() {
    let folder = Folder::new("killed");
    let mut orders = Orders { all: Vec::new(), dice: fastrand::Rng::with_seed(1) };
    let (mut aborted, mut killed) = (HashMap::<&str, usize>::new(), 0);
    for life in 0..KILLS {
        let step = STEPS[life % STEPS.len()];
        let crash = step.map(|point| format!("{point}:{}", orders.dice.u32(1..4)));
        let mut process = BankProcess::start(&folder, "bank.sock", crash.as_deref()).await;
        let transport = if life % 2 == 0 { Transport::Frames } else { Transport::Http };
        let bank = process.client(transport).await;
        let random_moment = Duration::from_micros(orders.dice.u64(..10_000));
        let kill = async {
            if step.is_none() {
                tokio::time::sleep(random_moment).await;
                process.child.start_kill().unwrap();
            }
        };
        let (error, ()) = tokio::join!(orders.send_until_it_fails(&bank), kill);
        assert_eq!(error.code(), Code::Unavailable, "{error}");
        let ended = process.child.wait().await.unwrap();
        match step {
            Some(point) => {
                assert_eq!(ended.signal(), Some(SIGABRT), "{point}: {ended}");
                *aborted.entry(point).or_default() += 1;
            }
            None => {
                assert_eq!(ended.signal(), Some(SIGKILL), "{ended}");
                killed += 1;
            }
        }
    }
    let process = BankProcess::start(&folder, "bank.sock", None).await;
    let bank = process.client(Transport::Frames).await;
    for order in &mut orders.all {
        order.send(&bank).await.unwrap();
    }
    drop(process);

    assert_eq!(aborted.values().sum::<usize>() + killed, KILLS);
    assert!(aborted.len() == STEPS.len() - 1 && aborted.values().all(|count| *count >= KILLS / 10), "{aborted:?}");
    assert!(killed >= KILLS / 10, "{killed} times at a random moment");
    let (done, refused) = orders.assert_each_happened_once(&folder);
    assert!(done > 100 && refused > 100, "{done} transfers were made, {refused} were refused");
}

#[tokio::test]
async fn a_client_sends_a_transfer_again_by_itself_when_the_bank_is_restarted() {
    let folder = Folder::new("restarted");
    let mut orders = Orders { all: Vec::new(), dice: fastrand::Rng::with_seed(3) };
    for (number, transport) in [Transport::Frames, Transport::Http].into_iter().cycle().take(40).enumerate() {
        // The look at the balances is the first call with a key, which the store sees too.
        let is_of_store = |point: &str| point.ends_with("claim") || point.ends_with("complete");
        let crash = STEPS[number / 2 % (STEPS.len() - 1)]
            .map(|point| format!("{point}:{}", if is_of_store(point) { 2 } else { 1 }));
        let mut process = BankProcess::start(&folder, "bank.sock", crash.as_deref()).await;
        // It needs more attempts than usual where starting a process takes long.
        let client = process.client(transport).await.policy("*", |policy| policy.attempts = 100);
        // Over HTTP the bank says in answers to calls with a key that its keys outlive it. Before the first one the client would
        // not send a transfer again.
        balances::on(&client).idempotency_key(&format!("look-{number}")).await.unwrap();
        let mut order = Order::random(number, &mut orders.dice);
        order.cents = 1;
        let restart = async {
            let ended = process.child.wait().await.unwrap();
            assert_eq!(ended.signal(), Some(SIGABRT), "{crash:?}: {ended}");
            BankProcess::start(&folder, "bank.sock", None).await
        };
        let (sent, mut restarted) = tokio::join!(order.send(&client), restart);
        // Until it has ended it has the socket.
        restarted.child.kill().await.unwrap();
        sent.unwrap_or_else(|error| panic!("{crash:?}: {error}"));
        orders.all.push(order);
    }
    assert_eq!(orders.assert_each_happened_once(&folder), (40, 0));
}

#[tokio::test]
async fn two_processes_that_get_the_same_key_at_once_make_one_transfer() {
    let folder = Folder::new("two");
    let mut orders = Orders { all: Vec::new(), dice: fastrand::Rng::with_seed(2) };
    let processes =
        [BankProcess::start(&folder, "a.sock", None).await, BankProcess::start(&folder, "b.sock", None).await];
    let a = processes[0].client(Transport::Frames).await;
    let b = processes[1].client(Transport::Frames).await;
    for number in 0..300 {
        let mut order = Order::random(number, &mut orders.dice);
        order.cents = 1;
        let send = |bank: &Client| {
            transfer::on(bank, order.from.into(), order.to.into(), order.cents)
                .idempotency_key(&order.key)
                .into_future()
        };
        let (at_a, at_b) = tokio::join!(send(&a), send(&b));
        let receipts: Vec<_> = [at_a, at_b].into_iter().filter_map(Result::ok).collect();
        assert!(!receipts.is_empty() && receipts.iter().all(|receipt| *receipt == receipts[0]), "{receipts:?}");
        // The one that came second gets the receipt when it asks again.
        for bank in [&a, &b] {
            order.send(bank).await.unwrap();
        }
        assert_eq!(order.outcome, Some(Ok(receipts[0].clone())));
        orders.all.push(order);
    }
    drop(processes);
    assert_eq!(orders.assert_each_happened_once(&folder), (300, 0));
}

#[test]
fn the_story_ends_well() {
    let ran = std::process::Command::new(example()).output().unwrap();
    let said = String::from_utf8(ran.stdout).unwrap();
    assert!(ran.status.success(), "{said}\n{}", String::from_utf8_lossy(&ran.stderr));
    for part in ["Kill the process", "unavailable, executed: unknown", "The money of each transfer moved once."] {
        assert!(said.contains(part), "{part:?} is missing in:\n{said}");
    }
}
