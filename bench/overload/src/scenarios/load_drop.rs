//! Ten times the capacity, and then half of it again: when everything is as before.

use std::time::Duration;

use anyhow::Result;

use super::Tested;
use crate::Options;
use crate::arrivals::Phase;
use crate::calls::{Calls, Ended, first_normal};
use crate::tables::{figure, print, print_wide};

const BUSY: f64 = 10.0;
const IDLE: f64 = 0.5;
const SLOT: Duration = Duration::from_millis(100);

/// How many slots are printed.
const PRINTED: usize = 12;

/// A slot is normal if this part of its calls is good, and its p99 is at most this multiple of the p99 before.
const NORMAL_PERCENT: f64 = 95.0;
const NORMAL_TIMES: f64 = 3.0;

pub async fn run(tested: &[Tested], options: &Options) -> Result<()> {
    let length = options.length();
    let (mut rows, mut slots) = (Vec::new(), Vec::new());
    for tested in tested {
        let phases = [IDLE, BUSY, IDLE].map(|load| Phase { length, rate: tested.capacity * load });
        let calls = tested.phases(&phases, options).await?.calls;
        let before = calls.within(options.warm_up()..length).latency(0.99);
        let busy = calls.within(length + options.warm_up()..length * 2);
        let after = calls.slots(length * 2..length * 3, SLOT);
        let normal: Vec<bool> = after.iter().map(|slot| is_normal(slot, before)).collect();
        rows.push([
            tested.peer.name().to_owned(),
            figure(before, 1),
            figure(busy.good_percent().map(|percent| percent * BUSY), 1),
            figure(first_normal(&normal).map(|nth| (SLOT * nth as u32).as_secs_f64()), 1),
            normal.iter().filter(|is| !*is).count().to_string(),
        ]);
        let cells = after.iter().take(PRINTED).map(cell);
        slots.push([tested.peer.name().to_owned()].into_iter().chain(cells).collect::<Vec<_>>());
        eprintln!("{} after the drop is done", tested.peer.name());
    }
    let title = format!("The load falls from {BUSY} to {IDLE} times the capacity");
    let header =
        ["peer", "p99 before, ms", "good before the drop, % of capacity", "normal after s", "slots not normal"];
    print(&title, header, rows);
    let shown = ((length.as_nanos() / SLOT.as_nanos()) as usize).min(PRINTED);
    let names = (0..shown).map(|nth| format!("{:.1} s", (SLOT * nth as u32).as_secs_f64()));
    let header = ["peer".to_owned()].into_iter().chain(names).collect();
    print_wide("Slots of 100 ms after the drop: good %, p99 in ms, refused + held back", header, slots);
    Ok(())
}

fn is_normal(slot: &Calls, p99_before: Option<f64>) -> bool {
    let is_fast = slot.latency(0.99).zip(p99_before).is_some_and(|(p99, before)| p99 <= before * NORMAL_TIMES);
    is_fast && slot.good_percent().is_some_and(|percent| percent >= NORMAL_PERCENT)
}

fn cell(slot: &Calls) -> String {
    let refused = slot.ended(Ended::Refused);
    let held_back = slot.ended(Ended::HeldBack);
    format!("{}, {}, {refused}+{held_back}", figure(slot.good_percent(), 0), figure(slot.latency(0.99), 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::Call;

    #[test]
    fn a_slot_is_normal_if_its_calls_are_good_and_fast() {
        let slot = |good: usize, took: u64, refused: usize| {
            let call = |took, ended| {
                let took = Duration::from_millis(took);
                Call { at: Duration::ZERO, caller: 0, send_delay: Duration::ZERO, took, ended }
            };
            let mut calls = vec![call(took, Ended::Good); good];
            calls.extend(vec![call(1, Ended::Refused); refused]);
            Calls(calls)
        };
        assert!(is_normal(&slot(95, 5, 5), Some(2.0)));
        assert!(!is_normal(&slot(94, 5, 6), Some(2.0)), "too many are refused");
        assert!(!is_normal(&slot(100, 7, 0), Some(2.0)), "too slow");
        assert!(!is_normal(&slot(0, 0, 0), Some(2.0)), "nothing is known");
        assert_eq!(cell(&slot(3, 5, 1)), "75, 5, 1+0");
    }
}
