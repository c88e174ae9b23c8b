use std::path::Path;

use byname::rpc;

#[rpc]
pub async fn size(path: &Path) -> u64 {
    path.as_os_str().len() as u64
}

fn main() {}
