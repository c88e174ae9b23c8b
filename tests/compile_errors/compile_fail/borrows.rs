use std::borrow::Cow;

use byname::{Client, rpc};

#[rpc]
pub async fn change(name: &mut String) {
    name.clear();
}

#[rpc]
pub async fn constant(name: &'static str) -> usize {
    name.len()
}

#[rpc]
pub async fn maybe(name: Option<Option<&str>>) -> bool {
    name.is_some()
}

#[rpc]
pub async fn cow(name: Cow<'_, str>) -> usize {
    name.len()
}

#[rpc]
pub async fn twice(name: &&str) -> usize {
    name.len()
}

#[rpc]
pub async fn dynamic(name: &dyn ToString) -> String {
    name.to_string()
}

#[rpc]
pub async fn lent(name: &str) -> &str {
    name
}

async fn caller(client: &Client) {
    let _ = maybe::on(client, Some("a")).await;
    let _ = change::on(client, "a").await;
}

fn main() {
    let _ = caller;
}
