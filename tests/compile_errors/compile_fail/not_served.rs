use byname::{Server, rpc};

pub struct Counter;

impl Counter {
    pub async fn bump(&self) {}
}

mod math {
    #[super::rpc]
    pub async fn add(a: i64, b: i64) -> i64;
}

fn main() {
    let _ = Server::new().method::<math::add>();
    let _ = Server::new().inject(Counter);
}
