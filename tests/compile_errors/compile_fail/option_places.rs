use byname::rpc;

#[rpc(prefix = "math")]
pub async fn a() {}

#[rpc(default = 1)]
pub async fn b(a: i64) {
    let _ = a;
}

#[rpc]
pub async fn c(#[rpc(name = "x")] a: i64) {
    let _ = a;
}

pub struct Counter;

#[rpc(name = "counter", readonly)]
impl Counter {
    #[rpc(stub = bump_rpc)]
    pub async fn bump(&self) {}

    #[rpc]
    pub async fn total(&self) {}
}

fn main() {}
