//! A fake's closure has the arguments and the result of its function, and a name of each argument of a closure is given.

use byname::{Error, Fake, Server, rpc};

#[rpc]
async fn add(a: i64, b: i64) -> i64 {
    a + b
}

#[rpc(prefix = "users")]
trait Users {
    async fn name(&self, id: u64) -> Result<String, Error>;
}

struct Counter;

#[rpc]
impl Counter {
    async fn bump(&self, by: i64) -> i64 {
        by
    }
}

struct Db;

#[rpc]
impl Users for Db {
    async fn name(&self, id: u64) -> Result<String, Error> {
        Ok(id.to_string())
    }
}

struct Plain;

fn main() {
    let _ = Server::new().inject(add::fake(|a| async move { a }));
    let _ = Server::new().inject(add::fake(|a, b| async move { format!("{a}{b}") }));
    let _ = Server::new().inject(add::fake(|a, b| a + b));
    let _ = Server::new().inject(UsersContract::name(|id: String| async move { Ok(id) }));
    let _ = Server::new().function(("add", ["a"]), |a: i64, b: i64| async move { a + b });
    let _ = Server::new().function(7, |a: i64| async move { a });
    let _ = Fake::of::<Counter>().bump(|by| async move { by > 0 });
    let _ = Fake::of::<Db>().name(|id: u64| async move { Ok(id.to_string()) });
    let _ = Fake::of::<Plain>();
}
