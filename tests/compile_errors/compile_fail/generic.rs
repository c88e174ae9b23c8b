use byname::{Client, rpc};

#[rpc]
pub async fn first<T>(items: Vec<T>) -> T {
    items.into_iter().next().unwrap()
}

#[rpc]
pub async fn length<'a>(name: &'a str) -> usize {
    name.len()
}

#[rpc]
pub async fn sized<const N: usize>(bytes: [u8; N]) -> usize {
    bytes.len()
}

async fn caller(client: &Client) {
    let _: Result<i64, _> = first::on(client, vec![1]).await;
}

fn main() {
    let _ = caller;
}
