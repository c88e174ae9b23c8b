//! Servers at unix sockets: their files, who may connect, who calls, and what a client says where it can't.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net as blocking;
use std::path::{Path, PathBuf};

use crate::harness::foreign::start;
use crate::harness::unix::{TemporaryDirectory, UnixRunning};
use crate::harness::{Caller, Gate, Log, Process, Served, Tap, add, everything, post, post_with, within};
use byname::{
    Address, Client, Code, Codec, Context, Executed, Identity, Listen, Server, Transport, UnixCredentials, rpc,
};
use serde_json::{Value, json};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::Command;

fn one() -> Server {
    Server::new().method::<add>()
}

fn url(path: &Path) -> String {
    format!("unix:{}", path.display())
}

/// What a socket's file allows.
fn mode(path: &Path) -> u32 {
    let there = fs::symlink_metadata(path).unwrap();
    assert!(there.file_type().is_socket());
    there.permissions().mode() & 0o7777
}

async fn refused(at: impl Into<Listen>) -> String {
    let error = one().serve(at).bind().await.expect_err("it can't be had");
    assert_eq!((error.code(), error.executed()), (Code::Unavailable, Executed::No), "{error}");
    error.message().to_owned()
}

// The file.

#[tokio::test]
async fn a_socket_has_its_mode_and_is_gone_at_the_end() {
    let directory = TemporaryDirectory::new();
    let path = directory.path().join("orders.sock");
    for (at, expected) in [
        (Listen::from(url(&path)), 0o600),
        (Listen::unix(&path).into(), 0o600),
        (Listen::unix(&path).mode(0o660).into(), 0o660),
        (Listen::unix(&path).mode(0o666).into(), 0o666),
    ] {
        let running = UnixRunning::at(one(), at).await;
        assert_eq!((mode(&path), running.address().to_string()), (expected, url(&path)));
        let lock = directory.path().join("orders.sock.lock");
        assert_eq!(fs::read_to_string(&lock).unwrap(), format!("{}\n", std::process::id()));
        assert_eq!(fs::metadata(&lock).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(directory.names(), ["orders.sock", "orders.sock.lock"], "nothing else is left of the start");
        assert_eq!(running.client().call::<i64>("add", (1, 2)).await.unwrap(), 3);
        running.stopped().await.unwrap();
        assert_eq!(directory.names(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_server_that_is_dropped_leaves_nothing() {
    let directory = TemporaryDirectory::new();
    let path = directory.path().join("orders.sock");
    let bound = one().serve(url(&path)).bind().await.unwrap();
    assert_eq!(directory.names().len(), 2);
    drop(bound);
    assert_eq!(directory.names(), Vec::<String>::new(), "bound and never served");
    let serving = tokio::spawn(one().serve(url(&path)).until(std::future::pending()).into_future());
    within(async {
        while UnixStream::connect(&path).await.is_err() {
            tokio::task::yield_now().await
        }
    })
    .await;
    serving.abort();
    assert!(serving.await.unwrap_err().is_cancelled());
    assert_eq!(directory.names(), Vec::<String>::new());
}

/// In place of the process: what it leaves when it is killed.
const CHILD: &str = "BYNAME_TEST_SOCKET";

#[tokio::test]
async fn the_socket_of_a_live_server_is_not_replaced_and_that_of_a_killed_one_is() {
    if let Ok(path) = std::env::var(CHILD) {
        let bound = one().serve(format!("unix:{path}")).until(std::future::pending()).bind().await.unwrap();
        println!("listening");
        return bound.await.unwrap();
    }
    let directory = TemporaryDirectory::new();
    let path = directory.path().join("orders.sock");
    let test = "unix_sockets::the_socket_of_a_live_server_is_not_replaced_and_that_of_a_killed_one_is";
    let mut process = Process::run(test, CHILD, path.to_str().unwrap());
    process.said("listening").await;
    let message = refused(url(&path)).await;
    let who = format!("can't listen at `{}`: the process {} listens there; stop it, or", url(&path), process.id());
    assert!(message.starts_with(&who), "{message}");
    let client = Client::builder(url(&path)).transport(Transport::Http).build().unwrap();
    assert_eq!(client.call::<i64>("add", (1, 2)).await.unwrap(), 3, "it was left alone");

    process.signal("KILL").await;
    process.ended().await;
    assert_eq!(directory.names(), ["orders.sock", "orders.sock.lock"], "nobody has removed them");
    let error = client.call::<i64>("add", (1, 2)).await.unwrap_err();
    let error = error.rpc().unwrap();
    assert_eq!((error.code(), error.executed()), (Code::Unavailable, Executed::No));
    assert!(error.message().contains("the socket is there, but no server listens at it"), "{error}");
    // What a start leaves that was killed as well.
    drop(blocking::UnixListener::bind(directory.path().join("orders.sock~")).unwrap());

    let running = UnixRunning::at(one(), url(&path)).await;
    assert_eq!(client.call::<i64>("add", (1, 2)).await.unwrap(), 3);
    running.stopped().await.unwrap();
    assert_eq!(directory.names(), Vec::<String>::new());
}

#[tokio::test]
async fn a_second_server_in_this_process_is_refused_and_so_is_one_beside_a_foreign_server() {
    let directory = TemporaryDirectory::new();
    let path = directory.path().join("orders.sock");
    let running = UnixRunning::at(one(), url(&path)).await;
    assert!(refused(url(&path)).await.contains("a server of this process listens there"));
    running.stopped().await.unwrap();

    // One that knows nothing of the lock.
    let foreign = UnixListener::bind(&path).unwrap();
    let message = refused(url(&path)).await;
    assert!(message.contains("listens there; stop it, or choose another path"), "{message}");
    assert_eq!(directory.names(), ["orders.sock"], "the lock is let go");
    drop(foreign);
    // A process that another test starts at this moment has the foreign socket too, until it runs its program.
    let free = async {
        while let Err(error) = one().serve(url(&path)).until(async {}).bind().await {
            assert!(error.message().contains("a server of this process listens there"), "{error}");
            tokio::task::yield_now().await;
        }
    };
    within(free).await;
    UnixRunning::at(one(), url(&path)).await.stopped().await.unwrap();
}

#[tokio::test]
async fn only_sockets_are_replaced() {
    let directory = TemporaryDirectory::new();
    let path = directory.path().join("orders.sock");
    fs::write(&path, "letters").unwrap();
    assert!(refused(url(&path)).await.contains("the file exists and is not a socket; remove it"));
    assert_eq!(fs::read_to_string(&path).unwrap(), "letters");
    let elsewhere = directory.path().join("letters");
    fs::rename(&path, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    assert!(refused(url(&path)).await.contains("it is a symbolic link, which a server doesn't follow"));
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "letters");
    fs::remove_file(&path).unwrap();
}

/// What is at the two paths beside the socket, and isn't a server's, is neither changed nor followed.
#[tokio::test]
async fn what_another_has_put_beside_a_socket_is_named_and_left_as_it_is() {
    let directory = TemporaryDirectory::new();
    let at = |name: &str| directory.path().join(name);
    let (path, letters, new) = (at("orders.sock"), at("letters"), at("new"));
    fs::write(&letters, "letters").unwrap();
    fs::set_permissions(&letters, fs::Permissions::from_mode(0o640)).unwrap();
    let make_fifo = |path: &Path| {
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    let link = |to: &Path, path: &Path| std::os::unix::fs::symlink(to, path).unwrap();
    type Make<'a> = Box<dyn Fn(&Path) + 'a>;
    let kinds: [(&str, Make<'_>); 6] = [
        ("a symbolic link", Box::new(|path| link(&letters, path))),
        ("a symbolic link", Box::new(|path| link(&new, path))),
        ("a file that has other names too", Box::new(|path| fs::hard_link(&letters, path).unwrap())),
        ("not a regular file", Box::new(make_fifo)),
        ("not a regular file", Box::new(|path| fs::create_dir(path).unwrap())),
        ("not a regular file", Box::new(|path| drop(blocking::UnixListener::bind(path).unwrap()))),
    ];
    for (what, make) in kinds {
        for beside in ["orders.sock.lock", "orders.sock~"] {
            let beside = at(beside);
            make(&beside);
            let kind = fs::symlink_metadata(&beside).unwrap().file_type();
            let name = beside.display();
            if beside == at("orders.sock.lock") {
                let message = refused(Listen::unix(&path).mode(0o666)).await;
                let expected = format!(
                    "can't listen at `{}`: `{name}` must be a file that a server has made, and it is {what}; remove it, \
                     or choose another path",
                    url(&path)
                );
                assert_eq!(message, expected);
            } else if !kind.is_socket() {
                let message = refused(Listen::unix(&path).mode(0o666)).await;
                let expected = format!(
                    "can't listen at `{}`: `{name}` exists, and the socket gets this name while the server starts; remove \
                     it, or choose another path",
                    url(&path)
                );
                assert_eq!(message, expected);
            }
            assert_eq!(fs::symlink_metadata(&beside).unwrap().file_type(), kind, "{what}");
            assert_eq!(fs::read_to_string(&letters).unwrap(), "letters", "{what}");
            assert_eq!(fs::metadata(&letters).unwrap().permissions().mode() & 0o7777, 0o640, "{what}");
            fs::remove_file(&beside).or_else(|_| fs::remove_dir(&beside)).unwrap();
            assert_eq!(directory.names(), ["letters"], "{what}");
        }
    }
    let running = UnixRunning::at(one(), url(&path)).await;
    running.stopped().await.unwrap();
}

#[tokio::test]
async fn a_socket_has_its_mode_whatever_the_umask() {
    if let Ok(path) = std::env::var(CHILD) {
        let at = Listen::unix(path).mode(0o660);
        let bound = one().serve(at).until(std::future::pending()).bind().await.unwrap();
        println!("listening");
        return bound.await.unwrap();
    }
    for umask in ["000", "022", "077"] {
        let directory = TemporaryDirectory::new();
        let path = directory.path().join("orders.sock");
        let mut command = Command::new("sh");
        command.args(["-c", &format!("umask {umask} && exec \"$0\" --exact \"$1\" --nocapture")]);
        command.arg(std::env::current_exe().unwrap()).arg("unix_sockets::a_socket_has_its_mode_whatever_the_umask");
        let mut process = Process::start(command, CHILD, path.to_str().unwrap());
        process.said("listening").await;
        assert_eq!(mode(&path), 0o660, "umask {umask}");
    }
}

#[tokio::test]
async fn a_given_listener_that_does_not_listen_is_refused_at_the_start() {
    let directory = TemporaryDirectory::new();
    let path = directory.path().join("given.sock");
    let unix = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    unix.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    let tcp = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SockAddr::from(std::net::SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
        socket.set_nonblocking(true).unwrap();
        std::net::TcpListener::from(socket)
    };
    for at in [
        Listen::from(blocking::UnixListener::from(unix)),
        Listen::from(tcp()),
        Listen::from(tokio::net::TcpListener::from_std(tcp()).unwrap()),
    ] {
        let error = one().serve(at).bind().await.expect_err("it does not listen");
        let expected =
            "can't listen at the given listener: its socket does not listen; call `listen` on the socket before";
        assert_eq!((error.code(), error.message()), (Code::FailedPrecondition, expected));
    }
}

#[tokio::test]
async fn the_file_of_another_is_not_removed_at_the_end() {
    let directory = TemporaryDirectory::new();
    let path = directory.path().join("orders.sock");
    let running = UnixRunning::at(one(), url(&path)).await;
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    let others = fs::metadata(&path).unwrap().ino();
    running.stopped().await.unwrap();
    assert_eq!(fs::metadata(&path).unwrap().ino(), others);
    assert_eq!(directory.names(), ["orders.sock"]);
}

#[tokio::test]
async fn a_path_that_cannot_be_had_says_what_to_do() {
    let directory = TemporaryDirectory::new();
    let missing = directory.path().join("missing/orders.sock");
    let message = refused(url(&missing)).await;
    let expected = format!("; create the directory `{}`, or let systemd do it", missing.parent().unwrap().display());
    assert!(message.contains(&expected), "{message}");

    fs::write(directory.path().join("file"), "").unwrap();
    let message = refused(url(&directory.path().join("file/orders.sock"))).await;
    assert!(message.contains("/file` is not a directory, choose another path"), "{message}");

    let begins = directory.path().join("a");
    let longest = |length: usize| begins.with_file_name("a".repeat(length - directory.path().as_os_str().len() - 1));
    let message = refused(url(&longest(107))).await;
    assert!(message.contains("its path has 107 bytes, and a server's may have 106 on this system"), "{message}");
    let running = UnixRunning::at(one(), url(&longest(106))).await;
    assert_eq!(running.client().call::<i64>("add", (1, 2)).await.unwrap(), 3);

    let message = refused(Listen::unix(directory.path().join("a")).mode(0o4600)).await;
    assert!(message.contains("its mode 0o4600 has more than permissions"), "{message}");
    for (useless, shown) in [(0, "0o000"), (0o444, "0o444"), (0o555, "0o555")] {
        let message = refused(Listen::unix(directory.path().join("b")).mode(useless)).await;
        assert!(message.contains(&format!("nobody may connect by its mode {shown}")), "{message}");
    }
    assert!(!directory.names().contains(&"b".to_owned()));

    let message = refused(Listen::unix("")).await;
    assert!(message.contains("its path is empty; expected the path of the socket"), "{message}");

    let message = refused(url(directory.path())).await;
    let expected =
        format!("it is a directory; expected the path of the socket, such as `{}/a.sock`", directory.path().display());
    assert!(message.contains(&expected), "{message}");
}

#[tokio::test]
async fn a_path_where_another_form_is_expected_says_which() {
    let why = async |at: Listen| {
        let error = one().serve(at).bind().await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        error.message().to_owned()
    };
    for path in ["/run/c.sock", "./run/c.sock", "../c.sock"] {
        let expected = format!("it is a path; for a unix socket write `unix:{path}`, otherwise host:port");
        assert_eq!(why(path.into()).await, format!("can't listen at `{path}`: {expected}"));
        let error = Client::new(path).unwrap_err();
        assert!(error.message().contains(&format!("it has no host; for a unix socket write `unix:{path}`")), "{error}");
    }
    for (prefixed, meant) in [("unix:/run/a.sock", "/run/a.sock"), ("unix:a.sock", "a.sock")] {
        let expected = format!("can't listen at `{prefixed}`: `Listen::unix` takes the path alone; write `{meant}`");
        assert_eq!(why(Listen::unix(prefixed).into()).await, expected);
    }
    // What may be a password is not repeated.
    let error = Client::new("/x@y").unwrap_err();
    assert!(error.message().contains("it has no host; expected host:port/path"), "{error}");
}

#[tokio::test]
async fn a_path_may_be_relative_and_a_listener_may_be_bound_before() {
    let directory = TemporaryDirectory::new();
    let path = directory.path().join("given.sock");
    let given = blocking::UnixListener::bind(&path).unwrap();
    let running = UnixRunning::at(one(), given).await;
    assert_eq!(running.client().call::<i64>("add", (1, 2)).await.unwrap(), 3);
    running.stopped().await.unwrap();
    assert_eq!(directory.names(), ["given.sock"], "who has bound it removes it");

    let name = format!("byname-relative-{}.sock", std::process::id());
    let running = UnixRunning::at(one(), Listen::unix(&name)).await;
    assert_eq!(running.address().to_string(), format!("unix:./{name}"));
    assert_eq!(running.client().call::<i64>("add", (1, 2)).await.unwrap(), 3);
    running.stopped().await.unwrap();
    assert!(!Path::new(&name).exists());
}

#[tokio::test]
#[cfg(not(feature = "activation"))]
async fn without_the_feature_sockets_that_are_handed_over_are_refused_with_what_to_write() {
    if std::env::var(CHILD).is_ok() {
        let error = one().serve(Listen::activated()).bind().await.unwrap_err();
        return println!("error: {:?} {}", error.code(), error.message());
    }
    let test = "unix_sockets::without_the_feature_sockets_that_are_handed_over_are_refused_with_what_to_write";
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env("LISTEN_FDS", "1").env_remove("LISTEN_PID");
    let message = Process::start(command, CHILD, "1").said("error: FailedPrecondition ").await;
    assert!(message.ends_with("; add `features = [\"activation\"]` to byname in its Cargo.toml"), "{message}");
}

// The client.

#[tokio::test]
async fn the_endpoint_is_rpc_or_what_the_builder_says() {
    let running = UnixRunning::new(one().endpoint("/api/v1")).await;
    let url = running.address().to_string();
    let client = Client::builder(&url).endpoint("/api/v1").build().unwrap();
    assert_eq!(client.call::<i64>("add", (1, 2)).await.unwrap(), 3);
    assert_eq!(format!("{client:?}"), format!("Client {{ to: {url:?}, prefix: \"\", .. }}"));
    let error = Client::new(&url).unwrap().call::<i64>("add", (1, 2)).await.unwrap_err();
    assert_eq!(error.rpc().unwrap().code(), Code::Unimplemented, "{error}");
}

#[tokio::test]
async fn a_client_names_the_socket_and_says_what_is_wrong_there() {
    let directory = TemporaryDirectory::new();
    let path = directory.path().join("orders.sock");
    let client = Client::new(url(&path)).unwrap();
    let message = async || {
        let error = client.call::<i64>("add", (1, 2)).await.unwrap_err();
        let error = error.rpc().unwrap().clone();
        assert_eq!((error.code(), error.executed()), (Code::Unavailable, Executed::No), "{error}");
        // Below it are the attempts before.
        error.message().lines().next().unwrap().to_owned()
    };
    let missing = message().await;
    assert!(missing.starts_with(&format!("can't connect to {}: ", url(&path))), "{missing}");
    assert!(missing.ends_with("; is the server running, and is that its path?"), "{missing}");
    drop(blocking::UnixListener::bind(&path).unwrap());
    let dead = message().await;
    assert!(dead.ends_with("; the socket is there, but no server listens at it"), "{dead}");
    let below = Client::new(url(&path.join("rpc"))).unwrap().call::<i64>("add", (1, 2)).await.unwrap_err().to_string();
    assert!(
        below.contains("the path ends with the file of the socket, and `ClientBuilder::endpoint` sets the path"),
        "{below}"
    );
}

/// Where a connection doesn't fit into a listener's queue, Linux fails it at once, and TCP's kernel would try again.
#[tokio::test]
async fn a_client_waits_for_a_listener_whose_queue_is_full() {
    let directory = TemporaryDirectory::new();
    let path = directory.path().join("orders.sock");
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    socket.listen(0).unwrap();
    let listener = blocking::UnixListener::from(socket);
    let connect = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.connect(&SockAddr::unix(&path).unwrap()).map(|()| socket)
    };
    let mut waiting = Vec::new();
    let full = loop {
        match connect() {
            Ok(socket) => waiting.push(socket),
            Err(why) => break why,
        }
    };
    assert_eq!(full.kind(), std::io::ErrorKind::WouldBlock, "{full}");
    let message = refused(url(&path)).await;
    assert!(message.contains("another process listens there"), "a full queue is that of a live server: {message}");

    let client = Client::new(url(&path)).unwrap();
    let mut call = Box::pin(client.call::<i64>("add", (1, 2)).into_future());
    start(&mut call).await;
    let serving = tokio::spawn(one().serve(listener).until(std::future::pending()).into_future());
    assert_eq!(within(call).await.unwrap(), 3);
    serving.abort();
}

#[tokio::test]
async fn several_sockets_are_replicas() {
    let directory = TemporaryDirectory::new();
    let paths = ["a", "b"].map(|name| directory.path().join(name));
    let running = UnixRunning::at(one(), url(&paths[1])).await;
    let builder = Client::builder("orders.internal/rpc").addresses(paths.each_ref().map(|path| url(path)));
    let client = builder.build().unwrap();
    assert_eq!(client.call::<i64>("add", (1, 2)).await.unwrap(), 3, "nobody is at the first");
    assert!(format!("{client:?}").contains("http://orders.internal/rpc"), "{client:?}");
    running.stopped().await.unwrap();
}

// Who calls.

#[rpc(readonly)]
fn caller() -> Option<(u32, u32, Option<u32>)> {
    let context = Context::current()?;
    let peer = context.peer()?;
    match peer.identity {
        Some(Identity::Unix(UnixCredentials { uid, gid, pid, .. })) => {
            assert_eq!(peer.address.path(), None);
            assert_eq!(peer.to_string(), format!("unix: (uid {uid}, gid {gid}, pid {})", pid?));
            Some((uid, gid, pid))
        }
        _ => None,
    }
}

#[tokio::test]
async fn the_kernel_says_who_calls_whichever_way() {
    let running = UnixRunning::new(everything().method::<caller>()).await;
    let own = fs::metadata(running.path()).unwrap();
    let expected = Some((own.uid(), own.gid(), Some(std::process::id())));
    assert_eq!(caller::on(&running.client()).await.unwrap(), expected);
    let client = running.client_by(Transport::Frames);
    // From HTTP to frames and on.
    for _ in 0..100 {
        assert_eq!(caller::on(&client).await.unwrap(), expected);
    }
    // Another process.
    let mut child = Command::new("curl");
    child.args(["-sS", "--unix-socket", running.path().to_str().unwrap(), "http://localhost/rpc/caller"]);
    let child = child.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let output = within(child.wait_with_output()).await.unwrap();
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said, json!([own.uid(), own.gid(), pid]));

    let tcp = crate::harness::Running::new(
        Server::new().function("proven", || async { Context::current().unwrap().peer().unwrap().identity.is_some() }),
    )
    .await;
    assert!(!tcp.client().call::<bool>("proven", ()).await.unwrap(), "TCP proves nothing");
}

/// A user whom nothing belongs to, and its group.
const NOBODY: u32 = 65_534;

/// Only the superuser can be another user. The other user's process is this test again, from where it may read it.
#[cfg(target_os = "linux")]
#[ignore = "needs the superuser and setpriv; .ci/run runs it"]
#[tokio::test]
async fn another_user_is_let_in_by_the_mode_alone_and_is_named() {
    if let Ok(url) = std::env::var(CHILD) {
        for transport in [Transport::Http, Transport::Frames] {
            let client = Client::builder(&url).transport(transport).build().unwrap();
            for _ in 0..12 {
                match caller::on(&client).await {
                    Ok(caller) => println!("result: {}", json!(caller)),
                    Err(error) => println!("result: {} {:?} {}", error.code(), error.executed(), error.message()),
                }
            }
        }
        return;
    }
    let test = "unix_sockets::another_user_is_let_in_by_the_mode_alone_and_is_named";
    let directory = TemporaryDirectory::new();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = directory.path().join("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = directory.path().join("orders.sock");
    for mode in [0o600, 0o660, 0o666] {
        let running = UnixRunning::at(everything().method::<caller>(), Listen::unix(&path).mode(mode)).await;
        let mut command = Command::new("setpriv");
        let nobody = NOBODY.to_string();
        command.args(["--reuid", &nobody, "--regid", &nobody, "--clear-groups"]).arg(&program);
        command.args(["--exact", test, "--include-ignored", "--nocapture"]).current_dir("/");
        let mut child = Process::start(command, CHILD, &url(&path));
        let expected = json!([NOBODY, NOBODY, child.id()]).to_string();
        for _ in 0..24 {
            let result = child.said("result: ").await;
            if mode == 0o666 {
                assert_eq!(result, expected);
            } else {
                assert!(result.starts_with("unavailable No "), "{mode:o}: {result}");
                assert!(
                    result.contains("the server lets other users in by `Listen::unix(path).mode(0o660)`"),
                    "{mode:o}: {result}"
                );
            }
        }
        assert!(child.ended().await.success());
        running.stopped().await.unwrap();
    }
}

#[tokio::test]
async fn curl_calls_and_streams() {
    let running = UnixRunning::new(everything()).await;
    let curl = async |args: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--unix-socket", running.path().to_str().unwrap()]).args(args);
        let output = within(curl.output()).await.unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(curl(&["-d", "[1,2]", "http://localhost/rpc/add"]).await, "3");
    assert_eq!(curl(&["http://any.name.example/rpc/add?a=1&b=2"]).await, "3", "every name is ours");
    assert_eq!(curl(&["--http2-prior-knowledge", "-d", "[1,2]", "http://localhost/rpc/add"]).await, "3");
    assert_eq!(curl(&["http://localhost/rpc/!ready"]).await.trim(), "ok");
    let message = curl(&["-d", "[]", "http://localhost/rpc/addd"]).await;
    assert!(message.contains("did you mean `add`"), "{message}");
}

#[tokio::test]
async fn any_host_is_taken_unless_some_are_listed_and_pages_of_other_sites_are_rejected() {
    let status = async |running: &UnixRunning, host: &str, headers: &str| {
        let request = format!("GET /rpc/add?a=1&b=2 HTTP/1.1\r\nhost: {host}\r\n{headers}connection: close\r\n\r\n");
        let answer = running.raw(&request).await;
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    let open = UnixRunning::new(one()).await;
    for host in ["localhost", "orders.example", "10.0.0.1:80"] {
        assert_eq!(status(&open, host, "").await, "200", "{host}");
    }
    assert_eq!(status(&open, "user@host", "").await, "400");
    assert_eq!(status(&open, "orders.example", "origin: https://evil.test\r\n").await, "403");
    assert_eq!(status(&open, "orders.example", "sec-fetch-site: cross-site\r\n").await, "403");
    assert_eq!(status(&open, "orders.example", "origin: https://orders.example\r\n").await, "200");
    let listed = UnixRunning::new(one().hosts(["orders.example"])).await;
    for (host, expected) in [("orders.example", "200"), ("localhost", "200"), ("evil.test", "421")] {
        assert_eq!(status(&listed, host, "").await, expected, "{host}");
    }
}

/// Near names are for callers on this machine, and a proxy there speaks for others.
#[tokio::test]
async fn what_a_proxy_passes_on_is_never_local() {
    let unix = UnixRunning::new(one()).await;
    let tcp = crate::harness::Running::new(one()).await;
    let told = UnixRunning::new(one().listing(true)).await;
    let over_unix = async |running: &UnixRunning, headers: &str| {
        let request = post_with("/rpc/addd", &format!("{headers}connection: close\r\n"), "[1,2]");
        running.raw(&request).await.contains("did you mean `add`")
    };
    for header in ["forwarded: for=10.0.0.1", "x-forwarded-for: 10.0.0.1", "X-Real-IP: 10.0.0.1", "via: 1.1 front"] {
        let header = format!("{header}\r\n");
        assert!(!over_unix(&unix, &header).await, "{header}");
        let ways = [
            ("/rpc/addd", "[1,2]"),
            ("/rpc", r#"{"fun":"addd","args":[1,2]}"#),
            ("/rpc", r#"{"jsonrpc":"2.0","method":"addd","params":[1,2],"id":1}"#),
            ("/rpc", r#"[{"jsonrpc":"2.0","method":"addd","params":[1,2],"id":1}]"#),
        ];
        for (path, body) in ways {
            let answer = Caller::to(tcp.address).await.ask(post_with(path, &header, body)).await;
            assert!(
                answer.body.contains("addd") && !answer.body.contains("did you mean"),
                "{header}{body}: {answer:?}"
            );
            let answer = Caller::to(tcp.address).await.ask(post(path, body)).await;
            assert!(answer.body.contains("did you mean `add`"), "{body}: {answer:?}");
        }
        assert!(over_unix(&told, &header).await, "it is turned on");
    }
    assert!(over_unix(&unix, "").await);
}

/// Only the request for the upgrade says that there is a proxy; the calls behind it bear no such header.
#[tokio::test]
async fn frames_that_a_proxy_passes_on_are_never_local() {
    let running = UnixRunning::new(everything()).await;
    for (headers, learns) in [("", true), ("x-forwarded-for: 10.0.0.1\r\n", false)] {
        let directory = TemporaryDirectory::new();
        let path = directory.path().join("proxy.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = running.path().to_owned();
        let proxy = tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let mut server = UnixStream::connect(&server).await.unwrap();
                tokio::spawn(async move {
                    let mut head = vec![0; 64 << 10];
                    let count = client.read(&mut head).await.unwrap();
                    let head = String::from_utf8_lossy(&head[..count]).replacen("\r\n", &format!("\r\n{headers}"), 1);
                    server.write_all(head.as_bytes()).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        let (tap, client) = Tap::client_by_frames(&At(path), Codec::MessagePack).await;
        let before = tap.over_http();
        let error = client.call::<Value>("addd", (1, 2)).await.unwrap_err();
        assert_eq!(error.to_string().contains("did you mean `add`"), learns, "{error}");
        assert_eq!(tap.over_http(), before, "the call went by frames");
        proxy.abort();
    }
}

/// What listens at a path.
struct At(PathBuf);

impl Served for At {
    fn address(&self) -> Address {
        Address::Unix(Some(self.0.as_path().into()))
    }
}

// The end.

#[tokio::test]
async fn a_call_that_has_begun_is_answered_while_the_path_is_free_for_the_next_server() {
    let directory = TemporaryDirectory::new();
    let path = directory.path().join("orders.sock");
    for transport in [Transport::Http, Transport::Frames] {
        let (gate, handle) = Gate::new();
        let mut running = UnixRunning::at(everything().inject(gate), url(&path)).await;
        let client = running.client_by(transport);
        for _ in 0..20 {
            client.call::<()>("nothing", ()).await.unwrap();
        }
        let call = tokio::spawn(client.call::<bool>("pass", ()).into_future());
        within(handle.started).await.unwrap();
        running.stop();
        within(async {
            while path.exists() {
                tokio::task::yield_now().await
            }
        })
        .await;
        assert_eq!(directory.names(), Vec::<String>::new(), "the lock is free as well");
        let next = UnixRunning::at(everything(), url(&path)).await;
        // On a connection to the next one.
        assert_eq!(client.call::<i64>("add", (1, 2)).await.unwrap(), 3);
        handle.release.send(()).unwrap();
        assert!(within(call).await.unwrap().unwrap());
        within(running.stopped()).await.unwrap();
        assert!(path.exists(), "the one that ends leaves the other's file alone");
        next.stopped().await.unwrap();
    }
}

#[tokio::test]
async fn what_the_kernel_has_accepted_before_the_end_is_answered() {
    let directory = TemporaryDirectory::new();
    let path = directory.path().join("orders.sock");
    let bound = one().serve(url(&path)).until(async {}).bind().await.unwrap();
    let mut connected = blocking::UnixStream::connect(&path).unwrap();
    std::io::Write::write_all(&mut connected, post("/rpc/add", "[1,2]").as_bytes()).unwrap();
    connected.set_nonblocking(true).unwrap();
    let mut connected = UnixStream::from_std(connected).unwrap();
    within(bound.into_future()).await.unwrap();
    let mut answer = String::new();
    within(connected.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n3"), "{answer}");
}

#[tokio::test]
async fn kept_connections_to_a_killed_server_are_noticed_before_they_are_used() {
    let directory = TemporaryDirectory::new();
    let path = directory.path().join("orders.sock");
    if let Ok(path) = std::env::var(CHILD) {
        let bound = everything().serve(format!("unix:{path}")).until(std::future::pending()).bind().await.unwrap();
        println!("listening");
        return bound.await.unwrap();
    }
    let test = "unix_sockets::kept_connections_to_a_killed_server_are_noticed_before_they_are_used";
    for transport in [Transport::Http, Transport::Frames] {
        let mut process = Process::run(test, CHILD, path.to_str().unwrap());
        process.said("listening").await;
        let client = Client::builder(url(&path)).transport(transport).build().unwrap();
        for _ in 0..20 {
            // Not idempotent: it is sent again only where it surely did not run.
            client.call::<()>("nothing", ()).await.unwrap();
        }
        process.signal("KILL").await;
        process.ended().await;
        let running = UnixRunning::at(everything(), url(&path)).await;
        for _ in 0..20 {
            client.call::<()>("nothing", ()).await.unwrap();
        }
        running.stopped().await.unwrap();
    }
}

#[tokio::test]
async fn the_log_names_the_socket() {
    let mut log = Log::new();
    let running = UnixRunning::new(one()).await;
    let line = log.until("serving 1 function at ").await;
    assert!(line.contains(&format!("at {}, /rpc", running.address())), "{line}");
    running.stopped().await.unwrap();
}
