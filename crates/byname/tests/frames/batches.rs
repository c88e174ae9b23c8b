//! Several items of a stream in one frame, byte by byte, with peers that read and send them and with peers that don't.

use crate::harness::foreign::{Foreign, answer};
use crate::harness::peer::*;
use crate::harness::{Running, within};
use byname::{CallError, Client, Code, Error, Server, Streaming, rpc};
use futures_util::{Stream, stream};
use serde_json::{Value, json};
use tokio::task::yield_now;

const ITEM: u8 = 8;
const END: u8 = 9;
const CREDIT: u8 = 10;

const STREAM: u8 = 8;
const ITEMS: u8 = 16;
const BATCH: u8 = 64;

#[rpc(readonly)]
fn countdown(from: u32) -> impl Stream<Item = u32> {
    stream::iter((1..=from).rev())
}

#[rpc]
async fn sum(mut numbers: Streaming<i64>) -> Result<i64, Error> {
    let mut sum = 0;
    while let Some(number) = numbers.next().await {
        sum += number?;
    }
    Ok(sum)
}

/// Texts of these lengths.
#[rpc]
fn texts(lengths: Vec<usize>) -> impl Stream<Item = String> {
    stream::iter(lengths.into_iter().map(|length| "x".repeat(length)))
}

fn server() -> Server {
    Server::new().method::<countdown>().method::<sum>().method::<texts>()
}

/// A client that reads batches, or that doesn't, and that has given the number 0 to a name.
async fn calling(running: &Running, batches: bool, name: &str) -> Peer {
    let mut peer = Peer::to(running.address).await;
    assert_eq!(peer.hello["batches"], json!(true));
    let mut greeting: Value = serde_json::from_str(GREETING).unwrap();
    if batches {
        greeting["batches"] = json!(true);
    }
    peer.say([frame(HELLO, 0, 0, 0, greeting.to_string()), frame(NAME, 0, 0, 0, name)].concat()).await;
    peer
}

/// A call of name 0 whose caller takes a stream.
fn stream_call(id: u64, credit: u32, arguments: &str) -> Vec<u8> {
    let payload = [&60_000u32.to_be_bytes()[..], &credit.to_be_bytes(), arguments.as_bytes()].concat();
    frame(CALL, STREAM, 0, id, payload)
}

/// Several values, each as a part.
fn parts<'v>(values: impl IntoIterator<Item = &'v str>) -> Vec<u8> {
    let part = |value: &str| [&(value.len() as u32).to_be_bytes()[..], value.as_bytes()].concat();
    values.into_iter().flat_map(part).collect()
}

/// The values of an ITEM, alone or several.
fn values(item: &Frame) -> Vec<String> {
    assert_eq!(item.kind, ITEM, "{item:?}");
    if item.flags & BATCH == 0 {
        return vec![String::from_utf8(item.payload.clone()).unwrap()];
    }
    let (mut rest, mut values) = (&item.payload[..], Vec::new());
    while !rest.is_empty() {
        let (length, behind) = rest.split_first_chunk().unwrap();
        let (value, behind) = behind.split_at(u32::from_be_bytes(*length) as usize);
        values.push(String::from_utf8(value.to_vec()).unwrap());
        rest = behind;
    }
    assert!(values.len() > 1 && item.payload.len() <= 64 << 10, "{item:?}");
    values
}

/// The ITEMs up to END.
async fn items(peer: &mut Peer) -> Vec<Frame> {
    let mut items = Vec::new();
    loop {
        match peer.frame().await {
            end if end.kind == END => return items,
            item => items.push(item),
        }
    }
}

#[tokio::test]
async fn items_that_are_ready_together_come_in_one_frame_where_the_peer_reads_them() {
    let running = Running::new(server()).await;
    for batches in [true, false] {
        let mut peer = calling(&running, batches, "countdown").await;
        peer.say(stream_call(1, 256 << 10, "[100]")).await;
        let came = items(&mut peer).await;
        assert_eq!(came.iter().flat_map(values).count(), 100);
        assert!(came.iter().flat_map(values).eq((1..=100).rev().map(|number| number.to_string())));
        match batches {
            // The first one is waited for.
            true => assert_eq!(came.iter().map(|item| item.flags).collect::<Vec<_>>(), [0, BATCH]),
            false => assert_eq!(came.len(), 100),
        }
    }
}

