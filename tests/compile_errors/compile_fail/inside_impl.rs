use byname::rpc;

pub struct Counter;

impl Counter {
    #[rpc]
    pub async fn bump(&self, by: i64) -> i64 {
        by
    }

    #[rpc]
    pub fn new() -> Self {
        Counter
    }
}

fn main() {
    let _ = Counter::new().bump(1);
}
