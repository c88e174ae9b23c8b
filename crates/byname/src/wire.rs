//! Calls and replies as HTTP heads and bodies, both sides of each way in. Pure: no sockets, no clock.
//!
//! `docs/protocol.md` specifies it byte by byte.

mod failure;
pub(crate) mod headers;
pub(crate) mod path;
pub(crate) mod plain;

pub(crate) use self::failure::{Received, Refusal, status};

use bytes::Bytes;

/// The ways of calling that HTTP/1 and HTTP/2 carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// `POST /rpc`, the name in the body.
    Plain,
    /// `POST /rpc/name`, the name in the path.
    Path,
}

/// A reply as far as HTTP is concerned.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    /// `retry-after`, in whole seconds.
    pub(crate) retry_after: Option<u64>,
    pub(crate) body: Bytes,
}
