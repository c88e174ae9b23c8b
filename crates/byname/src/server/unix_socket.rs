//! A unix socket to listen at, and who may connect: [`UnixSocket`].

use std::path::Path;
use std::sync::Arc;

use super::bind::ListenAddress;
use super::listen::Listen;

/// Who may connect unless told otherwise: processes of the user that the server runs as, and of the superuser.
const MODE: u32 = 0o600;

/// A unix socket to listen at, by its path. [`Listen::unix`] makes it.
#[derive(Clone, Debug)]
#[must_use = "a server serves at it when it is given to `Server::serve`"]
pub struct UnixSocket {
    pub(super) path: Arc<Path>,
    pub(super) mode: u32,
}

impl UnixSocket {
    pub(super) fn at(path: Arc<Path>) -> Self {
        Self { path, mode: MODE }
    }

    /// The permissions of the socket's file, `0o600` unless told otherwise. Whoever may write to the file may connect:
    /// `0o660` lets the file's group in, which is the group of the server's process, or that of the directory if the
    /// directory's setgid bit is set. The umask has no part in it.
    pub fn mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }
}

impl Listen {
    /// A unix socket at a path, whatever the path looks like, to set its permissions. `"unix:/run/orders.sock"` is the
    /// same with those that it has without being told.
    ///
    /// ```no_run
    /// use byname::{Listen, Server};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), byname::Error> {
    /// # let server = Server::new().function("ping", || async { "pong" });
    /// server.serve(Listen::unix("/run/orders/orders.sock").mode(0o660)).await
    /// # }
    /// ```
    pub fn unix(path: impl AsRef<Path>) -> UnixSocket {
        UnixSocket::at(path.as_ref().into())
    }
}

impl From<UnixSocket> for Listen {
    fn from(socket: UnixSocket) -> Self {
        Self(ListenAddress::Unix(socket))
    }
}
