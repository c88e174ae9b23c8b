use byname::rpc;

#[rpc]
pub async fn same(a: i64) -> i64 {
    a
}

#[rpc]
pub async fn same(a: i64) -> i64 {
    a
}

fn main() {}
