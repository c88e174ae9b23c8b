use byname::{Error, rpc};

#[rpc]
pub trait Users {
    async fn get(&self, id: u64) -> Result<u64, Error>;
}

fn choose(_: Box<dyn Users>) {}

fn main() {}
