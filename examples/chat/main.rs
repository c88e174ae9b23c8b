//! Streams in both directions: a guest of the room sends lines and receives the lines of all guests.
//!
//! ```console
//! $ chat serve 127.0.0.1:8080
//! $ chat call 127.0.0.1:8080 Ann
//! $ curl -N --no-progress-meter -X POST -T . 'localhost:8080/rpc/join?name=Bob'
//! ```
//!
//! To curl every line is JSON, `"hello"` with its quotes. `-T .` sends what is typed and meanwhile shows what comes, which
//! `-T -` doesn't. Ctrl-D leaves. From the repository it is started by
//! `cargo run --example chat -- serve 127.0.0.1:8080`.

use std::time::Duration;

use byname::{Client, Error, Server, Streaming, rpc};
use futures_util::{Stream, stream};
use tokio::sync::{broadcast, mpsc};

/// Nobody has to say anything for so long.
const QUIET: Duration = Duration::from_secs(24 * 60 * 60);

struct Room {
    said: broadcast::Sender<String>,
}

#[rpc]
impl Room {
    /// Joins: what comes in `lines` is said to everyone, and what everyone says is what this gives. Their end leaves.
    fn join(&self, name: String, lines: Streaming<String>) -> impl Stream<Item = Result<String, Error>> {
        let guest = Guest { heard: self.said.subscribe(), said: self.said.clone(), name, lines };
        guest.say("joins");
        stream::try_unfold(guest, Guest::next)
    }
}

struct Guest {
    heard: broadcast::Receiver<String>,
    said: broadcast::Sender<String>,
    name: String,
    lines: Streaming<String>,
}

impl Guest {
    async fn next(mut self) -> Result<Option<(String, Self)>, Error> {
        loop {
            tokio::select! {
                // Lines come first, so that a guest who leaves has received every line before that.
                biased;
                // A guest who reads too slowly misses some, and is told how many.
                heard = self.heard.recv() => {
                    return Ok(Some((heard.unwrap_or_else(|missed| missed.to_string()), self)));
                }
                line = self.lines.next() => match line.transpose()? {
                    Some(line) => self.say(&format!("says {line}")),
                    None => return Ok(None),
                }
            }
        }
    }

    fn say(&self, what: &str) {
        // It fails where nobody is left to hear it.
        let _ = self.said.send(format!("{} {what}", self.name));
    }
}

/// A stream is dropped when it ends and when its caller has gone.
impl Drop for Guest {
    fn drop(&mut self) {
        self.say("leaves");
    }
}

async fn serve(address: &str) -> Result<(), Box<dyn std::error::Error>> {
    let room = Room { said: broadcast::Sender::new(100) };
    let server = Server::new().inject(room).limits(|limits| limits.stream_idle = QUIET);
    let bound = server.serve(address).bind().await?;
    println!("{}", bound.local_addr());
    Ok(bound.await?)
}

async fn call(address: &str, name: &str) -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::builder(address).limits(|limits| limits.stream_idle = QUIET).build()?;
    // A thread may wait for the keyboard, and ends with the program.
    let (line, mut lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        std::io::stdin().lines().map_while(Result::ok).try_for_each(|typed| line.blocking_send(typed))
    });
    let lines = Streaming::new(stream::poll_fn(move |cx| lines.poll_recv(cx)));
    let mut messages = Room::on(&client).join(name.into(), lines);
    while let Some(message) = messages.next().await {
        println!("{}", message?);
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", address] => serve(address).await,
        ["call", address, name] => call(address, name).await,
        _ => Err("chat serve HOST:PORT | call HOST:PORT NAME".into()),
    }
}
