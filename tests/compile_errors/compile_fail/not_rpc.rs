//! A function without the attribute is not a type, so `method` can't name it.

use byname::Server;

async fn plain() {}

fn main() {
    let _ = Server::new().method::<plain>();
}
