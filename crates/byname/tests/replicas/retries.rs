//! When a client repeats a call, what servers see of it, and how much load it makes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::foreign::{BYNAME, Foreign, answer, ret};
use crate::harness::peer::{CALL, Peer, call};
use crate::harness::{Running, Tap, add, post, post_with, raw, within};
use byname::{Client, Code, Codec, Context, Error, Executed, MethodError, Server, Transport, rpc};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// A function that fails as the test says.
#[rpc(readonly)]
async fn fails() -> Result<u32, Error>;

#[rpc(name = "fails")]
async fn fails_with_effects() -> Result<u32, Error>;

/// Counts its calls. Each gets what `answer` makes of its attempt and of the number of calls so far.
fn failing(
    calls: &Arc<AtomicUsize>,
    answer: impl Fn(u32, usize) -> Result<u32, Error> + Send + Sync + 'static,
) -> Server {
    let (calls, answer) = (Arc::clone(calls), Arc::new(answer));
    let function = move || {
        let result = answer(Context::current().unwrap().attempt(), calls.fetch_add(1, Ordering::SeqCst) + 1);
        async move { result }
    };
    Server::new().function("fails", function).function("nothing", || async {})
}

fn down() -> Error {
    Error::new(Code::Unavailable, "the database is down")
}

/// The number of its attempt, from the third call on.
async fn third_time() -> (Running, Arc<AtomicUsize>) {
    let calls = Arc::default();
    let server = failing(&calls, |attempt, calls| if calls < 3 { Err(down()) } else { Ok(attempt) });
    (Running::new(server).await, calls)
}

// Which calls are repeated.

