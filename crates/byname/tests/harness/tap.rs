//! Records the bytes of a client on their way to its server.

use std::sync::{Arc, Mutex};

use byname::{Address, Client, Codec, Limits};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet, yield_now};

use super::unix::TemporaryDirectory;
use super::{Served, peer, within};

/// Passes on what comes, both ways, and keeps what clients have sent. It ends when it is dropped.
pub struct Tap {
    /// The URL of a client, without a path.
    pub url: String,
    sent: Arc<Mutex<Vec<Vec<u8>>>>,
    task: JoinHandle<()>,
    _directory: Option<TemporaryDirectory>,
}

impl Tap {
    /// It listens as the server does: at TCP or at a unix socket.
    pub async fn before(server: impl Into<Address>) -> Self {
        let sent = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let kept = Arc::clone(&sent);
        let (url, directory, task) = match server.into() {
            Address::Tcp(server) => {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let url = listener.local_addr().unwrap().to_string();
                let task = tokio::spawn(async move {
                    let mut connections = JoinSet::new();
                    loop {
                        let (client, _) = listener.accept().await.unwrap();
                        let server = TcpStream::connect(server).await.unwrap();
                        connections.spawn(pass_on(client, server, Arc::clone(&kept)));
                    }
                });
                (url, None, task)
            }
            server => {
                let directory = TemporaryDirectory::new();
                let path = directory.path().join("tap.sock");
                let listener = UnixListener::bind(&path).unwrap();
                let task = tokio::spawn(async move {
                    let mut connections = JoinSet::new();
                    loop {
                        let (client, _) = listener.accept().await.unwrap();
                        let server = UnixStream::connect(server.path().unwrap()).await.unwrap();
                        connections.spawn(pass_on(client, server, Arc::clone(&kept)));
                    }
                });
                (format!("unix:{}", path.display()), Some(directory), task)
            }
        };
        Self { url, sent, task, _directory: directory }
    }

    /// A client that has gone over to frames in this codec, which the connection itself tells.
    pub async fn client_by_frames(server: &impl Served, codec: Codec) -> (Self, Client) {
        Self::client_by_frames_calling(server, codec, "nothing").await
    }

    /// As [`client_by_frames`](Self::client_by_frames), with other limits.
    pub async fn limited_client_by_frames(
        server: &impl Served,
        codec: Codec,
        limits: impl FnOnce(&mut Limits),
    ) -> (Self, Client) {
        Self::gone_over(server, codec, "nothing", limits).await
    }

    /// As [`client_by_frames`](Self::client_by_frames), by calls of a function of this name.
    pub async fn client_by_frames_calling(server: &impl Served, codec: Codec, name: &str) -> (Self, Client) {
        Self::gone_over(server, codec, name, |_| ()).await
    }

    async fn gone_over(
        server: &impl Served,
        codec: Codec,
        name: &str,
        limits: impl FnOnce(&mut Limits),
    ) -> (Self, Client) {
        let tap = Self::before(server.address()).await;
        let builder = Client::builder(&tap.url).codec(codec).limits(limits);
        let client = builder.build().unwrap();
        within(async {
            while tap.calls_by_frames() == 0 {
                client.call::<Value>(name, ()).await.unwrap();
                yield_now().await;
            }
        })
        .await;
        let name = if codec == Codec::MessagePack { "msgpack" } else { "json" };
        // The client looks for other servers by further connections, which have no call.
        for said in tap.frames().into_iter().filter(|frame| frame.kind == peer::HELLO) {
            let hello: Value = serde_json::from_slice(&said.payload).unwrap();
            assert_eq!(hello["codecs"], json!([name]));
        }
        (tap, client)
    }

    /// How many bytes were sent on connections of HTTP.
    pub fn over_http(&self) -> usize {
        self.sent.lock().unwrap().iter().filter(|sent| upgraded(sent).is_none()).map(Vec::len).sum()
    }

    /// How many whole calls were sent by frames.
    pub fn calls_by_frames(&self) -> usize {
        self.frames().iter().filter(|frame| frame.kind == peer::CALL && frame.flags & peer::MORE == 0).count()
    }

    /// Every frame that was sent, connection by connection.
    pub fn frames(&self) -> Vec<peer::Frame> {
        let sent = self.sent.lock().unwrap();
        sent.iter().filter_map(|sent| upgraded(sent)).flat_map(peer::sent_by_a_client).collect()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What follows a request for an upgrade.
fn upgraded(sent: &[u8]) -> Option<&[u8]> {
    let end = sent.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&sent[..end]).to_lowercase();
    head.contains("\r\nupgrade: websocket\r\n").then_some(&sent[end..])
}

async fn pass_on<S: AsyncRead + AsyncWrite>(client: S, server: S, kept: Arc<Mutex<Vec<Vec<u8>>>>) {
    let number = {
        let mut kept = kept.lock().unwrap();
        kept.push(Vec::new());
        kept.len() - 1
    };
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let there = async {
        let mut bytes = Vec::with_capacity(1 << 16);
        while from_client.read_buf(&mut bytes).await.is_ok_and(|count| count > 0) {
            kept.lock().unwrap()[number].extend_from_slice(&bytes);
            if to_server.write_all(&bytes).await.is_err() {
                break;
            }
            bytes.clear();
        }
        let _ = to_server.shutdown().await;
    };
    let back = async {
        let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
        let _ = to_client.shutdown().await;
    };
    tokio::join!(there, back);
}
