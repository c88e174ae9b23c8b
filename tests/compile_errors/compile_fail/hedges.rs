use byname::{Streaming, rpc};
use futures_util::{Stream, stream};

#[rpc(hedge)]
pub async fn neither() {}

#[rpc(idempotent, hedge)]
pub async fn only_idempotent() {}

#[rpc(readonly, hedge = true)]
pub async fn with_a_value() {}

#[rpc(readonly, hedge)]
pub fn streams() -> impl Stream<Item = u8> {
    stream::empty()
}

#[rpc(readonly, hedge)]
pub fn takes_a_stream(items: Streaming<u8>) {
    let _ = items;
}

#[rpc(hedge)]
impl Counter {}

pub struct Counter;

fn main() {}
