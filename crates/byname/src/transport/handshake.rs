//! What comes of a handshake, on either side.

use tokio::time::Instant;

use super::TransportStream;
use crate::peer::Identity;

/// What came of a handshake on the server. The log says why it failed.
pub(crate) enum Handshake {
    Done(SecuredStream),
    /// The peer speaks plain HTTP.
    Plain(TransportStream),
    /// It failed. The peer has been told. The stream is what is left of the connection.
    Failed(Option<TransportStream>),
}

/// A connection whose handshake is done.
pub(crate) struct SecuredStream {
    pub(crate) stream: TransportStream,
    /// What the peer has proven.
    pub(crate) identity: Option<Identity>,
    /// When that proof ends, and the connection with it.
    pub(crate) until: Option<Instant>,
}
