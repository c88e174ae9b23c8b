use std::fmt::Debug;

use byname::{Error, rpc};

#[rpc]
pub trait Store<T> {
    async fn get(&self, id: u64) -> Result<T, Error>;
}

#[rpc]
pub unsafe trait Careful {
    async fn get(&self, id: u64) -> Result<u64, Error>;
}

#[rpc]
pub trait Shown: Send + Sync + Debug + 'static {
    async fn get(&self, id: u64) -> Result<u64, Error>;
}

#[rpc]
pub trait Copied
where
    Self: Clone,
{
    async fn get(&self, id: u64) -> Result<u64, Error>;
}

#[rpc]
pub trait Empty {}

#[rpc]
pub trait Typed {
    type Id;
    const FIRST: u64;
    async fn get(&self, id: u64) -> Result<u64, Error>;
}

fn main() {}
