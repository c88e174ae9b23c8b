use byname::rpc;

#[rpc(idempotant, timeout = 5)]
pub async unsafe fn a((a, b): (i64, i64), name: &mut String) -> &str {
    name.push('x');
    let _ = (a, b);
    "x"
}

fn main() {}
