use byname::rpc;

pub struct Counter;

pub struct CounterClient;

#[rpc]
impl Counter {
    pub async fn bump(&self, by: i64) -> i64 {
        by
    }
}

fn main() {}
