//! Without the feature `schema` nothing is known of the types of a service, so no stub is compared with it.

use std::convert::Infallible;

use tokio::time::Instant;

use super::Client;
use crate::error::Error;
use crate::method::Method;
use crate::outcome::{Failure, Returned};

/// A call of a stub, which is never compared.
pub(super) struct ComparedCall(Infallible);

impl ComparedCall {
    pub(super) fn new(_: &Client, _: Option<&'static Method>, _: Instant) -> Option<Self> {
        None
    }

    pub(super) fn explicable(_: &Result<Returned, Failure>) -> Option<Error> {
        None
    }

    pub(super) async fn explained(self, _: Error) -> Error {
        match self.0 {}
    }
}
