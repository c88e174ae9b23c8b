use byname::{Streaming, rpc};
use futures_util::{Stream, stream};

#[rpc(readonly, keyed)]
async fn looks() {}

#[rpc(keyed, idempotent)]
async fn puts() {}

#[rpc(keyed = true)]
async fn flag() {}

#[rpc(keyed)]
fn numbers() -> impl Stream<Item = u32> {
    stream::iter(0..3)
}

#[rpc(keyed)]
async fn sum(numbers: Streaming<u32>) {
    drop(numbers)
}

#[rpc(keyed)]
impl Bank {}

pub struct Bank;

fn main() {}
