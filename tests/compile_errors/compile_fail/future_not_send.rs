use std::rc::Rc;

use byname::rpc;

#[rpc]
pub async fn count(by: i64) -> i64 {
    let shared = Rc::new(by);
    pause().await;
    *shared
}

#[rpc]
pub async fn length(name: &str) -> usize {
    let shared = Rc::new(name.len());
    pause().await;
    *shared
}

pub struct Counter;

#[rpc]
impl Counter {
    pub async fn bump(&self) -> i64 {
        let shared = Rc::new(1);
        pause().await;
        *shared
    }
}

async fn pause() {}

fn main() {}
