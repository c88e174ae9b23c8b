//! The outcome of a call: [`Returned`], or a [`Failure`].

pub(crate) mod items;
pub(crate) mod sink;

use std::any::Any;

use bytes::Bytes;

pub(crate) use self::items::Items;
use crate::codec::{self, Codec};
use crate::error::{Code, Error, Executed, Kind};

/// What a function returned.
pub enum Returned {
    Value(ReturnedValue),
    /// A stream of items. It ends or fails later.
    Stream(Items),
}

/// One value.
pub enum ReturnedValue {
    Encoded(Codec, Bytes),
    /// The value itself, for a caller in the same process.
    Local(Box<dyn Any + Send>),
}

impl ReturnedValue {
    /// The value as JSON; `None` if it was never encoded.
    pub(crate) fn into_json(self) -> Option<Bytes> {
        match self {
            ReturnedValue::Encoded(Codec::Json, text) => Some(text),
            ReturnedValue::Encoded(Codec::MessagePack, bytes) => codec::to_json(&bytes).ok().map(Bytes::from),
            ReturnedValue::Local(_) => None,
        }
    }
}

/// Why a call failed.
pub enum Failure {
    /// The function returned `Err`. `error` is the ERROR object without its data, `data` is the value.
    Method { error: Error, data: ReturnedValue },
    /// The call itself failed.
    Rpc(Error),
}

impl Failure {
    /// The ERROR object, without data, for an error that the function returned.
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
