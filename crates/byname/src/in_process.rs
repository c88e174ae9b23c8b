//! A client of a server in the same process: the one place where the two sides meet.

use std::sync::Arc;

use crate::client::Client;
use crate::error::Error;
use crate::server::Server;

impl Client {
    /// A client that runs what `server` serves in this process, without sockets: the same names, errors, limits and
    /// deadlines. For tests, and for services that live together until they are split.
    ///
    /// Typed stubs hand arguments and results over as they are; [`encoded`](Self::encoded) sends them through JSON as
    /// HTTP would. Calls by name always go through JSON.
    ///
    /// ```
    /// use byname::{rpc, Client, Server};
    ///
    /// #[rpc]
    /// async fn add(a: i64, b: i64) -> i64 { a + b }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), byname::Error> {
    /// let data = Client::local(&Server::new().method::<add>())?;
    /// assert_eq!(add::on(&data, 1, 2).await?, 3);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Two functions under one name, or a rule ([`Server::allow`]) that decides about no function.
    pub fn local(server: &Server) -> Result<Self, Error> {
        Ok(Self::in_process(Arc::new(server.dispatch(true)?)))
    }
}
