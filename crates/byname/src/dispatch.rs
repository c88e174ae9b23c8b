//! The way of a call through the server, without sockets: find, admit, decode, run, catch.

pub(crate) mod inline;
mod keyed_call;
mod streaming_function;

use std::collections::HashSet;
use std::future::{poll_fn, ready};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderName};
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tracing::{Instrument as _, Span};

use self::keyed_call::{KeyedCall, KeyedCalls};
use self::streaming_function::FunctionItems;
use crate::access_log::LoggedName;
use crate::access_rules::{self, AccessRules};
use crate::admission::{Admission, CallerTrust, ClosedFunctions};
use crate::arguments::{ArgumentSource, CallInput};
use crate::call_record::CallRecord;
use crate::call_semaphore::{HeldPermit, Permit};
use crate::call_telemetry::{CallTelemetry, RecordedCall};
use crate::catch_panic::{Panicked, caught};
use crate::clock_and_chance::{RealInstant, real_now};
use crate::codec::{self, Codec, EncodedParts, encoded_parts};
use crate::console_access::{self, ConsoleToken, PageAsked};
use crate::context::Context;
use crate::deadline::{DeadlineTimer, later};
use crate::error::{Code, Error, Executed};
use crate::explained_clients;
use crate::function_limits::FunctionPermits;
use crate::handler::{FunctionResult, Invocation, ResultTarget, TypeIds, YieldedItems};
use crate::idempotency_key::has_key;
use crate::interceptor::InterceptorChain;
use crate::key_store::KeyStore;
use crate::limits_and_timeouts::{Limit, Limits, in_bytes};
use crate::metadata;
use crate::method::Method;
use crate::networks::NetworkList;
use crate::outcome::items::{self, Items, NextItems};
use crate::outcome::{Failure, Returned, ReturnedValue};
use crate::peer::Peer;
use crate::priority::Priority;
use crate::recent_calls::RecentCall;
use crate::registry::{NotServed, Registry, RegistryEntry};
use crate::request::{CallArguments, MethodRef, Reply, Request};
use crate::runtime::{self, BoxFuture};
use crate::service_schema::ServiceDocument;
use crate::simulated_world::note;
use crate::stats::{CountedDocument, FunctionStats, ServerStats, ShownCalls, open_metrics, stats_json};
use crate::telemetry_names::OTHER;
use crate::trace_context::{self, ServedSpan};
use crate::untrusted_text::{excerpt, quoted};
use crate::wire::headers::KeySharing;
use crate::wire::instance_and_load::InstanceId;

/// The maximum of [`Limits::nesting`], because functions and their types recurse over their arguments.
const DEEPEST: usize = 128;

/// The most functions and blocks that one line of the log names as not served, or as closed to everybody.
const NAMED: usize = 8;

/// The most functions that the line about the start of a server names.
const NAMED_SERVED: usize = 20;

/// The most bytes of a name in the access log that no function has.
const LOGGED_NAME: usize = 128;

/// The most methods of a block that such a line names.
const NAMED_METHODS: usize = 3;

/// Which callers may learn the names of functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listing {
    Never,
    /// Callers without a proxy. Only this machine can reach the server.
    OnThisMachine,
    Always,
}

/// The times of [`Limits`] that can be changed while the server runs.
#[derive(Clone, Copy)]
struct ChangedTimes {
    queue_delay: Duration,
    drain: Duration,
    drain_delay: Duration,
}

/// Runs calls, over every way in.
pub(crate) struct Dispatch {
    registry: Registry,
    limits: Limits,
    listing: Listing,
    /// Whether callers may see what was counted. `None` for those that may learn names.
    shows_metrics: Option<bool>,
    interceptors: InterceptorChain,
    /// Headers that `Debug` does not show, besides those of HTTP.
    sensitive: Vec<HeaderName>,
    /// Who may call what. They are asked after the interceptors.
    rules: AccessRules,
    /// Whether callers may identify themselves by a certificate.
    takes_certificates: bool,
    admission: Arc<Admission>,
    closed: ClosedFunctions,
    keyed: KeyedCalls,
    times: Mutex<ChangedTimes>,
    telemetry: CallTelemetry,
    /// Whether the page at the endpoint is shown. `None` where callers may learn names.
    shows_console: Option<bool>,
    console_token: ConsoleToken,
    /// Cancelled when the server no longer waits for streams.
    parting: CancellationToken,
    /// The longest time of any function, for callers that set no time-out.
    patience: Duration,
}

impl Dispatch {
    pub(crate) fn new(registry: Registry, limits: Limits, listing: Listing, interceptors: InterceptorChain) -> Self {
        let admission = Admission::new(&limits, Arc::clone(registry.long_polls()));
        let longest = registry.methods().filter_map(|method| method.timeout).max().unwrap_or_default();
        let patience = longest.max(limits.call);
        let (sensitive, rules) = (Vec::new(), AccessRules::default());
        let keyed = KeyedCalls::new(&limits);
        let telemetry = CallTelemetry::new(registry.methods().map(|method| method.name.clone()));
        let times = Mutex::new(ChangedTimes {
            queue_delay: limits.queue_delay,
            drain: limits.drain,
            drain_delay: limits.drain_delay,
        });
        Self {
            registry,
            limits,
            listing,
            shows_metrics: None,
            interceptors,
            sensitive,
            rules,
            takes_certificates: false,
            admission,
            closed: ClosedFunctions::default(),
            keyed,
            times,
            telemetry,
            shows_console: None,
            console_token: ConsoleToken::new(),
            parting: CancellationToken::new(),
            patience,
        }
    }

    /// Sets whether callers may see what was counted: those that may learn names until this says otherwise.
    pub(crate) fn show_metrics(&mut self, on: bool) {
        self.shows_metrics = Some(on);
    }

    /// Sets which headers `Debug` does not show, besides those of HTTP.
    pub(crate) fn hide_headers(&mut self, names: Vec<HeaderName>) {
        self.sensitive = names;
    }

    /// Sets who may call what: everybody everything until this says otherwise.
    ///
    /// # Errors
    ///
    /// A rule that is no rule, or that decides about no function.
    pub(crate) fn keep_rules(&mut self, rules: AccessRules) -> Result<(), Error> {
        rules.check(self.methods())?;
        self.rules = rules;
        Ok(())
    }

    /// Sets whether callers may identify themselves by a certificate: they can't until this says otherwise.
    pub(crate) fn take_certificates(&mut self, on: bool) {
        self.takes_certificates = on;
    }

    /// Sets the networks whose callers may raise the priority of their calls without a proven identity: none until this
    /// says otherwise.
    pub(crate) fn trust_priority(&mut self, networks: NetworkList) {
        Arc::get_mut(&mut self.admission).expect("the server has not begun, so it is not shared").trust(networks);
    }

    /// Keeps the replies of calls with a key in this store: in the memory of the server until this says otherwise.
    pub(crate) fn keep_replies(&mut self, store: Arc<dyn KeyStore>) {
        self.keyed.keep_in(store);
    }

    /// Whether there is an access log: off until this says otherwise.
    pub(crate) fn log_access(&mut self, on: bool) {
        self.telemetry.log_access(on);
    }

    /// Sets whether the page at the endpoint is shown: where callers may learn names, until this says otherwise.
    pub(crate) fn show_console(&mut self, shown: Option<bool>) {
        self.shows_console = shown;
    }

