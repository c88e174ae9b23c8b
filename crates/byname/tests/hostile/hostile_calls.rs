//! Invalid calls and JSON, to the server and to the client. The outcome is exact or an error, and the process never
//! ends. `docs/reliability.md` lists the verdicts.

use std::panic::panic_any;
use std::time::Duration;

use crate::harness::foreign::{BYNAME, Foreign, answer, ret};
use crate::harness::{Caller, Log, Raw, Running, Tap, everything, get, post, raw, within};
use byname::{CallError, Client, Code, Codec, Error, Executed, Server};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};

fn rpc<T: std::fmt::Debug>(result: Result<T, CallError<Value>>) -> Error {
    result.unwrap_err().rpc().expect("the function itself did not fail").clone()
}

/// Checks that nothing ran, for a reason that lies with the caller.
#[track_caller]
fn invalid(answer: &Raw) {
    assert_eq!(answer.status, 400, "{answer:?}");
    let body = answer.json();
    let error = body.get("err").unwrap_or(&body);
    assert_eq!((&error["code"], &error["executed"]), (&json!("invalid_argument"), &json!("no")), "{answer:?}");
}

/// A call by path with a body of any bytes.
async fn call(caller: &mut Caller, path: &str, body: impl AsRef<[u8]>) -> Raw {
    let body = body.as_ref();
    let head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len());
    caller.ask([head.as_bytes(), body].concat()).await
}

// Depth.

#[tokio::test]
async fn a_deep_call_is_an_error_wherever_it_is_deep() {
    let running = Running::new(everything()).await;
    let mut caller = Caller::to(running.address).await;
    let arrays = "[".repeat(100_000);
    let whole = format!("{arrays}{}", "]".repeat(100_000));
    let objects = format!("{}1{}", "{\"a\":".repeat(40_000), "}".repeat(40_000));
    for deep in [&arrays, &whole, &objects] {
        for body in [
            deep.clone(),
            format!("[{deep}]"),
            format!("{{\"value\":{deep}}}"),
            format!("{{\"value\":1,\"other\":{deep}}}"),
            format!("[1,{deep}]"),
        ] {
            invalid(&call(&mut caller, "/rpc/echo", &body).await);
        }
        for body in [
            format!("{{\"fun\":{deep}}}"),
            format!("{{\"fun\":\"echo\",\"args\":[{deep}]}}"),
            format!("{{\"fun\":\"echo\",\"kwargs\":{{\"value\":{deep}}}}}"),
            format!("{{\"fun\":\"echo\",\"other\":{deep}}}"),
        ] {
            invalid(&call(&mut caller, "/rpc", &body).await);
        }
    }
    assert_eq!(call(&mut caller, "/rpc/add", "[1,2]").await.body, "3");
}

#[derive(Debug, Deserialize)]
struct Shallow {
    #[allow(dead_code, reason = "what is read is not the point")]
    a: u8,
}

#[tokio::test]
async fn a_deep_reply_is_an_error_when_it_is_decoded_and_text_when_it_is_not() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let server = Foreign::answering(ret(&deep)).await;
    let client = server.client();
    let error = rpc(within(client.call::<Value>("f", ())).await);
    assert_eq!((error.code(), error.executed()), (Code::Internal, Executed::Yes), "{error}");
    let raw = within(client.call::<Box<RawValue>>("f", ())).await.unwrap();
    assert_eq!(raw.get(), deep);
    let beside = Foreign::answering(ret(&format!("{{\"b\": {deep}, \"a\": 1}}"))).await;
    within(beside.client().call::<Shallow>("f", ())).await.unwrap();
    let cut = Foreign::answering(ret(&deep[..150_000])).await;
    assert_eq!(rpc(within(cut.client().call::<Box<RawValue>>("f", ())).await).executed(), Executed::Unknown);
}

#[tokio::test]
async fn a_deep_error_is_still_the_error_that_it_says() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let said = |kind: &str| {
        let error = format!(r#"{{"code":"aborted","message":"m","executed":"no","kind":"{kind}","data":{deep}}}"#);
        answer("409 Conflict", BYNAME, &format!("{{\"err\":{error}}}"))
    };
    let server = Foreign::answering(said("rpc")).await;
    let error = rpc(within(server.client().call::<Value>("f", ())).await);
    assert!([Code::Aborted, Code::Unknown].contains(&error.code()), "{error}");
    let server = Foreign::answering(said("method")).await;
    assert!(within(server.client().call::<Value>("f", ())).await.is_err());
}

