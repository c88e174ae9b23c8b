//! Errors of decoding say where a stub and the service differ.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::harness::{Running, within};
use byname::{CallError, Client, Code, Error, Executed, Next, Request, Server, Transport, rpc};
use futures_util::{Stream, stream};
use serde::{Deserialize, Serialize};
use tokio::task::yield_now;

#[derive(Serialize, Deserialize)]
struct Order {
    article: u32,
    customer: String,
}

#[derive(Serialize, Deserialize)]
struct Receipt {
    number: String,
}

#[derive(Debug, Serialize, Deserialize)]
enum OrderError {
    SoldOut { until: String },
}

#[rpc]
async fn place(order: Order) -> Receipt {
    Receipt { number: format!("{}-{}", order.article, order.customer) }
}

#[rpc]
async fn cancel(number: u64) -> Result<u64, OrderError> {
    Err(OrderError::SoldOut { until: number.to_string() })
}

#[rpc]
fn follow(number: u64) -> impl Stream<Item = Receipt> {
    stream::iter([Receipt { number: number.to_string() }])
}

#[rpc(readonly)]
async fn even(number: u64) -> u64 {
    number
}

fn server() -> Server {
    Server::new().method::<place>().method::<cancel>().method::<follow>().method::<even>()
}

/// What a client of another version was built for.
mod other_version {
    use byname::rpc;
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    pub(super) struct Order {
        pub(super) article: u32,
    }

    #[derive(Serialize, Deserialize)]
    pub(super) struct FullOrder {
        pub(super) article: u32,
        pub(super) customer: String,
    }

    #[derive(Debug, Serialize, Deserialize)]
    pub(super) struct Receipt {
        number: u64,
    }

    #[derive(Debug, Serialize, Deserialize)]
    pub(super) enum OrderError {
        SoldOut { until: u64 },
    }

    #[rpc]
    pub(super) async fn place(order: Order) -> Receipt;

    #[rpc(stub = place_in_full, name = "place")]
    pub(super) async fn full(order: FullOrder) -> Receipt;

    #[rpc]
    pub(super) async fn cancel(number: u64) -> Result<u64, OrderError>;

    #[rpc]
    pub(super) fn follow(number: u64) -> impl Stream<Item = Receipt>;

    /// Refuses odd numbers, which no schema says.
    #[derive(Debug, Serialize, Deserialize)]
    #[serde(try_from = "u64")]
    pub(super) struct Even(u64);

    impl TryFrom<u64> for Even {
        type Error = String;

        fn try_from(number: u64) -> Result<Self, String> {
            if number.is_multiple_of(2) { Ok(Self(number)) } else { Err("it is odd".to_owned()) }
        }
    }

    #[rpc]
    pub(super) async fn even(number: u64) -> Even;
}

use other_version::FullOrder;

fn full() -> FullOrder {
    FullOrder { article: 7, customer: "Ada".to_owned() }
}

const RECEIPT: &str = "place returns.number: ";

#[tokio::test]
async fn an_unreadable_reply_says_where_the_two_sides_differ() {
    let running = Running::new(server()).await;
    let failed = other_version::place_in_full::on(&running.client(), full()).await.unwrap_err();
    assert_eq!((failed.code(), failed.executed()), (Code::Internal, Executed::Yes));
    assert_eq!(
        failed.message(),
        "the reply of `place` is not of type `functions::stub_comparison::other_version::Receipt`: `number`: invalid type: string \
         \"7-Ada\", expected u64; the service differs from what this client was built for: place returns.number: a string is \
         sent, and a whole number is expected [type-differs], for example {\"number\":\"text\"}"
    );
}

#[tokio::test]
async fn so_do_refused_arguments() {
    let running = Running::new(server()).await;
    let failed = other_version::place::on(&running.client(), other_version::Order { article: 7 }).await.unwrap_err();
    assert_eq!((failed.code(), failed.executed()), (Code::InvalidArgument, Executed::No));
    let (words, differs) = failed.message().split_once("; the service differs").expect("it was compared");
    assert!(words.contains("missing field `customer`"), "{words}");
    assert!(differs.contains(" place arguments.order.customer: "), "{differs}");
}

