//! The mode of [`Dispatch`] for calls that are polled where they arrive, without a task: [`InlineCall`].

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context as Task, Poll};

use bytes::Bytes;
use http::{Extensions, HeaderMap};
use tokio::task::coop::unconstrained;
use tokio::time::Instant;
use tracing::instrument::Instrumented;
use tracing::{Instrument as _, Span};

use super::{CallOrigin, Dispatch, InlineEnd, SupervisedCall};
use crate::arguments::{ArgumentSource, EncodedArguments};
use crate::call_semaphore::CallPermits;
use crate::call_telemetry::RecordedCall;
use crate::clock_and_chance::RealInstant;
use crate::codec::Codec;
use crate::outcome::{Failure, Returned, ReturnedValue};
use crate::peer::Peer;
use crate::registry::RegistryEntry;
use crate::request::{CallArguments, Reply, Request};
use crate::runtime::BoxFuture;
use crate::trace_context::ServedSpan;

/// A call of a quick function. Its arguments are still in the read buffer.
pub(crate) struct InlineCall<'c> {
    pub(crate) dispatch: &'c Arc<Dispatch>,
    pub(crate) entry: &'c Arc<RegistryEntry>,
    pub(crate) name: &'c Arc<str>,
    pub(crate) metadata: HeaderMap,
    /// Of the connection, without those that interceptors set.
    pub(crate) extensions: &'c Extensions,
    /// Whether a proxy has passed on the request for the connection.
    pub(crate) is_forwarded: bool,
    pub(crate) peer: Option<Arc<Peer>>,
    pub(crate) deadline: Option<Instant>,
    pub(crate) codec: Codec,
    pub(crate) positional: &'c [u8],
    pub(crate) keyword: &'c [u8],
    pub(crate) now: Instant,
    /// Its place in its trace, if the access log needs it.
    pub(crate) span: Option<ServedSpan>,
    /// Permits for the functions of one connection. One is acquired if the call outlives its first poll.
    pub(crate) functions: &'c Arc<CallPermits>,
}

/// The result of the first poll of a call.
pub(crate) enum Polled {
    /// It is done, and its value is in the buffer.
    Value(Option<Box<HeaderMap>>),
    /// It is done, and nothing is in the buffer.
    Reply(Reply),
    /// It is not done, and continues in a task. Nothing is in the buffer.
    Running(RunningCall),
}

impl InlineCall<'_> {
    /// Runs the call up to its first wait. Its value is appended to `out`. `clock` is the time when the thread ended
    /// its previous work. It is set to the end of this call.
    pub(crate) fn poll(self, clock: &mut RealInstant, out: &mut Vec<u8>, cx: &mut Task<'_>) -> Polled {
        let is_keyed = self.dispatch.is_keyed(&self.entry.handler.method, &self.metadata);
        if !self.dispatch.interceptors.is_empty() || self.dispatch.has_rules() || is_keyed {
            return self.poll_intercepted(cx);
        }
        let Self {
            dispatch,
            entry,
            name,
            metadata,
            extensions,
            is_forwarded,
            peer,
            deadline,
            codec,
            positional,
            keyword,
            now,
            mut span,
            functions,
        } = self;
        let mut recorded = RecordedCall::served(&entry.handler.method, &metadata, &mut span);
        // `..CallOrigin::default()` would make empty headers and drop them.
        let origin = CallOrigin {
            metadata,
            extensions: extensions.clone(),
            peer,
            is_forwarded,
            priority: None,
            deadline,
            permit: None,
            share: None,
            room: Vec::new(),
            items: None,
            takes_stream: false,
            span,
        };
        let source = ArgumentSource::Encoded { codec, positional, keyword, nesting: dispatch.nesting() };
        let mut running = None;
        let run = || {
            let mut supervised = dispatch.begin(entry, Arc::clone(name), origin, now, *clock, source)?;
            Ok(match poll_once(cx, |cx| supervised.poll_into(cx, out)) {
                Poll::Ready(end) => Some(end),
                Poll::Pending => {
                    running = Some(supervised);
                    None
                }
            })
        };
        let run = || entry.piece_from(*clock, dispatch.limits.slow_poll, run);
        // Entering a disabled span would still cost time.
        let (tried, ended) = match recorded.span() {
            Some(span) => span.in_scope(run),
            None => run(),
        };
        *clock = ended;
        if let Some(mut supervised) = running {
            supervised.keep(functions.try_acquire());
            let span = recorded.span().cloned().unwrap_or_else(Span::none);
            return Polled::Running(RunningCall::Function(supervised.instrument(span), recorded));
        }
        let (failure, metadata) = match tried {
            Ok(Some(InlineEnd { failure: None, parts: None, metadata })) => {
                recorded.record(&Ok(()));
                return Polled::Value(metadata);
            }
            Ok(Some(InlineEnd { failure: None, parts: Some(parts), metadata })) => {
                recorded.record(&Ok(()));
                let result = Ok(Returned::Value(ReturnedValue::Parts(codec, *parts)));
                return Polled::Reply(Reply {
                    result,
                    metadata: metadata.map(|metadata| *metadata).unwrap_or_default(),
                });
            }
            Ok(Some(InlineEnd { failure: Some(failure), metadata, .. })) => (*failure, metadata),
            Ok(None) => unreachable!("a call that is not done is running"),
            Err(error) => (Failure::Rpc(error), None),
        };
        let result = Err(failure);
        recorded.record(&result);
        Polled::Reply(Reply { result, metadata: metadata.map(|metadata| *metadata).unwrap_or_default() })
    }

    /// Interceptors may keep the call, so it owns its arguments. Rules look at a call in the same form, and a call with a key runs
    /// in a task of its own.
    fn poll_intercepted(self, cx: &mut Task<'_>) -> Polled {
        let owned = Bytes::copy_from_slice;
        let args =
            EncodedArguments { codec: self.codec, positional: owned(self.positional), keyword: owned(self.keyword) };
        let mut request = Request::new(Arc::clone(self.name), CallArguments::Encoded(args), self.metadata);
        (request.peer, request.deadline, request.share) = (self.peer, self.deadline, self.functions.try_acquire());
        (request.is_forwarded, request.extensions) = (self.is_forwarded, self.extensions.clone());
        request.span = self.span;
        let (dispatch, entry) = (Arc::clone(self.dispatch), Arc::clone(self.entry));
        let mut running: BoxFuture<Reply> = Box::pin(async move { dispatch.run_found(Some(&entry), request).await });
        match poll_once(cx, |cx| running.as_mut().poll(cx)) {
            Poll::Ready(reply) => Polled::Reply(reply),
            Poll::Pending => Polled::Running(RunningCall::Intercepted(running)),
        }
    }
}

