//! The cases of the W3C's trace-context specification, both levels, as calls over HTTP and by frames: what a function that was called
//! with these headers tells the ones that it calls.

use crate::harness::foreign::{self, Foreign};
use crate::harness::{Caller, Running, Tap, post_with};
use byname::{Client, Codec, Context, Server};
use serde_json::{Value, json};

const TRACE: &str = "12345678901234567890123456789012";
const PARENT: &str = "1234567890123456";
const RIGHT: &str = "00-12345678901234567890123456789012-1234567890123456-00";

/// A function that calls another, and what the other is told.
struct Relay {
    _running: Running,
    asked: Foreign,
    caller: Caller,
    /// How many of the calls it was asked for before.
    seen: usize,
}

/// What a call has told: the parts of its `traceparent`, and its `tracestate`.
#[derive(Debug)]
struct Told {
    trace: String,
    parent: String,
    flags: String,
    state: String,
}

impl Relay {
    async fn new() -> Self {
        let asked = Foreign::answering(foreign::ret("7")).await;
        let client = asked.client();
        let server = Server::new().function("relay", move |calls: usize| {
            let client = client.clone();
            async move {
                for _ in 0..calls {
                    client.call::<i64>("inner", ()).await.unwrap();
                }
            }
        });
        let running = Running::new(server).await;
        let caller = Caller::to(running.address).await;
        Self { _running: running, asked, caller, seen: 0 }
    }

    /// What the function tells each of those that it calls, when it is called with these lines in the head of the request.
    async fn tells(&mut self, calls: usize, headers: &[(&str, &str)]) -> Vec<Told> {
        let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\r\n")).collect();
        let answer = self.caller.ask(post_with("/rpc/relay", &lines, &format!("[{calls}]"))).await;
        assert_eq!(answer.status, 200, "{headers:?}: {answer:?}");
        let asked = self.asked.requests();
        let new = &asked[self.seen..];
        assert_eq!(new.len(), calls);
        self.seen = asked.len();
        new.iter().map(|asked| Told::new(asked.header("traceparent"), asked.header("tracestate"))).collect()
    }

    async fn told(&mut self, headers: &[(&str, &str)]) -> Told {
        self.tells(1, headers).await.remove(0)
    }

    /// A `tracestate` with a valid parent.
    async fn state(&mut self, values: &[&str]) -> String {
        let states = values.iter().map(|value| ("tracestate", *value));
        let told = self.told(&[("traceparent", RIGHT)].into_iter().chain(states).collect::<Vec<_>>()).await;
        assert_eq!(told.trace, TRACE, "{values:?}: the traceparent is kept");
        told.state
    }

    async fn continues(&mut self, traceparent: &str) -> bool {
        let told = self.told(&[("traceparent", traceparent), ("tracestate", "foo=1")]).await;
        assert_eq!(told.trace == TRACE, told.state == "foo=1", "{traceparent}: {told:?}");
        assert_ne!(told.parent, PARENT);
        told.trace == TRACE
    }
}

impl Told {
    #[track_caller]
    fn new(traceparent: &str, state: &str) -> Self {
        let parts: Vec<_> = traceparent.split('-').collect();
        let [version, trace, parent, flags] = parts[..] else { panic!("{traceparent}") };
        let is_id =
            |id: &str| id.bytes().all(|byte| b"0123456789abcdef".contains(&byte)) && id.contains(|digit| digit != '0');
        assert!(version == "00" && is_id(trace) && is_id(parent), "{traceparent}");
        assert_eq!((trace.len(), parent.len(), flags.len()), (32, 16, 2), "{traceparent}");
        let [trace, parent, flags, state] = [trace, parent, flags, state].map(str::to_owned);
        Self { trace, parent, flags, state }
    }
}