/// The key by which serde_json says to itself that a string holds JSON.
const PRIVATE: &str = "$serde_json::private::RawValue";

/// Strings of JSON in strings of JSON: arrays in each other, of which no bracket is outside of a string, and more of them
/// than the stack of a debug build can bear.
fn hidden_depth() -> Value {
    let open = "[".repeat(125);
    let innermost = Value::from(open.as_str());
    (0..11).fold(innermost, |inner, _| json!({PRIVATE: format!("{open}{inner}")}))
}

#[tokio::test]
async fn an_object_cannot_use_the_private_keys_of_serde_json() {
    const WORDS: &str =
        "an object has a key that begins with `$serde_json::private::`, which is reserved for serde_json";
    let running = Running::new(everything()).await;
    let mut caller = Caller::to(running.address).await;
    let hidden = hidden_depth();
    assert!(hidden.to_string().len() < 30_000, "{}", hidden.to_string().len());
    let escaped = hidden.to_string().replacen('$', "\\u0024", 1);
    for object in [&hidden.to_string(), &escaped, &format!(r#"[{{"a":{{"{PRIVATE}":"[1]"}}}}]"#)] {
        for (path, body) in [
            ("/rpc/echo", format!("[{object}]")),
            ("/rpc/echo", format!("{{\"value\":{object}}}")),
            ("/rpc", format!("{{\"fun\":\"echo\",\"args\":[{object}]}}")),
            ("/rpc", format!("{{\"fun\":\"echo\",\"kwargs\":{{\"value\":{object}}}}}")),
        ] {
            let answer = call(&mut caller, path, &body).await;
            invalid(&answer);
            assert!(answer.body.contains(WORDS), "{answer:?}");
        }
        let body = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"echo\",\"params\":[{object}]}}");
        let answer = call(&mut caller, "/rpc", &body).await.json();
        assert_eq!(answer["error"]["code"], -32602, "{answer}");
    }
    assert_eq!(call(&mut caller, "/rpc/echo", format!("[\"{PRIVATE}\"]")).await.json(), PRIVATE);

    let (_taps, clients): (Vec<_>, Vec<_>) =
        [Tap::client_by_frames(&running, Codec::MessagePack).await, Tap::client_by_frames(&running, Codec::Json).await]
            .into_iter()
            .unzip();
    for client in [running.client()].into_iter().chain(clients) {
        for args in [json!([hidden]), json!({"value": {"a": [{PRIVATE: "1"}]}})] {
            let error = rpc(within(client.call::<Value>("echo", args)).await);
            assert_eq!((error.code(), error.executed()), (Code::InvalidArgument, Executed::No), "{error}");
            assert!(error.message().contains(WORDS), "{error}");
        }
        assert_eq!(
            within(client.call::<Value>("echo", (json!({"a": PRIVATE}),))).await.unwrap(),
            json!({"a": PRIVATE})
        );
    }
}

