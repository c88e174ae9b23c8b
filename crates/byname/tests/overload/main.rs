//! More calls than a server can serve: which ones it serves, and what it says to the others.

mod function_limits;
#[path = "../harness/mod.rs"]
mod harness;
mod priorities;
mod queue_delay;
mod server_handle;
mod throttle;
