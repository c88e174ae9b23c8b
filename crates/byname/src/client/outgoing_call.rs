//! A call ready to go, its types erased: [`OutgoingCall`].

use std::borrow::Cow;
use std::sync::Mutex;
use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;

use super::frame_connection::CallHead;
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
