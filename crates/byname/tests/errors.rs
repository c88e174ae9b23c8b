//! Provokes every error message once, and writes it with its remedy to `docs/errors.md`.
//!
//! `ERRORS=overwrite cargo test -p byname --test errors` writes the page again. Read the difference before you commit it.
//! With `--features tls` the command writes the section about TLS. Without the feature it writes the entry about a client
//! without TLS. The same holds for the features `compression`, `dns`, `etcd` and `kubernetes`. Each build keeps the parts that
//! only the other can provoke.

#[path = "errors/access.rs"]
mod about_access;
#[cfg(feature = "compression")]
#[path = "errors/compression.rs"]
mod about_compression;
#[cfg(not(feature = "compression"))]
#[path = "errors/without_compression.rs"]
mod about_compression;
#[cfg(feature = "dns")]
#[path = "errors/dns.rs"]
mod about_dns;
#[cfg(not(feature = "dns"))]
#[path = "errors/without_dns.rs"]
mod about_dns;
#[cfg(feature = "etcd")]
#[path = "errors/etcd.rs"]
mod about_etcd;
#[cfg(not(feature = "etcd"))]
#[path = "errors/without_etcd.rs"]
mod about_etcd;
#[path = "errors/keys.rs"]
mod about_keys;
#[cfg(feature = "kubernetes")]
#[path = "errors/kubernetes.rs"]
mod about_kubernetes;
#[cfg(not(feature = "kubernetes"))]
#[path = "errors/without_kubernetes.rs"]
mod about_kubernetes;
#[path = "errors/streams.rs"]
mod about_streams;
#[cfg(feature = "tls")]
#[path = "errors/tls.rs"]
mod about_tls;
#[cfg(not(feature = "tls"))]
#[path = "errors/without_tls.rs"]
mod about_tls;
mod harness;

use std::fmt::Write as _;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context as Task, Poll};
use std::time::Duration;
use std::{env, fs, io};

use byname::{
    Address, Args, CallError, Client, Code, Codec, Discover, DiscoverFuture, Error, Executed, Internal, Listen,
    ProxyHeader, Replicas, Server, Transport, rpc, server,
};
use harness::foreign::{BYNAME, Foreign, answer, crowded, frame, gone_over, start};
use harness::unix::{TemporaryDirectory, UnixRunning};
use harness::{
    Caller, Gate, Raw, Running, add, everything, frames, get, post, post_with, ratio, raw, verb, within,
    without_comparison,
};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Frame};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use tokio::io::AsyncWriteExt;
use tokio::sync::{Semaphore, watch};
use tower_service::Service;

const SHORT: Duration = Duration::from_millis(20);

/// The parts of an error that a person sees.
struct Seen {
    code: Code,
    executed: Executed,
    message: String,
}

impl From<Error> for Seen {
    fn from(error: Error) -> Self {
        Self { code: error.code(), executed: error.executed(), message: without_comparison(&error) }
    }
}

impl<E: std::fmt::Debug + 'static> From<CallError<E>> for Seen {
    fn from(error: CallError<E>) -> Self {
        match error {
            CallError::Rpc(error) => error.into(),
            own => panic!("the function's own error has no message: {own:?}"),
        }
    }
}

impl From<Raw> for Seen {
    fn from(answer: Raw) -> Self {
        of_json(answer.json())
    }
}

/// An ERROR, as it stands in the answer of either way.
fn of_json(mut body: Value) -> Seen {
    // Of a batch the first reply.
    let mut body = body.get_mut(0).map(Value::take).unwrap_or(body);
    let error = ["/err", "/error/data"].into_iter().find_map(|at| body.pointer_mut(at).map(Value::take));
    let error = error.unwrap_or(body);
    serde_json::from_value::<Error>(error).unwrap().into()
}

/// The page, as far as it is written.
struct Page {
    text: String,
    titles: Vec<String>,
    messages: Vec<String>,
}

impl Page {
    fn new() -> Self {
        let text = "# Errors\n\n\
            Every error message of byname, with what to do about it. A test (`crates/byname/tests/errors.rs`) provokes each\n\
            message and writes this page. Below each title are the code of the error and whether the function ran. Words in\n\
            capitals stand for values that differ from run to run: `PORT`, `LINE`, `TIME`, `DATE`, `ID`, and `OS ERROR` for the\n\
            text of the operating system. After several attempts a message has one more line for each earlier attempt, such as\n\
            `attempt 1 of 3: the same error`. It ends with a line such as `not sent again: the retry budget of the client is used\n\
            up` if there could have been more attempts. If the service has several replicas, the message ends with the address of\n\
            the one that it comes from, such as `(at 10.0.0.1:8080)`, and each line of an attempt has it. The text of a server\n\
            stays as it is. Messages are for people. Programs use the code, `executed` and `limit`, which\n\
            [the protocol](protocol.md#error) explains.\n";
        Self { text: text.to_owned(), titles: Vec::new(), messages: Vec::new() }
    }

    fn section(&mut self, title: &str) {
        let _ = write!(self.text, "\n## {title}\n");
    }

    /// Leaves a part of the page as it stands, from this line to the next of its level: another build provokes it.
    fn keep(&mut self, title: &str) {
        let written = fs::read_to_string(path()).unwrap_or_default();
        let Some(start) = written.find(&format!("\n{title}\n")) else { return };
        let body = &written[start + 1..];
        let level = title.split(' ').next().unwrap();
        let ends = ["## ", "### "].iter().filter(|end| end.len() <= level.len() + 1);
        let length = ends.filter_map(|end| body.find(&format!("\n{end}"))).min().unwrap_or(body.len());
        let _ = write!(self.text, "\n{}\n", body[..length].trim_end());
    }

    #[track_caller]
    fn add(&mut self, title: &str, seen: impl Into<Seen>, remedy: &str) {
        let Seen { code, executed, message } = seen.into();
        let message = steady(&message);
        assert!(!self.titles.iter().any(|known| known == title), "two entries have the title {title:?}");
        assert!(!self.messages.contains(&message), "{title}: this message has an entry already: {message}");
        let executed = serde_json::to_value(executed).unwrap();
        let executed = executed.as_str().unwrap();
        let _ = write!(
            self.text,
            "\n### {title}\n\n`{code}`, executed: {executed}\n\n```text\n{message}\n```\n\n{remedy}\n"
        );
        self.titles.push(title.to_owned());
        self.messages.push(message);
    }
}

/// The message without the parts that differ from run to run.
fn steady(message: &str) -> String {
    // A line for each attempt before the last.
    let mut out = message.lines().filter(|line| !line.starts_with("attempt ")).collect::<Vec<_>>().join("\n");
    // A time that the caller named began before the server could read it; a limit's time is exact.
    let is_callers = message.contains("`.timeout(…)` on the call") && !message.contains("`Limits::call`");
    for (before, stays, word) in [
        ("127.0.0.1:", "8080", "PORT"),
        (".rs:", "", "LINE"),
        ("under the error id `", "", "ID"),
        ("within ", "", "TIME"),
    ] {
        if word == "TIME" && !is_callers {
            continue;
        }
        let mut from = 0;
        while let Some(at) = out[from..].find(before) {
            let start = from + at + before.len();
            let varies =
                |c: char| c.is_ascii_digit() || word != "PORT" && word != "LINE" && (c.is_alphanumeric() || c == '.');
            let length = out[start..].find(|c| !varies(c)).unwrap_or(out.len() - start);
            if length > 0 && &out[start..start + length] != stays {
                out.replace_range(start..start + length, word);
            }
            from = start;
        }
    }
    if let Some(today) = out.find("today is ") {
        let start = today + "today is ".len();
        out.replace_range(start..start + "2026-03-01".len(), "DATE");
    }
    let temporary = format!("{}/byname-", env::temp_dir().display());
    while let Some(start) = out.find(&temporary) {
        let end = start + temporary.len() + out[start + temporary.len()..].find('/').unwrap();
        out.replace_range(start..end, "/etc/orders");
    }
    if let Some(number) = out.find(" (os error ") {
        let start = out[..number].rfind(": ").map_or(0, |colon| colon + 2);
        let end = number + out[number..].find(')').unwrap() + 1;
        out.replace_range(start..end, "OS ERROR");
    }
    // The words of `getaddrinfo`, which come without a number.
    if let Some(start) = out.find("failed to lookup address information: ") {
        let end = out[start..].find(';').map_or(out.len(), |length| start + length);
        out.replace_range(start..end, "OS ERROR");
    }
    out
}

fn one() -> Server {
    Server::new().method::<add>()
}

fn failed<T>(result: Result<T, impl Into<Seen>>) -> Seen {
    match result {
        Ok(_) => panic!("it should have failed"),
        Err(error) => error.into(),
    }
}

/// Why a server doesn't start.
async fn refused(server: Server) -> Seen {
    failed(server.serve("127.0.0.1:0").bind().await)
}

/// The outcome of a call that is answered by these bytes and the end of the connection.
async fn answered_by(bytes: impl Into<String>) -> Seen {
    failed(Foreign::ending_after(bytes).await.client().call::<u8>("add", (1, 2)).await)
}

/// A client whose first call was answered by byname, and whose next one, by path, is by these bytes.
async fn answered_by_path(bytes: &'static str) -> Seen {
    let server = Foreign::new(move |mut connection| async move {
        connection.request().await;
        connection.send(answer("200 OK", BYNAME, "{\"ret\": 3}")).await;
        connection.request().await;
        connection.send(bytes).await;
    })
    .await;
    let client = server.client();
    assert_eq!(client.call::<u8>("add", (1, 2)).await.unwrap(), 3);
    failed(client.call::<u8>("add", (1, 2)).await)
}

