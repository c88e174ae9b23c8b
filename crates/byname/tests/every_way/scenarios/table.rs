//! The scenarios over everything that a connection can be made of, in every protocol, at an own listener and mounted in an
//! application. `cargo test --test every_way every_way_in -- --nocapture` prints the table.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use byname::{Address, Client, ClientBuilder, Codec, Next, Request, Server, Transport};
use serde_json::Value;
use tokio::net::{TcpStream, UnixStream};

use super::{scenarios, through_client, through_http2};
#[cfg(feature = "tls")]
use crate::harness::TlsMounted;
#[cfg(feature = "tls")]
use crate::harness::tls::{Authority, client_config, connect, server_tls, trusting};
use crate::harness::unix::{TemporaryDirectory, UnixRunning};
use crate::harness::{Mounted, Running, Served, UnixMounted, everything, within};

/// What connections are made of. Another one needs an entry here, in [`Hosted::new`] and in [`Hosted::through_http2`].
#[derive(Clone, Copy, Debug)]
enum Socket {
    Tcp,
    #[cfg(feature = "tls")]
    Tls,
    Unix,
}

const SOCKETS: &[Socket] = &[
    Socket::Tcp,
    #[cfg(feature = "tls")]
    Socket::Tls,
    Socket::Unix,
];

#[derive(Clone, Copy)]
enum Protocol {
    Http1,
    Http2,
    Frames(Codec),
}

const PROTOCOLS: [Protocol; 4] =
    [Protocol::Http1, Protocol::Http2, Protocol::Frames(Codec::Json), Protocol::Frames(Codec::MessagePack)];

#[derive(Clone, Copy, Debug)]
enum Host {
    OwnListener,
    Mounted,
}

const HOSTS: [Host; 2] = [Host::OwnListener, Host::Mounted];

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "TCP",
            #[cfg(feature = "tls")]
            Self::Tls => "TLS",
            Self::Unix => "unix",
        })
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
            Self::Frames(Codec::Json) => "frames, JSON",
            Self::Frames(_) => "frames, MessagePack",
        })
    }
}

/// A server of one socket at one host.
struct Hosted {
    socket: Socket,
    builder: ClientBuilder,
    /// Where a client of HTTP/2 connects.
    address: Address,
    /// What such a client calls, without `/rpc`.
    base: String,
    #[cfg(feature = "tls")]
    authority: Authority,
    /// Serves until it is dropped.
    _running: Box<dyn Any>,
}

impl Hosted {
    async fn new(socket: Socket, host: Host, server: Server) -> Self {
        let mount = match host {
            Host::OwnListener => "",
            Host::Mounted => "/api",
        };
        #[cfg(feature = "tls")]
        let authority = Authority::new("the authority of the table");
        #[cfg(feature = "tls")]
        let signed = || authority.sign(&["127.0.0.1"]);
        let (address, running): (Address, Box<dyn Any>) = match (socket, host) {
            (Socket::Tcp, Host::OwnListener) => {
                let running = Running::new(server).await;
                (running.address(), Box::new(running))
            }
            (Socket::Unix, Host::OwnListener) => {
                let running = UnixRunning::new(server).await;
                (running.address(), Box::new(running))
            }
            #[cfg(feature = "tls")]
            (Socket::Tls, Host::OwnListener) => {
                let running = Running::new(server.tls(server_tls(&signed()))).await;
                (running.address(), Box::new(running))
            }
            #[cfg(feature = "tls")]
            (Socket::Tls, Host::Mounted) => {
                let mounted = TlsMounted::new(server, &signed());
                (mounted.address.into(), Box::new(mounted))
            }
            (Socket::Tcp, Host::Mounted) => {
                let mounted = Mounted::new(server).await;
                (mounted.address.into(), Box::new(mounted))
            }
            (Socket::Unix, Host::Mounted) => {
                let directory = TemporaryDirectory::new();
                let path = directory.path().join("app.sock");
                let mounted = UnixMounted::new(server, &path);
                (Address::Unix(Some(path.into())), Box::new((mounted, directory)))
            }
        };
        let (builder, base) = match socket {
            Socket::Tcp => (Client::builder(format!("{address}{mount}/rpc")), format!("http://{address}{mount}")),
            #[cfg(feature = "tls")]
            Socket::Tls => {
                let builder = Client::builder(format!("https://{address}{mount}/rpc")).tls(trusting(&authority));
                (builder, format!("https://{address}{mount}"))
            }
            Socket::Unix => {
                let builder = Client::builder(address.to_string()).endpoint(&format!("{mount}/rpc"));
                (builder, format!("http://localhost{mount}"))
            }
        };
        Self {
            socket,
            builder,
            address,
            base,
            #[cfg(feature = "tls")]
            authority,
            _running: running,
        }
    }

