//! A type has one `impl` block with `#[rpc]`.

use byname::rpc;

pub struct Counter;

#[rpc]
impl Counter {
    pub async fn bump(&self) {}
}

#[rpc]
impl Counter {
    pub async fn get(&self) -> u8 {
        0
    }
}

fn main() {}
