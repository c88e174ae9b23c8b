//! Real proxies between client and server, with and without leave to upgrade: calls and streams go through all of them,
//! and by frames where the proxy lets them.
//!
//! `cargo test --test deployment -- --ignored proxies::`, where nginx and haproxy are installed.
#![cfg(target_os = "linux")]

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use crate::harness::unix::UnixRunning;
use crate::harness::{Caller, Log, Running, everything, peer, post_with, within};
use byname::{Client, Code, Context, Error, Listen, ProxyHeader, Server, Streaming, Transport, rpc};
use futures_util::{Stream, StreamExt, stream};
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::yield_now;

/// What this call came by: every request of HTTP says what host it is for.
#[rpc(readonly)]
async fn way() -> String {
    this_way()
}

fn this_way() -> String {
    if Context::current().unwrap().header("host").is_some() { "http" } else { "frames" }.into()
}

/// Who is calling, and who has connected.
#[rpc(readonly)]
fn who() -> (String, String) {
    let context = Context::current().unwrap();
    let peer = context.peer().unwrap();
    (peer.address.to_string(), peer.connection.to_string())
}

/// A stream whose items a test makes.
struct Pace {
    items: Mutex<Option<mpsc::Receiver<String>>>,
}

#[rpc]
impl Pace {
    /// What this call came by, and then the items.
    fn paced(&self) -> impl Stream<Item = String> {
        let mut items = self.items.lock().unwrap().take().expect("it is called once");
        stream::iter([this_way()]).chain(stream::poll_fn(move |cx| items.poll_recv(cx)))
    }
}

#[rpc]
fn echoes(numbers: Streaming<u32>) -> impl Stream<Item = Result<u32, Error>> {
    numbers
}

/// What nginx is told for upgrades to pass, and for none.
const UPGRADES: &str = "proxy_http_version 1.1; \
     proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;";
const KEEPS_ALIVE: &str = "proxy_http_version 1.1; proxy_set_header Connection '';";

/// What haproxy is told for streams over HTTP: to pass on at once that a caller has gone, and each item.
const STREAMS: &str = "option abortonclose\n  option http-no-delay";

/// Where haproxy tells what its health checks found.
const CHECKS: &str = "/checks;csv";

/// The first configuration of this kind in the guide, with other servers, and with `ours` in place of the guide's `bind`.
fn of_the_guide(kind: &str, bind: &str, servers: [SocketAddr; 2], ours: &str) -> String {
    let guide = include_str!("../../../../docs/guide/deploying.md");
    let (_, from) = guide.split_once(&format!("```{kind}\n")).unwrap();
    let mut configuration = from.split_once("```").unwrap().0.to_owned();
    let [one, two] = servers.map(|server| server.to_string());
    for (of_the_guide, ours) in [(bind, ours), ("10.0.0.1:8080", &one), ("10.0.0.2:8080", &two)] {
        assert_eq!(configuration.matches(of_the_guide).count(), 1, "{of_the_guide} in {configuration}");
        configuration = configuration.replace(of_the_guide, ours);
    }
    configuration
}

/// A proxy that runs until it is dropped.
struct Proxy {
    address: SocketAddr,
    _child: Child,
    /// Keeps the port from others until the proxy has it: bound here, where nobody listens.
    _bound: Socket,
    directory: PathBuf,
}