    /// What the page at the endpoint sends with its calls. Each way in checks it.
    pub(crate) fn console_token(&self) -> &ConsoleToken {
        &self.console_token
    }

    /// Which server this is.
    pub(crate) fn instance(&self) -> InstanceId {
        self.keyed.instance()
    }

    /// Which servers know the replies of the calls with a key that this one has run.
    pub(crate) fn key_sharing(&self) -> KeySharing {
        if self.keyed.has_shared_store() { KeySharing::Shared } else { KeySharing::Own }
    }

    /// How many calls may run, and whether new ones are wanted.
    pub(crate) fn admission(&self) -> &Arc<Admission> {
        &self.admission
    }

    /// What is recorded of each call.
    pub(crate) fn telemetry(&self) -> &CallTelemetry {
        &self.telemetry
    }

    pub(crate) fn methods(&self) -> impl ExactSizeIterator<Item = &Method> + Clone {
        self.registry.methods().map(|method| &**method)
    }

    /// The names of the functions, as one line of the log has them.
    pub(crate) fn names_for_log(&self) -> String {
        let named: Vec<_> = self.methods().take(NAMED_SERVED).map(|method| &*method.name).collect();
        format!("{}{}", named.join(", "), and_more(self.methods().len().saturating_sub(NAMED_SERVED)))
    }

    /// Logs the functions that are linked into this program but not served. Those that were probably forgotten are seen at INFO.
    pub(crate) fn log_not_served(&self) {
        let (forgotten, others) = self.registry.forgotten_and_others();
        if let Some(line) = not_served(&forgotten) {
            tracing::info!("{line}");
        }
        if let Some(line) = not_served(&others) {
            tracing::debug!("{line}");
        }
    }

    /// Warns about functions that nobody can call, because there are rules and none matches them.
    pub(crate) fn log_closed(&self) {
        let closed = if self.has_rules() { self.rules.closed(self.methods()) } else { Vec::new() };
        if closed.is_empty() {
            return;
        }
        let named: Vec<_> = closed.iter().take(NAMED).map(|name| format!("`{name}`")).collect();
        let (named, more) = (named.join(", "), and_more(closed.len().saturating_sub(NAMED)));
        let them = if closed.len() == 1 { "it" } else { "them" };
        tracing::warn!("no rule matches {named}{more}: nobody can call {them}; add a rule by `Server::allow`");
    }

    /// The limits of the start. [`limits_now`](Self::limits_now) has those that can be changed.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The limits that hold now.
    pub(crate) fn limits_now(&self) -> Limits {
        let ChangedTimes { queue_delay, drain, drain_delay } = *self.times();
        let in_flight = self.admission.most_in_flight();
        Limits { in_flight, queue_delay, drain, drain_delay, ..self.limits.clone() }
    }

    /// Changes the limits that can be changed. What is as it was before is left alone, because another change may be made at
    /// the same time.
    pub(crate) fn change_limits(&self, before: &Limits, limits: &Limits) {
        if limits.in_flight != before.in_flight {
            self.admission.set_in_flight(limits.in_flight);
        }
        let mut times = self.times();
        if limits.queue_delay != before.queue_delay {
            times.queue_delay = limits.queue_delay;
            self.admission.set_queue_delay(limits.queue_delay);
        }
        if limits.drain != before.drain {
            times.drain = limits.drain;
        }
        if limits.drain_delay != before.drain_delay {
            times.drain_delay = limits.drain_delay;
        }
    }

    fn times(&self) -> MutexGuard<'_, ChangedTimes> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The functions that are closed.
    pub(crate) fn closed(&self) -> &ClosedFunctions {
        &self.closed
    }

    /// How long the arrival of a whole call may take if its caller set no time-out and its name is not known yet: the
    /// longest time of all functions.
    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    /// The same for a call whose name was looked up; the time of its own function counts. With rules it is the same for
    /// all names, so that it does not tell which ones exist.
    pub(crate) fn patience_with(&self, entry: Option<&Arc<RegistryEntry>>) -> Duration {
        if self.has_rules() {
            return self.patience;
        }
        let own = entry.and_then(|entry| entry.handler.method.timeout);
        own.unwrap_or_default().max(self.limits.call)
    }

    /// Whether `name` accepts values of these types without encoding.
    pub(crate) fn takes(&self, name: &str, types: TypeIds) -> bool {
        self.registry.get(name).is_some_and(|entry| entry.handler.takes(types))
    }

    /// Notes in the record of a call with these headers which function it names, if there is one.
    pub(crate) fn record_name(
        &self,
        record: &mut CallRecord,
        name: &str,
        entry: Option<&Arc<RegistryEntry>>,
        metadata: &HeaderMap,
    ) {
        match entry {
            Some(entry) => {
                record.of_function(entry.index);
                // Of many quick calls few are shown.
                if !entry.is_quick() || self.telemetry.counters().recent.keeps_each() {
                    record.watch_trace(trace_context::ids(metadata));
                }
            }
            // Looking must not change what is seen.
            None if name.starts_with('!') => record.do_not_count(),
            None => {}
        }
        record.named(|| self.logged_name(name, entry));
    }

    /// How the access log names a function: by the name it is registered under, or as the caller wrote it if there is none.
    pub(crate) fn logged_name(&self, name: &str, entry: Option<&Arc<RegistryEntry>>) -> LoggedName {
        match entry {
            Some(entry) => LoggedName::Registered(entry.handler.method.name.clone()),
            None => LoggedName::Unknown(excerpt(name, LOGGED_NAME)),
        }
    }

    /// The headers that `Debug` does not show, besides those of HTTP. Each way in marks them with [`metadata::hide`].
    pub(crate) fn secret_headers(&self) -> &[HeaderName] {
        &self.sensitive
    }

    /// Runs one call. Dropping the future means that the caller is gone: a function that has started runs to its end by
    /// itself, unless it is `readonly`.
    pub(crate) async fn run(self: &Arc<Self>, request: Request) -> Reply {
        let entry = self.registry.get(&request.name);
        self.run_found(entry, request).await
    }

    /// As [`run`](Self::run), for a name that was already looked up. `entry` is the result.
    pub(crate) async fn run_found(self: &Arc<Self>, entry: Option<&Arc<RegistryEntry>>, mut request: Request) -> Reply {
        let Some(entry) = entry else {
            if self.interceptors.is_empty() {
                return self.admit(None, request).await;
            }
            // Interceptors decide whether the caller may learn that there is no such function.
            return self.intercepted(None, request).await;
        };
        let recorded = RecordedCall::served(&entry.handler.method, &request.metadata, &mut request.span);
        let span = recorded.span().cloned().unwrap_or_else(Span::none);
        let reply = if !self.interceptors.is_empty() {
            self.intercepted(Some(entry), request).instrument(span).await
        } else if self.has_rules() || self.is_keyed(&entry.handler.method, &request.metadata) {
            Box::pin(self.admit(Some(entry), request)).instrument(span).await
        } else {
            match span.in_scope(|| self.begin_request(entry, request)) {
                Ok(call) if entry.handler.method.streams => Box::pin(self.stream(call)).instrument(span).await,
                // A future of ours around this one would copy it.
                Ok(call) => call.instrument(span).await,
                Err(error) => error.into(),
            }
        };
        if recorded.is_some() { Reply { result: recorded.end(reply.result), ..reply } } else { reply }
    }

