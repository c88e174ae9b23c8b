use byname::rpc;

pub struct Counter;

impl Counter {
    #[rpc]
    pub async fn add(a: i64, b: i64) -> i64 {
        a + b
    }
}

fn main() {
    let _ = Counter::add(1, 2);
}
