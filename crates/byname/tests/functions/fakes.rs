//! Replacements of a function in a test: fakes, and closures whose arguments have names.

use crate::harness::{Running, post, raw};
use byname::{CallError, Client, Code, Error, Executed, Fake, MethodError, Server, Streaming, rpc};
use futures_util::{Stream, StreamExt, stream};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Refusal {
    Negative(i64),
    Rpc(Error),
}

impl MethodError for Refusal {
    fn code(&self) -> Code {
        Code::OutOfRange
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal::Rpc(error)
    }
}

#[rpc(readonly)]
async fn add(a: i64, b: i64) -> i64 {
    a + b
}

type Result<T> = std::result::Result<T, Refusal>;

/// Declarations: the service is elsewhere.
mod elsewhere {
    use byname::{Streaming, rpc};

    use super::Refusal;

    #[rpc(name = "math.root", alias = "math.sqrt")]
    pub(super) async fn root(of: i64) -> Result<i64, Refusal>;

    #[rpc]
    pub(super) async fn find(word: &str, among: &[String], after: Option<&str>) -> Option<usize>;

    #[rpc]
    pub(super) fn countdown(from: u32) -> impl Stream<Item = u32>;

    #[rpc]
    pub(super) fn roots(of: Streaming<i64>) -> impl Stream<Item = Result<i64, Refusal>>;

    #[rpc]
    pub(super) async fn sum(seed: i64, numbers: Streaming<i64>) -> i64;
}
use elsewhere::{countdown, find, root, roots, sum};

/// What a fake must give as a service does: in process, encoded, and over a socket.
async fn ways(server: Server) -> (Running, Vec<Client>) {
    let local = Client::local(&server).unwrap();
    let running = Running::new(server).await;
    let clients = vec![local.clone(), local.encoded(true), running.client()];
    (running, clients)
}

#[tokio::test]
async fn a_fake_answers_for_a_function_and_for_a_declaration() {
    let server = Server::new()
        .inject(add::fake(|a, b| async move { a - b }))
        .inject(root::fake(|of| async move {
            match of {
                0.. => Ok(of.isqrt()),
                _ => Err(Refusal::Negative(of)),
            }
        }))
        .inject(find::fake(|word, among, after| async move {
            let after = after.map_or(0, |after| after.len());
            among.iter().skip(after).position(|other| *other == word)
        }));
    let (_running, clients) = ways(server).await;
    for client in &clients {
        assert_eq!(add::on(client, 5, 3).await.unwrap(), 2);
        assert_eq!(root::on(client, 49).await.unwrap(), 7);
        let error = root::on(client, -4).await.unwrap_err();
        assert!(matches!(error, CallError::Method(Refusal::Negative(-4))), "{error:?}");
        let words = ["a".to_owned(), "b".to_owned()];
        assert_eq!(find::on(client, "b", &words, None).await.unwrap(), Some(1));
        assert_eq!(find::on(client, "b", &words, Some("x")).await.unwrap(), Some(0));
    }
    assert_eq!(add(5, 3).await, 8, "the function is untouched");
}

#[tokio::test]
async fn a_fake_has_all_that_is_known_of_its_function() {
    let running = Running::new(Server::new().inject(root::fake(|of| async move { Ok(of) }))).await;
    assert_eq!(running.client().call::<i64>("math.sqrt", (4,)).await.unwrap(), 4, "by its alias");
    let refused = running.client().call::<i64>("math.root", ("x",)).await.unwrap_err();
    assert!(refused.to_string().contains("math.root(of: i64) -> Result<i64, Refusal>"), "{refused}");

    let running = Running::new(Server::new().inject(root::fake(|of| async move { Err(Refusal::Negative(of)) }))).await;
    let answer = raw(running.address, post("/rpc/math.root", "[1]")).await;
    assert_eq!(answer.json()["code"], "out_of_range", "{answer:?}");
}

#[tokio::test]
async fn a_fake_streams_both_ways() {
    let server = Server::new()
        .inject(countdown::fake(|from| stream::iter((1..=from).rev())))
        .inject(roots::fake(|of| {
            of.map(|of| match of.map_err(Refusal::from)? {
                of @ 0.. => Ok(of.isqrt()),
                of => Err(Refusal::Negative(of)),
            })
        }))
        .inject(sum::fake(|seed, mut numbers: Streaming<i64>| async move {
            let mut sum = seed;
            while let Some(number) = numbers.next().await {
                sum += number.unwrap();
            }
            sum
        }));
    let (_running, clients) = ways(server).await;
    for client in &clients {
        let items: Vec<_> = countdown::on(client, 3).map(|item| item.unwrap()).collect().await;
        assert_eq!(items, [3, 2, 1]);
        assert_eq!(sum::on(client, 10, (1..=3).collect()).await.unwrap(), 16);
        let items: Vec<_> = roots::on(client, Streaming::from(vec![49, -4])).collect().await;
        assert!(matches!(items[..], [Ok(7), Err(CallError::Method(Refusal::Negative(-4)))]), "{items:?}");
    }
}

