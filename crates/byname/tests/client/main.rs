//! The client: its requests, its connections, the runtimes that it works in, and what becomes of calls when servers fail.

mod blocking;
mod client;
mod client_failures;
mod client_pool;
mod client_runtimes;
#[path = "../harness/mod.rs"]
mod harness;
mod runtime_gone;
