//! A call as a future: lazy, owned, with options.

use std::any::Any;
use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll, ready};
use std::time::Duration;

use http::{Extensions, HeaderMap};
use serde_core::Serialize;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::frames::Sending;
use super::host::Host;
use super::outcome::Remote;
use super::outgoing::Outgoing;
use super::{Client, Way};
use crate::arguments::{Encoded, ToArguments, encode_dynamic};
use crate::call::{Args, Failure, Known, Reply, Request, Returned};
use crate::codec::Codec;
use crate::context::Context;
use crate::error::{Code, Error, Executed};
use crate::handler::TypeIds;
use crate::metadata;
use crate::method::Method;
use crate::name;
use crate::runtime::{self, BoxFuture};
use crate::timer::later;
use crate::wire::headers;

/// A call that is sent when it is first polled: `add::on(&client, 1, 2).await`.
///
/// It owns what it needs, so it is `Send`, and `'static` where its arguments are: it can be spawned and joined. Dropping
/// it is giving up: a call that has not started is not run; one that has started runs to its end, unless it is
/// `readonly`.
#[must_use = "a call is sent when it is awaited"]
pub struct Call<A, R> {
    state: State<A>,
    /// From what came back to what the caller sees; a pointer, so that a call is a future whatever `R` is.
    read: fn(&str, Result<Returned, Failure>) -> R,
}

enum State<A> {
    Ready(Prepared<A>),
    Running(Cow<'static, str>, Running),
    Over,
}

struct Prepared<A> {
    client: Client,
    name: Cow<'static, str>,
    method: Option<&'static Method>,
    args: A,
    encode: Encode<A>,
    /// For a caller in the same process: the arguments as they are, and the types they are of.
    as_they_are: Option<AsTheyAre<A>>,
    timeout: Option<Duration>,
    headers: HeaderMap,
    refused: Option<Error>,
}

type AsTheyAre<A> = (fn(A) -> Box<dyn Any + Send>, TypeIds);
type Encode<A> = fn(Option<&'static Method>, A, Codec) -> Result<Encoded, Error>;

/// The arguments of a call by name, in its type: `Call<ByName, Result<T, CallError<Value>>>` is what [`Client::call`]
/// returns whatever they are, for they are encoded at once. The call borrows nothing.
#[derive(Debug)]
pub struct ByName(Encoded);

/// A call on its way.
enum Running {
    /// By frames, at its first attempt.
    Frames(Box<ByFrames>),
    Any(BoxFuture<Reply>),
}

/// A call by frames: what it takes to send it, and to send it again.
struct ByFrames {
    sending: Sending,
    outgoing: Outgoing,
    host: Arc<Host>,
}

/// A typed stub's call whose arguments are all owned.
pub(crate) fn call<A: ToArguments + 'static, R: Remote>(
    client: &Client,
    method: &'static Method,
    args: A,
) -> Call<A, R> {
    let as_they_are: fn(A) -> Box<dyn Any + Send> = |args| Box::new(args);
    Call::new(
        client,
        Cow::Borrowed(&*method.name),
        Some(method),
        args,
        encode_typed,
        Some((as_they_are, R::types::<A>())),
    )
}

/// A typed stub's call with borrowed arguments: it is encoded even within the process.
pub(crate) fn call_borrowed<A: ToArguments, R: Remote>(
    client: &Client,
    method: &'static Method,
    args: A,
) -> Call<A, R> {
    Call::new(client, Cow::Borrowed(&*method.name), Some(method), args, encode_typed, None)
}

pub(super) fn by_name<R: Remote>(client: &Client, name: &str, args: &(impl Serialize + 'static)) -> Call<ByName, R> {
    let named = name::check(name).map_err(|why| Error::refused(Code::InvalidArgument, why));
    let encoded = named.and_then(|()| encode_dynamic(name, args));
    let refused = encoded.as_ref().err().cloned();
    let args = ByName(encoded.unwrap_or_else(|_| Encoded::none(Codec::Json)));
    let encode: Encode<ByName> = |_, args, codec| args.0.into_codec(codec);
    let mut call = Call::new(client, Cow::Owned(name.to_owned()), None, args, encode, None);
    if let State::Ready(prepared) = &mut call.state {
        prepared.refused = prepared.refused.take().or(refused);
    }
    call
}

fn encode_typed<A: ToArguments>(method: Option<&'static Method>, args: A, codec: Codec) -> Result<Encoded, Error> {
    let params = method.map(|method| method.params.as_slice()).unwrap_or_default();
    let mut keyword = Vec::with_capacity(128);
    args.to_keyword(params, codec, &mut keyword)?;
    Ok(Encoded::by_name(codec, keyword.into()))
}

impl<A, R> Call<A, R> {
    fn new(
        client: &Client,
        name: Cow<'static, str>,
        method: Option<&'static Method>,
        args: A,
        encode: Encode<A>,
        as_they_are: Option<AsTheyAre<A>>,
    ) -> Self
    where
        R: Remote,
    {
        let refused = client.scope.refused.clone();
        let client = client.clone();
        let headers = HeaderMap::new();
        let prepared = Prepared { client, name, method, args, encode, as_they_are, timeout: None, headers, refused };
        Self { state: State::Ready(prepared), read: R::read }
    }

    /// How long this call may take, from its first poll, in place of the client's and the function's own. A caller that
    /// is serving a call itself has at most what is left of that one's time.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        if let State::Ready(prepared) = &mut self.state {
            prepared.timeout = Some(timeout);
        }
        self
    }