impl Proxy {
    /// Starts `program` with the arguments and the configuration that `write` makes of a directory and an address.
    async fn start(program: &str, write: impl FnOnce(&str, SocketAddr) -> (Vec<String>, String)) -> Self {
        let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        bound.set_reuse_address(true).unwrap();
        bound.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        let address = bound.local_addr().unwrap().as_socket().unwrap();
        let name = format!("byname-{program}-{}-{}", std::process::id(), address.port());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).unwrap();
        let (arguments, configuration) = write(directory.to_str().unwrap(), address);
        fs::write(directory.join("configuration"), configuration).unwrap();
        // Where Debian has it, which is not in every user's path.
        let path = format!("{}:/usr/sbin:/usr/local/sbin", std::env::var("PATH").unwrap_or_default());
        let spawned =
            Command::new(program).args(arguments).env("PATH", path).stdin(Stdio::null()).kill_on_drop(true).spawn();
        let mut child = spawned.unwrap_or_else(|why| panic!("{program} must be installed for this test: {why}"));
        within(async {
            while TcpStream::connect(address).await.is_err() {
                assert!(child.try_wait().unwrap().is_none(), "{program} ended at once");
                yield_now().await;
            }
        })
        .await;
        Self { address, _child: child, _bound: bound, directory }
    }

    async fn nginx(server: SocketAddr, upgrades: bool) -> Self {
        Self::nginx_with(server, if upgrades { UPGRADES } else { KEEPS_ALIVE }).await
    }

    async fn nginx_with(server: SocketAddr, directives: &str) -> Self {
        Self::nginx_to(&server.to_string(), directives).await
    }

    /// `upstream` is what nginx takes behind `http://`.
    async fn nginx_to(upstream: &str, directives: &str) -> Self {
        Self::start("nginx", |directory, address| {
            let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
            let temporary: String = temporary.map(|what| format!("{what}_temp_path {directory}/{what};\n")).concat();
            let configuration = format!(
                "daemon off; master_process off; pid {directory}/pid; error_log stderr;\n\
                 events {{}}\n\
                 http {{\n\
                 access_log off; {temporary}\
                 map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}\n\
                 server {{ listen {address}; location / {{\n\
                 proxy_pass http://{upstream}; {directives}\n\
                 }} }} }}\n"
            );
            let arguments = ["-e", "stderr", "-p", directory, "-c", &format!("{directory}/configuration")];
            (arguments.map(str::to_owned).into(), configuration)
        })
        .await
    }

    /// An nginx that passes bytes on, and introduces each client by the PROXY protocol.
    async fn nginx_that_introduces(server: SocketAddr) -> Self {
        Self::start("nginx", |directory, address| {
            let module = "/usr/lib/nginx/modules/ngx_stream_module.so";
            let module = if Path::new(module).exists() { format!("load_module {module};\n") } else { String::new() };
            let configuration = format!(
                "{module}daemon off; master_process off; pid {directory}/pid; error_log stderr;\n\
                 events {{}}\n\
                 stream {{ server {{ listen {address}; proxy_pass {server}; proxy_protocol on; }} }}\n"
            );
            let arguments = ["-e", "stderr", "-p", directory, "-c", &format!("{directory}/configuration")];
            (arguments.map(str::to_owned).into(), configuration)
        })
        .await
    }

    /// A haproxy that passes bytes on, and introduces each client as `send` says.
    async fn haproxy_that_introduces(server: SocketAddr, send: &str) -> Self {
        Self::start("haproxy", |directory, address| {
            let configuration = format!(
                "defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 60s\n  timeout server 60s\n\
                 frontend front\n  bind {address}\n  default_backend back\n\
                 backend back\n  server one {server} {send}\n"
            );
            (["-db", "-f", &format!("{directory}/configuration")].map(str::to_owned).into(), configuration)
        })
        .await
    }

    /// A haproxy that forwards each connection to the next of these servers.
    async fn haproxy_that_balances_connections(servers: [SocketAddr; 2]) -> Self {
        Self::start("haproxy", |directory, address| {
            let [one, two] = servers;
            let configuration = format!(
                "defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 60s\n  timeout server 60s\n\
                 frontend front\n  bind {address}\n  default_backend back\n\
                 backend back\n  balance roundrobin\n  server one {one}\n  server two {two}\n"
            );
            (["-db", "-f", &format!("{directory}/configuration")].map(str::to_owned).into(), configuration)
        })
        .await
    }

    async fn haproxy(server: SocketAddr, upgrades: bool) -> Self {
        Self::haproxy_with(server, upgrades, "").await
    }

    async fn haproxy_with(server: SocketAddr, upgrades: bool, options: &str) -> Self {
        Self::haproxy_with_rule(server, if upgrades { "" } else { "http-request del-header upgrade" }, options).await
    }

    async fn haproxy_with_rule(server: SocketAddr, rule: &str, options: &str) -> Self {
        Self::start("haproxy", |directory, address| {
            let configuration = format!(
                "defaults\n  mode http\n  timeout connect 10s\n  timeout client 60s\n  timeout server 60s\n  {options}\n\
                 frontend front\n  bind {address}\n  {rule}\n  default_backend back\n\
                 backend back\n  server one {server}\n"
            );
            (["-db", "-f", &format!("{directory}/configuration")].map(str::to_owned).into(), configuration)
        })
        .await
    }

    /// The haproxy of the guide, with these two servers. It checks them often, and tells what it found at [`CHECKS`].
    async fn haproxy_of_the_guide(servers: [SocketAddr; 2]) -> Self {
        Self::start("haproxy", |directory, address| {
            let often = "defaults\n    default-server inter 50ms\n";
            let told = format!("bind {address}\n    stats enable\n    stats uri {}", CHECKS.trim_end_matches(";csv"));
            let configuration = of_the_guide("haproxy", "bind :80", servers, &told);
            let configuration = configuration.replacen("defaults\n", often, 1);
            (["-db", "-f", &format!("{directory}/configuration")].map(str::to_owned).into(), configuration)
        })
        .await
    }

    /// The nginx of the guide, with these two servers.
    async fn nginx_of_the_guide(servers: [SocketAddr; 2]) -> Self {
        Self::start("nginx", |directory, address| {
            let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
            let temporary: String = temporary.map(|what| format!("{what}_temp_path {directory}/{what};\n")).concat();
            let guide = of_the_guide("nginx", "listen 80;", servers, &format!("listen {address};"));
            let configuration = format!(
                "daemon off; master_process off; pid {directory}/pid; error_log stderr;\n\
                 events {{}}\n\
                 http {{\naccess_log off; {temporary}{guide}}}\n"
            );
            let arguments = ["-e", "stderr", "-p", directory, "-c", &format!("{directory}/configuration")];
            (arguments.map(str::to_owned).into(), configuration)
        })
        .await
    }

    fn client(&self) -> Client {
        Client::builder(format!("{}/rpc", self.address)).build().unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

async fn server() -> Running {
    Running::new(everything().method::<way>()).await
}

/// Many calls of several kinds, at once.
async fn calls(client: &Client) {
    let large = Value::from("x".repeat(300_000));
    let calls = (0..300i64).map(|n| {
        let (client, large) = (client.clone(), large.clone());
        tokio::spawn(async move {
            assert_eq!(crate::harness::add::on(&client, n, 1).await.unwrap(), n + 1);
            if n % 30 == 0 {
                assert_eq!(crate::harness::echo::on(&client, large.clone()).await.unwrap(), large);
            }
            let failed = client.call::<u8>("nobody", ()).await.unwrap_err();
            assert_eq!(failed.rpc().unwrap().code(), Code::Unimplemented);
        })
    });
    for call in calls.collect::<Vec<_>>() {
        within(call).await.unwrap();
    }
}

/// A client that goes by frames.
async fn by_frames(proxy: &Proxy) -> Client {
    let client = proxy.client();
    within(async {
        while way::on(&client).await.unwrap() != "frames" {
            yield_now().await;
        }
    })
    .await;
    client
}

/// Calls through a proxy that lets upgrades pass.
async fn goes_over(proxy: Proxy) {
    let client = by_frames(&proxy).await;
    calls(&client).await;
    assert_eq!(way::on(&client).await.unwrap(), "frames");
}

/// Calls through a proxy that doesn't.
async fn stays(proxy: Proxy) {
    let client = proxy.client();
    for _ in 0..200 {
        assert_eq!(way::on(&client).await.unwrap(), "http");
    }
    calls(&client).await;
    assert_eq!(way::on(&client).await.unwrap(), "http");
}

#[tokio::test]
#[ignore = "needs nginx; .ci/run runs it"]
async fn calls_go_by_frames_through_nginx_that_upgrades() {
    let server = server().await;
    goes_over(Proxy::nginx(server.address, true).await).await;
}

#[tokio::test]
#[ignore = "needs nginx; .ci/run runs it"]
async fn calls_stay_with_http_through_nginx_that_does_not_upgrade() {
    let server = server().await;
    stays(Proxy::nginx(server.address, false).await).await;
}

#[tokio::test]
#[ignore = "needs haproxy; .ci/run runs it"]
async fn calls_go_by_frames_through_haproxy_that_upgrades() {
    let server = server().await;
    goes_over(Proxy::haproxy(server.address, true).await).await;
}

#[tokio::test]
#[ignore = "needs haproxy; .ci/run runs it"]
async fn calls_stay_with_http_through_haproxy_that_does_not_upgrade() {
    let server = server().await;
    stays(Proxy::haproxy(server.address, false).await).await;
}

/// Two servers that continue to serve when they are told to stop, and say which one answered.
async fn two_servers() -> [Running; 2] {
    let server = |name: &'static str| {
        let server = Server::new().method::<echoes>().method::<way>().function("which", move || async move { name });
        Running::new(server.limits(|limits| limits.drain_delay = Duration::from_secs(3600)))
    };
    [server("one").await, server("two").await]
}

