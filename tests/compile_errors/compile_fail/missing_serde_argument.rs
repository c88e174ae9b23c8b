use byname::{Client, rpc};

pub struct Point {
    pub x: i64,
}

#[rpc]
pub async fn norm(scale: i64, point: Point) -> i64 {
    scale * point.x
}

#[rpc]
pub async fn count(points: &[Point]) -> usize {
    points.len()
}

pub struct Map;

#[rpc]
impl Map {
    pub async fn mark(&self, at: Point) {
        let _ = at.x;
    }
}

async fn caller(client: &Client) {
    let _ = norm::on(client, 1, Point { x: 1 }).await;
    let _ = byname::Server::new().method::<norm>().inject(Map);
}

fn main() {
    let _ = caller;
}
