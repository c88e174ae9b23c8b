use std::cell::Cell;

use byname::{Error, Server, rpc};

#[rpc]
pub trait Counts {
    async fn next(&self) -> Result<u64, Error>;
}

pub struct Counter(Cell<u64>);

#[rpc]
impl Counts for Counter {
    async fn next(&self) -> Result<u64, Error> {
        Ok(self.0.replace(self.0.get() + 1))
    }
}

fn main() {
    let _ = Server::new().inject(Counter(Cell::new(0)));
}
