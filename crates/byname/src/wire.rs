//! Calls and replies as HTTP heads and bodies, for both sides of each way in. It is pure: no sockets, no clock.
//!
//! `docs/protocol.md` specifies it byte by byte.

mod error_object;
pub(crate) mod headers;
pub(crate) mod instance_and_load;
mod json_object;
pub(crate) mod json_rpc_format;
pub(crate) mod octet_stream;
pub(crate) mod path_format;
pub(crate) mod plain_format;
pub(crate) mod query;
pub(crate) mod reply_lines;
pub(crate) mod stream_lines;

pub(crate) use self::error_object::{WireError, read_error, status};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::error::{Code, Error, Executed};
use crate::outcome::Failure;

/// The ways of calling that HTTP/1 and HTTP/2 carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// `POST /rpc`, the name in the body.
    Plain,
    /// `POST /rpc/name`, the name in the path.
    Path,
}

/// The HTTP form of a reply.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HttpReply {
    pub(crate) status: StatusCode,
    pub(crate) content_type: &'static str,
    /// `retry-after`, in whole seconds.
    pub(crate) retry_after: Option<u64>,
    pub(crate) body: Bytes,
}

/// Client: the value of a reply, not decoded, or the failure.
pub(crate) fn reply(
    way: Way,
    name: &str,
    status: StatusCode,
    reason: Option<&[u8]>,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Bytes, Failure> {
    if let Some(why) = headers::foreign_coding(name, headers) {
        let executed = if status.is_success() { Executed::Yes } else { Executed::Unknown };
        return Err(Error::new(Code::Internal, why).executed_is(executed).into());
    }
    let value = match way {
        _ if !status.is_success() => return Err(error_object::read(name, status, reason, headers, body)),
        Way::Plain => plain_format::value(name, status, body),
        Way::Path => path_format::value(name, status, headers, body),
    };
    value.map_err(Failure::from)
}
