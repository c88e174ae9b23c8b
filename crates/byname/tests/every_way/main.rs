//! The same outcome over every way in.

#[path = "../harness/mod.rs"]
mod harness;
mod properties;
mod same_outcome_every_way;
mod scenarios;
