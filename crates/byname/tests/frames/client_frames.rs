//! byname's client against servers that handle frames wrongly. Each is scripted byte by byte, and answers over HTTP too.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::harness::foreign::{Connection, Foreign, answer, skip, start};
use crate::harness::peer::*;
use crate::harness::{Log, Running, within};
use byname::{Client, Code, Context, Error, Executed, Server, Transport};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::yield_now;

/// What a server of frames says over HTTP.
const OFFER: &str = "byname-protocol: 1\r\nbyname-ways: plain, frames\r\n";

/// Answers every call over HTTP by `"http"`, and gives what asks for frames to `upgrade`, with how many did before.
async fn offering<F: Future<Output = ()> + Send + 'static>(
    upgrade: impl Fn(Connection, crate::harness::foreign::Asked, usize) -> F + Send + Sync + 'static,
) -> Foreign {
    let (upgrade, asked_before) = (Arc::new(upgrade), Arc::new(AtomicUsize::new(0)));
    Foreign::new(move |mut connection| {
        let (upgrade, asked_before) = (Arc::clone(&upgrade), Arc::clone(&asked_before));
        async move {
            while let Some(asked) = connection.request().await {
                if asked.header("upgrade") == "websocket" {
                    let before = asked_before.fetch_add(1, Ordering::SeqCst);
                    return upgrade(connection, asked, before).await;
                }
                connection.send(answer("200 OK", OFFER, r#"{"ret":"http"}"#)).await;
            }
        }
    })
    .await
}

/// A server whose frames are scripted from after the HELLOs.
async fn scripted<F: Future<Output = ()> + Send + 'static>(
    script: impl Fn(Peer) -> F + Send + Sync + 'static,
) -> Foreign {
    let script = Arc::new(script);
    offering(move |connection, asked, _| {
        let script = Arc::clone(&script);
        async move {
            let mut peer = connection.upgrade(&asked).await;
            peer.greet(&hello()).await;
            script(peer).await;
        }
    })
    .await
}

/// As large as anybody may want to send, and as many.
fn hello() -> Value {
    json!({"version": 1, "message": 1 << 30, "window": 1 << 30, "calls": 1000, "codecs": ["json"]})
}

fn reply(id: u64, value: &str) -> Vec<u8> {
    frame(REPLY, 0, 0, id, json!(value).to_string())
}

/// The next frame but names and calls of `way`, which are answered.
async fn next(peer: &mut Peer) -> Frame {
    loop {
        let frame = peer.frame().await;
        match frame.kind {
            NAME => {}
            CALL if frame.payload.ends_with(br#"["way"]"#) => peer.say(reply(frame.id, "frames")).await,
            _ => return frame,
        }
    }
}

async fn call(client: &Client, what: &str) -> Result<String, Error> {
    client.call("f", (what.to_owned(),)).await.map_err(|why: byname::CallError<Value>| match why {
        byname::CallError::Rpc(why) => why,
        why => panic!("{why:?}"),
    })
}

/// Calls until calls go by frames.
async fn gone_over(client: &Client) {
    within(async {
        while call(client, "way").await.unwrap() != "frames" {
            yield_now().await;
        }
    })
    .await;
}

/// How often frames were asked for.
fn upgrades(foreign: &Foreign) -> usize {
    foreign.requests().iter().filter(|asked| asked.header("upgrade") == "websocket").count()
}

/// The calls over HTTP that are no `way`.
fn over_http(foreign: &Foreign) -> Vec<String> {
    let calls = foreign.requests().into_iter().filter(|asked| asked.header("upgrade").is_empty());
    let calls = calls.map(|asked| asked.json()["args"][0].as_str().unwrap().to_owned());
    calls.filter(|what| what != "way").collect()
}

fn is_unknown(failed: &Error) {
    assert_eq!((failed.code(), failed.executed()), (Code::Unavailable, Executed::Unknown), "{failed}");
}

#[tokio::test]
async fn once_calls_go_by_frames_no_connection_of_http_is_kept() {
    let foreign = scripted(async |mut peer| {
        next(&mut peer).await;
    })
    .await;
    let client = foreign.client();
    gone_over(&client).await;
    within(foreign.until_closed_but(1)).await;
}

// Several addresses.

#[tokio::test]
async fn calls_are_spread_over_the_addresses_of_a_name_and_go_on_when_one_is_gone() {
    let who = |name: &'static str| {
        let who = move || async move { (name, Context::current().unwrap().header("host").is_none()) };
        Running::new(Server::new().function("who", who))
    };
    let (one, two) = (who("one").await, who("two").await);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let client = Client::builder("localhost/rpc").addresses([nobody, one.address, two.address]).build().unwrap();
    let ask = async || within(client.call::<(String, bool)>("who", ())).await.unwrap();
    let mut answered = BTreeSet::new();
    while answered.len() < 2 {
        if let (name, true) = ask().await {
            answered.insert(name);
        }
    }
    one.stopped().await.unwrap();
    for _ in 0..100 {
        assert_eq!(ask().await.0, "two");
    }
}

/// The order in which a connection of frames tries addresses is random, so several clients open one.
#[tokio::test]
async fn a_server_that_says_no_instance_has_one_connection() {
    let foreign = scripted(async |mut peer| {
        next(&mut peer).await;
    })
    .await;
    let client = foreign.client();
    gone_over(&client).await;
    for _ in 0..400 {
        assert_eq!(call(&client, "way").await.unwrap(), "frames");
    }
    assert_eq!(upgrades(&foreign), 1);
}

#[tokio::test]
async fn an_address_that_does_not_answer_the_upgrade_is_overtaken() {
    let server = Running::new(
        Server::new().function("is_by_frames", async || Context::current().unwrap().header("host").is_none()),
    );
    let server = server.await;
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for _ in 0..8 {
        let addresses = [server.address, silent.local_addr().unwrap()];
        let client = Client::builder("localhost/rpc").addresses(addresses);
        let client = client.limits(|limits| limits.connect = Duration::from_secs(3600)).build().unwrap();
        // A call over HTTP that goes to the silent one has no answer.
        let call = || client.call::<bool>("is_by_frames", ()).timeout(Duration::from_millis(100));
        within(async { while call().await != Ok(true) {} }).await;
    }
}

#[tokio::test]
async fn queued_calls_run_in_order_and_the_queue_is_bounded() {
    let released = Arc::new(Notify::new());
    let told = Arc::clone(&released);
    let foreign = offering(move |connection, asked, _| {
        let told = Arc::clone(&told);
        async move {
            let mut peer = connection.upgrade(&asked).await;
            let mut hello = hello();
            hello["calls"] = json!(1);
            peer.greet(&hello).await;
            loop {
                let frame = next(&mut peer).await;
                told.notified().await;
                peer.say(reply(frame.id, frame.arguments())).await;
            }
        }
    })
    .await;
    let client = foreign.builder().limits(|limits| limits.waiting = 3).build().unwrap();
    gone_over(&client).await;
    let mut calls: Vec<_> = ["0", "1", "2", "3"].map(|what| Box::pin(call(&client, what))).into();
    for call in &mut calls {
        start(call).await;
    }
    let crowded = call(&client, "4").await.unwrap_err();
    assert_eq!(
        (crowded.code(), crowded.executed(), crowded.limit()),
        (Code::ResourceExhausted, Executed::No, Some("waiting"))
    );
    // One that gives up makes room for another behind the rest.
    drop(calls.remove(2));
    let late = within(call(&client.timeout(Duration::from_millis(1)), "late")).await.unwrap_err();
    assert_eq!((late.code(), late.executed()), (Code::DeadlineExceeded, Executed::No));
    calls.push(Box::pin(call(&client, "5")));
    start(calls.last_mut().unwrap()).await;
    for (call, what) in calls.iter_mut().zip(["0", "1", "3", "5"]) {
        released.notify_one();
        assert_eq!(within(call).await.unwrap(), format!(r#"["{what}"]"#));
    }
    // A place is free once its call has ended, whenever its caller looks.
    let mut first = Box::pin(call(&client, "first"));
    start(&mut first).await;
    let second = call(&client, "second");
    tokio::select! {
        answer = within(second) => assert_eq!(answer.unwrap(), r#"["second"]"#),
        () = async { loop { released.notify_one(); yield_now().await } } => {}
    }
    assert_eq!(within(first).await.unwrap(), r#"["first"]"#);
    assert_eq!(over_http(&foreign), [""; 0]);
}

// Connections that break.

#[tokio::test]
async fn a_server_that_dies_in_mid_call_by_frames_is_unavailable_and_unknown() {
    for resets in [true, false] {
        let foreign = scripted(move |mut peer| async move {
            next(&mut peer).await;
            if resets {
                peer.reset();
            }
        })
        .await;
        let client = foreign.client();
        gone_over(&client).await;
        is_unknown(&within(call(&client, "die")).await.unwrap_err());
        assert_eq!(over_http(&foreign), [""; 0], "what may have run is not sent again");
        assert_eq!(call(&client, "on").await.unwrap(), "http");
    }
}

#[tokio::test]
async fn a_connection_that_broke_before_a_call_was_written_loses_no_call() {
    let mut log = Log::new();
    let breaks = Arc::new(Notify::new());
    let told = Arc::clone(&breaks);
    let foreign = scripted(move |mut peer| {
        let told = Arc::clone(&told);
        async move {
            tokio::select! {
                frame = next(&mut peer) => panic!("{frame:?}"),
                () = told.notified() => {}
            }
        }
    })
    .await;
    let client = foreign.client();
    gone_over(&client).await;
    breaks.notify_one();
    log.until("a connection of frames").await;
    assert_eq!(call(&client, "once").await.unwrap(), "http");
    assert_eq!(over_http(&foreign), ["once"]);
}

#[tokio::test]
async fn calls_that_waited_behind_a_socket_that_took_nothing_are_sent_again() {
    let breaks = Arc::new(Notify::new());
    let told = Arc::clone(&breaks);
    let foreign = scripted(move |mut peer| {
        let told = Arc::clone(&told);
        async move {
            next(&mut peer).await;
            told.notified().await;
            peer.reset();
        }
    })
    .await;
    let client = foreign.client();
    gone_over(&client).await;
    // The server reads nothing after the first piece of this; what the kernel takes is far less.
    let large = "x".repeat(64 << 20);
    let mut blocks = Box::pin(call(&client, &large));
    for _ in 0..10_000 {
        tokio::select! {
            biased;
            done = &mut blocks => panic!("{done:?}"),
            () = yield_now() => {}
        }
    }
    let mut small = Box::pin(call(&client, "small"));
    start(&mut small).await;
    breaks.notify_one();
    let (large, small) = within(async { tokio::join!(blocks, small) }).await;
    // A part of the large one went out, of which no server makes a call.
    assert_eq!((large.unwrap().as_str(), small.unwrap().as_str()), ("http", "http"));
    assert_eq!(over_http(&foreign).len(), 2);
}

#[tokio::test]
async fn calls_beyond_a_goaway_are_sent_again_and_the_others_are_answered() {
    let foreign = scripted(|mut peer| async move {
        let mut ids = Vec::new();
        for _ in 0..5 {
            ids.push(next(&mut peer).await.id);
        }
        peer.say(frame(GOAWAY, 0, 0, ids[1], "")).await;
        // In the order that they end in, some time later.
        peer.say_each([reply(ids[1], "second"), reply(ids[0], "first")]).await;
        peer.closed().await;
    })
    .await;
    let client = foreign.client();
    gone_over(&client).await;
    let calls = ["1", "2", "3", "4", "5"].map(|what| Box::pin(call(&client, what)));
    let [a, b, c, d, e] = calls;
    let answers = within(async { tokio::join!(a, b, c, d, e) }).await;
    let (a, b, c, d, e) = answers;
    assert_eq!([a, b, c, d, e].map(Result::unwrap), ["first", "second", "http", "http", "http"]);
    let mut again = over_http(&foreign);
    again.sort();
    assert_eq!(again, ["3", "4", "5"]);
}

/// Declared here, served by nobody.
#[byname::rpc]
async fn note(what: String, #[rpc(default = 1)] times: u32) -> String;

#[tokio::test]
async fn a_typed_call_that_is_sent_again_has_the_same_arguments() {
    let foreign = scripted(|mut peer| async move {
        next(&mut peer).await;
        peer.say(frame(GOAWAY, 0, 0, 0, "")).await;
        peer.closed().await;
    })
    .await;
    let client = foreign.client();
    gone_over(&client).await;
    assert_eq!(within(note::on(&client, "é".into(), 2)).await.unwrap(), "http");
    let again: Vec<_> =
        foreign.requests().iter().map(|asked| asked.body.clone()).filter(|body| body.contains("note")).collect();
    assert_eq!(again, [r#"{"fun":"note","args":[],"kwargs":{"what":"é","times":2}}"#]);
}

#[tokio::test]
async fn garbage_ends_the_connection_and_its_calls_are_unknown() {
    let whole = reply(1, "x");
    let mut long = whole.clone();
    long[..4].copy_from_slice(&((1u32 << 20) + 1).to_be_bytes());
    for (garbage, words) in [
        (message(BINARY, true, &whole), "must be masked"),
        (message(BINARY | 0x20, false, &whole), "reserved bits"),
        (message(TEXT, false, "[]"), "a text message"),
        (message(0x80, false, &whole), "don't belong together"),
        (message(BINARY, false, &whole[..10]), "header is cut off"),
        (message(BINARY, false, &whole[..17]), "cut off by the end"),
        (message(BINARY, false, &long), "longer than 1 MiB"),
        (message(BINARY, false, vec![0; (1 << 20) + 17]), "is too long"),
        (message(BINARY, false, frame(LOAD, 0, 0, 0, [0; 7])), "a LOAD whose payload has not 8 bytes"),
        (message(BINARY, false, frame(LOAD, 0, 0, 0, [0; 9])), "a LOAD whose payload has not 8 bytes"),
        (b"HTTP/1.1 408 Request Timeout\r\n\r\n".to_vec(), "reserved bits"),
    ] {
        let seen = Arc::new(std::sync::Mutex::new(None));
        let (kept, sent) = (Arc::clone(&seen), garbage.clone());
        let foreign = scripted(move |mut peer| {
            let (kept, sent) = (Arc::clone(&kept), sent.clone());
            async move {
                next(&mut peer).await;
                peer.send(sent).await;
                let last = peer.closed().await;
                *kept.lock().unwrap() = Some(last);
            }
        })
        .await;
        let client = foreign.client();
        gone_over(&client).await;
        let failed = within(call(&client, "ask")).await.unwrap_err();
        is_unknown(&failed);
        assert!(failed.message().contains(words), "expected {words:?}: {failed}");
        assert_eq!(call(&client, "on").await.unwrap(), "http");
        foreign.until_closed_but(1).await;
        let (code, why) = seen.lock().unwrap().take().expect("the server is told");
        assert!(code == 1002 && why.contains(words), "{code}: {why}");
    }
}

// Replies that nobody waits for.

#[tokio::test]
async fn frames_behind_hello_in_its_message_are_read() {
    let foreign = offering(|connection, asked, before| async move {
        let mut peer = connection.upgrade(&asked).await;
        let goodbye = frame(GOAWAY, 0, 0, 0, "");
        let first = frame(HELLO, 0, 0, 0, hello().to_string());
        peer.say(if before == 0 { [first, goodbye].concat() } else { first }).await;
        loop {
            let frame = next(&mut peer).await;
            assert!(before > 0 || frame.kind == HELLO, "{frame:?}");
        }
    })
    .await;
    gone_over(&foreign.client()).await;
    assert_eq!(upgrades(&foreign), 2);
}

#[tokio::test]
async fn a_load_and_unknown_kinds_change_no_answer() {
    let foreign = scripted(|mut peer| async move {
        loop {
            let call = next(&mut peer).await;
            let load = frame(LOAD, 0, 0, 0, [0, 0, 0, 17, 0, 0, 1, 94]);
            let unknown = (12..=255).map(|kind| frame(kind, 0xff, 7, call.id, "what later versions may say"));
            let before = [load.clone(), unknown.collect::<Vec<_>>().concat()].concat();
            peer.say([before, reply(call.id, "right"), load].concat()).await;
        }
    })
    .await;
    let client = foreign.client();
    gone_over(&client).await;
    for _ in 0..3 {
        assert_eq!(call(&client, "ask").await.unwrap(), "right");
    }
    assert_eq!((upgrades(&foreign), over_http(&foreign)), (1, Vec::new()));
}

#[tokio::test]
async fn replies_may_come_in_any_order() {
    let foreign = scripted(|mut peer| async move {
        loop {
            let mut calls = Vec::new();
            for _ in 0..200 {
                let call = next(&mut peer).await;
                let [what]: [String; 1] = serde_json::from_str(call.arguments()).unwrap();
                calls.push(reply(call.id, &format!("to {what}")));
            }
            calls.reverse();
            calls.rotate_left(70);
            peer.say_each(calls).await;
        }
    })
    .await;
    let client = foreign.client();
    gone_over(&client).await;
    for round in 0..5 {
        let calls = (0..200).map(|n| {
            let client = client.clone();
            tokio::spawn(async move {
                let what = format!("{round}.{n}");
                assert_eq!(call(&client, &what).await.unwrap(), format!("to {what}"));
            })
        });
        for call in calls.collect::<Vec<_>>() {
            within(call).await.unwrap();
        }
    }
    assert_eq!(over_http(&foreign), [""; 0]);
}

#[tokio::test]
async fn a_reply_to_an_unknown_call_reaches_no_other_call() {
    let asked = Arc::new(Notify::new());
    let tells = Arc::clone(&asked);
    let foreign = scripted(move |mut peer| {
        let tells = Arc::clone(&tells);
        async move {
            let mut gone = Vec::new();
            loop {
                let frame = next(&mut peer).await;
                match frame.kind {
                    CALL if frame.arguments() == r#"["gone"]"# => {
                        gone.push(frame.id);
                        tells.notify_one();
                    }
                    CALL => {
                        let near = [frame.id - 1, frame.id + 1, frame.id ^ 1 << 40, 0, 1, u64::MAX];
                        let wrong = gone.iter().copied().chain(near).flat_map(|id| {
                            [
                                reply(id, "wrong"),
                                self::frame(ERROR, 0, 0, id, "??"),
                                self::frame(REPLY, MORE, 0, id, "["),
                            ]
                        });
                        let twice = [reply(frame.id, "right"), reply(frame.id, "wrong")];
                        peer.say_each(wrong.chain(twice)).await;
                    }
                    CANCEL => assert!(gone.contains(&frame.id)),
                    _ => panic!("{frame:?}"),
                }
            }
        }
    })
    .await;
    let client = foreign.client();
    gone_over(&client).await;
    for _ in 0..50 {
        let mut gone = Box::pin(call(&client, "gone"));
        crate::harness::foreign::during(&mut gone, asked.notified()).await;
        drop(gone);
        assert_eq!(within(call(&client, "stay")).await.unwrap(), "right");
    }
}

#[tokio::test]
async fn pieces_of_abandoned_answers_free_their_memory() {
    let foreign = scripted(|mut peer| async move {
        loop {
            let frame = next(&mut peer).await;
            match frame.kind {
                CALL if frame.arguments() == r#"["large"]"# => {
                    // As much as its limit allows, but never the end of it.
                    for _ in 0..3 {
                        peer.say(self::frame(REPLY, MORE, 0, frame.id, vec![b' '; 1 << 20])).await;
                    }
                }
                CALL => peer.say(reply(frame.id, "small")).await,
                _ => {}
            }
        }
    })
    .await;
    let client = foreign.client();
    gone_over(&client).await;
    for round in 0..12 {
        let mut large = Box::pin(call(&client, "large"));
        start(&mut large).await;
        // Its answer comes after the pieces.
        assert_eq!(within(call(&client, "small")).await.unwrap(), "small", "{round}");
        drop(large);
    }
    assert_eq!(upgrades(&foreign), 1);
}

#[tokio::test]
async fn a_malformed_answer_fails_only_its_own_call() {
    let foreign = scripted(|mut peer| async move {
        let mut wrong = [
            (ERROR, 0, ""),
            (ERROR, 0, "\0\0\0\x09{}"),
            (ERROR, 0, "\0\0\0\x02[]"),
            (REPLY, METADATA, "\0\0\0\x02[]1"),
            (REPLY, METADATA, "\0\0"),
            (REPLY, 0, ""),
            (REPLY, 0, "{"),
            (REPLY, 0, "7"),
        ]
        .into_iter();
        loop {
            let call = next(&mut peer).await;
            match wrong.next() {
                Some((kind, flags, payload)) => peer.say(frame(kind, flags, 0, call.id, payload)).await,
                None => peer.say(reply(call.id, "right")).await,
            }
        }
    })
    .await;
    let client = foreign.client();
    gone_over(&client).await;
    for _ in 0..8 {
        let failed = call(&client, "ask").await.unwrap_err();
        assert_eq!(failed.code(), Code::Internal, "{failed}");
        assert_ne!(failed.executed(), Executed::No, "{failed}");
    }
    assert_eq!(call(&client, "ask").await.unwrap(), "right");
}

#[tokio::test]
async fn a_reply_over_the_clients_limit_is_an_error_and_the_connection_continues() {
    let foreign = scripted(|mut peer| async move {
        loop {
            let call = next(&mut peer).await;
            if call.arguments() == r#"["small"]"# {
                peer.say(reply(call.id, "small")).await;
                continue;
            }
            for _ in 0..40 {
                peer.say(frame(REPLY, MORE, 0, call.id, vec![b' '; 1000])).await;
            }
            peer.say(reply(call.id, "large")).await;
        }
    })
    .await;
    let client = foreign.builder().limits(|limits| limits.message = 5000).build().unwrap();
    gone_over(&client).await;
    for _ in 0..3 {
        let failed = call(&client, "large").await.unwrap_err();
        assert_eq!((failed.code(), failed.limit()), (Code::ResourceExhausted, Some("message")), "{failed}");
        assert_eq!(failed.executed(), Executed::Yes);
        assert_eq!(call(&client, "small").await.unwrap(), "small");
    }
}

// Servers that don't upgrade.

#[tokio::test]
async fn calls_use_http_if_the_upgrade_is_rejected_and_it_is_not_tried_each_time() {
    const REFUSALS: usize = 12;
    for refusal in 0..REFUSALS {
        let foreign = offering(move |mut connection, asked, _| async move {
            let granted = |accept: &str, protocol: &str| {
                format!(
                    "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
                     sec-websocket-accept: {accept}\r\nsec-websocket-protocol: {protocol}\r\n\r\n"
                )
            };
            match refusal {
                0 => connection.send(answer("400 Bad Request", "", "no")).await,
                1 => connection.send(answer("426 Upgrade Required", "sec-websocket-version: 14\r\n", "")).await,
                2 => connection.send(answer("200 OK", OFFER, r#"{"ret":"http"}"#)).await,
                3 => connection.send(answer("503 Service Unavailable", "", "")).await,
                4 => connection.send(granted("AAAA", "byname.v1")).await,
                5 => connection.send(granted(&accept(asked.header("sec-websocket-key")), "chat")).await,
                6 => connection.send("SSH-2.0\r\n\r\n").await,
                7 => connection.send(format!("HTTP/1.1 101 x\r\nx: {}", "y".repeat(1 << 20))).await,
                8 => drop(connection),
                9 => connection.reset(),
                10 => connection.rest().await,
                _ => {
                    let mut peer = connection.upgrade(&asked).await;
                    peer.say(frame(HELLO, 0, 0, 0, r#"{"version":2,"codecs":["json"]}"#)).await;
                    peer.next().await;
                }
            }
        })
        .await;
        let client = foreign.client();
        within(async {
            while upgrades(&foreign) == 0 {
                assert_eq!(call(&client, "way").await.unwrap(), "http");
            }
        })
        .await;
        for _ in 0..100 {
            assert_eq!(call(&client, "way").await.unwrap(), "http", "{refusal}");
        }
        let tried = upgrades(&foreign);
        assert!(tried < 10, "{tried} upgrades were tried in a row where they are refused by {refusal}");
    }
}

#[tokio::test]
async fn a_connection_that_ends_before_its_first_reply_is_not_reopened_for_each_call() {
    for farewell in [&b""[..], &[0x88, 0], &message(TEXT, false, "no")] {
        let farewell = farewell.to_vec();
        let foreign = offering(move |connection, asked, _| {
            let farewell = farewell.clone();
            async move {
                let mut peer = connection.upgrade(&asked).await;
                peer.say(frame(HELLO, 0, 0, 0, hello().to_string())).await;
                peer.send(farewell).await;
            }
        })
        .await;
        let client = foreign.client();
        for _ in 0..300 {
            // One that meets the connection before its end may have been sent by it.
            if let Err(failed) = call(&client, "way").await {
                is_unknown(&failed);
            }
        }
        let tried = upgrades(&foreign);
        assert!((1..30).contains(&tried), "{tried} upgrades in 300 calls");
    }
}

#[tokio::test]
async fn frames_pause_after_connections_were_cut_during_calls_repeatedly() {
    let foreign = scripted(|mut peer| async move {
        next(&mut peer).await;
    })
    .await;
    let client = foreign.client();
    for _ in 0..3 {
        gone_over(&client).await;
        is_unknown(&within(call(&client, "cut")).await.unwrap_err());
    }
    let tried = upgrades(&foreign);
    for _ in 0..200 {
        assert_eq!(call(&client, "way").await.unwrap(), "http");
    }
    assert_eq!(upgrades(&foreign), tried);
    skip(Duration::from_secs(100)).await;
    gone_over(&client).await;
}

// Many calls.

#[tokio::test]
async fn calls_wait_for_a_server_that_accepts_few_at_once() {
    let foreign = offering(|connection, asked, _| async move {
        let mut peer = connection.upgrade(&asked).await;
        let mut hello = hello();
        hello["calls"] = json!(2);
        peer.greet(&hello).await;
        let mut held: Vec<u64> = Vec::new();
        loop {
            let frame = next(&mut peer).await;
            match frame.kind {
                CANCEL => held.retain(|id| *id != frame.id),
                _ if frame.arguments() == r#"["stuck"]"# => held.push(frame.id),
                _ => peer.say(reply(frame.id, "frames")).await,
            }
            assert!(held.len() <= 2, "more calls than it takes");
        }
    })
    .await;
    let client = foreign.client();
    gone_over(&client).await;
    let mut stuck = [(); 2].map(|()| Box::pin(call(&client, "stuck")));
    for stuck in &mut stuck {
        start(stuck).await;
    }
    let late = client.call::<String>("f", ("late",)).timeout(Duration::from_millis(20)).await.unwrap_err();
    let late = late.rpc().expect("it is ours");
    assert_eq!((late.code(), late.executed()), (Code::DeadlineExceeded, Executed::No), "{late}");
    let waiting = (0..100).map(|n| {
        let client = client.clone();
        tokio::spawn(async move { call(&client, &n.to_string()).await.unwrap() })
    });
    let waiting: Vec<_> = waiting.collect();
    for _ in 0..10 {
        yield_now().await;
    }
    assert!(waiting.iter().all(|call| !call.is_finished()));
    // One of two is enough for all of them.
    let [first, _second] = stuck;
    drop(first);
    for call in waiting {
        assert_eq!(within(call).await.unwrap(), "frames");
    }
}

#[tokio::test]
async fn a_hundred_thousand_calls_that_are_dropped_in_flight_leave_nothing() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let (begun, running) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (begins, runs) = (Arc::clone(&begun), Arc::clone(&running));
    // Every request of HTTP says what host it is for.
    let way =
        |_: String| async { if Context::current().unwrap().header("host").is_some() { "http" } else { "frames" } };
    let server = Server::new().function("f", way).function("stuck", move || {
        begins.fetch_add(1, Ordering::SeqCst);
        runs.fetch_add(1, Ordering::SeqCst);
        let counted = Counted(Arc::clone(&runs));
        async move {
            Context::current().unwrap().cancellation().cancelled().await;
            drop(counted);
        }
    });
    let running_server = Running::new(server).await;
    let client = running_server.client_by(Transport::Frames);
    gone_over(&client).await;
    for round in 0..100 {
        let mut calls: Vec<_> = (0..1000).map(|_| Box::pin(client.call::<()>("stuck", ()).into_future())).collect();
        for call in &mut calls {
            start(call).await;
        }
        let before = begun.load(Ordering::SeqCst);
        if round % 2 == 0 {
            // Some are dropped before they have gone out, others while they run.
            within(async {
                while begun.load(Ordering::SeqCst) == before {
                    yield_now().await;
                }
            })
            .await;
        }
        drop(calls);
        within(async {
            while running.load(Ordering::SeqCst) > 0 {
                yield_now().await;
            }
        })
        .await;
        assert_eq!(within(call(&client, "way")).await.unwrap(), "frames");
    }
    assert!(begun.load(Ordering::SeqCst) > 10_000);
}

// Streams.

const ITEM: u8 = 8;
const END: u8 = 9;
const STREAM: u8 = 8;

fn item(id: u64, value: &str) -> Vec<u8> {
    frame(ITEM, 0, 0, id, json!(value).to_string())
}

/// What comes of a stream that `script` answers, and how it ends.
async fn streamed<F: Future<Output = ()> + Send + 'static>(
    script: impl Fn(Peer, Frame) -> F + Send + Sync + 'static,
) -> (Vec<String>, Option<Error>) {
    let script = Arc::new(script);
    let foreign = scripted(move |mut peer| {
        let script = Arc::clone(&script);
        async move {
            let call = next(&mut peer).await;
            assert_eq!((call.kind, call.flags), (CALL, STREAM));
            script(peer, call).await;
        }
    })
    .await;
    let client = foreign.client();
    gone_over(&client).await;
    let mut stream = client.stream::<String>("s", ());
    let mut items = Vec::new();
    loop {
        match within(stream.next()).await {
            Some(Ok(item)) => items.push(item),
            Some(Err(byname::CallError::Rpc(error))) => {
                assert!(within(stream.next()).await.is_none(), "nothing comes behind an error");
                return (items, Some(error));
            }
            Some(Err(other)) => panic!("{other:?}"),
            None => return (items, None),
        }
    }
}

#[tokio::test]
async fn a_stream_by_frames_ends_with_end_and_with_nothing_else() {
    let (items, failure) = streamed(async |mut peer, call| {
        // Beside much that is others', so that they are kept by themselves.
        let others = frame(99, 0, 0, 0, [0; 10_000]);
        let end = frame(END, 0, 0, call.id, b"");
        peer.say([others.clone(), item(call.id, "a"), item(call.id, "b"), others, item(call.id, "c"), end].concat())
            .await;
        peer.closed().await;
    })
    .await;
    assert_eq!((items, failure), (["a", "b", "c"].map(str::to_owned).into(), None));

    let (items, failure) = streamed(async |mut peer, call| {
        peer.say([item(call.id, "a"), item(call.id, "b")].concat()).await;
        peer.reset();
    })
    .await;
    let failure = failure.expect("it was cut");
    assert!(items.len() <= 2, "a reset may take what was on its way with it");
    assert_eq!(failure.code(), Code::Unavailable, "{failure}");

    let (items, failure) = streamed(async |mut peer, call| {
        let error = r#"{"code":"aborted","message":"enough","executed":"yes","kind":"rpc"}"#;
        let error = [&(error.len() as u32).to_be_bytes(), error.as_bytes()].concat();
        peer.say([item(call.id, "a"), frame(ERROR, 0, 0, call.id, error), item(call.id, "late")].concat()).await;
        peer.closed().await;
    })
    .await;
    assert_eq!((items, failure.map(|error| error.code())), (vec!["a".to_owned()], Some(Code::Aborted)));

    let (items, failure) = streamed(async |mut peer, call| {
        peer.say([item(call.id, "a"), reply(call.id, "b")].concat()).await;
        peer.closed().await;
    })
    .await;
    assert_eq!((items, failure.map(|error| error.code())), (vec!["a".to_owned()], Some(Code::Internal)));
}

#[tokio::test]
async fn an_item_in_pieces_keeps_its_place_in_its_message() {
    let (items, failure) = streamed(async |mut peer, call| {
        let id = call.id;
        let pieces = [frame(ITEM, MORE, 0, id, b"\"b"), frame(ITEM, MORE, 0, id, b"b"), frame(ITEM, 0, 0, id, b"b\"")];
        peer.say([item(id, "a"), pieces.concat(), item(id, "c"), frame(END, 0, 0, id, b"")].concat()).await;
        peer.closed().await;
    })
    .await;
    assert_eq!((items, failure), (["a", "bbb", "c"].map(str::to_owned).into(), None));
}

#[tokio::test]
async fn a_server_is_held_to_the_credit_it_was_given() {
    let (items, failure) = streamed(async |mut peer, call| {
        let granted = u32::from_be_bytes(call.payload[4..8].try_into().unwrap()) as usize;
        let large = "x".repeat(60_000);
        // In one message, so that nobody can read meanwhile; the last is one too many.
        let most = granted.div_ceil(large.len() + 18) + 1;
        peer.say((0..most).flat_map(|_| item(call.id, &large)).collect::<Vec<_>>()).await;
        let (code, why) = peer.closed().await;
        assert!(code == 1002 && why.contains("without credit"), "{code} {why}");
    })
    .await;
    let failure = failure.expect("the connection was ended");
    assert_eq!((items.len(), failure.code()), (0, Code::Unavailable), "{failure}");
    assert!(failure.message().contains("without credit"), "{failure}");
}

#[tokio::test]
async fn a_stream_that_was_not_begun_moves_to_another_connection() {
    let foreign = offering(async |connection, asked, before| {
        let mut peer = connection.upgrade(&asked).await;
        peer.greet(&hello()).await;
        loop {
            let call = next(&mut peer).await;
            if call.flags & STREAM != 0 && before == 0 {
                // It is beyond the last call that is answered.
                peer.say(frame(GOAWAY, 0, 0, call.id - 1, b"")).await;
                return;
            }
            peer.say([item(call.id, "a"), frame(END, 0, 0, call.id, b"")].concat()).await;
        }
    })
    .await;
    let client = foreign.client();
    gone_over(&client).await;
    let mut stream = client.stream::<String>("s", ());
    let first = within(stream.next()).await.unwrap();
    // By another connection of frames, or over HTTP, where this server has no streams.
    match first {
        Ok(item) => assert_eq!(item, "a"),
        Err(byname::CallError::Rpc(error)) => assert!(error.message().contains("returned a single value"), "{error}"),
        Err(other) => panic!("{other:?}"),
    }
}
