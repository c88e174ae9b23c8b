use byname::rpc;

#[rpc]
pub async fn greet(#[rpc(default = 1)] name: &str, #[rpc(default = "one")] times: u32) -> String {
    name.repeat(times as usize)
}

#[rpc]
pub async fn ping(#[rpc(default)] address: &std::net::IpAddr) {
    let _ = address;
}

fn main() {}
