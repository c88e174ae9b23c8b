//! What is known of one peer, one work and one number of calls in flight after one round.

use crate::load::Outcome;
use crate::work::Work;

pub struct Measurement {
    pub round: usize,
    pub peer: &'static str,
    pub work: Work,
    pub in_flight: usize,
    pub outcome: Outcome,
    /// The server's, for each call.
    pub server_allocations: f64,
    pub connections: u64,
    pub time_wait: u64,
}
