//! The service that a client calls: [`Service`] chooses the way of each attempt, repeats calls, and hedges them.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use http::HeaderMap;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::affinity::ReplicaWish;
use super::discover::KnownReplicas;
use super::explanation::{ExplainedReplica, ExplainedService, Explanation, policy_settings, usual_timeout};
use super::frame_attempt;
use super::frame_connection_set::{ChosenConnection, FrameConnectionSet};
use super::hedge::{AttemptPair, Hedging, PairEnd};
use super::http_attempt;
use super::http_connections::HttpConnections;
use super::outgoing_call::OutgoingCall;
use super::policy::{Policy, PolicySources};
#[cfg(feature = "schema")]
use super::remembered_comparisons::RememberedComparisons;
use super::replica_load::ReplicaOutcome;
use super::replica_outcome::replica_outcome;
use super::reply_stream;
use super::retry::{AfterFailure, Attempts};
use super::retry_budget::RetryBudget;
use super::service_target::ServiceTarget;
use super::short_lived_clients::client_dropped;
use super::throttle::Throttle;
use super::tried_replicas::TriedReplicas;
use crate::address::Address;
use crate::call_telemetry::{CalledServer, record_attempts, record_hedge, record_retry};
use crate::client_counters::{ClientCounters, ClientFunction};
use crate::clock_and_chance::random_fraction;
use crate::codec::Codec;
use crate::context::Context;
use crate::deadline::{before, later, until};
use crate::error::{Error, Executed};
use crate::explained_clients::{self, ExplainedClient, LiveClient};
use crate::limits_and_timeouts::Limits;
use crate::metadata;
use crate::method::Method;
use crate::outcome::Failure;
use crate::priority::Priority;
use crate::request::Reply;
use crate::runtime::BoxFuture;
use crate::stats::{ClientStats, ShownReplica};

/// Everything that clones of a client share.
pub(super) struct Service {
    http: Arc<HttpConnections>,
    /// Connections of frames, if the caller wants them.
    frames: Option<Arc<FrameConnectionSet>>,
    budget: RetryBudget,
    throttle: Throttle,
    hedging: Hedging,
    counters: Arc<ClientCounters>,
    /// How many of its connections are in the counters.
    counted_as_opened: AtomicU64,
    #[cfg(feature = "schema")]
    comparisons: RememberedComparisons,
}

impl Service {
    /// `frames` is the codec of frames, or nothing if all calls go over HTTP.
    pub(super) fn new(target: ServiceTarget, limits: Limits, frames: Option<Codec>, compress: bool) -> Arc<Self> {
        let http = HttpConnections::new(target, limits, frames, compress);
        let frames = http.frames().cloned();
        let now = Instant::now();
        let (http, budget, throttle) = (Arc::new(http), RetryBudget::new(now), Throttle::new(now));
        let counters = ClientCounters::of(http.target.url());
        let service = Arc::new(Self {
            http,
            frames,
            budget,
            throttle,
            hedging: Hedging::default(),
            counters,
            counted_as_opened: AtomicU64::new(0),
            #[cfg(feature = "schema")]
            comparisons: RememberedComparisons::default(),
        });
        let weak: Weak<Self> = Arc::downgrade(&service);
        explained_clients::add(weak);
        service
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.http.limits
    }

    pub(super) fn url(&self) -> String {
        self.http.target.url()
    }

