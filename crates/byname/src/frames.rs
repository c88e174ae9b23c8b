//! Many calls on one connection: frames in the binary messages of a WebSocket. `docs/protocol.md` specifies them.
//!
//! Nothing here knows functions or callers. A frame is its [`header`] and its [`payload`], and travels in the messages
//! of [`websocket`]. A [`WriteQueue`] has the frames that wait to be written, a [`MessageAssembly`] has the messages of
//! which only some pieces have come, and a [`FrameSocket`] connects both to a TCP stream. Callers and the task of a
//! connection share a [`SharedState`]. [`FlowControl`] says how many bytes the streams of a connection may send, and a
//! [`StreamSender`] sends one stream. A [`ShapeExchange`] has what the sides say of the structure of functions.

mod buffer_pool;
mod flow_control;

#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
pub(crate) mod header;
mod keepalive;
mod message_assembly;
pub(crate) mod payload;
mod shape_exchange;
mod shared_state;
mod socket;
mod stream_sender;
pub(crate) mod websocket;
mod wire_buffer;
mod write_queue;

pub(crate) use self::flow_control::{FlowControl, Found, SharedStreams};
pub(crate) use self::message_assembly::{Assembled, MessageAssembly, PieceInPlace};
pub(crate) use self::shape_exchange::ShapeExchange;
pub(crate) use self::shared_state::{SharedState, StateGuard};
pub(crate) use self::socket::{FrameSocket, GivenUp, Received, SocketEnd};
pub(crate) use self::stream_sender::{SenderEnd, StreamSender, wake};
pub(crate) use self::write_queue::{SPARE, WriteQueue};

use std::fmt;

/// The peer violated the protocol, with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation(pub(crate) &'static str);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the peer broke the protocol: {}", self.0)
    }
}

/// The WebSocket subprotocol.
pub(crate) const SUBPROTOCOL: &str = "byname.v1";

/// A message of more bytes than this is sent in pieces of this size, so that others can be sent between them.
pub(crate) const PIECE: usize = 64 << 10;

/// The longest payload of one frame. Longer messages come in pieces.
pub(crate) const LONGEST: usize = 1 << 20;
