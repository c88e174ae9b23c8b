use byname::{Client, Server, rpc};

#[rpc(crate = "byname")]
pub async fn in_quotes(a: i64) -> i64 {
    a
}

#[rpc(crate)]
pub async fn nothing(a: i64) -> i64 {
    a
}

#[rpc(crate = byname::<u8>)]
pub async fn generic(a: i64) -> i64 {
    a
}

#[rpc(crate = byname, crate = byname)]
pub async fn twice(a: i64) -> i64 {
    a
}

#[rpc]
pub async fn argument(#[rpc(crate = byname)] a: i64) -> i64 {
    a
}

pub struct Counter;

#[rpc(crate = 3)]
impl Counter {
    pub fn get(&self) -> i64 {
        1
    }

    #[rpc(crate = byname)]
    pub fn total(&self) -> i64 {
        1
    }
}

mod other {
    pub(crate) use byname;
}

#[rpc(crate = other::byname)]
pub async fn other() -> i64 {
    1
}

fn main() {
    let _ = Server::new().method::<in_quotes>().method::<nothing>().method::<generic>().method::<twice>();
    let _ = Server::new().method::<argument>().inject(Counter);
    let _ = |client: &Client| drop((in_quotes::on(client, 1), Counter::on(client).get()));
}
