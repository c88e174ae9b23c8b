use std::rc::Rc;

use byname::{Streaming, rpc};
use futures_util::{Stream, stream};

pub struct Opaque;

type Outcome = Result<u8, String>;

#[rpc]
fn opaque() -> impl Stream<Item = Opaque> {
    stream::empty()
}

#[rpc]
fn fails_opaquely() -> impl Stream<Item = Result<u8, Opaque>> {
    stream::empty()
}

#[rpc]
fn hidden() -> impl Stream<Item = Outcome> {
    stream::empty()
}

#[rpc]
fn takes_opaque(items: Streaming<Opaque>) {
    let _ = items;
}

#[rpc]
fn not_send() -> impl Stream<Item = u8> {
    let local = Rc::new(());
    stream::poll_fn(move |_| {
        let _ = &local;
        std::task::Poll::Ready(None)
    })
}

fn main() {}
