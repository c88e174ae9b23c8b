use byname::rpc;

#[derive(serde::Serialize)]
pub struct Point {
    pub x: i64,
}

#[rpc]
pub async fn norm(point: Point) -> i64 {
    point.x
}

#[rpc]
pub async fn origin() -> Point {
    Point { x: 0 }
}

fn main() {}
