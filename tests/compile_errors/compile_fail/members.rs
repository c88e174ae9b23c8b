use byname::rpc;

macro_rules! methods {
    () => {
        pub fn made(&self) {}
    };
}

pub struct Counter;

#[rpc]
impl Counter {
    pub const START: i64 = 0;

    methods!();

    pub async fn bump(&self) -> i64;

    pub async fn on(&self) -> bool {
        true
    }

    pub async fn generic<T>(&self, value: T) {
        drop(value);
    }
}

fn main() {}
