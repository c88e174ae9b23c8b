//! What a call comes to: from encoded bytes to the types that the caller sees.

use std::any::Any;

use bytes::Bytes;
use http::HeaderMap;
use serde_core::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::codec;
use crate::error::{CallError, Code, Error, Executed};
use crate::handler::{NoError, TypeIds};

/// A finished call, its types still erased.
pub(super) struct Done {
    pub(super) result: Result<Value, Failed>,
    pub(super) metadata: HeaderMap,
}

pub enum Value {
    Json(Bytes),
    Local(Box<dyn Any + Send>),
}

pub enum Failed {
    Rpc(Error),
    /// The function's own error: ERROR without its data, and the data.
    Method(Error, Own),
}

pub enum Own {
    Json(Box<RawValue>),
    Local(Box<dyn Any + Send>),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Failed::Rpc(error)
    }
}

impl From<Error> for Done {
    fn from(error: Error) -> Self {
        Self { result: Err(error.into()), metadata: HeaderMap::new() }
    }
}

/// What a call results in: `Result<T, Error>`, or `Result<T, CallError<E>>` where the function returns a `Result`.
pub trait Remote: Sized + Send + 'static {
    /// A success.
    type Ok: Send + 'static;
    /// A failure.
    type Err: Send + 'static;

    #[doc(hidden)]
    fn types<A: 'static>() -> TypeIds;
    #[doc(hidden)]
    fn read(name: &str, result: Result<Value, Failed>) -> Self;
    #[doc(hidden)]
    fn into_result(self) -> Result<Self::Ok, Self::Err>;
}

impl<T: DeserializeOwned + Send + 'static> Remote for Result<T, Error> {
    type Ok = T;
    type Err = Error;

    fn types<A: 'static>() -> TypeIds {
        TypeIds::of::<A, T, NoError>()
    }

    fn read(name: &str, result: Result<Value, Failed>) -> Self {
        match result {
            Ok(value) => read_value(name, value),
            Err(Failed::Rpc(error)) => Err(error),
            // The function returns a `Result` that this side knows nothing of.
            Err(Failed::Method(error, Own::Json(data))) => {
                Err(match codec::decode::<serde_json::Value>(data.get().as_bytes()) {
                    Ok(data) => error.with_data(data),
                    Err(_) => error,
                })
            }
            Err(Failed::Method(error, Own::Local(_))) => Err(error),
        }
    }

    fn into_result(self) -> Self {
        self
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

    fn read(name: &str, result: Result<Value, Failed>) -> Self {
        match result {
            Ok(value) => read_value(name, value).map_err(CallError::Rpc),
            Err(Failed::Rpc(error)) => Err(CallError::Rpc(error)),
            Err(Failed::Method(_, Own::Json(data))) => Err(match codec::decode(data.get().as_bytes()) {
                Ok(error) => CallError::Method(error),
                Err(why) => CallError::Rpc(unreadable(name, "own error", &why, std::any::type_name::<E>())),
            }),
            Err(Failed::Method(_, Own::Local(data))) => Err(match data.downcast() {
                Ok(error) => CallError::Method(*error),
                Err(_) => CallError::Rpc(unreadable(name, "own error", "another type", std::any::type_name::<E>())),
            }),
        }
    }

    fn into_result(self) -> Self {
        self
    }
}

fn read_value<T: DeserializeOwned + 'static>(name: &str, value: Value) -> Result<T, Error> {
    match value {
        Value::Json(text) => {
            codec::decode(&text).map_err(|why| unreadable(name, "reply", &why, std::any::type_name::<T>()))
        }
        Value::Local(value) => match value.downcast() {
            Ok(value) => Ok(*value),
            Err(_) => Err(unreadable(name, "reply", "another type", std::any::type_name::<T>())),
        },
    }
}

fn unreadable(name: &str, what: &str, why: &str, expected: &str) -> Error {
    let why = format!("the {what} of `{name}` is no `{expected}`: {why}; do both sides agree on the signature?");
    Error::new(Code::Internal, why).executed_is(Executed::Yes)
}
