//! A bank whose process is killed while it transfers money, and each transfer happens once.
//!
//! `cargo run --example transfers` starts the bank as a process, sends twenty transfers at once, each with a key, and kills
//! the process when the first receipt arrives. Then it starts the bank again and sends the same twenty with the same keys.
//!
//! `bank` has the function and its transaction, `replies` has the store of replies in the same database. `crash_points` is for the
//! test, `examples/tests/transfers.rs`, which kills the process 1,000 times.

mod bank;
mod bank_process;
mod crash_points;
mod database;
mod replies;

use std::path::Path;
use std::sync::Arc;

use byname::{CallError, Client, Server};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use bank::{Bank, BankError, Receipt};
use bank_process::BankProcess;
use database::Database;
use replies::Replies;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const ORDERS: u32 = 20;
const CENTS: u32 = 100;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => {
            let folder = std::env::temp_dir().join(format!("byname-transfers-{}", std::process::id()));
            std::fs::create_dir_all(&folder)?;
            let ended = story(&folder.join("bank.sqlite")).await;
            std::fs::remove_dir_all(&folder)?;
            ended
        }
        ["serve", address, file] => serve(address, Path::new(file)).await,
        _ => Err("usage: transfers | transfers serve ADDRESS DATABASE".into()),
    }
}

async fn story(file: &Path) -> Result<(), Failure> {
    let mut process = BankProcess::start("127.0.0.1:0", file).await?;
    // By default a client repeats such calls by itself. Here each call is sent once, so that the failures can be seen.
    let client = Client::new(format!("{}/rpc", process.address))?.policy("*", |policy| policy.attempts = 1);
    let before = cents_of_bob(&client).await?;
    println!("The bank runs as a process. Bob has {before} cents.");

    println!("\nSend {ORDERS} transfers of {CENTS} cents from ada to bob, with the keys order-1 to order-{ORDERS}.");
    let mut calls = send_orders(&client);
    let mut receipts = vec![calls.join_next().await.expect("calls were sent")??];
    println!("The first receipt arrives: {}. Kill the process of the bank (SIGKILL).", receipts[0]);
    process.kill().await?;

    let mut failure = None;
    while let Some(answer) = calls.join_next().await {
        match answer? {
            Ok(receipt) => receipts.push(receipt),
            Err(error) => failure = Some(error),
        }
    }
    println!("Calls with a receipt: {}. Calls that failed: {}.", receipts.len(), ORDERS as usize - receipts.len());
    if let Some(CallError::Rpc(error)) = failure {
        println!(
            "The error: {}, executed: {}. The caller can't know which of them ran.",
            error.code(),
            error.executed().as_str()
        );
    }

    process = BankProcess::start(&process.address, file).await?;
    let moved = (cents_of_bob(&client).await? - before) / i64::from(CENTS);
    println!("\nStart the bank again. It had made {moved} of the transfers.");
    println!("Send the same {ORDERS} transfers again, with the same keys.");
    let again = send_orders(&client).join_all().await.into_iter().collect::<Result<Vec<_>, _>>()?;
    let same = receipts.iter().filter(|receipt| again.contains(receipt)).count();
    println!("Calls with a receipt: {}. The same receipt as before the kill: {same}.", again.len());

    let after = cents_of_bob(&client).await?;
    if after != before + i64::from(ORDERS * CENTS) {
        return Err(format!("bob has {after} cents, so a transfer was lost or made twice").into());
    }
    println!("Bob has {after} cents. The money of each transfer moved once.");
    process.kill().await
}

fn send_orders(client: &Client) -> JoinSet<Result<Receipt, CallError<BankError>>> {
    let send = |order| Bank::on(client).transfer("ada", "bob", CENTS).idempotency_key(&format!("order-{order}"));
    (1..=ORDERS).map(|order| send(order).into_future()).collect()
}

async fn cents_of_bob(client: &Client) -> Result<i64, Failure> {
    let balances = Bank::on(client).balances().await?;
    balances.get("bob").copied().ok_or_else(|| "bob has no account".into())
}

/// The bank's process. It ends when its stdin does, so it does not outlive the program that started it.
async fn serve(address: &str, file: &Path) -> Result<(), Failure> {
    let (open, closed) = oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        drop(open);
    });
    let stdin_closes = async {
        let _ = closed.await;
    };
    let database = Arc::new(Database::open(file)?);
    let server = Server::new().inject(Bank::new(Arc::clone(&database))).key_store(Replies::new(database));
    let bound = server.serve(address).until(stdin_closes).bind().await?;
    println!("{}", bound.local_addr());
    Ok(bound.await?)
}