#[tokio::test]
async fn a_batch_has_the_bytes_of_the_protocol() {
    let running = Running::new(server()).await;
    let mut peer = calling(&running, true, "countdown").await;
    peer.say(stream_call(3, 256 << 10, "[3]")).await;
    let came = items(&mut peer).await;
    assert_eq!(came[0], Frame { kind: ITEM, flags: 0, number: 0, id: 3, payload: b"3".to_vec() });
    let several = [0, 0, 0, 1, b'2', 0, 0, 0, 1, b'1'].to_vec();
    assert_eq!(came[1..], [Frame { kind: ITEM, flags: BATCH, number: 0, id: 3, payload: several }]);
}

/// The cost of an item is the same, alone or with others.
#[tokio::test]
async fn a_batch_has_no_more_items_than_the_credit_pays_for() {
    let running = Running::new(server()).await;
    let mut peer = calling(&running, true, "countdown").await;
    // Each costs 17.
    peer.say(stream_call(1, 17, "[9]")).await;
    assert_eq!(values(&peer.frame().await), ["9"]);
    peer.say(frame(CREDIT, 0, 0, 1, (17u32 * 3).to_be_bytes())).await;
    // One was made before there was credit for it.
    assert_eq!(values(&peer.frame().await), ["8"]);
    assert_eq!(values(&peer.frame().await), ["7", "6"]);
    peer.say(frame(CREDIT, 0, 0, 1, 1u32.to_be_bytes())).await;
    assert_eq!(values(&peer.frame().await), ["5"]);
    peer.say(frame(CREDIT, 0, 0, 1, 1000u32.to_be_bytes())).await;
    assert_eq!(items(&mut peer).await.iter().map(values).collect::<Vec<_>>(), [vec!["4"], vec!["3", "2", "1"]]);
}

#[tokio::test]
async fn a_large_item_has_frames_of_its_own_among_batches() {
    let running = Running::new(server()).await;
    let lengths = [1, 1, 1, 70_000, 1, 1, 65_000, 1, 1];
    for batches in [true, false] {
        let mut peer = calling(&running, batches, "texts").await;
        peer.say(stream_call(1, 1 << 20, &json!([lengths]).to_string())).await;
        let (mut came, mut large) = (Vec::new(), Vec::new());
        for item in items(&mut peer).await {
            match item.flags {
                MORE => large.extend_from_slice(&item.payload),
                _ if large.is_empty() => came.extend(values(&item)),
                _ => {
                    assert_eq!(item.flags, 0, "the rest of the large one");
                    large.extend_from_slice(&item.payload);
                    came.push(String::from_utf8(std::mem::take(&mut large)).unwrap());
                }
            }
        }
        assert!(came.iter().map(|text| text.len() - 2).eq(lengths), "{:?}", came.len());
    }
}

#[tokio::test]
async fn a_caller_may_send_several_items_in_one_frame() {
    let running = Running::new(server()).await;
    let mut peer = calling(&running, false, "sum").await;
    peer.say(frame(CALL, ITEMS, 0, 1, 60_000u32.to_be_bytes())).await;
    assert_eq!(peer.frame().await.kind, CREDIT);
    // Alone and together, copied and not.
    let many: Vec<_> = (0..1000).map(|_| "1").collect();
    let all = [
        frame(ITEM, BATCH, 0, 1, parts(["1", "2"])),
        frame(ITEM, 0, 0, 1, "3"),
        frame(ITEM, BATCH, 0, 1, parts(["4"])),
        frame(ITEM, BATCH, 0, 1, parts(many)),
        frame(ITEM, 0, 0, 1, "5"),
        frame(END, 0, 0, 1, ""),
        // It is over.
        frame(ITEM, BATCH, 0, 1, "not read"),
    ];
    peer.say(all.concat()).await;
    loop {
        let frame = peer.frame().await;
        if frame.kind == REPLY {
            assert_eq!(frame.payload, b"1015");
            break;
        }
    }
}