    /// Runs one call through the interceptors. It has its permit from the start, because interceptors count as work in
    /// flight.
    fn intercepted(self: &Arc<Self>, entry: Option<&Arc<RegistryEntry>>, mut request: Request) -> BoxFuture<Reply> {
        let now = Instant::now();
        if request.deadline.is_some_and(|deadline| deadline <= now) {
            return Box::pin(ready(late(&request.name).into()));
        }
        if request.permit.is_none()
            && let Err(refused) = self.admit_early(entry, &mut request)
        {
            return Box::pin(ready(refused.into()));
        }
        let (permit, of_request) = request.permit.take().map(HeldPermit::shared).unzip();
        request.permit = of_request;
        let method = entry.map(|entry| &entry.handler.method);
        request.method = method.cloned().map(MethodRef::Shared);
        let own = method.and_then(|method| method.timeout);
        let (deadline, _) = self.deadline(own, request.deadline, now);
        let (this, name) = (Arc::clone(self), Arc::clone(&request.name));
        let (found, timed) = (entry.cloned(), entry.cloned());
        let last = move |request: Request| -> BoxFuture<Reply> {
            Box::pin(async move {
                // An interceptor can only pass on a request that it got, but it may be the request of another call.
                let entry =
                    if Arc::ptr_eq(&request.name, &name) { found } else { this.registry.get(&request.name).cloned() };
                this.admit(entry.as_ref(), request).await
            })
        };
        let chain = self.interceptors.clone();
        Box::pin(async move {
            let _permit = permit;
            let mut running = pin!(chain.run(request, deadline, Box::new(last)));
            poll_fn(|cx| match &timed {
                // The time of interceptors delays other calls on the connection as well.
                Some(entry) => entry.time(|| running.as_mut().poll(cx)),
                None => running.as_mut().poll(cx),
            })
            .await
        })
    }

    /// Takes the permit of a call before anything else is done for it.
    ///
    /// # Errors
    ///
    /// As [`Admission::try_admit`].
    pub(crate) fn admit_early(&self, entry: Option<&Arc<RegistryEntry>>, request: &mut Request) -> Result<(), Error> {
        let caller = CallerTrust {
            metadata: &request.metadata,
            peer: request.peer.as_deref(),
            is_forwarded: request.is_forwarded,
        };
        let own = entry.map(|entry| entry.handler.method.priority).unwrap_or_default();
        let priority = request.priority.unwrap_or_else(|| self.admission.priority(own, caller));
        let is_question = || request.name.starts_with('!') || request.extensions.get::<PageAsked>().is_some();
        request.permit = Some(match entry {
            None if is_question() => self.admission.try_admit_question(priority, caller)?,
            _ => HeldPermit::Own(self.admission.try_admit(priority, caller, real_now())?),
        });
        Ok(())
    }

    /// The deadline of a call, and who set it.
    fn deadline(&self, own: Option<Duration>, callers: Option<Instant>, now: Instant) -> (Instant, DeadlineSetter) {
        let own = own.map(|own| later(now, own));
        match (callers, own) {
            (Some(deadline), Some(own)) if own < deadline => (own, DeadlineSetter::Function),
            (Some(deadline), _) => (deadline, DeadlineSetter::Caller),
            (None, Some(own)) => (own, DeadlineSetter::Function),
            (None, None) => (later(now, self.limits.call), DeadlineSetter::Limit),
        }
    }

    /// Whether a call has a key, or has to have one.
    #[inline]
    fn is_keyed(&self, method: &Method, metadata: &HeaderMap) -> bool {
        method.keyed || has_key(metadata)
    }

    /// Runs a call that has passed the interceptors, if the rules admit it.
    async fn admit(self: &Arc<Self>, entry: Option<&Arc<RegistryEntry>>, mut request: Request) -> Reply {
        if entry.is_none()
            && let Some(document) = ServiceDocument::called(&request.name)
            && let Some(methods) = self.listed(&mut request)
        {
            return Box::pin(self.document(document, methods, request)).await;
        }
        if entry.is_none()
            && let Some(document) = CountedDocument::called(&request.name)
            && let Some(methods) = self.shown(&mut request)
        {
            return self.counted_reply(document, &methods, &request);
        }
        if entry.is_none() && request.extensions.get::<PageAsked>().is_some() && self.admits_to_console(&mut request) {
            let null = ReturnedValue::Encoded(Codec::Json, Bytes::from_static(b"null"));
            return Reply { result: Ok(Returned::Value(null)), metadata: HeaderMap::new() };
        }
        if self.has_rules()
            && let Some(refused) = self.refusal(entry, &mut request)
        {
            return refused;
        }
        match entry {
            Some(entry) if self.is_keyed(&entry.handler.method, &request.metadata) => {
                Box::pin(KeyedCall { dispatch: self, entry }.run(request)).await
            }
            Some(entry) => match self.begin_request(entry, request) {
                Ok(call) if entry.handler.method.streams => self.stream(call).await,
                Ok(call) => call.await,
                Err(error) => error.into(),
            },
            None => self.unknown(&request).into(),
        }
    }

    /// Begins a call that was admitted. A future would copy the request, so this is a function of its own.
    fn begin_request(&self, entry: &Arc<RegistryEntry>, request: Request) -> Result<SupervisedCall, Error> {
        let Request {
            name,
            args,
            items,
            takes_stream,
            metadata,
            peer,
            is_forwarded,
            priority,
            deadline,
            extensions,
            method: _,
            permit,
            share,
            room,
            span,
        } = request;
        let origin = CallOrigin {
            metadata,
            extensions,
            peer,
            is_forwarded,
            priority,
            deadline,
            permit,
            share,
            room,
            span,
            items,
            takes_stream,
        };
        let (now, clock) = (Instant::now(), real_now());
        let begin = || match args {
            CallArguments::Encoded(args) => encoded_parts::sharing(args.larger(), || {
                self.begin(entry, name, origin, now, clock, ArgumentSource::encoded(&args, self.nesting()))
            }),
            CallArguments::Query(pairs) => self.begin(entry, name, origin, now, clock, ArgumentSource::Query(&pairs)),
            CallArguments::Local(tuple) => self.begin(entry, name, origin, now, clock, ArgumentSource::Local(tuple)),
            CallArguments::Refused(error) => Err(error),
        };
        entry.piece_from(clock, self.limits.slow_poll, begin).0
    }

    /// Runs a streaming function up to its first item. A failure before the first item fails the call.
    async fn stream(&self, supervised: SupervisedCall) -> Reply {
        let Some(context) = supervised.running.as_ref().map(|running| running.context.clone()) else {
            unreachable!("nobody has polled it");
        };
        let parting = self.parting.clone().cancelled_owned();
        let mut items = Items::new(FunctionItems::new(supervised, self.limits.stream_idle, parting));
        let result = items.begin().await.map(|()| Returned::Stream(items));
        Reply { result, metadata: context.take_reply_metadata() }
    }

