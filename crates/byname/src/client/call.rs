//! A call as a future: lazy, owned, with options.

use std::any::Any;
use std::borrow::Cow;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context as Task, Poll, ready};
use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use serde_core::Serialize;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tracing::{Instrument as _, Span};

use super::Client;
use super::affinity::{Affinity, ReplicaWish};
use super::explanation::Explanation;
use super::frame_attempt::{FrameAttempt, ended_reply};
use super::frame_connection::{CallHead, CallPayload, FrameCallEnd, FrameConnection};
use super::outgoing_call::{CallDeadline, CallUpload, OutgoingCall};
use super::replica_choice::ReplicaId;
use super::route::Route;
use super::stub_comparison::ComparedCall;
use super::tried_replicas::TriedReplicas;
use super::typed_result::Remote;
use crate::arguments::{Argument, EncodedArguments, ToArguments, encode_dynamic};
use crate::call_telemetry::{RecordedCall, counting_attempts, put_trace, record_attempts};
use crate::client_counters::ClientCallRecord;
use crate::codec::Codec;
use crate::context::Context;
use crate::deadline::later;
use crate::error::{Code, Error, Executed};
use crate::handler::TypeIds;
use crate::idempotency_key::{IDEMPOTENCY_KEY, has_key, key_header, random_key};
use crate::metadata;
use crate::method::{Method, Param};
use crate::name;
use crate::outcome::items::CallStream;
use crate::outcome::{Failure, Returned};
use crate::priority::Priority;
use crate::request::{CallArguments, MethodRef, Reply, Request};
use crate::runtime::{self, BoxFuture};
use crate::simulated_world::{is_simulated, note};
use crate::stream_argument::Streaming;

/// A call that is sent when it is first polled: `add::on(&client, 1, 2).await`.
///
/// It owns what it needs, so it is `Send`, and `'static` where its arguments are: it can be spawned and joined. Dropping
/// it is giving up: a call that has not started is not run; one that has started runs to its end, unless it is
/// `readonly`.
#[must_use = "a call is sent when it is awaited"]
pub struct Call<A, R> {
    name: Cow<'static, str>,
    /// What is needed to send it, and to send it again. `None` once another future has taken it over.
    prepared: Option<PreparedCall<A>>,
    progress: CallState,
    /// Its span, once it has begun, if a subscriber wants it.
    recorded: RecordedCall,
    /// Counts it, once it has begun and if it goes to another process.
    counted: ClientCallRecord,
    /// Makes the caller's result of a reply. It is a pointer, so that a call is a future for every `R`.
    read: fn(&str, Result<Returned, Failure>) -> R,
    /// The error in such a result, if this side could not read the reply.
    unreadable: fn(&R) -> Option<&Error>,
    /// Explains an error of decoding, once.
    compared: Option<ComparedCall>,
}

struct PreparedCall<A> {
    client: Client,
    method: Option<&'static Method>,
    args: A,
    encode: ArgumentsEncoder<A>,
    /// For a caller in the same process: hands the arguments over without encoding, and says their types.
    as_they_are: Option<LocalArguments<A>>,
    /// Most calls have none, and a call is moved several times before it is polled.
    options: Option<Box<CallOptions>>,
}

/// What was set for one call.
#[derive(Default)]
struct CallOptions {
    timeout: Option<Duration>,
    headers: HeaderMap,
    refused: Option<Error>,
    /// The caller's stream.
    upload: Option<CallStream>,
    takes_stream: bool,
    /// The token in the headers is that of the client's [`RenewedToken`](super::renewed_token::RenewedToken).
    has_renewed_token: bool,
    affinity: Option<Affinity>,
    priority: Option<Priority>,
}

/// The headers of a call that has none.
static NO_HEADERS: LazyLock<HeaderMap> = LazyLock::new(HeaderMap::new);

enum CallState {
    Unsent,
    /// By frames, at its first attempt.
    Frames(FrameAttempt, CallDeadline),
    Any(BoxFuture<Reply>),
    Over,
}

type LocalArguments<A> = (fn(A) -> Box<dyn Any + Send>, TypeIds);

type AppendArguments<A> = fn(&A, &[Param], Codec, &mut Vec<u8>) -> Result<(), Error>;

