use byname::{Client, rpc};

#[rpc]
pub async fn add(a: i64, b: i64) -> i64 {
    a + b
}

async fn caller(client: &Client) {
    let _ = add::on(client, "one", 2).await;
    let _ = add::on(client, 1).await;
    let sum: i64 = add::on(client, 1, 2).await;
}

fn main() {
    let _ = caller;
}
