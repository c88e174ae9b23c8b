//! Servers among other processes: restarts, unix sockets, real proxies, and networks that fail.

#[path = "../harness/mod.rs"]
mod harness;
mod network;
mod proxies;
mod restarts;
mod unix_sockets;
