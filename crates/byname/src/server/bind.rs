//! From an address as a user writes it to listeners: [`bind`].

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket};

use super::unix_socket::UnixSocket;
use crate::address::{Address, is_path, unix_path};
use crate::error::{Code, Error};
use crate::simulated_world::{self, is_simulated};
use crate::transport::{GivenUnixListener, PathListener, TransportListener};
use crate::untrusted_text::quoted;

/// Connections that may wait to be accepted. The usual 128 is too small for two clients that start together, and a
/// rejected client tries again only after a second.
const BACKLOG: u32 = 1024;

/// What [`Listen`](super::Listen) was made of.
#[derive(Debug)]
#[cfg_attr(not(unix), allow(dead_code, reason = "only unix has these sockets"))]
pub(super) enum ListenAddress {
    Name(String),
    Address(SocketAddr),
    Std(std::net::TcpListener),
    Tokio(TcpListener),
    Unix(UnixSocket),
    StdUnix(GivenUnixListener),
    HandedOver(Result<HandedOver, Error>),
}

/// Sockets that the process was started with.
#[derive(Debug)]
pub(super) struct HandedOver {
    pub(super) tcp: Vec<std::net::TcpListener>,
    pub(super) unix: Vec<GivenUnixListener>,
}

/// What a server listens at: at least one listener.
#[derive(Debug)]
pub(super) struct BoundListeners {
    pub(super) listeners: Vec<TransportListener>,
    /// The sockets stay open when this process ends: connections that it has not accepted are for the next one.
    pub(super) are_kept_open: bool,
}

pub(super) async fn bind(at: ListenAddress) -> Result<BoundListeners, Error> {
    let are_kept_open = matches!(at, ListenAddress::HandedOver(_));
    Ok(BoundListeners { listeners: listeners(at).await?, are_kept_open })
}

async fn listeners(at: ListenAddress) -> Result<Vec<TransportListener>, Error> {
    if is_simulated() {
        return simulated(at);
    }
    match at {
        ListenAddress::Name(name) => match unix_path(&name) {
            Some(Ok(path)) => listen_at_path(&UnixSocket::at(path)),
            Some(Err(why)) => {
                let why = format!(
                    "can't listen at {}: {why}; expected unix:/path, such as unix:/run/orders.sock",
                    quoted(&name)
                );
                Err(Error::refused(Code::InvalidArgument, why))
            }
            None => Ok(named(&name).await?.into_iter().map(TransportListener::from).collect()),
        },
        ListenAddress::Address(address) => match listen_at(address) {
            Ok(listener) => Ok(vec![listener.into()]),
            Err(why) => Err(cannot_listen(&quoted(&address.to_string()), why)),
        },
        ListenAddress::Std(listener) => given_tcp(listener).map(|listener| vec![listener]),
        ListenAddress::Tokio(listener) => {
            check_listens(SockRef::from(&listener))?;
            Ok(vec![listener.into()])
        }
        ListenAddress::Unix(socket) => listen_at_path(&socket),
        ListenAddress::StdUnix(listener) => given_unix(listener).map(|listener| vec![listener]),
        ListenAddress::HandedOver(handed_over) => {
            let HandedOver { tcp, unix } = handed_over?;
            tcp.into_iter().map(given_tcp).chain(unix.into_iter().map(given_unix)).collect()
        }
    }
}

/// Listens on the machine of the simulation whose code runs.
fn simulated(at: ListenAddress) -> Result<Vec<TransportListener>, Error> {
    let (shown, host, port) = match &at {
        ListenAddress::Name(name) if unix_path(name).is_none() => {
            let (host, port) = host_and_port(name)?;
            (name.clone(), host.trim_start_matches('[').trim_end_matches(']').to_owned(), port)
        }
        ListenAddress::Address(address) => (address.to_string(), address.ip().to_string(), address.port()),
        _ => {
            let why = "can't listen there in a simulation, which has no sockets of this system; listen at host:port";
            return Err(Error::refused(Code::FailedPrecondition, why));
        }
    };
    let listener = simulated_world::listen(&host, port).map_err(|why| cannot_listen(&quoted(&shown), why))?;
    Ok(vec![listener.into()])
}

fn given_tcp(listener: std::net::TcpListener) -> Result<TransportListener, Error> {
    check_listens(SockRef::from(&listener))?;
    let listener = listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener));
    listener.map(TransportListener::from).map_err(|why| cannot_listen("the given listener", why))
}

fn given_unix(listener: GivenUnixListener) -> Result<TransportListener, Error> {
    #[cfg(unix)]
    check_listens(SockRef::from(&listener))?;
    let listener = PathListener::given(listener).map(TransportListener::from);
    listener.map_err(|why| cannot_listen("the given listener", why))
}

/// Rejects a socket on which `listen` was not called. `accept` would always fail there.
fn check_listens(socket: SockRef<'_>) -> Result<(), Error> {
    if accepts_connections(&socket) {
        return Ok(());
    }
    let why = "can't listen at the given listener: its socket does not listen; call `listen` on the socket before";
    Err(Error::refused(Code::FailedPrecondition, why))
}

/// Whether a socket listens. A system that can't say gets the benefit of the doubt.
pub(super) fn accepts_connections(socket: &SockRef<'_>) -> bool {
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    return socket.is_listener().unwrap_or(true);
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    return socket.local_addr().is_ok();
}

