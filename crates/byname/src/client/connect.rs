//! Opening a connection to one of a service's addresses.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::net::TcpStream;

use super::service_url::ServiceUrl;
use crate::address::Address;
use crate::transport::{HandshakeRefusal, TlsConnector, TransportStream, connect_unix};

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

/// Connects to the first of the addresses that answers, and says which one that is. With TLS, the handshake is a part of it;
/// `in_handshake` says whether that is what is waited for.
pub(super) async fn connect(
    addresses: Vec<Address>,
    tls: Option<&TlsConnector>,
    in_handshake: &AtomicBool,
) -> io::Result<(Address, TransportStream)> {
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
        let ended = match (ended, tls) {
            (Ok((address, stream)), Some(tls)) => {
                in_handshake.store(true, Ordering::Relaxed);
                let secured = secured(tls, stream).await;
                in_handshake.store(false, Ordering::Relaxed);
                secured.map(|stream| (address, stream))
            }
            (ended, _) => ended,
        };
        match ended {
            Ok(connected) => return Ok(connected),
            // That a server was refused says more than that another was not there.
            Err(_) if HandshakeRefusal::of(&last).is_some() => {}
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

/// What was waited for in vain.
pub(super) fn missing(in_handshake: &AtomicBool) -> &'static str {
    if in_handshake.load(Ordering::Relaxed) { "the TLS handshake did not finish" } else { "no answer" }
}

async fn secured(tls: &TlsConnector, stream: TransportStream) -> io::Result<TransportStream> {
    match stream {
        TransportStream::Tcp(socket) => tls.connect(socket).await,
        // A client with TLS has no unix socket among its addresses.
        TransportStream::Tls(_) | TransportStream::Unix(_) => Ok(stream),
    }
}

async fn open(address: Address) -> io::Result<(Address, TransportStream)> {
    let stream = match &address {
        Address::Tcp(socket_addr) => {
            let stream = TcpStream::connect(socket_addr).await?;
            stream.set_nodelay(true)?;
            TransportStream::from(stream)
        }
        Address::Unix(Some(path)) => connect_unix(path).await?.into(),
        Address::Ip(_) | Address::Unix(None) => {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the address has no path or port"));
        }
    };
    Ok((address, stream))
}