    /// The server as the URL names it.
    pub(super) fn server(&self) -> CalledServer<'_> {
        self.http.target.server()
    }

    /// What is known of the replicas.
    pub(super) fn replicas(&self) -> Option<KnownReplicas> {
        self.http.target.known()
    }

    /// Looks up the replicas, unless they are known. A failure is known then.
    pub(super) async fn look_up(&self) {
        let _ = self.http.target.answer().await;
    }

    /// What is known now, for a person, and of this function.
    pub(super) fn explained(&self, name: Option<&str>) -> ExplainedService {
        let now = Instant::now();
        let by_frames_now = self.codec_by_frames().is_some();
        let by_frames = self.frames.iter().flat_map(|frames| frames.views(now));
        let mut replicas: Vec<_> =
            by_frames.map(|(link, view)| ExplainedReplica::by_frames(&link, view, name)).collect();
        // Endpoints are listed anew at the next call over HTTP, which may never come.
        let known = self.replicas();
        let is_known = |address: &Address| known.as_ref().is_none_or(|known| known.addresses.contains(address));
        for (address, view) in self.http.views(now) {
            if is_known(&address) && replicas.iter().all(|replica| replica.address != address) {
                let over_http = ExplainedReplica::over_http(address, view);
                replicas.push(if by_frames_now { over_http.not_connected() } else { over_http });
            }
        }
        replicas.sort_by_cached_key(|replica| replica.address.to_string());
        let mut connections = self.http.use_of_connections();
        connections.calls = u64::from(self.budget.calls());
        connections.frames_opened = self.frames.as_ref().map_or(0, |frames| frames.opened_count());
        connections.frames_for_threads = self.frames.as_ref().map_or(1, |frames| frames.lanes());
        ExplainedService {
            url: self.url(),
            repetitions: self.budget.tokens(now),
            held_back: self.throttle.held_back(now),
            limits: self.limits().clone(),
            known,
            replicas,
            connections,
        }
    }

    /// What is counted of this function.
    #[inline]
    pub(super) fn counted(&self, name: &str, method: Option<&'static Method>) -> Arc<ClientFunction> {
        self.counters.function(name, method)
    }

    /// What the clients of its URL have counted.
    pub(super) fn stats(&self) -> ClientStats {
        explained_clients::stats_of(&self.counters)
    }

    /// Adds the connections that were opened since the last time to those of its URL.
    fn count_opened(&self) {
        let by_frames = self.frames.as_ref().map_or(0, |frames| frames.opened_count());
        let opened = self.http.use_of_connections().http_opened + by_frames;
        let before = self.counted_as_opened.fetch_max(opened, Ordering::Relaxed);
        self.counters.add_opened(opened.saturating_sub(before));
    }

    /// Where stubs and the service were found to differ.
    #[cfg(feature = "schema")]
    pub(super) fn comparisons(&self) -> &RememberedComparisons {
        &self.comparisons
    }

    /// After which time calls of this function are hedged now, if it is known.
    pub(super) fn hedge_delay(&self, method: &'static Method) -> Option<Duration> {
        self.hedging.delay(method)
    }

    /// Whether others can read what is sent.
    pub(super) fn is_exposed(&self) -> bool {
        self.http.target.is_exposed()
    }

    /// One call, sent as often as it may be. `first` is what its first attempt came to, if there was one, and `tried` the
    /// replica that it went to.
    ///
    /// It is no `async fn`, whose future would have room for each argument twice.
    pub(super) fn call(
        self: Arc<Self>,
        mut outgoing: OutgoingCall,
        mut first: Option<Reply>,
        tried: TriedReplicas,
    ) -> BoxFuture<Reply> {
        Box::pin(async move {
            self.deposit();
            let serving = metadata::attempt(&outgoing.headers);
            let mut attempts = Attempts::new(outgoing.repetition(), serving, &outgoing.policy);
            let mut sent = u32::from(first.is_some());
            let mut hedged = outgoing.hedged_method().filter(|_| first.is_none() && attempts.may_hedge());
            loop {
                let done = match (first.take(), hedged.take()) {
                    (Some(done), _) => done,
                    (None, None) => {
                        sent += 1;
                        self.attempt(&outgoing, &tried).await
                    }
                    (None, Some(method)) => {
                        let before = attempts.number();
                        let done = Box::pin(self.hedged(&outgoing, method, &tried, &mut attempts)).await;
                        sent += 1 + attempts.number() - before;
                        done
                    }
                };
                let error = match done.result {
                    Err(Failure::Rpc(error)) => error,
                    result => {
                        record_attempts(sent);
                        return Reply { result, ..done };
                    }
                };
                // At most once for each argument, and without a pause: the server is there and has answered.
                if outgoing.remove_unknown(&error) {
                    tracing::debug!("sending `{}` again without an argument: {error}", outgoing.name);
                    record_retry(sent + 1, &error);
                    continue;
                }
                if Box::pin(outgoing.replace_token(&error)).await {
                    tracing::debug!("sending `{}` again with a new token: {error}", outgoing.name);
                    record_retry(sent + 1, &error);
                    continue;
                }
                if outgoing.is_keyed()
                    && error.executed() != Executed::No
                    && !outgoing.pin(tried.last_server().map(|server| server.told_by(&done.metadata)))
                {
                    attempts.key_is_lost();
                }
                let now = Instant::now();
                let left = outgoing.deadline.saturating_duration_since(now);
                let step = match outgoing.upload.is_taken() {
                    true => AfterFailure::GiveUp,
                    false => attempts.failed(&error, random_fraction(), left, || self.budget.withdraw(now)),
                };
                let error = match step {
                    AfterFailure::Again(delay) => {
                        tracing::debug!("sending `{}` again in {delay:?}: {error}", outgoing.name);
                        record_retry(sent + 1, &error);
                        self.counters.function(&outgoing.name, outgoing.method).counters().retried();
                        until(later(now, delay)).await;
                        if attempts.number() > 1 {
                            outgoing.headers.insert(metadata::ATTEMPT, attempts.number().into());
                        }
                        continue;
                    }
                    AfterFailure::GiveUp => error,
                    AfterFailure::GiveUpForAll => {
                        if let Some(serving) = Context::current() {
                            serving.set_final();
                        }
                        error.without_retry()
                    }
                };
                record_attempts(sent);
                self.throttle.failed(&error, priority(&outgoing.headers, outgoing.method), now, self.budget.calls());
                return Reply { result: Err(attempts.conclude(error).into()), ..done };
            }
        })
    }

    /// One attempt, by frames if there is a connection of frames, otherwise over HTTP. It goes to none of the replicas that
    /// were `tried`, if there is another.
    async fn attempt(&self, outgoing: &OutgoingCall, tried: &TriedReplicas) -> Reply {
        while let Some(frames) = &self.frames
            && let Some(chosen) = self.choose(outgoing.wish(&tried.all()), Instant::now())
        {
            tried.extend(chosen.count.replica());
            if outgoing.is_keyed() {
                tried.went_to(chosen.link.attempted_server());
            }
            let args = match outgoing.args_in(chosen.link.codec()) {
                Ok(args) => args,
                Err(error) => return error.into(),
            };
            // Large futures. The future of a call over HTTP would be as large.
            let reply = if outgoing.has_streams() {
                Box::pin(reply_stream::frames::attempt(frames, chosen, outgoing, &args)).await
            } else {
                Box::pin(frame_attempt::attempt(frames, chosen, outgoing, &args)).await
            };
            if let Some(reply) = reply {
                return reply;
            }
        }
        match outgoing.args_in(Codec::Json) {
            Ok(args) => http_attempt::attempt(&self.http, outgoing, &args, tried).await,
            Err(error) => error.into(),
        }
    }

    /// The first attempt of a call of this function, and a second one at another replica if the first is slow.
    async fn hedged(
        &self,
        outgoing: &OutgoingCall,
        method: &'static Method,
        tried: &TriedReplicas,
        attempts: &mut Attempts,
    ) -> Reply {
        let began = Instant::now();
        let reply = match self.hedging.began(method) {
            Some(delay) => self.hedged_after(delay, outgoing, tried, attempts).await,
            None => self.attempt(outgoing, tried).await,
        };
        if is_answer(&reply) {
            let now = Instant::now();
            self.hedging.answered(method, now.saturating_duration_since(began), now);
        }
        reply
    }

    async fn hedged_after(
        &self,
        delay: Duration,
        outgoing: &OutgoingCall,
        tried: &TriedReplicas,
        attempts: &mut Attempts,
    ) -> Reply {
        let by_frames = self.codec_by_frames().is_some();
        let mut first = pin!(self.attempt(outgoing, tried));
        if let Some(done) = before(later(Instant::now(), delay), first.as_mut()).await {
            return done;
        }
        let other = by_frames.then(|| self.choose_another(outgoing, tried)).flatten();
        // A client that counts no replicas has only one.
        let has_another = if by_frames { other.is_some() } else { !tried.all().is_empty() };
        if !has_another || !self.hedging.withdraw() {
            // Nothing is sent there, so it does not count there.
            drop(other);
            return first.await;
        }
        let again = outgoing.beside(attempts.hedged());
        self.counters.function(&outgoing.name, outgoing.method).counters().hedged();
        tracing::debug!("sending `{}` to a second replica after {delay:?}", again.name);
        record_hedge(attempts.number());
        let mut second = pin!(self.attempt_beside(other, &again, tried));
        let (mut pair, mut first_ended, mut second_ended) = (AttemptPair::Both, false, false);
        let end = poll_fn(|cx| {
            if !first_ended && let Poll::Ready(done) = first.as_mut().poll(cx) {
                first_ended = true;
                let is_answer = is_answer(&done);
                if let Some(end) = pair.ended(done, is_answer) {
                    return Poll::Ready(end);
                }
            }
            if !second_ended && let Poll::Ready(done) = second.as_mut().poll(cx) {
                second_ended = true;
                let is_answer = done.as_ref().is_some_and(is_answer);
                let end = match done {
                    Some(done) => pair.ended(done, is_answer),
                    None => pair.unsent(),
                };
                if let Some(end) = end {
                    return Poll::Ready(end);
                }
            }
            Poll::Pending
        });
        match end.await {
            PairEnd::One(done) => done,
            PairEnd::BothFailed(first, last) => {
                if let Err(Failure::Rpc(error)) = first.result {
                    attempts.failed_beside_another(error);
                }
                last
            }
        }
    }

    /// A connection of frames to a replica that the call was not sent to.
    fn choose_another(&self, outgoing: &OutgoingCall, tried: &TriedReplicas) -> Option<ChosenConnection> {
        let all = tried.all();
        if all.is_empty() {
            return None;
        }
        let chosen = self.choose(outgoing.wish(&all), Instant::now())?;
        let is_another = chosen.count.replica().is_some_and(|replica| !all.contains(&replica));
        is_another.then_some(chosen)
    }

    /// An attempt beside another: by this connection of frames, or over HTTP. `None` if it was not sent.
    async fn attempt_beside(
        &self,
        chosen: Option<ChosenConnection>,
        outgoing: &OutgoingCall,
        tried: &TriedReplicas,
    ) -> Option<Reply> {
        let codec = chosen.as_ref().map_or(Codec::Json, |chosen| chosen.link.codec());
        let args = match outgoing.args_in(codec) {
            Ok(args) => args,
            Err(error) => return Some(error.into()),
        };
        match chosen {
            Some(chosen) => {
                tried.extend(chosen.count.replica());
                frame_attempt::attempt(self.frames(), chosen, outgoing, &args).await
            }
            None => {
                let reply = http_attempt::attempt_elsewhere(&self.http, outgoing, &args, tried).await;
                let is_unsent = matches!(&reply.result, Err(Failure::Rpc(error)) if error.is_unsent());
                (!is_unsent).then_some(reply)
            }
        }
    }

    /// The connection of frames that the next call of this runtime goes by, if there is one now.
    pub(super) fn choose(&self, wish: ReplicaWish<'_>, now: Instant) -> Option<ChosenConnection> {
        self.frames.as_ref()?.choose(&Handle::try_current().ok()?, wish, now)
    }

    /// The codec of this runtime's calls.
    pub(super) fn codec(&self) -> Codec {
        self.codec_by_frames().unwrap_or(Codec::Json)
    }

    /// The same, if calls go by frames now.
    fn codec_by_frames(&self) -> Option<Codec> {
        self.frames.as_ref()?.codec_now(Handle::try_current().ok()?.id())
    }

    /// The connections of a call that its stub sends by frames.
    pub(super) fn frames(&self) -> &FrameConnectionSet {
        match &self.frames {
            Some(frames) => frames,
            None => unreachable!("a call by frames goes by one of these connections"),
        }
    }

    /// Whether a call may be sent to this service, which may have refused others.
    #[inline]
    pub(super) fn admit(
        &self,
        name: &str,
        headers: &HeaderMap,
        method: Option<&Method>,
        now: Instant,
    ) -> Result<(), Error> {
        self.throttle.admit(name, || priority(headers, method), now, || self.budget.calls(), random_fraction)
    }

    /// A call was made.
    pub(super) fn deposit(&self) {
        self.budget.deposit(Instant::now);
    }
}

