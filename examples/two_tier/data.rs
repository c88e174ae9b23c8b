//! The data tier: a shop's database in SQLite, and the functions that reach it.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use byname::{Code, Context, MethodError, rpc};
use rusqlite::{Connection, OptionalExtension, Transaction};
use serde::{Deserialize, Serialize};

pub const CUSTOMERS: u32 = 600;
const PRODUCTS: u32 = 240;
const ORDERS: u32 = 2400;

#[derive(Debug, Serialize, Deserialize)]
pub struct Customer {
    pub id: u32,
    pub name: String,
    pub city: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Product {
    pub id: u32,
    pub name: String,
    pub cents: u32,
    pub stock: u32,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    pub id: u32,
    pub placed: String,
    pub pieces: u32,
    pub cents: u32,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct History {
    pub customer: Customer,
    pub orders: Vec<Order>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Rows {
    pub customers: u32,
    pub products: u32,
    pub orders: u32,
    pub lines: u32,
}

/// What can be wrong with a question to the store. It crosses the wire whole, and twice: `ShopError` holds it.
#[derive(Debug, Serialize, Deserialize)]
pub enum StoreError {
    NoSuchCustomer(u32),
    NoSuchProduct(u32),
    OutOfStock { product: String, wanted: u32, left: u32 },
    Database,
}

impl MethodError for StoreError {
    fn code(&self) -> Code {
        match self {
            StoreError::NoSuchCustomer(_) | StoreError::NoSuchProduct(_) => Code::NotFound,
            StoreError::OutOfStock { .. } => Code::FailedPrecondition,
            StoreError::Database => Code::Internal,
        }
    }
}

/// What SQLite says is for our own log; a caller learns only that the database failed.
impl From<rusqlite::Error> for StoreError {
    fn from(why: rusqlite::Error) -> Self {
        eprintln!("data tier: {why}");
        StoreError::Database
    }
}

pub struct Store {
    database: Mutex<Connection>,
    visitors: Mutex<HashSet<SocketAddr>>,
}

/// Every method of this block can be called from elsewhere. SQLite blocks its thread, so they are `blocking`, but for the
/// one that is called all the time.
#[rpc]
impl Store {
    /// A customer with all orders: one question, so that the tier above needs one call.
    ///
    /// It takes some 30 µs in memory, and handing it to another thread cost a quarter of the calls a second. Were the
    /// database on a disk, it would be `blocking` as the others are.
    #[rpc(readonly)]
    pub fn history(&self, customer: u32) -> Result<History, StoreError> {
        self.note_visitor();
        let database = self.database();
        let found = database
            .prepare_cached("SELECT id, name, city FROM customer WHERE id = ?1")?
            .query_one([customer], |row| Ok(Customer { id: row.get(0)?, name: row.get(1)?, city: row.get(2)? }))
            .optional()?;
        let customer = found.ok_or(StoreError::NoSuchCustomer(customer))?;
        let orders = database
            .prepare_cached(
                "SELECT purchase.id, placed, SUM(quantity), SUM(quantity * cents)
                 FROM purchase JOIN line ON line.purchase = purchase.id
                 WHERE customer = ?1 GROUP BY purchase.id ORDER BY placed, purchase.id",
            )?
            .query_map([customer.id], |row| {
                Ok(Order { id: row.get(0)?, placed: row.get(1)?, pieces: row.get(2)?, cents: row.get(3)? })
            })?
            .collect::<Result<_, _>>()?;
        Ok(History { customer, orders })
    }

    /// Products with this word in their name, the cheapest first.
    #[rpc(readonly, blocking)]
    pub fn find_products(&self, word: &str, #[rpc(default = 3)] limit: u32) -> Result<Vec<Product>, StoreError> {
        let database = self.database();
        let mut find = database.prepare_cached(
            "SELECT id, name, cents, stock FROM product WHERE instr(name, ?1) ORDER BY cents, id LIMIT ?2",
        )?;
        let found = find.query_map((word, limit), |row| {
            Ok(Product { id: row.get(0)?, name: row.get(1)?, cents: row.get(2)?, stock: row.get(3)? })
        })?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    /// Takes the pieces out of stock and notes the order, or does neither. It says nothing about being idempotent, so
    /// a call of it is never sent twice.
    #[rpc(blocking)]
    pub fn place_order(&self, customer: u32, product: u32, quantity: u32) -> Result<Order, StoreError> {
        let mut database = self.database();
        let change = database.transaction()?;
        let exists = "SELECT 1 FROM customer WHERE id = ?1";
        if !change.prepare_cached(exists)?.exists([customer])? {
            return Err(StoreError::NoSuchCustomer(customer));
        }
        let (name, cents, left): (String, u32, u32) = change
            .query_one("SELECT name, cents, stock FROM product WHERE id = ?1", [product], |row| row.try_into())
            .optional()?
            .ok_or(StoreError::NoSuchProduct(product))?;
        if left < quantity {
            return Err(StoreError::OutOfStock { product: name, wanted: quantity, left });
        }
        change.execute("UPDATE product SET stock = stock - ?2 WHERE id = ?1", (product, quantity))?;
        change.execute("INSERT INTO purchase (customer, placed) VALUES (?1, date())", [customer])?;
        let id = change.last_insert_rowid() as u32;
        change.execute("INSERT INTO line VALUES (?1, ?2, ?3, ?4)", (id, product, quantity, cents))?;
        let placed = change.query_one("SELECT placed FROM purchase WHERE id = ?1", [id], |row| row.get(0))?;
        change.commit()?;
        Ok(Order { id, placed, pieces: quantity, cents: quantity * cents })
    }

    /// How many rows there are of each kind.
    #[rpc(readonly, blocking)]
    pub fn rows(&self) -> Result<Rows, StoreError> {
        let database = self.database();
        let count = |table| database.query_one(&format!("SELECT COUNT(*) FROM {table}"), [], |row| row.get(0));
        Ok(Rows {
            customers: count("customer")?,
            products: count("product")?,
            orders: count("purchase")?,
            lines: count("line")?,
        })
    }

    /// The far end of each connection that brought a call of `history` since this was last asked.
    pub async fn visitors(&self) -> HashSet<SocketAddr> {
        std::mem::take(&mut self.visitors.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Store {
    /// A database in memory, the same at each start.
    pub fn new() -> Result<Self, rusqlite::Error> {
        let mut database = Connection::open_in_memory()?;
        let fresh = database.transaction()?;
        fill(&fresh)?;
        fresh.commit()?;
        Ok(Self { database: Mutex::new(database), visitors: Mutex::default() })
    }

    /// A function that panicked has left no half of a change: its transaction was rolled back.
    fn database(&self) -> MutexGuard<'_, Connection> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_visitor(&self) {
        let address = Context::current().and_then(|call| call.peer()?.address.socket_addr());
        self.visitors.lock().unwrap_or_else(PoisonError::into_inner).extend(address);
    }
}

fn fill(database: &Transaction<'_>) -> Result<(), rusqlite::Error> {
    const FIRST: &[&str] = &[
        "Ada", "Bogdan", "Chiara", "Dmitri", "Elif", "Farid", "Greta", "Hugo", "Ines", "Jonas", "Keiko", "Lena",
        "Mateo", "Nora", "Oskar", "Priya", "Quentin", "Rosa", "Sven", "Tamar",
    ];
    const LAST: &[&str] = &[
        "Almeida",
        "Berg",
        "Costa",
        "Dubois",
        "Eriksen",
        "Fontana",
        "Grünwald",
        "Haddad",
        "Ito",
        "Jansen",
        "Kowalska",
        "Lindqvist",
        "Moreau",
        "Novak",
        "Okafor",
        "Papadakis",
        "Rossi",
        "Silva",
        "Tanaka",
        "Weber",
    ];
    const CITY: &[&str] =
        &["Lisbon", "Lyon", "Graz", "Ghent", "Turin", "Aarhus", "Gdańsk", "Porto", "Leipzig", "Bergen", "Kyoto"];
    const MATERIAL: &[&str] =
        &["oak", "copper", "linen", "walnut", "cast-iron", "enamel", "bamboo", "porcelain", "steel", "glass"];
    const THING: &[&str] = &[
        "teapot",
        "lamp",
        "stool",
        "bread bin",
        "coat hook",
        "tray",
        "mortar",
        "vase",
        "coffee mill",
        "breadboard",
        "candlestick",
        "colander",
    ];
    const SIZE: &[&str] = &["small", "large"];

    database.execute_batch(
        "CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT NOT NULL, city TEXT NOT NULL);
         CREATE TABLE product (id INTEGER PRIMARY KEY, name TEXT NOT NULL, cents INTEGER NOT NULL,
             stock INTEGER NOT NULL CHECK (stock >= 0));
         CREATE TABLE purchase (id INTEGER PRIMARY KEY, customer INTEGER NOT NULL REFERENCES customer,
             placed TEXT NOT NULL);
         CREATE INDEX purchase_of ON purchase (customer, placed);
         CREATE TABLE line (purchase INTEGER NOT NULL REFERENCES purchase, product INTEGER NOT NULL REFERENCES product,
             quantity INTEGER NOT NULL, cents INTEGER NOT NULL, PRIMARY KEY (purchase, product)) WITHOUT ROWID;",
    )?;

    let mut dice = fastrand::Rng::with_seed(128);
    let mut customer = database.prepare("INSERT INTO customer (name, city) VALUES (?1, ?2)")?;
    for _ in 0..CUSTOMERS {
        let name = format!("{} {}", dice.choice(FIRST).unwrap(), dice.choice(LAST).unwrap());
        customer.execute((name, dice.choice(CITY).unwrap()))?;
    }
    let mut product = database.prepare("INSERT INTO product (name, cents, stock) VALUES (?1, ?2, ?3)")?;
    let mut prices: Vec<u32> = Vec::new();
    for at in 0..PRODUCTS as usize {
        let (size, rest) = (SIZE[at % SIZE.len()], at / SIZE.len());
        let (material, thing) = (MATERIAL[rest % MATERIAL.len()], THING[rest / MATERIAL.len() % THING.len()]);
        prices.push(dice.u32(4..90) * 100 + 90);
        product.execute((format!("{size} {material} {thing}"), prices[at], dice.u32(3..40)))?;
    }
    let mut purchase =
        database.prepare("INSERT INTO purchase (customer, placed) VALUES (?1, date('2025-01-01', ?2))")?;
    let mut line = database.prepare("INSERT OR IGNORE INTO line VALUES (?1, ?2, ?3, ?4)")?;
    for _ in 0..ORDERS {
        purchase.execute((dice.u32(1..=CUSTOMERS), format!("{} days", dice.u16(0..365))))?;
        let id = database.last_insert_rowid();
        for _ in 0..dice.u8(1..=4) {
            let at = dice.usize(0..prices.len());
            line.execute((id, at as u32 + 1, dice.u32(1..=3), prices[at]))?;
        }
    }
    Ok(())
}
