//! byname: one client that all slots share, or several.

use std::env;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use byname::{Client, ClientBuilder, Context, Listen, Server, rpc};
use bytes::Bytes;
use futures_util::stream::{self, Stream, TryStreamExt};
use tokio::net::TcpListener;

use super::base64::Base64;
use crate::peer::{Caller, Numbers, Peer};
#[cfg(feature = "tls")]
use crate::tls;
use crate::work::{self, User};

pub struct Byname {
    /// What differs from the client's defaults.
    pub client: fn(ClientBuilder) -> ClientBuilder,
    pub by: By,
    pub over: Over,
    /// The slots are dealt out to them; each has a connection of its own.
    pub clients: usize,
}

/// What calls travel by.
#[derive(Clone, Copy, PartialEq)]
pub enum By {
    /// Frames, whose MessagePack has bytes.
    MessagePack,
    JsonFrames,
    Http,
}

/// What its connections are.
#[derive(Clone, Copy, PartialEq)]
pub enum Over {
    Tcp,
    #[cfg(feature = "tls")]
    Tls,
    UnixSocket,
}

/// The socket of a server that was given this port, which is free for no other.
fn socket(server: SocketAddr) -> PathBuf {
    env::temp_dir().join(format!("byname-bench-{}.sock", server.port()))
}

pub struct Calling {
    client: Client,
    by: By,
}

impl Peer for Byname {
    const PACKAGES: &'static [&'static str] = &["byname", "hyper", "serde_json"];
    const STREAMS: bool = true;

    type Caller = Calling;

    async fn serve(&self, listener: TcpListener) -> Result<()> {
        let server = Server::new()
            .method::<add>()
            .method::<record>()
            .method::<payload>()
            .method::<payload_as_text>()
            .method::<numbers>()
            .method::<is_by_frames>();
        match self.over {
            Over::Tcp => Ok(server.serve(listener).await?),
            #[cfg(feature = "tls")]
            Over::Tls => {
                let tls = byname::ServerTls::pem(tls::CERTIFICATE, tls::KEY)?;
                Ok(server.tls(tls).serve(listener).await?)
            }
            Over::UnixSocket => Ok(server.serve(Listen::unix(socket(listener.local_addr()?))).await?),
        }
    }

    async fn connect(&self, server: SocketAddr, slots: usize) -> Result<Vec<Calling>> {
        let url = match self.over {
            Over::Tcp => format!("{server}/rpc"),
            #[cfg(feature = "tls")]
            Over::Tls => format!("https://{server}/rpc"),
            Over::UnixSocket => {
                let path = socket(server);
                // The server has said its port before it listens here.
                while !path.exists() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                format!("unix:{}", path.display())
            }
        };
        let builder = || match self.over {
            #[cfg(feature = "tls")]
            Over::Tls => {
                let tls = byname::ClientTls::new().roots(byname::Pem::text(tls::AUTHORITY))?;
                Ok(Client::builder(&url).tls(tls))
            }
            _ => Ok::<_, byname::Error>(Client::builder(&url)),
        };
        let client = || (self.client)(builder()?).build();
        let clients = (0..self.clients).map(|_| client()).collect::<Result<Vec<_>, _>>()?;
        let dealt = clients.iter().cycle().take(slots);
        Ok(dealt.map(|client| Calling { client: client.clone(), by: self.by }).collect())
    }
}

impl Caller for Calling {
    async fn add(&mut self, a: i64, b: i64) -> Result<i64> {
        Ok(add::on(&self.client, a, b).await?)
    }

    async fn record(&mut self, users: Vec<User>) -> Result<Vec<User>> {
        Ok(record::on(&self.client, users).await?)
    }

    async fn payload(&mut self, bytes: Bytes) -> Result<Bytes> {
        if self.by == By::MessagePack {
            return Ok(payload::on(&self.client, bytes.into()).await?.into());
        }
        let Base64(bytes) = payload_as_text::on(&self.client, Base64(bytes)).await?;
        Ok(bytes)
    }

    async fn numbers(&mut self, from: u64, count: u64) -> Result<impl Numbers> {
        Ok(numbers::on(&self.client, from, count).map_err(Into::into))
    }

    async fn settle(&mut self) -> Result<()> {
        while self.by != By::Http && !is_by_frames::on(&self.client).await? {
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

/// Every request of HTTP says what host it is for.
#[rpc]
async fn is_by_frames() -> bool {
    Context::current().is_some_and(|context| context.header("host").is_none())
}

#[rpc]
async fn add(a: i64, b: i64) -> i64 {
    work::add(a, b)
}

#[rpc]
async fn record(users: Vec<User>) -> Vec<User> {
    work::record(users)
}

#[rpc]
async fn payload(bytes: byname::Bytes) -> byname::Bytes {
    work::payload(bytes.into()).into()
}

/// As the other peers send bytes in JSON.
#[rpc]
async fn payload_as_text(bytes: Base64) -> Base64 {
    Base64(work::payload(bytes.0))
}

#[rpc]
fn numbers(from: u64, count: u64) -> impl Stream<Item = u64> {
    stream::iter(work::numbers(from, count))
}
