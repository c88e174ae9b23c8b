use byname::rpc;

#[rpc]
pub unsafe fn a() {}

#[rpc]
pub extern "C" fn b() {}

#[rpc]
pub const fn c() {}

#[rpc(blocking)]
pub async fn d() {}

#[rpc]
pub fn e() -> ! {
    loop {}
}

fn main() {}
