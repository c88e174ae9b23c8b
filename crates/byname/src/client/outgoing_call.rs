//! A call ready to go, its types erased: [`OutgoingCall`].

use std::borrow::Cow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use tokio::time::Instant;

use super::frame_connection::CallHead;
use super::renewed_token::{RenewedToken, is_refused};
use crate::arguments::{EncodedArguments, unknown_argument};
use crate::codec::Codec;
use crate::error::Error;
use crate::method::Method;
use crate::outcome::Items;

/// A call ready to go, its types erased.
pub(super) struct OutgoingCall {
    pub(super) name: Cow<'static, str>,
    pub(super) args: EncodedArguments,
    /// What its stub knows of it. `None` in a call by name.
    pub(super) method: Option<&'static Method>,
    pub(super) headers: HeaderMap,
    pub(super) deadline: Instant,
    /// The time until the deadline when the call began, for messages.
    pub(super) allowed: Duration,
    /// The caller's stream.
    pub(super) items: Mutex<Option<Items>>,
    /// An item of it was taken, so the same call can't be sent again.
    pub(super) is_spent: bool,
    pub(super) takes_stream: bool,
    /// Where the token in the headers came from. `None` if there is none, or if the caller has set it.
    pub(super) token: Option<Arc<RenewedToken>>,
}

/// When a call is to end, and how long that was when it began.
#[derive(Clone, Copy)]
pub(super) struct CallDeadline {
    pub(super) deadline: Instant,
    pub(super) allowed: Duration,
}

impl OutgoingCall {
    /// Converts the arguments to this codec.
    pub(super) fn put_in(&mut self, codec: Codec) -> Result<(), Error> {
        if self.args.codec != codec {
            self.args = self.args.clone().into_codec(codec)?;
        }
        Ok(())
    }

    /// It may be sent again when it is unknown whether it ran.
    pub(super) fn is_idempotent(&self) -> bool {
        self.method.is_some_and(|method| method.idempotent)
    }

    /// Removes the argument that the server doesn't know, if that is what it says and if the value is the caller's
    /// default: the call can be sent again as it is now.
    pub(super) fn remove_unknown(&mut self, error: &Error) -> bool {
        match (unknown_argument(error), self.method) {
            (Some(name), Some(method)) if !self.is_spent => self.args.remove_default(method, name),
            _ => false,
        }
    }

    /// Puts another token into the headers, if `error` refuses the one that is there, and if another one comes in time. No
    /// call does that twice.
    pub(super) async fn replace_token(&mut self, error: &Error) -> bool {
        if self.is_spent || !is_refused(error) {
            return false;
        }
        let Some(token) = self.token.take() else {
            return false;
        };
        let other = token.other_than(self.headers.get(AUTHORIZATION), self.deadline).await;
        other.is_some_and(|other| self.headers.insert(AUTHORIZATION, other).is_some())
    }

    /// Whether it has a stream in either direction.
    pub(super) fn has_streams(&mut self) -> bool {
        self.takes_stream || self.items.get_mut().is_ok_and(|items| items.is_some())
    }

    /// The caller's stream. An attempt that took no item puts it back.
    pub(super) fn take_items(&mut self) -> Option<Items> {
        let items = self.items.get_mut().ok()?.take();
        self.is_spent |= items.is_some();
        items
    }

    pub(super) fn put_items(&mut self, items: Option<Items>) {
        self.is_spent &= items.is_none();
        self.items = Mutex::new(items);
    }

    /// The name and the deadline.
    pub(super) fn asked(&self) -> CallHead<'_> {
        CallHead { name: &self.name, deadline: self.deadline }
    }
}