#[tokio::test]
async fn a_trace_begins_where_none_came() {
    let mut relay = Relay::new().await;
    let told = relay.told(&[]).await;
    assert_eq!((told.state.as_str(), told.flags.as_str()), ("", "02"), "its id is random, and it is not recorded");
    for states in [&["foo=1"][..], &["foo=1,bar=2"]] {
        let states: Vec<_> = states.iter().map(|state| ("tracestate", *state)).collect();
        assert_eq!(relay.told(&states).await.state, "", "a state without a parent is dropped");
    }
    let told = relay.told(&[("trace-parent", RIGHT), ("trace.parent", RIGHT)]).await;
    assert_ne!(told.trace, TRACE, "these are other headers");
}

#[tokio::test]
async fn a_trace_is_continued_with_another_parent_and_its_state() {
    let mut relay = Relay::new().await;
    assert!(relay.continues(RIGHT).await);
    assert_eq!(relay.state(&["foo=1,bar=2"]).await, "foo=1,bar=2");
    assert_eq!(relay.state(&[]).await, "");
    for name in ["TraceParent", "TrAcEpArEnT", "TRACEPARENT"] {
        for state in ["TraceState", "TrAcEsTaTe", "TRACESTATE"] {
            let told = relay.told(&[(name, RIGHT), (state, "foo=1")]).await;
            assert_eq!((told.trace.as_str(), told.state.as_str()), (TRACE, "foo=1"), "{name}, {state}");
        }
    }
    for (before, after) in [(" ", ""), ("\t", ""), ("", " "), ("", "\t"), ("\t ", " \t")] {
        assert!(relay.continues(&format!("{before}{RIGHT}{after}")).await);
    }
}

#[tokio::test]
async fn the_calls_of_one_function_are_of_one_trace_and_have_an_id_each() {
    let mut relay = Relay::new().await;
    for headers in [&[("traceparent", RIGHT)][..], &[], &[("traceparent", &RIGHT.replace(TRACE, &"0".repeat(32)))]] {
        let told = relay.tells(3, headers).await;
        let parents: std::collections::BTreeSet<_> = told.iter().map(|told| &told.parent).collect();
        assert!(told.iter().all(|of| of.trace == told[0].trace), "{told:?}");
        assert_eq!(parents.len(), 3, "{told:?}");
    }
}

#[tokio::test]
async fn several_traceparents_are_none() {
    let mut relay = Relay::new().await;
    let other = RIGHT.replace("9012-", "9011-");
    for pair in [[RIGHT, RIGHT], [RIGHT, &other], [&other, RIGHT]] {
        let told = relay.told(&[("traceparent", pair[0]), ("traceparent", pair[1]), ("tracestate", "foo=1")]).await;
        assert!(told.trace != TRACE && !told.trace.ends_with("9011") && told.state.is_empty(), "{told:?}");
    }
    assert!(!relay.continues(&format!("{RIGHT},{RIGHT}")).await);
}

#[tokio::test]
async fn later_versions_are_read_as_far_as_they_are_known() {
    let mut relay = Relay::new().await;
    let of = |version: &str, more: &str| format!("{version}{}{more}", &RIGHT[2..]);
    for (version, more, is_valid) in [
        ("00", ".", false),
        ("00", "-", false),
        ("00", "-what-the-future-will-be-like", false),
        ("cc", "", true),
        ("01", "", true),
        ("cc", "-what-the-future-will-be-like", true),
        ("cc", "-", true),
        ("cc", ".what-the-future-will-be-like", false),
        ("ff", "", false),
        ("FF", "", false),
        ("CC", "", false),
        (".0", "", false),
        ("0.", "", false),
        ("000", "", false),
        ("0000", "", false),
        ("0", "", false),
        ("", "", false),
    ] {
        assert_eq!(relay.continues(&of(version, more)).await, is_valid, "{version}{more}");
    }
}

