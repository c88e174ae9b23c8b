//! A package that has the library under another name: every form of the attribute, where no crate is called `byname`.

use rpc::{Error, Streaming};

/// Adds.
#[rpc::rpc(readonly, crate = ::rpc)]
pub async fn add(a: i64, #[rpc::rpc(default = 1)] b: i64) -> i64 {
    a + b
}

/// What a caller has of it.
#[rpc::rpc(crate = ::rpc, name = "add", stub = declared)]
pub async fn add_elsewhere(a: i64, b: i64) -> i64;

/// Halves a text on a thread of its own.
#[rpc::rpc(blocking, crate = ::rpc)]
pub fn half(text: &str) -> Result<String, String> {
    text.get(..text.len() / 2).map(str::to_owned).ok_or_else(|| text.to_owned())
}

/// Adds up.
#[rpc::rpc(crate = ::rpc)]
pub async fn sum(mut numbers: Streaming<i64>) -> Result<i64, Error> {
    let mut sum = 0;
    while let Some(number) = numbers.next().await {
        sum += number?;
    }
    Ok(sum)
}

/// What can go wrong.
#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize, rpc::MethodError)]
#[method_error(crate = ::rpc)]
#[code(aborted)]
pub struct TooLate;

impl std::fmt::Display for TooLate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("too late")
    }
}

/// Fails.
#[rpc::rpc(crate = ::rpc)]
pub async fn late() -> Result<(), TooLate> {
    Err(TooLate)
}

/// Counts.
#[derive(Debug)]
pub struct Counter;

#[rpc::rpc(prefix = "counter", crate = ::rpc)]
impl Counter {
    /// Its total.
    #[rpc::rpc(readonly)]
    pub fn total(&self) -> i64 {
        7
    }
}

/// Who there is.
#[rpc::rpc(crate = ::rpc)]
pub trait Users {
    /// The name of one.
    async fn user(&self, id: u64) -> Result<String, Error>;
}

/// Where users are.
#[derive(Debug)]
pub struct Db;

#[rpc::rpc(crate = ::rpc)]
impl Users for Db {
    async fn user(&self, id: u64) -> Result<String, Error> {
        Ok(format!("user {id}"))
    }
}

#[cfg(test)]
mod tests {
    use rpc::{CallError, Client, Code, MethodError};

    use super::*;

    #[tokio::test]
    async fn every_form_is_served_and_called() -> Result<(), Error> {
        let client = Client::local(&rpc::server!().inject(Counter).inject(Db))?.encoded(true);
        assert_eq!(add::on(&client, 1, 2).await?, 3);
        assert_eq!(declared::on(&client, 1, 2).await?, 3);
        assert_eq!(half::on(&client, "abcd").await, Ok("ab".into()));
        assert_eq!(sum::on(&client, Streaming::from(vec![1, 2])).await, Ok(3));
        assert_eq!(late::on(&client).await, Err(CallError::Method(TooLate)));
        assert_eq!((TooLate.code(), TooLate.message()), (Code::Aborted, Some("too late".into())));
        assert_eq!(Counter::on(&client).total().await?, 7);
        assert_eq!(UsersClient::on(&client).user(1).await, Ok("user 1".into()));
        Ok(())
    }
}
