//! From the file descriptors that a process was started with to listeners.

use std::os::fd::AsRawFd;

use listenfd::ListenFd;
use socket2::SockRef;

use super::bind::{HandedOver, accepts_connections};

/// Takes all of them. The error names a socket that is not a listener, and what to change.
pub(super) fn take(count: usize) -> Result<HandedOver, String> {
    let mut handed_over = HandedOver { tcp: Vec::new(), unix: Vec::new() };
    let mut given = ListenFd::from_env();
    for at in 0..count {
        if let Ok(Some(listener)) = given.take_tcp_listener(at) {
            check_listens(at, SockRef::from(&listener))?;
            handed_over.tcp.push(listener);
        } else if let Ok(Some(listener)) = given.take_unix_listener(at) {
            check_listens(at, SockRef::from(&listener))?;
            handed_over.unix.push(listener);
        } else {
            return Err(format!(
                "socket {} of {count} is neither a TCP nor a unix stream socket; expected `ListenStream=` in the socket \
                 unit",
                at + 1
            ));
        }
    }
    Ok(handed_over)
}

fn check_listens(at: usize, socket: SockRef<'_>) -> Result<(), String> {
    let (at, fd) = (at + 1, socket.as_raw_fd());
    if socket.peer_addr().is_ok() {
        return Err(format!(
            "socket {at} (file descriptor {fd}) is a connection and not a listener; expected `Accept=no` in the socket \
             unit"
        ));
    }
    if !accepts_connections(&socket) {
        return Err(format!(
            "socket {at} (file descriptor {fd}) is bound and does not listen; call `listen` on it before you hand it \
             over, as systemd does for `ListenStream=`"
        ));
    }
    Ok(())
}
