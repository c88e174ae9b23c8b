//! Why one side of a handshake refuses the other: [`HandshakeRefusal`].

use std::fmt;
use std::io;

use crate::error::Code;

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
