//! Certificates of clients: what becomes of a connection when one expires, rules that read them, and identities behind an
//! outer server and behind a proxy that introduces its clients.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::harness::peer::{self, Came, ERROR, GOAWAY, Peer, REPLY, frame};
use crate::harness::tls::{
    Authority, Signed, client_config, connect, connect_on, identified, identified_config, server_config_accepting,
    server_tls, trusting,
};
use crate::harness::{Caller, Gate, Handle, Log, Mounted, Running, add, everything, post, within};
use axum_server::accept::Accept;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use byname::{
    Client, ClientCertificate, Code, Codec, Context, Executed, Identity, Listen, Pem, Request, Server, Transport, rpc,
};
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::server::TlsStream;
use tower_http::add_extension::AddExtension;

const HERE: &[&str] = &["127.0.0.1"];
const BILLING: &str = "spiffe://prod/billing";

/// The SPIFFE ID that the caller has proven, or `none`.
#[rpc(readonly)]
fn proven() -> String {
    let context = Context::current().unwrap();
    context.peer().and_then(byname::Peer::spiffe_id).unwrap_or("none").to_owned()
}

// Certificates that expire.

/// How long the certificate of a client is valid here.
const LIFE: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// How long calls in flight have after that.
const DRAIN: Duration = Duration::from_secs(10);

const EXPIRED: &str = "the certificate of the client has expired";
const EXPIRED_IN_THE_LOG: &str = "the certificate of the client has expired: its connection ends";
const CUT_IN_THE_LOG: &str = "whose calls had not ended 10s (`Limits::drain`) after the certificate of its client";

/// A server that requires certificates, with a function that waits.
struct Expiring {
    servers: Authority,
    clients: Authority,
    running: Running,
    handle: Handle,
    log: Log,
}

impl Expiring {
    async fn new() -> Self {
        let log = Log::new();
        let (servers, clients) = (Authority::new("of servers"), Authority::new("of clients"));
        let tls = server_tls(&servers.sign(HERE)).require_clients(Pem::text(clients.pem())).unwrap();
        let (gate, handle) = Gate::new();
        let server = everything().method::<proven>().inject(gate).tls(tls).limits(|limits| {
            (limits.idle, limits.call, limits.drain) = (DAY, DAY, DRAIN);
        });
        Self { servers, clients, running: Running::new(server).await, handle, log }
    }

    /// A certificate that expires.
    fn signed(&self) -> Signed {
        self.clients.sign_with(&[], |params| params.not_after = (SystemTime::now() + LIFE).into())
    }

    /// A connection of a client with such a certificate.
    async fn connect(&self, protocol: &str) -> tokio_rustls::client::TlsStream<TcpStream> {
        let config = identified_config(&self.servers, &self.signed(), &[protocol]);
        connect(self.running.address, config).await.unwrap()
    }

    async fn by_http1(&self) -> Caller<tokio_rustls::client::TlsStream<TcpStream>> {
        Caller::on(self.connect("http/1.1").await)
    }

    /// A connection of HTTP/2, and how it ends.
    async fn by_http2(&self) -> (http2::SendRequest<Full<Bytes>>, tokio::task::JoinHandle<hyper::Result<()>>) {
        let io = TokioIo::new(self.connect("h2").await);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
        (sender, tokio::spawn(connection))
    }

    /// A connection of frames on which the number 0 is `pass`.
    async fn by_frames(&self) -> Peer<tokio_rustls::client::TlsStream<TcpStream>> {
        let mut caller = Peer::asking(self.connect("http/1.1").await, peer::asking(|_| ())).await;
        let name = frame(peer::NAME, 0, 0, 0, "pass");
        caller.say([frame(peer::HELLO, 0, 0, 0, peer::GREETING), name].concat()).await;
        caller
    }

    /// A client of byname.
    fn client(&self, transport: Transport) -> Client {
        let builder = Client::builder(self.running.https()).transport(transport);
        let builder = builder.limits(|limits| limits.call = DAY);
        builder.tls(identified(&self.servers, &self.signed())).build().unwrap()
    }

    /// Lets the certificates expire, and waits until the server has noticed it.
    async fn expire(&mut self) {
        pass(LIFE).await;
        self.log.until(EXPIRED_IN_THE_LOG).await;
    }

