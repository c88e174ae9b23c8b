//! What is measured: each scenario makes its plan, has it run, and prints its table.

pub mod greedy_caller;
pub mod limit;
pub mod load_drop;
pub mod steps;

use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, sleep, sleep_until};

use crate::Options;
use crate::arrivals::{self, Phase};
use crate::calls::Calls;
use crate::loader::{self, Answers};
use crate::peers::Peer;
use crate::server::{ServerProcess, Usage};
use crate::tables;

/// A peer whose capacity is known.
pub struct Tested {
    pub peer: Peer,
    /// The calls in flight that it admits, if it has a fixed limit.
    pub concurrency: usize,
    /// Calls a second that are answered in a closed loop, or what the options say.
    pub capacity: f64,
    /// The server's CPU time of each of them.
    pub cpu_of_call: Duration,
    /// What others took of the server's CPU meanwhile.
    pub others_percent: f64,
}

/// What was seen while a load was on a server.
pub struct Loaded {
    pub calls: Calls,
    /// In the time that is counted.
    pub usage: Usage,
}

impl Tested {
    /// Measures the capacity by a closed loop.
    pub async fn measure(peer: Peer, concurrency: usize, options: &Options) -> Result<Self> {
        let mut server = ServerProcess::start(peer, concurrency, "127.0.0.1", options).await?;
        let caller = peer.caller(server.address, options.connections).await?;
        let start = Instant::now();
        let answers = Answers::default();
        let watch = async {
            sleep_until(start + options.warm_up()).await;
            let (began, before, answered) = (Instant::now(), server.usage().await?, answers.count());
            sleep_until(start + options.length()).await;
            let answered = (answers.count() - answered) as f64;
            let seconds = began.elapsed().as_secs_f64();
            let usage = server.usage().await?.since(before);
            anyhow::Ok((answered / seconds, usage.cpu.div_f64(answered.max(1.0)), usage.others_percent(seconds)))
        };
        // More than the limit would be refused again and again, which takes CPU time.
        let most = if peer.has_fixed_limit() { concurrency } else { usize::MAX };
        // The loop goes on until the last figures were taken.
        let end = start + options.length() + Duration::from_millis(50);
        let calls = loader::closed_loop(&caller, options.closed_loop().min(most), end, &answers);
        let (figures, ()) = tokio::try_join!(watch, calls)?;
        let (capacity, cpu_of_call, others_percent) = figures;
        server.end().await?;
        anyhow::ensure!(capacity > 0.0, "{} answered no call within {} s", peer.name(), options.seconds);
        let capacity = options.capacity.unwrap_or(capacity);
        Ok(Self { peer, concurrency, capacity, cpu_of_call, others_percent })
    }

    /// Puts one load on a server of its own, as a multiple of the capacity.
    pub async fn load(&self, load: f64, options: &Options) -> Result<Loaded> {
        self.phases(&[Phase { length: options.length(), rate: self.capacity * load }], options).await
    }

    /// Puts several loads on one server, one after the other. The first third of the first is not counted in the usage.
    pub async fn phases(&self, phases: &[Phase], options: &Options) -> Result<Loaded> {
        let mut server = ServerProcess::start(self.peer, self.concurrency, "127.0.0.1", options).await?;
        let callers = [self.peer.caller(server.address, options.connections).await?];
        let plan = arrivals::plan(&[arrivals::times(options.arrivals, options.seed, phases)]);
        let end: Duration = phases.iter().map(|phase| phase.length).sum();
        let start = soon().await;
        let watch = async {
            sleep_until(start + options.warm_up()).await;
            let before = server.usage().await?;
            sleep_until(start + end).await;
            Ok(server.usage().await?.since(before))
        };
        let calls = loader::open_loop(&callers, &plan, options.deadline(), start);
        let (calls, usage) = tokio::try_join!(calls, watch)?;
        server.end().await?;
        Ok(Loaded { calls, usage })
    }
}

pub fn print_capacities(tested: &[Tested]) {
    let row = |tested: &Tested| {
        let limit = if tested.peer.has_fixed_limit() { tested.concurrency.to_string() } else { "–".to_owned() };
        let cpu = format!("{:.0}", tested.cpu_of_call.as_secs_f64() * 1e6);
        let [capacity, others] = [tested.capacity, tested.others_percent].map(|figure| format!("{figure:.0}"));
        [tested.peer.name().to_owned(), limit, capacity, cpu, others]
    };
    let header = ["peer", "limit", "calls/s", "server CPU µs", "others' CPU %"];
    tables::print("Capacity, by a closed loop", header, tested.iter().map(row));
}

/// When a load begins. What opening the connections has left to do is done until then.
async fn soon() -> Instant {
    sleep(Duration::from_millis(50)).await;
    Instant::now() + Duration::from_millis(5)
}
