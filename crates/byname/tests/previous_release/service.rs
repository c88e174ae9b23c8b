//! The service that transcripts are recorded from and replayed against, and how a script steers it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use byname::{Bytes, Code, Context, Error, MethodError, Server, Streaming, rpc};
use futures_util::{Stream, StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};
use tokio::task::yield_now;

use crate::harness::{Running, within};

/// The client repeats it until its calls go by the way that a script is for.
#[rpc(readonly)]
async fn warm_up() {}

#[rpc(readonly)]
async fn add(a: i64, b: i64) -> i64 {
    a + b
}

#[rpc(readonly)]
fn greet(name: &str, #[rpc(default = "hello".to_owned())] greeting: String, mark: Option<char>) -> String {
    format!("{greeting} {name}{}", mark.map(String::from).unwrap_or_default())
}

#[rpc(readonly)]
async fn echo(value: Value) -> Value {
    value
}

#[rpc]
async fn nothing() {}

#[rpc]
async fn edges(i: i64, u: u64) -> (i64, u64) {
    (i, u)
}

#[rpc]
async fn ratio(a: f64, b: f64) -> f64 {
    a / b
}

#[rpc]
async fn reversed(bytes: Bytes) -> Bytes {
    bytes.iter().rev().copied().collect()
}

#[derive(Debug, Serialize, Deserialize)]
enum BankError {
    NoSuchAccount,
    Overdrawn { by: u64 },
    Broken,
}

impl MethodError for BankError {
    fn code(&self) -> Code {
        match self {
            BankError::NoSuchAccount => Code::NotFound,
            BankError::Overdrawn { .. } => Code::FailedPrecondition,
            BankError::Broken => Code::Internal,
        }
    }
}

#[rpc]
async fn withdraw(account: String, amount: u64) -> Result<u64, BankError> {
    match account.as_str() {
        "ada" if amount <= 100 => Ok(100 - amount),
        "ada" => Err(BankError::Overdrawn { by: amount - 100 }),
        "eve" => Err(BankError::Broken),
        _ => Err(BankError::NoSuchAccount),
    }
}

/// An error of every code, with all that an error can have.
#[rpc]
async fn fails(code: String, data: Value) -> Result<(), Error> {
    let code = Code::ALL.into_iter().find(|known| known.as_str() == code).expect("a code");
    let error = Error::new(code, "it was asked to fail");
    Err(if data.is_null() { error } else { error.with_data(data).with_retry_after(Duration::from_millis(1500)) })
}

#[rpc]
async fn panics(why: String) -> u8 {
    panic!("{why}")
}

#[rpc(readonly)]
async fn whoami() -> Option<String> {
    let context = Context::current().expect("it is called");
    context.reply_header("x-served", context.method()).expect("a valid header");
    context.header("x-user").map(str::to_owned)
}

#[rpc(readonly)]
fn countdown(from: u32) -> impl Stream<Item = u32> {
    stream::iter((1..=from).rev())
}

#[rpc(readonly)]
fn texts(count: usize, length: usize) -> impl Stream<Item = String> {
    stream::iter(0..count).map(move |at| at.to_string().repeat(length))
}

#[rpc]
async fn words(text: &str, until: &str) -> impl Stream<Item = Result<String, Vec<String>>> {
    stream::iter(text.split(' ')).map(move |word| match word == until {
        true => Err(vec![word.to_owned()]),
        false => Ok(word.to_owned()),
    })
}

#[rpc(readonly)]
fn boom(after: u32) -> impl Stream<Item = u32> {
    stream::iter(0..).map(move |at| if at < after { at } else { panic!("secret") })
}

#[rpc]
async fn sum(factor: i64, mut numbers: Streaming<i64>) -> Result<i64, Error> {
    let mut sum = 0;
    while let Some(number) = numbers.next().await {
        sum += number? * factor;
    }
    Ok(sum)
}

#[rpc]
fn double(numbers: Streaming<i64>) -> impl Stream<Item = Result<i64, Error>> {
    numbers.map(|number| number.map(|number| number * 2))
}

#[rpc]
async fn lengths(mut texts: Streaming<String>) -> Result<Vec<usize>, Error> {
    let mut lengths = Vec::new();
    while let Some(text) = texts.next().await {
        lengths.push(text?.len());
    }
    Ok(lengths)
}

/// What the functions of a site tell its script, and the script them.
#[derive(Default)]
struct Signals {
    started: Notify,
    release: Notify,
    dropped: Notify,
}

struct Dropped(Arc<Signals>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.dropped.notify_one();
    }
}

struct Gate(Arc<Signals>);

#[rpc]
impl Gate {
    /// Runs until it is released.
    async fn pass(&self) -> bool {
        self.0.started.notify_one();
        self.0.release.notified().await;
        true
    }

