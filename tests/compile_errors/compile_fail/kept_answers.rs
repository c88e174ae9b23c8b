use byname::{Streaming, rpc};
use futures_util::{Stream, stream};

#[rpc(max_age = "60s")]
pub async fn not_readonly() {}

#[rpc(max_age = "60s", public)]
pub async fn public_and_not_readonly() {}

#[rpc(readonly, public)]
pub async fn nobody_keeps_it() {}

#[rpc(readonly, max_age = 60)]
pub async fn without_a_unit() {}

#[rpc(readonly, max_age = "500ms")]
pub async fn of_milliseconds() {}

#[rpc(readonly, max_age = "1000000d")]
pub async fn for_ever() {}

#[rpc(readonly, max_age = "60s", public = true)]
pub async fn with_a_value() {}

#[rpc(readonly, max_age = "60s")]
pub fn streams() -> impl Stream<Item = u8> {
    stream::empty()
}

#[rpc(readonly, max_age = "60s")]
pub fn takes_a_stream(items: Streaming<u8>) {
    let _ = items;
}

#[rpc(max_age = "60s")]
impl Counter {}

pub struct Counter;

fn main() {}