#[tokio::test]
#[ignore = "needs haproxy; .ci/run runs it"]
async fn the_haproxy_of_the_guide_finds_servers_ready_and_leaves_one_out_that_drains() {
    let [mut one, two] = two_servers().await;
    let proxy = Proxy::haproxy_of_the_guide([one.address, two.address]).await;
    // `L7OK` is an answer with status 2xx or 3xx, `L7STS` another one.
    let found = async |server: &str, result: &str| {
        let line = format!("adder,{server},");
        within(async {
            loop {
                let mut caller = Caller::to(proxy.address).await;
                caller.send(format!("GET {CHECKS} HTTP/1.0\r\n\r\n")).await;
                let checks = caller.rest().await;
                let line = checks.lines().find(|found| found.starts_with(&line)).unwrap_or_else(|| panic!("{checks}"));
                if line.contains(result) {
                    return;
                }
                assert!(line.contains("L7OK") || line.contains("INI"), "a healthy server is {line}");
                yield_now().await;
            }
        })
        .await
    };
    found("one", "L7OK").await;
    found("two", "L7OK").await;
    let client = Client::builder(format!("{}/rpc", proxy.address)).transport(Transport::Http).build().unwrap();
    let which = async || within(client.call::<String>("which", ())).await.unwrap();
    let both = [which().await, which().await];
    assert!(both.contains(&"one".into()) && both.contains(&"two".into()), "{both:?}");
    one.stop();
    found("one", "L7STS").await;
    // Three checks fail before it is left out. It serves meanwhile, and no call fails.
    within(async {
        let mut of_two = 0;
        while of_two < 20 {
            of_two = if which().await == "two" { of_two + 1 } else { 0 };
        }
    })
    .await;
    found("two", "L7OK").await;
}

