//! A call and its reply without transport and without the user's types: [`Request`], [`Reply`], [`Failure`].

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use http::{Extensions, HeaderMap};
use tokio::time::Instant;

use crate::arguments::EncodedArguments;
use crate::bearer_token::BearerToken;
use crate::call_semaphore::{HeldPermit, Permit};
use crate::error::{Code, Error};
use crate::metadata;
use crate::method::Method;
use crate::outcome::{Failure, Items, Returned};
use crate::peer::Peer;
use crate::priority::Priority;
use crate::trace_context::ServedSpan;

/// A call as interceptors see it. It is the same for every way in.
pub struct Request {
    pub(crate) name: Arc<str>,
    pub(crate) args: CallArguments,
    /// The stream that the caller sends.
    pub(crate) items: Option<Items>,
    /// The caller accepts a stream as the reply.
    pub(crate) takes_stream: bool,
    /// The headers of the request, or the metadata of the frame.
    pub(crate) metadata: HeaderMap,
    pub(crate) peer: Option<Arc<Peer>>,
    /// A proxy has passed on the connection that the call came by. Its own headers may say so as well.
    pub(crate) is_forwarded: bool,
    /// How important it is, if that is decided already: for a call within the process.
    pub(crate) priority: Option<Priority>,
    /// When the caller stops waiting; `None` if it did not say so.
    pub(crate) deadline: Option<Instant>,
    /// Values that interceptors set, such as the identity of the caller.
    pub(crate) extensions: Extensions,
    /// The description of the function. It is set only if there are interceptors or rules.
    pub(crate) method: Option<MethodRef>,
    /// The permit of `Limits::in_flight`, if it was acquired already.
    pub(crate) permit: Option<HeldPermit>,
    /// The permit of its connection. It is held until the function ends.
    pub(crate) share: Option<Permit>,
    /// A buffer to encode the result into.
    pub(crate) room: Vec<u8>,
    /// Its place in its trace, for those who record the call and for the function. `None` if nothing has needed it.
    pub(crate) span: Option<ServedSpan>,
}

/// The description of a function, of the server or of a stub.
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
            is_forwarded: false,
            priority: None,
            deadline: None,
            extensions: Extensions::new(),
            method: None,
            permit: None,
            share: None,
            room: Vec::new(),
            span: None,
        }
    }

    /// The name that was called. It may be an alias; rules about functions use [`method`](Self::method).
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The function that was called. `None` if the server has no function of that name, and for a call by name on a
    /// client.
    pub fn method(&self) -> Option<&Method> {
        match self.method.as_ref()? {
            MethodRef::Shared(method) => Some(method),
            MethodRef::Static(method) => Some(method),
        }
    }

    /// The first header of this name; `None` also if its value is not text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.metadata.get(name)?.to_str().ok()
    }

    /// All headers.
    pub fn metadata(&self) -> &HeaderMap {
        &self.metadata
    }

    /// The token of `authorization: Bearer …` ([RFC 6750](https://www.rfc-editor.org/rfc/rfc6750)). `None` if there is no
    /// such header, if it has another scheme or is malformed, and if there are two.
    ///
    /// ```
    /// # use byname::Request;
    /// fn is_ours(request: &Request) -> bool {
    ///     request.bearer().is_some_and(|token| token.matches("a-token-from-the-configuration"))
    /// }
    /// ```
    pub fn bearer(&self) -> Option<BearerToken<'_>> {
        BearerToken::of(&self.metadata)
    }

    /// Sets a header and replaces values that it had. On a client, a call whose headers are too large together fails when
    /// it is sent.
    ///
    /// # Errors
    ///
    /// `invalid_argument` if the name or the value is not allowed, as for [`Call::header`](crate::Call::header).
    pub fn set_header(&mut self, name: &str, value: &str) -> Result<(), Error> {
        metadata::set(&mut self.metadata, name, value)
    }

    /// Who is at the other end: the caller, or the proxy in front of the server. `None` within the process and on a
    /// client.
    pub fn peer(&self) -> Option<&Peer> {
        self.peer.as_deref()
    }

    /// When the caller stops waiting; `None` where it didn't say.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Values that earlier interceptors set, by type, and middleware of an application that the server is
    /// [mounted](crate::Server::into_service) in.
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// Where this interceptor puts values, by type. On a server the function reads them from
    /// [`Context::extensions`](crate::Context::extensions). They never leave the process.
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extensions
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("name", &self.name).field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// The arguments of a call, not decoded yet.
pub(crate) enum CallArguments {
    Encoded(EncodedArguments),
    /// A query such as `a=1&b=2`, percent-decoded.
    Query(Vec<(String, String)>),
    /// The tuple itself, from a caller in the same process.
    Local(Box<dyn Any + Send>),
    /// The request cannot be a call of this function. The error is answered after the interceptors, which see the call
    /// first.
    Refused(Error),
}

/// The reply of a call: a value, a stream that has begun, or an error, with its headers. `.into()` makes one of an
/// [`Error`] and of a `Result<Reply, Error>`.
pub struct Reply {
    pub(crate) result: Result<Returned, Failure>,
    pub(crate) metadata: HeaderMap,
}

impl Reply {
    /// The code of the error, also of an error that the function returned. `None` for a success and for a stream that has
    /// begun.
    pub fn code(&self) -> Option<Code> {
        self.error().map(Error::code)
    }

    /// The error. If the function returned it, its kind is [`Kind::Method`](crate::Kind::Method) and its data is not here.
    pub fn error(&self) -> Option<&Error> {
        match &self.result {
            Ok(_) => None,
            Err(Failure::Method { error, .. } | Failure::Rpc(error)) => Some(error),
        }
    }

    /// The headers of the reply.
    pub fn metadata(&self) -> &HeaderMap {
        &self.metadata
    }

    /// Sets a header and replaces values that it had.
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
