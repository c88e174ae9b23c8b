use byname::{Client, rpc};

#[rpc(idempotant)]
pub async fn near(a: i64) -> i64 {
    a
}

#[rpc(retries = 3, readonly)]
pub async fn far(a: i64) -> i64 {
    a
}

#[rpc]
pub async fn argument(#[rpc(defualt = 1)] a: i64) -> i64 {
    a
}

pub struct Counter;

#[rpc(prefx = "counter")]
impl Counter {
    pub async fn bump(&self) {}
}

async fn caller(client: &Client) {
    let _: Result<i64, _> = near::on(client, 1).await;
    let _ = byname::Server::new().method::<far>().inject(Counter);
    let _ = Counter::on(client).bump().await;
}

fn main() {
    let _ = caller;
}