#[tokio::test]
#[ignore = "needs haproxy; .ci/run runs it"]
async fn two_servers_behind_a_haproxy_that_balances_connections_share_the_calls() {
    let [one, two] = two_servers().await;
    let proxy = Proxy::haproxy_that_balances_connections([one.address, two.address]).await;
    let client = proxy.client();
    let mut of_one = 0;
    for _ in 0..400 {
        of_one += usize::from(within(client.call::<String>("which", ())).await.unwrap() == "one");
    }
    assert!((160..=240).contains(&of_one), "{of_one} of 400");
}

#[tokio::test]
#[ignore = "needs nginx; .ci/run runs it"]
async fn the_nginx_of_the_guide_passes_frames_and_streams_both_ways() {
    let [one, two] = two_servers().await;
    let proxy = Proxy::nginx_of_the_guide([one.address, two.address]).await;
    let client = Client::builder(format!("{}/rpc", proxy.address)).transport(Transport::Http).build().unwrap();
    let mut answered = BTreeSet::new();
    within(async {
        while answered.len() < 2 {
            answered.insert(client.call::<String>("which", ()).await.unwrap());
        }
    })
    .await;
    items_go_both_ways_one_by_one(&client).await;
    items_go_both_ways_one_by_one(&by_frames(&proxy).await).await;
}

/// A server of streams, and where the items of one of them are made.
async fn streaming() -> (Running, mpsc::Sender<String>) {
    let (pace, items) = mpsc::channel(1);
    let paced = Pace { items: Mutex::new(Some(items)) };
    (Running::new(everything().method::<way>().method::<echoes>().inject(paced)).await, pace)
}

