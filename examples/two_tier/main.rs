//! Two tiers and a caller: three processes that one command starts, the calls between them, and what connections cost.
//!
//! `cargo run --release --example two_tier`; with `-- --quick` a small measurement.

mod business;
mod data;
mod measure;
mod page;
mod sockets;
mod story;
mod table;
mod tier;

use std::process::ExitCode;

use byname::Server;

use business::Shop;
use data::Store;
use measure::Plan;
use page::{Page, grouped};
use tier::Tier;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ended = match arguments.as_slice() {
        [] => caller(Plan::full()).await,
        ["--quick"] => caller(Plan::quick()).await,
        ["data"] => data_tier().await,
        ["business", data_tier] => business_tier(data_tier).await,
        _ => Err("usage: two_tier [--quick]".into()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("two_tier: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn data_tier() -> Result<(), Failure> {
    tier::serve(Server::new().inject(Store::new()?)).await
}

async fn business_tier(data_tier: &str) -> Result<(), Failure> {
    tier::serve(Server::new().inject(Shop::new(data_tier.to_owned())?)).await
}

async fn caller(plan: Plan) -> Result<(), Failure> {
    let page = Page::new();
    let data = Tier::start("data", &[]).await?;
    let business = Tier::start("business", &[data.url()]).await?;

    page.heading("Three processes, one command");
    let rows = Store::on(&data.client()?).rows().await?;
    let rows = grouped(rows.customers + rows.products + rows.orders + rows.lines);
    page.process("data tier", data.pid, Some(data.address), &format!("SQLite, {rows} rows in 4 tables"));
    page.process("business tier", business.pid, Some(business.address), "server and client at once");
    page.process("caller", std::process::id(), None, "this one");

    page.heading("What is called, and what comes back");
    story::tell(&page, &business.client()?).await?;

    page.heading("What connections cost");
    page.paragraph(&plan.in_words());
    println!();
    let rows = measure::sweep(&page, &plan, &data, &business).await?;
    table::show(&page, &rows);
    println!();
    page.paragraph(&table::verdict(&rows));
    page.paragraph(&table::failures(&rows));

    business.end().await?;
    data.end().await
}
