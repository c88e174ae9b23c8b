//! The contract: all that the service and its callers share.

use byname::{Error, rpc};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct User {
    pub id: u64,
    pub name: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum UserError {
    NoSuchUser(u64),
    NameTaken(String),
    /// The call failed.
    Rpc(Error),
}

impl From<Error> for UserError {
    fn from(error: Error) -> Self {
        UserError::Rpc(error)
    }
}

#[rpc(prefix = "users")]
pub trait Users {
    #[rpc(readonly)]
    async fn get(&self, id: u64) -> Result<User, UserError>;

    /// The number of the new user.
    async fn add(&self, name: &str) -> Result<u64, UserError>;

    /// In the order of their numbers, from `after` on.
    #[rpc(readonly)]
    async fn list(&self, #[rpc(default = 10)] limit: usize, after: Option<u64>) -> Result<Vec<User>, UserError>;
}
