//! Opening a connection to one of a service's addresses.

use std::io;

use tokio::net::TcpStream;

use super::service_target::ServiceTarget;
use crate::address::Address;
use crate::simulated_world::{self, is_simulated};
use crate::transport::{AttemptProgress, ConnectStep, TlsConnector, TransportStream, connect_unix};

/// The addresses of a service now.
pub(super) async fn addresses(target: &ServiceTarget) -> io::Result<Vec<Address>> {
    Ok(target.answer().await?.addresses())
}

/// Discovery has dropped an address since a connection to it began.
pub(super) fn no_replica() -> io::Error {
    io::Error::other("it is no replica any more")
}

/// Connects to an address. With TLS, the handshake is a part of it.
pub(super) async fn connect(
    address: &Address,
    tls: Option<&TlsConnector>,
    progress: &AttemptProgress,
) -> io::Result<TransportStream> {
    if is_simulated() {
        return match (address, tls) {
            (Address::Tcp(address), None) => Ok(simulated_world::connect(*address).await?.into()),
            _ => Err(io::Error::other("a simulation has neither TLS nor unix sockets; use host:port there")),
        };
    }
    match (open(address).await?, tls) {
        (TransportStream::Tcp(socket), Some(tls)) => {
            progress.moved(ConnectStep::Securing);
            tls.connect(socket).await
        }
        (stream, None) => Ok(stream),
        (_, Some(_)) => Err(io::Error::other("a client with TLS has a unix socket, which is a defect of byname")),
    }
}

async fn open(address: &Address) -> io::Result<TransportStream> {
    match address {
        Address::Tcp(socket_addr) => {
            let stream = TcpStream::connect(socket_addr).await?;
            stream.set_nodelay(true)?;
            Ok(stream.into())
        }
        Address::Unix(Some(path)) => Ok(connect_unix(path).await?.into()),
        Address::Ip(_) | Address::Unix(None) => {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "the address has no path or port"))
        }
    }
}
