//! TLS for a client.

use super::ClientBuilder;
use crate::transport::ClientTls;

impl ClientBuilder {
    /// The TLS settings: roots, an identity, a name. The URL must say `https://` or `tls=`, which alone is enough for a server
    /// whose certificate the platform trusts. For a `file://`, which says neither, the settings are enough.
    ///
    /// ```no_run
    /// use byname::{Client, ClientTls};
    ///
    /// # fn main() -> Result<(), byname::Error> {
    /// let tls = ClientTls::new().roots("ca.pem")?;
    /// let orders = Client::builder("https://orders.internal:8443").tls(tls).build()?;
    /// # Ok(()) }
    /// ```
    ///
    /// It needs the feature `tls`.
    pub fn tls(mut self, tls: ClientTls) -> Self {
        self.tls = Some(tls);
        self
    }
}
