use byname::rpc;

#[rpc(priority = "high")]
pub async fn unknown() {}

#[rpc(priority = critical)]
pub async fn without_quotes() {}

#[rpc(priority)]
pub async fn without_a_value() {}

#[rpc(in_flight = 0)]
pub async fn none() {}

#[rpc(in_flight = "8")]
pub async fn in_quotes() {}

#[rpc(in_flight = 8u8)]
pub async fn with_a_type() {}

#[rpc(in_flight)]
pub async fn no_number() {}

#[rpc(priority = normal)]
pub async fn a_word() {}

#[rpc(priority = "batch")]
impl Counter {}

pub struct Counter;

fn main() {}
