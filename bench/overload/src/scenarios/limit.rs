//! Which fixed limit serves a peer best.

use anyhow::Result;

use super::Tested;
use crate::Options;
use crate::calls::Ended;
use crate::peers::Peer;
use crate::tables;

const TRIED: [usize; 3] = [8, 32, 128];
const USUAL: usize = 32;
const LOAD: f64 = 10.0;

/// The limit of each peer: the one with the most good calls at ten times the capacity.
pub async fn choose(options: &Options) -> Result<Vec<(Peer, usize)>> {
    let mut chosen = Vec::new();
    let mut rows = Vec::new();
    for peer in options.peers() {
        if let Some(concurrency) = options.concurrency.or((!peer.has_fixed_limit()).then_some(USUAL)) {
            chosen.push((peer, concurrency));
            continue;
        }
        let measured = Tested::measure(peer, TRIED[2], options).await?;
        let mut tried = Vec::new();
        for concurrency in TRIED {
            let loaded = Tested { concurrency, ..measured }.load(LOAD, options).await?;
            let calls = loaded.calls.within(options.warm_up()..options.length());
            let seconds = (options.length() - options.warm_up()).as_secs_f64();
            tried.push((concurrency, calls.ended(Ended::Good) as f64 / seconds));
        }
        let best = best(&tried, measured.capacity);
        let [first, second, third] = [0, 1, 2].map(|nth: usize| format!("{:.0}", tried[nth].1));
        rows.push([peer.name().to_owned(), first, second, third, best.to_string()]);
        eprintln!("{} is best with a limit of {best}", peer.name());
        chosen.push((peer, best));
    }
    if !rows.is_empty() {
        let title = "Good calls a second at ten times the capacity, by the limit of calls in flight";
        tables::print(title, ["peer", "8", "32", "128", "chosen"], rows);
    }
    Ok(chosen)
}

/// The limit with the most good calls. The usual one stands if it has less by a thirtieth of the capacity at most: such a
/// difference is chance.
fn best(tried: &[(usize, f64)], capacity: f64) -> usize {
    let most = tried.iter().map(|(_, good)| *good).fold(0.0, f64::max);
    let is_as_good = |(limit, good): &&(usize, f64)| *limit == USUAL && *good >= most - capacity / 30.0;
    let best = tried.iter().find(is_as_good).or_else(|| tried.iter().find(|(_, good)| *good == most));
    best.map_or(USUAL, |(limit, _)| *limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_limit_is_chosen_unless_the_usual_one_is_nearly_as_good() {
        assert_eq!(best(&[(8, 900.0), (32, 800.0), (128, 100.0)], 900.0), 8);
        assert_eq!(best(&[(8, 900.0), (32, 880.0), (128, 100.0)], 900.0), 32);
        assert_eq!(best(&[(8, 0.0), (32, 0.0), (128, 0.0)], 900.0), 32);
        assert_eq!(best(&[(8, 9.0), (32, 0.0), (128, 0.0)], 900.0), 32);
    }
}