/// How arguments are encoded.
enum ArgumentsEncoder<A> {
    /// Each by its name; they can be appended to anything.
    Typed(AppendArguments<A>),
    /// They are encoded already, and are put into that codec.
    Encoded(fn(&A, Codec) -> Result<EncodedArguments, Error>),
}

/// The arguments of a call by name, in its type: `Call<ByName, Result<T, CallError<Value>>>` is what [`Client::call`]
/// returns whatever they are, for they are encoded at once. The call borrows nothing.
#[derive(Debug)]
pub struct ByName(EncodedArguments);

/// A typed stub's call whose arguments are all owned.
pub(crate) fn call<A: ToArguments + 'static, R: Remote>(
    client: &Client,
    method: &'static Method,
    mut args: A,
) -> Call<A, R> {
    let upload = args.take_stream();
    let as_they_are: fn(A) -> Box<dyn Any + Send> = |args| Box::new(args);
    let as_they_are = Some((as_they_are, R::types::<A>()));
    let name = Cow::Borrowed(&*method.name);
    Call::new(client, name, Some(method), args, ArgumentsEncoder::Typed(A::to_keyword), as_they_are, upload)
}

/// A typed stub's call with borrowed arguments: it is encoded even within the process.
pub(crate) fn call_borrowed<A: ToArguments, R: Remote>(
    client: &Client,
    method: &'static Method,
    mut args: A,
) -> Call<A, R> {
    let (upload, name) = (args.take_stream(), Cow::Borrowed(&*method.name));
    Call::new(client, name, Some(method), args, ArgumentsEncoder::Typed(A::to_keyword), None, upload)
}

