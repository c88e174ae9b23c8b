use byname::{Client, Error, rpc};

type Aliased<T> = Result<T, Error>;

#[rpc]
pub trait Users {
    fn get(&self, id: u64) -> Result<u64, Error>;

    fn find(&self, id: u64) -> impl Future<Output = Result<u64, Error>> + Send;

    async fn both(&self) -> Result<(u64, u64), Error> {
        Ok((self.get(1)?, self.get(2)?))
    }

    async fn count(&self) -> usize;

    async fn clear(&self);

    async fn hidden(&self) -> Aliased<()>;

    async fn pair(&self, (a, b): (i64, i64)) -> Result<(), Error>;

    async fn rename(&mut self, name: String) -> Result<(), Error>;

    async fn new() -> Result<u64, Error>;

    async fn put<T>(&self, value: T) -> Result<(), Error>;

    async fn merge(&self, other: Self) -> Result<(), Error>;

    async fn name(&self, id: u64) -> Result<&str, Error>;

    async fn on(&self) -> Result<(), Error>;

    #[rpc(alias = "total")]
    async fn sum(&self) -> Result<u64, Error>;

    async fn total(&self) -> Result<u64, Error>;
}

async fn generic(users: &impl Users) -> Result<u64, Error> {
    users.total().await
}

fn spawned(users: UsersClient) {
    tokio::spawn(async move { generic(&users).await.is_ok() });
}

async fn caller(client: &Client) {
    let _ = generic(&UsersClient::on(client)).await;
    let _ = UsersClient::on(client).sum().await;
}

fn main() {
    let _ = (caller, spawned);
}