#[tokio::test]
async fn a_malformed_id_or_flag_makes_a_traceparent_invalid() {
    let mut relay = Relay::new().await;
    for (part, wrong) in [
        (TRACE, "00000000000000000000000000000000"),
        (TRACE, ".2345678901234567890123456789012"),
        (TRACE, "1234567890123456789012345678901."),
        (TRACE, "1234567890123456789012345678901A"),
        (TRACE, "123456789012345678901234567890123"),
        (TRACE, "1234567890123456789012345678901"),
        ("-1234567890123456-", "-0000000000000000-"),
        ("-1234567890123456-", "-.234567890123456-"),
        ("-1234567890123456-", "-123456789012345.-"),
        ("-1234567890123456-", "-123456789012345F-"),
        ("-1234567890123456-", "-12345678901234567-"),
        ("-1234567890123456-", "-123456789012345-"),
        ("56-00", "56-.0"),
        ("56-00", "56-0."),
        ("56-00", "56-0A"),
        ("56-00", "56-001"),
        ("56-00", "56-1"),
        ("56-00", "56-"),
        ("56-00", "56"),
        ("-", "_"),
    ] {
        let traceparent = RIGHT.replace(part, wrong);
        assert_ne!(traceparent, RIGHT);
        assert!(!relay.continues(&traceparent).await, "{traceparent}");
    }
}

#[tokio::test]
async fn the_flags_that_have_a_meaning_are_passed_on_and_the_others_are_zero() {
    let mut relay = Relay::new().await;
    for version in ["00", "01"] {
        for (given, passed) in [("00", "00"), ("01", "01"), ("02", "02"), ("03", "03"), ("04", "00"), ("ff", "03")] {
            let told = relay.told(&[("traceparent", &format!("{version}-{TRACE}-{PARENT}-{given}"))]).await;
            assert_eq!((told.trace.as_str(), told.flags.as_str()), (TRACE, passed), "{version}, {given}");
        }
    }
}

#[tokio::test]
async fn the_members_of_all_states_are_combined_in_their_order() {
    let mut relay = Relay::new().await;
    for (values, state) in [
        (&[""][..], ""),
        (&["foo=1", ""], "foo=1"),
        (&["", "foo=1"], "foo=1"),
        (&["foo=1,", ",bar=2", ",,"], "foo=1,bar=2"),
        (&["foo=1,bar=2", "rojo=1,congo=2", "baz=3"], "foo=1,bar=2,rojo=1,congo=2,baz=3"),
        (&["foo=1 \t , \t bar=2, \t baz=3"], "foo=1,bar=2,baz=3"),
        (&["foo=1\t \t,\t \tbar=2,\t \tbaz=3"], "foo=1,bar=2,baz=3"),
        (&[" foo=1"], "foo=1"),
        (&["\tfoo=1"], "foo=1"),
        (&["foo=1 "], "foo=1"),
        (&["foo=1\t"], "foo=1"),
        (&["\t foo=1 \t"], "foo=1"),
    ] {
        assert_eq!(relay.state(values).await, state, "{values:?}");
    }
    let told = relay.told(&[("traceparent", RIGHT), ("trace-state", "foo=1"), ("trace.state", "foo=1")]).await;
    assert_eq!(told.state, "", "these are other headers");
}

#[tokio::test]
async fn an_invalid_state_is_dropped_whole() {
    let mut relay = Relay::new().await;
    for values in [
        // Keys that come twice.
        &["foo=1,foo=1"][..],
        &["foo=1,foo=2"],
        &["foo=1", "foo=1"],
        &["foo=1", "foo=2"],
        // Keys.
        &["foo =1"],
        &["FOO=1"],
        &["foo.bar=1"],
        &["_foo=1,bar=2"],
        &["foo@=1,bar=2"],
        &["@foo=1,bar=2"],
        &["foo@@bar=1,bar=2"],
        &["foo@bar@baz=1,bar=2"],
        &["foo@1bar=1"],
        &["=1"],
        &["foo"],
        // Values.
        &["foo=bar=baz"],
        &["foo=,bar=3"],
        &["foo=1\tx"],
    ] {
        assert_eq!(relay.state(values).await, "", "{values:?}");
    }
}

#[tokio::test]
async fn every_character_that_is_allowed_arrives() {
    let mut relay = Relay::new().await;
    let key: String = ('a'..='z').chain('0'..='9').chain("_-*/".chars()).collect();
    let value: String = (' '..='~').filter(|letter| !",=".contains(*letter)).collect();
    for key in [key.clone(), format!("{key}@a-z0-9_-*/"), "0tenant@system".to_owned()] {
        let state = format!("{key}={value}");
        assert_eq!(relay.state(&[&state]).await, state);
    }
}