    /// Admits a call and decodes its arguments. Its function starts when the returned value is polled. The caller must
    /// watch how long this keeps the thread.
    fn begin(
        &self,
        entry: &Arc<RegistryEntry>,
        name: Arc<str>,
        origin: CallOrigin,
        now: Instant,
        clock: RealInstant,
        source: ArgumentSource<'_>,
    ) -> Result<SupervisedCall, Error> {
        let method = &entry.handler.method;
        let CallOrigin {
            metadata,
            extensions,
            peer,
            is_forwarded,
            priority,
            deadline,
            permit,
            share,
            room,
            span,
            items,
            takes_stream,
        } = origin;
        if deadline.is_some_and(|deadline| deadline <= now) {
            return Err(late(&name));
        }
        self.closed.check(&method.name)?;
        if method.streams && !takes_stream {
            return Err(only_streams(&name));
        }
        let (deadline, set_by) = self.deadline(method.timeout, deadline, now);
        let caller = CallerTrust { metadata: &metadata, peer: peer.as_deref(), is_forwarded };
        let priority = priority.unwrap_or_else(|| self.admission.priority(method.priority, caller));
        let permit = match permit {
            Some(permit) => permit,
            None => HeldPermit::Own(self.admission.try_admit(priority, caller, clock)?),
        };
        // Behind the limits of the server: a call that those refuse must not use up a part of a rate.
        let own_permits = entry.try_admit(|| self.admission.caller(caller))?;
        let codec = match &source {
            ArgumentSource::Local(_) => None,
            ArgumentSource::Encoded { codec, .. } => Some(*codec),
            ArgumentSource::Query(_) => Some(Codec::Json),
        };
        let output = match codec {
            _ if method.streams => ResultTarget::Stream(Some(Box::new(YieldedItems::new(codec, self.limits.message)))),
            None => ResultTarget::Local(None),
            Some(codec) => ResultTarget::Encoded(codec, room),
        };
        let context = Context::new(name, metadata, extensions, peer, deadline, priority, method.readonly).sharing(span);
        let items = items.map(|items| {
            let idle = self.limits.stream_idle;
            let gone = Box::pin(context.cancellation().cancelled_owned());
            Items::new(IncomingItems { items, context: context.clone(), idle, gone })
        });
        let call = CallInput { args: source, items, nesting: self.nesting() };
        let begun = caught(|| entry.handler.begin(call));
        let invocation = match begun {
            Ok(invocation) => invocation?,
            // The user's `Deserialize` panicked, or a function that is not async panicked before its first await.
            Err(Panicked) => return Err(panicked(&method.name)),
        };
        entry.begin();
        note(format_args!("runs `{}`", method.name));
        let running = RunningFunction {
            invocation: Some(invocation),
            context,
            entry: Arc::clone(entry),
            output,
            slow_poll: self.limits.slow_poll,
            _permit: permit,
            _own_permits: own_permits,
            _share: share,
        };
        Ok(SupervisedCall {
            running: Some(running),
            time: ServedTime { came: now, deadline },
            set_by,
            timer: DeadlineTimer::default(),
        })
    }

    /// How deep arguments may be nested.
    fn nesting(&self) -> usize {
        self.limits.nesting.min(DEEPEST)
    }

    /// The function of this name or alias.
    pub(crate) fn entry(&self, name: &str) -> Option<&Arc<RegistryEntry>> {
        self.registry.get(name)
    }

    /// Whether calls have rules. Then no answer may depend on the function before its rule was asked.
    pub(crate) fn has_rules(&self) -> bool {
        !self.rules.is_empty()
    }

    /// The answer to a call that the rules do not admit.
    fn refusal(&self, entry: Option<&Arc<RegistryEntry>>, request: &mut Request) -> Option<Reply> {
        let rules = &self.rules;
        let is_admitted = match entry {
            Some(entry) => {
                let method = &entry.handler.method;
                request.method = Some(MethodRef::Shared(Arc::clone(method)));
                rules.admit(method, request)
            }
            // A caller from which some function is hidden can't tell an unknown name from that function.
            None => self.registry.methods().all(|method| rules.would_admit(method, request)),
        };
        if is_admitted {
            return None;
        }
        let mut hint = String::new();
        if self.may_learn_names(request) {
            let name = Arc::clone(&request.name);
            hint = did_you_mean(&self.registry.near(&name, |method| rules.would_admit(method, request)));
        }
        let method = entry.map(|entry| &*entry.handler.method);
        tracing::debug!("refused a call of {}: {}", quoted(&request.name), rules.why_refused(method));
        Some(access_rules::refusal(request, self.takes_certificates, &hint))
    }

    /// The functions that the caller of this request may learn of and call. `None` if it may learn no names.
    pub(crate) fn listed(&self, request: &mut Request) -> Option<Vec<Arc<Method>>> {
        if !self.may_learn_names(request) {
            return None;
        }
        Some(self.callable(request))
    }

    /// The functions that the caller of this request may call.
    fn callable(&self, request: &mut Request) -> Vec<Arc<Method>> {
        let may_call = |method: &&Arc<Method>| !self.has_rules() || self.rules.would_admit(method, request);
        self.registry.methods().filter(may_call).cloned().collect()
    }

    /// The functions whose counters the caller of this request may see. `None` if it may see none.
    fn shown(&self, request: &mut Request) -> Option<Vec<Arc<Method>>> {
        match self.shows_metrics {
            Some(false) => None,
            Some(true) => Some(self.callable(request)),
            None => self.listed(request),
        }
    }

    /// What was counted, as the result of a call. It takes no permit, because it is wanted when there are too many calls.
    fn counted_reply(&self, document: CountedDocument, methods: &[Arc<Method>], request: &Request) -> Reply {
        let codec = match &request.args {
            CallArguments::Encoded(args) => args.codec,
            _ => Codec::Json,
        };
        let mut encoded = Vec::new();
        match codec::encode(codec, &self.counted(document, methods), &mut encoded) {
            Ok(()) => {
                let value = ReturnedValue::Encoded(codec, encoded.into());
                Reply { result: Ok(Returned::Value(value)), metadata: HeaderMap::new() }
            }
            Err(_) => Error::new(Code::Internal, "the document could not be made").into(),
        }
    }

    /// What was counted of these functions, as a document. Callers that may learn names because the program says so don't learn of
    /// other services.
    fn counted(&self, document: CountedDocument, methods: &[Arc<Method>]) -> Value {
        let mut stats = self.stats();
        let shown: HashSet<&str> = methods.iter().filter(|method| !method.hidden).map(|method| &*method.name).collect();
        stats.functions.retain(|function| shown.contains(&*function.name));
        let shows_clients = self.shows_metrics == Some(true) || self.listing == Listing::OnThisMachine;
        let clients = if shows_clients { explained_clients::shown() } else { Vec::new() };
        if document == CountedDocument::Metrics {
            return open_metrics(stats, clients.into_iter().map(|client| client.stats).collect()).into();
        }
        let recent = &self.telemetry.counters().recent;
        let is_shown = |call: &RecentCall| call.name == OTHER || shown.contains(&*call.name);
        stats_json(&stats, &self.limits_now(), ShownCalls::of(recent, is_shown), &clients)
    }

    /// What was counted since the start.
    pub(crate) fn stats(&self) -> ServerStats {
        let counters = self.telemetry.counters();
        let functions = self.registry.methods().zip(self.registry.running()).zip(counters.functions());
        let functions = functions.map(|((method, running), counters)| {
            FunctionStats::new(method.name.clone(), running as u64, counters.read())
        });
        let (connections, connections_accepted) = counters.connections();
        ServerStats {
            instance: self.instance().to_string(),
            uptime: Instant::now().saturating_duration_since(counters.since),
            functions: functions.collect(),
            other: FunctionStats::new(OTHER.into(), 0, counters.other().read()),
            in_flight: self.admission.in_flight_besides_questions(),
            in_flight_limit: self.admission.most_in_flight(),
            queue_delay: self.admission.queue_delay(),
            connections,
            connections_accepted,
            draining: !self.admission.looks_ready(),
        }
    }

