//! `#[rpc]` in every shape that must work, seen through an in-process client.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use byname::__private::Declared;
use byname::{CallError, Client, Code, Executed, Instance, Method, MethodError, Server, rpc};
use serde::{Deserialize, Serialize};

/// Nothing of the expansion may warn in the strictest of crates.
mod strict {
    #![forbid(unsafe_code, non_camel_case_types)]
    #![deny(warnings, missing_docs, dead_code, unreachable_pub, clippy::pedantic)]
    #![allow(clippy::unused_async, reason = "the functions here have nothing to wait for")]

    use byname::rpc;

    /// Adds.
    #[rpc(readonly)]
    pub(crate) async fn add(a: i64, b: i64) -> i64 {
        a + b
    }

    /// Nobody calls its stub.
    #[rpc]
    pub(crate) fn unused() {}

    /// Adds elsewhere.
    #[rpc]
    pub(crate) async fn declared(a: i64, b: i64) -> i64;

    /// Holds a number.
    pub(crate) struct Held(pub(crate) i64);

    #[rpc(prefix = "held")]
    impl Held {
        /// What it holds.
        pub(crate) fn get(&self) -> i64 {
            self.0
        }
    }

    /// Borrows.
    #[rpc]
    pub(crate) fn borrows(text: Option<&str>, #[rpc(default)] numbers: Option<&[u8]>) -> usize {
        text.map_or(0, str::len) + numbers.map_or(0, <[u8]>::len)
    }

