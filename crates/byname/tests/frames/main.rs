//! Many calls on one connection, and streams by every way.

mod client_frames;
mod frames;
mod frames_in_pieces;
#[path = "../harness/mod.rs"]
mod harness;
mod stream_wire;
mod streams;
