//! TLS, by rustls. [`ServerTls`] and [`ClientTls`] say what is wanted, [`TlsStream`] is a connection.
//!
//! Nothing here uses rustls' provider of the process: a program may have another one, or none.

mod certificate_names;
mod client_tls;
mod connector;
mod key_pair;
mod pem;
mod rejection;
mod rejection_log;
mod reload;
mod server_tls;
mod session_tickets;
mod stream;
mod verifiers;

pub use self::client_tls::ClientTls;
pub(crate) use self::connector::TlsConnector;
pub use self::pem::Pem;
pub use self::server_tls::ServerTls;
pub(crate) use self::stream::TlsStream;

use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;

/// How often files are compared with what is in use.
const LOOK: Duration = Duration::from_secs(5);

/// The cryptography that is used where the user names no other.
fn default_provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
