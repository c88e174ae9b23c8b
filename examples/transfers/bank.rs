//! The functions of the bank.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use byname::{Context, Error, MethodError, StoredReply, rpc};
use rusqlite::TransactionBehavior;
use serde::{Deserialize, Serialize};

use crate::crash_points;
use crate::database::Database;
use crate::replies;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    pub number: i64,
    pub from: String,
    pub to: String,
    pub cents: u32,
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "number {}, {} cents from {} to {}", self.number, self.cents, self.from, self.to)
    }
}

#[derive(Debug, Serialize, Deserialize, MethodError)]
pub enum BankError {
    #[code(not_found)]
    NoSuchAccount(String),
    #[code(failed_precondition)]
    Overdrawn(String),
    #[code(invalid_argument)]
    WithoutKey,
    #[code(unavailable)]
    RanElsewhere,
    #[code(internal)]
    Database,
}

impl fmt::Display for BankError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchAccount(name) => write!(f, "there is no account {name:?}"),
            Self::Overdrawn(name) => write!(f, "the account {name:?} has less than that; transfer less"),
            Self::WithoutKey => write!(f, "a transfer needs a key; call it through a server, with an idempotency key"),
            Self::RanElsewhere => write!(f, "another process made this transfer just now; ask again with the same key"),
            Self::Database => write!(f, "the database failed; the log of the bank says why"),
        }
    }
}

impl std::error::Error for BankError {}

/// What SQLite says is for the log of the bank.
impl From<rusqlite::Error> for BankError {
    fn from(why: rusqlite::Error) -> Self {
        eprintln!("bank: {why}");
        // The database may be busy. Either the transaction was rolled back, or its reply is stored, so the call may run again.
        if let Some(key) = Context::current().as_ref().and_then(Context::idempotency_key) {
            key.release();
        }
        Self::Database
    }
}

impl From<Error> for BankError {
    fn from(why: Error) -> Self {
        eprintln!("bank: {why}");
        Self::Database
    }
}

pub struct Bank {
    database: Arc<Database>,
}

#[rpc]
impl Bank {
    /// Moves money. The work and its reply are in one transaction: after a crash both are there, or neither is.
    #[rpc(keyed, blocking)]
    pub fn transfer(&self, from: &str, to: &str, cents: u32) -> Result<Receipt, BankError> {
        let call = Context::current();
        let key = call.as_ref().and_then(Context::idempotency_key).ok_or(BankError::WithoutKey)?;
        let mut connection = self.database.connection();
        let work = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        crash_points::reach("before_work");

        let take = "UPDATE accounts SET cents = cents - ?2 WHERE name = ?1 AND cents >= ?2";
        if work.execute(take, (from, cents))? == 0 {
            let exists = work.prepare("SELECT 1 FROM accounts WHERE name = ?1")?.exists([from])?;
            // An error rolls the transaction back. The server gives the error to `KeyStore::complete` as the reply.
            return Err(if exists { BankError::Overdrawn(from.into()) } else { BankError::NoSuchAccount(from.into()) });
        }
        if work.execute("UPDATE accounts SET cents = cents + ?2 WHERE name = ?1", (to, cents))? == 0 {
            return Err(BankError::NoSuchAccount(to.into()));
        }
        let note = "INSERT INTO transfers (key, payer, payee, cents) VALUES (?1, ?2, ?3, ?4)";
        work.execute(note, (key.as_str(), from, to, cents))?;
        let receipt = Receipt { number: work.last_insert_rowid(), from: from.into(), to: to.into(), cents };
        crash_points::reach("after_work");

        // A server makes duplicates wait, but two processes may run the same key at once. The second one finds the reply of the
        // first here, and its whole transaction is rolled back. It does not return the receipt of the first, because that call
        // may have had other arguments. When the caller asks again, `KeyStore::claim` has the reply and the server compares them.
        if !replies::insert(&work, key, &StoredReply::success(key, &receipt)?)? {
            return Err(BankError::RanElsewhere);
        }
        crash_points::reach("before_commit");
        work.commit()?;
        crash_points::reach("after_commit");
        Ok(receipt)
    }

    /// Each account with its cents.
    #[rpc(readonly, blocking)]
    pub fn balances(&self) -> Result<BTreeMap<String, i64>, BankError> {
        let connection = self.database.connection();
        let mut balances = connection.prepare("SELECT name, cents FROM accounts")?;
        Ok(balances.query_map([], |row| row.try_into())?.collect::<Result<_, _>>()?)
    }
}

impl Bank {
    pub fn new(database: Arc<Database>) -> Self {
        Self { database }
    }
}