#[tokio::test]
async fn so_do_an_unreadable_error_of_the_function_and_an_unreadable_item() {
    let running = Running::new(server()).await;
    for transport in [Transport::Http, Transport::Frames] {
        let client = running.client_by(transport);
        let Err(CallError::Rpc(failed)) = other_version::cancel::on(&client, 1).await else {
            panic!("it is unreadable")
        };
        assert!(failed.message().contains(" cancel error.SoldOut.until: "), "{failed}");
        let mut items = other_version::follow::on(&client, 1);
        let failed = items.next().await.unwrap().unwrap_err();
        assert!(failed.message().contains(" follow returns.number: "), "{failed}");
        assert!(items.next().await.is_none());
    }
}

#[tokio::test]
async fn so_do_calls_by_frames_and_calls_that_block() {
    let running = Running::new(server()).await;
    let client = running.client_by(Transport::Frames);
    within(async {
        while !client.explain("place").await.service.unwrap().replicas.iter().any(|replica| replica.is_by_frames) {
            let failed = other_version::place_in_full::on(&client, full()).await.unwrap_err();
            assert!(failed.message().contains(RECEIPT), "{failed}");
            yield_now().await;
        }
    })
    .await;
    let failed = other_version::place_in_full::on(&client, full()).await.unwrap_err();
    assert!(failed.message().contains(RECEIPT), "{failed}");
    let failed = tokio::task::spawn_blocking(move || other_version::place_in_full::on(&client, full()).wait());
    assert!(failed.await.unwrap().unwrap_err().message().contains(RECEIPT));
}

/// Counts the questions for the schema.
fn counted(server: Server) -> (Server, Arc<AtomicUsize>) {
    let questions = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&questions);
    let server = server.intercept(move |request: Request, next: Next| {
        counted.fetch_add(usize::from(request.name() == "!schema"), Ordering::SeqCst);
        next.run(request)
    });
    (server, questions)
}

#[tokio::test]
async fn the_service_is_asked_once_while_calls_of_a_function_fail() {
    let (server, questions) = counted(server());
    let running = Running::new(server).await;
    let client = running.client();
    let calls = (0..20).map(|_| other_version::place_in_full::on(&client, full()));
    for failed in futures_util::future::join_all(calls).await {
        assert!(failed.unwrap_err().message().contains(RECEIPT));
    }
    assert_eq!(questions.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_value_that_is_refused_for_another_reason_keeps_the_words_of_serde() {
    let (server, questions) = counted(server());
    let running = Running::new(server).await;
    let failed = other_version::even::on(&running.client(), 3).await.unwrap_err();
    assert!(failed.message().contains("it is odd"), "{failed}");
    assert!(failed.message().ends_with("; do both sides agree on the signature?"), "{failed}");
    assert_eq!(questions.load(Ordering::SeqCst), 1);
}

/// An error in a call by name has no types to compare.
#[tokio::test]
async fn a_call_by_name_and_a_success_ask_nothing() {
    let (server, questions) = counted(server());
    let running = Running::new(server).await;
    let client = running.client();
    assert!(client.call::<u8>("place", (7,)).await.is_err());
    assert_eq!(even::on(&client, 3).await, Ok(3));
    assert_eq!(questions.load(Ordering::SeqCst), 0);
}

async fn says_nothing_more(client: &Client) {
    let failed = within(async { other_version::place_in_full::on(client, full()).await.unwrap_err() }).await;
    assert!(failed.message().ends_with("; do both sides agree on the signature?"), "{failed}");
}

#[tokio::test]
async fn without_an_answer_in_the_time_of_the_call_the_error_is_as_it_was() {
    let (silent, questions) = counted(server());
    let silent = silent.intercept(|request: Request, next: Next| async move {
        if request.name() == "!schema" {
            std::future::pending::<()>().await;
        }
        next.run(request).await
    });
    let running = Running::new(silent).await;
    let client = running.client().timeout(Duration::from_millis(300));
    for _ in 0..3 {
        says_nothing_more(&client).await;
    }
    assert_eq!(questions.load(Ordering::SeqCst), 1, "it is not asked again at once");
    let refused = server().intercept(|request: Request, next: Next| async move {
        if request.name() == "!schema" {
            return Error::new(Code::PermissionDenied, "no").into();
        }
        next.run(request).await
    });
    says_nothing_more(&Running::new(refused).await.client()).await;
}
