//! Who the caller is behind a proxy: by a header of the proxy's, and by the PROXY protocol. Who may say it, and who may not.
//!
//! `tests/deployment/proxies.rs` has the same with real proxies.

use std::net::SocketAddr;
use std::time::Duration;

use crate::harness::frames::{self, DATA, END_HEADERS, HEADERS, Http2};
use crate::harness::{Caller, Log, Running, add, get, peer, post, post_with, raw, within};
use byname::{Context, Listen, Next, ProxyHeader, Request, Server, Transport, rpc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The caller, and whether the connection is another's.
#[rpc(readonly)]
fn who() -> (String, bool) {
    let context = Context::current().unwrap();
    let peer = context.peer().unwrap();
    (peer.address.to_string(), peer.address != peer.connection)
}

fn functions() -> Server {
    Server::new().method::<who>().method::<add>()
}

const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "10.0.0.0/8"];

/// A server that trusts this machine.
async fn trusting(header: ProxyHeader) -> Running {
    Running::new(functions().trust_proxy(LOOPBACK, header)).await
}

/// A server that takes the PROXY protocol from these networks.
async fn introduced<const N: usize>(server: Server, networks: [&str; N]) -> Running {
    Running::at(server, Listen::from("127.0.0.1:0").proxy_protocol(networks)).await
}

fn said(client: &str) -> String {
    format!("[\"{client}\",true]")
}

/// The connection of this caller, which nobody speaks for.
fn itself(caller: &Caller) -> String {
    format!("[\"{}\",false]", caller.stream.local_addr().unwrap())
}