    /// A header on this call, which the function reads by [`Context::header`]. One that can't stand in a header fails
    /// the call, as do HTTP's own and `byname-…`, which is the protocol's.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let State::Ready(prepared) = &mut self.state
            && let Err(error) = metadata::set(&mut prepared.headers, name, value)
        {
            prepared.refused = Some(error);
        }
        self
    }

    /// Makes the call and blocks this thread until it is done: for programs without async, and for threads of async
    /// ones that may block.
    ///
    /// ```
    /// # use byname::{rpc, Client, Server};
    /// # #[rpc]
    /// # async fn add(a: i64, b: i64) -> i64 { a + b }
    /// fn main() -> Result<(), byname::Error> {
    ///     let data = Client::local(&Server::new().method::<add>())?; // or Client::new("data:8080/rpc")?
    ///     println!("{}", add::on(&data, 1, 2).wait()?);
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As when it is awaited. Inside async code it is not made: `failed_precondition`, for the thread has other work to
    /// do meanwhile. There it is awaited, or moved to `tokio::task::spawn_blocking`; an `#[rpc]` function that waits is
    /// declared `#[rpc(blocking)]`.
    pub fn wait(self) -> R
    where
        A: Send,
        R: Remote,
    {
        match runtime::block_on(self) {
            Ok(result) => result,
            Err(call) => R::read(call.name(), Err(inside_async(call.name()).into())),
        }
    }

    /// The same call, whose success comes with the headers of the reply: `let (sum, metadata) = ….await?`.
    pub fn with_metadata(self) -> WithMetadata<A, R> {
        WithMetadata(self)
    }
}

impl<A, R> Call<A, R> {
    fn name(&self) -> &str {
        match &self.state {
            State::Ready(prepared) => &prepared.name,
            State::Running(name, _) => name,
            State::Over => "(over)",
        }
    }
}

impl<A: Send, R> Call<A, R> {
    fn poll_done(&mut self, cx: &mut Task<'_>) -> Poll<(R, HeaderMap)> {
        if matches!(self.state, State::Ready(_)) {
            let State::Ready(prepared) = std::mem::replace(&mut self.state, State::Over) else {
                unreachable!("it was ready a line ago");
            };
            self.state = prepared.start();
        }
        let State::Running(_, future) = &mut self.state else {
            panic!("a call was polled after it had ended");
        };
        let done = ready!(future.poll(cx));
        let State::Running(name, _) = std::mem::replace(&mut self.state, State::Over) else {
            unreachable!("it was running a line ago");
        };
        Poll::Ready(((self.read)(&name, done.result), done.metadata))
    }
}

/// Arguments are never pinned: they are consumed by the first poll.
impl<A, R> Unpin for Call<A, R> {}

