//! The database of the bank: a file of SQLite.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;

pub struct Database {
    connection: Mutex<Connection>,
}

impl Database {
    /// Opens the file. The first time it gets three accounts with 10,000 cents each.
    pub fn open(file: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(file)?;
        // A key may run twice in `transfers`, so that a test can see it. Replies are kept for a day: a caller that asks later
        // must look up what has happened.
        connection.execute_batch(
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             BEGIN IMMEDIATE;
             CREATE TABLE IF NOT EXISTS accounts (name TEXT PRIMARY KEY, cents INTEGER NOT NULL CHECK (cents >= 0));
             CREATE TABLE IF NOT EXISTS transfers (number INTEGER PRIMARY KEY, key TEXT NOT NULL, payer TEXT NOT NULL,
                 payee TEXT NOT NULL, cents INTEGER NOT NULL);
             CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply BLOB NOT NULL,
                 stored_at INTEGER NOT NULL DEFAULT (unixepoch()));
             INSERT OR IGNORE INTO accounts VALUES ('ada', 10000), ('bob', 10000), ('eve', 10000);
             DELETE FROM replies WHERE stored_at < unixepoch() - 86400;
             COMMIT;",
        )?;
        Ok(Self { connection: Mutex::new(connection) })
    }

    /// A function that panicked has left no half of a change: its transaction was rolled back.
    pub fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
