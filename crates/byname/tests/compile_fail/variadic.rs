use byname::rpc;

#[rpc]
pub fn print(format: String, ...) {
    drop(format);
}

fn main() {}