async fn at_the_start(page: &mut Page) {
    page.section("At the start of a server, and at its end");
    about_compression::of_server(page).await;
    about_etcd::of_server(page).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    page.add(
        "The address is taken",
        failed(one().serve(taken.local_addr().unwrap()).await),
        "Find the process that uses the port (`ss -ltnp`) and stop it, or use another port.",
    );
    let bad = [
        (
            "The address is only a port",
            "8080",
            "`127.0.0.1` accepts only calls from this machine. `0.0.0.0` accepts calls from other machines too, over \
         IPv4. `[::]` accepts them over IPv6 as well.",
        ),
        ("The address has no port", "localhost", "Write the address with its port, or with port 0 for a free one."),
        ("The address has a scheme", "http://localhost:8080", "Leave out the scheme: a server's address is not a URL."),
        ("The address has a path", "localhost:8080/rpc", "Leave out the path, and set it with `Server::endpoint`."),
        ("The address has a space", "localhost: 8080", "Trim text that was read from a file or a variable."),
        ("The address of a server has no host", ":http", "Write an address or a name of this machine before the port."),
        ("The port of a server is invalid", "localhost:http", "Write the port as a number."),
        ("An IPv6 address has no brackets", "::1:8080", "Put the address in brackets. They separate it from the port."),
    ];
    for (title, address, remedy) in bad {
        page.add(title, failed(one().serve(address).await), remedy);
    }
    page.add(
        "The endpoint's path is not percent-encoded",
        refused(one().endpoint("/ü")).await,
        "Write the path as the message shows it, or use only letters and digits. Use the same path in the clients.",
    );
    page.add(
        "The endpoint's path has dots that mean something",
        refused(one().endpoint("/a/../rpc")).await,
        "Write the path without dot segments. `..` means the parent and `.` the same directory. Clients remove both \
         before they send a path.",
    );
    page.add(
        "Credentials for any page",
        refused(one().origins(["*"]).cors(|cors| cors.allow_credentials(true))).await,
        "Name each origin whose pages may call, and each header. Browsers send no credentials for `*`.",
    );
    page.add(
        "An origin beside every page of the web",
        refused(one().origins(["*", "https://app.example"])).await,
        "Keep the origins alone if only those pages may call. Keep `*` alone if every page may.",
    );
    page.add(
        "The name of a CORS header is invalid",
        refused(one().cors(|cors| cors.allow_headers(["x-a, x-b"]))).await,
        "Give a list: `cors.allow_headers([\"x-a\", \"x-b\"])`.",
    );
    for (title, origin, remedy) in [
        (
            "An origin has no scheme",
            "app.example",
            "Write the origin as a browser sends it: with its scheme, and with its port unless that is the scheme's usual \
             one.",
        ),
        (
            "An origin has a path",
            "https://app.example/start",
            "Leave out what comes after the port. All pages of an origin may call, or none.",
        ),
        (
            "The `*` of an origin is not the first label",
            "https://pr-*.example.com",
            "Put all pages that may call under one name, and use that name after the `*`. Or list each origin.",
        ),
        (
            "The host of an origin is not ASCII",
            "https://b\u{fc}cher.example",
            "Copy the origin from the `origin` header that the browser sends, or convert the host to punycode.",
        ),
        (
            "The host of an origin has other characters than hosts have",
            "https://a.example,b.example",
            "Give a list: `.origins([\"https://a.example\", \"https://b.example\"])`.",
        ),
        (
            "The host of an origin has brackets that hold no address",
            "https://[app]",
            "Write the IPv6 address, as in `http://[::1]:3000`, or leave out the brackets.",
        ),
        (
            "The port of an origin is not a port",
            "https://app.example:https",
            "Write the port as a number, or leave it out if it is the one of the scheme.",
        ),
    ] {
        page.add(title, refused(one().origins([origin])).await, remedy);
    }
    page.add(
        "A trusted proxy is not a network",
        refused(one().trust_proxy(["proxy.internal"], ProxyHeader::XForwardedFor)).await,
        "Write the proxy's address, or the network that it is in. A name is not looked up: whoever answers for it would be \
         trusted.",
    );
    page.add(
        "A network of trusted priorities is not a network",
        refused(one().trust_priority(["orders.internal"])).await,
        "Write the addresses of the callers, or the network that they are in. A caller with a proven identity needs no entry.",
    );
    page.add(
        "A trusted network has every address",
        refused(one().trust_proxy(["0.0.0.0/0"], ProxyHeader::XForwardedFor)).await,
        "Write the addresses of the proxies, or the network that only they are in. A caller in a trusted network can say \
         that it has any address.",
    );
    page.add(
        "A network has bits beyond its prefix",
        failed(one().serve(Listen::from("127.0.0.1:0").proxy_protocol(["10.1.2.3/8"])).await),
        "Write one of the two that the message shows.",
    );
    page.add(
        "The address isn't this machine's",
        failed(one().serve("192.0.2.1:8080").await),
        "Use an address that `ip address` lists, or `0.0.0.0` for all of them. A server's address is not a URL: it \
         has no scheme and no path. `Server::endpoint` sets the path.",
    );
    page.add(
        "There is nothing to serve",
        refused(Server::new()).await,
        "Add a function to the server before it serves, or add all functions of a package with `server!()`.",
    );
    page.add(
        "A crate has no functions",
        refused(server!(serde_json)).await,
        "Check the name given to `server!`, and that the crate has an `#[rpc]` function that isn't behind a feature.",
    );
    page.add(
        "Two functions have one name",
        refused(one().function("add", || async {})).await,
        "The message names both places. Give one of the functions another name, or don't serve it.",
    );
    page.add(
        "One function is served twice",
        refused(one().method::<add>()).await,
        "`server!()` has every function of the package already. Use `inject_as` for two instances of a type.",
    );
    page.add(
        "Two arguments have one name",
        refused(one().function(("divide", ["a", "a"]), |a: i64, b: i64| async move { a / b })).await,
        "Give each argument of the closure another name, in the order of the closure's arguments.",
    );
    page.add(
        "A name is invalid",
        refused(one().function("no name", || async {})).await,
        "Give the function a name that matches the grammar. It may differ from the name in the code.",
    );
    page.add(
        "A name is reserved",
        refused(one().function("rpc.discover", || async {})).await,
        "Put the function under another prefix.",
    );
    page.add(
        "A name stands for unknown names",
        refused(one().function("_OTHER", || async {})).await,
        "Give the function another name.",
    );
    page.add(
        "A name is too long",
        refused(one().function("x".repeat(129), || async {})).await,
        "Shorten the name or its prefix.",
    );
    let (gate, handle) = Gate::new();
    let running = Running::new(Server::new().inject_as("stuck", gate).limits(|limits| limits.drain = SHORT)).await;
    let client = running.client();
    let mut call = client.call::<bool>("stuck.pass", ());
    harness::foreign::during(&mut call, handle.started).await.unwrap();
    page.add(
        "The server stopped with work unfinished",
        failed(within(running.stopped()).await),
        "Find out what the named functions wait for. `Context::cancellation` tells a function that its call has \
         ended. Raise `Limits::drain` if the work needs the time.",
    );
    drop(handle.release);
    drop(call);
    let running = Running::new(one().limits(|limits| limits.drain = SHORT)).await;
    let mut caller = Caller::to(running.address).await;
    let asks = "POST /rpc/add HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    assert_eq!(caller.ask(asks).await.status, 100);
    page.add(
        "The server stopped with connections open",
        failed(within(running.stopped()).await),
        "Clients were still sending a request or reading a reply. Stop the traffic before you stop the server, or \
         raise `Limits::drain`.",
    );
}

/// What was seen in a directory, without its name.
fn steady_in(directory: &TemporaryDirectory, seen: Seen) -> Seen {
    let directory = directory.path().display().to_string();
    Seen { message: seen.message.replace(&directory, "/run"), ..seen }
}

async fn unix_sockets(page: &mut Page) {
    page.section("Unix sockets, and sockets that are handed over");
    let bad = [
        (
            "The path of a unix socket begins with a name",
            "unix:orders.sock",
            "Write the path from the root. One from the working directory begins with `./`.",
        ),
        ("A unix socket has a host", "unix://orders/rpc", "One slash or three: `unix:/run/orders.sock`."),
        (
            "A unix socket has no file",
            "unix:@orders",
            "Choose a path. Linux has sockets without one, and any process of the machine may connect to those.",
        ),
        (
            "A path where an address is expected",
            "/run/orders.sock",
            "Write `unix:` before the path of a socket. `Server::endpoint` sets the path of the calls.",
        ),
        ("The path of a unix socket is a directory", "unix:/run/", "Add the name of the socket."),
        ("The path of a unix socket has a zero byte", "unix:/run/\0", "Look where the path comes from."),
        (
            "The path of a unix socket is too long",
            &format!("unix:/run/{}", "x".repeat(120)),
            "The system has no more room for it. A path from the working directory is shorter: `unix:./orders.sock`.",
        ),
    ];
    for (title, at, remedy) in bad {
        page.add(title, failed(one().serve(at).bind().await), remedy);
    }
    let directory = TemporaryDirectory::new();
    let path = |name: &str| directory.path().join(name);
    let refused = async |at: Listen| steady_in(&directory, failed(one().serve(at).bind().await));
    let at = |name: &str| Listen::from(Listen::unix(path(name)));
    page.add(
        "The path of a server's unix socket is too long",
        failed(one().serve(Listen::unix(format!("/run/{}", "x".repeat(102)))).bind().await),
        "It is bound under a name that is one byte longer, and renamed once it has its mode. Choose a shorter path.",
    );
    page.add(
        "The path of a server's unix socket is empty",
        failed(one().serve(Listen::unix("")).bind().await),
        "Look where the path comes from: a variable may not be set.",
    );
    page.add(
        "`Listen::unix` was given an address",
        failed(one().serve(Listen::unix("unix:/run/orders.sock")).bind().await),
        "Leave out `unix:`, or give the whole text to `Server::serve`. A directory that is really called `unix:` is \
         `./unix:`.",
    );
    page.add(
        "The mode of a unix socket lets nobody connect",
        refused(Listen::unix(path("orders.sock")).mode(0).into()).await,
        "Give at least `0o600`, which is the default.",
    );
    page.add(
        "The mode of a unix socket is none",
        refused(Listen::unix(path("orders.sock")).mode(0o4755).into()).await,
        "Give permissions alone, such as `0o660`.",
    );
    page.add(
        "The directory of a unix socket is missing",
        refused(at("orders/orders.sock")).await,
        "Create the directory before the start. `RuntimeDirectory=orders` in a systemd unit creates `/run/orders` and \
         removes it again.",
    );
    fs::write(path("letters"), "").unwrap();
    page.add(
        "The directory of a unix socket is none",
        refused(at("letters/orders.sock")).await,
        "Correct the path: what stands before its last slash is a file.",
    );
    page.add(
        "There is a file where the unix socket should be",
        refused(at("letters")).await,
        "byname replaces nothing but sockets. Remove the file if nobody needs it.",
    );
    fs::create_dir(path("directory")).unwrap();
    page.add(
        "There is a directory where the unix socket should be",
        refused(at("directory")).await,
        "Add the name of the socket to the path.",
    );
    std::os::unix::fs::symlink(path("letters"), path("link")).unwrap();
    page.add(
        "There is a symbolic link where the unix socket should be",
        refused(at("link")).await,
        "A server would have to replace the link, or what it stands for. Write the path of the socket itself.",
    );
    let running = UnixRunning::at(one(), at("orders.sock")).await;
    page.add(
        "The unix socket has a live server",
        refused(at("orders.sock")).await,
        "Stop the server that is named, or choose another path. What a server leaves that was killed is replaced without a \
         word: the lock beside the socket ends with its process.",
    );
    drop(running);
    page.add(
        "No socket was handed over",
        failed(one().serve(Listen::activated()).bind().await),
        "Start the service by its socket unit, or try it by `systemd-socket-activate`. A program that is also started by hand \
         looks whether `LISTEN_FDS` is set before it asks for the sockets.",
    );
    page.add(
        "A client's unix socket has no path",
        failed(Client::new("unix:")),
        "Write the path from the root, as the server has it.",
    );
    page.add(
        "A client was given a path",
        failed(Client::new("/run/orders.sock")),
        "Write `unix:` before the path of a socket.",
    );
    let url = |name: &str| format!("unix:{}", path(name).display());
    let call = async |name: &str| {
        let client = Client::new(url(name)).unwrap();
        steady_in(&directory, failed(client.call::<u8>("add", (1, 2)).await))
    };
    page.add(
        "There is no unix socket",
        call("missing.sock").await,
        "Start the server, or correct the path. In a container the path is that of the container.",
    );
    drop(std::os::unix::net::UnixListener::bind(path("dead.sock")).unwrap());
    page.add(
        "The address of a unix socket has an endpoint",
        call("dead.sock/rpc").await,
        "Write the path of the file alone. The endpoint is `/rpc` unless `ClientBuilder::endpoint` says otherwise.",
    );
    page.add(
        "Nobody listens at the unix socket",
        call("dead.sock").await,
        "Its server was killed, or is just starting. The next one replaces the file.",
    );
    page.add(
        "The endpoint is given twice",
        failed(Client::builder("localhost:8080/rpc").endpoint("/api").build()),
        "Leave one of the two out.",
    );
    page.add(
        "The endpoint of a client is not percent-encoded",
        failed(Client::builder("unix:/run/orders.sock").endpoint("/ü").build()),
        "Write the path as the message has it, and as the server has it.",
    );
}

