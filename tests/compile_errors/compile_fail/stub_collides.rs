use byname::rpc;

mod add {}

#[rpc]
pub async fn add(a: i64, b: i64) -> i64 {
    a + b
}

fn main() {}