impl<A: Send, R> Future for Call<A, R> {
    type Output = R;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<R> {
        self.poll_done(cx).map(|(result, _)| result)
    }
}

impl<A, R> std::fmt::Debug for Call<A, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Call").field(&self.name()).finish()
    }
}

/// A [`Call`] whose success comes with the headers of the reply.
#[derive(Debug)]
#[must_use = "a call is sent when it is awaited"]
pub struct WithMetadata<A, R>(Call<A, R>);

impl<A: Send, R: Remote> WithMetadata<A, R> {
    /// As [`Call::wait`].
    ///
    /// # Errors
    ///
    /// As [`Call::wait`].
    pub fn wait(self) -> Result<(R::Ok, HeaderMap), R::Err> {
        match runtime::block_on(self) {
            Ok(result) => result,
            Err(Self(call)) => {
                let refused = R::read(call.name(), Err(inside_async(call.name()).into()));
                refused.into_result().map(|value| (value, HeaderMap::new()))
            }
        }
    }
}

impl<A: Send, R: Remote> Future for WithMetadata<A, R> {
    type Output = Result<(R::Ok, HeaderMap), R::Err>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<Self::Output> {
        self.0.poll_done(cx).map(|(result, metadata)| result.into_result().map(|value| (value, metadata)))
    }
}

fn inside_async(name: &str) -> Error {
    let why = format!(
        "`{name}` was called with `.wait()` inside async code, whose thread must not block; use `.await`, or `.wait()` \
         inside `tokio::task::spawn_blocking` or an `#[rpc(blocking)]` function"
    );
    Error::refused(Code::FailedPrecondition, why)
}

impl<A: Send> Prepared<A> {
    fn start(self) -> State<A> {
        let Self { client, name, method, args, encode, as_they_are, timeout, headers: own, refused } = self;
        let scope = &client.scope;
        let name = if scope.prefix.is_empty() { name } else { Cow::Owned(format!("{}{name}", scope.prefix)) };
        let fail = |name, error: Error| {
            let failed = Box::pin(std::future::ready(Reply::from(error)));
            State::Running(name, Running::Any(failed))
        };
        if let Some(error) = refused {
            return fail(name, error);
        }

        let serving = Context::current();
        let now = Instant::now();
        let limits = match &client.way {
            Way::Remote(host) => host.limits(),
            Way::Local(dispatch) => dispatch.limits(),
        };
        let timeout = timeout.or(scope.timeout).or(method.and_then(|method| method.timeout)).unwrap_or(limits.call);
        let own_deadline = later(now, timeout);
        let deadline = serving.as_ref().map_or(own_deadline, |serving| own_deadline.min(serving.deadline()));
        let allowed = deadline.saturating_duration_since(now);
        if allowed.is_zero() {
            let why = format!("no time was left to call `{name}`; allow more with `.timeout(…)`");
            return fail(name, Error::refused(Code::DeadlineExceeded, why));
        }

        let mut all = scope.headers.clone();
        if let Some(serving) = &serving {
            for trace in [headers::TRACEPARENT, headers::TRACESTATE] {
                if let Some(value) = serving.metadata().get(&trace) {
                    all.insert(trace, value.clone());
                }
            }
        }
        all.extend(own);

        let link = match &client.way {
            Way::Remote(host) => host.link(),
            Way::Local(_) => None,
        };
        let args = match (&client.way, as_they_are) {
            (Way::Local(dispatch), Some((as_they_are, types))) if !scope.encoded && dispatch.takes(&name, types) => {
                Ok(Args::Local(as_they_are(args)))
            }
            (Way::Local(_), _) => encode(method, args, scope.codec).map(Args::Encoded),
            (Way::Remote(_), _) => {
                let codec = link.as_ref().map_or(Codec::Json, |link| link.codec());
                encode(method, args, codec).map(Args::Encoded)
            }
        };
        let args = match args {
            Ok(args) => args,
            Err(error) => return fail(name, error),
        };
        let span = tracing::info_span!("rpc.call", rpc.method = %name);
        let idempotent = method.is_some_and(|method| method.idempotent);
        let args = match (args, link, &client.way) {
            (Args::Encoded(args), Some(link), Way::Remote(host))
                if scope.interceptors.is_empty() && span.is_disabled() =>
            {
                let outgoing = Outgoing { name: name.clone(), args, idempotent, headers: all, deadline, allowed };
                let by_frames = ByFrames { sending: link.call(), outgoing, host: Arc::clone(host) };
                return State::Running(name, Running::Frames(Box::new(by_frames)));
            }
            (args, ..) => args,
        };
        let mut request = Request::new((&*name).into(), args, all);
        request.deadline = Some(deadline);
        let way = client.way.clone();
        let call = if scope.interceptors.is_empty() {
            way.send(request, idempotent, deadline, allowed)
        } else {
            request.method = method.map(Known::Static);
            let chain = scope.interceptors.clone();
            let last = Box::new(move |request| way.send(request, idempotent, deadline, allowed));
            Box::pin(async move { chain.run(request, deadline, last).await })
        };
        // A span that nobody watches would still be entered and left at each poll.
        let call = if span.is_disabled() { call } else { Box::pin(call.instrument(span)) };
        State::Running(name, Running::Any(on_a_runtime(call)))
    }
}

