use byname::{Client, Server, rpc};

#[derive(serde::Serialize, serde::Deserialize)]
pub enum UserError {
    NoSuchUser,
}

#[rpc]
pub trait Users {
    async fn get(&self, id: u64) -> Result<String, UserError>;
}

pub struct Db;

#[rpc]
impl Users for Db {
    async fn get(&self, _: u64) -> Result<String, UserError> {
        Err(UserError::NoSuchUser)
    }
}

async fn generic(users: &impl Users) -> Result<String, UserError> {
    users.get(1).await
}

async fn caller(client: &Client) {
    let users = UsersClient::on(client);
    let _ = generic(&users).await;
    let _ = users.get(1).await;
    tokio::spawn(async move { generic(&users).await.is_ok() });
}

fn main() {
    let _ = caller;
    let _ = Server::new().inject(Db);
}
