//! Opening a TCP connection to one of a name's addresses.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::target::Target;

/// How long an address may take before the next is tried beside it (RFC 8305's connection attempt delay).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// Connects to the first address that answers.
pub(super) async fn connect(target: &Target) -> io::Result<TcpStream> {
    if let Ok(address) = target.host.parse::<IpAddr>() {
        return open(SocketAddr::new(address, target.port)).await;
    }
    let mut addresses = tokio::net::lookup_host((target.host.as_str(), target.port)).await?;
    let mut attempts = JoinSet::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        match addresses.next() {
            Some(address) => {
                attempts.spawn(open(address));
            }
            None if attempts.is_empty() => return Err(last),
            None => {}
        }
        let ended = if addresses.size_hint().0 == 0 {
            attempts.join_next().await
        } else {
            match tokio::time::timeout(NEXT_ADDRESS, attempts.join_next()).await {
                Ok(ended) => ended,
                Err(_) => continue,
            }
        };
        match ended {
            Some(Ok(Ok(stream))) => return Ok(stream),
            Some(Ok(Err(why))) => last = why,
            Some(Err(_)) | None => {}
        }
    }
}

async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