    fn client(&self, transport: Transport, codec: Codec) -> Client {
        self.builder.clone().transport(transport).codec(codec).build().unwrap()
    }

    async fn through_http2(&self, face: &str) {
        match self.socket {
            Socket::Tcp => {
                let stream = TcpStream::connect(self.address.socket_addr().unwrap()).await.unwrap();
                through_http2(&self.base, face, stream).await;
            }
            #[cfg(feature = "tls")]
            Socket::Tls => {
                let config = client_config(&self.authority, &["h2", "http/1.1"]);
                let stream = connect(self.address.socket_addr().unwrap(), config).await.unwrap();
                assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
                through_http2(&self.base, face, stream).await;
            }
            Socket::Unix => {
                let stream = UnixStream::connect(self.address.path().unwrap()).await.unwrap();
                through_http2(&self.base, face, stream).await;
            }
        }
    }
}

/// Runs the scenarios, and returns how many calls the server has got, and how many of them by frames.
async fn run(socket: Socket, protocol: Protocol, host: Host) -> [usize; 2] {
    let seen = Arc::new([const { AtomicUsize::new(0) }; 2]);
    let counted = Arc::clone(&seen);
    let server = everything().listing(true).frames(true).intercept(move |request: Request, next: Next| {
        counted[0].fetch_add(1, Ordering::Relaxed);
        // A call by frames has no header of HTTP.
        let is_by_frames = request.header("host").is_none();
        counted[1].fetch_add(is_by_frames.into(), Ordering::Relaxed);
        next.run(request)
    });
    let seen = || [0, 1].map(|at| seen[at].load(Ordering::Relaxed));
    let hosted = Hosted::new(socket, host, server).await;
    let face = format!("{protocol} over {socket}, {host:?}");
    let mut before = seen();
    match protocol {
        Protocol::Http1 => {
            let client = hosted.client(Transport::Http, Codec::Json);
            client.call::<Value>("nothing", ()).await.unwrap(); // from here on the path way is known
            before = seen();
            through_client(&face, &client).await;
        }
        Protocol::Http2 => hosted.through_http2(&face).await,
        Protocol::Frames(codec) => {
            let client = hosted.client(Transport::Frames, codec);
            within(async {
                while seen()[1] == 0 {
                    client.call::<Value>("nothing", ()).await.unwrap();
                    tokio::task::yield_now().await;
                }
            })
            .await;
            before = seen();
            through_client(&face, &client).await;
        }
    }
    let after = seen();
    [after[0] - before[0], after[1] - before[1]]
}

#[tokio::test]
async fn every_way_in() {
    println!(
        "| socket | protocol            | own listener | mounted  |\n| ------ | ------------------- | ------------ | -------- |"
    );
    for &socket in SOCKETS {
        for protocol in PROTOCOLS {
            let mut row = format!("| {socket:<6} | {protocol:<19} |");
            for (host, width) in HOSTS.into_iter().zip([12, 8]) {
                let [calls, by_frames] = run(socket, protocol, host).await;
                let all = scenarios().len();
                match protocol {
                    Protocol::Frames(_) => assert_eq!((calls, by_frames), (all, all), "{protocol}, {host:?}"),
                    Protocol::Http1 => assert_eq!((calls, by_frames), (all, 0), "{protocol}, {host:?}"),
                    // Plain, by path and JSON-RPC; the last two can't carry arguments by position and by name at once.
                    Protocol::Http2 => assert!(calls > 2 * all, "{protocol}, {host:?}: {calls}"),
                }
                row += &format!(" {:<width$} |", format!("{calls} calls"));
            }
            println!("{row}");
        }
    }
}
