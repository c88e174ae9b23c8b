//! What calls a private method is as private as the method.

mod counter {
    pub struct Counter;

    #[byname::rpc]
    impl Counter {
        async fn bump(&self) {}
    }
}

async fn bump(client: byname::Client) {
    let _ = counter::Counter::on(&client).bump().await;
}

fn main() {}