/// Each item is made once the one before it has come: so nothing on the way waits for more of them.
async fn items_come_one_by_one(client: &Client, pace: mpsc::Sender<String>, way: &str) {
    let mut items = Pace::on(client).paced();
    assert_eq!(within(items.next()).await.unwrap().unwrap(), way);
    for n in 0..5 {
        pace.send(n.to_string()).await.unwrap();
        assert_eq!(within(items.next()).await.unwrap().unwrap(), n.to_string());
    }
    // That nobody reads any more gets through as well.
    drop(items);
    within(pace.closed()).await;
}

async fn items_go_both_ways_one_by_one(client: &Client) {
    let (sender, mut numbers) = mpsc::channel(1);
    let mut echoes = echoes::on(client, Streaming::new(stream::poll_fn(move |cx| numbers.poll_recv(cx))));
    for n in 0..5 {
        sender.send(n).await.unwrap();
        assert_eq!(within(echoes.next()).await.unwrap().unwrap(), n);
    }
    drop(sender);
    assert!(within(echoes.next()).await.is_none());
}

#[tokio::test]
#[ignore = "needs nginx; .ci/run runs it"]
async fn items_come_one_by_one_over_http_through_nginx() {
    // Told nothing, nginx asks by HTTP/1.0, and would keep what comes until there is more of it.
    for directives in [KEEPS_ALIVE, ""] {
        let (server, pace) = streaming().await;
        let proxy = Proxy::nginx_with(server.address, directives).await;
        items_come_one_by_one(&proxy.client(), pace, "http").await;
    }
}

#[tokio::test]
#[ignore = "needs nginx; .ci/run runs it"]
async fn items_are_sent_over_http_through_nginx() {
    let (server, _) = streaming().await;
    let proxy = Proxy::nginx(server.address, false).await;
    let echoes: Vec<_> = within(echoes::on(&proxy.client(), (0..1000).collect()).collect()).await;
    assert_eq!(echoes, (0..1000).map(Ok).collect::<Vec<_>>());
}

#[tokio::test]
#[ignore = "needs nginx; .ci/run runs it"]
async fn items_go_both_ways_over_http_through_nginx_that_is_told_not_to_keep_them() {
    let (server, _) = streaming().await;
    let directives = format!("{KEEPS_ALIVE} proxy_request_buffering off;");
    let proxy = Proxy::nginx_with(server.address, &directives).await;
    items_go_both_ways_one_by_one(&proxy.client()).await;
}

#[tokio::test]
#[ignore = "needs nginx; .ci/run runs it"]
async fn items_go_both_ways_by_frames_through_nginx() {
    let (server, pace) = streaming().await;
    let proxy = Proxy::nginx(server.address, true).await;
    let client = by_frames(&proxy).await;
    items_come_one_by_one(&client, pace, "frames").await;
    items_go_both_ways_one_by_one(&client).await;
}

#[tokio::test]
#[ignore = "needs haproxy; .ci/run runs it"]
async fn items_go_both_ways_over_http_through_haproxy() {
    let (server, pace) = streaming().await;
    let proxy = Proxy::haproxy_with(server.address, false, STREAMS).await;
    items_come_one_by_one(&proxy.client(), pace, "http").await;
    items_go_both_ways_one_by_one(&proxy.client()).await;
}

#[tokio::test]
#[ignore = "needs haproxy; .ci/run runs it"]
async fn items_go_both_ways_by_frames_through_haproxy() {
    let (server, pace) = streaming().await;
    let proxy = Proxy::haproxy(server.address, true).await;
    let client = by_frames(&proxy).await;
    items_come_one_by_one(&client, pace, "frames").await;
    items_go_both_ways_one_by_one(&client).await;
}

/// What a caller would like to be, and is not.
const FORGED: [(&str, &str); 2] = [("x-forwarded-for", "198.51.100.1"), ("forwarded", "for=198.51.100.1, for=\"")];

/// A connection to a proxy from another address than the proxy's own.
async fn connection(proxy: &Proxy) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 2], 0))).unwrap();
    within(socket.connect(proxy.address)).await.unwrap()
}

/// Whoever connects to the proxy is the caller, over HTTP and by frames, whatever it says of itself.
async fn names_its_client(proxy: Proxy, says_ports: bool) {
    names_its_client_at(proxy, says_ports, "127.0.0.1:").await;
}

