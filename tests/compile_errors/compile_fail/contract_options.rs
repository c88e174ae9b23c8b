use byname::{Error, rpc};

#[rpc(name = "users", prefx = "users", readonly)]
pub trait Users {
    #[rpc(blocking)]
    async fn get(&self, #[rpc(readonly)] id: u64) -> Result<u64, Error>;

    #[rpc]
    async fn find(&self, id: u64) -> Result<u64, Error>;

    #[rpc(stub = forget)]
    async fn forget(&self, id: u64) -> Result<u64, Error>;
}

#[rpc(prefix = "")]
pub trait Health {
    async fn check(&self, #[rpc(default = "x")] deep: bool) -> Result<u64, Error>;
}

pub trait Plain {
    #[rpc]
    async fn check(&self) -> Result<u64, Error>;
}

fn main() {}
