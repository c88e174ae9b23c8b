//! Who calls, who may call what, and what is sent in secret.

mod access_rules;
mod behind_proxies;
#[cfg(feature = "tls")]
mod client_certificates;
mod credentials;
#[path = "../harness/mod.rs"]
mod harness;
#[cfg(feature = "tls")]
mod tls;
