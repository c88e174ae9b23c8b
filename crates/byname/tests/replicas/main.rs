//! One service and several servers: where they are, which of them gets a call, and when a call is sent again.

mod behind_one_address;
mod discovery;
#[cfg(feature = "etcd")]
mod etcd;
#[path = "../harness/mod.rs"]
mod harness;
mod hedging;
mod idempotency_keys;
mod idle_edge;
mod load_and_instance;
mod policy;
mod replicas;
mod replicas_in_errors;
mod retries;
