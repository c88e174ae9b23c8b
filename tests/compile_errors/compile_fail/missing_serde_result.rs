use byname::{Client, rpc};

pub struct Point {
    pub x: i64,
}

pub struct Failure;

#[rpc]
pub async fn origin() -> Point {
    Point { x: 0 }
}

#[rpc]
pub async fn all() -> Vec<Option<Point>> {
    Vec::new()
}

#[rpc]
pub async fn risky() -> Result<i64, Failure> {
    Err(Failure)
}

#[rpc]
pub async fn found() -> std::io::Result<i64> {
    Ok(1)
}

async fn caller(client: &Client) {
    let _ = origin::on(client).await;
    let _ = risky::on(client).await;
}

fn main() {
    let _ = caller;
}