/// As [`names_its_client`], through a proxy whose own address begins so.
async fn names_its_client_at(proxy: Proxy, says_ports: bool, its_own: &str) {
    let expected = |address: SocketAddr| if says_ports { address.to_string() } else { address.ip().to_string() };
    let forged: String = FORGED.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let mut caller = Caller::on(connection(&proxy).await);
    let own = caller.stream.local_addr().unwrap();
    for _ in 0..2 {
        let answer = caller.ask(post_with("/rpc/who", &forged, "[]")).await;
        let (client, through): (String, String) = serde_json::from_value(answer.json()).unwrap();
        assert_eq!(client, expected(own));
        assert!(through.starts_with(its_own), "{through}");
    }
    let stream = connection(&proxy).await;
    let own = stream.local_addr().unwrap();
    let asking = peer::asking(|headers| headers.extend(FORGED.map(|(name, value)| (name, value.to_owned()))));
    let mut peer = peer::Peer::asking(stream, asking).await;
    let hello = peer::frame(peer::HELLO, 0, 0, 0, peer::GREETING);
    peer.say([hello, peer::frame(peer::NAME, 0, 0, 0, "who"), peer::call(0, 1, "[]")].concat()).await;
    let reply = peer.frame().await;
    assert_eq!(reply.kind, peer::REPLY, "{reply:?}");
    let (client, through): (String, String) = serde_json::from_slice(&reply.payload).unwrap();
    assert_eq!(client, expected(own));
    assert!(through.starts_with(its_own), "{through}");
}

/// A server that trusts proxies at 127.0.0.1 with their header.
async fn trusting(header: ProxyHeader) -> Running {
    Running::new(everything().method::<who>().trust_proxy(["127.0.0.1"], header)).await
}

/// A server that requires the PROXY protocol of proxies at 127.0.0.1, and trusts nobody's header.
async fn introduced() -> Running {
    let server = everything().method::<way>().method::<who>().trust_proxy(["127.0.0.1"], ProxyHeader::XForwardedFor);
    Running::at(server, Listen::from("127.0.0.1:0").proxy_protocol(["127.0.0.1"])).await
}

#[ignore = "needs nginx; .ci/run runs it"]
#[tokio::test]
async fn nginx_names_its_client_by_either_header() {
    for (header, directive) in [
        (ProxyHeader::XForwardedFor, "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"),
        (ProxyHeader::Forwarded, "proxy_set_header Forwarded '$http_forwarded, for=$remote_addr';"),
    ] {
        let server = trusting(header).await;
        let proxy = Proxy::nginx_with(server.address, &format!("{UPGRADES} {directive}")).await;
        names_its_client(proxy, false).await;
    }
}

#[ignore = "needs haproxy; .ci/run runs it"]
#[tokio::test]
async fn haproxy_names_its_client_by_either_header() {
    for (header, rule) in [
        (ProxyHeader::XForwardedFor, "option forwardfor"),
        (ProxyHeader::Forwarded, "http-request add-header forwarded for=\\\"%[src]:%[src_port]\\\""),
    ] {
        let server = trusting(header).await;
        let proxy = Proxy::haproxy_with_rule(server.address, rule, "").await;
        names_its_client(proxy, header == ProxyHeader::Forwarded).await;
    }
}

#[ignore = "needs haproxy; .ci/run runs it"]
#[tokio::test]
async fn haproxy_introduces_its_client_by_either_version() {
    for send in
        ["send-proxy", "send-proxy-v2", "send-proxy-v2-ssl-cn", "send-proxy-v2 proxy-v2-options crc32c,unique-id"]
    {
        let server = introduced().await;
        names_its_client(Proxy::haproxy_that_introduces(server.address, send).await, true).await;
        goes_over(Proxy::haproxy_that_introduces(server.address, send).await).await;
    }
}

#[ignore = "needs haproxy; .ci/run runs it"]
#[tokio::test]
async fn haproxy_speaks_for_itself_when_it_checks_a_server() {
    let mut log = Log::new();
    let server = introduced().await;
    let send = "send-proxy-v2 check inter 50ms check-send-proxy";
    let _proxy = Proxy::haproxy_that_introduces(server.address, send).await;
    // A check connects, introduces itself and goes, and the next one comes. One connection is of `Proxy::start`.
    for _ in 0..4 {
        let line = log.until("a connection ").await;
        assert!(line.contains("a connection ended before its first request"), "{line}");
        assert!(!line.contains("PROXY"), "{line}");
    }
}

