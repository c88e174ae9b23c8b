//! byname's choice where replicas that fail get fewer calls by their score alone.

#[path = "byname_client.rs"]
mod byname_client;
#[path = "never_ejected.rs"]
mod ejection;
#[path = "../../../crates/byname/src/client/replica_choice.rs"]
mod replica_choice;
#[path = "../../../crates/byname/src/client/replica_load.rs"]
mod replica_load;

pub use byname_client::BynameClient;
