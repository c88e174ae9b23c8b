//! Three replicas of one service, a caller, and a monkey that does something bad to one of them every two seconds.
//!
//! `cargo run --release --example fleet` draws what happens for half a minute. `-- --seconds 600` takes longer, and
//! `-- --seed 7` repeats what the monkey did in a run that printed this seed. `-- --check` also fails if the caller was
//! promised something that was not kept.

mod caller;
mod monkey;
mod path;
mod replica;
mod screen;
mod verdict;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use byname::Client;

use caller::Caller;
use monkey::Monkey;
use replica::Replica;
use screen::Screen;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const REPLICAS: usize = 3;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let ended = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["replica", name, address, ledger] => replica::serve(name, address, ledger).await.map(|()| true),
        options => match Plan::read(options) {
            Some(plan) => fleet(plan).await,
            None => Err("usage: fleet [--seconds NUMBER] [--seed NUMBER] [--check]".into()),
        },
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("fleet: {why}");
            ExitCode::FAILURE
        }
    }
}

struct Plan {
    lasts: Duration,
    /// What the monkey does follows from it.
    seed: u64,
    /// A promise that was broken makes the program fail.
    checks: bool,
}

impl Plan {
    fn read(mut options: &[&str]) -> Option<Self> {
        let mut plan = Self { lasts: Duration::from_secs(30), seed: fastrand::u64(..1_000_000), checks: false };
        loop {
            options = match options {
                [] => return Some(plan),
                ["--check", rest @ ..] => {
                    plan.checks = true;
                    rest
                }
                ["--seconds", number, rest @ ..] => {
                    plan.lasts = Duration::from_secs(number.parse().ok()?);
                    rest
                }
                ["--seed", number, rest @ ..] => {
                    plan.seed = number.parse().ok()?;
                    rest
                }
                _ => return None,
            }
        }
    }
}

/// Whether every promise was kept, or nobody asked.
async fn fleet(plan: Plan) -> Result<bool, Failure> {
    let folder = std::env::temp_dir().join(format!("byname-fleet-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let mut replicas = Vec::new();
    for number in 0..REPLICAS {
        replicas.push(Arc::new(Replica::start(number, &folder).await?));
    }
    let addresses: Vec<_> = replicas.iter().map(|replica| replica.path_address()).collect();
    let client = Client::builder("localhost/rpc").addresses(addresses).build()?;

    let caller = Caller::start(&client);
    let screen = Screen::new(&replicas, &caller);
    println!("seed {}", plan.seed);
    let mut monkey = Monkey::new(replicas.clone(), plan.seed);
    // A client begins with a budget of ten retries, and more calls than that are at one replica. So it makes calls first.
    screen.draw_until(tokio::time::Instant::now() + monkey::PAUSE).await;
    let ends = tokio::time::Instant::now() + plan.lasts;
    while tokio::time::Instant::now() < ends {
        let did = monkey.act()?;
        screen.tell(&did);
        screen.draw_until(ends.min(tokio::time::Instant::now() + monkey::PAUSE)).await;
        monkey.mend().await?;
    }
    let calls = caller.end().await;
    for replica in &replicas {
        replica.end().await?;
    }
    let verdict = verdict::judge(calls, &folder)?;
    screen.end(&verdict);
    std::fs::remove_dir_all(&folder)?;
    Ok(verdict.is_kept() || !plan.checks)
}
