use byname::rpc;

type Outcome = Result<i64, String>;

#[rpc]
pub async fn risky(a: i64) -> Outcome {
    Ok(a)
}

pub struct Counter;

#[rpc]
impl Counter {
    pub async fn bump(&self) -> Outcome {
        Ok(1)
    }
}

fn main() {}
