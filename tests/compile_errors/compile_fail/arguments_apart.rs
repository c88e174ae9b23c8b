//! The arguments of a call by name are one tuple.

use byname::Client;

async fn sum(client: Client) {
    let _ = client.call::<i64>("add", 1, 2).await;
}

fn main() {}
