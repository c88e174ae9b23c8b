//! Streams, the same by every way.

use byname::{Client, Error, Server, Streaming, rpc};
use futures_util::{Stream, StreamExt, stream};

#[rpc(readonly)]
fn countdown(from: u32) -> impl Stream<Item = u32> {
    stream::iter((1..=from).rev())
}

#[rpc]
async fn words(text: &str, until: &str) -> impl Stream<Item = Result<String, String>> {
    let until = until.to_owned();
    let words: Vec<_> = text.split(' ').map(str::to_owned).collect();
    stream::iter(words).map(move |word| if word == until { Err(format!("met {word}")) } else { Ok(word) })
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

struct Room(String);

#[rpc(prefix = "room")]
impl Room {
    fn letters(&self) -> impl Stream<Item = char> {
        stream::iter(self.0.chars())
    }
}

#[tokio::test]
async fn skeleton() {
    let server = Server::new()
        .method::<countdown>()
        .method::<words>()
        .method::<sum>()
        .method::<double>()
        .inject(Room("abc".into()));
    let local = Client::local(&server).unwrap();
    let bound = server.serve("127.0.0.1:0").bind().await.unwrap();
    let address = bound.local_addr();
    tokio::spawn(bound.into_future());
    let frames = Client::new(&address.to_string()).unwrap();
    while frames.call::<u8>("nothing", ()).await.is_err() && !format!("{frames:?}").contains("frames") {
        let _ = frames.call::<u8>("nothing", ()).await;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        break;
    }
    let http = Client::builder(&address.to_string()).transport(byname::Transport::Http).build().unwrap();
    for client in [local.clone(), local.encoded(true), frames, http] {
        let got: Vec<_> = countdown::on(&client, 3).collect().await;
        assert_eq!(got, [Ok(3), Ok(2), Ok(1)]);
        let got: Vec<_> = words::on(&client, "a b c d", "c").collect().await;
        assert_eq!(format!("{got:?}"), r#"[Ok("a"), Ok("b"), Err(Method("met c"))]"#);
        assert_eq!(sum::on(&client, 2, Streaming::from(vec![1, 2, 3])).await.unwrap(), 12);
        let got: Vec<_> = double::on(&client, (1..4).collect()).collect().await;
        assert_eq!(format!("{got:?}"), "[Ok(2), Ok(4), Ok(6)]");
        let got: Vec<_> = Room::on(&client).letters().map(|c| c.unwrap()).collect().await;
        assert_eq!(got, ['a', 'b', 'c']);
    }
}