#[tokio::test]
async fn a_reply_cannot_use_the_private_keys_of_serde_json() {
    let hidden = hidden_depth();
    let server = Foreign::answering(ret(&hidden.to_string())).await;
    let error = rpc(within(server.client().call::<Value>("f", ())).await);
    assert_eq!((error.code(), error.executed()), (Code::Internal, Executed::Yes), "{error}");
    assert!(error.message().contains("which is reserved for serde_json"), "{error}");
    for kind in ["rpc", "method"] {
        for member in ["data", "other"] {
            let said =
                format!(r#"{{"code":"aborted","message":"m","executed":"no","kind":"{kind}","{member}":{hidden}}}"#);
            let server = Foreign::answering(answer("409 Conflict", BYNAME, &format!("{{\"err\":{said}}}"))).await;
            let failure = within(server.client().call::<Value>("f", ())).await.unwrap_err();
            let error = failure.rpc().expect("what can't be read is no error of the function's own");
            assert!(error.data().is_none(), "{error:?}");
            if (kind, member) == ("rpc", "data") {
                assert_eq!((error.code(), error.message()), (Code::Aborted, "m"), "the error stands without its data");
            }
        }
    }
}

// Numbers.

#[tokio::test]
async fn a_number_is_exact_or_an_error() {
    let running = Running::new(everything()).await;
    let mut caller = Caller::to(running.address).await;
    for same in [
        "[9007199254740991,9007199254740993]",
        "[-9007199254740993,9007199254740992]",
        "[-9223372036854775808,18446744073709551615]",
        "[9223372036854775807,9223372036854775808]",
        "[0,0]",
    ] {
        assert_eq!(call(&mut caller, "/rpc/edges", same).await.body, same);
        assert_eq!(call(&mut caller, "/rpc/echo", format!("[{same}]")).await.body, same);
    }
    for wrong in [
        "[9223372036854775808,0]",
        "[-9223372036854775809,0]",
        "[0,18446744073709551616]",
        "[0,-1]",
        "[1.0,0]",
        "[1e2,0]",
        "[-0,0]",
        "[0,-0]",
        "[12345678901234567890,0]",
        "[0,123456789012345678901]",
        "[1e400,0]",
        "[\"1\",0]",
        "[true,0]",
        "[01,0]",
        "[+1,0]",
        "[1.,0]",
        "[.5,0]",
        "[0x10,0]",
        "[1_000,0]",
        "[1e,0]",
        "[- 1,0]",
        "[\u{661},0]",
    ] {
        invalid(&call(&mut caller, "/rpc/edges", wrong).await);
    }
    for wide in ["18446744073709551616", "-9223372036854775809", "12345678901234567890123", "1e400", "-1e400"] {
        invalid(&call(&mut caller, "/rpc/echo", format!("[{wide}]")).await);
    }
    // A float keeps its sign and every digit that it has.
    for (sent, came) in [("-0", "-0.0"), ("-0.0", "-0.0"), ("1e308", "1e+308"), ("5e-324", "5e-324"), ("1e-400", "0.0")]
    {
        assert_eq!(call(&mut caller, "/rpc/echo", format!("[{sent}]")).await.body, came);
    }
}

#[tokio::test]
async fn nan_and_infinities_are_errors_both_ways() {
    let running = Running::new(everything()).await;
    let mut caller = Caller::to(running.address).await;
    for word in ["NaN", "nan", "Infinity", "-Infinity", "inf", "-inf", "1e999"] {
        invalid(&call(&mut caller, "/rpc/ratio", format!("[1,{word}]")).await);
        invalid(&call(&mut caller, "/rpc", format!("{{\"fun\":\"ratio\",\"args\":[{word},1]}}")).await);
        let answer = caller.ask(get(&format!("/rpc/total?numbers={word}"))).await;
        assert_eq!(answer.status, 405, "{word}: {answer:?}");
        // As Python writes them where nobody has told it not to.
        let server = Foreign::answering(ret(word)).await;
        let error = rpc(within(server.client().call::<f64>("f", ())).await);
        assert_eq!(error.code(), Code::Internal, "{word}: {error}");
    }
    for (a, b) in [(0.0, 0.0), (1.0, 0.0), (-1.0, 0.0)] {
        let error = rpc(within(running.client().call::<f64>("ratio", (a, b))).await);
        assert_eq!((error.code(), error.executed()), (Code::Internal, Executed::Yes), "{error}");
    }
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let error = rpc(within(running.client().call::<f64>("ratio", (number, 1.0))).await);
        assert_eq!((error.code(), error.executed()), (Code::InvalidArgument, Executed::No), "{error}");
    }
}

// Text.

#[tokio::test]
async fn text_that_is_not_unicode_is_an_error() {
    let running = Running::new(everything()).await;
    let mut caller = Caller::to(running.address).await;
    let utf16: Vec<u8> = "[\"x\"]".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let bodies: [&[u8]; 16] = [
        br#"["\ud800"]"#,
        br#"["\udc00"]"#,
        br#"["\udc00\ud800"]"#,
        br#"["\ud800x"]"#,
        br#"["\u12"]"#,
        br#"["\x41"]"#,
        b"[\"\xc0\xaf\"]",
        b"[\"\xe0\x80\xaf\"]",
        b"[\"\xed\xa0\x80\"]",
        b"[\"\xf4\x90\x80\x80\"]",
        b"[\"\xff\"]",
        b"[\"\xc3\"]",
        b"[\"\0\"]",
        b"[\"\n\"]",
        b"\xef\xbb\xbf[\"x\"]",
        &utf16,
    ];
    for body in bodies {
        let shown = String::from_utf8_lossy(body).into_owned();
        let answer = call(&mut caller, "/rpc/echo", body).await;
        assert_eq!(answer.status, 400, "{shown:?}: {answer:?}");
        invalid(&answer);
        let plain = [b"{\"fun\":\"echo\",\"args\":", body, b"}"].concat();
        let answer = call(&mut caller, "/rpc", plain).await;
        assert_eq!(answer.status, 400, "{shown:?}: {answer:?}");
        invalid(&answer);
    }
    for name in [&b"\"\\ud800\""[..], b"\"\xff\"", b"\"\0\""] {
        invalid(&call(&mut caller, "/rpc", [b"{\"fun\":", name, b"}"].concat()).await);
        invalid(&call(&mut caller, "/rpc", [b"{\"fun\":\"nothing\",", name, b":1}"].concat()).await);
        invalid(&call(&mut caller, "/rpc/echo", [b"{", name, b":1}"].concat()).await);
    }
}

