use byname::{Client, Error, rpc};

#[rpc]
async fn charge(card: String) -> Result<u64, String>;

async fn order(client: &Client) -> Result<u64, Error> {
    Ok(charge::on(client, "1234".into()).await?)
}

async fn order_by_name(client: &Client) -> Result<u64, Error> {
    Ok(client.call("charge", ("1234",)).await?)
}

fn main() {}
