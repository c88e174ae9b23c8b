//! byname's choice as the client has it: its files, as they are.

#[path = "byname_client.rs"]
mod byname_client;
#[path = "../../../crates/byname/src/client/ejection.rs"]
mod ejection;
#[allow(dead_code, reason = "no replica leaves in the simulation, and all calls are given back")]
#[path = "../../../crates/byname/src/client/replica_choice.rs"]
mod replica_choice;
#[cfg_attr(not(test), expect(dead_code, reason = "no caller gives up in the simulation"))]
#[path = "../../../crates/byname/src/client/replica_load.rs"]
mod replica_load;

pub use byname_client::BynameClient;
