//! The service: users in memory, at a free port or at the address it is given.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use byname::{Server, rpc};
use users::{User, UserError, Users};

#[derive(Default)]
struct Memory {
    names: Mutex<BTreeMap<u64, String>>,
}

#[rpc]
impl Users for Memory {
    async fn get(&self, id: u64) -> Result<User, UserError> {
        let name = self.names().get(&id).cloned().ok_or(UserError::NoSuchUser(id))?;
        Ok(User { id, name })
    }

    async fn add(&self, name: &str) -> Result<u64, UserError> {
        let mut names = self.names();
        if names.values().any(|taken| taken == name) {
            return Err(UserError::NameTaken(name.to_owned()));
        }
        let id = names.last_key_value().map_or(1, |(last, _)| last + 1);
        names.insert(id, name.to_owned());
        Ok(id)
    }

    async fn list(&self, limit: usize, after: Option<u64>) -> Result<Vec<User>, UserError> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let names = self.names();
        let users = names.range((from, Bound::Unbounded)).take(limit);
        Ok(users.map(|(&id, name)| User { id, name: name.clone() }).collect())
    }
}

impl Memory {
    fn names(&self) -> MutexGuard<'_, BTreeMap<u64, String>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[tokio::main]
async fn main() -> Result<(), byname::Error> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let bound = Server::new().inject(Memory::default()).serve(address.as_str()).bind().await?;
    println!("{}", bound.local_addr());
    bound.await
}
