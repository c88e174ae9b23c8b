use byname::rpc;

pub struct Counter;

#[rpc(prefix = "counter")]
impl Counter {
    #[rpc(alias = "increase")]
    pub async fn bump(&self) {}

    #[rpc(name = "bump")]
    pub async fn push(&self) {}

    pub async fn increase(&self) {}

    #[rpc(alias = "bump", alias = "b", alias = "b")]
    pub async fn other(&self) {}
}

#[rpc(alias = "add")]
pub async fn add() {}

fn main() {}