pub(super) fn by_name<R: Remote>(client: &Client, name: &str, args: &(impl Serialize + 'static)) -> Call<ByName, R> {
    let named = name::check(name).map_err(|why| Error::refused(Code::InvalidArgument, why));
    checked(client, name, named, args)
}

/// Calls for a document that a server has under a reserved name.
pub(super) fn document<R: Remote>(client: &Client, name: &'static str) -> Call<ByName, R> {
    checked(client, name, Ok(()), &())
}

fn checked<R: Remote>(
    client: &Client,
    name: &str,
    named: Result<(), Error>,
    args: &(impl Serialize + 'static),
) -> Call<ByName, R> {
    let encoded = named.and_then(|()| encode_dynamic(name, args));
    let refused = encoded.as_ref().err().cloned();
    let args = ByName(encoded.unwrap_or_else(|_| EncodedArguments::none(Codec::Json)));
    let encode = ArgumentsEncoder::Encoded(|args: &ByName, codec| args.0.clone().into_codec(codec));
    let mut call = Call::new(client, Cow::Owned(name.to_owned()), None, args, encode, None, None);
    if let Some(error) = refused {
        call.option(|options| options.refused = options.refused.take().or(Some(error)));
    }
    call
}

impl<A, R> Call<A, R> {
    fn new(
        client: &Client,
        name: Cow<'static, str>,
        method: Option<&'static Method>,
        args: A,
        encode: ArgumentsEncoder<A>,
        as_they_are: Option<LocalArguments<A>>,
        upload: Option<CallStream>,
    ) -> Self
    where
        R: Remote,
    {
        let refused = client.scope.refusal();
        let is_plain = refused.is_none() && upload.is_none();
        let options = (!is_plain).then(|| Box::new(CallOptions { refused, upload, ..CallOptions::default() }));
        let prepared = PreparedCall { client: client.clone(), method, args, encode, as_they_are, options };
        Self {
            name,
            prepared: Some(prepared),
            progress: CallState::Unsent,
            recorded: RecordedCall::none(),
            counted: ClientCallRecord::none(),
            read: R::read,
            unreadable: R::unreadable,
            compared: None,
        }
    }

    /// What would be done with this call now, and why: as [`Client::explain`], with what `#[rpc(…)]` says. Nothing is sent.
    ///
    /// ```
    /// # use byname::{Client, rpc};
    /// # #[rpc(readonly)] async fn get(id: u64) -> u64 { id }
    /// # async fn example(shop: Client) {
    /// println!("{}", get::on(&shop, 7).explain().await);
    /// # }
    /// ```
    pub fn explain(&self) -> impl Future<Output = Explanation> + Send + 'static {
        let prepared = self.prepared.as_ref().map(|prepared| {
            (prepared.client.clone(), prepared.method, prepared.timeout(), prepared.refused().cloned())
        });
        let name = self.name.clone();
        async move {
            match prepared {
                Some((client, method, timeout, refused)) => {
                    let explained = client.explained(&name, method, timeout).await;
                    // It may be an option of the call itself.
                    Explanation { refused: refused.or(explained.refused), ..explained }
                }
                None => panic!("a call is explained before it is polled, or by `Client::explain`"),
            }
        }
    }

    /// How long this call may take, from its first poll, in place of the client's and the function's own. A caller that
    /// is serving a call itself has at most what is left of that one's time, less [a margin](Context::deadline).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.option(|options| options.timeout = Some(timeout));
        self
    }

    /// A header on this call, which the function reads by [`Context::header`]. The call fails, and is not sent, for
    ///
    /// - a header that is HTTP's own (`host`, `content-type`, `accept`, `connection`, …) or the protocol's (`byname-…`);
    /// - a value that is not visible ASCII, with spaces and tabs only between: other text goes in percent-encoding or
    ///   base64;
    /// - more than 64 headers, or more than 32 KiB of them, together with those of the client.
    ///
    /// So a call is refused or not whichever way it goes.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.option(|options| {
            if let Err(error) = metadata::set(&mut options.headers, name, value) {
                options.refused = Some(error);
            }
        });
        self
    }

    /// Calls with the same key go to the same replica, from all clients of the service: the one that comes first by a hash of
    /// the key and of its address. While that replica is gone or left out because it fails, the calls go to the next one, and
    /// those with other keys stay where they are. Use it for what a replica keeps in its memory, as a cache. It is no
    /// guarantee: write nothing that depends on it.
    ///
    /// With more than twenty replicas, each client uses [a part of them](crate::Transport::Frames), so the same key may go to as many
    /// replicas as there are such parts.
    ///
    /// ```
    /// # use byname::{Client, rpc};
    /// # #[rpc(readonly)] async fn basket(customer: u64) -> u64 { customer }
    /// # async fn example(shop: Client) -> Result<(), byname::Error> {
    /// let basket = basket::on(&shop, 42).affinity("customer-42").await?;
    /// # Ok(()) }
    /// ```
    pub fn affinity(mut self, key: impl AsRef<[u8]>) -> Self {
        self.option(|options| options.affinity = Some(Affinity::new(key.as_ref())));
        self
    }

    /// How important this call is when a server can't serve all. It has precedence over [`Policy::priority`](super::Policy::priority),
    /// which has precedence over `#[rpc(priority = "…")]`.
    ///
    /// ```
    /// # use byname::{Client, Priority, rpc};
    /// # #[rpc] async fn rebuild_index() {}
    /// # async fn example(search: Client) -> Result<(), byname::Error> {
    /// rebuild_index::on(&search).priority(Priority::Batch).await?;
    /// # Ok(()) }
    /// ```
    pub fn priority(mut self, priority: Priority) -> Self {
        self.option(|options| options.priority = Some(priority));
        self
    }

    /// The call runs once, also if it is sent again with the same key and the same arguments: by the client after a failure, or by a
    /// later call. Without this a client makes a key for each call of a function that is declared `#[rpc(keyed)]`.
    ///
    /// - The server keeps the reply for [`Limits::key_window`](crate::Limits::key_window), and in
    ///   [a store](crate::Server::key_store) for as long as that does. A duplicate gets it, or waits for it while the first
    ///   call runs. An error of the function is a reply too.
    /// - Other arguments with the same key are an error, `invalid_argument`.
    /// - A key belongs to a function and a caller: its proven identity, or else its `authorization`.
    /// - The client sends the call again after `unavailable` although it may have run, as it does for an `idempotent`
    ///   function, but only to the same server, because others do not know the key. If the server has restarted, the error is
    ///   `failed_precondition` with `executed: unknown`. If the server has a shared [`KeyStore`](crate::KeyStore), the call goes to
    ///   any server.
    ///
    /// A key is 1 to 255 visible ASCII characters without spaces, such as a UUID. The call fails, and is not sent, for another.
    /// Calls that stream can't have a key.
    ///
    /// ```
    /// # use byname::{Client, rpc};
    /// #[rpc(keyed)]
    /// async fn pay(order: u64, cents: u64) -> u64 { order + cents }
    ///
    /// # async fn example(bank: Client) -> Result<(), byname::Error> {
    /// let receipt = pay::on(&bank, 42, 1999).idempotency_key("order-42").await?;
    /// # Ok(()) }
    /// ```
    pub fn idempotency_key(mut self, key: &str) -> Self {
        self.option(|options| match key_header(key) {
            Ok(key) => drop(options.headers.insert(IDEMPOTENCY_KEY, key)),
            Err(error) => options.refused = Some(error),
        });
        self
    }

    /// Its answer is a stream.
    pub(super) fn take_a_stream(&mut self) {
        self.option(|options| options.takes_stream = true);
    }

    /// Sets an option. A call that was polled keeps what it has.
    fn option(&mut self, set: impl FnOnce(&mut CallOptions)) {
        if let Some(prepared) = &mut self.prepared {
            set(prepared.options.get_or_insert_default());
        }
    }

    /// Whether its function is in this process.
    pub(super) fn is_local(&self) -> bool {
        self.prepared.as_ref().is_some_and(|prepared| matches!(prepared.client.scope.way, Route::Local(_)))
    }

    /// What can explain an error of decoding, once the call has ended.
    pub(super) fn take_comparison(&mut self) -> Option<ComparedCall> {
        self.compared.take()
    }

    pub(super) fn name(&self) -> &str {
        &self.name
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
            Err(call) => R::read(&call.name, Err(inside_async(&call.name).into())),
        }
    }

    /// The same call, whose success comes with the headers of the reply: `let (sum, metadata) = ….await?`.
    pub fn with_metadata(self) -> WithMetadata<A, R> {
        WithMetadata(self)
    }
}

