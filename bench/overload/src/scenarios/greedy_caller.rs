//! One of ten callers makes fifty times its fair share of the calls, and the others stay below theirs.

use std::net::SocketAddr;

use anyhow::Result;
use tokio::time::Instant;

use super::{Tested, soon};
use crate::Options;
use crate::arrivals::{self, Phase};
use crate::calls::{Calls, Ended};
use crate::loader;
use crate::network::{self, CALLERS};
use crate::server::ServerProcess;
use crate::tables::{self, figure, percent};

/// The demand of a caller, as a multiple of its fair share.
const GREEDY: f64 = 50.0;
const MODEST: f64 = 0.8;

pub async fn run(tested: &[Tested], options: &Options) -> Result<()> {
    let mut rows = Vec::new();
    for tested in tested {
        let calls = load(tested, options).await?;
        rows.push(row(tested, &calls.within(options.warm_up()..options.length()), options));
        eprintln!("{} with a greedy caller is done", tested.peer.name());
    }
    let title = format!(
        "One of {CALLERS} callers makes {GREEDY} times its fair share of the calls, the others {MODEST} times theirs"
    );
    let header = [
        "peer",
        "greedy: calls/s",
        "good/s",
        "of capacity %",
        "others: calls/s",
        "good/s",
        "good %",
        "least good %",
        "p99 ms",
        "refused/s",
        "held back/s",
        "late/s",
        "unsent %",
    ];
    tables::print(&title, header, rows);
    Ok(())
}

/// Each caller has its own client, connections and address. The first is the greedy one.
async fn load(tested: &Tested, options: &Options) -> Result<Calls> {
    let server = ServerProcess::start(tested.peer, tested.concurrency, "0.0.0.0", options).await?;
    let mut callers = Vec::new();
    let mut times = Vec::new();
    for caller in 0..CALLERS {
        let address = SocketAddr::from((network::address(caller), server.address.port()));
        callers.push(tested.peer.caller(address, options.connections).await?);
        let demand = if caller == 0 { GREEDY } else { MODEST };
        let phase = Phase { length: options.length(), rate: tested.capacity / f64::from(CALLERS) * demand };
        times.push(arrivals::times(options.arrivals, options.seed + u64::from(caller), &[phase]));
    }
    let start: Instant = soon().await;
    let calls = loader::open_loop(&callers, &arrivals::plan(&times), options.deadline(), start).await?;
    server.end().await?;
    Ok(calls)
}

fn row(tested: &Tested, calls: &Calls, options: &Options) -> [String; 13] {
    let seconds = (options.length() - options.warm_up()).as_secs_f64();
    let a_second = |count: usize| format!("{:.0}", count as f64 / seconds);
    let greedy = calls.only(|call| call.caller == 0);
    let others = calls.only(|call| call.caller != 0);
    let good = greedy.ended(Ended::Good) as f64 / seconds;
    [
        tested.peer.name().to_owned(),
        a_second(greedy.count()),
        format!("{good:.0}"),
        figure(percent(good, tested.capacity), 1),
        a_second(others.count()),
        a_second(others.ended(Ended::Good)),
        figure(others.good_percent(), 1),
        figure(least_good(&others), 1),
        figure(others.latency(0.99), 1),
        a_second(others.ended(Ended::Refused)),
        a_second(others.ended(Ended::HeldBack)),
        a_second(others.ended(Ended::Late)),
        figure(percent(calls.ended(Ended::Unsent) as f64, calls.count() as f64), 1),
    ]
}

/// The part of its calls that was good for the caller with the smallest.
fn least_good(calls: &Calls) -> Option<f64> {
    let of = |caller| calls.only(|call| call.caller == usize::from(caller)).good_percent();
    (0..CALLERS).filter_map(of).min_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::calls::Call;

    #[test]
    fn the_caller_with_the_smallest_part_counts() {
        let call = |caller, ended| {
            let [at, send_delay, took] = [Duration::ZERO; 3];
            Call { at, caller, send_delay, took, ended }
        };
        let calls = [(1, Ended::Good), (1, Ended::Good), (2, Ended::Good), (2, Ended::Refused)];
        assert_eq!(least_good(&Calls(calls.map(|(caller, ended)| call(caller, ended)).to_vec())), Some(50.0));
    }
}
