//! Who is at the other end of a unix socket.

use tokio::net::UnixStream;

use crate::peer::UnixCredentials;

/// Who has opened a connection, or listens at its other end.
pub(super) fn credentials(stream: &UnixStream) -> Option<UnixCredentials> {
    let said = stream.peer_cred().ok()?;
    // For a process in another container the kernel returns 0, which is not a process id.
    let pid = said.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|&pid| pid > 0);
    Some(UnixCredentials { uid: said.uid(), gid: said.gid(), pid })
}
