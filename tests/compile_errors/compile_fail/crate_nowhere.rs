use byname::{Client, Error, Server, rpc};

#[rpc(crate = nowhere::byname)]
pub async fn add(a: i64, b: i64) -> i64 {
    a + b
}

pub struct Counter;

#[rpc(crate = nowhere)]
impl Counter {
    pub fn get(&self) -> Result<i64, String> {
        Ok(1)
    }
}

#[rpc(crate = other)]
pub trait Users {
    async fn get(&self, id: u64) -> Result<u64, Error>;
}

fn main() {
    let _ = |client: &Client| drop(add::on(client, 1, 2));
    let _ = Server::new().method::<add>().inject(Counter);
}
