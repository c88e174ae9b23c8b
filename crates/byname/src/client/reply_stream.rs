//! Attempts of calls that have a stream: up to the first item, and what follows it.

pub(super) mod frames;
pub(super) mod http;
