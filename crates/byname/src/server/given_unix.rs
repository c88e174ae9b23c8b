//! A unix listener that is bound already is a place to listen at.

use std::os::unix::net::UnixListener;

use super::bind::ListenAddress;
use super::listen::Listen;

impl From<UnixListener> for Listen {
    fn from(listener: UnixListener) -> Self {
        Self::at(ListenAddress::StdUnix(listener))
    }
}
