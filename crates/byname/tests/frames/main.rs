//! Many calls on one connection, and streams by every way.

mod batches;
mod client_frames;
mod frames;
mod frames_in_pieces;
#[path = "../harness/mod.rs"]
mod harness;
mod large_bytes;
#[cfg(feature = "schema")]
mod shapes;
mod stream_wire;
mod streams;
