//! Sockets that are handed over to a process, by systemd and by this test, which opens them and starts the process again.
//!
//! `cargo test --features activation --test activation`, where `systemd-socket-activate` is installed.
#![cfg(unix)]

mod harness;

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};

use byname::{Address, Client, Context, Identity, Listen, Server, Transport, rpc};
use harness::unix::TemporaryDirectory;
use harness::{Process, add, within};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Says to a child what it is.
const CHILD: &str = "BYNAME_TEST_ACTIVATED";

/// Not idempotent. Says which process ran it, and over what.
#[rpc]
fn process() -> (u32, String) {
    let context = Context::current().unwrap();
    let over = match context.peer().map(|peer| (&peer.connection, &peer.identity)) {
        Some((Address::Tcp(_), None)) => "TCP",
        Some((Address::Unix(_), Some(Identity::Unix(_)))) => "a unix socket",
        other => panic!("{other:?}"),
    };
    (std::process::id(), over.to_owned())
}

/// In a child: serves what it was given until SIGTERM, or says why it can't.
async fn is_child() -> bool {
    if std::env::var(CHILD).is_err() {
        return false;
    }
    let server = || Server::new().method::<add>().method::<process>();
    match server().serve(Listen::activated()).bind().await {
        Ok(bound) => {
            for address in bound.local_addrs() {
                println!("serves at {address}");
            }
            let again = server().serve(Listen::activated()).bind().await.unwrap_err();
            println!("again: {}", again.message());
            bound.await.unwrap();
            println!("ended");
        }
        Err(error) => println!("error: {:?} {}", error.code(), error.message()),
    }
    true
}

/// This program as a child that is given so many sockets, this one first. They stay open in this process.
fn child(test: &str, socket: RawFd, count: &str) -> Process {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]);
    command.env("LISTEN_FDS", count).env("LISTEN_FDS_FIRST_FD", socket.to_string()).env_remove("LISTEN_PID");
    Process::start(command, CHILD, "1")
}

/// A socket that children have as well.
fn inherited(socket: Socket) -> Socket {
    socket.set_cloexec(false).unwrap();
    socket
}

fn unix_listener(path: &std::path::Path) -> Socket {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    socket.bind(&SockAddr::unix(path).unwrap()).unwrap();
    socket.listen(128).unwrap();
    inherited(socket)
}

#[tokio::test]
async fn systemd_hands_over_a_unix_and_a_tcp_socket() {
    if is_child().await {
        return;
    }
    let directory = TemporaryDirectory::new();
    let path = directory.path().join("orders.sock");
    // It takes no port 0. Nobody else gets this one meanwhile, for it is bound here, where nobody listens.
    let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    bound.set_reuse_address(true).unwrap();
    bound.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let address = bound.local_addr().unwrap().as_socket().unwrap();
    let mut command = Command::new("systemd-socket-activate");
    command.arg("-l").arg(&path).args(["-l", &address.to_string(), "-E", CHILD]);
    command.arg(std::env::current_exe().unwrap());
    command.args(["--exact", "systemd_hands_over_a_unix_and_a_tcp_socket", "--nocapture"]);
    let mut process = Process::start(command, CHILD, "1");
    // It starts the service when somebody connects, and its own start is seen by the file alone.
    within(async {
        while !path.exists() {
            tokio::task::yield_now().await
        }
    })
    .await;
    let unix = Client::new(format!("unix:{}", path.display())).unwrap();
    let (pid, over) = process::on(&unix).await.unwrap();
    assert_eq!((pid, over.as_str()), (process.id(), "a unix socket"));
    assert_eq!(process.said("serves at ").await, address.to_string());
    assert_eq!(process.said("serves at ").await, format!("unix:{}", path.display()));
    assert!(process.said("again: ").await.contains("`LISTEN_FDS` is not set, or its sockets were taken before"));
    let tcp = Client::new(address.to_string()).unwrap();
    let (pid, over) = process::on(&tcp).await.unwrap();
    assert_eq!((pid, over.as_str()), (process.id(), "TCP"));
    process.signal("TERM").await;
    process.said("ended").await;
    assert!(process.ended().await.success());
    assert_eq!(directory.names(), ["orders.sock"], "who has bound it removes it");
}