async fn addresses(page: &mut Page) {
    page.section("Calling: what the client finds by itself");
    about_tls::https(page);
    about_compression::of_client(page);
    about_etcd::of_client(page);
    let bad = [
        ("The address has another scheme", "ftp://localhost", "Write `http://`, or no scheme."),
        (
            "The part before `://` is not a scheme",
            "http_://localhost",
            "Write `http://`, or no scheme. A URL inside a path must come after a host.",
        ),
        (
            "The address has a user name",
            "ada:1815@localhost/rpc",
            "Remove the user name from the address, and send credentials as a header. The message does not show them.",
        ),
        (
            "The address has an unknown option",
            "localhost/rpc?x=1",
            "Remove it, or correct its name. Arguments belong to the call.",
        ),
        ("An option of the address stands twice", "localhost?tls=a&tls=b", "Leave one of the two out."),
        (
            "The option `tls` has no name",
            "localhost?tls=",
            "Write the name that is in the certificates of the servers, without a port.",
        ),
        (
            "The address says that there is no TLS and that there is",
            "http://10.0.0.1:8080?tls=orders.internal",
            "Write `https://` or no scheme if the servers have TLS. Otherwise leave out the option.",
        ),
        (
            "A unix socket has the option `tls`",
            "unix:/run/orders.sock?tls=orders.internal",
            "Who may connect to a unix socket is decided by the mode of its file.",
        ),
        ("The address has a fragment", "localhost/rpc#x", "Remove the part after the `#`."),
        (
            "An element of a list is wrong",
            "10.0.0.1:8080,10.0.0.2:x/rpc",
            "Correct the element that is named. The others are right up to there.",
        ),
        (
            "An element of a list is there twice",
            "10.0.0.1:8080,10.0.0.1:8080/rpc",
            "One of the two was meant to be another replica.",
        ),
        ("A list has an empty element", "10.0.0.1:8080,", "A list has no comma at its end."),
        (
            "A list of hosts has a unix socket",
            "10.0.0.1:8080,unix:/run/orders.sock",
            "A URL is a list of hosts or of sockets. `ClientBuilder::addresses` and a file take both.",
        ),
        (
            "A list has a scheme inside",
            "http://10.0.0.1:8080,http://10.0.0.2:8080",
            "All replicas are called in the same way: `http://10.0.0.1:8080,10.0.0.2:8080`.",
        ),
        (
            "A list continues after a path",
            "10.0.0.1:8080/rpc,10.0.0.2:8080/rpc",
            "All replicas have the same endpoint: `10.0.0.1:8080,10.0.0.2:8080/rpc`.",
        ),
        (
            "A list continues after the options",
            "10.0.0.1:8080?tls=a,10.0.0.2:8080",
            "The options hold for all replicas. A file may have options on each line.",
        ),
        (
            "The endpoint is given in the path and as an option",
            "localhost/rpc?endpoint=/api",
            "Leave one of the two out.",
        ),
        (
            "A list of unix sockets has a host",
            "unix:/run/a.sock,unix:8080",
            "Write the path of the socket. `ClientBuilder::addresses` and a file take both kinds.",
        ),
        ("The URL of a file has no path from the root", "file:orders.replicas", "Write the path from the root."),
        ("The URL of a file has a host", "file://etc/orders.replicas", "Write three slashes."),
        ("The URL of a file has a fragment", "file:///etc/orders#1", "A `#` begins the fragment of a URL."),
        ("The URL of a file is not text", "file:///etc/%ff", "What is percent-encoded must be UTF-8."),
        ("The URL of a file names a directory", "file:///etc/orders/", "Add the name of the file."),
        (
            "The name of SRV records has more than a name",
            "srv://_rpc._tcp.orders.internal:8080",
            "Remove what follows the name.",
        ),
        (
            "The name of SRV records is none of DNS",
            "srv://_rpc._tcp.orders..internal",
            "Look for an empty label, or characters that DNS does not have.",
        ),
        (
            "The name of SRV records is wrong",
            "srv://orders.internal",
            "The name begins with the service and the protocol, each with an underscore.",
        ),
        ("The URL of Kubernetes has no namespace", "k8s://orders", "Write the namespace before the service."),
        (
            "The URL of Kubernetes has a path",
            "k8s://shop/orders/rpc",
            "Write the path of the endpoint as an option. The default is `/rpc`.",
        ),
        ("The namespace is none", "k8s://Shop/orders", "Names of Kubernetes have small letters, digits and `-`."),
        ("The service of Kubernetes is none", "k8s://shop/orders.x", "Leave out what belongs to its name in DNS."),
        (
            "The port of Kubernetes is no number",
            "k8s://shop/orders:0",
            "Write the number of the port of the pods, or its name.",
        ),
        (
            "The port of Kubernetes is no name",
            "k8s://shop/orders:HTTP",
            "Write the name of the port as it stands in the Service.",
        ),
        (
            "The URL of etcd has no prefix",
            "etcd://10.0.0.1:2379",
            "The prefix is what the keys of the service begin with, before a slash.",
        ),
        ("The URL of etcd ends with a slash", "etcd://10.0.0.1:2379/orders/", "Leave out the slash."),
        ("The URL of etcd has no host", "etcd:///orders", "Write the members of the cluster, joined by commas."),
        (
            "A member in the URL of etcd is wrong",
            "etcd://10.0.0.1:2379,10.0.0.2:x/orders",
            "Correct the member that is named. The port is 2379 if there is none.",
        ),
        ("The URL of etcd has an empty member", "etcd://10.0.0.1:2379,/orders", "A list has no comma at its end."),
        (
            "A member is in the URL of etcd twice",
            "etcd://10.0.0.1:2379,10.0.0.1:2379/orders",
            "One of the two was meant to be another member.",
        ),
        (
            "The URL of etcd has a user name",
            "etcd://ada:1815@10.0.0.1:2379/orders",
            "Let only machines of the cluster connect to etcd.",
        ),
        ("The URL of etcd has a fragment", "etcd://10.0.0.1:2379/orders#1", "A `#` begins the fragment of a URL."),
        (
            "The prefix in the URL of etcd is not text",
            "etcd://10.0.0.1:2379/%ff",
            "What is percent-encoded must be UTF-8.",
        ),
        ("The address of a client is only a port", "9101", "Write the host before the port."),
        ("The address has no host", "http:///rpc", "Write the host before the path."),
        ("The address of a client has a space", "local host/rpc", "Trim text that was read from a file or a variable."),
        (
            "The address's path is not percent-encoded",
            "localhost/ü",
            "Write the path as the message shows it. The server must have the same path.",
        ),
        ("The host is invalid", "[x]:8080/rpc", "Only an IPv6 address may be in brackets."),
        ("The port is invalid", "localhost:99999/rpc", "Use the port that the server logs at its start."),
        (
            "The port is 0",
            "localhost:0/rpc",
            "With port 0 a server chooses a free port. `Bound::local_addr` says which one.",
        ),
        ("The address can't be read", "local|host/rpc", "Look for characters that an address can't have."),
    ];
    for (title, url, remedy) in bad {
        page.add(title, failed(Client::new(url)), remedy);
    }
    about_dns::dns(page);
    about_kubernetes::kubernetes(page);
    page.add(
        "A replica's address is invalid",
        failed(Client::builder("data.internal/rpc").addresses(["data-1:8080"]).build()),
        "Give the IP addresses of the replicas. Put a name into the URL instead: the client uses all its addresses.",
    );
    page.add(
        "A client has a list of addresses that is empty",
        failed(Client::builder("data.internal/rpc").addresses(Vec::<String>::new()).build()),
        "Find out why there are none. Without `ClientBuilder::addresses` the client uses the addresses of the name.",
    );
    page.add(
        "An address is there twice",
        failed(Client::builder("data.internal/rpc").addresses(["10.0.0.1:8080", "10.0.0.1:8080"]).build()),
        "One of the two was meant to be another replica.",
    );
    page.add("The scheme of a URL has one slash", failed(Client::new("http:/10.0.0.1:8080/rpc")), "Write two slashes.");
    page.add(
        "An IPv6 address in a client's URL has no brackets",
        failed(Client::new("::1:8080/rpc")),
        "Without brackets it is not clear where the address ends and the port begins.",
    );
    page.add(
        "Two places say where the replicas are",
        failed(Client::builder("data-1:8080,data-2:8080").addresses(["10.0.0.1:8080"]).build()),
        "The URL says how the replicas are called where `ClientBuilder::addresses` or `ClientBuilder::discover` says where they \
         are. Then it has one host.",
    );
    page.add(
        "The number of a client is not below the number of clients",
        failed(Client::builder("data.internal").subset(3, 3).build()),
        "Count the clients from 0, for example by the ordinal of a StatefulSet's pod.",
    );
    page.add(
        "A client has addresses and discovers others",
        failed(Client::builder("data.internal").addresses(["10.0.0.1:8080"]).discover(Registry(None)).build()),
        "Let the discovery answer these addresses too.",
    );
    let call = async |client: Result<Client, Error>| failed(client.unwrap().call::<u8>("add", (1, 2)).await);
    let discover = |answer| Client::builder("data.internal").discover(Registry(answer)).build();
    page.add(
        "The discovery of a client fails",
        call(discover(None)).await,
        "The text is the error of your `Discover`. A client that has found replicas before uses those.",
    );
    page.add(
        "The discovery of a client answers nothing",
        call(discover(Some(Vec::new()))).await,
        "Start a replica, or find out why it is not registered. A client that has found replicas before uses those.",
    );
    page.add(
        "The discovery of a client answers what is no address",
        call(discover(Some(vec![Address::Unix(None)]))).await,
        "Answer IP addresses with their ports, or paths of unix sockets. No address of such an answer is used.",
    );
    let directory = TemporaryDirectory::new();
    let file = async |content: Option<&str>| {
        let path = directory.path().join("orders.replicas");
        if let Some(content) = content {
            fs::write(&path, content).unwrap();
        }
        steady_in(&directory, call(Client::new(format!("file://{}", path.display()))).await)
    };
    page.add(
        "There is no file of replicas",
        file(None).await,
        "Correct the path, or write the file. A client that has found replicas before uses those.",
    );
    page.add(
        "A file of replicas is empty",
        file(Some("# 10.0.0.1:8080\n")).await,
        "Write the addresses, each on a line of its own. A client that has found replicas before uses those.",
    );
    page.add(
        "A line of a file of replicas is wrong",
        file(Some("10.0.0.1:8080\n10.0.0.2\n")).await,
        "Correct the line. Until then no line of the file is used.",
    );
    for (title, line, remedy) in [
        ("A line of a file of replicas has a scheme", "http://10.0.0.1:8080", "A file has addresses, not URLs."),
        ("A line of a file of replicas has a path", "10.0.0.1:8080/rpc", "The client's URL may have this option too."),
        ("A line of a file of replicas has two addresses", "10.0.0.1:8080,10.0.0.2:8080", "Write a line for each."),
    ] {
        page.add(title, file(Some(&format!("{line}\n"))).await, remedy);
    }
    page.add(
        "The discovery of a client panics",
        call(Client::builder("data.internal").discover(Panics).build()).await,
        "The standard error of the process has the message and the place of the panic.",
    );
}

struct Panics;

impl Discover for Panics {
    fn replicas<'a>(&'a self, _: Option<&'a Replicas>) -> DiscoverFuture<'a> {
        panic!("in discovery")
    }
}

/// Answers these addresses, or fails.
struct Registry(Option<Vec<Address>>);

impl Discover for Registry {
    fn replicas<'a>(&'a self, _: Option<&'a Replicas>) -> DiscoverFuture<'a> {
        Box::pin(async { Ok(Replicas::new(self.0.clone().ok_or("the registry is down")?)) })
    }
}

async fn before_sending(page: &mut Page) {
    let local = Client::local(&everything()).unwrap();
    page.add(
        "A call by an invalid name",
        failed(local.call::<()>("add-all", ()).await),
        "Copy the name from the server's log: at its start the server logs each function that it serves.",
    );
    page.add(
        "An invalid prefix",
        failed(local.prefix("left.").call::<i64>("total", ()).await),
        "Give the prefix without a dot at its end. byname adds the dot.",
    );
    page.add(
        "The pattern of a policy is no pattern",
        failed(local.policy("orders*", |policy| policy.attempts = 2).call::<i64>("total", ()).await),
        "Patterns are the same everywhere: a name, all names below a word and its dot, or all names.",
    );
    page.add(
        "A policy has no attempts",
        failed(local.policy("orders.*", |policy| policy.attempts = 0).call::<i64>("total", ()).await),
        "Set 1 for calls that are to be sent once.",
    );
    page.add(
        "A policy has no time",
        failed(local.policy("orders.*", |policy| policy.timeout = Duration::ZERO).call::<i64>("total", ()).await),
        "Set the time that a call may take. To leave it as it is, don't set it.",
    );
    for (title, name, value, remedy) in [
        (
            "A header's name is invalid",
            "x user",
            "ada",
            "Correct the name. Words may be joined by underscores and hyphens.",
        ),
        (
            "A header's value can't be sent",
            "authorization",
            "Bearer 1234\n",
            "Trim text that was read from a file, and encode text that is not ASCII, for example in base64. The message \
         does not show the value, because it may be a secret.",
        ),
        (
            "A header is HTTP's own",
            "content-length",
            "1",
            "Don't set headers that byname sends itself. Headers with a meaning in HTTP, such as `host` or `accept`, \
         would change a call over HTTP and have no effect by frames. Use another name for a header that your \
         function reads.",
        ),
        ("A header is the protocol's own", "byname-timeout-ms", "1", "Use `.timeout(…)` on the call or on the client."),
        (
            "A header is that of the priority",
            "byname-priority",
            "batch",
            "Use `.priority(…)` on the call, or a policy.",
        ),
    ] {
        page.add(title, failed(local.header(name, value).call::<()>("nothing", ()).await), remedy);
    }
    page.add(
        "A text is not a priority",
        "urgent".parse::<byname::Priority>().unwrap_err(),
        "Write one of the four words, in small letters.",
    );
    page.add(
        "The headers are too large",
        failed(local.header("x-user", &"x".repeat(40_000)).call::<()>("nothing", ()).await),
        "Use headers for data about a call, such as its caller. The limit is fixed. It is the same for the headers \
         of a reply, which a function sets with `Context::reply_header`.",
    );
    let narrow = everything().limits(|limits| limits.header = 1000);
    let narrow = Client::local(&narrow).unwrap().header("x-user", &"x".repeat(1000));
    page.add(
        "The headers are too large for the server",
        failed(narrow.call::<()>("nothing", ()).await),
        "Raise `Limits::header` of the server, which is 64 KiB by default. It counts headers by frames and within \
         the process in the same way as over HTTP. Over HTTP the answer is 431.",
    );
    page.add(
        "The arguments are one value",
        failed(local.call::<Value>("echo", 7).await),
        "Add the comma: `(7,)` is a tuple with one item, `(7)` is a number.",
    );
    page.add(
        "An argument of a stub can't be encoded",
        failed(ratio::on(&local.encoded(true), f64::NAN, 1.0).await),
        "Send an `Option` that is `None` if there is no number, or send the number as text.",
    );
    page.add(
        "An argument of a call by name can't be encoded",
        failed(local.call::<f64>("ratio", Args::new().arg(1.0).kwarg("b", f64::INFINITY)).await),
        "As with a stub. If the arguments have your own `Serialize`, the message contains its error.",
    );
    let deep = RawValue::from_string(["[".repeat(10_001), "]".repeat(10_001)].concat()).unwrap();
    page.add(
        "The arguments of a call by name can't be MessagePack",
        failed(local.encoded(true).codec(Codec::MessagePack).call::<Value>("echo", (deep,)).await),
        "No server accepts arguments that are nested so deep. Send a list, or parts that refer to each other by \
         name.",
    );
    page.add(
        "A call waits inside async code",
        failed(add::on(&local, 1, 2).wait()),
        "Write `.await` here. `.wait()` is for threads without async code.",
    );
    page.add(
        "No time is left",
        failed(add::on(&local, 1, 2).timeout(Duration::ZERO).await),
        "A call that a function makes ends at the deadline of that function at the latest. Give the outer call more \
         time, or make fewer calls one after another.",
    );
    let by_path = Running::new(everything().plain(false)).await;
    let mix = Args::new().arg("Ada").kwarg("greeting", "good day");
    page.add(
        "Mixed arguments for a server without the plain way",
        failed(by_path.client().call::<String>("greet", mix).await),
        "A struct or a map gives all arguments by name. A tuple gives all by position. Both can use the path way.",
    );
}