impl<R> Call<ByName, R> {
    /// The stream that the function takes, in a call by name: `client.call::<i64>("sum", ()).streaming(numbers)`. A stub
    /// takes it as the function does, as its last argument.
    pub fn streaming<T: Argument>(mut self, stream: Streaming<T>) -> Self {
        self.option(|options| options.upload = Some(stream.upload()));
        self
    }
}

impl<A: Send, R> Call<A, R> {
    fn poll_done(&mut self, cx: &mut Task<'_>) -> Poll<(R, HeaderMap)> {
        let done = ready!(self.poll_reply(cx));
        let refused = ComparedCall::explicable(&done.result);
        let result = (self.read)(&self.name, done.result);
        if let Some(compared) = self.take_comparison()
            && let Some(error) = refused.or_else(|| (self.unreadable)(&result).cloned())
        {
            let metadata = done.metadata;
            let explained = async move { Reply { result: Err(compared.explained(error).await.into()), metadata } };
            self.progress = CallState::Any(on_a_runtime(Box::pin(explained)));
            return self.poll_done(cx);
        }
        Poll::Ready((result, done.metadata))
    }

    /// What it came to, types erased.
    pub(super) fn poll_reply(&mut self, cx: &mut Task<'_>) -> Poll<Reply> {
        let _here = self.prepared.as_ref().map(|prepared| prepared.client.scope.home.enter());
        if matches!(self.progress, CallState::Unsent) {
            note(format_args!("calls `{}`", self.name));
        }
        let mut read_at = None;
        let mut done = loop {
            match &mut self.progress {
                CallState::Unsent => match self.start(cx) {
                    Ok(()) if matches!(self.progress, CallState::Frames(..)) => return Poll::Pending,
                    Ok(()) => {}
                    Err(error) => break Reply::from(error),
                },
                CallState::Frames(attempt, time) => {
                    let entered = self.recorded.span().map(Span::enter);
                    let method = self.prepared.as_ref().and_then(|prepared| prepared.method);
                    let head = CallHead { name: &self.name, method, deadline: time.deadline, began: None };
                    let (ended, time) = (ready!(attempt.poll(head, cx)), *time);
                    let answered_at = match &ended {
                        Ok(FrameCallEnd::Answered(.., at)) => Some(*at),
                        _ => None,
                    };
                    let tried = attempt.replica();
                    let Some(Route::Remote(service)) =
                        self.prepared.as_ref().map(|prepared| &prepared.client.scope.way)
                    else {
                        unreachable!("it was sent by frames");
                    };
                    let reply = ended_reply(service.frames(), attempt.link(), &self.name, time.allowed, ended);
                    attempt.ended(reply.as_ref());
                    match reply {
                        // `Service::call` decides whether it is sent again.
                        reply @ (Some(Reply { result: Err(Failure::Rpc(_)), .. }) | None) => {
                            let (codec, server) = (attempt.link().codec(), Arc::clone(attempt.link()));
                            drop(entered);
                            match self.by_service(time, codec, reply, tried, Some(&server)) {
                                Ok(call) => self.progress = self.going_on(call),
                                Err(error) => break Reply::from(error),
                            }
                        }
                        Some(reply) => {
                            service.deposit();
                            read_at = answered_at;
                            if entered.is_some() {
                                record_attempts(1);
                            }
                            break reply;
                        }
                    }
                }
                CallState::Any(call) => {
                    // It may have begun in a runtime and be polled outside of one.
                    let outside = Handle::try_current().is_err().then(runtime::current);
                    let _entered = outside.as_ref().map(Handle::enter);
                    let (polled, sent) = counting_attempts(|| call.as_mut().poll(cx));
                    let reply = ready!(polled);
                    self.counted.sent(sent);
                    break reply;
                }
                CallState::Over => panic!("a call was polled after it had ended"),
            }
        };
        if is_simulated() {
            match &done.result {
                Ok(_) => note(format_args!("has the answer of `{}`", self.name)),
                Err(Failure::Rpc(error) | Failure::Method { error, .. }) => {
                    let (code, executed) = (error.code().as_str(), error.executed().as_str());
                    note(format_args!("has the error {code} of `{}`, executed: {executed}", self.name));
                }
            }
        }
        if let (CallState::Frames(_, time), Some(prepared)) = (&self.progress, &self.prepared) {
            self.compared = ComparedCall::new(&prepared.client, prepared.method, time.deadline);
        }
        (self.progress, self.prepared) = (CallState::Over, None);
        self.counted.end(&mut done.result, read_at);
        if self.recorded.is_some() {
            done.result = std::mem::replace(&mut self.recorded, RecordedCall::none()).end(done.result);
        }
        Poll::Ready(done)
    }

