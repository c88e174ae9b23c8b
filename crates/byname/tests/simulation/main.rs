//! Services in virtual time, on a network that fails.

mod simulated_failures;
mod simulation;