#[ignore = "needs nginx; .ci/run runs it"]
#[tokio::test]
async fn nginx_introduces_its_client() {
    let server = introduced().await;
    names_its_client(Proxy::nginx_that_introduces(server.address).await, true).await;
    goes_over(Proxy::nginx_that_introduces(server.address).await).await;
}

#[ignore = "needs nginx; .ci/run runs it"]
#[tokio::test]
async fn nginx_calls_at_a_unix_socket_and_names_its_client() {
    let server = || everything().method::<way>().method::<who>();
    // Who has connected to the socket is nginx, which runs as the user of this test.
    let own = |request: &byname::Request| match request.peer().and_then(|peer| peer.identity.as_ref()) {
        Some(byname::Identity::Unix(caller)) => caller.pid != Some(std::process::id()),
        _ => false,
    };
    let directive = "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;";
    for path_of_the_upstream in ["", ":/"] {
        let trusting = server().trust_proxy(["unix"], ProxyHeader::XForwardedFor).allow("*", own);
        let running = UnixRunning::new(trusting).await;
        let upstream = format!("unix:{}{path_of_the_upstream}", running.path().display());
        let directives = format!("{UPGRADES} {directive}");
        names_its_client_at(Proxy::nginx_to(&upstream, &directives).await, false, "unix:").await;
        goes_over(Proxy::nginx_to(&upstream, &directives).await).await;
        stays(Proxy::nginx_to(&upstream, KEEPS_ALIVE).await).await;
    }
    // A proxy that nobody trusts names no client.
    let running = UnixRunning::new(server()).await;
    let proxy =
        Proxy::nginx_to(&format!("unix:{}", running.path().display()), &format!("{KEEPS_ALIVE} {directive}")).await;
    assert_eq!(who::on(&proxy.client()).await.unwrap(), ("unix:".to_owned(), "unix:".to_owned()));
}

/// The SPIFFE ID that the caller has proven.
#[cfg(feature = "tls")]
#[rpc(readonly)]
fn spiffe_id() -> Option<String> {
    Context::current()?.peer()?.spiffe_id().map(str::to_owned)
}

#[cfg(feature = "tls")]
#[ignore = "needs haproxy; .ci/run runs it"]
#[tokio::test]
async fn haproxy_introduces_its_client_before_the_tls_handshake() {
    use crate::harness::tls::{Authority, connect_on, identified, identified_config, server_tls};
    use byname::Pem;

    let (servers, clients) = (Authority::new("of servers"), Authority::new("of clients"));
    let billing = clients.sign_for(&["spiffe://prod/billing"]);
    let tls = server_tls(&servers.sign(&["127.0.0.1"])).require_clients(Pem::text(clients.pem())).unwrap();
    let server = everything().method::<way>().method::<who>().method::<spiffe_id>().tls(tls);
    let server = Running::at(server, Listen::from("127.0.0.1:0").proxy_protocol(["127.0.0.1"])).await;
    for send in ["send-proxy", "send-proxy-v2"] {
        let proxy = Proxy::haproxy_that_introduces(server.address, send).await;
        let socket = connection(&proxy).await;
        let own = socket.local_addr().unwrap().to_string();
        let config = identified_config(&servers, &billing, &["http/1.1"]);
        let mut caller = Caller::on(connect_on(socket, config).await.unwrap());
        let (client, through): (String, String) =
            serde_json::from_value(caller.ask(crate::harness::post("/rpc/who", "[]")).await.json()).unwrap();
        assert_eq!(client, own, "{send}");
        assert!(through.starts_with("127.0.0.1:"), "{through}");
        assert_eq!(caller.ask(crate::harness::post("/rpc/spiffe_id", "[]")).await.json(), "spiffe://prod/billing");
        for transport in [Transport::Http, Transport::Frames] {
            let builder = Client::builder(format!("https://{}/rpc", proxy.address)).transport(transport);
            let client = builder.tls(identified(&servers, &billing)).build().unwrap();
            calls(&client).await;
            assert_eq!(spiffe_id::on(&client).await.unwrap().as_deref(), Some("spiffe://prod/billing"), "{send}");
        }
    }
}