    /// Sends it by frames, or begins to send it another way.
    fn start(&mut self, cx: &mut Task<'_>) -> Result<(), Error> {
        let Some(prepared) = &mut self.prepared else {
            unreachable!("nothing was taken of a call that was not begun");
        };
        let PreparedCall { client, method, args, encode, options, .. } = prepared;
        let streams = options.as_ref().is_some_and(|options| options.takes_stream || options.upload.is_some());
        let scope = &client.scope;
        if let Some(error) = options.as_mut().and_then(|options| options.refused.take()) {
            return Err(error);
        }
        // A document is one of the whole service.
        if !scope.prefix.is_empty() && !self.name.starts_with('!') {
            self.name = Cow::Owned(format!("{}{}", scope.prefix, self.name));
        }
        let name = &self.name;

        // A disabled span would still be entered and left at each poll.
        self.recorded = RecordedCall::made(name, || scope.way.server());
        let serving = Context::current();
        let now = Instant::now();
        let policy = scope.policy(name, *method);
        let timeout = options.as_ref().and_then(|options| options.timeout);
        let own = timeout.unwrap_or(policy.timeout);
        let (deadline, allowed) = match &serving {
            None => (later(now, own), own),
            Some(serving) => {
                let deadline = later(now, own).min(serving.calls_until(now));
                (deadline, deadline.saturating_duration_since(now))
            }
        };
        if allowed.is_zero() {
            return Err(no_time(name));
        }
        let time = CallDeadline { deadline, allowed };
        let mut trace = None;
        if serving.is_some() || self.recorded.is_some() || !scope.headers.is_empty() {
            let headers = &mut options.get_or_insert_default().headers;
            let own = std::mem::replace(headers, scope.headers.clone());
            trace = put_trace(&mut self.recorded, name, serving.as_ref(), &own, headers);
            if let Some(serving) = &serving {
                serving.pass_attempt_on(headers);
                if scope.passes_baggage_on && !own.contains_key("baggage") {
                    serving.pass_baggage_on(headers);
                }
            }
            headers.extend(own);
        }
        let inherited = || serving.as_ref().and_then(Context::inherited_priority);
        let own_priority = options.as_ref().and_then(|options| options.priority);
        if let Some(priority) = own_priority.or(policy.priority).or_else(inherited) {
            priority.put(&mut options.get_or_insert_default().headers);
        }
        if let Route::Remote(service) = &scope.way {
            // Looking at a service must not change what is seen.
            if !name.starts_with('!') {
                self.counted.begin(service.counted(name, *method), now);
                if let Some(trace) = trace {
                    self.counted.belongs_to(trace);
                }
            }
            let headers = options.as_ref().map_or(&*NO_HEADERS, |options| &options.headers);
            service.admit(name, headers, *method, now)?;
        }
        let has_token = |options: &Option<Box<CallOptions>>| {
            options.as_ref().is_some_and(|options| options.headers.contains_key(AUTHORIZATION))
        };
        if let Some(token) = scope.token.as_ref().filter(|_| scope.interceptors.is_empty())
            && !has_token(options)
            && let Some(held) = token.held()
        {
            let options = options.get_or_insert_default();
            options.headers.insert(AUTHORIZATION, held);
            options.has_renewed_token = true;
        }
        if method.is_some_and(|method| method.keyed) {
            let headers = &mut options.get_or_insert_default().headers;
            headers.entry(IDEMPOTENCY_KEY).or_insert_with(random_key);
        }
        let lacks_token = scope.token.is_some() && !has_token(options);
        let headers = options.as_ref().map_or(&*NO_HEADERS, |options| &options.headers);
        metadata::check_size(headers)?;

        // `Service::call` makes the attempts beside each other.
        let is_hedged = policy.hedge && method.is_some_and(|method| method.readonly);
        if !streams
            && !lacks_token
            && !is_hedged
            && options.as_ref().is_none_or(|options| options.affinity.is_none())
            && scope.interceptors.is_empty()
            && let Route::Remote(service) = &scope.way
            && let Some(chosen) = service.choose(ReplicaWish::default(), now)
        {
            let codec = chosen.link.codec();
            let entered = self.recorded.span().map(Span::enter);
            let frame = match encode {
                ArgumentsEncoder::Typed(write) => {
                    let params = method.map(|method| method.params.as_slice()).unwrap_or_default();
                    CallPayload::by_name(allowed, headers, |payload| write(args, params, codec, payload))?
                }
                ArgumentsEncoder::Encoded(encode) => CallPayload::new(allowed, headers, &encode(args, codec)?),
            };
            self.counted.sends(frame.size());
            let head = CallHead { name, method: *method, deadline, began: Some(now) };
            let reply = match FrameAttempt::start(chosen, head, frame, cx) {
                Ok(attempt) => {
                    self.progress = CallState::Frames(attempt, time);
                    return Ok(());
                }
                Err((unsent, link)) => ended_reply(service.frames(), &link, name, allowed, Err(unsent)),
            };
            drop(entered);
            let call = self.by_service(time, codec, reply, None, None)?;
            self.progress = self.going_on(call);
            return Ok(());
        }
        self.progress = self.start_anyhow(time, lacks_token)?;
        Ok(())
    }