#[tokio::test]
async fn a_panic_in_the_closure_of_a_fake_fails_the_call() {
    let server = Server::new().inject(add::fake(|_, _| {
        if true {
            panic!("a fake that fails");
        }
        async { 0 }
    }));
    let (_running, clients) = ways(server).await;
    for client in &clients {
        let error = add::on(client, 1, 2).await.unwrap_err();
        assert_eq!((error.code(), error.executed()), (Code::Internal, Executed::Yes), "{error}");
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct User {
    name: String,
}

#[rpc(prefix = "users")]
trait Users {
    #[rpc(readonly)]
    async fn get(&self, id: u64) -> Result<User>;
    async fn rename(&self, id: u64, name: &str) -> Result<()>;
    fn all(&self) -> impl Stream<Item = Result<User>>;
    /// A method may have the name of what the contract needs itself.
    async fn handlers(&self) -> Result<u8>;
}

async fn greet(users: &impl Users, id: u64) -> Result<String> {
    Ok(format!("Hello {}", users.get(id).await?.name))
}

#[tokio::test]
async fn one_method_of_a_contract_is_answered_and_the_others_are_unimplemented() {
    let get = UsersContract::get(|id| async move {
        match id {
            1 => Ok(User { name: "Ada".into() }),
            _ => Err(Refusal::Negative(0)),
        }
    });
    let (_running, clients) = ways(Server::new().inject(get)).await;
    for client in &clients {
        let users = UsersClient::on(client);
        assert_eq!(greet(&users, 1).await.unwrap(), "Hello Ada");
        assert_eq!(greet(&users, 2).await.unwrap_err(), Refusal::Negative(0));
        let Err(Refusal::Rpc(error)) = Users::rename(&users, 1, "Eve").await else { panic!("nothing renames") };
        assert_eq!((error.code(), error.executed()), (Code::Unimplemented, Executed::No), "{error}");
    }
}

#[tokio::test]
async fn several_methods_of_a_contract_under_a_prefix() {
    let server = Server::new()
        .inject_as("eu", UsersContract::get(|_| async { Ok(User { name: "Ada".into() }) }))
        .inject_as("eu", UsersContract::handlers(|| async { Ok(7) }))
        .inject_as("eu", UsersContract::all(|| stream::iter([Ok(User { name: "Ada".into() })])));
    let (_running, clients) = ways(server).await;
    for client in &clients {
        let users = UsersClient::on(&client.prefix("eu"));
        assert_eq!(greet(&users, 1).await.unwrap(), "Hello Ada");
        assert_eq!(users.handlers().await.unwrap(), 7);
        assert_eq!(users.all().map(|user| user.unwrap().name).collect::<Vec<_>>().await, ["Ada"]);
    }
}

/// A block like those of services; a type of this module has the name that a lazy expansion would take.
mod ledger {
    use byname::{Streaming, rpc};
    use futures_util::{Stream, stream};

    use super::Refusal;

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    pub(super) struct Fakes(pub(super) u8);

    pub(super) struct Ledger;

    #[rpc(prefix = "ledger", stub = RemoteLedger)]
    impl Ledger {
        pub(super) async fn book(&self, account: &str, amount: i64, note: Option<&str>) -> Result<i64, Refusal> {
            let _ = (account, note);
            Ok(amount)
        }

        #[rpc(readonly, alias = "ledger_entries")]
        pub(super) fn entries(&self, from: u32) -> impl Stream<Item = u32> {
            stream::iter([from])
        }

        pub(super) async fn sum(&self, numbers: Streaming<i64>) -> i64 {
            let _ = numbers;
            0
        }

        /// Names that what makes fakes could have for itself.
        pub(super) async fn fake(&self, of: Fakes) -> Fakes {
            of
        }

        pub(super) async fn default(&self) {}

        #[cfg(any())]
        pub(super) async fn absent(&self, of: Absent) {}

        pub(super) async fn not_faked(&self) {}
    }
}
use ledger::{Fakes, Ledger, RemoteLedger};

#[tokio::test]
async fn one_method_of_a_block_is_answered_and_the_others_are_unimplemented() {
    let fakes = Fake::of::<Ledger>();
    let server = Server::new()
        .inject(fakes.book(|account, amount, note| async move {
            match amount {
                0.. => Ok(amount + account.len() as i64 + note.map_or(0, |note| note.len() as i64)),
                _ => Err(Refusal::Negative(amount)),
            }
        }))
        .inject(fakes.entries(|from| stream::iter(from..from + 2)))
        .inject(fakes.sum(|mut numbers| async move {
            let mut sum = 0;
            while let Some(number) = numbers.next().await {
                sum += number.unwrap();
            }
            sum
        }))
        .inject(fakes.fake(|of| async move { Fakes(of.0 + 1) }))
        .inject(fakes.default(|| async {}));
    let (_running, clients) = ways(server).await;
    for client in &clients {
        let ledger: RemoteLedger = Ledger::on(client);
        assert_eq!(ledger.book("ada", 10, Some("x")).await.unwrap(), 14);
        let error = ledger.book("ada", -1, None).await.unwrap_err();
        assert!(matches!(error, CallError::Method(Refusal::Negative(-1))), "{error:?}");
        assert_eq!(ledger.entries(7).map(|item| item.unwrap()).collect::<Vec<_>>().await, [7, 8]);
        assert_eq!(ledger.sum((1..=3).collect()).await.unwrap(), 6);
        assert_eq!(ledger.fake(Fakes(1)).await.unwrap(), Fakes(2));
        ledger.default().await.unwrap();
        let error = ledger.not_faked().await.unwrap_err();
        assert_eq!((error.code(), error.executed()), (Code::Unimplemented, Executed::No), "{error}");
    }
}

/// What makes fakes is as visible as the methods, whatever the type is.
#[allow(unreachable_pub, reason = "what is public is the case here")]
pub mod visible {
    use super::*;

    /// Whose method is private.
    pub struct Counter;

    #[rpc]
    impl Counter {
        async fn bump(&self) -> u8 {
            1
        }
    }

    #[tokio::test]
    async fn a_private_method_of_a_public_type_is_faked() {
        let fake = Fake::of::<Counter>().bump(|| async { 2 });
        let client = Client::local(&Server::new().inject(fake)).unwrap();
        assert_eq!(Counter::on(&client).bump().await.unwrap(), 2);
        assert_eq!(Counter.bump().await, 1);
    }
}

#[tokio::test]
async fn a_fake_of_a_method_has_all_that_is_known_of_it() {
    let fake = Fake::of::<Ledger>().book(|_, amount, _| async move { Err(Refusal::Negative(amount)) });
    let running = Running::new(Server::new().inject_as("eu", fake)).await;
    let answer = raw(running.address, post("/rpc/eu.ledger.book", r#"{"amount":1,"account":"ada"}"#)).await;
    assert_eq!(answer.json()["code"], "out_of_range", "{answer:?}");
    let refused = running.client().call::<i64>("eu.ledger.book", ("ada", "x")).await.unwrap_err();
    assert!(
        refused.to_string().contains("ledger.book(account: String, amount: i64, note: Option<String>"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_stub_reaches_a_closure_whose_arguments_are_named() {
    let server = Server::new()
        .function(("add", ["a", "b"]), |a: i64, b: i64| async move {
            match a {
                0 => Ok(b),
                _ => Err(Error::new(Code::DataLoss, "the disk is gone")),
            }
        })
        .function((String::from("math.root"), ["of".to_owned()]), |of: i64| async move { of })
        .function(("nothing", [""; 0]), || async {});
    let (running, clients) = ways(server).await;
    for client in &clients {
        assert_eq!(add::on(client, 0, 3).await.unwrap(), 3);
        let error = add::on(client, 1, 3).await.unwrap_err();
        assert_eq!((error.code(), error.message()), (Code::DataLoss, "the disk is gone"));
        assert_eq!(root::on(client, 5).await.unwrap(), 5);
        client.call::<()>("nothing", ()).await.unwrap();
    }
    let answer = raw(running.address, post("/rpc/add", r#"{"b":7,"a":0}"#)).await;
    assert_eq!(answer.json(), 7, "{answer:?}");
    let answer = raw(running.address, post("/rpc/add", r#"{"a":1,"c":2}"#)).await;
    assert!(answer.json()["detail"].as_str().unwrap().contains("the signature is `add(a: i64, b: i64)"), "{answer:?}");
}

#[test]
fn two_arguments_of_one_name_are_an_error_at_the_start() {
    let server = Server::new().function(("add", ["a", "a"]), |a: i64, b: i64| async move { a + b });
    let error = Client::local(&server).expect_err("a name that means two things");
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().starts_with("two arguments of `add` are named `a`: "), "{error}");
    assert!(error.message().contains("tests/functions/fakes.rs"), "{error}");
}
