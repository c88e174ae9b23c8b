use byname::rpc;

#[derive(serde::Serialize, serde::Deserialize)]
pub struct Result {
    pub points: i64,
}

#[rpc]
pub async fn exam() -> Result {
    Result { points: 1 }
}

fn main() {}
