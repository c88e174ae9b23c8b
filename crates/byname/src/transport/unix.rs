//! Unix sockets: a listener at a path, and connections to one.

use std::io;
use std::mem::MaybeUninit;
use std::os::unix::net as blocking;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::UnixListener;
use tokio::net::unix::SocketAddr;

use super::socket_file::SocketFile;
use super::unix_credentials::credentials;
use crate::address::Address;
use crate::peer::{Identity, Peer};

pub(crate) use blocking::UnixListener as GivenUnixListener;
pub(crate) use tokio::net::UnixStream;

/// The pause before a listener whose queue is full is asked again. TCP's kernel does the same for a caller.
const BUSY: Duration = Duration::from_millis(5);

/// A listener at a path.
#[derive(Debug)]
pub(crate) struct PathListener {
    listener: UnixListener,
    path: Option<Arc<Path>>,
    /// Absent if someone else has bound it, who also removes it.
    file: Option<SocketFile>,
}

/// A [`PathListener`] that is about to close. New connections don't find it any more.
#[derive(Debug)]
pub(crate) struct ClosingPathListener(blocking::UnixListener);

impl PathListener {
    /// Listens at a path that no server has, or says why not and what to do.
    pub(crate) fn bind(path: &Path, mode: u32, backlog: u32) -> Result<Self, String> {
        let (listener, file) = SocketFile::listen(path, mode, backlog)?;
        Ok(Self { listener, path: Some(path.into()), file: Some(file) })
    }

    /// A listener that was bound before. Its file stays when it closes.
    pub(crate) fn given(listener: blocking::UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        let path = listener.local_addr()?.as_pathname().map(Arc::from);
        Ok(Self { listener, path, file: None })
    }

    pub(crate) fn address(&self) -> Address {
        Address::Unix(self.path.clone())
    }

    pub(crate) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(UnixStream, Peer)>> {
        self.listener.poll_accept(cx).map_ok(|(stream, from)| with_peer(stream, &from))
    }

    /// The path is free from now on. What the kernel has accepted can still be asked for.
    pub(crate) fn close(self) -> io::Result<ClosingPathListener> {
        drop(self.file);
        self.listener.into_std().map(ClosingPathListener)
    }
}

impl ClosingPathListener {
    pub(crate) fn accept(&self) -> io::Result<(io::Result<UnixStream>, Peer)> {
        let (stream, from) = self.0.accept()?;
        let stream = stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream));
        Ok(match stream {
            Ok(stream) => {
                let (stream, peer) = with_peer(stream, &from.into());
                (Ok(stream), peer)
            }
            Err(why) => (Err(why), Peer::from(Address::Unix(None))),
        })
    }
}

/// A connection, and who the kernel says has opened it.
fn with_peer(stream: UnixStream, from: &SocketAddr) -> (UnixStream, Peer) {
    let mut peer = Peer::from(Address::Unix(from.as_pathname().map(Arc::from)));
    peer.identity = credentials(&stream).map(Identity::Unix);
    (stream, peer)
}

/// Connects to the listener at a path.
pub(crate) async fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            Err(why) if why.kind() == io::ErrorKind::WouldBlock => tokio::time::sleep(BUSY).await,
            connected => return connected,
        }
    }
}

/// Looks at the next byte and leaves it unread.
pub(super) fn peek(stream: &UnixStream, byte: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
    SockRef::from(stream).peek(byte)
}

/// As [`peek`], once there is something to be said.
pub(super) fn poll_peek(stream: &UnixStream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_read_ready(cx))?;
        match stream.try_io(Interest::READABLE, || peek(stream, &mut [MaybeUninit::uninit()])) {
            Err(why) if why.kind() == io::ErrorKind::WouldBlock => {}
            peeked => return Poll::Ready(peeked),
        }
    }
}
