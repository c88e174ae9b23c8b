//! Services in virtual time, on a network that fails.

mod keyed_calls;
mod reported_failures;
mod simulated_failures;
mod simulation;