    /// Lets the time for calls in flight pass.
    async fn cut(&mut self) {
        pass(DRAIN).await;
        self.log.until(CUT_IN_THE_LOG).await;
    }
}

async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// A call that waits for a day.
fn call(id: u64) -> Vec<u8> {
    let timeout = u32::try_from(DAY.as_millis()).unwrap().to_be_bytes();
    frame(peer::CALL, 0, 0, id, [&timeout, &b"[]"[..]].concat())
}

fn calling(name: &str, arguments: &'static str) -> hyper::Request<Full<Bytes>> {
    let request = hyper::Request::post(format!("https://127.0.0.1/rpc/{name}"));
    request.body(Full::from(arguments)).unwrap()
}

fn passing() -> hyper::Request<Full<Bytes>> {
    calling("pass", "[]")
}

#[tokio::test]
async fn over_http_1_a_call_is_answered_after_its_certificate_has_expired_and_says_close() {
    let mut server = Expiring::new().await;
    let mut caller = server.by_http1().await;
    caller.send(post("/rpc/pass", "[]")).await;
    within(&mut server.handle.started).await.unwrap();
    server.expire().await;
    server.handle.release.send(()).unwrap();
    let answer = caller.answer().await;
    assert_eq!((answer.status, answer.body.as_str(), answer.header("connection")), (200, "true", "close"));
    assert_eq!(caller.rest().await, "", "the answer has announced the end");
}

#[tokio::test]
async fn over_http_2_a_call_is_answered_after_its_certificate_has_expired_and_the_connection_ends() {
    let mut server = Expiring::new().await;
    let (mut sender, connection) = server.by_http2().await;
    let answer = tokio::spawn(sender.send_request(passing()));
    within(&mut server.handle.started).await.unwrap();
    server.expire().await;
    server.handle.release.send(()).unwrap();
    let answer = within(answer).await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "true");
    within(connection).await.unwrap().expect("GOAWAY without an error");
    assert!(sender.send_request(passing()).await.is_err(), "no further call is accepted");
}

#[tokio::test]
async fn by_frames_a_call_is_answered_after_its_certificate_has_expired_and_goaway_says_why() {
    let mut server = Expiring::new().await;
    let mut caller = server.by_frames().await;
    caller.say(call(1)).await;
    within(&mut server.handle.started).await.unwrap();
    server.expire().await;
    let goaway = caller.frame().await;
    assert_eq!((goaway.kind, goaway.id, str::from_utf8(&goaway.payload)), (GOAWAY, 1, Ok(EXPIRED)));
    caller.say(call(2)).await;
    let refused = caller.frame().await;
    assert_eq!((refused.kind, refused.id), (ERROR, 2));
    let expected = format!("the server accepts no further calls on this connection: {EXPIRED}; this call was not run");
    let error = refused.error();
    assert_eq!((&error["message"], &error["executed"]), (&expected.into(), &"no".into()), "{error}");
    server.handle.release.send(()).unwrap();
    let reply = caller.frame().await;
    assert_eq!((reply.kind, reply.id, &*reply.payload), (REPLY, 1, &b"true"[..]));
    assert_eq!(caller.closed().await, (1001, EXPIRED.to_owned()));
}

#[tokio::test]
async fn an_idle_connection_is_told_that_its_certificate_has_expired() {
    let mut server = Expiring::new().await;
    let mut caller = server.by_http1().await;
    assert_eq!(caller.ask(post("/rpc/add", "[1,2]")).await.body, "3");
    server.expire().await;
    let answer = caller.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (408, "close"), "{answer:?}");
    let error = &answer.json()["err"];
    let message = format!("{EXPIRED}, so the server had closed this connection before the call came; it was not run");
    assert_eq!((&error["message"], &error["executed"]), (&message.into(), &"no".into()), "{error}");
    assert_eq!(caller.rest().await, "");

    let mut server = Expiring::new().await;
    let (mut sender, connection) = server.by_http2().await;
    assert_eq!(within(sender.send_request(calling("add", "[1,2]"))).await.unwrap().status(), 200);
    server.expire().await;
    within(connection).await.unwrap().expect("GOAWAY without an error");

    let mut server = Expiring::new().await;
    let mut caller = server.by_frames().await;
    server.expire().await;
    let goaway = caller.frame().await;
    assert_eq!((goaway.kind, goaway.id, str::from_utf8(&goaway.payload)), (GOAWAY, 0, Ok(EXPIRED)));
    assert_eq!(caller.closed().await, (1001, EXPIRED.to_owned()));
}

