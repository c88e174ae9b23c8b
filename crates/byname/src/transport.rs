//! What a connection is made of: [`TransportStream`] carries bytes, [`TransportListener`] accepts connections. The server
//! and the client do not need to know which kind it is.

mod listener;
#[cfg(not(unix))]
mod no_unix;
#[cfg(unix)]
mod socket_file;
mod stream;
#[cfg(unix)]
mod unix;
#[cfg(unix)]
mod unix_credentials;

pub(crate) use self::listener::TransportListener;
#[cfg(not(unix))]
use self::no_unix as unix;
pub(crate) use self::stream::TransportStream;
pub(crate) use self::unix::{GivenUnixListener, PathListener, connect_unix};
