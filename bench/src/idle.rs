//! What an idle connection costs a server: its memory with many of them, less its memory before, divided by their number.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use procfs::process::Process;
#[cfg(feature = "tls")]
use rustls::client::Resumption;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::compare::ServerProcess;
use crate::machine;
use crate::peers::{self, AnyPeer};
use crate::report;
#[cfg(feature = "tls")]
use crate::tls::BareClient;

#[derive(Args)]
pub struct Options {
    /// The server that is measured; it must speak HTTP/2, without TLS by prior knowledge, for the second figure
    #[arg(long, value_parser = peers::parser(), default_value = "byname-http")]
    pub peer: &'static AnyPeer,
    /// How many connections are opened; this process and the server need a file descriptor for each
    #[arg(long, default_value_t = 10_000)]
    pub connections: usize,
}

pub fn run(options: &Options) -> Result<()> {
    println!("{}\n", machine::describe()?);
    println!("{} connections that were each used once and are idle", options.connections);
    machine::raise_file_limit()?;
    for (name, protocol, question) in [("HTTP/1.1", "http/1.1", http1()), ("HTTP/2", "h2", http2())] {
        let server = ServerProcess::start(options.peer)?;
        let process = Process::new(server.id().try_into()?)?;
        let to = To { server: server.address(), is_over_tls: report::is_over_tls(options.peer.name), protocol };
        let open = |count| open(&to, count, &question);
        let (before, after) = machine::runtime()?.block_on(async {
            // The first ones pay for what all share.
            let _first = open(100).await?;
            let before = resident(&process)?;
            let _idle = open(options.connections).await?;
            anyhow::Ok((before, resident(&process)?))
        })?;
        let each = after.saturating_sub(before) as f64 / options.connections as f64 / 1024.0;
        println!("{name:8} {each:6.2} KiB each; {:.1} MiB before, {:.1} MiB with them", mib(before), mib(after));
    }
    Ok(())
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// The memory of a process that is in RAM, in bytes.
fn resident(process: &Process) -> Result<u64> {
    let kib = process.status()?.vmrss.context("the kernel doesn't say how much memory a process has")?;
    Ok(kib * 1024)
}

/// What is connected to, and how.
struct To {
    server: SocketAddr,
    is_over_tls: bool,
    /// As TLS names it.
    protocol: &'static str,
}

/// A connection, over TLS or without.
trait Connection: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection for S {}

impl To {
    async fn connect(&self) -> Result<Box<dyn Connection>> {
        if !self.is_over_tls {
            return Ok(Box::new(TcpStream::connect(self.server).await?));
        }
        #[cfg(feature = "tls")]
        {
            let client = BareClient::new(self.protocol.as_bytes(), Resumption::disabled())?;
            Ok(Box::new(client.connect(self.server).await?))
        }
        #[cfg(not(feature = "tls"))]
        bail!("{} is asked for over TLS in a build without it", self.protocol)
    }
}

/// Opens connections one after the other, and asks on each once.
async fn open(to: &To, count: usize, question: &[u8]) -> Result<Vec<Box<dyn Connection>>> {
    let mut open = Vec::with_capacity(count);
    for nth in 0..count {
        let mut stream = to.connect().await.with_context(|| format!("connection {nth}"))?;
        stream.write_all(question).await?;
        stream.flush().await?;
        let mut answer = Vec::new();
        // The answer's last word, in either protocol.
        while !answer.ends_with(b"3") {
            ensure!(stream.read_buf(&mut answer).await? > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
            if answer.len() > 10_000 {
                bail!("no answer: {:?}", String::from_utf8_lossy(&answer));
            }
        }
        open.push(stream);
    }
    Ok(open)
}

fn http1() -> Vec<u8> {
    b"POST /rpc/add HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 5\r\n\r\n[1,2]"
        .to_vec()
}

fn http2() -> Vec<u8> {
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream], payload].concat()
    };
    // POST, http and two fields of the static table with values of their own: path and authority.
    let fields = [&b"\x83\x86\x04\x08/rpc/add\x01\x09localhost"[..]].concat();
    let settings = frame(4, 0, 0, &[]);
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), settings, frame(1, 4, 1, &fields), frame(0, 1, 1, b"[1,2]")].concat()
}
