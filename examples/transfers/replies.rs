//! The replies of calls with a key, in the database of the bank.

use std::sync::Arc;

use byname::{IdempotencyKey, KeyClaim, KeyStore, KeyStoreFuture, StoredReply};
use rusqlite::{Connection, OptionalExtension};
use tokio::task::spawn_blocking;

use crate::crash_points;
use crate::database::Database;

pub struct Replies {
    database: Arc<Database>,
}

impl Replies {
    pub fn new(database: Arc<Database>) -> Self {
        Self { database }
    }
}

impl KeyStore for Replies {
    fn claim<'a>(&'a self, key: &'a IdempotencyKey) -> KeyStoreFuture<'a, KeyClaim> {
        let (database, key) = (Arc::clone(&self.database), key.clone());
        Box::pin(async move {
            crash_points::reach("before_claim");
            let reply = spawn_blocking(move || find(&database.connection(), &key)).await??;
            crash_points::reach("after_claim");
            Ok(match reply {
                Some(bytes) => KeyClaim::Reply(StoredReply::from_bytes(&bytes)?),
                None => KeyClaim::Run,
            })
        })
    }

    /// The reply of a transfer is there already. The reply of a function that failed is not.
    fn complete<'a>(&'a self, key: &'a IdempotencyKey, reply: &'a StoredReply) -> KeyStoreFuture<'a, ()> {
        let (database, key, reply) = (Arc::clone(&self.database), key.clone(), reply.clone());
        Box::pin(async move {
            crash_points::reach("before_complete");
            spawn_blocking(move || insert(&database.connection(), &key, &reply)).await??;
            crash_points::reach("after_complete");
            Ok(())
        })
    }
}

/// Stores a reply, in the transaction of the connection if it has one. Returns `false` if the key has a reply.
pub fn insert(connection: &Connection, key: &IdempotencyKey, reply: &StoredReply) -> rusqlite::Result<bool> {
    let insert = "INSERT INTO replies (key, reply) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
    Ok(connection.execute(insert, (key.as_str(), reply.to_bytes()))? == 1)
}

fn find(connection: &Connection, key: &IdempotencyKey) -> rusqlite::Result<Option<Vec<u8>>> {
    connection.query_one("SELECT reply FROM replies WHERE key = ?1", [key.as_str()], |row| row.get(0)).optional()
}
