//! The vocabulary of a call: [`Request`], [`Reply`], [`Failure`]. No transport, no types of the user's.

use std::any::Any;
use std::net::SocketAddr;

use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::error::{Code, Error, Executed, Kind};

/// A call as it reaches dispatch, whichever way it came in.
pub(crate) struct Request {
    pub(crate) name: String,
    pub(crate) args: Args,
    /// What the caller streams in.
    pub(crate) stream: Option<Items>,
    /// Headers, or what stands for them.
    pub(crate) metadata: HeaderMap,
    pub(crate) peer: Option<SocketAddr>,
    /// When the caller stops waiting; `None` where it didn't say.
    pub(crate) deadline: Option<Instant>,
    /// Its part in what one connection may have running, until the function's end.
    pub(crate) share: Option<OwnedSemaphorePermit>,
}

/// The arguments, still encoded.
pub(crate) enum Args {
    Json(JsonArgs),
    /// `a=1&b=2`, decoded from percent signs.
    Query(Vec<(String, String)>),
    /// The tuple itself, from a caller in this process.
    Local(Box<dyn Any + Send>),
}

/// An array of positional arguments, an object of keyword arguments; an empty one is none.
#[derive(Clone, Default)]
pub(crate) struct JsonArgs {
    pub(crate) positional: Bytes,
    pub(crate) keyword: Bytes,
}

/// What a function gave back.
pub(crate) enum Reply {
    Value(Value),
    /// A sequence of items; functions that return one come with streams.
    #[expect(dead_code, reason = "no function can return a stream yet")]
    Stream(Items),
}

/// One value.
pub(crate) enum Value {
    Json(Vec<u8>),
    /// The value itself, for a caller in this process.
    Local(Box<dyn Any + Send>),
}

/// The place of a stream's items. It can't be made until functions can stream.
pub(crate) enum Items {}

/// Why there is no reply.
pub(crate) enum Failure {
    /// The function's own error.
    Method { code: Code, error: Value },
    /// Ours.
    Rpc(Error),
}

impl Failure {
    /// The function's own error as ERROR without its `data`.
    pub(crate) fn method_error(name: &str, code: Code) -> Error {
        Error::new(code, format!("`{name}` returned its own error, see `data`"))
            .executed_is(Executed::Yes)
            .kind_is(Kind::Method)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Rpc(error)
    }
}
