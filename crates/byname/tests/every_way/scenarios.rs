//! Every scenario once, over every way in: HTTP/1.1 and HTTP/2, plain, by path and JSON-RPC, frames in both codecs, and
//! within the process. `scenarios/table.rs` has each protocol over each kind of connection.

#[cfg(feature = "compression")]
mod compressed;
#[cfg(feature = "tls")]
mod over_tls;
mod table;

use crate::harness::foreign::{Foreign, ret};
use crate::harness::unix::UnixRunning;
use crate::harness::{Caller, Running, Served, Tap, everything, get, post, raw};
use byname::{Args, CallError, Client, Code, Codec, Executed, HeaderMap, Kind, Transport, rpc};
use futures_util::{Stream, StreamExt, stream};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};

/// A call and what it must come to.
struct Scenario {
    name: &'static str,
    args: Value,
    kwargs: Value,
    expected: Expected,
}

enum Expected {
    Value(Value),
    /// Code, executed, and a part of the message.
    Rpc(Code, Executed, &'static str),
    Method(Code, Value),
}

use Expected::{Method, Rpc};

fn scenarios() -> Vec<Scenario> {
    let scenario = |name, args, kwargs, expected| Scenario { name, args, kwargs, expected };
    let value = |name, args, kwargs, value| scenario(name, args, kwargs, Expected::Value(value));
    let invalid =
        |name, args, kwargs, words| scenario(name, args, kwargs, Rpc(Code::InvalidArgument, Executed::No, words));
    let no = || json!({});
    vec![
        value("add", json!([1, 2]), no(), json!(3)),
        value("add", json!([]), json!({"b": 1, "a": 2}), json!(3)),
        value("add", json!([1]), json!({"b": 2}), json!(3)),
        value("greet", json!(["Ada"]), no(), json!("hello Ada")),
        value("greet", json!([]), json!({"name": "Zoë 🦀", "greeting": "salut", "mark": "!"}), json!("salut Zoë 🦀!")),
        value("greet", json!(["Ada"]), json!({"mark": null}), json!("hello Ada")),
        value(
            "echo",
            json!([[1, {"a": [null, true, "\u{0}\"\\"]}]]),
            no(),
            json!([1, {"a": [null, true, "\u{0}\"\\"]}]),
        ),
        value("same", json!([7]), no(), json!(7)),
        value("nothing", json!([]), no(), json!(null)),
        value("edges", json!([i64::MIN, u64::MAX]), no(), json!([i64::MIN, u64::MAX])),
        value("edges", json!([(1i64 << 53) + 1, (1u64 << 53) + 1]), no(), json!([(1i64 << 53) + 1, (1u64 << 53) + 1])),
        value("ratio", json!([1, 4]), no(), json!(0.25)),
        value("total", json!([[1, 2, 3]]), no(), json!(6)),
        value("type", json!([]), json!({"fn": 5}), json!(5)),
        value("shout", json!(["x"]), no(), json!("X")),
        value("shout", json!([]), json!({"arg0": "x"}), json!("X")),
        value("sneaky", json!([false]), no(), json!(1)),
        scenario("sneaky", json!([true]), no(), Method(Code::Unknown, json!("no"))),
        value("withdraw", json!(["ada", 30]), no(), json!(70)),
        scenario(
            "withdraw",
            json!(["ada", 101]),
            no(),
            Method(Code::FailedPrecondition, json!({"Overdrawn": {"by": 1}})),
        ),
        scenario("withdraw", json!(["bob", 1]), no(), Method(Code::NotFound, json!("NoSuchAccount"))),
        scenario("ours", json!([]), no(), Rpc(Code::AlreadyExists, Executed::Yes, "it is there")),
        scenario("panics", json!(["secret"]), no(), Rpc(Code::Internal, Executed::Yes, "`panics` panicked")),
        scenario("ratio", json!([0, 0]), no(), Rpc(Code::Internal, Executed::Yes, "NaN")),
        scenario("ratio", json!([1, 0]), no(), Rpc(Code::Internal, Executed::Yes, "inf")),
        scenario("addd", json!([1, 2]), no(), Rpc(Code::Unimplemented, Executed::No, "did you mean `add`")),
        invalid("add", json!([1]), no(), "argument `b` is missing; the signature is `add(a: i64, b: i64) -> i64`"),
        invalid("add", json!([1, 2, 3]), no(), "`add` takes 2 arguments, 3 were given"),
        invalid("add", json!([1, 2]), json!({"a": 1}), "argument `a` is given twice"),
        invalid("add", json!([1, 2]), json!({"c": 1}), "unknown argument `c`"),
        invalid("add", json!([1, "2"]), no(), "argument `b`: invalid type: string \"2\", expected i64"),
        invalid("add", json!([1, 2.5]), no(), "argument `b`: invalid type: floating point `2.5`, expected i64"),
        invalid("add", json!([1, 9_223_372_036_854_775_808u64]), no(), "argument `b`: invalid value"),
        invalid("greet", json!([]), json!({"name": null}), "argument `name`: invalid type: null"),
    ]
}

/// What a call came to, however it was made.
type Came = Result<Value, (Code, Executed, Kind, String, Option<Value>)>;

fn check(face: &str, scenario: &Scenario, came: Came) {
    let Scenario { name, args, kwargs, expected } = scenario;
    let call = format!("{face}: {name} {args} {kwargs}");
    match (expected, came) {
        (Expected::Value(expected), Ok(value)) => assert_eq!(value, *expected, "{call}"),
        (Rpc(code, executed, words), Err((got, ran, Kind::Rpc, message, _))) => {
            assert_eq!((got, ran), (*code, *executed), "{call}: {message}");
            assert!(message.contains(words), "{call}: {message}");
            assert!(!message.contains("secret"), "{call}: {message}");
        }
        (Method(code, data), Err((got, ran, Kind::Method, _, own))) => {
            assert_eq!((got, ran, own.as_ref()), (*code, Executed::Yes, Some(data)), "{call}");
        }
        (_, came) => panic!("{call}: {came:?}"),
    }
}

/// Through byname's own client.
async fn through_client(face: &str, client: &Client) {
    for scenario in scenarios() {
        let mut args = Args::new();
        for value in scenario.args.as_array().unwrap() {
            args = args.arg(value);
        }
        for (name, value) in scenario.kwargs.as_object().unwrap() {
            args = args.kwarg(name, value);
        }
        let came = client.call::<Value>(scenario.name, args).await.map_err(|error| match error {
            // The code of a function's own error is for callers that don't know its type.
            CallError::Method(data) => {
                let code = match &scenario.expected {
                    Method(code, _) => *code,
                    _ => Code::Unknown,
                };
                (code, Executed::Yes, Kind::Method, String::new(), Some(data))
            }
            CallError::Rpc(error) => {
                (error.code(), error.executed(), error.kind(), error.message().to_owned(), error.data().cloned())
            }
        });
        check(face, &scenario, came);
    }
}

#[tokio::test]
async fn plain_over_http1() {
    let server = || everything().path(false);
    let (tcp, unix) = (Running::new(server()).await, UnixRunning::new(server()).await);
    for (under, client) in [("TCP", tcp.client()), ("a unix socket", unix.client())] {
        through_client(&format!("plain over HTTP/1 over {under}"), &client).await;
    }
}

/// What frames carry.
const CODECS: [Codec; 2] = [Codec::MessagePack, Codec::Json];

#[tokio::test]
async fn within_the_process() {
    let client = Client::local(&everything()).unwrap();
    through_client("in process", &client).await;
    for codec in [Codec::Json, Codec::MessagePack] {
        let client = client.encoded(true).codec(codec);
        through_client(&format!("in process, encoded as {codec:?}"), &client).await;
    }
}

/// ERROR as it stands in a body.
fn error(error: &Value) -> Came {
    let text = |member: &str| error[member].clone();
    Err((
        serde_json::from_value(text("code")).unwrap(),
        serde_json::from_value(text("executed")).unwrap(),
        serde_json::from_value(text("kind")).unwrap(),
        error["message"].as_str().unwrap().to_owned(),
        error.get("data").cloned(),
    ))
}

/// The params of JSON-RPC; `None` for what it can't carry, some by position and some by name.
fn params(Scenario { args, kwargs, .. }: &Scenario) -> Option<&Value> {
    match (args.as_array().unwrap().is_empty(), kwargs.as_object().unwrap().is_empty()) {
        (false, false) => None,
        (true, false) => Some(kwargs),
        _ => Some(args),
    }
}

fn json_rpc((id, scenario): (usize, &Scenario)) -> Option<Value> {
    Some(json!({"jsonrpc": "2.0", "method": scenario.name, "params": params(scenario)?, "id": id}))
}

/// A reply of JSON-RPC.
fn came(id: usize, reply: &Value) -> Came {
    assert_eq!(reply["id"], id, "{reply}");
    if reply.get("error").is_some() { error(&reply["error"]["data"]) } else { Ok(reply["result"].clone()) }
}

#[tokio::test]
async fn json_rpc_over_http1_one_by_one_and_as_a_batch() {
    let running = Running::new(everything()).await;
    let mut caller = Caller::to(running.address).await;
    let scenarios = scenarios();
    for (id, scenario) in scenarios.iter().enumerate() {
        let Some(call) = json_rpc((id, scenario)) else { continue };
        check("JSON-RPC", scenario, came(id, &caller.ask(post("/rpc", &call.to_string())).await.json()));
    }
    let batch: Value = scenarios.iter().enumerate().filter_map(json_rpc).collect();
    let replies = caller.ask(post("/rpc", &batch.to_string())).await.json();
    let mut replies = replies.as_array().unwrap().iter();
    for (id, scenario) in scenarios.iter().enumerate().filter(|(_, scenario)| params(scenario).is_some()) {
        check("a batch of JSON-RPC", scenario, came(id, replies.next().unwrap()));
    }
    assert_eq!(replies.next(), None);
}

/// Through an HTTP/2 client of others, to `base`.
async fn through_http2<S>(base: &str, http2: &str, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut send, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut post = async |path: &str, body: Value| {
        let uri = format!("{base}{path}");
        let request = hyper::Request::post(uri).body(Full::new(Bytes::from(body.to_string()))).unwrap();
        let (head, body) = send.send_request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        assert_eq!(head.headers["byname-protocol"], "1");
        (head.status.as_u16(), serde_json::from_slice::<Value>(&body).unwrap())
    };
    for scenario in scenarios() {
        let Scenario { name, args, kwargs, .. } = &scenario;
        let (status, body) = post("/rpc", json!({"fun": name, "args": args, "kwargs": kwargs})).await;
        let plain = if status == 200 { Ok(body["ret"].clone()) } else { error(&body["err"]) };
        check(&format!("plain over {http2}"), &scenario, plain);

        let Some(params) = params(&scenario) else { continue };
        let (status, body) = post(&format!("/rpc/{name}"), params.clone()).await;
        let by_path = if status == 200 { Ok(body) } else { error(&body) };
        check(&format!("path over {http2}"), &scenario, by_path);

        let (_, reply) = post("/rpc", json_rpc((7, &scenario)).unwrap()).await;
        check(&format!("JSON-RPC over {http2}"), &scenario, came(7, &reply));
    }
}

#[tokio::test]
async fn typed_stubs_say_the_same_everywhere() {
    let (tcp, unix) = (Running::new(everything()).await, UnixRunning::new(everything()).await);
    let local = || Client::local(&everything()).unwrap();
    let encoded = [local().encoded(true), local().encoded(true).codec(Codec::MessagePack)];
    for client in [tcp.client(), unix.client(), local()].into_iter().chain(encoded) {
        typed_stubs(&client).await;
    }
    for codec in CODECS {
        typed_stubs_by_frames(&Running::new(everything()).await, codec).await;
        typed_stubs_by_frames(&UnixRunning::new(everything()).await, codec).await;
    }
}

async fn typed_stubs_by_frames(running: &impl Served, codec: Codec) {
    let (tap, client) = Tap::client_by_frames(running, codec).await;
    let before = tap.over_http();
    typed_stubs(&client).await;
    assert_eq!(tap.over_http(), before, "every call went by frames, in {codec:?}");
}

async fn typed_stubs(client: &Client) {
    use crate::harness::*;
    assert_eq!(add(1, 2).await, 3);
    assert_eq!(add::on(client, 1, 2).await.unwrap(), 3);
    assert_eq!(greet::on(client, "Ada", "hello".into(), None).await.unwrap(), "hello Ada");
    assert_eq!(total::on(client, &[1, 2, 3]).await.unwrap(), 6);
    assert_eq!(edges::on(client, i64::MIN, u64::MAX).await.unwrap(), (i64::MIN, u64::MAX));
    nothing::on(client).await.unwrap();
    assert_eq!(withdraw::on(client, "ada".into(), 1).await.unwrap(), 99);
    let overdrawn = withdraw::on(client, "ada".into(), 107).await;
    assert_eq!(overdrawn, Err(CallError::Method(BankError::Overdrawn { by: 7 })));
    let ours = ours::on(client).await.unwrap_err();
    let ours = ours.rpc().expect("our own error arrives as ours");
    assert_eq!((ours.code(), ours.executed(), ours.data()), (Code::AlreadyExists, Executed::Yes, Some(&json!("here"))));
    let counter = Counter::on(&client.prefix("counter"));
    let left = Counter::on(&client.prefix("left"));
    assert_eq!(counter.bump(5).await.unwrap(), 5);
    assert_eq!(counter.bump(1).await.unwrap(), 6);
    assert_eq!(left.total().await.unwrap(), 0);

    let (who, metadata): (_, HeaderMap) = whoami::on(&client.header("x-user", "ada")).with_metadata().await.unwrap();
    assert_eq!(who["x-user"].as_deref(), Some("ada"));
    assert_eq!(metadata["x-served"], "whoami");
}

/// As text: serde_json's own `Value` can't hold these.
#[tokio::test]
async fn integers_beyond_64_bits_are_never_rounded() {
    let running = Running::new(everything()).await;
    let echo = async |value: &str| {
        let plain = raw(running.address, post("/rpc", &format!(r#"{{"fun":"echo","args":[{value}]}}"#))).await;
        let path = raw(running.address, post("/rpc/echo", &format!("[{value}]"))).await;
        let by_name = raw(running.address, post("/rpc/echo", &format!(r#"{{"value":{value}}}"#))).await;
        assert_eq!((plain.status, &by_name.body), (path.status, &path.body), "{value}");
        if path.status == 200 {
            assert_eq!(plain.body, format!(r#"{{"ret":{}}}"#, path.body), "{value}");
        }
        path
    };
    for same in [
        "18446744073709551615",
        "-9223372036854775808",
        r#""18446744073709551617""#,
        r#"{"18446744073709551617":["-9223372036854775809","\"\\",9223372036854775808]}"#,
        "[1e+300,0.1234567890123456]",
    ] {
        let came = echo(same).await;
        assert_eq!((came.status, came.body.as_str()), (200, same));
    }
    for (float, same) in
        [("12345678901234567890.0", 12345678901234567890.0), ("123456789012345678901e-1", 1.2345678901234567e19)]
    {
        let came = echo(float).await;
        assert_eq!((came.status, came.json()), (200, json!(same)), "{float}");
    }
    for beyond in [
        "18446744073709551617",
        "18446744073709551616",
        "-9223372036854775809",
        r#"["18446744073709551617",[[{"a":[1e300,18446744073709551617]}]]]"#,
        "[[[0],[98765432109876543210]]]",
        &format!("{}18446744073709551617{}", "[".repeat(126), "]".repeat(126)),
    ] {
        let came = echo(beyond).await;
        assert_eq!((came.status, came.header("byname-protocol")), (400, "1"), "{beyond}: {came:?}");
        let error = came.json();
        assert_eq!((&error["code"], &error["executed"]), (&json!("invalid_argument"), &json!("no")), "{beyond}");
        let message = error["message"].as_str().unwrap();
        assert!(message.starts_with("argument `value") && message.contains("`: an integer near "), "{message}");
        assert!(message.contains("more than 64 bits and would be rounded: send it as a string, or"), "{message}");
    }
    // JavaScript writes 1e20 like this.
    let ratio = raw(running.address, post("/rpc/ratio", "[100000000000000000000,1e20]")).await;
    assert_eq!((ratio.status, ratio.json()), (200, json!(1.0)));

    let local = || Client::local(&everything()).unwrap().encoded(true);
    let (in_message_pack, by_message_pack) = Tap::client_by_frames(&running, Codec::MessagePack).await;
    let (in_json, by_json) = Tap::client_by_frames(&running, Codec::Json).await;
    let before = [&in_message_pack, &in_json].map(Tap::over_http);
    for client in [running.client(), local(), local().codec(Codec::MessagePack), by_message_pack, by_json] {
        let error = client.call::<Value>("echo", ((1u128 << 64) + 1,)).await.unwrap_err();
        let error = error.rpc().unwrap();
        assert_eq!((error.code(), error.executed()), (Code::InvalidArgument, Executed::No), "{error}");
        assert_eq!(client.call::<u64>("echo", (u64::MAX,)).await.unwrap(), u64::MAX);
    }
    assert_eq!([&in_message_pack, &in_json].map(Tap::over_http), before, "every call of theirs went by frames");
}

mod mine {
    use serde::{Deserialize, Serialize};

    /// Called as the standard one, and none.
    #[derive(Debug, PartialEq, Deserialize, Serialize)]
    pub(crate) enum Result<T> {
        Ok(T),
        Err(String),
    }

    /// Called as byname's own, and none.
    #[derive(Debug, PartialEq, Deserialize, Serialize)]
    #[serde(rename = "byname::Error")]
    pub(crate) struct Error {
        pub(crate) code: u8,
    }
}
use mine::Result as Outcome;

#[derive(Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename = "Result")]
enum Renamed {
    Err(u8),
}

#[rpc]
fn outcome(fail: bool) -> Outcome<u8> {
    if fail { Outcome::Err("no".into()) } else { Outcome::Ok(1) }
}

#[rpc]
fn renamed() -> Renamed {
    Renamed::Err(1)
}

#[rpc]
fn outcomes() -> impl Stream<Item = Outcome<u8>> {
    stream::iter([outcome(true), outcome(false)])
}

/// A type is what the compiler says, whatever serde calls it.
#[tokio::test]
async fn an_enum_that_is_called_result_is_a_value() {
    let server = || {
        byname::Server::new()
            .method::<outcome>()
            .method::<renamed>()
            .method::<outcomes>()
            .method::<crate::harness::nothing>()
            .function("outcome_too", |fail: bool| async move { outcome(fail) })
            .function("own", |_: bool| async { Err::<(), _>(mine::Error { code: 1 }) })
            .function("boxed", |_: bool| async { Box::new(Err::<(), _>(1)) })
    };
    let running = Running::new(server()).await;
    let local = || Client::local(&server()).unwrap();
    let (_tap, by_message_pack) = Tap::client_by_frames(&running, Codec::MessagePack).await;
    let (_json_tap, by_json) = Tap::client_by_frames(&running, Codec::Json).await;
    let over_http = running.client_by(Transport::Http);
    for client in [over_http, by_message_pack, by_json, local(), local().encoded(true)] {
        assert_eq!(outcome::on(&client, true).await.unwrap(), Outcome::Err("no".into()));
        assert_eq!(outcome::on(&client, false).await.unwrap(), Outcome::Ok(1));
        assert_eq!(renamed::on(&client).await.unwrap(), Renamed::Err(1));
        let items: Vec<_> = outcomes::on(&client).map(Result::unwrap).collect().await;
        assert_eq!(items, [Outcome::Err("no".into()), Outcome::Ok(1)]);
        for name in ["outcome", "outcome_too"] {
            assert_eq!(client.call::<Value>(name, (true,)).await.unwrap(), json!({"Err": "no"}), "{name}");
        }
        assert_eq!(client.call::<Value>("boxed", (true,)).await.unwrap(), json!({"Err": 1}));
        let Err(CallError::Method(own)) = client.call::<Value>("own", (true,)).await else {
            panic!("expected the function's own error");
        };
        assert_eq!(own, json!({"code": 1}));
    }
}

#[rpc(readonly)]
fn reversed(bytes: byname::Bytes) -> byname::Bytes {
    bytes.iter().rev().copied().collect()
}

#[rpc]
fn each(bytes: byname::Bytes) -> impl Stream<Item = Result<byname::Bytes, byname::Bytes>> {
    stream::iter([Ok(bytes.clone()), Err(bytes)])
}

/// A caller that accepts any value gets text: before its client changes to frames and after it.
#[tokio::test]
async fn bytes_are_bytes_by_every_way() {
    let server = || byname::Server::new().method::<reversed>().method::<each>().method::<crate::harness::nothing>();
    let running = Running::new(server()).await;
    let local = || Client::local(&server()).unwrap();
    let (tap, by_message_pack) = Tap::client_by_frames(&running, Codec::MessagePack).await;
    let (_json_tap, by_json) = Tap::client_by_frames(&running, Codec::Json).await;
    let over_http = running.client_by(Transport::Http);
    let bytes: byname::Bytes = (0..=255).collect();
    let back: byname::Bytes = (0..=255).rev().collect();
    for client in [over_http, by_message_pack, by_json, local(), local().encoded(true)] {
        assert_eq!(reversed::on(&client, bytes.clone()).await.unwrap(), back);
        let by_name = client.call::<Value>("reversed", (byname::Bytes::from_static(b"\0\x01"),)).await.unwrap();
        assert_eq!(by_name, "AQA=");
        for same in [json!(["AAE"]), json!({"bytes": [0, 1]})] {
            assert_eq!(client.call::<byname::Bytes>("reversed", same).await.unwrap(), b"\x01\0");
        }
        let mut items = std::pin::pin!(each::on(&client, bytes.clone()));
        assert_eq!(items.next().await.unwrap().unwrap(), bytes);
        let Some(Err(CallError::Method(own))) = items.next().await else {
            panic!("expected the stream's own error");
        };
        assert_eq!(own, bytes);
    }
    // As they are, and not a text or a number for each.
    let sent: Vec<_> = tap.frames().into_iter().filter(|frame| frame.payload.len() > 256).collect();
    assert_eq!(sent.len(), 2, "{sent:?}");
    for frame in sent {
        assert!(frame.payload.windows(256).any(|window| bytes == *window), "{frame:?}");
    }
    let ask = async |path: &str| {
        let came = raw(running.address, get(path)).await;
        (came.status, came.body)
    };
    assert_eq!(ask("/rpc/reversed?bytes=AAE%3D").await, (200, r#""AQA=""#.into()));
    assert_eq!(ask("/rpc/reversed?bytes=-_8").await, (200, r#""//s=""#.into()));
    let (status, body) = ask("/rpc/reversed?bytes=%21").await;
    assert_eq!(status, 400, "{body}");
}

/// An error that keeps the digits it was given.
#[derive(Debug, Deserialize, Serialize)]
struct Refused {
    value: Box<RawValue>,
}

#[rpc]
async fn digits(value: Box<RawValue>) -> Box<RawValue> {
    value
}

#[rpc]
async fn refuse_digits(value: Box<RawValue>) -> Result<(), Refused> {
    Err(Refused { value })
}

#[rpc]
fn stream_digits(value: Box<RawValue>) -> impl Stream<Item = Result<Box<RawValue>, Refused>> {
    stream::iter([Ok(value.clone()), Err(Refused { value })])
}

/// Before a client changes to frames and after it.
#[tokio::test]
async fn a_number_keeps_its_digits_by_every_way() {
    let server = || {
        let server = byname::Server::new().method::<digits>().method::<refuse_digits>().method::<stream_digits>();
        server.method::<crate::harness::nothing>()
    };
    let running = Running::new(server()).await;
    let local = || Client::local(&server()).unwrap().encoded(true);
    let (tap, by_message_pack) = Tap::client_by_frames(&running, Codec::MessagePack).await;
    let (json_tap, by_json) = Tap::client_by_frames(&running, Codec::Json).await;
    let before = [&tap, &json_tap].map(Tap::over_http);
    let over_http = running.client_by(Transport::Http);
    let clients = [over_http, by_message_pack, by_json, local().codec(Codec::Json), local().codec(Codec::MessagePack)];
    for number in [
        "12345678901234567890.12",
        "1.50",
        "-0",
        "1E400",
        "0.1000000000000000055511151231257827021181583404541015625",
        "99999999999999999999",
        "340282366920938463463374607431768211456",
    ] {
        for text in [number.to_owned(), format!(r#"{{"a":[{number}]}}"#)] {
            let value = RawValue::from_string(text.clone()).unwrap();
            for (at, client) in clients.iter().enumerate() {
                let face = || format!("{text} by client {at}");
                assert_eq!(digits::on(client, value.clone()).await.unwrap().get(), text, "{}", face());
                let by_name = client.call::<Box<RawValue>>("digits", (value.clone(),)).await.unwrap();
                assert_eq!(by_name.get(), text, "{}", face());
                let Err(CallError::Method(own)) = refuse_digits::on(client, value.clone()).await else {
                    panic!("{}: expected the function's own error", face());
                };
                assert_eq!(own.value.get(), text, "{}", face());
                let mut items = std::pin::pin!(stream_digits::on(client, value.clone()));
                assert_eq!(items.next().await.unwrap().unwrap().get(), text, "{}", face());
                let Some(Err(CallError::Method(own))) = items.next().await else {
                    panic!("{}: expected the stream's own error", face());
                };
                assert_eq!(own.value.get(), text, "{}", face());
            }
        }
    }
    assert_eq!([&tap, &json_tap].map(Tap::over_http), before, "every call of theirs went by frames");
}

#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Number {
    Whole(i64),
    Float(f64),
}

#[rpc(readonly)]
async fn number(value: Number) -> Number {
    value
}

#[rpc(readonly)]
async fn wide(value: u128) -> String {
    value.to_string()
}

#[tokio::test]
async fn integers_beyond_64_bits_are_never_rounded_in_a_query() {
    let running = Running::new(byname::Server::new().method::<number>().method::<wide>()).await;
    let ask = async |path: &str| {
        let came = raw(running.address, get(path)).await;
        (came.status, came.body)
    };
    assert_eq!(ask("/rpc/wide?value=18446744073709551617").await, (200, r#""18446744073709551617""#.into()));
    assert_eq!(ask("/rpc/number?value=9223372036854775807").await, (200, "9223372036854775807".into()));
    assert_eq!(ask("/rpc/number?value=1e20").await, (200, "1e+20".into()));
    let (status, body) = ask("/rpc/number?value=18446744073709551617").await;
    assert_eq!(status, 400, "{body}");
    assert!(body.contains("argument `value`: an integer near 1.8446744073709552e19 needs more than 64 bits"), "{body}");
}

#[tokio::test]
async fn an_answer_beyond_64_bits_is_never_rounded() {
    let server = Foreign::answering(ret("[18446744073709551617]")).await;
    let client = server.client();
    assert_eq!(client.call::<[u128; 1]>("f", ()).await.unwrap(), [(1 << 64) + 1]);
    assert_eq!(client.call::<[f64; 1]>("f", ()).await.unwrap(), [2f64.powi(64)]);
    let error = client.call::<Value>("f", ()).await.unwrap_err();
    let error = error.rpc().unwrap();
    assert_eq!((error.code(), error.executed()), (Code::Internal, Executed::Yes), "{error}");
    assert!(error.message().contains("more than 64 bits"), "{error}");
}
