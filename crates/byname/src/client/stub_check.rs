//! Compares stubs with a service: [`Client::check`].

use std::sync::Arc;

use byname_schema::ServiceSchema;

use super::Client;
use crate::error::{Code, Error};
use crate::method::{Method, StubMethods};
use crate::runtime;
use crate::service_schema;

impl Client {
    /// Compares stubs with the service: whether it has their functions, and whether their types fit. The stubs are those of
    /// [`stubs!`](crate::stubs). Both sides need the feature `schema`.
    ///
    /// ```
    /// # use byname::{Client, Server, rpc};
    /// #[rpc]
    /// async fn add(a: i64, b: i64) -> i64 { a + b }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), byname::Error> {
    /// let data = Client::local(&Server::new().method::<add>())?;
    /// data.check(byname::stubs![add]).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// `failed_precondition` if a call of a stub would fail, with each difference and a value that shows it; and if the service has no
    /// schemas. A hidden function is not compared. Those of [`schema`](Self::schema).
    pub async fn check(&self, stubs: &[StubMethods]) -> Result<(), Error> {
        let remote = self.schema().await?;
        let methods = stubs.iter().flat_map(|methods| methods()).collect();
        let own = described(&self.scope.prefix, methods).await?;
        if remote.note.is_some() {
            let why = "the stubs can't be compared, because the service has no schemas; build it with the feature `schema` of byname";
            return Err(Error::new(Code::FailedPrecondition, why));
        }
        let breaks = breaks(&own, &remote);
        if breaks.is_empty() {
            return Ok(());
        }
        let wrong: String = breaks.iter().map(|wrong| format!("\n  {wrong}")).collect();
        let why = format!("the service differs from what this client was built for:{wrong}");
        Err(Error::new(Code::FailedPrecondition, why))
    }
}

/// What stubs of these functions send and read, if their service has them under this prefix.
pub(super) async fn described(prefix: &str, methods: Vec<&'static Method>) -> Result<ServiceSchema, Error> {
    let methods = methods.into_iter().map(|method| Arc::new(method.clone())).collect();
    let described = runtime::run_blocking(move || service_schema::described(methods)).await;
    let mut own = described.map_err(|_| Error::new(Code::Internal, "the types of the stubs could not be described"))?;
    for function in &mut own.functions {
        function.name = format!("{prefix}{}", function.name);
        // A stub calls the name.
        function.aliases = Vec::new();
    }
    Ok(own)
}

/// What makes calls fail, each with its place.
pub(super) fn breaks(own: &ServiceSchema, remote: &ServiceSchema) -> Vec<String> {
    let differences = byname_schema::differences(own, remote);
    let breaks = differences.iter().filter_map(|difference| {
        let wrong = difference.breaks_old_clients()?;
        let space = if difference.place.is_empty() { "" } else { " " };
        Some(format!("{}{space}{}: {wrong}", difference.function, difference.place))
    });
    breaks.collect()
}
