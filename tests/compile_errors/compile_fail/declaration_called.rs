//! A declaration has no body: only `on` calls it.

use byname::rpc;

#[rpc]
pub async fn add(a: i64, b: i64) -> i64;

#[rpc]
fn find(name: &str, after: Option<&str>) -> Result<u64, byname::Error>;

async fn sum() -> i64 {
    find("a", None).unwrap();
    add(1, 2).await
}

fn main() {}