#[tokio::test]
async fn invalid_batches_of_a_caller_end_the_connection() {
    let running = Running::new(server()).await;
    let long = "1".repeat(30_000);
    for (wrong, why) in [
        (vec![frame(ITEM, BATCH, 0, 1, "")], "has none"),
        (vec![frame(ITEM, BATCH, 0, 1, b"\0\0\0")], "cut off"),
        (vec![frame(ITEM, BATCH, 0, 1, b"\0\0\0\x011\0\0\0\x021")], "cut off"),
        (vec![frame(ITEM, BATCH, 0, 1, b"\xff\xff\xff\xff1")], "cut off"),
        (vec![frame(ITEM, BATCH | MORE, 0, 1, parts(["1", "2"]))], "in pieces"),
        (vec![frame(ITEM, MORE, 0, 1, "1"), frame(ITEM, BATCH, 0, 1, parts(["1", "2"]))], "between the pieces"),
        (vec![frame(ITEM, BATCH, 0, 1, parts([&*long, &*long, &*long]))], "longer than 64 KiB"),
        (vec![frame(ITEM, BATCH, 0, 1, parts([&*long, &*long])); 6], "without credit"),
    ] {
        let mut peer = calling(&running, false, "sum").await;
        peer.say(frame(CALL, ITEMS, 0, 1, 60_000u32.to_be_bytes())).await;
        assert_eq!(peer.frame().await.kind, CREDIT);
        peer.say(wrong.concat()).await;
        let (code, said) = peer.closed().await;
        assert!(code == 1002 && said.contains(why), "{why}: {code} {said}");
    }
}

#[tokio::test]
async fn an_item_of_a_batch_that_is_too_large_ends_the_stream_behind_those_before_it() {
    let running = Running::new(server().limits(|limits| limits.message = 100)).await;
    let mut peer = calling(&running, false, "sum").await;
    let long = "1".repeat(101);
    for (values, words) in [(["1", &*long, "2"], "Limits::message"), (["true", &*long, "2"], "item 1 of the stream")] {
        peer.say([frame(CALL, ITEMS, 0, 1, 60_000u32.to_be_bytes()), frame(ITEM, BATCH, 0, 1, parts(values))].concat())
            .await;
        let error = loop {
            let frame = peer.frame().await;
            if frame.kind == ERROR {
                break frame.error();
            }
        };
        assert!(error["message"].as_str().unwrap().contains(words), "{error}");
    }
}

