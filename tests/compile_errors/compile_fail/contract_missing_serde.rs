use byname::{Client, Error, Server, rpc};

pub struct Point {
    pub x: i64,
}

#[rpc]
pub trait Map {
    async fn mark(&self, at: Point) -> Result<(), Error>;
    async fn marks(&self) -> Result<Vec<Point>, Error>;
}

pub struct Paper;

#[rpc]
impl Map for Paper {
    async fn mark(&self, _: Point) -> Result<(), Error> {
        Ok(())
    }

    async fn marks(&self) -> Result<Vec<Point>, Error> {
        Ok(vec![])
    }
}

async fn generic(map: &impl Map) -> Result<(), Error> {
    map.mark(Point { x: 1 }).await
}

async fn caller(client: &Client) {
    let _ = generic(&MapClient::on(client)).await;
    let _ = MapClient::on(client).marks().await;
}

fn main() {
    let _ = caller;
    let _ = Server::new().inject(Paper);
}
