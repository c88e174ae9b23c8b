use std::fmt;
use std::rc::Rc;

use byname::{Error, Server, rpc};

#[rpc]
pub trait Users {
    async fn get(&self, id: u64) -> Result<u64, Error>;
}

#[rpc]
pub trait Orders {
    async fn place(&self, id: u64) -> Result<u64, Error>;
}

pub struct Db;

#[rpc]
impl Users for Db {
    async fn get(&self, id: u64) -> Result<u64, Error> {
        let shared = Rc::new(id);
        pause().await;
        Ok(*shared)
    }
}

#[rpc]
impl Orders for Db {
    async fn place(&self, id: u64) -> Result<u64, Error> {
        Ok(id)
    }
}

pub struct Other;

#[rpc]
impl fmt::Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("other")
    }
}

async fn pause() {}

fn main() {
    let _ = Server::new().contract::<UsersContract, _>(Other);
    let _ = Server::new().contract::<UsersContract, _>(std::sync::Arc::new(Other));
    let _ = Server::new().contract::<Other, _>(Db);
}
