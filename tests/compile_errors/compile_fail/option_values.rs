use byname::rpc;

#[rpc(name = add)]
pub async fn a() {}

#[rpc(name)]
pub async fn b() {}

#[rpc(readonly = true)]
pub async fn c() {}

#[rpc(name("x"))]
pub async fn d() {}

#[rpc("x")]
pub async fn e() {}

#[rpc(name = )]
pub async fn f() {}

#[rpc(stub = "x")]
pub async fn g() {}

#[rpc(readonly, readonly)]
pub async fn h() {}

#[rpc(name = "x", name = "y")]
pub async fn i() {}

#[rpc]
pub async fn j(#[rpc(default, default = 1)] a: i64, #[rpc(default(1))] b: i64) {
    let _ = (a, b);
}

#[rpc]
pub async fn k(#[rpc] a: i64) {
    let _ = a;
}

#[rpc(readonly)]
#[rpc(name = "x")]
pub async fn l() {}

#[rpc(name = "x" alias = "y")]
pub async fn m() {}

pub struct Counter;

#[rpc]
#[rpc(prefix = "counter")]
impl Counter {
    pub async fn bump(&self) {}
}

fn main() {}