#[tokio::test]
async fn a_connection_is_closed_if_its_calls_go_on_too_long_after_its_certificate_has_expired() {
    let mut server = Expiring::new().await;
    let mut caller = server.by_http1().await;
    caller.send(post("/rpc/pass", "[]")).await;
    within(&mut server.handle.started).await.unwrap();
    server.expire().await;
    server.cut().await;
    assert_eq!(caller.rest().await, "");

    let mut server = Expiring::new().await;
    let (mut sender, _connection) = server.by_http2().await;
    let answer = tokio::spawn(sender.send_request(passing()));
    within(&mut server.handle.started).await.unwrap();
    server.expire().await;
    server.cut().await;
    assert!(within(answer).await.unwrap().is_err());

    let mut server = Expiring::new().await;
    let mut caller = server.by_frames().await;
    caller.say(call(1)).await;
    within(&mut server.handle.started).await.unwrap();
    server.expire().await;
    assert_eq!(caller.frame().await.kind, GOAWAY);
    server.cut().await;
    let close = within(async {
        loop {
            match caller.next().await {
                Came::Close(code, why) => break (code, why),
                Came::Ping => {}
                other => panic!("expected the close frame, got {other:?}"),
            }
        }
    });
    assert_eq!(close.await, (1001, EXPIRED.to_owned()));

    // What byname's client says of such a call.
    let mut server = Expiring::new().await;
    let client = server.client(Transport::Frames);
    // From HTTP to frames.
    for _ in 0..20 {
        add::on(&client, 1, 2).await.unwrap();
    }
    let answer = tokio::spawn(async move { client.call::<bool>("pass", ()).await });
    within(&mut server.handle.started).await.unwrap();
    server.expire().await;
    server.cut().await;
    let error = within(answer).await.unwrap().unwrap_err();
    let error = error.rpc().unwrap();
    assert_eq!((error.code(), error.executed()), (Code::Unavailable, Executed::Unknown), "{error}");
    assert!(error.message().contains(&format!("on this connection: {EXPIRED}")), "{error}");
}

#[tokio::test]
async fn clients_call_on_over_another_connection_after_theirs_has_ended() {
    for transport in [Transport::Http, Transport::Frames] {
        let server = Expiring::new().await;
        let client = server.client(transport);
        for _ in 0..3 {
            assert_eq!(add::on(&client, 1, 2).await.unwrap(), 3);
            // The wall clock has not moved, so the certificate is valid for the next connection.
            pass(LIFE).await;
        }
    }
}

// Rules.

/// Billing may call everything below `orders`, everybody else with a certificate `orders.list` alone.
fn guarded() -> Server {
    let id = |request: &Request| request.peer().and_then(byname::Peer::spiffe_id).map(str::to_owned);
    Server::new()
        .function("orders.list", || async { proven() })
        .function("orders.get", |_id: u64| async { proven() })
        .function("users.get", |_id: u64| async { proven() })
        .allow("orders.list", move |request| id(request).is_some())
        .allow("orders.*", move |request| id(request).as_deref() == Some(BILLING))
}

/// What becomes of calls of `orders.list`, `orders.get` and `users.get`.
async fn outcomes(client: &Client) -> [Result<String, Code>; 3] {
    let code = |error: byname::CallError<serde_json::Value>| {
        let error = error.rpc().unwrap();
        assert_eq!(error.executed(), Executed::No, "{error}");
        error.code()
    };
    [
        client.call::<String>("orders.list", ()).await.map_err(code),
        client.call::<String>("orders.get", (7,)).await.map_err(code),
        client.call::<String>("users.get", (7,)).await.map_err(code),
    ]
}

