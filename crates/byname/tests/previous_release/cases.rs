//! What the clients of the transcripts do. A script that was recorded is not changed: a new one is added.

use std::sync::Mutex;
use std::time::Duration;

use byname::{Args, Bytes, CallError, Client, Code, Codec, Error, Kind, Streaming, Transport};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::yield_now;

use super::recorder::Recorder;
use super::service::{Action, Backstage};
use crate::harness::within;

/// How the calls of a script go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Each call is the first one of a client, which knows nothing of its server.
    HttpPlain,
    HttpPath,
    FramesJson,
    FramesMsgpack,
}

impl Way {
    pub(crate) const ALL: [Way; 4] = [Way::HttpPlain, Way::HttpPath, Way::FramesJson, Way::FramesMsgpack];

    /// The name of its transcript.
    pub(crate) fn file(self) -> &'static str {
        match self {
            Way::HttpPlain => "http_plain",
            Way::HttpPath => "http_path",
            Way::FramesJson => "frames_json",
            Way::FramesMsgpack => "frames_msgpack",
        }
    }

    pub(crate) fn by_frames(self) -> bool {
        matches!(self, Way::FramesJson | Way::FramesMsgpack)
    }

    /// The scripts that make sense by this way. Over HTTP a client that drops a call waits for its answer in the
    /// background, which leaves no trace.
    pub(crate) fn cases(self) -> Vec<&'static str> {
        let everywhere = ["values", "arguments", "errors", "streams", "drain"];
        let by_frames = ["cancel", "deadline", "pieces and credit"];
        everywhere.into_iter().chain(by_frames.into_iter().filter(|_| self.by_frames())).collect()
    }
}

/// A client, its server behind a [`Recorder`], and what its calls gave.
pub(crate) struct Stage<'s> {
    way: Way,
    url: String,
    client: Client,
    recorder: &'s Recorder,
    backstage: &'s Backstage,
    outcomes: Mutex<Vec<String>>,
}

/// Plays one script and returns the outcomes of its calls.
pub(crate) async fn play(case: &str, way: Way, recorder: &Recorder, backstage: &Backstage) -> Vec<String> {
    let url = recorder.address.to_string();
    let client = client(way, &url);
    let stage = Stage { way, url, client, recorder, backstage, outcomes: Mutex::default() };
    stage.warm_up().await;
    match case {
        "values" => stage.values().await,
        "arguments" => stage.arguments().await,
        "errors" => stage.errors().await,
        "streams" => stage.streams().await,
        "drain" => stage.drain().await,
        "cancel" => stage.cancel().await,
        "deadline" => stage.deadline().await,
        "pieces and credit" => stage.pieces_and_credit().await,
        _ => panic!("a script `{case}`"),
    }
    recorder.snapshot();
    stage.outcomes.into_inner().unwrap()
}

fn client(way: Way, url: &str) -> Client {
    let (transport, codec) = match way {
        Way::HttpPlain | Way::HttpPath => (Transport::Http, Codec::Json),
        Way::FramesJson => (Transport::Frames, Codec::Json),
        Way::FramesMsgpack => (Transport::Frames, Codec::MessagePack),
    };
    Client::builder(url).transport(transport).codec(codec).build().unwrap()
}

