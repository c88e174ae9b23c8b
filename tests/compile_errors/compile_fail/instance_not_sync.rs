use std::cell::Cell;

use byname::rpc;

pub struct Counter {
    total: Cell<i64>,
}

#[rpc]
impl Counter {
    pub async fn bump(&self, by: i64) -> i64 {
        self.total.set(self.total.get() + by);
        self.total.get()
    }

    pub fn total(&self) -> i64 {
        self.total.get()
    }
}

fn main() {
    let _ = byname::Server::new().inject(Counter { total: Cell::new(0) });
}