    /// Whether the page at the endpoint is shown to such a caller, if interceptors and rules admit it.
    pub(crate) fn may_show_console(&self, request: &Request) -> bool {
        self.shows_console.unwrap_or_else(|| self.may_learn_names(request))
    }

    /// Whether a caller that interceptors have admitted sees the page. A caller that may call nothing does not.
    fn admits_to_console(&self, request: &mut Request) -> bool {
        self.may_show_console(request)
            && (!self.has_rules() || self.registry.methods().any(|method| self.rules.would_admit(method, request)))
    }

    /// A document about the functions, as the result of a call.
    async fn document(&self, document: ServiceDocument, methods: Vec<Arc<Method>>, mut request: Request) -> Reply {
        // It takes a thread for a while, as a function does.
        if request.permit.is_none()
            && let Err(refused) = self.admit_early(None, &mut request)
        {
            return refused.into();
        }
        let codec = match &request.args {
            CallArguments::Encoded(args) => args.codec,
            _ => Codec::Json,
        };
        let encoded = runtime::run_blocking(move || {
            let mut encoded = Vec::new();
            codec::encode(codec, &document.of(methods, None), &mut encoded).map(|()| encoded)
        });
        let limit = self.limits.message;
        let why = match encoded.await {
            Ok(Ok(bytes)) if bytes.len() <= limit => {
                let value = ReturnedValue::Encoded(codec, bytes.into());
                return Reply { result: Ok(Returned::Value(value)), metadata: HeaderMap::new() };
            }
            Ok(Ok(bytes)) => {
                let (name, length) = (&*request.name, in_bytes(bytes.len()));
                format!(
                    "the document `{name}` has {length}, and a reply may have at most {limit} (`Limits::message` of the server); a GET has it whole"
                )
            }
            _ => "the document could not be made".to_owned(),
        };
        Error::new(Code::Internal, why).into()
    }

    /// Whether the listing is on for this caller.
    fn may_learn_names(&self, request: &Request) -> bool {
        // The page shows what it may call.
        if self.shows_console == Some(true) && console_access::is_from_page(&request.metadata) {
            return true;
        }
        match self.listing {
            Listing::Never => false,
            // What a proxy on this machine passes on comes from anywhere.
            Listing::OnThisMachine => !request.is_forwarded && !metadata::is_forwarded(&request.metadata),
            Listing::Always => true,
        }
    }

    fn unknown(&self, request: &Request) -> Error {
        let name = &*request.name;
        let hint = if self.may_learn_names(request) { self.hint(name) } else { String::new() };
        Error::refused(Code::Unimplemented, format!("no function is named {} here{hint}", quoted(name)))
    }

    /// A suggestion of the function that was probably meant.
    fn hint(&self, name: &str) -> String {
        if let Some(linked) = self.registry.not_served_as(name) {
            return format!("; it is linked but not served: add {} to the server", linked.remedy());
        }
        did_you_mean(&self.registry.near(name, |_| true))
    }

    /// Ends the streams that have not ended by themselves.
    pub(crate) fn end_streams(&self) {
        self.parting.cancel();
    }

    /// Waits until the server no longer waits for streams.
    pub(crate) fn streams_end(&self) -> impl Future<Output = ()> + Send + use<> {
        self.parting.clone().cancelled_owned()
    }

    /// Warns about the function that has kept a thread for this long, if it is one of these.
    pub(crate) fn kept(&self, id: usize, took: Duration) {
        self.registry.kept(id, took, self.limits.slow_poll);
    }

    /// The running functions, with the number of calls of each.
    pub(crate) fn active(&self) -> Vec<(&str, usize)> {
        self.registry.active()
    }
}

/// Everything about a call except its name and arguments.
#[derive(Default)]
struct CallOrigin {
    metadata: HeaderMap,
    extensions: Extensions,
    peer: Option<Arc<Peer>>,
    /// A proxy has passed on its connection.
    is_forwarded: bool,
    /// How important it is, if that is decided already.
    priority: Option<Priority>,
    deadline: Option<Instant>,
    /// The permit to run, if the call already has one.
    permit: Option<HeldPermit>,
    /// Its permit within the limit of its connection.
    share: Option<Permit>,
    /// Memory for its result.
    room: Vec<u8>,
    /// Its place in its trace, if something has needed it.
    span: Option<ServedSpan>,
    /// The caller's stream.
    items: Option<Items>,
    /// Whether the caller accepts a stream as the answer.
    takes_stream: bool,
}

/// The caller's stream. Each item extends the deadline of the call.
struct IncomingItems {
    items: Items,
    context: Context,
    idle: Duration,
    /// Ready when the caller is gone.
    gone: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl items::ItemSource for IncomingItems {
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>, room: usize) -> Poll<NextItems> {
        if self.gone.as_mut().poll(cx).is_ready() {
            let why = "the caller is gone or waits no longer; the rest of its stream does not come";
            return Poll::Ready(NextItems::Failed(Error::new(Code::Cancelled, why).into()));
        }
        let next = std::task::ready!(self.items.poll_next(cx, room));
        self.as_mut().goes_on();
        Poll::Ready(next)
    }

    fn goes_on(self: Pin<&mut Self>) {
        self.context.set_deadline(later(Instant::now(), self.idle));
    }
}

/// The error of a stream for which the server no longer waits.
pub(crate) fn stopping(name: &str) -> Error {
    let why = format!("the server is stopping and ends the stream of `{name}`; call it again for another");
    Error::new(Code::Unavailable, why).executed_is(Executed::Yes)
}

/// What a line of the log says of these functions, if there are any.
fn not_served(linked: &[NotServed]) -> Option<String> {
    let named = linked.iter().take(NAMED).map(|linked| {
        let specs = linked.specs();
        let names: Vec<_> = specs.iter().take(NAMED_METHODS).map(|spec| format!("`{}`", spec.name)).collect();
        let (names, more) = (names.join(", "), and_more(specs.len().saturating_sub(NAMED_METHODS)));
        let ((file, line), remedy) = (linked.place(), linked.remedy());
        format!("{names}{more} at {file}:{line} (add {remedy})")
    });
    let named = named.collect::<Vec<_>>().join(", ");
    let functions = |linked: &[NotServed]| linked.iter().map(|linked| linked.specs().len()).sum::<usize>();
    let (count, more) = (functions(linked), and_more(functions(linked.get(NAMED..).unwrap_or_default())));
    let are = if count == 1 { "function is" } else { "functions are" };
    (count > 0).then(|| format!("{count} `#[rpc]` {are} linked but not served: {named}{more}"))
}

fn and_more(count: usize) -> String {
    if count == 0 { String::new() } else { format!(" and {count} more") }
}

fn did_you_mean(near: &[&str]) -> String {
    if near.is_empty() { String::new() } else { format!("; did you mean `{}`?", near.join("` or `")) }
}

