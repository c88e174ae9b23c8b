use std::sync::Arc;

use byname::rpc;

pub struct Counter {
    total: i64,
}

#[rpc]
impl Counter {
    pub fn new() -> Self {
        Counter { total: 0 }
    }

    pub async fn bump(&mut self, by: i64) -> i64 {
        self.total += by;
        self.total
    }

    pub async fn take(self) -> i64 {
        self.total
    }

    pub async fn shared(self: Arc<Self>) -> i64 {
        self.total
    }

    pub async fn total(&self) -> i64 {
        self.total
    }
}

fn main() {
    let _ = byname::Server::new().inject(Counter::new());
}
