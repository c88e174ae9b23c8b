//! The vocabulary of a call: [`Request`], [`Reply`], [`Failure`]. No transport, no types of the user's.

use std::any::Any;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{Extensions, HeaderMap};
use tokio::time::Instant;

use crate::arguments::EncodedArguments;
use crate::error::{Code, Error};
use crate::metadata;
use crate::method::Method;
use crate::outcome::{Failure, Items, Returned};
use crate::permits::Permit;

/// A call, whichever way it came in: what interceptors see of it.
pub struct Request {
    pub(crate) name: Arc<str>,
    pub(crate) args: CallArguments,
    /// What the caller streams in.
    pub(crate) items: Option<Items>,
    /// The caller takes a stream for an answer.
    pub(crate) takes_stream: bool,
    /// Headers, or what stands for them.
    pub(crate) metadata: HeaderMap,
    pub(crate) peer: Option<SocketAddr>,
    /// When the caller stops waiting; `None` where it didn't say.
    pub(crate) deadline: Option<Instant>,
    /// What interceptors found out, such as who is calling.
    pub(crate) extensions: Extensions,
    /// What is known of the function; set where there are interceptors.
    pub(crate) method: Option<MethodRef>,
    /// The right to run, where it was given already.
    pub(crate) permit: Option<Arc<Permit>>,
    /// Its part in what one connection may have running, until the function's end.
    pub(crate) share: Option<Permit>,
    /// Memory for its result.
    pub(crate) room: Vec<u8>,
}

/// A function's description, on the server's side or a stub's.
pub(crate) enum MethodRef {
    Shared(Arc<Method>),
    Static(&'static Method),
}

impl Request {
    pub(crate) fn new(name: Arc<str>, args: CallArguments, metadata: HeaderMap) -> Self {
        Self {
            name,
            args,
            items: None,
            takes_stream: false,
            metadata,
            peer: None,
            deadline: None,
            extensions: Extensions::new(),
            method: None,
            permit: None,
            share: None,
            room: Vec::new(),
        }
    }

    /// The name that was called, which may be an alias: rules about functions go by [`method`](Self::method).
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The function that was called; `None` where the server has none of that name, and in a client's call by name.
    pub fn method(&self) -> Option<&Method> {
        match self.method.as_ref()? {
            MethodRef::Shared(method) => Some(method),
            MethodRef::Static(method) => Some(method),
        }
    }

    /// One header, or the first of its name; `None` too where it isn't text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.metadata.get(name)?.to_str().ok()
    }

    /// All headers.
    pub fn metadata(&self) -> &HeaderMap {
        &self.metadata
    }

    /// Sets a header, in place of what was there. On a client, headers that are together too large fail the call once it
    /// is sent.
    ///
    /// # Errors
    ///
    /// `invalid_argument` when name or value can't stand in a header, as [`Call::header`](crate::Call::header) says.
    pub fn set_header(&mut self, name: &str, value: &str) -> Result<(), Error> {
        metadata::set(&mut self.metadata, name, value)
    }

    /// The address of the caller, or of the proxy before it; `None` within the process and on the caller's side.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// When the caller stops waiting; `None` where it didn't say.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// What interceptors before this one left here, by type.
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// A place for what this interceptor found out, by type. On a server the function reads it from
    /// [`Context::extensions`](crate::Context::extensions). It never leaves the process.
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extensions
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("name", &self.name).field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// The arguments, still encoded.
pub(crate) enum CallArguments {
    Encoded(EncodedArguments),
    /// `a=1&b=2`, decoded from percent signs.
    Query(Vec<(String, String)>),
    /// The tuple itself, from a caller in this process.
    Local(Box<dyn Any + Send>),
    /// None: what came can't be a call of this function, and this is said to whom the interceptors let pass.
    Refused(Error),
}

/// What a call came to: a value, a stream that has begun, or an error, and the headers that go with it. An [`Error`]
/// becomes one by `.into()`, and so does a `Result<Reply, Error>`.
pub struct Reply {
    pub(crate) result: Result<Returned, Failure>,
    pub(crate) metadata: HeaderMap,
}

impl Reply {
    /// The code of the error, the function's own included; `None` for a success, and for a stream that has begun.
    pub fn code(&self) -> Option<Code> {
        self.error().map(Error::code)
    }

    /// The error. A function's own has the kind [`Kind::Method`](crate::Kind::Method), and not its data.
    pub fn error(&self) -> Option<&Error> {
        match &self.result {
            Ok(_) => None,
            Err(Failure::Method { error, .. } | Failure::Rpc(error)) => Some(error),
        }
    }

    /// The headers that go with it.
    pub fn metadata(&self) -> &HeaderMap {
        &self.metadata
    }

    /// Sets a header, in place of what was there.
    ///
    /// # Errors
    ///
    /// As [`Context::reply_header`](crate::Context::reply_header).
    pub fn set_header(&mut self, name: &str, value: &str) -> Result<(), Error> {
        metadata::set_in_reply(&mut self.metadata, name, value)
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("error", &self.error()).finish_non_exhaustive()
    }
}

impl From<Result<Reply, Error>> for Reply {
    fn from(result: Result<Reply, Error>) -> Self {
        result.unwrap_or_else(Reply::from)
    }
}

impl From<Error> for Reply {
    fn from(error: Error) -> Self {
        Self { result: Err(error.into()), metadata: HeaderMap::new() }
    }
}