/// Who connects while there is no process waits for the next one, and no call fails or is refused.
#[tokio::test]
async fn calls_during_restarts_wait_for_the_next_process() {
    if is_child().await {
        return;
    }
    let test = "calls_during_restarts_wait_for_the_next_process";
    let directory = TemporaryDirectory::new();
    for (name, transport) in [("http", Transport::Http), ("frames", Transport::Frames)] {
        let path = directory.path().join(name);
        let socket = unix_listener(&path);
        let mut process = child(test, socket.as_raw_fd(), "1");
        process.said("serves at").await;
        let client = Client::builder(format!("unix:{}", path.display())).transport(transport).build().unwrap();
        let (answered, mut by) = watch::channel((0, 0));
        let mut callers = JoinSet::new();
        for _ in 0..8 {
            let (client, answered) = (client.clone(), answered.clone());
            callers.spawn(async move {
                loop {
                    let (pid, _) = process::on(&client).await.unwrap();
                    answered.send_modify(|(by, count)| (*by, *count) = (pid, if *by == pid { *count + 1 } else { 1 }));
                }
            });
        }
        for _ in 0..5 {
            let id = process.id();
            within(by.wait_for(|(by, count)| (*by, *count >= 200) == (id, true))).await.unwrap();
            process.signal("TERM").await;
            assert!(process.ended().await.success());
            // Nobody accepts now. Callers are waiting already.
            process = child(test, socket.as_raw_fd(), "1");
        }
        let id = process.id();
        within(by.wait_for(|(by, _)| *by == id)).await.unwrap();
        if let Some(ended) = callers.try_join_next() {
            panic!("a call failed: {ended:?}");
        }
    }
}

#[tokio::test]
async fn what_is_no_listener_is_named_with_what_to_change() {
    if is_child().await {
        return;
    }
    let test = "what_is_no_listener_is_named_with_what_to_change";
    let error = async |socket: RawFd, count: &str| {
        let mut process = child(test, socket, count);
        process.said("error: FailedPrecondition ").await
    };
    let datagram = inherited(Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap());
    let message = error(datagram.as_raw_fd(), "1").await;
    assert_eq!(
        message,
        "can't listen at the sockets that were handed over: socket 1 of 1 is neither a TCP nor a unix stream socket; \
         expected `ListenStream=` in the socket unit"
    );
    let (connection, _other) = Socket::pair(Domain::UNIX, Type::STREAM, None).unwrap();
    let message = error(inherited(connection).as_raw_fd(), "1").await;
    assert!(message.contains(") is a connection and not a listener; expected `Accept=no`"), "{message}");
    let directory = TemporaryDirectory::new();
    let tcp = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    tcp.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let unix = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    unix.bind(&SockAddr::unix(directory.path().join("orders.sock")).unwrap()).unwrap();
    for bound in [tcp, unix] {
        let bound = inherited(bound);
        let message = error(bound.as_raw_fd(), "1").await;
        let expected = format!(
            "can't listen at the sockets that were handed over: socket 1 (file descriptor {}) is bound and does not \
             listen; call `listen` on it before you hand it over, as systemd does for `ListenStream=`",
            bound.as_raw_fd()
        );
        assert_eq!(message, expected);
    }
    for count in ["0", "-1", "many"] {
        let message = error(datagram.as_raw_fd(), count).await;
        assert!(message.contains(&format!("`LISTEN_FDS` is `{count}`; expected a start by")), "{message}");
    }
}

#[tokio::test]
async fn sockets_for_another_process_are_not_taken() {
    if is_child().await {
        return;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "sockets_for_another_process_are_not_taken", "--nocapture"]);
    let parent = std::process::id().to_string();
    command.env("LISTEN_FDS", "1").env("LISTEN_PID", &parent);
    let mut process = Process::start(command, CHILD, "1");
    let message = process.said("error: FailedPrecondition ").await;
    let expected = format!("`LISTEN_PID` is `{parent}`, and this process is {}; a script", process.id());
    assert!(message.contains(&expected), "{message}");
}