/// A call that was not done at its first poll, to be polled by a task.
pub(crate) enum RunningCall {
    Function(Instrumented<SupervisedCall>, RecordedCall),
    /// With the interceptors around it, which are in its span.
    Intercepted(BoxFuture<Reply>),
}

impl Future for RunningCall {
    type Output = Reply;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<Reply> {
        match &mut *self {
            Self::Function(function, recorded) => {
                let reply = std::task::ready!(Pin::new(function).poll(cx));
                recorded.record(&reply.result);
                Poll::Ready(reply)
            }
            Self::Intercepted(call) => call.as_mut().poll(cx),
        }
    }
}

/// Polls once, with a tokio budget of its own, because one poll of a connection runs many calls.
fn poll_once<T>(cx: &mut Task<'_>, mut poll: impl FnMut(&mut Task<'_>) -> Poll<T>) -> Poll<T> {
    let once = pin!(unconstrained(poll_fn(|cx| Poll::Ready(poll(cx)))));
    match once.poll(cx) {
        Poll::Ready(polled) => polled,
        Poll::Pending => Poll::Pending,
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::clock_and_chance::real_now;
    use crate::dispatch::Listing;
    use crate::error::Code;
    use crate::handler::Handler;
    use crate::interceptor::InterceptorChain;
    use crate::limits_and_timeouts::Limits;
    use crate::method::Source;
    use crate::registry::Registry;

    #[test]
    fn a_call_that_comes_too_late_is_refused_before_its_arguments_are_decoded() {
        let place = Source { package: "test", module: "test", file: "test.rs", line: 1 };
        let mut registry = Registry::default();
        registry.add(Handler::function("one".into(), place, |one: i64| async move { one })).unwrap();
        let (limits, chain) = (Limits::default(), InterceptorChain::default());
        let dispatch = Arc::new(Dispatch::new(registry, limits, Listing::Never, chain));
        let (name, now) = (Arc::from("one"), Instant::now());
        for (deadline, expected) in [(None, Code::InvalidArgument), (Some(now), Code::DeadlineExceeded)] {
            let call = InlineCall {
                dispatch: &dispatch,
                entry: dispatch.entry("one").unwrap(),
                name: &name,
                metadata: HeaderMap::new(),
                extensions: &Extensions::new(),
                is_forwarded: false,
                peer: None,
                deadline,
                codec: Codec::Json,
                positional: b"not even JSON",
                keyword: b"",
                now,
                span: None,
                functions: &CallPermits::new(1),
            };
            let mut out = Vec::new();
            let polled = call.poll(&mut real_now(), &mut out, &mut Task::from_waker(Waker::noop()));
            let Polled::Reply(Reply { result: Err(Failure::Rpc(error)), .. }) = polled else {
                panic!("it is refused");
            };
            assert_eq!((error.code(), dispatch.admission().in_flight()), (expected, 0), "{error}");
        }
    }
}
