//! What comes back of a call: [`Returned`], or a [`Failure`].

pub(crate) mod items;
pub(crate) mod sink;

use std::any::Any;

use bytes::Bytes;

pub(crate) use self::items::Items;
use crate::codec::{self, Codec};
use crate::error::{Code, Error, Executed, Kind};

/// What a function gave back.
pub enum Returned {
    Value(ReturnedValue),
    /// A sequence of items, which ends or fails later on.
    Stream(Items),
}

/// One value.
pub enum ReturnedValue {
    Encoded(Codec, Bytes),
    /// The value itself, for a caller in this process.
    Local(Box<dyn Any + Send>),
}

impl ReturnedValue {
    /// As JSON; `None` for a value that was never encoded.
    pub(crate) fn into_json(self) -> Option<Bytes> {
        match self {
            ReturnedValue::Encoded(Codec::Json, text) => Some(text),
            ReturnedValue::Encoded(Codec::MessagePack, bytes) => codec::to_json(&bytes).ok().map(Bytes::from),
            ReturnedValue::Local(_) => None,
        }
    }
}

/// Why there is no reply.
pub enum Failure {
    /// The function's own error: ERROR without its data, and the data.
    Method { error: Error, data: ReturnedValue },
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