/// The rules see the certificate of a connection to this URL by every way.
async fn rules_see_certificates(url: &str, servers: &Authority, clients: &Authority) {
    const OTHER: &str = "spiffe://prod/shipping";
    let denied = || Err(Code::PermissionDenied);
    let unknown = || Err(Code::Unauthenticated);
    let of = |uri: &str| Ok(uri.to_owned());
    let cases = [
        (Some(BILLING), [of(BILLING), of(BILLING), denied()]),
        (Some(OTHER), [of(OTHER), denied(), denied()]),
        (None, [unknown(), unknown(), unknown()]),
    ];
    for (uri, expected) in cases {
        let tls = || match uri {
            Some(uri) => identified(servers, &clients.sign_for(&[uri])),
            None => trusting(servers),
        };
        let client = |transport, codec| {
            let builder = Client::builder(url).transport(transport).codec(codec);
            builder.tls(tls()).build().unwrap()
        };
        for (transport, codec) in
            [(Transport::Http, Codec::Json), (Transport::Frames, Codec::Json), (Transport::Frames, Codec::MessagePack)]
        {
            let client = client(transport, codec);
            // Often enough that frames poll functions inline.
            for _ in 0..12 {
                assert_eq!(outcomes(&client).await, expected, "{uri:?} by {transport:?} in {codec:?}");
            }
        }
    }
}

#[tokio::test]
async fn rules_read_the_certificate_of_the_client_by_every_way() {
    let (servers, clients) = (Authority::new("of servers"), Authority::new("of clients"));
    let tls = server_tls(&servers.sign(HERE)).accept_clients(Pem::text(clients.pem())).unwrap();
    let running = Running::new(guarded().tls(tls)).await;
    rules_see_certificates(&running.https(), &servers, &clients).await;
    // HTTP/2, and JSON-RPC.
    let config = identified_config(&servers, &clients.sign_for(&[BILLING]), &["h2"]);
    let io = TokioIo::new(connect(running.address, config).await.unwrap());
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    for (name, expected) in [("orders.get", BILLING), ("users.get", "-32")] {
        let body = format!(r#"{{"jsonrpc":"2.0","method":"{name}","params":[7],"id":1}}"#);
        let request = hyper::Request::post("https://127.0.0.1/rpc").body(Full::<Bytes>::from(body)).unwrap();
        let answer = within(sender.send_request(request)).await.unwrap();
        let answer = answer.into_body().collect().await.unwrap().to_bytes();
        let answer = str::from_utf8(&answer).unwrap();
        assert!(answer.contains(expected), "{answer}");
    }
}

// Mounted in an application that accepts TLS itself.

/// Accepts TLS, and says who has connected in the extensions of each request.
#[derive(Clone)]
struct Identifying(RustlsAcceptor);

impl<S: Send + 'static> Accept<TcpStream, S> for Identifying {
    type Stream = TlsStream<TcpStream>;
    type Service = AddExtension<S, byname::Peer>;
    type Future = BoxFuture<'static, io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let address = stream.peer_addr();
        let accepted = self.0.accept(stream, service);
        Box::pin(async move {
            let (stream, service) = accepted.await?;
            let mut peer = byname::Peer::from(address?);
            let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
            let certificate = certificate.map(|der| ClientCertificate::from_der(der.to_vec()));
            peer.identity = certificate.transpose().map_err(io::Error::other)?.map(Identity::Certificate);
            Ok((stream, AddExtension::new(service, peer)))
        })
    }
}

#[tokio::test]
async fn rules_of_a_mounted_server_read_the_certificate_that_the_application_has_verified() {
    let (servers, clients) = (Authority::new("of servers"), Authority::new("of clients"));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let config = server_config_accepting(&servers.sign(HERE), &clients);
    let acceptor = Identifying(RustlsAcceptor::new(RustlsConfig::from_config(config.into())));
    let app = Mounted::app(guarded().frames(true).into_service().unwrap());
    let serving = axum_server::from_tcp(listener).unwrap().acceptor(acceptor).serve(app.into_make_service());
    let serving = tokio::spawn(serving);
    rules_see_certificates(&format!("https://{address}/api/rpc"), &servers, &clients).await;
    serving.abort();
}

#[test]
fn what_is_no_certificate_has_no_names() {
    let error = ClientCertificate::from_der(*b"letters").unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::InvalidArgument, Executed::No));
    assert!(error.message().contains("not an X.509 certificate in DER ("), "{error}");
    // In PEM.
    let pem = Authority::new("of clients").pem();
    assert!(ClientCertificate::from_der(pem.into_bytes()).is_err());
}

