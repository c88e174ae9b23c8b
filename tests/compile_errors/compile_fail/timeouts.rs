use byname::rpc;

#[rpc(timeout = 50)]
pub async fn a() {}

#[rpc(timeout = 50ms)]
pub async fn b() {}

#[rpc(timeout = "50")]
pub async fn c() {}

#[rpc(timeout = "0s")]
pub async fn d() {}

#[rpc(timeout = "1.5s")]
pub async fn e() {}

#[rpc(timeout = "2 hours")]
pub async fn f() {}

#[rpc(timeout = "99999999999999999999s")]
pub async fn g() {}

fn main() {}
