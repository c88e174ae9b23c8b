//! The addresses of one name: [`NameAddresses`].

use std::io;
use std::time::Duration;

use crate::address::Address;

/// What a lookup of one name has found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NameAddresses {
    /// Not empty.
    pub(super) addresses: Vec<Address>,
    /// When the name is looked up again.
    pub(super) fresh_for: Duration,
    /// Why there may be more addresses.
    pub(super) missing: Option<String>,
}

/// The error about a name without addresses. It begins with the words of the standard library.
#[cfg_attr(not(feature = "dns"), allow(dead_code, reason = "the standard library makes the error"))]
pub(super) fn not_found(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("failed to lookup address information: {why}"))
}