    /// Its names are those that the expansion could use itself.
    #[rpc]
    pub(crate) fn names(
        client: i64,
        method: i64,
        this: i64,
        value: i64,
        error: i64,
        names: i64,
        argument_0: i64,
    ) -> i64 {
        client + method + this + value + error + names + argument_0
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Point {
    x: i64,
    y: i64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Refusal {
    Negative(i64),
}

impl MethodError for Refusal {
    fn code(&self) -> Code {
        Code::OutOfRange
    }
}

mod users {
    #![allow(unreachable_pub, reason = "a library would say it so")]

    pub type Result<T> = std::result::Result<T, String>;
    pub type Maybe<T> = Option<T>;
}

#[tokio::test]
async fn functions_of_every_manner() {
    #[rpc]
    async fn later(a: i64) -> i64 {
        tokio::task::yield_now().await;
        a + 1
    }

    #[rpc]
    fn now(a: i64) -> i64 {
        a + 2
    }

    #[rpc(blocking)]
    fn slow(name: &str) -> String {
        format!("slow {name}")
    }

    let client = local(Server::new().method::<later>().method::<now>().method::<slow>());
    assert_eq!(later(1).await, 2);
    assert_eq!(later::on(&client, 1).await, Ok(2));
    assert_eq!(now::on(&client, 1).await, Ok(3));
    assert_eq!(slow::on(&client, "x").await, Ok("slow x".into()));
    assert_eq!(client.call::<i64>("later", (1,)).await.unwrap(), 2);
    assert!(slow::method_data().blocking);
}

#[tokio::test]
async fn functions_of_the_strictest_crate() {
    let client = local(Server::new().method::<strict::add>().method::<strict::names>().inject(strict::Held(7)));
    assert_eq!(strict::add::on(&client, 1, 2).await, Ok(3));
    assert_eq!(strict::names::on(&client, 1, 2, 3, 4, 5, 6, 7).await, Ok(28));
    assert_eq!(strict::Held::on(&client).get().await, Ok(7));
    assert_eq!(client.call::<i64>("held.get", ()).await.unwrap(), 7);
}

#[tokio::test]
async fn raw_identifiers_are_plain_on_the_wire() {
    #[rpc]
    async fn r#type(r#fn: i64, r#struct: &str) -> String {
        format!("{}{}", r#fn, r#struct)
    }

    let client = local(Server::new().method::<r#type>());
    assert_eq!(r#type::on(&client, 1, "a").await, Ok("1a".into()));
    let method = r#type::method_data();
    assert_eq!(method.name, "type");
    assert_eq!(method.params[0].name, "fn");
    assert_eq!(client.call::<String>("type", (1, "a")).await.unwrap(), "1a");
}

#[tokio::test]
async fn borrowed_arguments() {
    #[rpc]
    async fn all(
        text: &str,
        numbers: &[i64],
        point: &Point,
        maybe: &Option<i64>,
        path: &Path,
        tail: &[String],
    ) -> String {
        tokio::task::yield_now().await;
        format!("{text} {numbers:?} {} {maybe:?} {} {tail:?}", point.x, path.display())
    }

    let client = local(Server::new().method::<all>());
    let point = Point { x: 1, y: 2 };
    let text = String::from("a");
    let tail = ["c".to_owned()];
    let call = all::on(&client, &text, &[1, 2], &point, &None, Path::new("/b"), &tail);
    assert_eq!(call.await, Ok("a [1, 2] 1 None /b [\"c\"]".into()));
    let types: Vec<_> = all::method_data().params.iter().map(|param| param.ty.to_string()).collect();
    assert_eq!(types, ["String", "Vec<i64>", "Point", "Option<i64>", "Path", "Vec<String>"]);
    assert!(all::method_data().params[3].optional);
}

#[tokio::test]
async fn calls_of_owned_arguments_can_be_spawned() {
    let client = local(Server::new().method::<strict::add>());
    let call = tokio::spawn(strict::add::on(&client, 1, 2));
    assert_eq!(call.await.unwrap(), Ok(3));
}

#[tokio::test]
async fn arguments_that_may_be_left_out() {
    const START: i64 = 5;

    #[rpc]
    async fn find(
        word: &str,
        #[rpc(default = 10)] limit: u32,
        #[rpc(default = "en")] language: &str,
        #[rpc(default = START * 2)] start: i64,
        #[rpc(default = vec![(1, "x".to_owned())])] more: Vec<(u8, String)>,
        after: users::Maybe<i64>,
    ) -> String {
        format!("{word} {limit} {language} {start} {more:?} {after:?}")
    }

    let client = local(Server::new().method::<find>());
    let found: String = client.call("find", ("a",)).await.unwrap();
    assert_eq!(found, "a 10 en 10 [(1, \"x\")] None");
    let found = find::on(&client, "a", 3, "fr", 4, vec![], Some(6)).await;
    assert_eq!(found, Ok("a 3 fr 4 [] Some(6)".into()));
    let params = &find::method_data().params;
    assert!(!params[0].optional && params[5].optional, "aliases of `Option` included");
    assert_eq!(params[2].default.as_deref(), Some("\"en\""));
}

#[tokio::test]
async fn defaults_of_the_type() {
    #[rpc]
    async fn all(
        #[rpc(default)] number: i64,
        #[rpc(default)] text: String,
        #[rpc(default)] borrowed: &str,
        #[rpc(default)] numbers: &[u8],
        #[rpc(default)] counts: &std::collections::BTreeMap<String, u8>,
        #[rpc(default)] maybe: Option<u8>,
    ) -> String {
        format!("{number} {text:?} {borrowed:?} {numbers:?} {counts:?} {maybe:?}")
    }

    let client = local(Server::new().method::<all>());
    assert_eq!(client.call::<String>("all", ()).await.unwrap(), r#"0 "" "" [] {} None"#);
    let counts = [("a".to_owned(), 1)].into();
    let called = all::on(&client, 1, "b".into(), "c", &[2], &counts, Some(3)).await;
    assert_eq!(called.as_deref(), Ok(r#"1 "b" "c" [2] {"a": 1} Some(3)"#));
    assert_eq!(all::method_data().params[4].default.as_deref(), Some("{}"));
}

#[tokio::test]
async fn borrows_inside_an_option() {
    #[rpc]
    async fn all(
        text: Option<&str>,
        numbers: Option<&[i64]>,
        point: Option<&Point>,
        path: std::option::Option<&Path>,
        #[rpc(default = Some("x"))] other: Option<&str>,
    ) -> String {
        tokio::task::yield_now().await;
        format!("{text:?} {numbers:?} {:?} {path:?} {other:?}", point.map(|point| point.x))
    }

    struct Held;

    #[rpc]
    impl Held {
        fn length(&self, text: Option<&str>, numbers: &[u8]) -> usize {
            text.map_or(0, str::len) + numbers.len()
        }
    }

    let client = local(Server::new().method::<all>().inject(Held));
    assert_eq!(client.call::<String>("all", ()).await.unwrap(), r#"None None None None Some("x")"#);
    let point = Point { x: 1, y: 2 };
    let (numbers, text) = (vec![1, 2], String::from("a"));
    let called = all::on(&client, Some(&text), Some(&numbers), Some(&point), Some(Path::new("/b")), None).await;
    assert_eq!(called.as_deref(), Ok(r#"Some("a") Some([1, 2]) Some(1) Some("/b") None"#));
    let types: Vec<_> = all::method_data().params.iter().map(|param| param.ty.to_string()).collect();
    assert_eq!(types, ["Option<String>", "Option<Vec<i64>>", "Option<Point>", "Option<Path>", "Option<String>"]);
    assert!(all::method_data().params.iter().all(|param| param.optional));
    assert_eq!(Held::on(&client).length(Some("ab"), &[1]).await, Ok(3));
}

/// The same functions, declared without the `Result` that they return.
mod unaware {
    #[byname::rpc]
    pub async fn half(a: i64) -> i64;

    #[byname::rpc]
    pub async fn aliased(a: i64) -> i64;
}

#[tokio::test]
async fn results_by_any_path_that_ends_so() {
    #[rpc]
    async fn half(a: i64) -> Result<i64, Refusal> {
        if a < 0 { Err(Refusal::Negative(a)) } else { Ok(a / 2) }
    }

    #[rpc]
    fn aliased(a: i64) -> users::Result<i64> {
        if a < 0 { Err("negative".into()) } else { Ok(a) }
    }

    #[rpc]
    fn ours(a: i64) -> Result<i64, byname::Error> {
        Err(byname::Error::new(Code::DataLoss, format!("lost {a}")))
    }

    let client = local(Server::new().method::<half>().method::<aliased>().method::<ours>());
    assert_eq!(half::on(&client, 4).await.unwrap(), 2);
    assert!(matches!(half::on(&client, -4).await, Err(CallError::Method(Refusal::Negative(-4)))));
    let code = |result: Result<i64, byname::Error>| result.map_err(|error| error.code());
    assert_eq!(code(unaware::half::on(&client, -4).await), Err(Code::OutOfRange), "its error says so");
    assert_eq!(aliased::on(&client, 4).await.unwrap(), 4);
    assert!(matches!(aliased::on(&client, -4).await, Err(CallError::Method(text)) if text == "negative"));
    assert_eq!(code(unaware::aliased::on(&client, -4).await), Err(Code::Unknown));
    match ours::on(&client, 1).await {
        Err(CallError::Rpc(error)) => assert_eq!((error.code(), error.executed()), (Code::DataLoss, Executed::Yes)),
        other => panic!("{other:?}"),
    }
    assert!(half::method_data().fallible && aliased::method_data().fallible);
}

#[tokio::test]
async fn names_aliases_and_the_description() {
    /// Renamed.
    ///
    ///     indented
    /** And a block. */
    #[rpc(name = "users.get", alias = "get_user", alias = "fetch", idempotent, timeout = "50ms")]
    async fn renamed(id: u64, tags: std::collections::BTreeMap<String, Vec<u8>>) -> Option<(u64, usize)> {
        Some((id, tags.len()))
    }

    let client = local(Server::new().method::<renamed>());
    for name in ["users.get", "get_user", "fetch"] {
        let got: Option<(u64, usize)> =
            client.call(name, (1, std::collections::BTreeMap::<String, Vec<u8>>::new())).await.unwrap();
        assert_eq!(got, Some((1, 0)), "{name}");
    }
    assert_eq!(renamed::on(&client, 2, Default::default()).await, Ok(Some((2, 0))));
    let method = renamed::method_data();
    assert_eq!(method.doc, "Renamed.\n\n    indented\nAnd a block.");
    assert_eq!(method.params[1].ty, "std::collections::BTreeMap<String, Vec<u8>>");
    assert_eq!(method.returns, "Option<(u64, usize)>");
    assert_eq!(method.timeout, Some(Duration::from_millis(50)));
    assert!(method.idempotent && !method.readonly && !method.blocking && !method.fallible);
    assert_eq!(method.source.package, env!("CARGO_PKG_NAME"));
    assert!(method.source.file.ends_with("expansion.rs") && method.source.line > 1);
    assert!(strict::add::method_data().idempotent, "`readonly` is more than `idempotent`");
}

#[tokio::test]
async fn a_stub_of_another_name() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[allow(non_camel_case_types)]
    struct log {
        level: i64,
    }

    #[rpc(stub = log_rpc)]
    async fn log(level: i64) -> log {
        log { level }
    }

    let client = local(Server::new().method::<log_rpc>());
    assert_eq!(log_rpc::on(&client, 1).await, Ok(log { level: 1 }));
    assert_eq!(client.call::<log>("log", (1,)).await.unwrap(), log { level: 1 });
}

/// The typed stub of a function whose code is elsewhere.
mod declaration {
    #[byname::rpc]
    pub async fn add(a: i64, #[rpc(default = 1)] b: i64) -> i64;
}

#[tokio::test]
async fn a_declaration_calls_a_remote_function() {
    let client = local(Server::new().method::<strict::add>());
    assert_eq!(declaration::add::on(&client, 1, 2).await, Ok(3));
}

/// A counter.
#[derive(Default, Serialize, Deserialize)]
struct Counter {
    total: AtomicI64,
}

#[rpc]
impl Counter {
    /// Adds to it.
    async fn bump(&self, by: i64) -> Result<i64, Refusal> {
        tokio::task::yield_now().await;
        if by < 0 {
            return Err(Refusal::Negative(by));
        }
        Ok(self.total.fetch_add(by, Ordering::SeqCst) + by)
    }

    #[rpc(readonly, name = "total", alias = "sum")]
    fn get(&self) -> i64 {
        self.total.load(Ordering::SeqCst)
    }

    #[rpc(blocking)]
    fn slow(&self, name: &str, #[rpc(default = 2)] times: usize) -> String {
        name.repeat(times)
    }

    async fn borrowed(&self, this: &[i64]) -> usize {
        this.len()
    }

    async fn larger(&self, other: Self) -> Self {
        let larger = self.get().max(other.get());
        Counter { total: larger.into() }
    }

    #[cfg(any())]
    async fn never(&self, other: Nothing) {}
}

#[tokio::test]
async fn methods_of_an_instance() {
    let counter = Arc::new(Counter::default());
    let client = local(Server::new().inject(Arc::clone(&counter)));
    let remote = Counter::on(&client);
    assert_eq!(remote.bump(2).await.unwrap(), 2);
    assert!(matches!(remote.bump(-2).await, Err(CallError::Method(Refusal::Negative(-2)))));
    assert_eq!(remote.get().await, Ok(2));
    assert_eq!(client.call::<i64>("sum", ()).await.unwrap(), 2);
    assert_eq!(remote.slow("ab", 2).await, Ok("abab".into()));
    assert_eq!(client.call::<String>("slow", ("ab",)).await.unwrap(), "abab");
    assert_eq!(remote.borrowed(&[1, 2]).await, Ok(2));
    assert_eq!(counter.bump(1).await, Ok(3), "it stays an ordinary method");
    let larger = Counter::default();
    larger.bump(9).await.unwrap();
    assert_eq!(remote.larger(larger).await.map(|counter| counter.get()), Ok(9));
    assert_eq!(CounterClient::on(&client).clone().get().await, Ok(3));
    let names: Vec<_> = Counter::bind(counter).iter().map(|handler| format!("{handler:?}")).collect();
    assert_eq!(names.len(), 5, "{names:?}");
}

mod shop {
    #![allow(unreachable_pub, reason = "a library would say it so")]

    pub struct Basket(pub Vec<String>);

    #[byname::rpc(prefix = "shop.basket", stub = RemoteBasket)]
    impl self::Basket {
        pub fn size(&self) -> usize {
            self.0.len()
        }
    }
}

#[tokio::test]
async fn a_block_with_a_prefix_and_another_stub() {
    let client = local(Server::new().inject(shop::Basket(vec!["a".into()])));
    assert_eq!(shop::Basket::on(&client).size().await, Ok(1));
    assert_eq!(shop::RemoteBasket::on(&client).size().await, Ok(1));
    assert_eq!(client.call::<usize>("shop.basket.size", ()).await.unwrap(), 1);
}

#[tokio::test]
async fn only_uses_of_a_deprecated_function_are_warned_about() {
    #![deny(deprecated)]

    #[rpc]
    #[deprecated = "use `new`"]
    async fn old(a: i64) -> i64 {
        a
    }

    struct Old;

    #[rpc]
    impl Old {
        #[deprecated]
        fn get(&self) -> i64 {
            1
        }
    }

    let client = local(Server::new().method::<old>().inject(Old));
    #[expect(deprecated)]
    let call = old::on(&client, 1);
    assert_eq!(call.await, Ok(1));
    #[expect(deprecated)]
    let call = Old::on(&client).get();
    assert_eq!(call.await, Ok(1));
}

#[tokio::test]
async fn nothing_and_the_most_arguments() {
    #[rpc]
    async fn none() {}

    #[rpc]
    #[allow(clippy::too_many_arguments)]
    async fn most(
        a: u8,
        b: u8,
        c: u8,
        d: u8,
        e: u8,
        f: u8,
        g: u8,
        h: u8,
        i: u8,
        j: u8,
        k: u8,
        l: u8,
        m: u8,
        n: u8,
        o: u8,
        p: u8,
    ) -> u8 {
        a + b + c + d + e + f + g + h + i + j + k + l + m + n + o + p
    }

    let client = local(Server::new().method::<none>().method::<most>());
    assert_eq!(none::on(&client).await, Ok(()));
    assert_eq!(most::on(&client, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1).await, Ok(16));
}

#[tokio::test]
async fn functions_made_by_macros() {
    macro_rules! adder {
        ($name:ident, $ty:ty, $by:expr) => {
            #[rpc]
            async fn $name(a: $ty, #[rpc(default = $by)] b: $ty) -> $ty {
                a + b
            }
        };
    }
    adder!(add_small, u8, 3);

    let client = local(Server::new().method::<add_small>());
    assert_eq!(add_small::on(&client, 1, 2).await, Ok(3));
    assert_eq!(client.call::<u8>("add_small", (1,)).await.unwrap(), 4);
}

#[tokio::test]
async fn an_argument_may_be_mutable_in_the_body() {
    #[rpc]
    async fn count(mut a: i64, by: i64) -> i64 {
        a += by;
        a
    }

    let client = local(Server::new().method::<count>());
    assert_eq!(count::on(&client, 1, 2).await, Ok(3));
}

#[tokio::test]
async fn only_where_it_is_configured() {
    #[rpc]
    #[cfg(any())]
    async fn absent(a: Nothing) {}

    #[cfg(not(any()))]
    #[rpc]
    async fn present() -> bool {
        true
    }

    let client = local(Server::new().method::<present>());
    assert_eq!(present::on(&client).await, Ok(true));
}

fn local(server: Server) -> Client {
    Client::local(&server).expect("the server's names are in order")
}

/// What is known of a function.
trait MethodData {
    fn method_data() -> &'static Method;
}

impl<F: Declared> MethodData for F {
    fn method_data() -> &'static Method {
        F::method()
    }
}
