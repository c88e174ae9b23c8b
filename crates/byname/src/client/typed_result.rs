//! The result of a call: from encoded bytes to the caller's types.

use serde_core::de::DeserializeOwned;

use crate::codec::{self, Codec};
use crate::error::{CallError, Code, Error, Executed};
use crate::handler::{NoError, TypeIds};
use crate::outcome::{Failure, Returned, ReturnedValue};

/// What an error asks whose reason is not known.
pub(super) const SAME_SIGNATURE: &str = "; do both sides agree on the signature?";

/// The result of a call: `Result<T, Error>`, or `Result<T, CallError<E>>` if the function returns a `Result`.
pub trait Remote: Sized + Send + 'static {
    /// A success.
    type Ok: Send + 'static;
    /// A failure.
    type Err: Send + 'static;

    #[doc(hidden)]
    fn types<A: 'static>() -> TypeIds;
    #[doc(hidden)]
    fn read(name: &str, result: Result<Returned, Failure>) -> Self;
    #[doc(hidden)]
    fn into_result(self) -> Result<Self::Ok, Self::Err>;
    /// One item of a stream.
    #[doc(hidden)]
    fn read_item(name: &str, codec: Codec, item: &[u8]) -> Self;
    #[doc(hidden)]
    fn is_failure(&self) -> bool;
    /// The error of a reply that could not be read.
    #[doc(hidden)]
    fn unreadable(&self) -> Option<&Error>;
}

impl<T: DeserializeOwned + Send + 'static> Remote for Result<T, Error> {
    type Ok = T;
    type Err = Error;

    fn types<A: 'static>() -> TypeIds {
        TypeIds::of::<A, T, NoError>()
    }

    fn read(name: &str, result: Result<Returned, Failure>) -> Self {
        match result {
            Ok(returned) => read_value(name, returned),
            Err(Failure::Rpc(error)) => Err(error),
            // The function returns a `Result`, but this side does not declare it.
            Err(Failure::Method { error, data: ReturnedValue::Encoded(codec, data) }) => {
                Err(match codec::decode::<serde_json::Value>(codec, &data) {
                    Ok(data) => error.data_is(Some(data)),
                    Err(_) => error,
                })
            }
            Err(Failure::Method { error, data: ReturnedValue::Parts(..) | ReturnedValue::Local(_) }) => Err(error),
        }
    }

    fn into_result(self) -> Self {
        self
    }

    fn read_item(name: &str, codec: Codec, item: &[u8]) -> Self {
        read_item(name, codec, item)
    }

    fn is_failure(&self) -> bool {
        self.is_err()
    }

    fn unreadable(&self) -> Option<&Error> {
        self.as_ref().err().filter(|error| error.is_unreadable())
    }
}

impl<T, E> Remote for Result<T, CallError<E>>
where
    T: DeserializeOwned + Send + 'static,
    E: DeserializeOwned + Send + 'static,
{
    type Ok = T;
    type Err = CallError<E>;

    fn types<A: 'static>() -> TypeIds {
        TypeIds::of::<A, T, E>()
    }

    fn read(name: &str, result: Result<Returned, Failure>) -> Self {
        match result {
            Ok(returned) => read_value(name, returned).map_err(CallError::Rpc),
            Err(Failure::Rpc(error)) => Err(CallError::Rpc(error)),
            Err(Failure::Method { data: ReturnedValue::Encoded(codec, data), .. }) => {
                Err(match codec::decode(codec, &data) {
                    Ok(error) => CallError::Method(error),
                    Err(why) => CallError::Rpc(unreadable(name, "own error", &why, std::any::type_name::<E>())),
                })
            }
            Err(Failure::Method { error, data: data @ ReturnedValue::Parts(..) }) => {
                Self::read(name, Err(Failure::Method { error, data: data.join() }))
            }
            Err(Failure::Method { data: ReturnedValue::Local(data), .. }) => Err(match data.downcast() {
                Ok(error) => CallError::Method(*error),
                Err(_) => CallError::Rpc(unreadable(name, "own error", "another type", std::any::type_name::<E>())),
            }),
        }
    }

    fn into_result(self) -> Self {
        self
    }

    fn read_item(name: &str, codec: Codec, item: &[u8]) -> Self {
        read_item(name, codec, item).map_err(CallError::Rpc)
    }

    fn is_failure(&self) -> bool {
        self.is_err()
    }

    fn unreadable(&self) -> Option<&Error> {
        match self {
            Err(CallError::Rpc(error)) if error.is_unreadable() => Some(error),
            _ => None,
        }
    }
}

fn read_item<T: DeserializeOwned>(name: &str, codec: Codec, item: &[u8]) -> Result<T, Error> {
    codec::decode(codec, item).map_err(|why| unreadable(name, "item", &why, std::any::type_name::<T>()))
}

fn read_value<T: DeserializeOwned + 'static>(name: &str, returned: Returned) -> Result<T, Error> {
    match returned {
        Returned::Value(value @ ReturnedValue::Parts(..)) => read_value(name, Returned::Value(value.join())),
        Returned::Value(ReturnedValue::Encoded(codec, bytes)) => codec::decode_sharing(codec, &bytes)
            .map_err(|why| unreadable(name, "reply", &why, std::any::type_name::<T>())),
        Returned::Value(ReturnedValue::Local(value)) => match value.downcast() {
            Ok(value) => Ok(*value),
            Err(_) => Err(unreadable(name, "reply", "another type", std::any::type_name::<T>())),
        },
        Returned::Stream(_) => Err(unasked_stream(name)),
    }
}

/// A stream came, but a value was expected.
pub(super) fn unasked_stream(name: &str) -> Error {
    let why = format!("`{name}` returned a stream, but was called for a single value; call it with `Client::stream`");
    Error::new(Code::FailedPrecondition, why).executed_is(Executed::Yes)
}

fn unreadable(name: &str, what: &str, why: &str, expected: &str) -> Error {
    let why = format!("the {what} of `{name}` is not of type `{expected}`: {why}{SAME_SIGNATURE}");
    Error::new(Code::Internal, why).executed_is(Executed::Yes).unreadable()
}
