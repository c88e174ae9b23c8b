use byname::rpc;

#[rpc]
pub struct Point;

#[rpc]
pub enum Shape {
    Round,
}

#[rpc]
pub mod math {}

#[rpc]
const LIMIT: u32 = 1;

fn main() {
    let _ = (Point, Shape::Round, LIMIT);
}
