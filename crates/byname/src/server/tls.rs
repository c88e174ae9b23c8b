//! TLS for a server.

use super::Server;
use crate::transport::ServerTls;

impl Server {
    /// Serves over TLS: every connection must begin with it. A request that comes without is answered with a 400 that says
    /// so.
    ///
    /// ```no_run
    /// use byname::{Server, ServerTls, rpc};
    ///
    /// #[rpc(readonly)]
    /// async fn add(a: i64, b: i64) -> i64 { a + b }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), byname::Error> {
    /// let tls = ServerTls::files("cert.pem", "key.pem")?;
    /// Server::new().method::<add>().tls(tls).serve("0.0.0.0:8443").await
    /// # }
    /// ```
    ///
    /// It needs the feature `tls`.
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.tls = Some(tls);
        self
    }
}