/// How important a call is, by what its caller knows.
fn priority(headers: &HeaderMap, method: Option<&Method>) -> Priority {
    Priority::said(headers).or(method.map(|method| method.priority)).unwrap_or_default()
}

/// Whether a call has its answer. A failure that another replica might not have is none.
fn is_answer(reply: &Reply) -> bool {
    replica_outcome(reply) == ReplicaOutcome::Answered
}

impl ExplainedClient for Service {
    fn explained(&self) -> String {
        let (timeout, source) = usual_timeout(self.limits());
        let settings =
            policy_settings(&Policy::new(timeout, false), source, None, "off".to_owned(), &PolicySources::default());
        let service = Some(Service::explained(self, None));
        Explanation { name: "calls without a policy".to_owned(), settings, refused: None, service }.to_string()
    }

    fn live(&self) -> LiveClient {
        self.count_opened();
        let by_frames = self.frames.iter().flat_map(|frames| frames.views(Instant::now())).collect::<Vec<_>>();
        let replica = |replica: ExplainedReplica| ShownReplica {
            address: replica.address.to_string(),
            state: replica.state.to_string(),
            in_flight: replica.in_flight,
            latency_us: replica.latency.map(|latency| u64::try_from(latency.as_micros()).unwrap_or(u64::MAX)),
        };
        LiveClient {
            counters: Arc::clone(&self.counters),
            waiting: by_frames.iter().map(|(link, _)| link.queued()).sum::<usize>() + self.http.waiting(),
            connections: by_frames.len() + self.http.open_count(),
            replicas: Service::explained(self, None).replicas.into_iter().map(replica).collect(),
        }
    }
}

impl Drop for Service {
    /// The last handle of a client is gone.
    fn drop(&mut self) {
        self.count_opened();
        if !self.frames.as_ref().is_some_and(|frames| frames.was_used()) {
            client_dropped(|| self.http.target.site(), self.http.uses());
        }
    }
}
