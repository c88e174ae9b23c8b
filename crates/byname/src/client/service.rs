//! The service that a client calls: [`Service`] chooses the way of each attempt, and repeats calls.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::frame_attempt;
use super::frame_connection::{FrameCallEnd, FrameConnection, Unsent};
use super::frame_connection_set::FrameConnectionSet;
use super::http_attempt;
use super::http_connections::HttpConnections;
use super::outgoing_call::OutgoingCall;
use super::reply_stream;
use super::retry::{AfterFailure, Attempts};
use super::retry_budget::RetryBudget;
use super::service_url::ServiceUrl;
use super::short_lived_clients::client_dropped;
use crate::codec::Codec;
use crate::context::Context;
use crate::deadline::{later, until};
use crate::limits_and_timeouts::Limits;
use crate::metadata;
use crate::outcome::Failure;
use crate::request::Reply;

/// Everything that clones of a client share.
pub(super) struct Service {
    http: Arc<HttpConnections>,
    /// Connections of frames, if the caller wants them.
    frames: Option<Arc<FrameConnectionSet>>,
    budget: RetryBudget,
}

impl Service {
    /// `frames` is the codec of frames, or nothing if all calls go over HTTP.
    pub(super) fn new(target: ServiceUrl, limits: Limits, frames: Option<Codec>, compress: bool) -> Self {
        let http = HttpConnections::new(target, limits, frames, compress);
        let frames = http.frames().cloned();
        Self { http: Arc::new(http), frames, budget: RetryBudget::new(Instant::now()) }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.http.limits
    }

    pub(super) fn url(&self) -> String {
        self.http.target.url()
    }

    /// Whether others can read what is sent.
    pub(super) fn is_exposed(&self) -> bool {
        self.http.target.is_exposed()
    }

    /// One call, sent as often as it may be. `first` is what its first attempt came to, if there was one.
    pub(super) async fn call(self: Arc<Self>, mut outgoing: OutgoingCall, mut first: Option<Reply>) -> Reply {
        self.deposit();
        let mut attempts = Attempts::new(outgoing.is_idempotent(), metadata::attempt(&outgoing.headers));
        loop {
            let done = match first.take() {
                Some(done) => done,
                None => self.attempt(&outgoing).await,
            };
            let error = match done.result {
                Err(Failure::Rpc(error)) => error,
                result => return Reply { result, ..done },
            };
            // At most once for each argument, and without a pause: the server is there and has answered.
            if outgoing.remove_unknown(&error) {
                tracing::debug!(rpc.method = %outgoing.name, "sending `{}` again without an argument: {error}", outgoing.name);
                continue;
            }
            if outgoing.replace_token(&error).await {
                tracing::debug!(rpc.method = %outgoing.name, "sending `{}` again with a new token: {error}", outgoing.name);
                continue;
            }
            let now = Instant::now();
            let left = outgoing.deadline.saturating_duration_since(now);
            let step = match outgoing.upload.is_taken() {
                true => AfterFailure::GiveUp,
                false => attempts.failed(&error, fastrand::f64(), left, || self.budget.withdraw(now)),
            };
            let error = match step {
                AfterFailure::Again(delay) => {
                    tracing::debug!(rpc.method = %outgoing.name, "sending `{}` again in {delay:?}: {error}", outgoing.name);
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
            return Reply { result: Err(attempts.conclude(error).into()), ..done };
        }
    }

    /// One attempt, by frames if there is a connection of frames, otherwise over HTTP.
    async fn attempt(&self, outgoing: &OutgoingCall) -> Reply {
        while let Some(frames) = &self.frames
            && let Some(link) = self.link()
        {
            let args = match outgoing.args_in(link.codec()) {
                Ok(args) => args,
                Err(error) => return error.into(),
            };
            let reply = if outgoing.has_streams() {
                reply_stream::frames::attempt(frames, &link, outgoing, &args).await
            } else {
                frame_attempt::attempt(frames, &link, outgoing, &args).await
            };
            if let Some(reply) = reply {
                return reply;
            }
        }
        match outgoing.args_in(Codec::Json) {
            Ok(args) => http_attempt::attempt(&self.http, outgoing, &args).await,
            Err(error) => error.into(),
        }
    }

    /// A connection of frames that takes calls of this runtime, if there is one now.
    pub(super) fn link(&self) -> Option<Arc<FrameConnection>> {
        self.frames.as_ref()?.get(Handle::try_current().ok()?.id())
    }

    /// What a call by frames came to that its stub sent by itself. `None` if it was not sent.
    pub(super) fn ended(
        &self,
        name: &str,
        allowed: Duration,
        link: &Arc<FrameConnection>,
        ended: Result<FrameCallEnd, Unsent>,
    ) -> Option<Reply> {
        let Some(frames) = &self.frames else {
            unreachable!("a call by frames goes by one of these connections");
        };
        frame_attempt::ended_reply(frames, link, name, allowed, ended)
    }

    /// A call was made.
    pub(super) fn deposit(&self) {
        self.budget.deposit(Instant::now);
    }
}

impl Drop for Service {
    /// The last handle of a client is gone.
    fn drop(&mut self) {
        if !self.frames.as_ref().is_some_and(|frames| frames.was_used()) {
            client_dropped(|| self.http.target.site(), self.http.uses());
        }
    }
}
