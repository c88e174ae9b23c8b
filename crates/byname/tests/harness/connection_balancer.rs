//! A balancer of connections: one address for several servers.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use byname::{Client, Transport};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Forwards each connection to the next of its servers. It ends when it is dropped.
pub struct ConnectionBalancer {
    pub address: SocketAddr,
    counts: Arc<Counts>,
    servers: Arc<Mutex<Vec<SocketAddr>>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Counts {
    opened: AtomicUsize,
    open: AtomicUsize,
}

impl ConnectionBalancer {
    pub async fn of(servers: impl IntoIterator<Item = SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let servers = Arc::new(Mutex::new(servers.into_iter().collect::<Vec<_>>()));
        let counts = Arc::<Counts>::default();
        let (chosen, counted) = (Arc::clone(&servers), Arc::clone(&counts));
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let server = {
                    let mut servers = chosen.lock().unwrap();
                    servers.rotate_left(1);
                    *servers.last().unwrap()
                };
                let counted = Arc::clone(&counted);
                counted.opened.fetch_add(1, Ordering::SeqCst);
                counted.open.fetch_add(1, Ordering::SeqCst);
                connections.spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(server).await {
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                    counted.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, counts, servers, task }
    }

    /// Later connections go to these servers.
    pub fn servers_are(&self, servers: impl IntoIterator<Item = SocketAddr>) {
        *self.servers.lock().unwrap() = servers.into_iter().collect();
    }

    /// How many connections were opened.
    pub fn opened(&self) -> usize {
        self.counts.opened.load(Ordering::SeqCst)
    }

    /// How many of them are open.
    pub fn open(&self) -> usize {
        self.counts.open.load(Ordering::SeqCst)
    }

    pub fn client(&self, transport: Transport) -> Client {
        Client::builder(format!("{}/rpc", self.address)).transport(transport).build().unwrap()
    }
}

impl Drop for ConnectionBalancer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
