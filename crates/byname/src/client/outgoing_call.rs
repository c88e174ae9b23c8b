//! A call ready to go, its types erased: [`OutgoingCall`].

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use tokio::time::Instant;

use super::affinity::{Affinity, PinnedServer, ReplicaWish};
use super::frame_connection::CallHead;
use super::policy::Policy;
use super::renewed_token::{RenewedToken, is_refused};
use super::replica_choice::ReplicaId;
use super::retry::Repetition;
use super::tried_replicas::AttemptedServer;
use crate::arguments::{EncodedArguments, unknown_argument};
use crate::codec::Codec;
use crate::error::Error;
use crate::idempotency_key::has_key;
use crate::metadata;
use crate::method::Method;
use crate::outcome::Items;
use crate::wire::headers::{self, KeySharing};

/// A call ready to go, its types erased. An attempt does not change it, so that attempts can follow each other, or run beside
/// each other.
pub(super) struct OutgoingCall {
    pub(super) name: Cow<'static, str>,
    pub(super) args: EncodedArguments,
    /// What its stub knows of it. `None` in a call by name.
    pub(super) method: Option<&'static Method>,
    pub(super) policy: Policy,
    pub(super) affinity: Option<Affinity>,
    /// Where an attempt at this call, which has a key, may have run.
    pub(super) pinned: Option<PinnedServer>,
    pub(super) headers: HeaderMap,
    pub(super) deadline: Instant,
    /// The time until the deadline when the call began, for messages.
    pub(super) allowed: Duration,
    pub(super) upload: CallUpload,
    pub(super) takes_stream: bool,
    /// Where the token in the headers came from. `None` if there is none, or if the caller has set it.
    pub(super) token: Option<Arc<RenewedToken>>,
}

/// The caller's stream. One attempt at a time has it, and puts it back if it took no item.
pub(super) struct CallUpload(Mutex<UploadState>);

enum UploadState {
    /// The call has no stream of its own.
    Without,
    Untouched(Items),
    /// An attempt has it, or has taken an item of it: the call can't be sent again.
    Taken,
}

/// When a call is to end, and how long that was when it began.
#[derive(Clone, Copy)]
pub(super) struct CallDeadline {
    pub(super) deadline: Instant,
    pub(super) allowed: Duration,
}

impl OutgoingCall {
    /// The arguments in this codec.
    pub(super) fn args_in(&self, codec: Codec) -> Result<Cow<'_, EncodedArguments>, Error> {
        if self.args.codec == codec {
            return Ok(Cow::Borrowed(&self.args));
        }
        self.args.clone().into_codec(codec).map(Cow::Owned)
    }

    /// When it may be sent again although it may have run.
    pub(super) fn repetition(&self) -> Repetition {
        match self.method {
            _ if self.is_keyed() => Repetition::ByKey,
            Some(method) if method.idempotent => Repetition::Idempotent,
            _ => Repetition::IfNotRun,
        }
    }

    /// Whether it has a key with which it runs once.
    pub(super) fn is_keyed(&self) -> bool {
        has_key(&self.headers)
    }

    /// The call has a key and may have run at this server. Further attempts go there, unless all servers know the key. Returns
    /// whether that is possible.
    pub(super) fn pin(&mut self, server: Option<AttemptedServer>) -> bool {
        match server {
            _ if self.pinned.is_some() => true,
            Some(AttemptedServer { keys: Some(KeySharing::Shared), .. }) => true,
            Some(AttemptedServer { keys: Some(KeySharing::Own), instance: Some(instance), address }) => {
                self.headers.insert(headers::INSTANCE, instance.to_header());
                self.pinned = Some(PinnedServer { instance, address });
                true
            }
            _ => false,
        }
    }

    /// What it wants of its replica, where it has failed at those that were `tried`.
    pub(super) fn wish<'a>(&'a self, tried: &'a [ReplicaId]) -> ReplicaWish<'a> {
        ReplicaWish { tried, affinity: self.affinity, pinned: self.pinned.as_ref(), only_elsewhere: false }
    }

    /// The function of a call that may be sent to a second replica beside the first.
    pub(super) fn hedged_method(&self) -> Option<&'static Method> {
        self.method.filter(|method| self.policy.hedge && method.readonly && !self.has_streams() && !self.is_keyed())
    }

    /// The same call for the attempt of this number, which runs beside another. It has no streams.
    pub(super) fn beside(&self, attempt: u32) -> Self {
        let mut headers = self.headers.clone();
        headers.insert(metadata::ATTEMPT, attempt.into());
        Self {
            name: self.name.clone(),
            args: self.args.clone(),
            method: self.method,
            policy: self.policy.clone(),
            affinity: self.affinity,
            pinned: self.pinned.clone(),
            headers,
            deadline: self.deadline,
            allowed: self.allowed,
            upload: CallUpload::new(None),
            takes_stream: false,
            token: self.token.clone(),
        }
    }

    /// Removes the argument that the server doesn't know, if that is what it says and if the value is the caller's
    /// default: the call can be sent again as it is now.
    pub(super) fn remove_unknown(&mut self, error: &Error) -> bool {
        match (unknown_argument(error), self.method) {
            (Some(name), Some(method)) if !self.upload.is_taken() => self.args.remove_default(method, name),
            _ => false,
        }
    }

    /// Puts another token into the headers, if `error` refuses the one that is there, and if another one comes in time. No
    /// call does that twice.
    pub(super) async fn replace_token(&mut self, error: &Error) -> bool {
        if self.upload.is_taken() || !is_refused(error) {
            return false;
        }
        let Some(token) = self.token.take() else {
            return false;
        };
        let other = token.other_than(self.headers.get(AUTHORIZATION), self.deadline).await;
        other.is_some_and(|other| self.headers.insert(AUTHORIZATION, other).is_some())
    }

    /// Whether it has a stream in either direction.
    pub(super) fn has_streams(&self) -> bool {
        self.takes_stream || matches!(&*self.upload.state(), UploadState::Untouched(_))
    }

    /// The name and the deadline.
    pub(super) fn head(&self) -> CallHead<'_> {
        CallHead { name: &self.name, method: self.method, deadline: self.deadline, began: None }
    }
}

impl CallUpload {
    pub(super) fn new(items: Option<Items>) -> Self {
        Self(Mutex::new(items.map_or(UploadState::Without, UploadState::Untouched)))
    }

    /// Whether the same call can't be sent again.
    pub(super) fn is_taken(&self) -> bool {
        matches!(&*self.state(), UploadState::Taken)
    }

    pub(super) fn take(&self) -> Option<Items> {
        let mut state = self.state();
        match std::mem::replace(&mut *state, UploadState::Taken) {
            UploadState::Untouched(items) => Some(items),
            other => {
                *state = other;
                None
            }
        }
    }

    /// Puts it back, if no item was taken.
    pub(super) fn put_back(&self, untouched: Option<Items>) {
        if let Some(items) = untouched {
            *self.state() = UploadState::Untouched(items);
        }
    }

    fn state(&self) -> MutexGuard<'_, UploadState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