impl Stage<'_> {
    async fn warm_up(&self) {
        if self.way == Way::HttpPlain {
            return;
        }
        let call = || async { within(self.client.call::<()>("warm_up", ())).await.unwrap() };
        call().await;
        while self.way.by_frames() && !self.recorder.has_a_call_by_frames() {
            call().await;
            yield_now().await;
        }
    }

    /// The client of the next call.
    fn client(&self) -> Client {
        if self.way == Way::HttpPlain { client(self.way, &self.url) } else { self.client.clone() }
    }

    fn note(&self, outcome: String) {
        self.outcomes.lock().unwrap().push(outcome);
    }

    async fn act(&self, action: Action) {
        if !action.waits() {
            self.recorder.acts(action);
        }
        self.backstage.act(action).await;
        if action == Action::Stopped && !matches!(self.backstage, Backstage::Replayed(_)) {
            self.recorder.servers_have_closed().await;
        }
        if action.waits() {
            self.recorder.acts(action);
        }
    }

    async fn call(&self, name: &str, args: impl Serialize + 'static) {
        self.note(outcome(within(self.client().call::<Value>(name, args)).await));
    }

    async fn values(&self) {
        self.call("add", (1, 2)).await;
        self.call("nothing", ()).await;
        for value in [
            json!(null),
            json!([true, false, 0, -1, 127, 128, 255, 256, 65_536, -129, -40_000, 4_294_967_296_u64]),
            json!([i64::MIN, i64::MAX, u64::MAX, 0.1, -1.5e300, 1.0]),
            json!({"": "", "ключ": "значение", "nested": [[], {}, [{"a": null}]], "escapes": "\"\\\n\u{7f}\u{1f600}"}),
            json!("x".repeat(300)),
            json!((0..40).collect::<Vec<_>>()),
        ] {
            self.call("echo", (value,)).await;
        }
        self.call("edges", (i64::MIN, u64::MAX)).await;
        self.call("ratio", (1.0, 3.0)).await;
        let bytes = Bytes::from(vec![0, 1, 2, 253, 254, 255]);
        let reversed = within(self.client().call::<Bytes>("reversed", (bytes,))).await;
        self.note(outcome(reversed.map(|bytes| json!(bytes.to_vec()))));
        self.call("withdraw", ("ada", 30)).await;
        let answer = within(self.client().call::<Value>("whoami", ()).header("x-user", "ada").with_metadata()).await;
        self.note(outcome(answer.map(|(value, headers)| json!([value, headers["x-served"].to_str().unwrap()]))));
    }

    async fn arguments(&self) {
        self.call("greet", ("ada",)).await;
        self.call("greet", ("ada", "good day", '!')).await;
        self.call("greet", json!({"name": "ada", "mark": "?"})).await;
        self.call("greet", Args::new().arg("ada").kwarg("mark", '.')).await;
        self.call("greet", ()).await;
        self.call("greet", (1,)).await;
        self.call("greet", json!({"name": "ada", "loud": true})).await;
        self.call("add", (1, 2, 3)).await;
    }

    async fn errors(&self) {
        self.call("ad", (1, 2)).await;
        self.call("withdraw", ("ada", 130)).await;
        self.call("withdraw", ("bob", 1)).await;
        self.call("withdraw", ("eve", 1)).await;
        self.call("panics", ("a secret",)).await;
        for code in Code::ALL.into_iter().map(Code::as_str) {
            self.call("fails", (code, Value::Null)).await;
        }
        self.call("fails", ("unavailable", json!({"why": ["it", 1]}))).await;
        self.call("fails", ("resource_exhausted", json!("data"))).await;
        self.call("countdown", (3,)).await;
        self.call("sum", (3,)).await;
        // The connection goes on.
        self.call("add", (3, 4)).await;
    }

    async fn stream(&self, name: &str, args: impl Serialize + 'static, most: usize) {
        let mut stream = self.client().stream::<Value>(name, args);
        for _ in 0..most {
            match within(stream.next()).await {
                Some(Ok(item)) => self.note(format!("item {}", short(&item))),
                Some(failed) => self.note(outcome(failed)),
                None => return self.note("end".to_owned()),
            }
        }
    }

    async fn streams(&self) {
        self.stream("countdown", (3,), usize::MAX).await;
        self.stream("countdown", (0,), usize::MAX).await;
        self.stream("words", ("a b c d", "c"), usize::MAX).await;
        self.stream("words", ("a", "a"), usize::MAX).await;
        self.stream("boom", (2,), usize::MAX).await;
        self.stream("add", (1, 2), usize::MAX).await;
        let sum = self.client().call::<Value>("sum", (3,)).streaming(Streaming::from(vec![1, 2]));
        self.note(outcome(within(sum).await));
        let sum = self.client().call::<Value>("sum", (3,)).streaming(Streaming::<i64>::from(vec![]));
        self.note(outcome(within(sum).await));
        let add = self.client().call::<Value>("add", (3, 4)).streaming(Streaming::from(vec![1]));
        self.note(outcome(within(add).await));
        let mut doubled = self.client().stream::<Value>("double", ()).streaming(Streaming::from(vec![1, 2, 3]));
        while let Some(item) = within(doubled.next()).await {
            self.note(format!("item {}", outcome(item)));
        }
    }

    /// A server that stops answers the call that it has.
    async fn drain(&self) {
        let pass = async { outcome(within(self.client().call::<Value>("gate.pass", ())).await) };
        let stop = async {
            self.act(Action::Started).await;
            self.act(Action::Stop).await;
            if self.way.by_frames() {
                self.recorder.goaway_has_come().await;
            }
            self.act(Action::Release).await;
        };
        let (passed, ()) = tokio::join!(pass, stop);
        self.note(passed);
        self.act(Action::Stopped).await;
    }

    async fn cancel(&self) {
        let waiting = self.client().call::<Value>("gate.wait", ());
        tokio::select! {
            _ = waiting => panic!("it never ends"),
            () = self.act(Action::Started) => {}
        }
        self.act(Action::Dropped).await;
        self.stream("gate.silent", (2,), 2).await;
        self.act(Action::Dropped).await;
        self.call("add", (1, 2)).await;
    }

    async fn deadline(&self) {
        let waiting = self.client().call::<Value>("gate.wait", ()).timeout(Duration::from_millis(30));
        self.note(outcome(within(waiting).await));
        self.act(Action::Dropped).await;
        self.call("add", (1, 2)).await;
    }

    async fn pieces_and_credit(&self) {
        self.call("echo", ("x".repeat(200_000),)).await;
        self.stream("texts", (5, 100_000), usize::MAX).await;
        let texts = (0..5).map(|at| at.to_string().repeat(100_000)).collect::<Vec<_>>();
        let lengths = self.client().call::<Value>("lengths", ()).streaming(Streaming::from(texts));
        self.note(outcome(within(lengths).await));
    }
}

/// The value or the error, as a line. The text of an error is in it only if the function itself gives it.
fn outcome(result: Result<Value, CallError<Value>>) -> String {
    match result {
        Ok(value) => format!("ok {}", short(&value)),
        Err(CallError::Method(own)) => format!("method error {own}"),
        Err(CallError::Rpc(error)) => rpc_error(&error),
    }
}

fn rpc_error(error: &Error) -> String {
    let mut line = format!("error {}, executed {}", error.code(), error.executed().as_str());
    if error.kind() == Kind::Method {
        line += ", of the function";
    }
    for (name, value) in [
        ("data", error.data().map(Value::to_string)),
        ("retry after", error.retry_after().map(|after| format!("{after:?}"))),
        ("limit", error.limit().map(str::to_owned)),
    ] {
        if let Some(value) = value {
            line += &format!(", {name} {value}");
        }
    }
    line
}

/// A value, or how it begins and how long it is.
fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.len() > 1000 { format!("{}… of {} bytes", &text[..20], text.len()) } else { text }
}
