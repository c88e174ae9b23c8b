use byname::rpc;

#[rpc]
pub fn print(format: String, _: ...) {
    drop(format);
}

fn main() {}
