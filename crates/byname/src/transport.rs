//! What a connection is made of: [`TransportStream`] carries bytes, [`TransportListener`] accepts connections. The server
//! and the client do not need to know which kind it is.

mod listener;
mod stream;

pub(crate) use self::listener::TransportListener;
pub(crate) use self::stream::TransportStream;
