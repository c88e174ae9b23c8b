//! Opening a connection to one of a service's addresses.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::net::TcpStream;

use super::service_url::ServiceUrl;
use crate::address::Address;
use crate::transport::{TransportStream, connect_unix};

/// How long an address may take before the next is tried beside it (RFC 8305's connection attempt delay).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// The addresses of a service: the given ones, or those of its name.
pub(super) async fn addresses(target: &ServiceUrl) -> io::Result<Vec<Address>> {
    if !target.addresses.is_empty() {
        return Ok(target.addresses.clone());
    }
    if let Ok(address) = target.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, target.port).into()]);
    }
    let found = tokio::net::lookup_host((target.host.as_str(), target.port)).await;
    Ok(found.map_err(|why| io::Error::new(io::ErrorKind::NotFound, why))?.map(Address::from).collect())
}

/// Connects to the first of the addresses that answers, and says which one that is.
pub(super) async fn connect(addresses: Vec<Address>) -> io::Result<(Address, TransportStream)> {
    let mut addresses = addresses.into_iter();
    let mut attempts = Vec::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        match addresses.next() {
            Some(address) => attempts.push(Box::pin(open(address))),
            None if attempts.is_empty() => return Err(last),
            None => {}
        }
        let ended = if addresses.len() == 0 {
            first(&mut attempts).await
        } else {
            match tokio::time::timeout(NEXT_ADDRESS, first(&mut attempts)).await {
                Ok(ended) => ended,
                Err(_) => continue,
            }
        };
        match ended {
            Ok(connected) => return Ok(connected),
            Err(why) => last = why,
        }
    }
}

/// The output of the first attempt that ends. The others stay.
async fn first<F: Future + Unpin>(attempts: &mut Vec<F>) -> F::Output {
    poll_fn(|cx| {
        for at in 0..attempts.len() {
            if let Poll::Ready(output) = Pin::new(&mut attempts[at]).poll(cx) {
                attempts.swap_remove(at);
                return Poll::Ready(output);
            }
        }
        Poll::Pending
    })
    .await
}

async fn open(address: Address) -> io::Result<(Address, TransportStream)> {
    let stream = match &address {
        Address::Tcp(socket_addr) => {
            let stream = TcpStream::connect(socket_addr).await?;
            stream.set_nodelay(true)?;
            TransportStream::from(stream)
        }
        Address::Unix(Some(path)) => connect_unix(path).await?.into(),
        Address::Unix(None) => return Err(io::Error::new(io::ErrorKind::InvalidInput, "the address has no path")),
    };
    Ok((address, stream))
}