    /// Sends it by its service or by `Request`.
    fn start_anyhow(&mut self, time: CallDeadline, lacks_token: bool) -> Result<CallState, Error> {
        let Some(prepared) = &self.prepared else {
            unreachable!("nothing was taken of a call that was not begun");
        };
        let scope = Arc::clone(&prepared.client.scope);
        let codec = match &scope.way {
            Route::Local(_) => scope.codec,
            Route::Remote(service) => service.codec(),
        };
        let call = match &scope.way {
            Route::Remote(_) if scope.interceptors.is_empty() && !lacks_token => {
                self.by_service(time, codec, None, None, None)?
            }
            way => self.by_request(way, time, codec)?,
        };
        Ok(self.going_on(call))
    }

    /// The call goes on as this future, in its span.
    fn going_on(&mut self, call: BoxFuture<Reply>) -> CallState {
        let call = match self.recorded.span() {
            Some(span) => Box::pin(call.instrument(span.clone())),
            None => call,
        };
        CallState::Any(on_a_runtime(call))
    }

    /// The call as interceptors and functions in this process see it.
    fn by_request(&mut self, way: &Route, time: CallDeadline, codec: Codec) -> Result<BoxFuture<Reply>, Error> {
        let mut prepared = self.taken(time);
        let method = prepared.method;
        let mut options = prepared.options.take().unwrap_or_default();
        let (upload, largest) = (options.upload.take(), way.limits().message);
        let scope = Arc::clone(&prepared.client.scope);
        let policy = scope.policy(&self.name, method);
        let affinity = options.affinity;
        let args = match (way, prepared.as_they_are) {
            (Route::Local(dispatch), Some((as_they_are, types)))
                if !scope.encoded
                    && !has_key(&options.headers)
                    && scope.token.is_none()
                    && dispatch.takes(&self.name, types) =>
            {
                CallArguments::Local(as_they_are(prepared.args))
            }
            _ => CallArguments::Encoded(prepared.encoded(codec)?),
        };
        let mut request = Request::new((&*self.name).into(), args, options.headers);
        (request.deadline, request.takes_stream) = (Some(time.deadline), options.takes_stream);
        let is_as_it_is = matches!(&request.args, CallArguments::Local(_));
        let upload = upload.map(|upload| upload.items((!is_as_it_is).then_some(codec), largest));
        request.items = upload.map(|items| self.counted.sending(items));
        if scope.interceptors.is_empty() && scope.token.is_none() {
            return Ok(way.send(request, method, policy, affinity, time, None));
        }
        let has_renewed_token = options.has_renewed_token;
        let (token, way) = (scope.token.clone(), way.clone());
        // Behind the interceptors, because they could log the token.
        let last = move |mut request: Request| -> BoxFuture<Reply> {
            let Some(token) = token else {
                return way.send(request, method, policy, affinity, time, None);
            };
            Box::pin(async move {
                let name = Arc::clone(&request.name);
                match token.put(&name, &mut request.metadata, time.deadline).await {
                    Ok(is_added) => {
                        let token = (is_added || has_renewed_token).then_some(token);
                        way.send(request, method, policy, affinity, time, token).await
                    }
                    Err(error) => error.into(),
                }
            })
        };
        if scope.interceptors.is_empty() {
            return Ok(last(request));
        }
        request.method = method.map(MethodRef::Static);
        let (chain, last) = (scope.interceptors.clone(), Box::new(last));
        Ok(Box::pin(async move { chain.run(request, time.deadline, last).await }))
    }

