//! Errors of calls with an idempotency key.

use byname::{
    Client, Error, IdempotencyKey, KeyClaim, KeyStore, KeyStoreFuture, Next, Request, Server, StoredReply, rpc,
};
use futures_util::stream;

use super::harness::{Running, post_with, raw};
use super::{Page, failed};

#[rpc(keyed)]
async fn pay(order: u64) -> Result<String, Error> {
    Ok(format!("{order}: paid"))
}

#[rpc]
fn numbers() -> impl futures_util::Stream<Item = u32> {
    stream::iter(0..3)
}

/// What a store does when it is asked.
#[derive(Clone, Copy)]
enum Store {
    Fails,
    RunsElsewhere,
}

impl KeyStore for Store {
    fn claim<'a>(&'a self, _: &'a IdempotencyKey) -> KeyStoreFuture<'a, KeyClaim> {
        Box::pin(async {
            match self {
                Store::Fails => Err("it is down".into()),
                Store::RunsElsewhere => Ok(KeyClaim::RunsElsewhere),
            }
        })
    }

    fn complete<'a>(&'a self, _: &'a IdempotencyKey, _: &'a StoredReply) -> KeyStoreFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}

pub(super) async fn keys(page: &mut Page) {
    page.section("Idempotency keys");
    let server = || Server::new().method::<pay>().method::<numbers>();
    let running = Running::new(server()).await;
    let with = async |headers: &str, body: &str| raw(running.address, post_with("/rpc/pay", headers, body)).await;
    page.add(
        "A function that runs once was called without a key",
        with("", "[7]").await,
        "Send the header. Clients of byname that know the function by its stub make a key for each call.",
    );
    page.add(
        "What was sent is no key",
        with("idempotency-key: order 7\r\n", "[7]").await,
        "Send a UUID, or the id of what the call is about.",
    );
    page.add(
        "A call has two keys",
        with("idempotency-key: a\r\nidempotency-key: b\r\n", "[7]").await,
        "A proxy may have added one. Let only the caller set the header.",
    );
    page.add(
        "The arguments of a call with a key can't be read",
        with("idempotency-key: k\r\n", "[7").await,
        "Send valid JSON.",
    );
    assert_eq!(with("idempotency-key: k\r\n", "[7]").await.status, 200);
    page.add(
        "A key was used for other arguments",
        with("idempotency-key: k\r\n", "[8]").await,
        "Send exactly the same arguments when you repeat a call. Two calls need two keys.",
    );
    page.add(
        "The first attempt went to another server",
        with("idempotency-key: other\r\nbyname-instance: 00000000000000ff\r\n", "[7]").await,
        "The server has restarted, or a proxy has chosen another. Use a `Server::key_store` that all servers share.",
    );
    page.add(
        "A call that streams has a key",
        raw(running.address, post_with("/rpc/numbers", "idempotency-key: k\r\n", "[]")).await,
        "Streams are not kept. Call without a key, or return the items in a `Vec`.",
    );
    let call = r#"{"jsonrpc":"2.0","method":"pay","params":[7],"id":1}"#;
    page.add(
        "A batch has a key",
        raw(running.address, post_with("/rpc", "idempotency-key: k\r\n", &format!("[{call}]"))).await,
        "Send each call that needs a key in a request of its own.",
    );

    let full = Running::new(server().limits(|limits| limits.key_bytes = 100)).await;
    page.add(
        "There is no room for another key",
        raw(full.address, post_with("/rpc/pay", "idempotency-key: k\r\n", "[7]")).await,
        "Try again after `retry_after`. Raise `Limits::key_bytes`, or lower `Limits::key_window`. A key takes about half a KiB, and its reply.",
    );
    let small = Running::new(server().limits(|limits| limits.key_bytes = 530)).await;
    let request = post_with("/rpc/pay", "idempotency-key: k\r\n", "[1000000000000000000]");
    assert_eq!(raw(small.address, &request).await.status, 200);
    page.add(
        "The reply of the first call was not kept",
        raw(small.address, &request).await,
        "Raise `Limits::key_bytes` so that replies fit, or return less.",
    );

    for (title, store, remedy) in [
        ("The store of the keys has failed", Store::Fails, "Repair the store. The log of the server has its error."),
        ("Another server runs the call", Store::RunsElsewhere, "Wait, and send the call again with the same key."),
    ] {
        let with_store = Running::new(server().key_store(store)).await;
        let client = with_store.client().policy("*", |policy| policy.attempts = 1);
        page.add(title, failed(pay::on(&client, 7).idempotency_key("k").await), remedy);
    }

    let sets_key = |mut request: Request, next: Next| async move {
        request.set_header("idempotency-key", "k").unwrap();
        next.run(request).await
    };
    let local = Client::local(&Server::new().function("add", |a: u8, b: u8| async move { a + b }).intercept(sets_key));
    page.add(
        "An interceptor has set a key on a call within the process",
        failed(add::on(&local.unwrap(), 1, 2).await),
        "Set the key where the call is made. Calls that have a key already are not concerned.",
    );
}

#[rpc]
async fn add(a: u8, b: u8) -> u8;
