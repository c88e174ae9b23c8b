//! A stream that is returned: the lines of a file, and those that are appended later.
//!
//! ```console
//! $ cd /var/log && log_follower serve 127.0.0.1:8080
//! $ log_follower call 127.0.0.1:8080 syslog
//! $ curl -N 'localhost:8080/rpc/follow?path=syslog&from=1000'
//! $ curl -N -H 'accept: text/event-stream' 'localhost:8080/rpc/follow?path=syslog'
//! ```
//!
//! From the repository it is started by `cargo run --example log_follower -- serve 127.0.0.1:8080`.

use std::path::{Component, PathBuf};
use std::time::Duration;

use byname::{Client, Code, Error, Server, rpc};
use futures_util::{Stream, TryStreamExt, stream};
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, BufReader};

/// A log may be quiet for long. A caller that has gone is noticed all the same, and its stream dropped.
const QUIET: Duration = Duration::from_secs(24 * 60 * 60);

/// How often a file is looked at that has nothing new.
const LOOK: Duration = Duration::from_millis(100);

/// The lines of a file below the server's current directory, without the first `from`: a caller whose stream was cut continues there.
#[rpc(readonly, timeout = "1440m")]
fn follow(path: PathBuf, #[rpc(default = 0)] from: usize) -> impl Stream<Item = Result<String, Error>> {
    let lines = |log| stream::try_unfold(log, async |mut log: Log| Ok(Some((log.line().await?, log))));
    stream::once(Log::open(path, from)).map_ok(lines).try_flatten()
}

struct Log(BufReader<File>);

impl Log {
    async fn open(path: PathBuf, from: usize) -> Result<Self, Error> {
        if !path.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(Error::new(Code::PermissionDenied, "the path has to lead down from the server's directory"));
        }
        let file = File::open(&path).await;
        let file = file.map_err(|why| Error::new(Code::NotFound, format!("`{}`: {why}", path.display())))?;
        let mut log = Self(BufReader::new(file));
        for _ in 0..from {
            log.line().await?;
        }
        Ok(log)
    }

    /// The next line, once it is whole.
    async fn line(&mut self) -> Result<String, Error> {
        let mut line = Vec::new();
        loop {
            let read = self.0.read_until(b'\n', &mut line).await;
            read.map_err(|why| Error::new(Code::Internal, format!("the file can't be read: {why}")))?;
            if line.pop_if(|last| *last == b'\n').is_some() {
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

async fn serve(address: &str) -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::new().method::<follow>().limits(|limits| limits.stream_idle = QUIET);
    let bound = server.serve(address).bind().await?;
    println!("{}", bound.local_addr());
    Ok(bound.await?)
}

async fn call(address: &str, path: &str, from: usize) -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::builder(address).limits(|limits| limits.stream_idle = QUIET).build()?;
    let mut lines = follow::on(&client, path.into(), from);
    while let Some(line) = lines.next().await {
        println!("{}", line?);
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", address] => serve(address).await,
        ["call", address, path] => call(address, path, 0).await,
        ["call", address, path, from] => call(address, path, from.parse()?).await,
        _ => Err("log_follower serve HOST:PORT | call HOST:PORT PATH [FROM]".into()),
    }
}
