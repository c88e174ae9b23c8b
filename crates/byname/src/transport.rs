//! What a connection is made of: [`TransportStream`] carries bytes, [`TransportListener`] accepts connections. The server
//! and the client do not need to know which kind it is.

mod address_race;
mod first_to_connect;
#[cfg_attr(not(feature = "tls"), allow(dead_code, reason = "only TLS has handshakes"))]
mod handshake;
#[cfg_attr(not(feature = "tls"), allow(dead_code, reason = "only TLS has handshakes"))]
mod handshake_refusal;
mod listener;
#[cfg(not(unix))]
mod no_unix;
#[cfg(unix)]
mod socket_file;
mod stream;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "transport/without_tls.rs"]
mod tls;
#[cfg(unix)]
mod unix;
#[cfg(unix)]
mod unix_credentials;

pub(crate) use self::address_race::ConnectStep;
pub(crate) use self::first_to_connect::{
    AttemptProgress, ConnectFailure, ConnectOutcome, FailedAddress, first_to_connect,
};
pub(crate) use self::handshake::Handshake;
#[cfg(feature = "tls")]
pub(crate) use self::handshake::SecuredStream;
pub(crate) use self::handshake_refusal::HandshakeRefusal;
pub(crate) use self::listener::TransportListener;
#[cfg(not(unix))]
use self::no_unix as unix;
pub(crate) use self::stream::TransportStream;
pub(crate) use self::tls::TlsConnector;
#[cfg(feature = "tls")]
pub use self::tls::{ClientTls, Pem, ServerTls};
#[cfg(not(feature = "tls"))]
pub(crate) use self::tls::{ClientTls, ServerTls};
pub(crate) use self::unix::{GivenUnixListener, PathListener, connect_unix};
