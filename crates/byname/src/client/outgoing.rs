//! A call ready to go, its types erased: [`Outgoing`].

use std::borrow::Cow;
use std::sync::Mutex;
use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;

use super::frames::Asked;
use crate::arguments::Encoded;
use crate::codec::Codec;
use crate::error::Error;
use crate::returned::Items;

/// A call ready to go, its types erased.
pub(super) struct Outgoing {
    pub(super) name: Cow<'static, str>,
    pub(super) args: Encoded,
    pub(super) idempotent: bool,
    pub(super) headers: HeaderMap,
    pub(super) deadline: Instant,
    /// What the deadline was when the call began, for words.
    pub(super) allowed: Duration,
    /// What it streams in.
    pub(super) items: Mutex<Option<Items>>,
    /// Some of that was taken: what is sent again would not be the same call.
    pub(super) is_spent: bool,
    pub(super) takes_stream: bool,
}

impl Outgoing {
    /// Sees to it that the arguments are in that codec.
    pub(super) fn put_in(&mut self, codec: Codec) -> Result<(), Error> {
        if self.args.codec != codec {
            self.args = self.args.clone().into_codec(codec)?;
        }
        Ok(())
    }

    /// Whether it has a stream in either direction.
    pub(super) fn has_streams(&mut self) -> bool {
        self.takes_stream || self.items.get_mut().is_ok_and(|items| items.is_some())
    }

    /// What it streams in; whoever took nothing of it puts it back.
    pub(super) fn take_items(&mut self) -> Option<Items> {
        let items = self.items.get_mut().ok()?.take();
        self.is_spent |= items.is_some();
        items
    }

    pub(super) fn put_items(&mut self, items: Option<Items>) {
        self.is_spent &= items.is_none();
        self.items = Mutex::new(items);
    }

    /// What is called, and until when.
    pub(super) fn asked(&self) -> Asked<'_> {
        Asked { name: &self.name, deadline: self.deadline }
    }
}
