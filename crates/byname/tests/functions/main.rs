//! `#[rpc]` and what it makes: shapes of functions, contracts, errors and defaults of their own, and what a function sees of
//! its call.

mod context;
mod contracts;
mod defaults;
mod expansion;
mod fakes;
#[path = "../harness/mod.rs"]
mod harness;
mod intercept;
mod internal;
#[cfg(feature = "schema")]
mod kinds_of_change;
mod macro_rules;
mod method_error;
#[cfg(feature = "schema")]
mod schema;
#[cfg(feature = "schema")]
mod stub_comparison;
mod undescribed;
