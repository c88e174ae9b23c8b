use byname::{Client, Server, rpc, CallError, Code};
use std::sync::atomic::{AtomicI64, Ordering};

#[rpc(readonly)]
pub async fn add(a: i64, b: i64) -> i64 { a + b }

#[derive(Default)]
pub struct Counter { total: AtomicI64 }

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum CounterError { Negative(i64) }

#[rpc]
impl Counter {
    pub async fn bump(&self, by: i64) -> Result<i64, CounterError> {
        if by < 0 { return Err(CounterError::Negative(by)); }
        Ok(self.total.fetch_add(by, Ordering::Relaxed) + by)
    }
}

#[tokio::test]
async fn works() {
    let bound = Server::new().method::<add>().inject(Counter::default()).serve("127.0.0.1:0").bind().await.unwrap();
    let addr = bound.local_addr();
    tokio::spawn(async move { bound.await.unwrap() });
    let data = Client::new(&format!("{addr}/rpc")).unwrap();
    for _ in 0..3 {
        assert_eq!(add::on(&data, 1, 2).await.unwrap(), 3);
        assert_eq!(data.call::<i64>("add", (1, 2)).await.unwrap(), 3);
    }
    assert_eq!(Counter::on(&data).bump(5).await.unwrap(), 5);
    assert_eq!(Counter::on(&data).bump(-5).await, Err(CallError::Method(CounterError::Negative(-5))));
    let e = data.call::<i64>("ad", (1, 2)).await.unwrap_err();
    assert_eq!(e.rpc().unwrap().code(), Code::Unimplemented);
    println!("{e}");
    let e = data.call::<i64>("add", (1, "x")).await.unwrap_err();
    println!("{e}");
    let e = data.call::<i64>("add", (1,2,3)).await.unwrap_err();
    println!("{e}");
    let e = data.call::<i64>("add", (1,)).await.unwrap_err();
    println!("{e}");
}
