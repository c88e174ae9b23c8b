//! Input that is hostile, wrong, slow or too large. `docs/reliability.md` lists the verdicts.

mod expired_calls;
#[path = "../harness/mod.rs"]
mod harness;
mod hostile_calls;
mod hostile_frames;
mod hostile_http1;
mod hostile_http2;
mod limits;
mod slow;