#[tokio::test]
async fn an_idempotent_call_is_repeated_also_if_its_function_ran() {
    let (server, calls) = third_time().await;
    assert_eq!(within(fails::on(&server.client())).await, Ok(3));
    assert_eq!(calls.load(Ordering::SeqCst), 3);

    let (server, calls) = third_time().await;
    let error = Error::from(within(fails_with_effects::on(&server.client())).await.unwrap_err());
    assert_eq!((error.code(), error.executed(), error.message()), (Code::Unavailable, Executed::Yes, down().message()));
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_own_error_of_a_function_is_not_repeated() {
    #[derive(Debug, Serialize, Deserialize, MethodError)]
    #[method_error(message = false)]
    enum Down {
        #[code(unavailable)]
        Database,
    }

    #[rpc(readonly)]
    async fn own() -> Result<u32, Down>;

    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let function = move || {
        counted.fetch_add(1, Ordering::SeqCst);
        async { Err::<u32, Down>(Down::Database) }
    };
    let server = Running::new(Server::new().function("own", function)).await;
    assert!(matches!(within(own::on(&server.client())).await.unwrap_err().method(), Some(Down::Database)));
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_a_repetition_cannot_cure_is_sent_once() {
    let answers = [
        answer("413 Content Too Large", "", "<html>"),
        answer("429 Too Many Requests", "retry-after: 0\r\n", &error(r#""limit":"message","retry":false"#)),
        answer("429 Too Many Requests", "", &error(r#""limit":"message""#)),
        answer("400 Bad Request", "", ""),
    ];
    for bytes in answers {
        let server = Foreign::answering(&*bytes).await;
        within(add::on(&server.client(), 1, 2)).await.unwrap_err();
        assert_eq!(server.requests().len(), 1, "{bytes}");
    }
    let busy = answer("429 Too Many Requests", "retry-after: 0\r\n", "");
    let server = Foreign::answering(busy).await;
    within(add::on(&server.client(), 1, 2)).await.unwrap_err();
    assert_eq!(server.requests().len(), 3);
}

/// An ERROR on the plain way, with these members too.
fn error(more: &str) -> String {
    format!(r#"{{"err":{{"code":"resource_exhausted","message":"m","executed":"no","kind":"rpc",{more}}}}}"#)
}

// "Never again".

#[tokio::test]
async fn an_error_without_retry_ends_the_call_on_every_way() {
    let calls = Arc::default();
    let server = Running::new(failing(&calls, |_, _| Err(down().without_retry()))).await;
    let (_tap, by_frames) = Tap::client_by_frames(&server, Codec::MessagePack).await;
    for client in [server.client(), by_frames] {
        for _ in 0..2 {
            let error = Error::from(within(fails::on(&client)).await.unwrap_err());
            assert_eq!((error.code(), error.executed()), (Code::Unavailable, Executed::Yes));
            assert!(!error.allows_retry() && error.message() == down().message(), "{error}");
        }
    }
    assert_eq!(calls.load(Ordering::SeqCst), 4);

    let plain = raw(server.address, post("/rpc", r#"{"fun":"fails"}"#)).await.json();
    let by_path = raw(server.address, post("/rpc/fails", "")).await.json();
    let json_rpc = raw(server.address, post("/rpc", r#"{"jsonrpc":"2.0","method":"fails","id":1}"#)).await.json();
    let mut peer = Peer::calling(server.address, "fails").await;
    peer.say(call(0, 1, "[]")).await;
    let frame = peer.frame().await.error();
    for error in [&plain["err"], &by_path, &json_rpc["error"]["data"], &frame] {
        assert_eq!((&error["code"], &error["retry"]), (&json!("unavailable"), &json!(false)), "{error}");
    }
}

#[tokio::test]
async fn a_peer_may_say_retry_in_other_words_and_more_that_is_unknown() {
    for (members, attempts) in [
        (r#""retry":false"#, 1),
        (r#""retry":false,"newer":{"a":[1]}"#, 1),
        (r#""retry":true"#, 3),
        (r#""retry":null"#, 3),
        (r#""retry":"in a minute","newer":1"#, 3),
        (r#""retries":false"#, 3),
    ] {
        let refused = answer("429 Slow Down", BYNAME, &error(&format!(r#""retry_after_ms":0,{members}"#)));
        let server = Foreign::answering(refused).await;
        let error = within(add::on(&server.client(), 1, 2)).await.unwrap_err();
        assert_eq!(error.allows_retry(), attempts == 3, "{members}");
        assert_eq!(server.requests().len(), attempts, "{members}");
    }
}

// The number of the attempt.

#[tokio::test]
async fn the_number_of_the_attempt_is_sent_from_the_second_on() {
    let server = Foreign::new(|mut connection| async move {
        connection.request().await;
        match connection.number {
            0 | 1 => connection.reset(),
            _ => connection.send(ret("3")).await,
        }
    })
    .await;
    assert_eq!(within(add::on(&server.client(), 1, 2)).await, Ok(3));
    let said: Vec<_> = server.requests().iter().map(|asked| asked.header("byname-attempt").to_owned()).collect();
    assert_eq!(said, ["", "2", "3"]);
}

#[tokio::test]
async fn by_frames_the_number_of_the_attempt_is_metadata_and_the_first_has_none() {
    for codec in [Codec::Json, Codec::MessagePack] {
        let (server, _) = third_time().await;
        let (tap, client) = Tap::client_by_frames(&server, codec).await;
        let before = tap.calls_by_frames();
        assert_eq!(within(fails::on(&client)).await, Ok(3), "what `Context::attempt` says");
        let frames = tap.frames();
        let calls = frames.iter().filter(|frame| frame.kind == CALL).skip(before);
        let said = |payload: &[u8]| String::from_utf8_lossy(payload).find("byname-attempt").is_some();
        assert_eq!(calls.map(|call| said(&call.payload)).collect::<Vec<_>>(), [false, true, true]);
    }
}

#[tokio::test]
async fn a_function_reads_the_attempt_that_the_header_says() {
    let attempt = || async { Context::current().unwrap().attempt() };
    let server = Running::new(Server::new().function("fails", attempt)).await;
    for (said, expected) in [("", 1), ("byname-attempt: 2\r\n", 2), ("byname-attempt: soon\r\n", 1)] {
        assert_eq!(raw(server.address, post_with("/rpc/fails", said, "")).await.json(), json!(expected));
    }
    assert_eq!(
        within(Client::local(&Server::new().function("fails", attempt)).unwrap().call::<u32>("fails", ())).await,
        Ok(1)
    );
}

// What an error tells of several attempts.

#[tokio::test]
async fn an_error_after_several_attempts_tells_each_and_that_one_may_have_run() {
    let draining = r#"{"err":{"code":"unavailable","message":"draining","executed":"no","kind":"rpc"}}"#;
    let server = Foreign::new(move |mut connection| async move {
        connection.request().await;
        match connection.number {
            0 => connection.reset(),
            _ => connection.send(answer("503 Service Unavailable", "connection: close\r\n", draining)).await,
        }
    })
    .await;
    let error = within(add::on(&server.client(), 1, 2)).await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::Unavailable, Executed::Unknown), "{error}");
    let lines: Vec<_> = error.message().lines().collect();
    assert_eq!((lines[0], lines[2], lines.len()), ("draining", "attempt 2 of 3: the same error", 3), "{error}");
    assert!(lines[1].starts_with("attempt 1 of 3: unavailable (executed: unknown): the connection to "), "{error}");
}

// Several tiers.

#[rpc(readonly)]
async fn top() -> Result<u32, Error>;
#[rpc(readonly)]
async fn middle() -> Result<u32, Error>;

/// A tier that serves `name` by a call of `fails` or of `middle` at the tier below it.
async fn tier(name: &'static str, below: Client, pass_on: fn(Error) -> Error) -> Running {
    let function = move || {
        let below = below.clone();
        async move {
            let result = match name {
                "middle" => fails::on(&below).await,
                _ => middle::on(&below).await,
            };
            result.map_err(|error| pass_on(error.into()))
        }
    };
    Running::new(Server::new().function(name, function).limits(|limits| limits.in_flight = 10_000)).await
}

#[tokio::test]
async fn a_tier_that_serves_a_repetition_does_not_repeat_by_itself() {
    for transport in [Transport::Http, Transport::Frames] {
        let calls = Arc::default();
        let bottom = Running::new(failing(&calls, |attempt, _| Err(down().with_data(attempt)))).await;
        let middle = tier("middle", bottom.client_by(transport), |error| error).await;
        for (said, sent, retry) in [("", 3, None), ("byname-attempt: 2\r\n", 1, Some(false))] {
            calls.store(0, Ordering::SeqCst);
            let error = raw(middle.address, post_with("/rpc/middle", said, "")).await.json();
            assert_eq!((calls.load(Ordering::SeqCst), error["retry"].as_bool()), (sent, retry), "{error}");
            // The attempt at the bottom: the third of the tier, or the caller's.
            assert_eq!(error["data"], if said.is_empty() { json!(3) } else { json!(2) });
        }
    }
}

#[tokio::test]
async fn a_tier_that_serves_a_repetition_repeats_what_was_not_sent() {
    let held = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    held.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let nobody = Client::new(held.local_addr().unwrap().as_socket().unwrap().to_string()).unwrap();
    let middle = tier("middle", nobody, |error| error).await;
    let error = raw(middle.address, post_with("/rpc/middle", "byname-attempt: 2\r\n", "")).await.json();
    let message = error["message"].as_str().unwrap();
    assert!(message.ends_with("\nattempt 2 of 3: the same error"), "{message}");
    assert_eq!(error["retry"], Value::Null);
}

#[tokio::test]
async fn three_tiers_over_a_failing_one_add_at_most_a_fifth_to_its_load() {
    const CALLS: usize = 1500;
    let new_error: fn(Error) -> Error = |error| Error::new(Code::Unavailable, format!("below: {error}"));
    for (transport, pass_on) in [
        (Transport::Http, (|error| error) as fn(Error) -> Error),
        (Transport::Frames, |error| error),
        (Transport::Http, new_error),
        (Transport::Frames, new_error),
    ] {
        let calls = Arc::default();
        let bottom = failing(&calls, |_, _| Err(down())).limits(|limits| limits.in_flight = 10_000);
        let bottom = Running::new(bottom).await;
        let client_of = |server: &Running| {
            let client = Client::builder(format!("{}/rpc", server.address)).transport(transport);
            client.limits(|limits| limits.waiting = 10_000).build().unwrap()
        };
        let middle = tier("middle", client_of(&bottom), pass_on).await;
        let top_tier = tier("top", client_of(&middle), pass_on).await;
        let client = client_of(&top_tier);
        let failed = within(join_all((0..CALLS).map(|_| top::on(&client)))).await;
        for result in failed {
            assert_eq!(Error::from(result.unwrap_err()).code(), Code::Unavailable);
        }
        let amplification = calls.load(Ordering::SeqCst) as f64 / CALLS as f64;
        println!("{transport:?}: {amplification:.3}");
        assert!((1.0..=1.2).contains(&amplification), "{transport:?}: {amplification}");
    }
}

#[tokio::test]
async fn without_budget_an_error_says_so_to_the_tiers_above() {
    let calls = Arc::default();
    let server = Running::new(failing(&calls, |_, _| Err(down()))).await;
    let client = server.client();
    let all: JoinSet<_> = (0..100).map(|_| fails::on(&client)).collect();
    let all = within(all.join_all()).await;
    let ended = all.into_iter().filter(|result| !Error::from(result.clone().unwrap_err()).allows_retry()).count();
    assert!(ended >= 70, "{ended} of 100");
}