fn listen_at_path(socket: &UnixSocket) -> Result<Vec<TransportListener>, Error> {
    let path = &socket.path;
    if let Some(meant) = path.to_str().and_then(|path| path.strip_prefix("unix:")) {
        let (path, meant) = (quoted(&path.to_string_lossy()), quoted(meant));
        let why = format!("can't listen at {path}: `Listen::unix` takes the path alone; write {meant}");
        return Err(Error::refused(Code::InvalidArgument, why));
    }
    let bound = PathListener::bind(path, socket.mode, BACKLOG).map_err(|why| {
        let address = Address::Unix(Some(Arc::clone(path))).to_string();
        Error::refused(Code::Unavailable, format!("can't listen at {}: {why}", quoted(&address)))
    })?;
    Ok(vec![bound.into()])
}

/// Binds both addresses of `localhost`, or the first address of any other name that can be bound. If a name has several
/// addresses, the user must choose the one that others may reach.
async fn named(name: &str) -> Result<Vec<TcpListener>, Error> {
    let (host, port) = host_and_port(name)?;
    if host.eq_ignore_ascii_case("localhost") {
        return localhost(port);
    }
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let unknown = |why: io::Error| cannot_listen(&quoted(name), io::Error::new(io::ErrorKind::NotFound, why));
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in tokio::net::lookup_host((host, port)).await.map_err(unknown)? {
        match listen_at(address) {
            Ok(listener) => return Ok(vec![listener]),
            Err(why) => last = why,
        }
    }
    Err(cannot_listen(&quoted(name), last))
}

/// The parts of an address, or the expected form.
fn host_and_port(name: &str) -> Result<(&str, u16), Error> {
    let refuse = |why: String| {
        let why = format!("can't listen at {}: {why}", quoted(name));
        Err(Error::refused(Code::InvalidArgument, why))
    };
    let is_port = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let only_port = name.strip_prefix(':').unwrap_or(name);
    if is_port(only_port) {
        let why = format!(
            "it has no address; expected 127.0.0.1:{only_port} for callers on this machine, or 0.0.0.0:{only_port} for all"
        );
        return refuse(why);
    }
    const EXPECTED: &str = "expected host:port, such as 127.0.0.1:8080";
    if name.contains("://") {
        return refuse(format!("it has a scheme; {EXPECTED}"));
    }
    if is_path(name) {
        return refuse(format!(
            "it is a path; for a unix socket write {}, otherwise host:port",
            quoted(&format!("unix:{name}"))
        ));
    }
    if name.contains('/') {
        return refuse(format!("it has a path, which `Server::endpoint` sets; {EXPECTED}"));
    }
    if name.contains(char::is_whitespace) {
        return refuse(format!("it has a space; {EXPECTED}"));
    }
    let (host, port) = match name.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => return refuse(format!("it has no port; {EXPECTED}")),
    };
    if host.is_empty() {
        return refuse(format!("it has no host; {EXPECTED}"));
    }
    if host.contains(':') && !host.starts_with('[') {
        return refuse("an IPv6 address must be in brackets; expected [address]:port, such as [::1]:8080".to_owned());
    }
    match port.parse() {
        Ok(port) if is_port(name.rsplit(':').next().unwrap_or_default()) => Ok((host, port)),
        _ => refuse(format!("its port is not a number up to 65535; {EXPECTED}")),
    }
}

/// How many free ports of 127.0.0.1 are tried until one is free at `[::1]` too.
const TRIES: usize = 16;

/// Binds 127.0.0.1 and `[::1]`, on the same port. Clients may try either first.
fn localhost(port: u16) -> Result<Vec<TcpListener>, Error> {
    let mut tries = 0;
    loop {
        tries += 1;
        let mut listeners: Vec<TcpListener> = Vec::new();
        let mut missing = None;
        for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            let taken = listeners.first().and_then(|first| first.local_addr().ok());
            let address = SocketAddr::new(ip, taken.map_or(port, |taken| taken.port()));
            match listen_at(address) {
                Ok(listener) => listeners.push(listener),
                // The address does not exist, for example because IPv6 is switched off.
                Err(why) if !is_refusal(&why) => missing = Some((address, why)),
                Err(_) if port == 0 && taken.is_some() && tries < TRIES => {
                    listeners.clear();
                    break;
                }
                Err(why) => return Err(cannot_listen(&quoted(&address.to_string()), why)),
            }
        }
        match missing {
            _ if !listeners.is_empty() => return Ok(listeners),
            Some((address, why)) => return Err(cannot_listen(&quoted(&address.to_string()), why)),
            None => {}
        }
    }
}

/// Whether an address exists but can't be bound.
fn is_refusal(why: &io::Error) -> bool {
    matches!(why.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied)
}

fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A server that restarts must not wait for its old sockets in TIME_WAIT.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

pub(super) fn cannot_listen(at: &str, why: io::Error) -> Error {
    let hint = match why.kind() {
        io::ErrorKind::AddrInUse => "; another process uses the port; port 0 chooses a free one",
        io::ErrorKind::NotFound | io::ErrorKind::AddrNotAvailable => {
            "; expected host:port of this machine, such as 127.0.0.1:8080"
        }
        io::ErrorKind::PermissionDenied => "; ports below 1024 are the superuser's",
        _ => "",
    };
    Error::refused(Code::Unavailable, format!("can't listen at {at}: {why}{hint}"))
}