    /// Never ends. It is dropped when its call is cancelled.
    #[rpc(readonly)]
    async fn wait(&self) {
        let _dropped = Dropped(Arc::clone(&self.0));
        self.0.started.notify_one();
        std::future::pending().await
    }

    /// Sends this number of items, and then nothing: the stream does not end.
    #[rpc(readonly)]
    fn silent(&self, after: u32) -> impl Stream<Item = u32> {
        let dropped = Dropped(Arc::clone(&self.0));
        stream::iter(0..after).chain(stream::pending()).map(move |item| {
            let _ = &dropped;
            item
        })
    }
}

/// One server, for one case of a transcript.
pub(crate) struct Site {
    pub(crate) running: Mutex<Running>,
    signals: Arc<Signals>,
}

/// What a script does to the server beside its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Waits until a function of the gate has started.
    Started,
    /// Lets `pass` end.
    Release,
    /// Waits until the future of a function of the gate was dropped.
    Dropped,
    /// Tells the server to stop.
    Stop,
    /// Waits until it has stopped.
    Stopped,
}

impl Action {
    const ALL: [(&str, Action); 5] = [
        ("started", Action::Started),
        ("release", Action::Release),
        ("dropped", Action::Dropped),
        ("stop", Action::Stop),
        ("stopped", Action::Stopped),
    ];

    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, action)| *action == self).expect("it is in the list").0
    }

    pub(crate) fn named(name: &str) -> Self {
        Self::ALL.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("an action `{name}`")).1
    }

    /// Whether it waits for what the server does. Others make the server do something.
    pub(crate) fn waits(self) -> bool {
        matches!(self, Action::Started | Action::Dropped | Action::Stopped)
    }
}

impl Site {
    pub(crate) async fn new() -> Self {
        let signals = Arc::<Signals>::default();
        let server = Server::new()
            .method::<warm_up>()
            .method::<add>()
            .method::<greet>()
            .method::<echo>()
            .method::<nothing>()
            .method::<edges>()
            .method::<ratio>()
            .method::<reversed>()
            .method::<withdraw>()
            .method::<fails>()
            .method::<panics>()
            .method::<whoami>()
            .method::<countdown>()
            .method::<texts>()
            .method::<words>()
            .method::<boom>()
            .method::<sum>()
            .method::<double>()
            .method::<lengths>()
            .inject_as("gate", Gate(Arc::clone(&signals)));
        Self { running: Mutex::new(Running::new(server).await), signals }
    }

    pub(crate) fn address(&self) -> String {
        self.running.lock().unwrap().address.to_string()
    }

    pub(crate) async fn act(&self, action: Action) {
        match action {
            Action::Started => within(self.signals.started.notified()).await,
            Action::Release => self.signals.release.notify_one(),
            Action::Dropped => within(self.signals.dropped.notified()).await,
            Action::Stop => self.running.lock().unwrap().stop(),
            Action::Stopped => {
                within(async {
                    while !self.running.lock().unwrap().has_stopped() {
                        yield_now().await;
                    }
                })
                .await;
            }
        }
    }
}

/// The server of a case, where a script can act on it.
pub(crate) enum Backstage {
    Here(Site),
    /// In another process, which may be of another release: a line for each action, and one that says that it is done.
    There(tokio::sync::Mutex<BufReader<TcpStream>>),
    /// A transcript answers in place of a server. It adds a permit when it is past an action that waits.
    Replayed(Arc<Semaphore>),
}

impl Backstage {
    /// A server of its own at another process, and its address.
    pub(crate) async fn at(control: &str) -> (Self, String) {
        let mut lines = BufReader::new(TcpStream::connect(control).await.expect("the other process listens"));
        let mut address = String::new();
        within(lines.read_line(&mut address)).await.unwrap();
        (Self::There(tokio::sync::Mutex::new(lines)), address.trim().to_owned())
    }

    pub(crate) async fn act(&self, action: Action) {
        match self {
            Self::Here(site) => site.act(action).await,
            Self::There(lines) => {
                let mut lines = lines.lock().await;
                lines.write_all(format!("{}\n", action.name()).as_bytes()).await.unwrap();
                assert_ne!(within(lines.read_line(&mut String::new())).await.unwrap(), 0, "{action:?}");
            }
            Self::Replayed(passed) if action.waits() => within(passed.acquire()).await.unwrap().forget(),
            Self::Replayed(_) => {}
        }
    }

    /// The other end of [`at`](Self::at).
    pub(crate) async fn serve(control: TcpStream) {
        let site = Site::new().await;
        let mut lines = BufReader::new(control);
        lines.write_all(format!("{}\n", site.address()).as_bytes()).await.unwrap();
        let mut line = String::new();
        while lines.read_line(&mut line).await.is_ok_and(|count| count > 0) {
            site.act(Action::named(line.trim())).await;
            lines.write_all(b"done\n").await.unwrap();
            line.clear();
        }
    }
}
