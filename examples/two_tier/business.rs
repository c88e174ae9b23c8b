//! The business tier: a server to the caller, and at once a client of the data tier.

use std::sync::{Arc, PoisonError, RwLock};

use byname::{CallError, Client, Code, Error, MethodError, Transport, rpc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::data::{Product, Store, StoreError};

/// What a customer has bought so far.
#[derive(Debug, Serialize, Deserialize)]
pub struct Summary {
    pub customer: String,
    pub city: String,
    pub orders: usize,
    pub pieces: u32,
    pub cents: u32,
    pub last: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Receipt {
    pub order: u32,
    pub placed: String,
    pub cents: u32,
    /// How many orders this customer has now.
    pub orders: usize,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum ShopError {
    NothingToBuy,
    /// The data tier's own error, typed as it was there.
    Store(StoreError),
    /// The data tier gave no answer, or none that helps.
    DataTier(Error),
}

impl MethodError for ShopError {
    fn code(&self) -> Code {
        match self {
            ShopError::NothingToBuy => Code::InvalidArgument,
            ShopError::Store(error) => error.code(),
            ShopError::DataTier(error) => error.code(),
        }
    }
}

impl From<CallError<StoreError>> for ShopError {
    fn from(error: CallError<StoreError>) -> Self {
        match error {
            CallError::Method(error) => ShopError::Store(error),
            CallError::Rpc(error) => ShopError::DataTier(error),
        }
    }
}

impl From<Error> for ShopError {
    fn from(error: Error) -> Self {
        ShopError::DataTier(error)
    }
}

pub struct Shop {
    data_tier: String,
    way: RwLock<Way>,
}

/// How the data tier is called.
#[derive(Clone)]
enum Way {
    /// By one client, which keeps its connections.
    Kept(Client),
    /// By a client for each call, as the article began: its connection ends with it. So many calls at once.
    Fresh(Arc<Semaphore>),
}

/// A client for one call, and its place among those at once.
struct Data {
    client: Client,
    _place: Option<OwnedSemaphorePermit>,
}

#[rpc]
impl Shop {
    /// One call here, one call to the data tier: this is what is measured.
    #[rpc(readonly)]
    pub async fn order_summary(&self, customer: u32) -> Result<Summary, ShopError> {
        let data = self.data().await?;
        let history = Store::on(&data.client).history(customer).await?;
        Ok(Summary {
            customer: history.customer.name,
            city: history.customer.city,
            orders: history.orders.len(),
            pieces: history.orders.iter().map(|order| order.pieces).sum(),
            cents: history.orders.iter().map(|order| order.cents).sum(),
            last: history.orders.last().map(|order| order.placed.clone()),
        })
    }

    /// Two calls to the data tier, the first of which writes.
    pub async fn buy(&self, customer: u32, product: u32, quantity: u32) -> Result<Receipt, ShopError> {
        if quantity == 0 {
            return Err(ShopError::NothingToBuy);
        }
        let data = self.data().await?;
        let store = Store::on(&data.client);
        let order = store.place_order(customer, product, quantity).await?;
        let history = store.history(customer).await?;
        Ok(Receipt { order: order.id, placed: order.placed, cents: order.cents, orders: history.orders.len() })
    }

    /// Calls the data tier by name, as one does without its crate at hand: the name, the arguments, the result's type.
    #[rpc(readonly)]
    pub async fn suggest(&self, word: String) -> Result<Vec<Product>, ShopError> {
        let data = self.data().await?;
        let wanted = json!({"word": word, "limit": 2});
        let found = data.client.call::<Vec<Product>>("find_products", wanted).await;
        Ok(found.map_err(CallError::error::<StoreError>)?)
    }

    /// From now on calls the data tier over so many connections at most, kept alive or made for each request.
    pub async fn connect(&self, connections: usize, keep: bool) -> Result<(), Error> {
        let way = if keep {
            Way::Kept(
                Client::builder(&self.data_tier)
                    .transport(Transport::Http)
                    .limits(|limits| limits.connections = connections)
                    .build()?,
            )
        } else {
            Way::Fresh(Arc::new(Semaphore::new(connections)))
        };
        *self.way.write().unwrap_or_else(PoisonError::into_inner) = way;
        Ok(())
    }
}

impl Shop {
    pub fn new(data_tier: String) -> Result<Self, Error> {
        let way = RwLock::new(Way::Kept(Client::new(&data_tier)?));
        Ok(Self { data_tier, way })
    }

    async fn data(&self) -> Result<Data, Error> {
        let way = self.way.read().unwrap_or_else(PoisonError::into_inner).clone();
        match way {
            Way::Kept(client) => Ok(Data { client, _place: None }),
            Way::Fresh(places) => {
                let place = places.acquire_owned().await.ok();
                Ok(Data { client: Client::new(&self.data_tier)?, _place: place })
            }
        }
    }
}
