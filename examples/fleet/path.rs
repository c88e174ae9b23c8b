//! The network between the caller and one replica: a proxy that can become a black hole.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub struct NetworkPath {
    pub address: SocketAddr,
    /// Whether bytes pass.
    passes: watch::Sender<bool>,
}

impl NetworkPath {
    pub async fn open(to: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (passes, gate) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, to, gate.clone()));
            }
        });
        Ok(Self { address, passes })
    }

    /// Nothing passes any more, and nobody is told.
    pub fn swallow(&self) {
        self.passes.send_replace(false);
    }

    pub fn pass(&self) {
        self.passes.send_replace(true);
    }
}

async fn carry(near: TcpStream, to: SocketAddr, mut gate: watch::Receiver<bool>) {
    if gate.wait_for(|passes| *passes).await.is_err() {
        return;
    }
    // A replica that is not there refuses: its caller sees the end of the connection.
    let Ok(far) = TcpStream::connect(to).await else { return };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let ((near_reads, near_writes), (far_reads, far_writes)) = (near.into_split(), far.into_split());
    // An end on one side is the end of both, as at a replica that was killed.
    tokio::select! {
        () = copy(near_reads, far_writes, gate.clone()) => {}
        () = copy(far_reads, near_writes, gate) => {}
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut gate: watch::Receiver<bool>) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if gate.wait_for(|passes| *passes).await.is_err() || to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
