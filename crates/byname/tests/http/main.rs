//! The server over HTTP: calls by path and by JSON-RPC, browsers, compression, and callers that close their half.

mod browser;
#[cfg(feature = "compression")]
mod compression;
mod console;
mod half_closed;
#[path = "../harness/mod.rs"]
mod harness;
mod http;
mod json_rpc;
