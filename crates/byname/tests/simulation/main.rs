//! Services in virtual time, on a network that fails.

mod reported_failures;
mod simulated_failures;
mod simulation;
