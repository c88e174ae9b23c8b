//! What comes of a handshake, on either side.

use std::fmt;
use std::io;

use tokio::time::Instant;

use super::TransportStream;
use crate::error::Code;
use crate::peer::Identity;

/// What came of a handshake on the server.
pub(crate) enum Handshake {
    Done(SecuredStream),
    /// The peer speaks plain HTTP.
    Plain(TransportStream),
    /// It failed, and why. The peer has been told. The stream is what is left of the connection.
    Failed(String, Option<TransportStream>),
}

/// A connection whose handshake is done.
pub(crate) struct SecuredStream {
    pub(crate) stream: TransportStream,
    /// What the peer has proven.
    pub(crate) identity: Option<Identity>,
    /// When that proof ends, and the connection with it.
    pub(crate) until: Option<Instant>,
}

/// Why one side of a handshake refuses the other. On a client an [`io::Error`] carries it.
#[derive(Clone, Debug)]
pub(crate) struct HandshakeRefusal {
    pub(crate) code: Code,
    pub(crate) why: String,
}

impl HandshakeRefusal {
    /// The refusal that an error carries.
    pub(crate) fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl fmt::Display for HandshakeRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for HandshakeRefusal {}

impl From<HandshakeRefusal> for io::Error {
    fn from(refusal: HandshakeRefusal) -> Self {
        Self::new(io::ErrorKind::InvalidData, refusal)
    }
}
