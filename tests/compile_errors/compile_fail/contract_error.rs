use byname::{Error, rpc};

#[derive(serde::Serialize, serde::Deserialize)]
pub enum UserError {
    NoSuchUser,
}

mod users {
    pub type Result<T> = std::result::Result<T, super::UserError>;
}

#[rpc]
pub trait Users {
    async fn get(&self, id: u64) -> Result<String, UserError>;
    async fn find(&self, word: &str) -> users::Result<String>;
    async fn text(&self) -> Result<(), String>;
    async fn good(&self) -> Result<(), Error>;
}

fn main() {}