// Behind a proxy that introduces its clients.

/// The client that a proxy announces.
const CLIENT: &str = "203.0.113.7:4711";
const HEADERS: [&[u8]; 2] = [
    b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 443\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\x0a\0\0\x01\x12\x67\x01\xbb",
];

/// Where the caller is, who has connected, and what that has proven.
#[rpc(readonly)]
fn who() -> (String, String, String) {
    let context = Context::current().unwrap();
    let peer = context.peer().unwrap();
    (peer.address.to_string(), peer.connection.to_string(), proven())
}

/// A server that requires the PROXY protocol and then TLS.
async fn introduced(servers: &Authority, clients: &Authority) -> Running {
    let tls = server_tls(&servers.sign(HERE)).accept_clients(Pem::text(clients.pem())).unwrap();
    let server = everything().method::<who>().tls(tls);
    Running::at(server, Listen::from("127.0.0.1:0").proxy_protocol(["127.0.0.0/8"])).await
}

/// A proxy that writes `header` before the first bytes of each client, in one piece with them.
async fn proxy(server: SocketAddr, header: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut first = header.to_vec();
                client.read_buf(&mut first).await.unwrap();
                let mut server = TcpStream::connect(server).await.unwrap();
                server.write_all(&first).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn a_proxy_introduces_its_client_before_the_tls_handshake() {
    let (servers, clients) = (Authority::new("of servers"), Authority::new("of clients"));
    let running = introduced(&servers, &clients).await;
    let billing = clients.sign_for(&[BILLING]);
    let config = Arc::new(identified_config(&servers, &billing, &["http/1.1"]));
    let secured = async |socket: TcpStream, config: &Arc<ClientConfig>| {
        let connection = socket.local_addr().unwrap().to_string();
        (connect_on(socket, Arc::clone(config)).await.unwrap(), connection)
    };
    for header in HEADERS {
        // The header alone, then the handshake.
        let mut socket = TcpStream::connect(running.address).await.unwrap();
        socket.write_all(header).await.unwrap();
        let (stream, connection) = secured(socket, &config).await;
        let expected = serde_json::json!([CLIENT, connection, BILLING]);
        let mut caller = Caller::on(stream);
        for _ in 0..2 {
            assert_eq!(caller.ask(post("/rpc/who", "[]")).await.json(), expected);
        }
        // The certificate belongs to the client, and not to the proxy; a client without one proves nothing.
        let mut socket = TcpStream::connect(running.address).await.unwrap();
        socket.write_all(header).await.unwrap();
        let (stream, connection) = secured(socket, &Arc::new(client_config(&servers, &["http/1.1"]))).await;
        let answer = Caller::on(stream).ask(post("/rpc/who", "[]")).await.json();
        assert_eq!(answer, serde_json::json!([CLIENT, connection, "none"]));
        // In one piece with the hello, for byname's clients.
        let proxy = proxy(running.address, header).await;
        for transport in [Transport::Http, Transport::Frames] {
            let builder = Client::builder(format!("https://{proxy}/rpc")).transport(transport);
            let client = builder.tls(identified(&servers, &billing)).build().unwrap();
            for _ in 0..3 {
                let (address, _, proven) = who::on(&client).await.unwrap();
                assert_eq!((address.as_str(), proven.as_str()), (CLIENT, BILLING));
            }
        }
    }
}

#[tokio::test]
async fn where_a_proxy_must_introduce_its_client_a_handshake_alone_is_not_served() {
    let (servers, clients) = (Authority::new("of servers"), Authority::new("of clients"));
    let mut log = Log::new();
    let running = introduced(&servers, &clients).await;
    let config = Arc::new(client_config(&servers, &["http/1.1"]));
    assert!(connect(running.address, Arc::clone(&config)).await.is_err());
    log.until("it does not begin with a header of the PROXY protocol").await;
    for header in HEADERS {
        let mut caller = Caller::to(running.address).await;
        let answer = caller.ask([header, post("/rpc/who", "[]").as_bytes()].concat()).await;
        assert_eq!(answer.status, 400);
        assert!(answer.body.contains("this port requires TLS"), "{answer:?}");
        log.until(&format!("peer={CLIENT}")).await;
    }
}
