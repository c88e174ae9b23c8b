use byname::{Error, Server, rpc};

#[rpc(prefix = "users")]
pub trait Users {
    #[rpc(readonly)]
    async fn get(&self, id: u64) -> Result<u64, Error>;
}

pub struct Db;

#[rpc(prefix = "users")]
impl Users for Db {
    #[rpc(readonly)]
    async fn get(&self, #[rpc(default = 1)] id: u64) -> Result<u64, Error> {
        Ok(id)
    }
}

pub struct Declared;

#[rpc]
impl Users for Declared {
    async fn get(&self, id: u64) -> Result<u64, Error>;
}

fn main() {
    let _ = Server::new().inject(Db).inject(Declared);
}