async fn connecting(page: &mut Page) {
    page.section("Calling: what becomes of the connection");
    // It is bound, so nobody else gets the port, and doesn't listen.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    let url = format!("{}/rpc", socket.local_addr().unwrap().as_socket().unwrap());
    page.add(
        "Nobody listens",
        failed(Client::new(&url).unwrap().call::<u8>("add", (1, 2)).await),
        "Start the server, or correct host and port. In containers `localhost` is the container itself.",
    );
    // No label of a name is as long, so that no resolver asks another machine.
    let unknown = format!("{}:8080/rpc", "x".repeat(64));
    page.add(
        "The host isn't known",
        failed(Client::new(&unknown).unwrap().call::<u8>("add", (1, 2)).await),
        "Correct the name, or add it to the machine's name resolution. `getent hosts NAME` shows how the machine \
         resolves it.",
    );
    let full = crowded(&socket);
    let client = Client::builder(&url).limits(|limits| limits.connect = SHORT).build().unwrap();
    page.add(
        "Connecting takes too long",
        failed(client.call::<u8>("add", (1, 2)).await),
        "Possible causes are a firewall that drops packets, and a server that no longer accepts connections. Raise \
         `Limits::connect` only if the network is slow.",
    );
    let silent = Foreign::holding("").await;
    let client = silent.client();
    let paused = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            tokio::time::pause();
            failed(client.call::<u8>("add", (1, 2)).await)
        })
    });
    page.add(
        "A test has paused the clock",
        paused.await.unwrap(),
        "tokio advances a paused clock when its runtime is idle. A runtime that waits for a socket is idle, so a \
         server in another runtime or process has no time to answer. Test with `Client::local`, which has no \
         socket.",
    );
    let client = Client::new(&url).unwrap();
    page.add(
        "The deadline passed before the call was sent",
        failed(client.call::<u8>("add", (1, 2)).timeout(SHORT).await),
        "The call did not run, so it may be sent again. If this happens often, find out why connecting takes so \
         long.",
    );
    drop(full);

    let held = Foreign::holding("").await;
    let limits = |limits: &mut byname::Limits| (limits.connections, limits.waiting) = (2, 2);
    let client = held.builder().limits(limits).build().unwrap();
    let mut calls: Vec<_> = (0..4).map(|_| client.call::<u8>("add", (1, 2))).collect();
    for call in &mut calls {
        start(call).await;
    }
    page.add(
        "Too many calls wait for a connection",
        failed(client.call::<u8>("add", (1, 2)).await),
        "The calls arrive faster than the server answers them. Limit how many calls your program makes at once, or \
         make its own callers wait.",
    );
    calls.truncate(3);
    page.add(
        "A call waited too long for a connection",
        failed(client.call::<u8>("add", (1, 2)).timeout(SHORT).await),
        "All connections were busy until the deadline. The server did not get this call. Raise \
         `Limits::connections` if the server can run more calls at once.",
    );
    page.add(
        "The server didn't answer in time",
        failed(held.client().call::<u8>("add", (1, 2)).timeout(SHORT).await),
        "The server's log says what the function did. Call again only if the function may run twice.",
    );
    drop(calls);
}

async fn answers(page: &mut Page) {
    page.add(
        "The connection ended before an answer",
        answered_by("").await,
        "The server, or a proxy before it, closed the connection during the call. Check whether it was restarted or \
         crashed. `#[rpc(idempotent)]` lets byname send such a call again.",
    );
    page.add(
        "The answer was cut off",
        answered_by("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"ret\"").await,
        "As above. The function has most likely run, but this is not certain.",
    );
    page.add(
        "The answer is not HTTP",
        answered_by("SSH-2.0-OpenSSH_9.6\r\n\r\n").await,
        "Another kind of service listens at this port, or a service that needs TLS. Correct the address.",
    );
    page.add(
        "The answer's status is no status of HTTP",
        answered_by("HTTP/1.1 099 Odd\r\ncontent-length: 0\r\n\r\n").await,
        "As above: what listens there speaks something that only looks like HTTP.",
    );
    page.add(
        "The answer's head is too large",
        answered_by(format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(300_000))).await,
        "Find out what adds the headers. Most often it is a proxy or cookies.",
    );
    page.add(
        "The answer's length is not a number",
        answered_by("HTTP/1.1 200 OK\r\ncontent-length: 1, 2\r\n\r\n1").await,
        "A proxy sends headers that contradict each other. Call the server directly to find which one.",
    );
    page.add(
        "The answer is badly chunked",
        answered_by("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\n").await,
        "As above: a proxy between client and server damages the answer.",
    );
    page.add(
        "The answer's end is unknown",
        answered_by_path("HTTP/1.1 200 OK\r\nbyname-protocol: 1\r\n\r\n3").await,
        "In nginx, set `proxy_http_version 1.1`.",
    );
    let large = Foreign::answering(answer("200 OK", BYNAME, &format!("{{\"ret\": \"{}\"}}", "x".repeat(1000)))).await;
    let client = large.builder().limits(|limits| limits.message = 1000).build().unwrap();
    page.add(
        "The reply is too large for the client",
        failed(client.call::<String>("add", (1, 2)).await),
        "Ask for less at once, in pages, or raise `Limits::message` of the client. The function has run.",
    );
    let statuses = [
        ("301 Moved Permanently", "Call the address that it redirects to. byname follows no redirects."),
        ("400 Bad Request", "If there is a proxy, call the server directly: byname's own errors say more."),
        (
            "401 Unauthorized",
            "Send the credentials: a bearer token with `Client::bearer`, others with `Client::header`.",
        ),
        ("403 Forbidden", "Ask the operator of the proxy which callers it accepts."),
        ("404 Not Found", "Correct the path of the address. It is `/rpc` unless the server sets another one."),
        ("408 Request Timeout", "Raise the time limit, most likely in a proxy."),
        ("413 Content Too Large", "Send less at once, or raise the proxy's limit as well as `Limits::message`."),
        (
            "429 Too Many Requests",
            "Call less often. `Error::retry_after` says when to call again, if the answer contained it.",
        ),
        (
            "431 Request Header Fields Too Large",
            "Find out what adds the headers (most often cookies or a proxy), or raise `Limits::header` of the server.",
        ),
        ("500 Internal Server Error", "Read the server's log. The answer contains nothing that byname can read."),
        ("503 Service Unavailable", "Start the server, or wait until it has started."),
    ];
    for (status, remedy) in statuses {
        let bytes = answer(status, "content-type: text/html\r\n", "<html></html>");
        page.add(&format!("Answered {status}"), answered_by(bytes).await, remedy);
    }
    page.add(
        "The answer is compressed",
        answered_by(answer("200 OK", "content-encoding: gzip\r\n", "")).await,
        "Switch off compression for byname's paths. In nginx, set `gzip off`. With tower-http, put the \
         `CompressionLayer` only around other routes. Or let the client accept it: `ClientBuilder::compress(true)` with the \
         feature `compression`.",
    );
    page.add(
        "The original server answers that there is no such function",
        answered_by(answer("502 no func found err", "", "")).await,
        "Correct the name, or register the function there.",
    );
    page.add(
        "A success without a value",
        answered_by(answer("200 OK", "", "<html></html>")).await,
        "A web server or a login page answers at this address. Correct host, port and path.",
    );
    page.add(
        "A byname server became another",
        answered_by_path("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n3").await,
        "Find out what replaced the server. The next call treats it as an unknown server.",
    );
}

mod elsewhere {
    use byname::rpc;

    /// As it is not.
    #[rpc]
    pub async fn withdraw(account: String, amount: u64) -> Result<u64, u8>;

    pub(super) mod bare {
        use byname::rpc;

        #[rpc]
        pub async fn withdraw(account: String, amount: u64) -> u64;
    }
}

async fn types(page: &mut Page) {
    page.section("Calling: when the two sides disagree");
    let running = Running::new(everything()).await;
    let client = running.client();
    page.add(
        "The reply is of another type",
        failed(client.call::<u8>("greet", ("Ada",)).await),
        "Compare the type that the caller expects with the signature in the server's log. With the feature `schema` on both sides \
         the error of a stub says where the two differ.",
    );
    page.add(
        "The function's own error is of another type",
        failed(elsewhere::withdraw::on(&client, "bob".into(), 1).await),
        "Compare the two declarations. With the feature `schema` on both sides the error of a stub says where they differ. \
         `Error::data` of a call by name has the value unchanged.",
    );
    let by_name = client.call::<u64>("withdraw", ("bob", 1)).await.unwrap_err();
    page.add(
        "The own error of a call by name is of another type",
        by_name.error::<u8>(),
        "`CallError::error` was called with the wrong type. The value is the `data` of this error.",
    );
    page.add(
        "The function returned an error that the stub does not declare",
        failed(elsewhere::bare::withdraw::on(&client, "bob".into(), 1).await),
        "Declare the function with the `Result` that it returns. Until then `Error::data` has the error.",
    );
}