    /// The call by its service. `first` is what its first attempt came to, where there was one, `tried` the replica and `server` the
    /// connection that it went to.
    fn by_service(
        &mut self,
        time: CallDeadline,
        codec: Codec,
        first: Option<Reply>,
        tried: Option<ReplicaId>,
        server: Option<&FrameConnection>,
    ) -> Result<BoxFuture<Reply>, Error> {
        let mut prepared = self.taken(time);
        let options = prepared.options.take().unwrap_or_default();
        let Route::Remote(service) = &prepared.client.scope.way else {
            unreachable!("a call within the process has no service");
        };
        let upload = options.upload.map(|upload| upload.items(Some(codec), service.limits().message));
        let outgoing = OutgoingCall {
            name: self.name.clone(),
            args: prepared.encoded(codec)?,
            method: prepared.method,
            policy: prepared.client.scope.policy(&self.name, prepared.method),
            affinity: options.affinity,
            pinned: None,
            deadline: time.deadline,
            allowed: time.allowed,
            headers: options.headers,
            upload: CallUpload::new(upload.map(|items| self.counted.sending(items))),
            takes_stream: options.takes_stream,
            token: prepared.client.scope.token.clone().filter(|_| options.has_renewed_token),
        };
        self.counted.sends(outgoing.args.positional.len() + outgoing.args.keyword.len());
        let server = server.filter(|_| outgoing.is_keyed()).map(FrameConnection::attempted_server);
        Ok(Arc::clone(service).call(outgoing, first, TriedReplicas::new(tried, server)))
    }

