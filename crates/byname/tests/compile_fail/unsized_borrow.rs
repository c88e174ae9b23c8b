use std::ffi::OsStr;

use byname::{Client, rpc};

#[rpc]
pub async fn size(name: &OsStr) -> usize {
    name.len()
}

async fn caller(client: &Client) {
    let _ = size::on(client, OsStr::new("a")).await;
}

fn main() {
    let _ = caller;
}
