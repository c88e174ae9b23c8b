use byname::{rpc, Streaming};
use futures_util::{Stream, stream};

#[rpc]
fn borrowed() -> impl Stream<Item = &'static str> {
    stream::empty()
}

#[rpc]
fn two(first: Streaming<u8>, second: Streaming<u8>) {
    let _ = (first, second);
}

#[rpc]
fn not_last(items: Streaming<u8>, other: u8) {
    let _ = (items, other);
}

#[rpc(blocking)]
fn blocks() -> impl Stream<Item = u8> {
    stream::empty()
}

#[rpc]
fn by_default(#[rpc(default = Streaming::from(vec![]))] items: Streaming<u8>) {
    let _ = items;
}

#[rpc]
fn lent(items: &mut Streaming<u8>) {
    let _ = items;
}

#[rpc]
trait Feed {
    fn plain(&self) -> impl Stream<Item = u8>;
    async fn later(&self) -> impl Stream<Item = Result<u8, byname::Error>>;
}

fn main() {}