#[tokio::test]
async fn text_of_any_character_comes_back_unchanged() {
    let running = Running::new(everything()).await;
    let mut caller = Caller::to(running.address).await;
    for (sent, came) in [
        (r#""\u0000""#, r#""\u0000""#),
        (r#""\ud83e\udd80""#, "\"\u{1f980}\""),
        (r#""\u200b\u202e\ufeff""#, "\"\u{200b}\u{202e}\u{feff}\""),
        ("\"\u{7f}\u{85}\u{2028}\"", "\"\u{7f}\u{85}\u{2028}\""),
        (r#""\u001b[31m""#, r#""\u001b[31m""#),
        (r#""</script>""#, r#""</script>""#),
    ] {
        assert_eq!(call(&mut caller, "/rpc/echo", format!("[{sent}]")).await.body, came);
    }
}

#[tokio::test]
async fn a_query_that_is_not_text_is_an_error() {
    let running = Running::new(everything()).await;
    let mut caller = Caller::to(running.address).await;
    for query in ["value=%ff", "value=%c0%af", "value=%ed%a0%80", "value=x%c3", "%ff=x", "value=x&%ff", "%ff"] {
        let answer = caller.ask(get(&format!("/rpc/echo?{query}"))).await;
        assert_eq!(answer.status, 400, "{query}: {answer:?}");
        invalid(&answer);
    }
    for (query, came) in [
        ("value=%00", "\"\\u0000\""),
        ("value=%", "\"%\""),
        ("value=%zz%4", "\"%zz%4\""),
        ("value=%EF%BF%BD", "\"\u{fffd}\""),
        ("&&value=a=b&&", "\"a=b\""),
        ("value", "\"\""),
    ] {
        assert_eq!(caller.ask(get(&format!("/rpc/echo?{query}"))).await.body, came, "{query}");
    }
}

// Members and names.

#[tokio::test]
async fn a_member_twice_is_refused_however_it_is_written() {
    let running = Running::new(everything()).await;
    let mut caller = Caller::to(running.address).await;
    for body in [
        r#"{"fun":"nothing","f\u0075n":"counter.bump"}"#,
        r#"{"fun":"nothing","fun":"nothing"}"#,
        r#"{"fun":"nothing","kwargs":{},"kwargs":null}"#,
        r#"{"fun":"nothing","args":null,"args":null}"#,
        r#"{"fun":"nothing","ext":1,"ext":1}"#,
        r#"{"fun":"add","args":[1],"kwargs":{"b":1,"\u0062":2}}"#,
    ] {
        invalid(&call(&mut caller, "/rpc", body).await);
    }
    for query in ["a=1&b=2&%61=3", "a=1&a=1&b=2"] {
        invalid(&caller.ask(get(&format!("/rpc/add?{query}"))).await);
    }
    assert_eq!(caller.ask(get("/rpc/counter.total")).await.body, "0");
}

#[tokio::test]
async fn the_error_about_unknown_names_is_bounded() {
    let running = Running::new(everything()).await;
    let mut caller = Caller::to(running.address).await;
    let mut unknown = async |name: &str| {
        let answer = call(&mut caller, "/rpc", json!({"fun": name}).to_string()).await;
        assert_eq!((answer.status, &answer.json()["err"]["code"]), (502, &json!("unimplemented")), "{answer:?}");
        assert!(answer.body.len() < 2000, "a name is not echoed whole: {}", answer.body.len());
    };
    unknown(&"x".repeat(1 << 20)).await;
    unknown(&"\u{0}".repeat(1 << 18)).await;
    unknown(&"add.".repeat(1 << 18)).await;
    for nth in 0..1000 {
        unknown(&format!("f{nth}")).await;
    }
    for odd in
        ["", " ", "add ", "ADD", "add\u{0}", "../add", "rpc", "rpc.discovery", "!live", "a\u{301}dd", "\u{430}dd"]
    {
        unknown(odd).await;
    }
}

#[tokio::test]
async fn a_long_argument_name_is_not_echoed_whole() {
    let running = Running::new(everything()).await;
    let mut caller = Caller::to(running.address).await;
    for body in [
        json!({"x".repeat(1 << 20): 1}).to_string(),
        json!({"fun": "add", "x".repeat(1 << 20): 1}).to_string(),
        json!(["x".repeat(1 << 20), 1]).to_string(),
    ] {
        let path = if body.contains("fun") { "/rpc" } else { "/rpc/add" };
        let answer = call(&mut caller, path, body).await;
        invalid(&answer);
        assert!(answer.body.len() < 2000, "{} bytes", answer.body.len());
    }
}

// Functions that go wrong.

/// Panics where nobody expects it.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("secret");
    }
}

struct OnRead;
struct OnWrite;

impl Serialize for OnRead {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for OnRead {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u8::deserialize(deserializer)?;
        panic!("secret")
    }
}

impl Serialize for OnWrite {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("secret")
    }
}

impl<'de> Deserialize<'de> for OnWrite {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Ok(OnWrite)
    }
}

/// An argument and a result that panics when it is dropped.
#[derive(Serialize, Deserialize)]
struct OnDrop(u8);

impl Drop for OnDrop {
    fn drop(&mut self) {
        if self.0 > 0 {
            panic!("secret");
        }
    }
}

fn throw<T: Send + 'static>(payload: T) -> u8 {
    panic_any(payload)
}

