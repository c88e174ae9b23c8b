//! What a program says of itself: its log, its spans, and what it explains.

mod access_log;
mod counters;
mod explain;
#[path = "../harness/mod.rs"]
mod harness;
mod kept_threads;
mod short_lived_clients;
mod spans;
mod trace_context;
