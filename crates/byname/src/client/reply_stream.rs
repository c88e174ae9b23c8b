//! Calls that have a stream, up to its first item, and what comes behind that.

mod frames;
mod http;
