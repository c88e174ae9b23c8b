//! A stream that is an argument: measurements, as many as there are, and what they come to.
//!
//! ```console
//! $ upload_sum serve 127.0.0.1:8080
//! $ upload_sum call 127.0.0.1:8080 1000000
//! $ printf '{"sensor":"a","value":1.5}\n{"sensor":"b","value":4}\n' > measurements.ndjson
//! $ curl --data-binary @measurements.ndjson localhost:8080/rpc/summarize
//! $ curl -X POST -T measurements.ndjson 'localhost:8080/rpc/summarize?above=2'
//! ```
//!
//! `--data-binary` reads a file whole before it sends it, `-T` sends it as it reads. From the repository it is started by
//! `cargo run --example upload_sum -- serve 127.0.0.1:8080`.

use std::collections::BTreeMap;

use byname::{Client, Error, Server, Streaming, rpc};
use futures_util::stream;
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct Measurement {
    sensor: String,
    value: f64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Summary {
    count: u64,
    sum: f64,
    greatest: Option<f64>,
    by_sensor: BTreeMap<String, u64>,
}

/// Sums measurements up, or those above a value, while they come: none is kept.
#[rpc]
async fn summarize(above: Option<f64>, mut measurements: Streaming<Measurement>) -> Result<Summary, Error> {
    let mut summary = Summary::default();
    while let Some(measurement) = measurements.next().await {
        // A stream that is cut off ends in an error, so that half of one is never taken for all of it.
        let Measurement { sensor, value } = measurement?;
        if above.is_none_or(|above| value > above) {
            summary.count += 1;
            summary.sum += value;
            summary.greatest = Some(summary.greatest.map_or(value, |greatest| greatest.max(value)));
            *summary.by_sensor.entry(sensor).or_default() += 1;
        }
    }
    Ok(summary)
}

async fn serve(address: &str) -> Result<(), Box<dyn std::error::Error>> {
    let bound = Server::new().method::<summarize>().serve(address).bind().await?;
    println!("{}", bound.local_addr());
    Ok(bound.await?)
}

async fn call(address: &str, count: u32) -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::new(address)?;
    // Each is made when it is sent.
    let measurements = (1..=count).map(|n| Measurement { sensor: format!("s{}", n % 3), value: n.into() });
    let summary = summarize::on(&client, None, Streaming::new(stream::iter(measurements))).await?;
    println!("{}", serde_json::to_string(&summary)?);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", address] => serve(address).await,
        ["call", address, count] => call(address, count.parse()?).await,
        _ => Err("upload_sum serve HOST:PORT | call HOST:PORT COUNT".into()),
    }
}
