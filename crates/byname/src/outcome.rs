//! The outcome of a call: [`Returned`], or a [`Failure`].

pub(crate) mod growing_items;
pub(crate) mod item_parts;
pub(crate) mod item_sink;
pub(crate) mod items;

use std::any::Any;

use bytes::Bytes;

pub(crate) use self::items::Items;
use crate::codec::{self, Codec, EncodedParts};
use crate::error::{Code, Error, Executed, Kind};
use crate::untrusted_text::{beginning, excerpt};

/// What a function returned.
pub enum Returned {
    Value(ReturnedValue),
    /// A stream of items. It ends or fails later.
    Stream(Items),
}

/// One value.
pub enum ReturnedValue {
    Encoded(Codec, Bytes),
    /// As [`Encoded`](Self::Encoded), with large bytes in it that are not copied.
    Parts(Codec, EncodedParts),
    /// The value itself, for a caller in the same process.
    Local(Box<dyn Any + Send>),
}

impl ReturnedValue {
    /// The same value, in one piece if it was in parts.
    pub(crate) fn join(self) -> Self {
        match self {
            ReturnedValue::Parts(codec, parts) => ReturnedValue::Encoded(codec, parts.join()),
            other => other,
        }
    }

    /// The value as JSON; `None` if it was never encoded.
    pub(crate) fn into_json(self) -> Option<Bytes> {
        match self.join() {
            ReturnedValue::Encoded(Codec::Json, text) => Some(text),
            ReturnedValue::Encoded(Codec::MessagePack, bytes) => codec::to_json(&bytes).ok().map(Bytes::from),
            ReturnedValue::Parts(..) | ReturnedValue::Local(_) => None,
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
    /// The ERROR object, without data.
    pub(crate) fn error(&self) -> &Error {
        let (Failure::Rpc(error) | Failure::Method { error, .. }) = self;
        error
    }

    /// The ERROR object, without data, for an error that the function returned.
    pub(crate) fn method_error(name: &str, code: Code, message: OwnMessage) -> Error {
        let message = match message {
            OwnMessage::Text(text) => text,
            OwnMessage::Value(value) => format!("`{name}` returned its own error: {value}"),
        };
        Error::new(code, message).executed_is(Executed::Yes).kind_is(Kind::Method)
    }
}

/// What the message of a function's own error is made of.
pub(crate) enum OwnMessage {
    /// The error's own words.
    Text(String),
    /// It has none: the beginning of its value as JSON.
    Value(String),
}

impl OwnMessage {
    /// The most bytes of the error's own words. They stand beside the value, and no limit counts them.
    const LONGEST_TEXT: usize = 4096;
    /// The most bytes of the value, which goes out whole as `data`.
    const LONGEST_VALUE: usize = 256;

    pub(crate) fn text(mut text: String) -> Self {
        let fits = beginning(&text, Self::LONGEST_TEXT).len();
        if fits < text.len() {
            text.truncate(fits);
            text.push('…');
        }
        OwnMessage::Text(text)
    }

    /// Of an error whose value was encoded.
    pub(crate) fn value(codec: Codec, value: &[u8]) -> Self {
        let transcoded;
        let json = match codec {
            Codec::Json => value,
            Codec::MessagePack => {
                transcoded = codec::to_json(value).unwrap_or_default();
                &transcoded
            }
        };
        OwnMessage::Value(excerpt(std::str::from_utf8(json).unwrap_or_default(), Self::LONGEST_VALUE))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Rpc(error)
    }
}