fn goes_wrong() -> Server {
    everything()
        .function("in_text", || async { throw(String::from("secret")) })
        .function("in_a_number", || async { throw(7) })
        .function("in_its_own_payload", || async { throw(Bomb) })
        .function("in_its_future", || async {
            let _bomb = Bomb;
            std::future::ready(()).await;
        })
        .function("early", || {
            let _bomb = Bomb;
            async {}
        })
        .function("overflows", |n: u8| async move { n.checked_add(255).expect("secret") })
        .function("out_of_bounds", |at: usize| async move { vec![1, 2, 3][at] })
        .function("reads", |_: OnRead| async {})
        .function("writes", || async { OnWrite })
        .function("drops_its_argument", |_: OnDrop| async {})
        .function("drops_its_result", || async { OnDrop(1) })
}

#[tokio::test]
async fn a_panic_anywhere_is_internal_without_detail() {
    let running = Running::new(goes_wrong()).await;
    let mut caller = Caller::to(running.address).await;
    for (name, body) in [
        ("in_text", "[]"),
        ("in_a_number", "[]"),
        ("in_its_own_payload", "[]"),
        ("in_its_future", "[]"),
        ("early", "[]"),
        ("overflows", "[7]"),
        ("out_of_bounds", "[7]"),
        ("reads", "[1]"),
        ("writes", "[]"),
        ("drops_its_argument", "[1]"),
        ("drops_its_result", "[]"),
    ] {
        for _ in 0..2 {
            let answer = call(&mut caller, &format!("/rpc/{name}"), body).await;
            assert_eq!((answer.status, &answer.json()["code"]), (500, &json!("internal")), "{name}: {answer:?}");
            assert!(!answer.body.contains("secret"), "{answer:?}");
        }
    }
    assert_eq!(call(&mut caller, "/rpc/add", "[1,2]").await.body, "3");
    within(running.stopped()).await.expect("no call is counted as being at work");
}

#[tokio::test]
async fn a_panic_within_the_process_is_internal_as_well() {
    let local = Client::local(&goes_wrong()).unwrap();
    for client in [local.clone(), local.encoded(true)] {
        for name in ["in_text", "in_a_number", "in_its_own_payload", "in_its_future", "writes"] {
            let error = rpc(within(client.call::<Value>(name, ())).await);
            assert_eq!((error.code(), error.executed()), (Code::Internal, Executed::Yes), "{name}: {error}");
        }
    }
}

#[tokio::test]
async fn a_function_that_keeps_its_thread_for_long_is_named_in_a_warning_once() {
    let mut log = Log::new();
    for (slow_poll, warnings) in [(Duration::ZERO, 1), (Duration::MAX, 0)] {
        let running = Running::new(everything().limits(|limits| limits.slow_poll = slow_poll)).await;
        for _ in 0..3 {
            assert_eq!(raw(running.address, post("/rpc/add", "[1,2]")).await.body, "3");
        }
        let lines = log.lines();
        let named = lines.iter().filter(|line| line.contains("`add` kept its thread"));
        assert_eq!(named.count(), warnings, "{lines:?}");
        assert!(warnings == 0 || lines.iter().any(|line| line.contains("#[rpc(blocking)]")), "{lines:?}");
    }
}
