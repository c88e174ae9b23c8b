use byname::rpc;

pub struct Store<T>(T);

#[rpc]
impl<T> Store<T> {
    pub fn size(&self) -> usize {
        1
    }
}

pub trait Users {
    fn get(&self) -> u64;
}

#[rpc]
impl dyn Users {
    pub fn size(&self) -> usize {
        1
    }
}

pub struct Empty;

#[rpc]
impl Empty {}

fn main() {}
