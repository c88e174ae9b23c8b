//! The arguments of a closure are owned: there is nobody to borrow from.

use byname::Server;

fn main() {
    let _ = Server::new().function("greet", |name: &str| async move { format!("Hello {name}") });
    let _ = Server::new().function("shout", async |name: &str| name.to_uppercase());
    let _ = Server::new().function("length", length);
}

async fn length(text: &str) -> usize {
    text.len()
}