#[tokio::test]
async fn each_request_of_a_connection_has_the_client_that_the_proxy_names() {
    let running = trusting(ProxyHeader::XForwardedFor).await;
    let mut caller = Caller::to(running.address).await;
    for (lines, client) in [
        ("x-forwarded-for: 203.0.113.7\r\n", "203.0.113.7"),
        ("x-forwarded-for: 203.0.113.8:4711\r\n", "203.0.113.8:4711"),
        ("X-Forwarded-For: 1.1.1.1, 2001:db8::1,10.0.0.2\r\n", "2001:db8::1"),
        ("x-forwarded-for: 1.1.1.1\r\nx-forwarded-for: 203.0.113.7\r\nx-forwarded-for: 10.0.0.2\r\n", "203.0.113.7"),
        ("x-forwarded-for: garbage, 203.0.113.7\r\nforwarded: for=1.1.1.1\r\nx-real-ip: 1.1.1.1\r\n", "203.0.113.7"),
    ] {
        for request in [
            post_with("/rpc/who", lines, "[]"),
            post_with("/rpc", lines, r#"{"jsonrpc":"2.0","method":"who","id":1}"#),
            post_with("/rpc", lines, r#"{"fun":"who"}"#),
        ] {
            let answer = caller.ask(request).await;
            assert!(answer.body.contains(&said(client)), "{lines:?}: {answer:?}");
        }
    }
    let connection = itself(&caller);
    assert_eq!(caller.ask(post("/rpc/who", "[]")).await.body, connection, "nothing is kept for the next request");
}

#[tokio::test]
async fn forwarded_is_read_if_it_is_chosen() {
    let running = trusting(ProxyHeader::Forwarded).await;
    let mut caller = Caller::to(running.address).await;
    let lines = "forwarded: for=\"1.1.1.1\r\nForwarded: For=\"[2001:db8::1]:4711\";proto=https, for=10.0.0.2\r\n\
                 x-forwarded-for: 1.1.1.1\r\n";
    assert_eq!(caller.ask(post_with("/rpc/who", lines, "[]")).await.body, said("[2001:db8::1]:4711"));
    let other = post_with("/rpc/who", "x-forwarded-for: 203.0.113.7\r\n", "[]");
    let connection = itself(&caller);
    assert_eq!(caller.ask(other).await.body, connection);
}

#[tokio::test]
async fn each_request_of_http2_has_its_own_client() {
    let running = trusting(ProxyHeader::XForwardedFor).await;
    let mut http2 = Http2::to(running.address, &[]).await;
    for (stream, client) in [(1, "203.0.113.7"), (3, "203.0.113.8"), (5, "2001:db8::1")] {
        let fields = [frames::fields("POST", "/rpc/who"), frames::field("x-forwarded-for", client)].concat();
        http2.send(frames::frame(HEADERS, END_HEADERS, stream, &fields)).await;
        http2.send(frames::frame(DATA, frames::END_STREAM, stream, b"[]")).await;
        assert_eq!(String::from_utf8(http2.until(DATA).await.payload).unwrap(), said(client));
    }
}

#[tokio::test]
async fn headers_of_untrusted_callers_are_ignored() {
    let forged = "x-forwarded-for: 203.0.113.7\r\nforwarded: for=203.0.113.7\r\n";
    for server in [
        functions(),
        functions().trust_proxy(["10.0.0.0/8", "::1", "unix"], ProxyHeader::XForwardedFor),
        functions().trust_proxy(["10.0.0.0/8", "::1", "unix"], ProxyHeader::Forwarded),
        functions().trust_proxy(["127.0.0.1"], ProxyHeader::Forwarded).trust_proxy([""; 0], ProxyHeader::Forwarded),
    ] {
        let running = Running::new(server).await;
        let mut caller = Caller::to(running.address).await;
        let connection = itself(&caller);
        assert_eq!(caller.ask(post_with("/rpc/who", forged, "[]")).await.body, connection);
        let request = peer::asking(|headers| headers.push(("x-forwarded-for", "203.0.113.7".into())));
        assert!(!by_frames(running.address, request).await.contains("203.0.113.7"));
    }
}

#[tokio::test]
async fn a_header_from_elsewhere_is_logged_and_a_unix_socket_that_is_not_there_is_a_warning() {
    let mut log = Log::new();
    let running = Running::new(functions().trust_proxy(["10.0.0.0/8", "unix"], ProxyHeader::XForwardedFor)).await;
    let line = log.until("at no unix socket").await;
    assert!(line.starts_with("WARN") && line.contains("`Server::trust_proxy` names `unix`"), "{line}");
    let mut caller = Caller::to(running.address).await;
    let connection = itself(&caller);
    assert_eq!(caller.ask(post("/rpc/who", "[]")).await.body, connection);
    assert!(!log.lines().iter().any(|line| line.contains("ignored `x-forwarded-for`")));
    let forged = "x-forwarded-for: 203.0.113.7\r\n";
    assert_eq!(caller.ask(post_with("/rpc/who", forged, "[]")).await.body, connection);
    let line = log.until("ignored `x-forwarded-for`").await;
    assert!(
        line.starts_with("DEBUG") && line.contains("its sender is in no network of `Server::trust_proxy`"),
        "{line}"
    );
    assert!(line.contains("127.0.0.1"), "{line}");

    let _introduced = introduced(functions(), ["127.0.0.1", "unix"]).await;
    let line = log.until("at no unix socket").await;
    assert!(line.contains("`Listen::proxy_protocol` names `unix`"), "{line}");
    let _plain = Running::new(functions().trust_proxy(["127.0.0.1"], ProxyHeader::XForwardedFor)).await;
    log.until(" at http://").await;
    assert!(!log.lines().iter().any(|line| line.contains("at no unix socket")));
}

#[tokio::test]
async fn a_network_of_all_addresses_is_an_error_at_the_start() {
    for all in ["0.0.0.0/0", "::/0"] {
        let trusting = functions().trust_proxy(["10.0.0.1", all], ProxyHeader::XForwardedFor).serve("127.0.0.1:0");
        let introduced = functions().serve(Listen::from("127.0.0.1:0").proxy_protocol([all]));
        for (server, method) in [(trusting, "Server::trust_proxy"), (introduced, "Listen::proxy_protocol")] {
            let error = server.bind().await.unwrap_err();
            let expected = format!(
                "`{method}`: `{all}` is every address, so each caller could say that it is somebody else; name the networks \
                 of the proxies"
            );
            assert_eq!(error.message(), expected);
        }
    }
}

#[tokio::test]
async fn an_invalid_header_of_a_proxy_is_ignored_and_logged() {
    let mut log = Log::new();
    let running = trusting(ProxyHeader::XForwardedFor).await;
    let mut caller = Caller::to(running.address).await;
    let connection = itself(&caller);
    for wrong in ["unknown", "203.0.113", "203.0.113.7 1.1.1.1", "_hidden", "203.0.113.7:http"] {
        let line = format!("x-forwarded-for: 1.1.1.1, {wrong}, 10.0.0.1\r\n");
        assert_eq!(caller.ask(post_with("/rpc/who", &line, "[]")).await.body, connection);
        let line = log.until("ignored `x-forwarded-for`").await;
        assert!(line.starts_with("DEBUG") && line.contains(&format!("`{wrong}`")), "{line}");
    }
}

/// What `who` says by frames, after this request for them.
async fn by_frames(address: SocketAddr, request: String) -> String {
    calls_by_frames(TcpStream::connect(address).await.unwrap(), request).await
}

async fn calls_by_frames(stream: TcpStream, request: String) -> String {
    let mut peer = peer::Peer::asking(stream, request).await;
    let hello = peer::frame(peer::HELLO, 0, 0, 0, peer::GREETING);
    peer.say([hello, peer::frame(peer::NAME, 0, 0, 0, "who"), peer::call(0, 1, "[]")].concat()).await;
    let reply = peer.frame().await;
    assert_eq!(reply.kind, peer::REPLY, "{reply:?}");
    String::from_utf8(reply.payload).unwrap()
}

#[tokio::test]
async fn calls_by_frames_are_those_of_the_client_that_asked_for_the_upgrade() {
    let running = trusting(ProxyHeader::XForwardedFor).await;
    let request = peer::asking(|headers| headers.push(("x-forwarded-for", "1.1.1.1, 203.0.113.7, 10.0.0.2".into())));
    assert_eq!(by_frames(running.address, request).await, said("203.0.113.7"));
    assert!(by_frames(running.address, peer::asking(|_| ())).await.ends_with(",false]"));
}

#[tokio::test]
async fn interceptors_and_the_access_log_see_the_client() {
    let mut log = Log::new();
    let only_one = |request: Request, next: Next| async move {
        let ip = request.peer().and_then(|peer| peer.address.ip()).unwrap().to_string();
        if ip == "203.0.113.7" {
            Ok(next.run(request).await)
        } else {
            Err(byname::Error::new(byname::Code::PermissionDenied, ip))
        }
    };
    let server = functions().trust_proxy(LOOPBACK, ProxyHeader::XForwardedFor).intercept(only_one).access_log(true);
    let running = Running::new(server).await;
    for (client, status) in [("203.0.113.7", 200), ("203.0.113.8", 403)] {
        let request = post_with("/rpc/who", &format!("x-forwarded-for: 203.0.113.7, {client}\r\n"), "[]");
        assert_eq!(raw(running.address, request).await.status, status);
        assert_eq!(log.access().await["client.address"], client);
    }
}

#[tokio::test]
async fn a_mounted_server_trusts_the_peer_of_the_outer_server() {
    use axum::Router;
    use axum::extract::ConnectInfo;

    let from_axum = |extensions: &byname::Extensions| Some(extensions.get::<ConnectInfo<SocketAddr>>()?.0);
    for (networks, is_trusted) in [(LOOPBACK, true), (["192.0.2.1", "::1"], false)] {
        let server = functions().trust_proxy(networks, ProxyHeader::XForwardedFor).frames(true);
        let rpc = server.into_service().unwrap();
        let app = Router::new().nest_service("/api", rpc.peer_from(from_axum));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = app.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(axum::serve(listener, app).into_future());
        let mut caller = Caller::to(address).await;
        let expected = if is_trusted { said("203.0.113.7") } else { itself(&caller) };
        let request = post_with("/api/rpc/who", "x-forwarded-for: 1.1.1.1, 203.0.113.7, 10.0.0.2\r\n", "[]");
        assert_eq!(caller.ask(request).await.body, expected);
        let request = peer::asking(|headers| headers.push(("x-forwarded-for", "203.0.113.7".into())));
        let by_frames = by_frames(address, request.replacen("/rpc", "/api/rpc", 1)).await;
        assert_eq!(by_frames == said("203.0.113.7"), is_trusted, "{by_frames}");
    }
}

#[cfg(unix)]
#[rpc(readonly)]
fn who_by_uid() -> (String, Option<u32>) {
    let context = Context::current().unwrap();
    let peer = context.peer().unwrap();
    let uid = peer.identity.as_ref().and_then(|identity| match identity {
        byname::Identity::Unix(process) => Some(process.uid),
        _ => None,
    });
    (peer.address.to_string(), uid)
}

/// The identity is that of the proxy's process. The address is what the proxy says.
#[cfg(unix)]
#[tokio::test]
async fn a_proxy_at_a_unix_socket_is_trusted_by_name_and_keeps_its_identity() {
    use crate::harness::unix::{TemporaryDirectory, UnixRunning};
    use std::os::unix::fs::MetadataExt as _;

    let server = || functions().method::<who_by_uid>();
    let request = "POST /rpc/who_by_uid HTTP/1.1\r\nhost: localhost\r\nx-forwarded-for: 203.0.113.7\r\n\
                   connection: close\r\ncontent-length: 2\r\n\r\n[]";
    for (networks, address) in [(["unix"], "203.0.113.7"), (["127.0.0.1"], "unix:")] {
        let running = UnixRunning::new(server().trust_proxy(networks, ProxyHeader::XForwardedFor)).await;
        let own = std::fs::metadata(running.path()).unwrap().uid();
        let answer = running.raw(request).await;
        assert!(answer.ends_with(&format!("[\"{address}\",{own}]")), "{answer}");
    }
    let directory = TemporaryDirectory::new();
    let socket = Listen::unix(directory.path().join("orders.sock"));
    let running = UnixRunning::at(server(), Listen::from(socket).proxy_protocol(["unix"])).await;
    let own = std::fs::metadata(running.path()).unwrap().uid();
    let answer = running.raw(&format!("PROXY TCP4 203.0.113.8 10.0.0.1 4711 443\r\n{request}")).await;
    assert!(answer.ends_with(&format!("[\"203.0.113.8:4711\",{own}]")), "{answer}");
    let mut stream = tokio::net::UnixStream::connect(running.path()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // The server may close by a reset.
    let _ = within(stream.read_to_end(&mut answer)).await;
    assert!(answer.is_empty(), "the header is required");
}

/// A header of version 2 with the command PROXY, for a client of IPv4.
const BINARY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f\xcb\0\x71\x07\x0a\0\0\x01\x12\x67\x01\xbb\x04\0\0";

#[tokio::test]
async fn a_connection_is_introduced_by_either_version() {
    let running = introduced(functions(), LOOPBACK).await;
    for (header, client) in [
        (&b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 443\r\n"[..], "203.0.113.7:4711"),
        (b"PROXY TCP6 2001:db8::1 fd00::1 4711 443\r\n", "[2001:db8::1]:4711"),
        (BINARY, "203.0.113.7:4711"),
    ] {
        let mut caller = Caller::to(running.address).await;
        caller.send(header).await;
        for _ in 0..2 {
            assert_eq!(caller.ask(post("/rpc/who", "[]")).await.body, said(client));
        }
        // In one piece with what comes after it, and one byte at a time.
        let request = [header, post("/rpc/who", "[]").as_bytes()].concat();
        assert_eq!(raw(running.address, &request).await.body, said(client));
        let mut caller = Caller::to(running.address).await;
        caller.stream.set_nodelay(true).unwrap();
        for byte in &request {
            caller.send([*byte]).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(caller.answer().await.body, said(client));

        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(header).await.unwrap();
        assert_eq!(calls_by_frames(stream, peer::asking(|_| ())).await, said(client));
    }
}

#[tokio::test]
async fn a_proxy_that_speaks_for_itself_is_the_caller() {
    let running = introduced(functions(), LOOPBACK).await;
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0";
    for header in [&local[..], b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN ? ? 1 2\r\n"] {
        let mut caller = Caller::to(running.address).await;
        caller.send(header).await;
        let connection = itself(&caller);
        assert_eq!(caller.ask(post("/rpc/who", "[]")).await.body, connection);
    }
}

#[tokio::test]
async fn a_connection_without_the_header_is_closed() {
    let mut log = Log::new();
    let running = introduced(functions(), LOOPBACK).await;
    for (sent, why) in [
        (post("/rpc/who", "[]"), "it does not begin with a header of the PROXY protocol"),
        ("PROXY TCP4 203.0.113.7 10.0.0.1 4711\r\nx".into(), "version 1, is malformed"),
    ] {
        let mut caller = Caller::to(running.address).await;
        caller.send(sent).await;
        assert_eq!(caller.rest().await, "");
        let line = log.until("closed a connection: ").await;
        assert!(line.starts_with("DEBUG") && line.contains(why), "{line}");
    }
    let mut caller = Caller::to(running.address).await;
    caller.send(&BINARY[..20]).await;
    caller.stream.shutdown().await.unwrap();
    assert_eq!(caller.rest().await, "");
    log.until("it ended within the header of the PROXY protocol").await;
}

#[tokio::test]
async fn a_header_from_an_unlisted_network_is_not_read() {
    let mut log = Log::new();
    let running = introduced(functions(), ["10.0.0.0/8", "::1", "unix"]).await;
    let mut caller = Caller::to(running.address).await;
    caller.send([BINARY, post("/rpc/who", "[]").as_bytes()].concat()).await;
    assert_eq!(caller.rest().await, "");
    let line = log.until("none of the networks of `Listen::proxy_protocol`").await;
    assert!(line.starts_with("DEBUG"), "{line}");
    // Where it is not on, it is never looked for.
    let running = Running::new(functions()).await;
    let answer = raw(running.address, [&b"PROXY UNKNOWN\r\n"[..], get("/rpc/who").as_bytes()].concat()).await;
    assert_eq!(answer.status, 400);
}

#[tokio::test]
async fn a_header_that_takes_too_long_ends_the_connection() {
    let mut log = Log::new();
    let short = functions().limits(|limits| limits.header_read = Duration::from_millis(20));
    let running = introduced(short, LOOPBACK).await;
    for sent in [&b""[..], b"PROXY TCP4 203.0", &BINARY[..20]] {
        let mut caller = Caller::to(running.address).await;
        caller.send(sent).await;
        assert_eq!(caller.rest().await, "");
        log.until("took too long (`Limits::header_read`)").await;
    }
}

/// The proxy is trusted with its header, but the connection is another's, who has written the header.
#[tokio::test]
async fn an_introduced_client_can_not_name_another() {
    let server = functions().trust_proxy(LOOPBACK, ProxyHeader::XForwardedFor);
    let running = introduced(server, LOOPBACK).await;
    let forged = post_with("/rpc/who", "x-forwarded-for: 198.51.100.1\r\n", "[]");
    let introduced = |client: &str| format!("PROXY TCP4 {client} 10.0.0.1 4711 443\r\n{forged}");
    assert_eq!(raw(running.address, introduced("203.0.113.7")).await.body, said("203.0.113.7:4711"));
    // An inner proxy that is trusted itself does.
    assert_eq!(raw(running.address, introduced("10.0.0.2")).await.body, said("198.51.100.1"));
    // A second header is no header: the first has introduced the client.
    let twice = format!("PROXY TCP4 203.0.113.7 10.0.0.1 4711 443\r\n{}", introduced("203.0.113.8"));
    assert_eq!(raw(running.address, twice).await.status, 400);
}

#[tokio::test]
async fn a_server_with_the_proxy_protocol_is_not_private() {
    let running = introduced(functions(), LOOPBACK).await;
    let call = |host: &str, name: &str| {
        format!("PROXY UNKNOWN\r\nPOST /rpc/{name} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 2\r\n\r\n[]")
    };
    assert_eq!(raw(running.address, call("orders.example", "who")).await.status, 200);
    let unknown = raw(running.address, call("orders.example", "whom")).await;
    assert_eq!(unknown.status, 404);
    assert!(!unknown.body.contains("`who`"), "{unknown:?}");
}

#[tokio::test]
async fn a_stopping_server_serves_a_client_whose_header_is_arriving() {
    let mut running = introduced(functions(), LOOPBACK).await;
    let mut caller = Caller::to(running.address).await;
    caller.send(&BINARY[..20]).await;
    // Another call, so that the first connection was accepted.
    assert_eq!(raw(running.address, [BINARY, post("/rpc/add", "[1,2]").as_bytes()].concat()).await.body, "3");
    running.stop();
    let answer = caller.ask([&BINARY[20..], post("/rpc/who", "[]").as_bytes()].concat()).await;
    assert_eq!((answer.body.as_str(), answer.header("connection")), (&*said("203.0.113.7:4711"), "close"));
    within(running.stopped()).await.unwrap();
}

#[tokio::test]
async fn clients_of_byname_call_through_a_proxy_that_introduces_them() {
    let running = introduced(functions(), LOOPBACK).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener.local_addr().unwrap();
    let server = running.address;
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut server = TcpStream::connect(server).await.unwrap();
                server.write_all(BINARY).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    for transport in [Transport::Http, Transport::Frames] {
        let client = byname::Client::builder(proxy.to_string()).transport(transport).build().unwrap();
        for _ in 0..3 {
            assert_eq!(who::on(&client).await.unwrap(), ("203.0.113.7:4711".to_owned(), true));
        }
    }
}
