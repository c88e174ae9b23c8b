use byname::rpc;

#[rpc]
pub async fn greet(name: impl Into<String>) -> String {
    name.into()
}

#[rpc]
pub fn later() -> impl Future<Output = i64> {
    async { 1 }
}

#[rpc]
pub async fn show(name: &impl ToString) -> String {
    name.to_string()
}

fn main() {}