/// The error if a function that streams is called for one value.
fn only_streams(name: &str) -> Error {
    let why = format!(
        "`{name}` returns a stream, but was called for a single value; call it with its stub or `Client::stream`, or over \
         HTTP with a POST that is not JSON-RPC"
    );
    Error::refused(Code::FailedPrecondition, why)
}

fn late(name: &str) -> Error {
    let why = format!("the deadline of `{name}` had passed when the call arrived; allow more time with `.timeout(…)`");
    Error::refused(Code::DeadlineExceeded, why)
}

fn panicked(name: &str) -> Error {
    Error::new(Code::Internal, format!("`{name}` panicked; the server's log says where")).executed_is(Executed::Yes)
}

/// A function that has started.
struct RunningFunction {
    invocation: Option<Pin<Box<dyn Invocation>>>,
    context: Context,
    entry: Arc<RegistryEntry>,
    output: ResultTarget,
    slow_poll: Duration,
    /// A function keeps its permit until its end, even if its caller is gone.
    _permit: HeldPermit,
    /// Within the limits of the function itself.
    _own_permits: Option<Box<FunctionPermits>>,
    _share: Option<Permit>,
}

impl RunningFunction {
    /// Polls it as a part of its function.
    fn poll(&mut self, cx: &mut std::task::Context<'_>) -> Poll<FunctionResult> {
        let entry = Arc::clone(&self.entry);
        entry.piece(self.slow_poll, || self.poll_unwatched(cx))
    }

    fn poll_unwatched(&mut self, cx: &mut std::task::Context<'_>) -> Poll<FunctionResult> {
        let Some(invocation) = &mut self.invocation else {
            return Poll::Ready(FunctionResult::Rpc(panicked(&self.entry.handler.method.name)));
        };
        let output = &mut self.output;
        let context = &self.context;
        let poll = || context.enter(|| invocation.as_mut().poll_into(cx, output));
        let polled = caught(poll);
        let outcome = match polled {
            Ok(Poll::Ready(outcome)) => outcome,
            Ok(Poll::Pending) => {
                context.cancel_if_caller_may_be_gone();
                return Poll::Pending;
            }
            Err(Panicked) => {
                let name = &self.entry.handler.method.name;
                tracing::error!(rpc.method = %name, "`{name}` panicked; its caller sees `internal`");
                FunctionResult::Rpc(panicked(name))
            }
        };
        if !matches!(outcome, FunctionResult::Items) {
            note(format_args!("`{}` has ended", self.entry.handler.method.name));
            self.let_go();
        }
        Poll::Ready(outcome)
    }

    /// The failure of a function without a value. `data` is what it left in its output.
    fn failure(&self, outcome: FunctionResult, data: impl FnOnce() -> ReturnedValue) -> Failure {
        let name = &self.entry.handler.method.name;
        let why = match outcome {
            FunctionResult::Method(code, message) => {
                return Failure::Method { error: Failure::method_error(name, code, message), data: data() };
            }
            FunctionResult::Rpc(error) => {
                let error = error.executed_is(Executed::Yes);
                return Failure::Rpc(if self.context.is_final() { error.without_retry() } else { error });
            }
            FunctionResult::Unencodable(why) => format!("`{name}` ran, but what it returned can't be encoded: {why}"),
            FunctionResult::Ok | FunctionResult::OkWithout(_) | FunctionResult::Items => {
                format!("`{name}` gave a value that went astray, which is a defect of byname")
            }
        };
        Failure::Rpc(Error::new(Code::Internal, why).executed_is(Executed::Yes))
    }

    /// Drops the function. A panic in its destructor must not reach the end of this call.
    fn let_go(&mut self) {
        let invocation = self.invocation.take();
        if caught(|| drop(invocation)).is_err() {
            let name = &self.entry.handler.method.name;
            tracing::error!(rpc.method = %name, "`{name}` panicked while it was dropped");
        }
    }
}

impl Drop for RunningFunction {
    fn drop(&mut self) {
        if self.invocation.is_some() {
            note(format_args!("`{}` is dropped", self.entry.handler.method.name));
            self.let_go();
        }
        self.entry.end();
    }
}

/// What set the deadline of a call.
#[derive(Clone, Copy)]
enum DeadlineSetter {
    Caller,
    Function,
    Limit,
}

/// When a call came, and its deadline at that time. A stream extends that of its context.
#[derive(Clone, Copy)]
struct ServedTime {
    came: Instant,
    deadline: Instant,
}

impl ServedTime {
    fn allowed(self) -> Duration {
        self.deadline.saturating_duration_since(self.came)
    }
}

/// A running function whose caller waits.
pub(crate) struct SupervisedCall {
    running: Option<RunningFunction>,
    time: ServedTime,
    set_by: DeadlineSetter,
    /// Armed only if the function is not done at its first poll.
    timer: DeadlineTimer,
}

/// How a call ended at its first poll. Most have none of these, so they are kept apart.
struct InlineEnd {
    failure: Option<Box<Failure>>,
    /// The value, if it is in parts. Then it is not in the buffer.
    parts: Option<Box<EncodedParts>>,
    /// The headers of the reply.
    metadata: Option<Box<HeaderMap>>,
}

impl SupervisedCall {
    /// Makes it keep its permit of the connection as long as it runs.
    fn keep(&mut self, share: Option<Permit>) {
        if let Some(running) = &mut self.running {
            running._share = share;
        }
    }

