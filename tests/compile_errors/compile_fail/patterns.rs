use byname::rpc;

#[rpc]
pub async fn sum((a, b): (i64, i64)) -> i64 {
    a + b
}

#[rpc]
pub async fn ignore(_: i64) {}

fn main() {}
