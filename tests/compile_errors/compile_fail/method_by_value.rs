//! `method` takes the function's name as a type.

use byname::{Server, rpc};

#[rpc]
async fn add(a: i64, b: i64) -> i64 {
    a + b
}

fn main() {
    let _ = Server::new().method(add);
}
