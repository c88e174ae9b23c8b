//! Servers at unix sockets, in directories that are removed.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use byname::{Address, Client, Error, Listen, Server, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{Served, log, within};

/// A directory of this test alone. It is removed when this is dropped.
pub struct TemporaryDirectory(PathBuf);

impl TemporaryDirectory {
    pub fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("byname-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        // Left by a process of the same number.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The names of what is in it, in order.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server at a unix socket that runs until it is dropped or stopped.
pub struct UnixRunning {
    address: Address,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), Error>>,
    _directory: Option<TemporaryDirectory>,
}

impl Served for UnixRunning {
    fn address(&self) -> Address {
        self.address.clone()
    }
}

impl UnixRunning {
    /// In a directory of its own.
    pub async fn new(server: Server) -> Self {
        let directory = TemporaryDirectory::new();
        let path = directory.path().join("orders.sock");
        let mut running = Self::at(server, format!("unix:{}", path.display())).await;
        running._directory = Some(directory);
        running
    }

    pub async fn at(server: Server, at: impl Into<Listen>) -> Self {
        log::begin();
        let (stop, stopped) = oneshot::channel();
        let until = async {
            let _ = stopped.await;
        };
        let bound = server.serve(at).until(until).bind().await.unwrap();
        let address = bound.local_addr();
        assert!(address.path().is_some(), "a server at a unix socket: {address}");
        Self { address, stop: Some(stop), task: tokio::spawn(bound.into_future()), _directory: None }
    }

    pub fn path(&self) -> &Path {
        self.address.path().unwrap()
    }

    /// A client that stays with HTTP.
    pub fn client(&self) -> Client {
        self.client_by(Transport::Http)
    }

    pub fn client_by(&self, transport: Transport) -> Client {
        Client::builder(self.address.to_string()).transport(transport).build().unwrap()
    }

    /// Sends bytes on a new connection and gives what comes until the server closes.
    pub async fn raw(&self, request: &str) -> String {
        let mut stream = UnixStream::connect(self.path()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        within(stream.read_to_string(&mut answer)).await.unwrap();
        answer
    }

    /// Tells it to stop.
    pub fn stop(&mut self) {
        drop(self.stop.take());
    }

    /// Its result, once it has stopped.
    pub async fn stopped(mut self) -> Result<(), Error> {
        self.stop();
        (&mut self.task).await.unwrap()
    }
}

impl Drop for UnixRunning {
    fn drop(&mut self) {
        self.task.abort();
    }
}