impl Running {
    fn poll(&mut self, cx: &mut Task<'_>) -> Poll<Reply> {
        if let Running::Frames(by_frames) = self {
            let ByFrames { sending, outgoing, host } = &mut **by_frames;
            let reply = match sending.poll(outgoing, cx) {
                Poll::Ready(ended) => host.ended(outgoing, sending.link(), ended),
                // Nobody but itself looks at its deadline before it is sent.
                Poll::Pending if sending.is_queued() => None,
                Poll::Pending => return Poll::Pending,
            };
            match reply {
                // Whether it is sent again is for the others' way to say.
                Some(Reply { result: Err(Failure::Rpc(_)), .. }) | None => {
                    let outgoing = outgoing.take();
                    let again = Arc::clone(host).call(outgoing, reply);
                    *self = Running::Any(on_a_runtime(Box::pin(again)));
                }
                Some(reply) => {
                    host.deposit();
                    return Poll::Ready(reply);
                }
            }
        }
        let Running::Any(call) = self else {
            unreachable!("frames have just given way");
        };
        // It may have begun in a runtime and go on where there is none.
        let outside = Handle::try_current().is_err().then(runtime::current);
        let _entered = outside.as_ref().map(Handle::enter);
        call.as_mut().poll(cx)
    }
}

impl Way {
    fn send(&self, request: Request, idempotent: bool, deadline: Instant, allowed: Duration) -> BoxFuture<Reply> {
        match self {
            Way::Local(dispatch) => {
                let dispatch = Arc::clone(dispatch);
                // What this side found out of the call has no authority on the other.
                let request = Request { extensions: Extensions::new(), method: None, ..request };
                Box::pin(async move { dispatch.run(request).await })
            }
            Way::Remote(host) => {
                let Request { name, args: Args::Encoded(args), metadata: headers, .. } = request else {
                    let why = "the arguments were not encoded, which is a defect of byname";
                    return Box::pin(std::future::ready(Error::refused(Code::Internal, why).into()));
                };
                let name = Cow::Owned(name.as_ref().to_owned());
                let outgoing = Outgoing { name, args, idempotent, headers, deadline, allowed };
                Box::pin(Arc::clone(host).call(outgoing, None))
            }
        }
    }
}

/// Sockets and timers need tokio: outside of it the call runs on the shared background thread.
fn on_a_runtime(future: BoxFuture<Reply>) -> BoxFuture<Reply> {
    if Handle::try_current().is_ok() {
        return future;
    }
    let task = AbortOnDrop(runtime::current().spawn(future));
    Box::pin(async move {
        let mut task = task;
        match (&mut task.0).await {
            Ok(done) => done,
            Err(why) => Error::new(Code::Internal, format!("the background thread lost the call: {why}"))
                .executed_is(Executed::Unknown)
                .into(),
        }
    })
}

struct AbortOnDrop(tokio::task::JoinHandle<Reply>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