    /// Runs the function to its end. At its deadline it is told that its caller waits no longer.
    async fn run_to_end(mut self) -> Reply {
        let mut is_late = false;
        poll_fn(|cx| {
            if let Poll::Ready(reply) = self.poll_reply(cx) {
                return Poll::Ready(reply);
            }
            if !is_late && let Some(running) = &self.running {
                std::task::ready!(self.timer.poll_at(cx, running.context.deadline()));
                running.context.cancel();
                is_late = true;
                // It may have been waiting for just that.
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        })
        .await
    }

    /// Polls the function once. Its reply, if that was the end.
    fn poll_reply(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Reply> {
        let Some(running) = &mut self.running else {
            polled_after_its_end();
        };
        let outcome = std::task::ready!(running.poll(cx));
        let metadata = running.context.take_reply_metadata();
        let output = std::mem::replace(&mut running.output, ResultTarget::Local(None));
        let result = match outcome {
            FunctionResult::Ok => Ok(Returned::Value(output.into_value())),
            FunctionResult::OkWithout(left_out) => Ok(Returned::Value(output.into_value_with(left_out))),
            outcome => Err(running.failure(outcome, || output.into_value())),
        };
        self.running = None;
        Poll::Ready(Reply { result, metadata })
    }

    /// The caller was answered, or is gone. The function's context is cancelled, and it runs to its end by itself
    /// unless it is `readonly`.
    fn let_run_on(&mut self) {
        let Some(mut running) = self.running.take() else {
            return;
        };
        running.context.cancel();
        if running.context.is_readonly() {
            return;
        }
        let to_its_end = async move {
            std::future::poll_fn(|cx| running.poll(cx)).await;
        };
        runtime::spawn(&runtime::current(), to_its_end.in_current_span());
    }

    /// Polls the function once. Its result is appended to `out`, where a failure leaves nothing. The caller must watch
    /// how long this keeps the thread.
    fn poll_into(&mut self, cx: &mut std::task::Context<'_>, out: &mut Vec<u8>) -> Poll<InlineEnd> {
        let Some(running) = &mut self.running else {
            polled_after_its_end();
        };
        let start = out.len();
        let ResultTarget::Encoded(codec, own) = &mut running.output else {
            unreachable!("only a function with one encoded result is polled inline");
        };
        let codec = *codec;
        std::mem::swap(out, own);
        let polled = running.poll_unwatched(cx);
        if let ResultTarget::Encoded(_, own) = &mut running.output {
            std::mem::swap(out, own);
        }
        let Poll::Ready(outcome) = polled else {
            return Poll::Pending;
        };
        let mut parts = None;
        let failure = match outcome {
            FunctionResult::Ok => None,
            FunctionResult::OkWithout(left_out) => {
                let left_out = left_out.into_iter().map(|(at, bytes)| (at - start, bytes)).collect();
                parts = Some(Box::new(EncodedParts::new(out.split_off(start), left_out)));
                None
            }
            outcome => {
                let data = || ReturnedValue::Encoded(codec, out.split_off(start).into());
                let failure = running.failure(outcome, data);
                out.truncate(start);
                Some(Box::new(failure))
            }
        };
        let context = &running.context;
        let metadata = context.has_reply_metadata().then(|| Box::new(context.take_reply_metadata()));
        self.running = None;
        Poll::Ready(InlineEnd { failure, parts, metadata })
    }
}

impl Future for SupervisedCall {
    type Output = Reply;

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Reply> {
        let this = &mut *self;
        if let Poll::Ready(reply) = this.poll_reply(cx) {
            return Poll::Ready(reply);
        }
        let Some(running) = &this.running else {
            polled_after_its_end();
        };
        std::task::ready!(this.timer.poll_at(cx, running.context.deadline()));
        let method = &running.entry.handler.method;
        // A thread can't be stopped from outside.
        let is_stopped = method.readonly && !method.blocking;
        let late = late_by(&method.name, is_stopped, this.time.allowed(), this.set_by);
        this.let_run_on();
        Poll::Ready(late.into())
    }
}

fn polled_after_its_end() -> ! {
    panic!("a call was polled after it had ended, which is a defect of byname");
}

/// The error of a function that had no answer at its deadline.
fn late_by(name: &str, is_stopped: bool, allowed: Duration, set_by: DeadlineSetter) -> Error {
    let knob = match set_by {
        DeadlineSetter::Caller => "`.timeout(…)` on the call",
        DeadlineSetter::Function => "`#[rpc(timeout = \"…\")]` on the function",
        DeadlineSetter::Limit => "`.timeout(…)` on the call, or `Limits::call` of the server",
    };
    let now = match is_stopped {
        true => "it was stopped",
        false => "it was asked to stop and may still be running",
    };
    let why = format!("`{name}` did not answer within {allowed:?}; {now}. Allow more time with {knob}");
    let error = Error::new(Code::DeadlineExceeded, why).executed_is(Executed::Unknown);
    match set_by {
        DeadlineSetter::Limit => error.of_limit(Limit::Call),
        _ => error,
    }
}

impl Drop for SupervisedCall {
    fn drop(&mut self) {
        self.let_run_on();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::EncodedArguments;
    use crate::handler::Handler;
    use crate::method::Source;
    use crate::stream_argument::Streaming;

    const PLACE: Source = Source { package: "test", module: "test", file: "test.rs", line: 1 };

    fn dispatch(handlers: impl IntoIterator<Item = Handler>, limits: Limits) -> Arc<Dispatch> {
        let mut registry = Registry::default();
        for handler in handlers {
            registry.add(handler).unwrap();
        }
        Arc::new(Dispatch::new(registry, limits, Listing::Always, InterceptorChain::default()))
    }

    fn request(name: &str, positional: &'static str) -> Request {
        let args = EncodedArguments::by_position(Codec::Json, positional.into());
        Request::new(name.into(), CallArguments::Encoded(args), Default::default())
    }

    fn error(reply: Reply) -> Error {
        match reply.result {
            Err(Failure::Rpc(error)) => error,
            _ => panic!("expected an error"),
        }
    }

    fn text(reply: Reply) -> String {
        match reply.result {
            Ok(Returned::Value(value)) => String::from_utf8(value.into_json().unwrap().into()).unwrap(),
            Ok(Returned::Stream(_)) => panic!("expected a value"),
            Err(Failure::Rpc(error)) => panic!("{error}"),
            Err(Failure::Method { .. }) => panic!("expected a value"),
        }
    }

    /// Items that come together, and nothing behind them.
    struct TogetherItems(Option<items::EncodedItems>);

    impl items::ItemSource for TogetherItems {
        fn poll_next(mut self: Pin<&mut Self>, _: &mut std::task::Context<'_>, _: usize) -> Poll<NextItems> {
            Poll::Ready(match self.0.take() {
                Some(items) => NextItems::Batch(items::ItemBatch::Encoded(items)),
                None => NextItems::End,
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn items_that_came_together_extend_the_deadline_one_by_one() {
        let (idle, deadline) = (Duration::from_secs(10), Instant::now() + Duration::from_secs(1));
        let priority = Priority::default();
        let context = Context::new("f".into(), HeaderMap::new(), Extensions::new(), None, deadline, priority, false);
        let batch = items::EncodedItems::new(Codec::Json, "123".into(), vec![0..1, 1..2, 2..3]);
        let gone = Box::pin(context.cancellation().cancelled_owned());
        let incoming =
            IncomingItems { items: Items::new(TogetherItems(Some(batch))), context: context.clone(), idle, gone };
        let mut numbers = Streaming::<u64>::received(Items::new(incoming), "numbers".into(), 128);
        for number in 1..=3 {
            assert_eq!(numbers.next().await.unwrap().unwrap(), number);
            assert_eq!(context.deadline(), Instant::now() + idle);
            tokio::time::advance(idle / 2).await;
        }
        assert!(numbers.next().await.is_none());
    }

    #[tokio::test]
    async fn a_call_finds_its_function() {
        let add = Handler::function("add".into(), PLACE, |a: i64, b: i64| async move { a + b });
        let dispatch = dispatch([add], Limits::default());
        assert_eq!(text(dispatch.run(request("add", "[1,2]")).await), "3");
        let unknown = error(dispatch.run(request("ad", "[1,2]")).await);
        assert_eq!((unknown.code(), unknown.executed()), (Code::Unimplemented, Executed::No));
        assert!(unknown.message().contains("`add`"), "{unknown}");
    }

    #[test]
    fn with_rules_a_body_may_take_as_long_for_every_name() {
        const LONG: Duration = Duration::from_secs(300);
        let mut registry = Registry::default();
        let mut long = Handler::function("long".into(), PLACE, || async {});
        Arc::make_mut(&mut long.method).timeout = Some(LONG);
        registry.add(long).unwrap();
        let mut dispatch = Dispatch::new(registry, Limits::default(), Listing::Always, InterceptorChain::default());
        let patience = |dispatch: &Dispatch, name: &str| dispatch.patience_with(dispatch.entry(name));
        assert_eq!([patience(&dispatch, "long"), patience(&dispatch, "other")], [LONG, Limits::default().call]);
        let mut rules = AccessRules::default();
        rules.push("*", |_| false);
        dispatch.keep_rules(rules).unwrap();
        assert_eq!([patience(&dispatch, "long"), patience(&dispatch, "other")], [LONG, LONG]);
    }

    #[tokio::test]
    async fn the_limit_of_calls_in_flight_rejects_and_recovers() {
        let (release, held) = tokio::sync::oneshot::channel::<()>();
        let held = std::sync::Mutex::new(Some(held));
        let hold = Handler::function("hold".into(), PLACE, move || {
            let held = held.lock().unwrap().take();
            async move {
                if let Some(held) = held {
                    let _ = held.await;
                }
            }
        });
        let limits = Limits { in_flight: 1, ..Limits::default() };
        let dispatch = dispatch([hold], limits);
        let mut first = Box::pin(dispatch.run(request("hold", "[]")));
        assert_eq!(dispatch.admission().in_flight(), 0);
        assert!(std::future::poll_fn(|cx| Poll::Ready(first.as_mut().poll(cx).is_pending())).await);
        assert_eq!(dispatch.admission().in_flight(), 1);
        let refused = error(dispatch.run(request("hold", "[]")).await);
        assert_eq!((refused.code(), refused.executed()), (Code::ResourceExhausted, Executed::No));
        assert_eq!(refused.limit(), Some("in_flight"));
        assert!(refused.retry_after().is_some());
        release.send(()).unwrap();
        assert_eq!(text(first.await), "null");
        assert_eq!(text(dispatch.run(request("hold", "[]")).await), "null");
        assert_eq!(dispatch.admission().in_flight(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn at_its_deadline_the_caller_is_answered_and_the_function_runs_on() {
        let (done, mut finished) = tokio::sync::mpsc::unbounded_channel();
        let slow = Handler::function("slow".into(), PLACE, move || {
            let done = done.clone();
            async move {
                let token = Context::current().unwrap().cancellation();
                tokio::time::sleep(Duration::from_secs(60)).await;
                done.send(token.is_cancelled()).unwrap();
            }
        });
        let dispatch = dispatch([slow], Limits::default());
        let late = error(dispatch.run(request("slow", "[]")).await);
        assert_eq!((late.code(), late.executed()), (Code::DeadlineExceeded, Executed::Unknown));
        assert_eq!(dispatch.active(), [("slow", 1)]);
        assert_eq!(finished.recv().await, Some(true), "it ended by itself and had been told");
        dispatch.admission().idle().await;
        assert_eq!(dispatch.active(), []);
    }

    #[tokio::test]
    async fn a_panic_is_answered_without_its_text() {
        let boom = Handler::function("boom".into(), PLACE, || async {
            if true {
                panic!("secret")
            }
        });
        let dispatch = dispatch([boom], Limits::default());
        for _ in 0..2 {
            let failed = error(dispatch.run(request("boom", "[]")).await);
            assert_eq!((failed.code(), failed.executed()), (Code::Internal, Executed::Yes));
            assert!(!failed.message().contains("secret"));
        }
    }

    #[tokio::test]
    async fn a_call_that_is_late_on_arrival_is_not_run() {
        let ran = Handler::function("ran".into(), PLACE, || async { panic!("it must not run") as () });
        let dispatch = dispatch([ran], Limits::default());
        let late = Request { deadline: Some(Instant::now()), ..request("ran", "not even JSON") };
        let late = error(dispatch.run(late).await);
        assert_eq!((late.code(), late.executed()), (Code::DeadlineExceeded, Executed::No));
    }

    fn supervised(dispatch: &Dispatch, name: &str) -> SupervisedCall {
        let entry = dispatch.entry(name).unwrap();
        let source = crate::arguments::ArgumentSource::Encoded {
            codec: Codec::Json,
            positional: b"[]",
            keyword: b"",
            nesting: 9,
        };
        let origin = CallOrigin::default();
        dispatch.begin(entry, name.into(), origin, Instant::now(), real_now(), source).unwrap()
    }

    /// Without the check it would wait forever.
    #[tokio::test]
    #[should_panic(expected = "a call was polled after it had ended")]
    async fn polling_a_call_after_its_reply_panics() {
        let one = Handler::function("one".into(), PLACE, || async { 1 });
        let mut call = supervised(&dispatch([one], Limits::default()), "one");
        assert_eq!(text((&mut call).await), "1");
        let _ = futures_util::poll!(&mut call);
    }

    #[tokio::test]
    #[should_panic(expected = "a call was polled after it had ended")]
    async fn polling_a_call_inline_after_its_reply_panics() {
        let one = Handler::function("one".into(), PLACE, || async { 1 });
        let mut call = supervised(&dispatch([one], Limits::default()), "one");
        let (mut out, cx) = (Vec::new(), &mut std::task::Context::from_waker(std::task::Waker::noop()));
        assert!(call.poll_into(cx, &mut out).is_ready() && out == b"1");
        let _ = call.poll_into(cx, &mut out);
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "a call was polled after it had ended")]
    async fn polling_a_call_after_its_deadline_panics() {
        let slow = Handler::function("slow".into(), PLACE, std::future::pending::<()>);
        let mut call = supervised(&dispatch([slow], Limits::default()), "slow");
        assert_eq!(error((&mut call).await).code(), Code::DeadlineExceeded);
        let _ = futures_util::poll!(&mut call);
    }

    fn intercepted<F, Fut>(handlers: impl IntoIterator<Item = Handler>, interceptor: F) -> Arc<Dispatch>
    where
        F: Fn(Request, crate::interceptor::Next) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Reply> + Send + 'static,
    {
        let mut registry = Registry::default();
        for handler in handlers {
            registry.add(handler).unwrap();
        }
        let mut chain = InterceptorChain::default();
        chain.push(interceptor);
        Arc::new(Dispatch::new(registry, Limits::default(), Listing::Always, chain))
    }

    #[tokio::test]
    async fn an_interceptor_can_replace_the_request() {
        let functions =
            [("one", 1), ("two", 2)].map(|(name, it)| Handler::function(name.into(), PLACE, move || async move { it }));
        let dispatch = intercepted(functions, |asked, next| async move {
            let other = if asked.name() == "one" { "two" } else { "nothing" };
            next.run(request(other, "[]")).await
        });
        assert_eq!(text(dispatch.run(request("one", "[]")).await), "2");
        assert_eq!(error(dispatch.run(request("two", "[]")).await).code(), Code::Unimplemented);
    }

    #[tokio::test]
    async fn a_function_behind_an_interceptor_that_keeps_the_thread_is_not_quick() {
        let one = Handler::function("one".into(), PLACE, || async { 1 });
        let dispatch = intercepted([one], |request, next| async move {
            let began = real_now();
            while real_now().saturating_duration_since(began) < Duration::from_millis(1) {}
            next.run(request).await
        });
        for _ in 0..20 {
            assert_eq!(text(dispatch.run(request("one", "[]")).await), "1");
            assert!(!dispatch.entry("one").unwrap().is_quick());
        }
    }

    #[tokio::test]
    async fn nesting_has_a_limit() {
        let echo = Handler::function("echo".into(), PLACE, |value: serde_json::Value| async move { value });
        let limits = Limits { nesting: 3, ..Limits::default() };
        let dispatch = dispatch([echo], limits);
        assert_eq!(text(dispatch.run(request("echo", "[[[1]]]")).await), "[[1]]");
        let deep = error(dispatch.run(request("echo", "[[[[1]]]]")).await);
        assert_eq!(deep.limit(), Some("nesting"));
    }
}