#[tokio::test]
async fn a_state_has_32_members_and_its_parts_have_a_length() {
    let mut relay = Relay::new().await;
    let members =
        |from: usize, to: usize| (from..=to).map(|at| format!("bar{at:02}={at:02}")).collect::<Vec<_>>().join(",");
    let [first, second, third] = [members(1, 10), members(11, 20), members(21, 30)];
    let state = relay.state(&[&first, &second, &third, &members(31, 32)]).await;
    assert_eq!(state, members(1, 32));
    assert_eq!(relay.state(&[&first, &second, &third, &members(31, 33)]).await, "");
    let letters = |letter: &str, count| letter.repeat(count);
    for (member, is_valid) in [
        (format!("{}=1", letters("z", 256)), true),
        (format!("{}=1", letters("z", 257)), false),
        (format!("{}@{}=1", letters("t", 241), letters("v", 14)), true),
        (format!("{}@v=1", letters("t", 242)), false),
        (format!("t@{}=1", letters("v", 15)), false),
        (format!("foo2={}", letters("v", 256)), true),
        (format!("foo2={}", letters("v", 257)), false),
    ] {
        let state = relay.state(&["foo=1", &member]).await;
        assert_eq!(state, if is_valid { format!("foo=1,{member}") } else { String::new() }, "{member}");
    }
}

#[tokio::test]
async fn a_long_state_loses_its_long_members_first_and_keeps_512_bytes_at_least() {
    let mut relay = Relay::new().await;
    let member = |at: usize, length: usize| format!("k{at:02}={}", "v".repeat(length - 4));
    let members = |count: usize, length| (0..count).map(|at| member(at, length)).collect::<Vec<_>>().join(",");
    let whole = members(4, 127);
    assert_eq!((relay.state(&[&whole]).await, whole.len()), (whole, 511));
    let (kept, long) = (members(15, 120), member(99, 250));
    assert_eq!(relay.state(&[&long, &kept]).await, kept, "with the long one it has more than 2 KiB");
    assert_eq!(relay.state(&[&members(20, 120)]).await, members(16, 120), "then the last ones");
}

/// The same by frames, where the headers are metadata: what a call is told of a trace that a peer sends.
#[tokio::test]
async fn frames_follow_the_same_rules() {
    let told = Server::new().function("told", || async {
        let call = Context::current().unwrap();
        let all = |name: &str| call.metadata().get_all(name).iter().map(|value| value.to_str().unwrap().to_owned());
        [all("traceparent").collect::<Vec<_>>(), all("tracestate").collect()]
    });
    let inner = Running::new(told).await;
    let (_inner_tap, to_inner) = Tap::client_by_frames_calling(&inner, Codec::MessagePack, "told").await;
    let relay = Server::new().function("relay", move || {
        let client: Client = to_inner.clone();
        async move { client.call::<Value>("told", ()).await.unwrap() }
    });
    let outer = Running::new(relay).await;
    let (_outer_tap, client) = Tap::client_by_frames_calling(&outer, Codec::MessagePack, "relay").await;
    for (traceparent, state, continues, passed) in [
        (RIGHT.to_owned(), " foo=1 ,, bar=2", true, json!(["foo=1,bar=2"])),
        (format!("cc{}-more", &RIGHT[2..]), "foo=1", true, json!(["foo=1"])),
        (RIGHT.to_owned(), "foo=1,foo=2", true, json!([])),
        (format!("ff{}", &RIGHT[2..]), "foo=1", false, json!([])),
        (RIGHT.replace(TRACE, &"0".repeat(32)), "foo=1", false, json!([])),
        (format!("{RIGHT}-more"), "foo=1", false, json!([])),
    ] {
        let told: Value = client
            .call("relay", ())
            .header("traceparent", &traceparent)
            .header("tracestate", state.trim())
            .await
            .unwrap();
        let parent = Told::new(told[0][0].as_str().unwrap(), "");
        assert_eq!((parent.trace == TRACE, &told[1]), (continues, &passed), "{traceparent}, {state}");
    }
}