    fn taken(&mut self, time: CallDeadline) -> PreparedCall<A> {
        let Some(prepared) = self.prepared.take() else {
            unreachable!("it is kept until the call goes its way for good");
        };
        self.compared = ComparedCall::new(&prepared.client, prepared.method, time.deadline);
        prepared
    }
}

impl<A> PreparedCall<A> {
    fn timeout(&self) -> Option<Duration> {
        self.options.as_ref()?.timeout
    }

    /// Why it is not sent.
    fn refused(&self) -> Option<&Error> {
        self.options.as_ref()?.refused.as_ref()
    }

    fn encoded(&self, codec: Codec) -> Result<EncodedArguments, Error> {
        let write = match self.encode {
            ArgumentsEncoder::Typed(write) => write,
            ArgumentsEncoder::Encoded(encode) => return encode(&self.args, codec),
        };
        let params = self.method.map(|method| method.params.as_slice()).unwrap_or_default();
        let mut keyword = Vec::with_capacity(128);
        write(&self.args, params, codec, &mut keyword)?;
        Ok(EncodedArguments::by_name(codec, keyword.into()))
    }
}

/// Arguments are never pinned.
impl<A, R> Unpin for Call<A, R> {}

impl<A: Send, R> Future for Call<A, R> {
    type Output = R;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<R> {
        self.poll_done(cx).map(|(result, _)| result)
    }
}

impl<A, R> std::fmt::Debug for Call<A, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Call").field(&self.name).finish()
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
                let refused = R::read(&call.name, Err(inside_async(&call.name).into()));
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

/// There is no time for a call.
pub(super) fn no_time(name: &str) -> Error {
    let why = format!("no time was left to call `{name}`; allow more time with `.timeout(…)`");
    Error::refused(Code::DeadlineExceeded, why)
}

fn inside_async(name: &str) -> Error {
    let why = format!(
        "`{name}` was called with `.wait()` inside async code, whose thread must not block; use `.await`, or `.wait()` \
         inside `tokio::task::spawn_blocking` or an `#[rpc(blocking)]` function"
    );
    Error::refused(Code::FailedPrecondition, why)
}

/// Sockets and timers need tokio: outside of it the call runs on the shared background thread.
pub(super) fn on_a_runtime(future: BoxFuture<Reply>) -> BoxFuture<Reply> {
    if Handle::try_current().is_ok() {
        return future;
    }
    let task = AbortOnDrop(runtime::spawn_awaited(&runtime::current(), future));
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

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::task::Waker;

    use tokio::task::yield_now;
    use tracing::Dispatch;
    use tracing_subscriber::registry;

    use super::*;
    use crate::client::Transport;
    use crate::server::Server;

    /// A subscriber must not send calls another way than those that are measured without one.
    #[tokio::test]
    async fn a_call_with_a_subscriber_is_sent_by_frames_at_its_first_poll() {
        // With fewer than two tracing may remember for all threads that this one wants no spans.
        let _others: [Dispatch; 2] = [registry().into(), registry().into()];
        let server = Server::new().function("add", |a: i64, b: i64| async move { a + b });
        let bound = server.serve("127.0.0.1:0").until(pending()).bind().await.unwrap();
        let address = bound.local_addr().to_string();
        tokio::spawn(bound.into_future());
        let client = Client::builder(&address).transport(Transport::Frames).build().unwrap();
        let Route::Remote(service) = &client.scope.way else { panic!("it has a service") };
        while service.choose(ReplicaWish::default(), Instant::now()).is_none() {
            assert_eq!(client.call::<i64>("add", (1, 2)).await.unwrap(), 3);
            yield_now().await;
        }
        let watched = Dispatch::from(registry());
        let mut call = client.call::<i64>("add", (1, 2));
        let polled = tracing::dispatcher::with_default(&watched, || {
            Pin::new(&mut call).poll(&mut Task::from_waker(Waker::noop()))
        });
        assert!(polled.is_pending() && call.recorded.is_some());
        assert!(matches!(call.progress, CallState::Frames(..)));
        assert_eq!(call.await.unwrap(), 3);
    }
}
