use byname::rpc;

#[rpc(name = "user get")]
pub async fn a() {}

#[rpc(name = "")]
pub async fn b() {}

#[rpc(name = "users..get")]
pub async fn c() {}

#[rpc(name = "2nd")]
pub async fn d() {}

#[rpc(name = "rpc.discover")]
pub async fn e() {}

#[rpc(alias = "añadir")]
pub async fn f() {}

#[rpc]
pub async fn añadir() {}

#[rpc(
    name = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
)]
pub async fn g() {}

pub struct Counter;

#[rpc(prefix = "rpc")]
impl Counter {
    pub async fn bump(&self) {}
}

fn main() {}