async fn arguments(page: &mut Page) {
    page.section("Arguments");
    let local = Client::local(&everything()).unwrap();
    let cases = [
        (
            "An argument is missing",
            "add",
            json!([1]),
            "Give the argument. Only an `Option`, or an argument with a default, may be left out.",
        ),
        (
            "There are too many arguments",
            "add",
            json!([1, 2, 3]),
            "Compare the call with the signature at the end of the message. The server may be older than the caller.",
        ),
        (
            "An argument is unknown",
            "add",
            json!({"a": 1, "c": 2}),
            "Compare the names with the signature, which has the names of the server's code. `data.unknown_argument` \
         has the unknown name.",
        ),
        (
            "An argument has the wrong type",
            "add",
            json!([1, "two"]),
            "Send the type that the signature shows. In JSON `\"2\"` is a string and `2` is a number.",
        ),
    ];
    for (title, name, args, remedy) in cases {
        page.add(title, failed(local.call::<Value>(name, args).await), remedy);
    }
    page.add(
        "An argument is given twice",
        failed(local.call::<i64>("add", Args::new().arg(1).arg(2).kwarg("a", 3)).await),
        "Arguments by position are placed first. Name only the arguments after them.",
    );
    let running = Running::new(everything()).await;
    let at = running.address;
    let too_long = Client::new(format!("{at}/rpc/add")).unwrap();
    page.add(
        "The client's address ends with the function's name",
        failed(too_long.call::<i64>("add", (1, 2)).await),
        "Leave out the name: an address such as `localhost:8080/rpc` is for all functions.",
    );
    page.add(
        "An integer needs more than 64 bits",
        raw(at, post("/rpc/echo", "[18446744073709551617]")).await,
        "Let the function take a type that can hold the integer, or send it as text.",
    );
    let bytes = Running::new(Server::new().function("bytes", |bytes: byname::Bytes| async move { bytes.len() })).await;
    page.add(
        "The text of bytes is not base64",
        raw(bytes.address, post("/rpc/bytes", r#"["AAE=\n"]"#)).await,
        "Leave out spaces and line breaks, and use the standard alphabet or the one for URLs, with or without padding.",
    );
    #[derive(serde::Serialize, serde::Deserialize)]
    enum Color {
        Red,
        Green,
    }
    let parts = Server::new()
        .function("lines", |lines: Vec<(String, u8)>| async move { lines.len() })
        .function("color", |color: Color| async move { color });
    let parts = Running::new(parts).await;
    page.add(
        "A part of an argument has the wrong type",
        raw(parts.address, post("/rpc/lines", r#"[[["a", 1], ["b", "two"]]]"#)).await,
        "The path after the argument's name shows the part: an index for an item of an array, a name for a member.",
    );
    page.add(
        "An array in an argument is too long",
        raw(parts.address, post("/rpc/lines", r#"[[["a", 1, 2]]]"#)).await,
        "Send an array with exactly as many items as the tuple has.",
    );
    page.add(
        "An argument is not a variant of an enum",
        raw(parts.address, post("/rpc/color", "[7]")).await,
        "Send the name as a string. A variant with content is an object: `{\"NAME\": …}`.",
    );
    page.add(
        "The arguments are not JSON",
        raw(at, post("/rpc/add", "{\"a\": 1,\n \"b\": two}")).await,
        "The message shows line and column of the body. Strings need quotation marks.",
    );
    page.add(
        "A plain body is not JSON",
        raw(at, post("/rpc", "{\"fun\": \"add\", \"args\": [1, 2")).await,
        "As above.",
    );
    page.add(
        "A plain body is empty",
        raw(at, post("/rpc", "")).await,
        "Send the call in the body, or name the function in the path: `POST /rpc/add`.",
    );
    page.add(
        "An object has a key that is reserved for serde_json",
        raw(at, post("/rpc/echo", r#"[{"$serde_json::private::RawValue":"[1]"}]"#)).await,
        "Rename the key. serde_json would replace the object by the JSON in its string, however deep that is nested.",
    );
    page.add(
        "A body by path is neither array nor object",
        raw(at, post("/rpc/add", "1")).await,
        "Send an array or an object: `[1, 2]`, or `{\"a\": 1, \"b\": 2}`.",
    );
    page.add(
        "A plain body is not an object",
        raw(at, post("/rpc", "\"add\"")).await,
        "Send the name in the body, or put it into the path: `POST /rpc/add`.",
    );
    page.add(
        "A plain body has no name",
        raw(at, post("/rpc", r#"{"args": [1, 2]}"#)).await,
        "Add the function's name as `fun`.",
    );
    page.add(
        "A plain body's name is not a string",
        raw(at, post("/rpc", r#"{"fun": 1}"#)).await,
        "Write the name in quotation marks.",
    );
    page.add(
        "A plain body's arguments by position are not an array",
        raw(at, post("/rpc", r#"{"fun": "add", "args": {"a": 1}}"#)).await,
        "Named arguments go into `kwargs`.",
    );
    page.add(
        "A plain body's arguments by name are not an object",
        raw(at, post("/rpc", r#"{"fun": "add", "kwargs": [1, 2]}"#)).await,
        "Arguments by position go into `args`.",
    );
    page.add(
        "A query is not UTF-8",
        raw(at, get("/rpc/greet?name=%ff")).await,
        "Encode the text as UTF-8 before it is percent-encoded, as `encodeURIComponent` does.",
    );
}

#[rpc]
async fn report() -> Result<(), Internal> {
    Err(io::Error::other("the disk is full"))?
}

#[rpc(timeout = "20ms")]
async fn brief() {
    pending().await
}

#[rpc(readonly)]
async fn forever() {
    pending().await
}

#[rpc(readonly)]
async fn reads_forever() {
    pending::<()>().await;
}

async fn functions(page: &mut Page) {
    page.section("The function");
    let local = Client::local(&everything()).unwrap();
    page.add(
        "There is no such function",
        failed(local.call::<i64>("adds", (1, 2)).await),
        "Correct the name, or make the server serve the function. At its start the server logs each function. A \
         server that other machines can reach suggests names only if `Server::listing` allows it.",
    );
    let without = Client::local(&one()).unwrap();
    page.add(
        "The function is linked but not served",
        failed(without.call::<()>("nothing", ()).await),
        "Add the function to the server. At its start the server logs each function that is linked but not served, at DEBUG if it serves less than half of the function's module.",
    );
    page.add(
        "The method is linked but no instance is served",
        failed(without.call::<i64>("bump", (1,)).await),
        "Give the server an instance. At its start the server logs each method that is linked but not served, at DEBUG if it serves less than half of the method's module.",
    );
    page.add(
        "The function panicked",
        failed(local.call::<u8>("panics", ("on purpose",)).await),
        "Find the panic in the server's log and let the function return an error instead.",
    );
    page.add(
        "What the function returned can't be encoded",
        failed(local.call::<f64>("ratio", (0.0, 0.0)).await),
        "Return an `Option` or an error if there may be no number. The effects of the function remain.",
    );
    let more = Server::new().method::<report>().method::<brief>().method::<forever>();
    page.add(
        "The function failed by an `Internal`",
        failed(report::on(&Client::local(&more).unwrap()).await),
        "Search the server's log for the id. The log says what went wrong; callers are not told.",
    );
    let running = Running::new(more.clone().limits(|limits| limits.call = SHORT)).await;
    page.add(
        "The caller's time is over",
        raw(running.address, post_with("/rpc/forever", "byname-timeout-ms: 20\r\n", "")).await,
        "Only callers that are not byname's client see this, because byname's client ends the call itself. Send a \
         larger `byname-timeout-ms`.",
    );
    page.add(
        "The function's own time is over",
        raw(running.address, post("/rpc/brief", "")).await,
        "Make the function faster, or allow it more time. The function continues unless it watches \
         `Context::cancellation`. A function that is `readonly` is stopped, and so is a stream; the message then says so.",
    );
    page.add(
        "The server's time for a call is over",
        raw(running.address, post("/rpc/forever", "")).await,
        "Send `byname-timeout-ms` with the time that the caller is willing to wait.",
    );
    page.add(
        "A call came after its deadline",
        raw(running.address, post_with("/rpc/forever", "byname-timeout-ms: 0\r\n", "")).await,
        "The call did not run. The caller had no time left when it called, or the request waited in a queue for too \
         long.",
    );
}

/// A function that runs until it is released, and how many of it run.
fn holding() -> (Server, watch::Receiver<usize>, std::sync::Arc<Semaphore>) {
    let (running, count) = watch::channel(0);
    let release = std::sync::Arc::new(Semaphore::new(0));
    let held = release.clone();
    let server = Server::new().function("hold", move || {
        running.send_modify(|running| *running += 1);
        let held = held.clone();
        async move { drop(held.acquire().await) }
    });
    (server, count, release)
}

/// Of the function below: whether it has begun, and whether it may end.
static ONE_AT_A_TIME: std::sync::OnceLock<(Semaphore, Semaphore)> = std::sync::OnceLock::new();

#[rpc(in_flight = 1)]
async fn one_at_a_time() {
    let (began, release) = ONE_AT_A_TIME.get_or_init(|| (Semaphore::new(0), Semaphore::new(0)));
    began.add_permits(1);
    drop(release.acquire().await);
}

/// The error of the first call of `add` that fails, of two.
async fn called_twice(server: Server) -> Seen {
    let running = Running::new(server).await;
    let client = running.client().policy("*", |policy| policy.attempts = 1);
    let _ = client.call::<i64>("add", (1, 2)).await;
    failed(client.call::<i64>("add", (1, 2)).await)
}

async fn json_rpc(page: &mut Page) {
    page.section("JSON-RPC");
    let change = |limits: &mut byname::Limits| (limits.batch, limits.message) = (2, 1000);
    let server = everything().function("large", || async { "x".repeat(1000) }).limits(change);
    let at = Running::new(server).await;
    let at = at.address;
    let mut said = async |title: &str, body: &str, remedy: &str| {
        page.add(title, raw(at, post("/rpc", body)).await, remedy);
    };
    said("The body is not JSON", "[1,", "Check what the client sends, and whether a proxy cut it off.").await;
    said("The batch is empty", "[]", "Don't send an empty batch.").await;
    said(
        "The version is another",
        r#"{"jsonrpc":"1.0","method":"add","id":1}"#,
        "Use a client of JSON-RPC 2.0. No other version is supported.",
    )
    .await;
    said(
        "A request of a batch says no version",
        r#"[{"method":"add","id":1}]"#,
        "Each request of a batch must be complete. A plain call, with `fun`, can't be a part of an array.",
    )
    .await;
    said("A request names no function", r#"{"jsonrpc":"2.0","id":1}"#, "Put the name into `method`.").await;
    said("The name is not a string", r#"{"jsonrpc":"2.0","method":1,"id":1}"#, "Write the name in quotation marks.")
        .await;
    said(
        "The arguments are neither by position nor by name",
        r#"{"jsonrpc":"2.0","method":"add","params":1,"id":1}"#,
        "Put a single argument into an array too.",
    )
    .await;
    said(
        "The id is something else",
        r#"{"jsonrpc":"2.0","method":"add","id":[1]}"#,
        "Number your requests. Without an id a request is a notification, which is not answered.",
    )
    .await;
    let one = r#"{"jsonrpc":"2.0","method":"add","params":[1,2],"id":1}"#;
    said(
        "The batch has too many requests",
        &format!("[{one},{one},{one}]"),
        "No request of the batch ran. Send several batches, or raise `Limits::batch` of the server.",
    )
    .await;
    said(
        "The replies are too large together",
        r#"{"jsonrpc":"2.0","method":"large","id":1}"#,
        "That function ran. Ask for less in one batch, or raise `Limits::message` of the server.",
    )
    .await;
}

async fn limits(page: &mut Page) {
    page.section("Limits of a server");
    let server = everything().function("large", || async { "x".repeat(2000) });
    let change = |limits: &mut byname::Limits| {
        (limits.message, limits.nesting) = (1000, 3);
        (limits.body_progress, limits.header_read) = (SHORT, SHORT);
    };
    let running = Running::new(server.limits(change)).await;
    let at = running.address;
    page.add(
        "The request is too large",
        raw(at, post("/rpc/echo", &format!("[\"{}\"]", "x".repeat(1000)))).await,
        "Send less at once, or raise `Limits::message` of the server. A proxy before the server has a limit too.",
    );
    page.add(
        "The reply is too large for the server",
        raw(at, post("/rpc/large", "")).await,
        "Let the function return less, in pages, or raise `Limits::message` of both sides. The function has run.",
    );
    page.add(
        "The arguments are nested too deep",
        raw(at, post("/rpc/echo", "[[[[]]]]")).await,
        "Send a tree as a list of nodes that name their parents.",
    );
    page.add(
        "The header comes too slowly",
        raw(at, "POST /rpc/add HTTP/1.1\r\nhost: lo").await,
        "The client stopped in the middle of its request. Find out what delays it. It may also be a port scanner.",
    );
    page.add(
        "The body stops coming",
        raw(at, "POST /rpc/add HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\n[1,").await,
        "As above. A `content-length` that is larger than the body has the same effect.",
    );
    let running = Running::new(everything().limits(|limits| limits.call = SHORT)).await;
    page.add(
        "The body isn't there at the deadline",
        raw(running.address, "POST /rpc/add HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\n[1,").await,
        "Send `byname-timeout-ms` with enough time for a body of that size on this network.",
    );

    let running = Running::new(Server::new().method::<one_at_a_time>()).await;
    let client = running.client();
    let (began, release) = ONE_AT_A_TIME.get_or_init(|| (Semaphore::new(0), Semaphore::new(0)));
    let mut call = one_at_a_time::on(&client).into_future();
    harness::foreign::during(&mut call, began.acquire()).await.unwrap().forget();
    page.add(
        "A function has too much to do",
        raw(running.address, post("/rpc/one_at_a_time", "")).await,
        "Try again after `retry_after`. Raise `in_flight` in its attribute only if what it uses can take more.",
    );
    release.add_permits(1);
    call.await.unwrap();

    let server = |change: fn(&mut byname::FunctionLimits)| everything().limits_for("add", change);
    page.add(
        "A caller has too many calls of a function in flight",
        called_twice(server(|limits| limits.in_flight_per_caller = Some(0))).await,
        "Make fewer calls at once. The limit is for each caller: a proven identity, or an IP address.",
    );
    page.add(
        "A function is called too often",
        called_twice(server(|limits| limits.rate = Some(1))).await,
        "Try again after `retry_after`, which says when the rate admits another call.",
    );
    page.add(
        "A caller calls a function too often",
        called_twice(server(|limits| limits.rate_per_caller = Some(1))).await,
        "Try again after `retry_after`. The rate is for each caller: a proven identity, or an IP address.",
    );
    page.add(
        "`limits_for` sets nothing",
        refused(server(|_| ())).await,
        "Set a field of `FunctionLimits` in the closure.",
    );
    page.add(
        "`limits_for` sets a burst without a rate",
        refused(server(|limits| limits.burst = Some(1))).await,
        "Set `rate` or `rate_per_caller` too.",
    );
    page.add(
        "`limits_for` sets a rate of nothing",
        refused(server(|limits| limits.rate = Some(0))).await,
        "To refuse all calls of a function for a while, close it.",
    );
    page.add(
        "`limits_for` limits no function",
        refused(everything().limits_for("orders.*", |limits| limits.in_flight = Some(1))).await,
        "Write the name of a function that the server has, or a pattern that matches one.",
    );
    page.add(
        "`limits_for` has no pattern",
        refused(everything().limits_for("orders*", |limits| limits.in_flight = Some(1))).await,
        "Write `orders.*` for all functions below `orders`.",
    );

    let running = Running::new(everything().limits(|limits| limits.queue_delay = Duration::from_micros(1))).await;
    let client = running.client().policy("*", |policy| policy.attempts = 1);
    // Calls wait for longer than that behind each other.
    let queued = loop {
        let calls = (0..100).map(|_| client.call::<i64>("add", (1, 2)).into_future());
        let ended = futures_util::future::join_all(calls).await;
        let mut errors = ended.into_iter().filter_map(Result::err).map(|error| failed::<()>(Err(error)));
        if let Some(refused) = errors.find(|refused| refused.message.starts_with("there are more calls")) {
            break refused;
        }
    };
    page.add(
        "Calls wait too long for a thread",
        queued,
        "Try again after `retry_after`. Give the server more threads, or more replicas. Raise `Limits::queue_delay` if callers can \
         wait, as those of batches.",
    );

    let bound = everything().serve("127.0.0.1:0").bind().await.unwrap();
    let (handle, at) = (bound.handle(), bound.local_addr());
    let serving = tokio::spawn(bound.into_future());
    handle.close("add", Duration::from_secs(30)).unwrap();
    page.add(
        "A function is closed",
        failed(Client::new(at.to_string()).unwrap().policy("*", |policy| policy.attempts = 1).call::<i64>("add", (1, 2)).await),
        "The server's operator has closed the function for a while, by `ServerHandle::close` or the file of limits. Try again after \
         `retry_after`.",
    );
    page.add(
        "A pattern closes no function",
        failed(handle.close("orders.*", Duration::ZERO)),
        "Write the name of a function, or a pattern that matches one, such as `reports.*`.",
    );
    page.add(
        "A limit can't be changed while the server runs",
        failed(handle.change_limits(|limits| limits.message = 1)),
        "Change it at the start, by `Server::limits`, and restart the server.",
    );
    serving.abort();

    let running = Running::new(everything().limits(|limits| limits.in_flight = 0)).await;
    let client = running.client().policy("*", |policy| policy.attempts = 1);
    let held_back = loop {
        let mut refused = failed(client.call::<i64>("add", (1, 2)).await);
        if let Some((share, rest)) =
            refused.message.strip_prefix("`add` was not sent, because ").and_then(|told| told.split_once(" % "))
        {
            // It is less if the calls are counted while they are made slowly.
            assert!(share.parse::<u32>().is_ok_and(|share| share > 50), "{}", refused.message);
            refused.message = format!("`add` was not sent, because 100 % {rest}");
            break refused;
        }
    };
    page.add(
        "The service has refused too many calls",
        held_back,
        "The client sends as many calls as the service accepts, and as many again. The number differs. Make fewer calls, or find \
         out why the service refuses them: the errors of those that were sent say it.",
    );

    let (server, mut count, release) = holding();
    let running = Running::new(server.limits(|limits| limits.in_flight = 4)).await;
    let client = running.client();
    let mut calls = [(); 4].map(|()| client.call::<()>("hold", ()));
    for (nth, call) in calls.iter_mut().enumerate() {
        harness::foreign::during(call, count.wait_for(|count| *count == nth + 1)).await.unwrap();
    }
    let batch = Client::new(running.address.to_string()).unwrap().policy("*", |policy| policy.attempts = 1);
    page.add(
        "The server has too much to do for a call of this priority",
        failed(batch.call::<()>("hold", ()).priority(byname::Priority::Batch).await),
        "Try again later. Calls of the priorities `batch` and `sheddable` leave a part of `Limits::in_flight` to others.",
    );
    page.add(
        "The server has too much to do",
        raw(running.address, post("/rpc/hold", "")).await,
        "Try again after `retry_after`. Raise `Limits::in_flight` only if the functions mostly wait and memory allows it.",
    );
    release.add_permits(4);
    for call in calls {
        call.await.unwrap();
    }

    let (server, mut count, release) = holding();
    let running = Running::new(server).await;
    let mut http2 = frames::Http2::to(running.address, &[]).await;
    let most = 256;
    for nth in 0..most {
        http2.send(frames::post(2 * nth + 1, "/rpc/hold", "[]")).await;
        within(count.wait_for(|count| *count == nth as usize + 1)).await.unwrap();
        http2.send(frames::reset(2 * nth + 1)).await;
    }
    http2.send(frames::post(2 * most + 1, "/rpc/hold", "[]")).await;
    page.add(
        "A connection has too many functions running",
        of_json(serde_json::from_slice(&http2.until(frames::DATA).await.payload).unwrap()),
        "Only a client that cancels calls while they run gets this error; a call ends so at its deadline too. Wait for replies, use more connections, or make fewer calls than the server can run.",
    );
    release.add_permits(most as usize);
}

async fn http(page: &mut Page) {
    page.section("HTTP and browsers");
    let running = Running::new(everything()).await;
    let at = running.address;
    page.add(
        "A TLS handshake came to a port without TLS",
        raw(at, b"\x16\x03\x01").await,
        "Write `http://`, or give the server `Server::tls`. A client with TLS does not read this: its error is that the server \
         does not speak TLS.",
    );
    page.add(
        "Nothing is at the path",
        raw(at, post("/add", "[1,2]")).await,
        "Put the path of the endpoint before the name: `/rpc`, or the path that `Server::endpoint` sets.",
    );
    let plain = Running::new(everything().path(false)).await;
    page.add(
        "The server accepts no calls by path",
        raw(plain.address, post("/rpc/add", "[1,2]")).await,
        "Call the plain way, or remove `.path(false)` from the server.",
    );
    let neither = Running::new(everything().plain(false).path(false)).await;
    page.add(
        "The server accepts only JSON-RPC",
        raw(neither.address, post("/rpc/add", "[1,2]")).await,
        "Use a client of JSON-RPC, or remove one of the two lines that switch off byname's own ways.",
    );
    let closed = Running::new(everything().plain(false).path(false).json_rpc(false)).await;
    page.add(
        "The server accepts no calls",
        raw(closed.address, post("/rpc/add", "[1,2]")).await,
        "Remove one of the three lines that switch off the ways.",
    );
    page.add(
        "The verb calls nothing",
        raw(at, verb("PUT", "/rpc/add", "")).await,
        "The `allow` header of the answer lists the methods.",
    );
    page.add(
        "The method of HTTP is unknown",
        raw(at, verb("BREW", "/rpc/add", "")).await,
        "Use POST. If a proxy or a library sends another method, correct it there.",
    );
    page.add(
        "GET of a function that isn't readonly",
        raw(at, get("/rpc/counter.bump?by=1")).await,
        "Call it with POST. If it changes nothing, declare it `#[rpc(readonly)]`. Browsers and proxies may repeat a \
         GET.",
    );
    let hosts: [(&str, &[u8], &str); 5] = [
        ("The host is missing", b"", "Let the client send the header. HTTP/1.1 requires it."),
        (
            "The host is repeated",
            b"host: a\r\nhost: a\r\n",
            "Find the proxy that adds a header instead of replacing it.",
        ),
        ("The host is not ASCII", b"host: caf\xe9\r\n", "Send the name in punycode."),
        ("The host is not a host", b"host: me@localhost\r\n", "Send the name alone: no user, no path."),
        (
            "The host isn't the server's",
            b"host: evil.test\r\n",
            "If the name is yours, list it. If not, a web page may have pointed its name to your machine, and the call \
         was rejected.",
        ),
    ];
    for (title, header, remedy) in hosts {
        let request = [b"GET /rpc/add?a=1&b=2 HTTP/1.1\r\n", header, b"\r\n"].concat();
        page.add(title, raw(at, request).await, remedy);
    }
    page.add(
        "The target is a host",
        raw(at, "POST localhost:80 HTTP/1.1\r\nhost: localhost:80\r\n\r\n").await,
        "Only CONNECT has such a target, and byname is not a proxy. Send a path such as `/rpc/add`.",
    );
    page.add(
        "The host and the target differ",
        raw(at, "GET http://evil.test/rpc/add?a=1&b=2 HTTP/1.1\r\nhost: localhost\r\n\r\n").await,
        "A proxy changed one of the two. Let it keep both, or set both.",
    );
    let json = "content-type: application/json\r\n";
    for (title, headers, remedy) in [
        (
            "A page of another origin calls",
            "origin: http://evil.test\r\n",
            "List the page's origin, with its scheme and port, exactly as the browser sends it.",
        ),
        (
            "A page of another site calls",
            "sec-fetch-site: cross-site\r\n",
            "As above. This browser sent no allowed origin.",
        ),
        (
            "The origin is repeated",
            "origin: http://a\r\norigin: http://b\r\n",
            "Find out what adds the second header, most likely a proxy.",
        ),
    ] {
        let request = post_with("/rpc/add", &format!("{json}{headers}"), "[1,2]");
        page.add(title, raw(at, request).await, remedy);
    }
    for (title, headers, remedy) in [
        (
            "A page sends no content type",
            "origin: http://localhost\r\n",
            "Let `fetch` send `content-type: application/json`.",
        ),
        (
            "A page sends another content type",
            "origin: http://localhost\r\ncontent-type: text/plain\r\n",
            "`fetch` sends a string as `text/plain` unless its headers set another type. byname accepts only JSON from \
         pages, because any page can send forms and text.",
        ),
        (
            "The body is compressed",
            "content-encoding: gzip\r\n",
            "Switch off the compression of requests in the client or proxy, or let the server decode them: \
         `Server::compress(true)` with the feature `compression`.",
        ),
        (
            "The time-out is not a number",
            "byname-timeout-ms: 1.5\r\n",
            "Send milliseconds without a unit and without a fraction.",
        ),
        (
            "The transfer coding is unknown",
            "transfer-encoding: gzip, chunked\r\n",
            "Send the body without another coding, chunked or with its length.",
        ),
    ] {
        let length = "content-length: 5\r\n";
        let request = match headers.starts_with("transfer") {
            true => post_with("/rpc/add", headers, "").replace("content-length: 0\r\n", "") + "0\r\n\r\n",
            false => format!("POST /rpc/add HTTP/1.1\r\nhost: localhost\r\n{headers}{length}\r\n[1,2]"),
        };
        page.add(title, raw(at, request).await, remedy);
    }
    let chunked = "POST /rpc/add HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nx\r\n";
    page.add(
        "The body is badly chunked",
        raw(at, chunked).await,
        "Each chunk begins with its length in hexadecimal digits. Use an HTTP library.",
    );
    let request = hyper::Request::post("/rpc/add").header("host", "localhost").body(BreaksOff).unwrap();
    let answered = one().into_service().unwrap().call(request).await.unwrap();
    let body = answered.into_body().collect().await.unwrap().to_bytes();
    page.add(
        "The body broke off",
        of_json(serde_json::from_slice(&body).unwrap()),
        "The caller closed the connection while it sent the request, and the function did not run. Usually only the \
         log shows this.",
    );
    let request = hyper::Request::get("/rpc").header("host", "localhost").header("upgrade", "websocket");
    let request = request.header("connection", "upgrade").header("sec-websocket-version", "13");
    let request =
        request.header("sec-websocket-protocol", "byname.v1").header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let mut mounted = one().frames(true).into_service().unwrap();
    let answered = mounted.call(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
    let body = answered.into_body().collect().await.unwrap().to_bytes();
    page.add(
        "The server that byname is mounted in can't upgrade",
        of_json(serde_json::from_slice(&body).unwrap()),
        "Nothing breaks: a byname client stays with HTTP. For frames, mount the service in a server that is built on hyper \
         and serves its connections with upgrades, as `axum::serve` does, and let no layer remove the request's extensions.",
    );
    mounted.drain().await.unwrap();
    let request = hyper::Request::post("/rpc/add").header("host", "localhost").body(Full::<Bytes>::default()).unwrap();
    let answered = mounted.call(request).await.unwrap();
    let body = answered.into_body().collect().await.unwrap().to_bytes();
    page.add(
        "The application that byname is mounted in is stopping",
        of_json(serde_json::from_slice(&body).unwrap()),
        "Send the call again, to another replica or when this one has restarted. A byname client does so by itself where \
         it has several addresses. `HttpService::drain` of the application was called.",
    );
    let running = Running::new(Server::new().method::<reads_forever>()).await;
    let mut caller = Caller::to(running.address).await;
    caller.send(get("/rpc/reads_forever")).await;
    caller.stream.shutdown().await.unwrap();
    page.add(
        "The caller closed its half of the connection",
        caller.answer().await,
        "Close the connection only after the answer. In nc, leave out `-N`. Functions that are not `readonly` are \
         answered.",
    );
}

/// The outcome of a call that is answered by these bytes, which depend on its id, and the end of the connection.
async fn answered_by_frames(bytes: fn(u64) -> Vec<u8>) -> Seen {
    let (server, upgraded) = Foreign::of_frames(move |mut connection| async move {
        let id = loop {
            if let (3, id) = connection.frame().await {
                break id;
            }
        };
        connection.send(bytes(id)).await;
    })
    .await;
    let client = server.client();
    gone_over(&client, &upgraded).await;
    failed(client.call::<Value>("add", (1, 2)).await)
}

async fn by_frames(page: &mut Page) {
    page.section("Frames");
    let running = Running::new(everything()).await;
    let upgrade = "upgrade: websocket\r\n";
    let connection = "connection: upgrade\r\n";
    let version = "sec-websocket-version: 13\r\n";
    let protocol = "sec-websocket-protocol: byname.v1\r\n";
    let cases = [
        (
            "An upgrade without `connection`",
            format!("{upgrade}{version}{protocol}"),
            "A proxy removed the header, because it is valid only for one connection. Let the proxy forward upgrades. \
         In nginx, set `proxy_set_header Connection upgrade`, and the same for `Upgrade`.",
        ),
        (
            "An upgrade to another version of WebSocket",
            format!("{upgrade}{connection}{protocol}"),
            "Send the header. WebSocket libraries do that themselves.",
        ),
        (
            "An upgrade to another protocol",
            format!("{upgrade}{connection}{version}"),
            "In browsers, write `new WebSocket(url, \"byname.v1\")`. Libraries call it a subprotocol.",
        ),
        (
            "An upgrade without a key",
            format!("{upgrade}{connection}{version}{protocol}sec-websocket-key: key\r\n"),
            "Use a WebSocket library for the handshake.",
        ),
        (
            "An upgrade with a body",
            format!(
                "{upgrade}{connection}{version}{protocol}sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\ncontent-length: 5\r\n"
            ),
            "Send frames after the answer.",
        ),
    ];
    for (title, headers, remedy) in cases {
        page.add(title, raw(running.address, verb("GET", "/rpc", &headers)).await, remedy);
    }
    let mut running = Running::new(everything()).await;
    let mut caller = Caller::to(running.address).await;
    let asks = "POST /rpc/echo HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    let mut other = Caller::to(running.address).await;
    assert_eq!(other.ask(asks).await.status, 100);
    let key = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let asks = verb("GET", "/rpc", &format!("{upgrade}{connection}{version}{protocol}{key}"));
    let (begins, goes_on) = asks.split_at(asks.len() - 2);
    caller.send(begins).await;
    running.stop();
    let _ = within(tokio::net::TcpStream::connect(running.address)).await;
    page.add(
        "An upgrade of a server that stops",
        caller.ask(goes_on).await,
        "Connect again after a short time, when another server has the address or this one has restarted.",
    );
    drop(other);

    let server = everything().limits(|limits| limits.message = 1000);
    let running = Running::new(server).await;
    let client = running.client_by(Transport::Frames);
    let large: &str = "x".repeat(1000).leak();
    let seen = loop {
        let seen = failed(client.call::<String>("shout", (large,)).await);
        // Over HTTP it is the server that says so.
        if seen.message.contains("`shout`") {
            break seen;
        }
    };
    page.add(
        "The request is too large for the other side of a connection of frames",
        seen,
        "The request was not sent. Send less at once, or raise `Limits::message` of the server.",
    );
    page.add(
        "The connection of frames ended before an answer",
        answered_by_frames(|_| Vec::new()).await,
        "As over HTTP: the server, or a proxy before it, closed the connection during the call. If a proxy closes \
         such connections after a time, change its setting. If it happens repeatedly, byname uses HTTP.",
    );
    page.add(
        "The other side of a connection of frames breaks the protocol",
        answered_by_frames(|_| vec![0x81, 0]).await,
        "The text after the colon says how. If both sides are byname, a proxy between them changed the bytes.",
    );
    page.add(
        "The answer by frames can't be read",
        answered_by_frames(|id| frame(4, 2, id, b"")).await,
        "As above, but only in the frames of this call.",
    );
    for (title, bytes, remedy) in [
        (
            "The reply is cut off MessagePack",
            (|id| frame(4, 0, id, b"\x92\x01")) as fn(u64) -> Vec<u8>,
            "The other side sends invalid MessagePack. `ClientBuilder::codec` can select JSON instead.",
        ),
        (
            "The reply has a MessagePack value that JSON does not have",
            |id| frame(4, 0, id, b"\xc1"),
            "Extensions, for example for times, do not exist in JSON. Send a string or a number.",
        ),
        ("A string in MessagePack is not UTF-8", |id| frame(4, 0, id, b"\xa1\xff"), "Send bytes as `bin`."),
    ] {
        page.add(title, answered_by_frames(bytes).await, remedy);
    }

    let silent = |connection| async move {
        pending::<()>().await;
        drop(connection);
    };
    let (server, upgraded) = Foreign::of_frames(silent).await;
    let client = server.builder().limits(|limits| limits.waiting = 0).build().unwrap();
    gone_over(&client, &upgraded).await;
    let mut taken: Vec<_> = (0..9).map(|_| Box::pin(client.call::<u8>("add", (1, 2)).into_future())).collect();
    for call in &mut taken {
        start(call).await;
    }
    page.add(
        "Too many calls wait for the connection of frames",
        failed(client.call::<u8>("add", (1, 2)).await),
        "The server accepts no more calls at once on a connection, and too many calls of this client wait already. \
         Make fewer calls at once, or raise the limit.",
    );
    drop(taken);
    let client = server.builder().limits(|limits| limits.write_progress = SHORT).build().unwrap();
    gone_over(&client, &upgraded).await;
    let (small, large) = tokio::join!(
        client.call::<u8>("add", (1, 2)).into_future(),
        client.call::<u8>("add", ("x".repeat(32 << 20), 2)).into_future(),
    );
    assert_eq!(large.unwrap(), 3, "a call that did not go out whole is sent again");
    page.add(
        "The server reads no frames",
        failed(small),
        "The server hangs, or a debugger has stopped it. Raise the limit only if the network is that slow.",
    );
    let (server, upgraded) = Foreign::of_frames(silent).await;
    let client = server.client();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let call = runtime.spawn(async move {
        gone_over(&client, &upgraded).await;
        let mut call = client.call::<u8>("add", (1, 2)).into_future();
        start(&mut call).await;
        (call,)
    });
    let (call,) = within(call).await.unwrap();
    runtime.shutdown_background();
    page.add(
        "The runtime of a connection of frames is gone",
        failed(within(call).await),
        "Keep the runtime until its calls have ended, or make the call in a runtime that continues.",
    );
}

/// A request's body whose sender goes away.
struct BreaksOff;

impl Body for BreaksOff {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Task<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::ConnectionReset, "connection reset by peer"))))
    }
}

async fn interceptors(page: &mut Page) {
    page.section("Interceptors");
    let client = Client::local(&one()).unwrap();
    let panics = client.intercept(|request, next| async move {
        assert!(request.name().is_empty(), "on purpose");
        next.run(request).await
    });
    page.add(
        "An interceptor panicked",
        failed(add::on(&panics, 1, 2).await),
        "Find the panic in the log of the side that has the interceptor. `executed` says whether the interceptor \
         had already passed on the call.",
    );
    let waits = client.intercept(|request, next| async move {
        pending::<()>().await;
        next.run(request).await
    });
    page.add(
        "An interceptor took all the time",
        failed(add::on(&waits, 1, 2).timeout(SHORT).await),
        "Find out what the interceptor waits for, and limit that wait to less than the time of the call.",
    );
}

async fn page() -> Page {
    let mut page = Page::new();
    at_the_start(&mut page).await;
    unix_sockets(&mut page).await;
    addresses(&mut page).await;
    before_sending(&mut page).await;
    connecting(&mut page).await;
    answers(&mut page).await;
    types(&mut page).await;
    arguments(&mut page).await;
    functions(&mut page).await;
    limits(&mut page).await;
    json_rpc(&mut page).await;
    http(&mut page).await;
    by_frames(&mut page).await;
    interceptors(&mut page).await;
    about_access::access(&mut page).await;
    about_streams::streams(&mut page).await;
    about_keys::keys(&mut page).await;
    about_tls::tls(&mut page).await;
    about_compression::compression(&mut page).await;
    about_etcd::etcd(&mut page).await;
    page
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors.md")
}

const REWRITE: &str = "ERRORS=overwrite cargo test -p byname --test errors";

fn is_rewritten() -> bool {
    env::var_os("ERRORS").is_some_and(|value| value == "overwrite")
}

#[tokio::test]
async fn every_message_is_on_the_page_with_its_remedy() {
    let page = page().await;
    if is_rewritten() {
        fs::write(path(), &page.text).unwrap();
        return;
    }
    let written = fs::read_to_string(path()).unwrap_or_default();
    let mut written = written.lines();
    for (at, line) in page.text.lines().enumerate() {
        let there = written.next().unwrap_or("(the end)");
        assert_eq!(there, line, "docs/errors.md differs in line {}; `{REWRITE}` writes it anew", at + 1);
    }
    assert_eq!(written.next(), None, "docs/errors.md goes on after its end; `{REWRITE}` writes it anew");
}

/// Texts in the sources that are not on the page, each with the reason.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("which is a defect of byname", "only a defect of byname says it"),
    ("the semaphore was closed", "nothing closes it"),
    ("the background thread lost the call", "the thread's runtime never ends, and panics are caught before"),
    ("a caller in this process sent other types", "the types are compared before values are handed over as they are"),
    ("another type", "the types are compared before values are handed over as they are"),
    ("more parameters than arguments", "both are counted at compile time"),
    ("arguments: an array (by position) or an object", "what is neither is refused before it comes here"),
    ("an argument's name", "the names in a JSON object are strings"),
    ("a member's name", "the names in a JSON object are strings"),
    ("it is not UTF-8", "the log says it of a file of limits; `limits_file` has the tests"),
    ("expected `in_flight = 500`", "the log says it of a file of limits"),
    ("expected a whole number of calls", "the log says it of a file of limits"),
    (" is not a time, such as `30s`", "the log says it of a file of limits"),
    ("it can't be read: ", "the log says it of a file of limits"),
    ("calls without a policy", "a title of `!explain`"),
    ("the name has no address", "a resolver that knows a name gives an address, or fails in the system's words"),
    ("there is no other replica", "only of an attempt beside another, which then counts alone"),
    ("it is no replica any more", "only of an address that discovery drops while a connection to it begins"),
    ("it has an option that byname doesn't know", "as the entry about an unknown option, where that may be a password"),
    ("the server had closed it", "only on a connection that ends between being opened and being used"),
    ("it did not run", "as above"),
    ("the server said something that nobody had asked for", "as above, and it is tried again first"),
    ("; ports below 1024 are the superuser's", "tests may run as the superuser"),
    ("the given listener", "a listener that is bound has an address unless the system fails"),
    ("can't wait for signals", "only where the system refuses"),
    ("PROXY protocol", "only in the log: a proxy that does not speak it understands no answer"),
    ("it is from none of the networks", "only in the log, as above"),
    ("`no`, `unknown` or `yes`", "only for code that reads an `Error` from JSON itself; a client uses the status then"),
    ("`rpc` or `method`", "as above"),
    ("the function returned ", "how a function's own error is displayed; it is not a message of byname"),
    ("this process", "how a client is displayed for debugging"),
    ("caused by: ", "how the sources of an error are displayed for debugging"),
    ("; another ctrl-c ends the process", "a part of a line of the log"),
    ("no func found err", "the original's words for an unknown name, which are a reason of HTTP"),
    ("plain, path, json-rpc", "the value of a header"),
    ("POST, OPTIONS", "the value of a header"),
    ("GET, HEAD, OPTIONS", "the value of a header"),
    ("PRI * HTTP/2.0", "the beginning of HTTP/2"),
    ("connection: close", "a head of HTTP; the message in its body has an entry"),
    ("sec-websocket-version: 13", "a head of HTTP"),
    ("the connection ended before an answer", "why a connection of frames was not opened: the log's, calls go by HTTP"),
    ("the head of the answer is too long", "as above"),
    ("the answer is not HTTP: ", "as above"),
    ("the answer is {}, not 101", "as above"),
    ("the answer is 101, but to another protocol", "as above"),
    ("uses an extension of WebSocket", "as above"),
    ("the answer does not belong to this request", "as above"),
    ("the other side speaks another protocol over WebSocket", "as above"),
    (
        "the server is stopping and accepts no further calls",
        "said to calls after GOAWAY; byname's client sends such a call another way",
    ),
    ("the server accepts no further calls on this connection", "as above"),
    (
        "the certificate of the client has expired",
        "a part of the message above; `tests/security/client_certificates.rs` has it",
    ),
    ("no call came for too long", "a part of the message above; `tests/hostile/hostile_frames.rs` has it"),
    ("whose calls had not ended", "a part of a line of the log; `tests/security/client_certificates.rs` has it"),
    (
        "no function has this name, and the rules hide",
        "the log's, why a call was refused; `tests/security/access_rules.rs` has it",
    ),
    ("does not admit its caller", "as above"),
    ("no rule matches it", "as above"),
    ("it was no longer needed", "a connection of frames ends so when no call waits"),
    ("the server no longer answers", "only after 40 s of silence; it ends a call as the end of a connection does"),
    ("the client no longer answers", "only in the log: the caller is gone"),
    ("the client reads no replies", "only in the log: the caller does not read"),
    ("a part of it could not be read", "only for types that go on after an error of what is in them"),
    ("recursion limit exceeded", "serde_json's words, which both codecs have"),
    ("key must be a string", "as above"),
    ("trailing characters", "as above"),
    ("expected value", "as above"),
    ("expected ident", "as above"),
    ("number out of range", "as above"),
    ("expected key to be a number in quotes", "as above"),
    ("it is longer than 4 GiB", "no test has so much memory"),
    ("no JSON text", "the value of a `RawValue` is text"),
    ("it returns a stream", "only a defect of byname says it"),
    ("it returns no stream", "as above"),
    ("credit without a number", "a violation by a peer that uses frames, as `Violation` below"),
    ("a call without a time-out", "as above"),
    ("transfer-encoding: chunked", "a head of HTTP"),
    ("authorization, origin, accept", "the value of a header"),
    ("event: end", "an event, not an error"),
    ("event: err", "an event; the error in it is one of these"),
    ("belongs to another user", "tests may run as the superuser; `transport::socket_file::tests` has it"),
    ("this user may not write to", "as above"),
    ("can't be written to", "a file system that is read-only"),
    ("must be a file that a server has made", "an attack or a mishap; `tests/deployment/unix_sockets.rs` has it"),
    ("a symbolic link", "as above"),
    ("a file that has other names too", "as above"),
    ("not a regular file", "as above"),
    ("exists, and the socket gets this name", "as above"),
    ("was replaced meanwhile", "an attack; `transport::socket_file::tests` has it"),
    ("without /proc they can't be given back", "a system without /proc"),
    ("can't be locked", "a file system without locks"),
    ("it is unknown whether a server uses it", "a socket of another kind, or the superuser's"),
    ("another process", "only where the system doesn't say which one; `tests/deployment/unix_sockets.rs` has it"),
    ("the process {pid}", "as above, for a process that is another one"),
    ("the server lets other users in", "tests may run as the superuser; `client::http_connections::tests` has it"),
    (
        "the address has no path or port",
        "it is the other end of a unix socket, or the client of a proxy: nobody connects to it",
    ),
    ("byname has no unix sockets on this system", "a system that has none"),
    ("there is no memory for it", "no test runs out of memory"),
    ("its data is malformed", "the library always says what is malformed"),
    ("more bytes came than a body within the limit has", "its reader says that the request is too large"),
    ("`LISTEN_FDS` is {}", "only in a process of its own; `tests/activation.rs` has it"),
    ("can't listen at the sockets that were handed over", "as above"),
    ("is neither a TCP nor a unix stream socket", "as above"),
    ("is a connection and not a listener", "as above"),
    ("is bound and does not listen", "as above"),
    ("built without the feature `activation`", "as above; `tests/deployment/unix_sockets.rs` has it"),
    ("failed to lookup address information: ", "the words of the standard library, which has them on the page"),
    ("it is not a name of DNS", "only the resolver of the feature `dns` says it; `client::dns::tests` has it"),
    ("the name is not in DNS", "as above"),
    ("can't read which servers of DNS", "as above"),
    ("can't ask DNS", "as above"),
    ("there are no SRV records of", "as above"),
    ("its SRV record has the target `.`", "as above"),
    ("its SRV records have the port 0", "as above"),
    ("is looked up with the account of a pod: ", "only in a pod; `client::kubernetes` has it in its tests"),
    ("the API server of Kubernetes at", "as above"),
    ("`resources: [\"endpointslices\"]`", "as above"),
    ("it does not accept the token", "as above"),
    ("EndpointSlice", "as above"),
    ("it answered with the status", "as above"),
    ("`items` of the list is not an array", "as above"),
    ("an event has no `object`", "as above"),
    ("the API server gave no reason", "as above"),
    ("an event has a `type` that byname doesn't know", "as above"),
    ("an object of the API server has no", "as above"),
    ("KUBERNETES_SERVICE_PORT is", "as above"),
    ("can't read the token", "as above"),
    ("holds no token", "as above"),
    ("endpoints of the service `", "as above"),
    ("has no port of TCP", "as above"),
    ("write one of them, such as k8s://", "as above"),
    ("has a port that the pods don't have", "as above"),
    ("a part of its list has expired", "as above"),
    ("the watch was silent for", "the log's"),
    ("its time is over", "the log's"),
    ("a bracket too many", "serde_json has read the text before"),
    ("the roots of this machine", "the tests trust no root of the machine, which may have none"),
    ("ca-certificates", "only on a machine that has no roots"),
    ("the given text", "how messages call a PEM that came from memory"),
    ("ENCRYPTED PRIVATE KEY", "what is looked for in a file"),
    ("Proc-Type: 4,ENCRYPTED", "as above"),
    ("can't be used: {why}", "only for a key of a kind that the provider does not know"),
    ("the error of its call says why", "a part of a line of the log; `tests/security/tls.rs` has the line"),
    (
        "certificates are chosen for each connection",
        "a part of a line of the log; `tests/security/tls.rs` has the line",
    ),
    ("the certificate for {names} is valid until", "as above"),
    ("the certificate is for {names}", "as above"),
    ("a client's TLS was not loaded", "only a defect of byname says it"),
    ("the certificate of the client expired on", "the log's: only a stepped clock ends it in a handshake"),
    ("the same error", "a line about an earlier attempt, which the beginning of the page explains"),
    (": the error above", "as above"),
    ("not sent again: ", "as above"),
    ("no time is left for another attempt", "as above"),
    ("the retry budget of the client is used up", "as above"),
    ("it was made while a repetition is served", "as above"),
    ("it has a key, and the server that may have run it has not said", "as above"),
    ("the call ran before, but its reply can't be converted", "only a reply that no codec has written is so"),
    ("they are neither an array nor an object", "its way in has seen to that"),
    ("% of the latest calls of this client with priority", "a part of what a client that holds calls back says"),
    ("the page could not be made", "code of the user has ended its thread"),
    ("this limit is set on a line before", "the log's: a file of limits, as its other mistakes"),
    ("the server was built without the feature `schema`", "a note in the schema document"),
    ("the service has answered with another schema", "a service of a later version"),
    ("the types of the stubs could not be described", "code of the user has ended its thread"),
    (
        "because the service has no schemas; build it with the feature",
        "a service without the feature; a part of what `Client::check` says",
    ),
    (
        "the service differs from what this client was built for",
        "needs the feature `schema`; `functions::schema` has it",
    ),
    (" more, which `Client::check` lists", "a part of the same text"),
    ("(`Limits::message` of the server); a GET has it whole", "a schema of more than 4 MiB"),
    ("the document could not be made", "code of the user has ended its thread"),
    ("can't write ", "a failed test says it, by `assert_compatible!`; so do the next ones"),
    ("=update cargo test`, and commit it", "as above"),
    (" is not a lock file: ", "as above"),
    ("make the change compatible; or accept it", "as above"),
    (" is out of date, and ", "as above"),
    ("what breaks clients is accepted", "a part of the same text"),
    ("no client breaks", "the same"),
    (" accepts what is not there:", "as above"),
    ("; expected `update`, which writes the lock file", "as above"),
    ("range-narrower f arguments.a", "a test has it"),
    ("function-missing g: it is gone", "the same"),
    ("it refuses some values of its shape", "a reason in `ServiceSchema::open`"),
    ("it copies the value before it looks at it", "as above"),
    ("it contains itself in a way that can't be tried", "as above"),
    ("it is too large, or took too long", "as above"),
    ("its code has panicked", "as above"),
    ("it writes something else than it reads", "as above"),
    ("what it takes is not known", "as above"),
    ("ended without a reply because the server was stopping", "its runtime ends at that moment"),
    ("it has panicked", "the log's: what a key store did"),
    ("it has not answered within {limit:?}", "as above"),
    ("the stored reply can't be read", "a store has lost a part of it; `key_store::tests` has it"),
    ("the reply can't be stored because it can't be encoded", "a value that no codec can write"),
    ("{}; other causes at {more} more", "a part of what a failed connect to many addresses says"),
    ("text/plain; charset=utf-8", "a content type"),
    ("has the answer of `", "a line of the trace of a simulation"),
    ("has the error {", "as above"),
    ("` is dropped", "as above"),
    ("a simulation has neither TLS nor unix sockets", "only a test in a simulation sees it"),
    ("can't listen there in a simulation", "as above"),
    ("can't serve TLS in a simulation", "as above"),
    ("its option `tls` is not that of the client's URL", "a reason that a warning of the log quotes"),
    ("the watch has ended", "as above"),
    ("it has not told of a change", "as above"),
];

/// Files whose texts are no error messages, each with the reason.
const EXCEPTED_FILES: &[(&str, &str)] = &[
    ("client/explanation.rs", "it describes settings"),
    ("stats/open_metrics.rs", "it describes metrics"),
    ("server/http/console.rs", "it has headers of a page"),
    ("src/json_over_http.rs", "reasons that errors of discovery quote"),
    ("src/simulation", "only a test in a simulation sees them, with its seed"),
    ("src/simulation.rs", "as above"),
    ("src/simulated_world", "as above"),
    ("src/simulated_world.rs", "as above"),
];

/// Calls whose text is not an error message: the log, and panics for programmers.
const OTHERWISE: &[&str] = &[
    "trace!(",
    "debug!(",
    "info!(",
    "warn!(",
    "error!(",
    "info_span!(",
    "panic!(",
    "unreachable!(",
    "assert!(",
    "debug_assert!(",
    "expect(",
    // A violation by a peer that uses frames. It is in the log, and in the close frame that ends the connection.
    "Violation(",
];

#[test]
fn no_message_of_the_sources_is_missing_from_the_page() {
    if is_rewritten() {
        return;
    }
    let written = fs::read_to_string(path()).unwrap();
    let blocks: Vec<_> = written.split("\n```").skip(1).step_by(2).collect();
    let messages = blocks.join("\n");
    let mut sources = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut sources);
    let (mut missing, mut checked, mut used) = (Vec::new(), 0, vec![false; EXCEPTIONS.len()]);
    for (excepted, _) in EXCEPTED_FILES {
        let before = sources.len();
        sources.retain(|source: &PathBuf| !source.ancestors().any(|path| path.ends_with(excepted)));
        assert_ne!(sources.len(), before, "there is no source file {excepted}");
    }
    for source in sources {
        for (line, literal) in literals(&fs::read_to_string(&source).unwrap()) {
            let part = longest_part(&literal);
            if part.chars().count() < 12 || !part.trim().contains(' ') {
                continue;
            }
            checked += 1;
            let excepted = EXCEPTIONS.iter().position(|(text, _)| literal.contains(text));
            if let Some(at) = excepted {
                used[at] = true;
            } else if !messages.contains(&part) {
                missing.push(format!("{}:{line}: {part:?}", source.display()));
            }
        }
    }
    assert!(checked > 100, "the scan has lost the messages: {checked}");
    let list = missing.join("\n");
    assert!(
        missing.is_empty(),
        "give each of these an entry in tests/errors.rs, or an exception with its reason:\n{list}"
    );
    let stale: Vec<_> = EXCEPTIONS.iter().zip(used).filter(|(_, used)| !used).map(|((text, _), _)| text).collect();
    assert!(stale.is_empty(), "the sources say none of these any more: {stale:?}");
}

/// The library's own files, without what is built only for tests.
fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !["fuzzing.rs", "codec/equivalence_tests.rs", "content_coding/tests.rs"]
                .iter()
                .chain(&["dns/fake_dns_server.rs", "kubernetes/fake_api_server.rs"])
                .any(|tests| path.ends_with(tests))
        {
            found.push(path);
        }
    }
    found.sort();
}

/// The longest piece of a literal that no placeholder interrupts.
fn longest_part(literal: &str) -> String {
    let (mut parts, mut rest) = (vec![String::new()], literal);
    while let Some(first) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("{{").or_else(|| rest.strip_prefix("}}")) {
            parts.last_mut().unwrap().push(first);
            rest = after;
        } else if let (true, Some(end)) = (first == '{', rest.find('}')) {
            parts.push(String::new());
            rest = &rest[end + 1..];
        } else {
            parts.last_mut().unwrap().push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    parts.into_iter().max_by_key(String::len).unwrap()
}

/// The text literals of a source file that may be messages, with their lines: what stands in comments, attributes, tests,
/// the log and at defects is none.
fn literals(source: &str) -> Vec<(usize, String)> {
    let source = source.split("\n#[cfg(test)]\nmod tests").next().unwrap();
    let mut scan = Scan { source, at: 0, found: Vec::new() };
    while let Some(c) = scan.rest().chars().next() {
        scan.step(c, true);
    }
    scan.found
}

struct Scan<'s> {
    source: &'s str,
    at: usize,
    found: Vec<(usize, String)>,
}

impl<'s> Scan<'s> {
    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    /// Goes over one comment, literal, word or sign. Literals are kept if they are `wanted`.
    fn step(&mut self, c: char, wanted: bool) {
        let rest = self.rest();
        if rest.starts_with("//") {
            self.at += rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with("r\"")
            || rest.starts_with("r#") && rest.trim_start_matches(['r', '#']).starts_with('"')
        {
            let hashes = rest[1..].find('"').unwrap();
            let end = format!("\"{}", "#".repeat(hashes));
            let text = &rest[hashes + 2..];
            let length = text.find(&end).unwrap();
            self.keep(text[..length].to_owned(), wanted);
            self.at += hashes + 2 + length + end.len();
        } else if c == '"' {
            let length = quoted(&rest[1..]);
            self.keep(unescaped(&rest[1..=length]), wanted);
            self.at += length + 2;
        } else if c == '\'' {
            self.at += match rest[1..].chars().next() {
                Some('\\') => 3 + rest[3..].find('\'').unwrap() + 1,
                Some(inner) if rest[1 + inner.len_utf8()..].starts_with('\'') => 2 + inner.len_utf8(),
                _ => 1,
            };
        } else if rest.starts_with("#[") || rest.starts_with("#![") {
            self.at += rest.find('[').unwrap();
            self.over();
        } else if c.is_alphabetic() || c == '_' {
            let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            self.at += length;
            let called = &self.rest()[..self.rest().find('(').map_or(0, |bracket| bracket + 1)];
            if OTHERWISE.contains(&format!("{}{called}", &rest[..length]).as_str()) {
                self.at += called.len() - 1;
                self.over();
            }
        } else {
            self.at += c.len_utf8();
        }
    }

    /// Goes over what stands between the bracket here and the one that closes it.
    fn over(&mut self) {
        let mut depth = 0;
        while let Some(c) = self.rest().chars().next() {
            match c {
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' => depth -= 1,
                _ => {}
            }
            self.step_inside(c);
            if depth == 0 {
                return;
            }
        }
    }

    fn step_inside(&mut self, c: char) {
        match c {
            '#' => self.at += 1,
            _ => self.step(c, false),
        }
    }

    fn keep(&mut self, text: String, wanted: bool) {
        if wanted {
            self.found.push((self.source[..self.at].lines().count(), text));
        }
    }
}

/// How long a literal is whose first quotation mark is gone.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    let end = text.find(|c| match c {
        _ if escaped => {
            escaped = false;
            false
        }
        '\\' => {
            escaped = true;
            false
        }
        c => c == '"',
    });
    end.expect("the literal ends")
}

/// The text that a literal stands for, as far as messages need it.
fn unescaped(literal: &str) -> String {
    let mut out = String::new();
    let mut rest = literal;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        rest = match after.chars().next() {
            Some('\n') => after.trim_start(),
            Some('n') => {
                out.push('\n');
                &after[1..]
            }
            Some(other) => {
                out.push(other);
                &after[other.len_utf8()..]
            }
            None => after,
        };
    }
    out + rest
}

#[test]
fn messages_are_found_where_sources_have_them() {
    let source = r##"
        #[doc = "no message at all"]
        // "nor is this one"
        fn f<'a>(c: &'a str) -> Result<(), Error> {
            tracing::warn!(name = %name(), "the log's own {c}");
            let why = format!("a message of {} {{in braces}} that \
                               goes on", '"');
            refuse(r#"another "message""#).expect("never seen");
        }

#[cfg(test)]
mod tests { const NO: &str = "none of these"; }"##;
    let found = literals(source);
    let texts: Vec<_> = found.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(texts, ["a message of {} {{in braces}} that goes on", "another \"message\""]);
    assert_eq!(longest_part(texts[0]), " {in braces} that goes on");
}
