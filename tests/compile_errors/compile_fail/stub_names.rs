use byname::rpc;

#[rpc]
pub async fn bool() -> bool {
    true
}

#[rpc]
pub async fn std() {}

#[rpc(stub = u8)]
pub async fn byte() {}

fn main() {}
