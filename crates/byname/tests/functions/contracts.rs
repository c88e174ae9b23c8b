//! Contracts: one trait for a service and its callers, over HTTP and within the process.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::harness::{Running, get, raw};
use byname::{CallError, Client, Code, Context, Error, Executed, MethodError, Server, rpc};
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct User {
    id: u64,
    name: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum UserError {
    NoSuchUser(u64),
    Rpc(Error),
}

impl MethodError for UserError {
    fn code(&self) -> Code {
        match self {
            UserError::NoSuchUser(_) => Code::NotFound,
            UserError::Rpc(error) => error.code(),
        }
    }
}

impl From<Error> for UserError {
    fn from(error: Error) -> Self {
        UserError::Rpc(error)
    }
}

type Result<T> = std::result::Result<T, UserError>;

/// Who there is.
#[rpc(prefix = "users")]
trait Users {
    /// One of them.
    #[rpc(readonly, alias = "by_id")]
    async fn get(&self, id: u64) -> std::result::Result<User, UserError>;

    /// Those whose names begin so.
    #[rpc(idempotent, name = "search", timeout = "5s")]
    async fn find(
        &self,
        word: &str,
        #[rpc(default = 2)] limit: usize,
        #[rpc(default = "a")] not: &str,
        after: Option<u64>,
    ) -> Result<Vec<User>>;

    async fn rename(&self, id: u64, name: String) -> Result<()>;

    /// What the service can know of the call.
    async fn whoami(&self) -> Result<(String, Option<String>)>;

    #[cfg(any())]
    async fn never(&self, other: Nothing) -> Result<()>;
}

/// A contract whose errors are byname's own, and whose client is called differently.
#[rpc(stub = RemoteHealth)]
trait Health {
    async fn check(&self, deep: bool) -> std::result::Result<u64, Error>;
}

#[derive(Default)]
struct Db {
    users: Mutex<BTreeMap<u64, User>>,
    checks: AtomicU64,
}

impl Db {
    fn new() -> Self {
        let user = |(id, name): (u64, &str)| (id, User { id, name: name.into() });
        let users = [(1, "Ada"), (2, "Adele"), (3, "Adam"), (4, "Bob")].map(user);
        Self { users: Mutex::new(users.into()), checks: AtomicU64::new(0) }
    }
}

#[rpc]
impl Users for Db {
    async fn get(&self, id: u64) -> Result<User> {
        tokio::task::yield_now().await;
        self.users.lock().unwrap().get(&id).cloned().ok_or(UserError::NoSuchUser(id))
    }

    async fn find(&self, word: &str, limit: usize, not: &str, after: Option<u64>) -> Result<Vec<User>> {
        tokio::task::yield_now().await;
        let users = self.users.lock().unwrap();
        let found = users.values().filter(|user| user.name.starts_with(word) && !user.name.ends_with(not));
        Ok(found.filter(|user| Some(user.id) > after).take(limit).cloned().collect())
    }

    async fn rename(&self, id: u64, name: String) -> Result<()> {
        let mut users = self.users.lock().unwrap();
        users.get_mut(&id).ok_or(UserError::NoSuchUser(id))?.name = name;
        Ok(())
    }

    async fn whoami(&self) -> Result<(String, Option<String>)> {
        let context = Context::current().ok_or(UserError::NoSuchUser(0))?;
        Ok((context.method().to_owned(), context.header("x-user").map(str::to_owned)))
    }
}

impl Health for Db {
    async fn check(&self, deep: bool) -> std::result::Result<u64, Error> {
        match deep {
            true => Err(Error::new(Code::DataLoss, "a page is gone")),
            false => Ok(self.checks.fetch_add(1, Ordering::SeqCst)),
        }
    }
}

/// Code that knows the contract only.
async fn longest(users: &impl Users, word: &str) -> Result<String> {
    let found = users.find(word, 10, "zz", None).await?;
    let mut longest = String::new();
    for user in found {
        let user = users.get(user.id).await?;
        if user.name.len() > longest.len() {
            longest = user.name;
        }
    }
    Ok(longest)
}

/// The same over every way to the same service.
async fn ways() -> (Running, Vec<(&'static str, UsersClient)>) {
    let db = Arc::new(Db::new());
    let running = Running::new(Server::new().inject(Arc::clone(&db))).await;
    let local = Client::local(&Server::new().inject(db)).unwrap();
    let ways = [("http", running.client()), ("encoded", local.encoded(true)), ("local", local)];
    let ways = ways.map(|(way, client)| (way, UsersClient::on(&client)));
    (running, ways.into())
}

#[tokio::test]
async fn generic_code_runs_here_and_there() {
    let (_running, ways) = ways().await;
    assert_eq!(longest(&Db::new(), "Ad").await.unwrap(), "Adele");
    for (way, users) in ways {
        assert_eq!(longest(&users, "Ad").await.unwrap(), "Adele", "{way}");
    }
}

#[tokio::test]
async fn generic_code_runs_in_tasks() {
    async fn in_tasks<U: Users>(users: Arc<U>) -> Vec<String> {
        let words = ["Ad", "B"].map(|word| {
            let users = Arc::clone(&users);
            tokio::spawn(async move { longest(&*users, word).await })
        });
        let mut found = Vec::new();
        for task in words {
            found.push(task.await.unwrap().unwrap());
        }
        let renamed = tokio::spawn(async move { users.rename(4, "Bobby".into()).await });
        renamed.await.unwrap().unwrap();
        found
    }

    fn in_a_task(users: impl Users + Clone) -> tokio::task::JoinHandle<Result<String>> {
        tokio::spawn(async move { longest(&users.clone(), "Ad").await })
    }

    assert_eq!(in_tasks(Arc::new(Db::new())).await, ["Adele", "Bob"]);
    let (_running, ways) = ways().await;
    for (way, users) in ways {
        assert_eq!(in_a_task(users.clone()).await.unwrap().unwrap(), "Adele", "{way}");
        users.rename(4, "Bob".into()).await.unwrap();
        assert_eq!(in_tasks(Arc::new(users.clone())).await, ["Adele", "Bob"], "{way}");
        assert_eq!(users.get(4).await.unwrap().name, "Bobby", "{way}");
    }
}

#[tokio::test]
async fn state_holds_one_type_wherever_the_service_is() {
    #[derive(Clone)]
    struct App {
        users: UsersClient,
    }

    impl App {
        async fn greet(self, id: u64) -> Result<String> {
            Ok(format!("Hello {}", Users::get(&self.users, id).await?.name))
        }
    }

    let (_running, ways) = ways().await;
    for (way, users) in ways {
        let app = App { users };
        assert_eq!(tokio::spawn(app.clone().greet(1)).await.unwrap().unwrap(), "Hello Ada", "{way}");
        assert_eq!(tokio::spawn(app.greet(9)).await.unwrap(), Err(UserError::NoSuchUser(9)), "{way}");
    }
}

#[tokio::test]
async fn the_client_has_stubs_with_both_errors() {
    let (_running, ways) = ways().await;
    for (way, users) in ways {
        let ada = users.get(1).timeout(Duration::from_secs(30)).await;
        assert_eq!(ada.unwrap().name, "Ada", "{way}");
        assert_eq!(users.get(9).await, Err(CallError::Method(UserError::NoSuchUser(9))), "{way}");
        let (who, metadata) = users.whoami().header("x-user", "ada").with_metadata().await.unwrap();
        assert_eq!(who, ("users.whoami".into(), Some("ada".into())), "{way}");
        drop(metadata);
        let late = users.get(1).timeout(Duration::ZERO).await;
        assert_eq!(late.unwrap_err().rpc().unwrap().code(), Code::DeadlineExceeded, "{way}");
        assert_eq!(Users::whoami(&users).await.unwrap(), ("users.whoami".into(), None), "{way}");
    }
}

#[tokio::test]
async fn a_failed_call_becomes_an_error_of_the_contract() {
    let away = Client::local(&Server::new().function("other", || async {})).unwrap();
    match Users::get(&UsersClient::on(&away), 1).await {
        Err(UserError::Rpc(error)) => {
            assert_eq!((error.code(), error.executed()), (Code::Unimplemented, Executed::No), "{error}");
        }
        other => panic!("{other:?}"),
    }

    let mut running = Running::new(Server::new().inject(Db::new())).await;
    let users = UsersClient::on(&running.client());
    assert_eq!(Users::get(&users, 1).await.unwrap().name, "Ada");
    running.stop();
    running.stopped().await.unwrap();
    match longest(&users, "Ad").await {
        Err(UserError::Rpc(error)) => assert_eq!(error.code(), Code::Unavailable, "{error}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn others_call_it_by_its_names() {
    let running = Running::new(Server::new().inject(Db::new())).await;
    let client = running.client();
    for name in ["users.get", "users.by_id"] {
        assert_eq!(client.call::<User>(name, (1,)).await.unwrap().name, "Ada", "{name}");
    }
    let found: Vec<User> = client.call("users.search", ("Ad",)).await.unwrap();
    assert_eq!(found.iter().map(|user| user.id).collect::<Vec<_>>(), [2, 3], "not Ada, by default");
    let found: Vec<User> = client.call("users.search", json!({"word": "Ad", "not": "m", "after": 1})).await.unwrap();
    assert_eq!(found.iter().map(|user| user.id).collect::<Vec<_>>(), [2]);
    let error = client.call::<User>("users.find", ("Ad",)).await.unwrap_err();
    assert_eq!(error.rpc().unwrap().code(), Code::Unimplemented, "it is renamed");
    let own = client.call::<User>("users.get", (9,)).await.map_err(CallError::error::<UserError>);
    assert_eq!(own, Err(CallError::Method(UserError::NoSuchUser(9))));

    let answer = raw(running.address, get("/rpc/users.get?id=1")).await;
    assert_eq!((answer.status, answer.json()), (200, json!({"id": 1, "name": "Ada"})), "it is `readonly`");
    let answer = raw(running.address, get("/rpc/users.get?id=9")).await;
    assert_eq!((answer.status, &answer.json()["code"]), (404, &json!("not_found")), "its error has a code");
    let answer = raw(running.address, get("/rpc/users.whoami")).await;
    assert_eq!(answer.status, 405);
}

#[tokio::test]
async fn several_contracts_on_one_instance() {
    let db = Arc::new(Db::new());
    let server = Server::new().contract::<UsersContract, _>(Arc::clone(&db)).contract::<HealthContract, _>(db);
    let running = Running::new(server.clone()).await;
    for client in [running.client(), Client::local(&server).unwrap()] {
        assert_eq!(UsersClient::on(&client).get(1).await.unwrap().name, "Ada");
        RemoteHealth::on(&client).check(false).await.unwrap();
        let error = Health::check(&RemoteHealth::on(&client), true).await.unwrap_err();
        assert_eq!((error.code(), error.executed()), (Code::DataLoss, Executed::Yes));
    }
    let last = Health::check(&RemoteHealth::on(&running.client()), false).await;
    assert_eq!(last, Ok(2), "both servers share the instance");
}

#[tokio::test]
async fn a_value_is_served_as_well_as_an_arc() {
    let client = Client::local(&Server::new().contract::<HealthContract, _>(Db::new())).unwrap();
    assert_eq!(RemoteHealth::on(&client).check(false).await, Ok(0));
}

#[tokio::test]
async fn a_client_is_served_like_any_other_implementation() {
    let behind = Client::local(&Server::new().inject(Db::new())).unwrap();
    let gateway = Server::new().contract::<UsersContract, _>(UsersClient::on(&behind));
    let users = UsersClient::on(&Client::local(&gateway).unwrap());
    assert_eq!(users.get(1).await.unwrap().name, "Ada");
    assert_eq!(users.get(9).await, Err(CallError::Method(UserError::NoSuchUser(9))));
}

#[tokio::test]
async fn two_instances_of_one_contract() {
    let renamed = Db::new();
    renamed.rename(1, "Eve".into()).await.unwrap();
    let server = Server::new().inject_as("left", Db::new()).inject_as("right", renamed);
    let client = Client::local(&server).unwrap();
    assert_eq!(UsersClient::on(&client.prefix("left")).get(1).await.unwrap().name, "Ada");
    assert_eq!(UsersClient::on(&client.prefix("right")).get(1).await.unwrap().name, "Eve");
}

/// Nothing of the expansion may warn in the strictest of crates.
mod strict {
    #![forbid(unsafe_code, non_camel_case_types)]
    #![deny(warnings, missing_docs, dead_code, unreachable_pub, clippy::pedantic)]
    #![allow(clippy::unused_async, reason = "the methods here have nothing to wait for")]

    use byname::{Error, rpc};

    /// Its names are those that the expansion could use itself.
    #[rpc]
    pub(crate) trait Names: Send + Sync + 'static {
        /// Adds.
        async fn handlers(
            &self,
            client: &str,
            this: &[i64],
            r#type: i64,
            instance: i64,
            argument_0: i64,
        ) -> Result<String, Error>;

        /// As it was.
        #[deprecated]
        async fn old(&self, error: i64) -> Result<i64, Error>;
    }

    /// Has nothing.
    pub(crate) struct Service<T>(pub(crate) T);

    #[rpc]
    impl<T: Send + Sync + std::fmt::Display + 'static> Names for Service<T> {
        async fn handlers(
            &self,
            client: &str,
            this: &[i64],
            r#type: i64,
            instance: i64,
            argument_0: i64,
        ) -> Result<String, Error> {
            Ok(format!("{}{client}{this:?}{type}{instance}{argument_0}", self.0))
        }

        async fn old(&self, error: i64) -> Result<i64, Error> {
            Ok(error)
        }
    }
}

#[tokio::test]
async fn contracts_of_the_strictest_crate() {
    let client = Client::local(&Server::new().inject(strict::Service("x"))).unwrap();
    let names = strict::NamesClient::on(&client);
    assert_eq!(names.handlers("a", &[1, 2], 3, 4, 5).await.unwrap(), "xa[1, 2]345");
    assert_eq!(strict::Names::handlers(&names, "a", &[1], 2, 3, 4).await.unwrap(), "xa[1]234");
    assert_eq!(client.call::<i64>("old", (1,)).await.unwrap(), 1);
}

#[tokio::test]
async fn a_contract_within_a_function_and_by_another_name() {
    #[rpc]
    trait Local {
        async fn one(&self) -> std::result::Result<u8, Error>;
    }
    use strict::Names as Renamed;

    struct One;

    #[rpc]
    impl Local for One {
        async fn one(&self) -> std::result::Result<u8, Error> {
            Ok(1)
        }
    }

    struct Other;

    #[rpc]
    impl Renamed for Other {
        async fn handlers(&self, _: &str, _: &[i64], _: i64, _: i64, _: i64) -> std::result::Result<String, Error> {
            Ok("other".into())
        }

        async fn old(&self, error: i64) -> std::result::Result<i64, Error> {
            Ok(error)
        }
    }

    let client = Client::local(&Server::new().inject(One).inject(Other)).unwrap();
    assert_eq!(Local::one(&LocalClient::on(&client)).await, Ok(1));
    assert_eq!(strict::NamesClient::on(&client).handlers("", &[], 0, 0, 0).await.unwrap(), "other");
}
