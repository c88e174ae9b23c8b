//! A unix socket to listen at, and who may connect: [`UnixSocket`].

use std::path::Path;
use std::sync::Arc;

/// The default mode. Only processes of the server's user and of the superuser may connect.
const MODE: u32 = 0o600;

/// A unix socket to listen at, by its path. [`Listen::unix`](super::Listen::unix) makes it.
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

    /// The permissions of the socket's file, `0o600` by default. A user who may write to the file may connect.
    /// `0o660` also admits the file's group. This is the group of the server's process, or the group of the directory if
    /// the directory has the setgid bit. The umask is not applied.
    pub fn mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }
}