/// A server whose frames are scripted from the first call on that doesn't ask for its `way`. It reads batches or doesn't.
async fn scripted<F: Future<Output = ()> + Send + 'static>(
    batches: bool,
    script: impl Fn(Peer, Frame) -> F + Clone + Send + Sync + 'static,
) -> Foreign {
    Foreign::new(move |mut connection| {
        let script = script.clone();
        async move {
            while let Some(asked) = connection.request().await {
                if asked.header("upgrade") != "websocket" {
                    let offer = "byname-protocol: 1\r\nbyname-ways: plain, frames\r\n";
                    connection.send(answer("200 OK", offer, r#"{"ret":"http"}"#)).await;
                    continue;
                }
                let mut peer = connection.upgrade(&asked).await;
                let mut hello =
                    json!({"version": 1, "message": 1 << 30, "window": 1 << 30, "calls": 9, "codecs": ["json"]});
                hello["batches"] = json!(batches);
                peer.say(frame(HELLO, 0, 0, 0, hello.to_string())).await;
                let greeting: Value = serde_json::from_slice(&peer.frame().await.payload).unwrap();
                assert_eq!(greeting["batches"], json!(true));
                loop {
                    let call = peer.called().await;
                    if !call.payload.ends_with(br#"["way"]"#) {
                        return script(peer, call).await;
                    }
                    peer.say(frame(REPLY, 0, 0, call.id, r#""frames""#)).await;
                }
            }
        }
    })
    .await
}

/// A client of this server whose calls go by frames.
async fn client_of(foreign: &Foreign, largest: usize) -> Client {
    let client = foreign.builder().limits(|limits| limits.message = largest).build().unwrap();
    within(async {
        while client.call::<String>("f", ("way",)).await.unwrap() != "frames" {
            yield_now().await;
        }
    })
    .await;
    client
}

/// What comes of a stream that a server answers by these frames, and how it ends.
async fn streamed(
    answer: impl Fn(u64, usize) -> Vec<u8> + Clone + Send + Sync + 'static,
    largest: usize,
) -> (Vec<u64>, Option<Error>) {
    let foreign = scripted(false, move |mut peer, call| {
        let answer = answer.clone();
        async move {
            let credit = u32::from_be_bytes(call.payload[4..8].try_into().unwrap());
            peer.say(answer(call.id, credit as usize)).await;
            while !matches!(peer.next().await, Came::Close(..) | Came::End) {}
        }
    })
    .await;
    let client = client_of(&foreign, largest).await;
    let mut stream = client.stream::<u64>("numbers", ());
    let mut items = Vec::new();
    loop {
        match within(stream.next()).await {
            Some(Ok(item)) => items.push(item),
            Some(Err(CallError::Rpc(error))) => return (items, Some(error)),
            Some(Err(other)) => panic!("{other:?}"),
            None => return (items, None),
        }
    }
}

#[tokio::test]
async fn a_client_reads_items_alone_and_together_in_their_order() {
    let numbers: Vec<_> = (0..1000).map(|number| number.to_string()).collect();
    let (items, failure) = streamed(
        move |id, _| {
            let (few, many) = numbers[2..].split_at(3);
            let metadata = [&parts([r#"{"x-first":"yes"}"#])[..], &parts(["0", "1"])].concat();
            [
                frame(ITEM, BATCH | METADATA, 0, id, metadata),
                frame(ITEM, 0, 0, id, &few[0]),
                frame(ITEM, BATCH, 0, id, parts([&*few[1]])),
                frame(ITEM, 0, 0, id, &few[2]),
                frame(ITEM, BATCH, 0, id, parts(many.iter().map(String::as_str))),
                frame(ITEM, BATCH, 0, 99, "of a call that is not there"),
                frame(END, 0, 0, id, ""),
            ]
            .concat()
        },
        1 << 20,
    )
    .await;
    assert_eq!(failure, None);
    assert!(items.into_iter().eq(0..1000));
}

#[tokio::test]
async fn a_server_whose_batches_are_invalid_loses_its_connection() {
    type Wrong = fn(u64, usize) -> Vec<u8>;
    let wrong: [(Wrong, &str); 5] = [
        (|id, _| frame(ITEM, BATCH, 0, id, ""), "has none"),
        (|id, _| frame(ITEM, BATCH, 0, id, b"\0\0\0\x011\0\0\0\x021"), "cut off"),
        (|id, _| frame(ITEM, BATCH | MORE, 0, id, parts(["1", "2"])), "in pieces"),
        (
            |id, _| [frame(ITEM, MORE, 0, id, "1"), frame(ITEM, BATCH, 0, id, parts(["1", "2"]))].concat(),
            "between the pieces",
        ),
        // In one message, so that nothing is read meanwhile; the last one is one too many.
        (
            |id, credit| {
                let long = format!("{:>30000}", 1);
                let most = credit.div_ceil(2 * (long.len() + 16)) + 1;
                (0..most).flat_map(|_| frame(ITEM, BATCH, 0, id, parts([&*long, &*long]))).collect()
            },
            "without credit",
        ),
    ];
    for (wrong, why) in wrong {
        let (_, failure) = streamed(wrong, 1 << 20).await;
        let failure = failure.expect("the connection was ended");
        assert_eq!(failure.code(), Code::Unavailable, "{failure}");
        assert!(failure.message().contains(why), "{why}: {failure}");
    }
}

#[tokio::test]
async fn a_client_takes_the_items_before_one_that_is_too_large() {
    let (items, failure) = streamed(
        |id, _| [frame(ITEM, BATCH, 0, id, parts(["1", &"2".repeat(101), "3"])), frame(END, 0, 0, id, "")].concat(),
        100,
    )
    .await;
    let failure = failure.expect("one was too large");
    assert_eq!((items, failure.code()), (vec![1], Code::ResourceExhausted), "{failure}");
}

#[tokio::test]
async fn a_caller_sends_batches_to_a_server_that_reads_them() {
    for batches in [true, false] {
        let foreign = scripted(batches, async |mut peer, call| {
            assert_eq!((call.kind, call.flags), (CALL, ITEMS));
            peer.say(frame(CREDIT, 0, 0, call.id, (1u32 << 20).to_be_bytes())).await;
            let came = items(&mut peer).await;
            let sum: i64 = came.iter().flat_map(values).map(|number| number.parse::<i64>().unwrap()).sum();
            let frames = came.len();
            peer.say(frame(REPLY, 0, 0, call.id, format!("[{sum},{frames}]"))).await;
            while !matches!(peer.next().await, Came::Close(..) | Came::End) {}
        })
        .await;
        let client = client_of(&foreign, 1 << 20).await;
        let numbers: Streaming<i64> = (1..=100).collect();
        let reply = within(client.call::<(i64, usize)>("sum", ()).streaming(numbers)).await;
        let (sum, frames) = reply.unwrap();
        assert_eq!(sum, 5050);
        assert_eq!(frames < 100, batches, "{frames}");
    }
}
