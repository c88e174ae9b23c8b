//! What is drawn while it happens, and what is printed at the end.

use std::io::{IsTerminal, Write, stdout};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::REPLICAS;
use crate::caller::{Caller, Meter, Outcomes, Reading};
use crate::monkey::Deed;
use crate::replica::Replica;
use crate::verdict::Verdict;

/// How often the picture is drawn.
const EVERY: Duration = Duration::from_millis(250);

/// The longest bar.
const BAR: usize = 40;

pub struct Screen {
    meter: Arc<Meter>,
    names: Vec<String>,
    began: Instant,
    /// What was done last, and to which replica.
    deed: Mutex<Option<(Deed, usize)>>,
    /// The lines of the picture that stand on the terminal.
    drawn: Mutex<usize>,
    is_terminal: bool,
    /// How many calls had failed before the last deed.
    failed_before: Mutex<u64>,
}

impl Screen {
    pub fn new(replicas: &[Arc<Replica>], caller: &Caller) -> Self {
        let names = replicas.iter().map(|replica| format!("replica {}", replica.number)).collect();
        let (deed, drawn, failed_before) = (Mutex::default(), Mutex::default(), Mutex::default());
        let meter = Arc::clone(&caller.meter);
        Self { meter, names, began: Instant::now(), deed, drawn, is_terminal: stdout().is_terminal(), failed_before }
    }

    /// A deed of the monkey stands above the picture.
    pub fn tell(&self, did: &(Deed, usize)) {
        self.wipe();
        let failed = self.meter.failed_in_all();
        let before = std::mem::replace(&mut *self.failed_before.lock().expect("nobody panics with it"), failed);
        if failed > before {
            println!("         {} calls failed meanwhile", failed - before);
        }
        println!("{:>5.1} s  replica {} is {}", self.began.elapsed().as_secs_f32(), did.1, did.0);
        *self.deed.lock().expect("nobody panics with it") = Some(*did);
    }

    pub async fn draw_until(&self, until: Instant) {
        let mut next = Instant::now();
        while next < until {
            next = (next + EVERY).min(until);
            sleep_until(next).await;
            if self.is_terminal {
                self.draw(&self.meter.read());
            }
        }
    }

    fn draw(&self, reading: &Reading) {
        self.wipe();
        let most = reading.answers.iter().copied().max().unwrap_or_default().max(1);
        let deed = *self.deed.lock().expect("nobody panics with it");
        for (number, name) in self.names.iter().enumerate() {
            let answers = reading.answers[number];
            let bar = "█".repeat((answers as usize * BAR).div_ceil(most as usize));
            let colour = if answers == 0 { "31" } else { "32" };
            let ill = deed.filter(|(_, ill)| *ill == number).map(|(deed, _)| deed.to_string()).unwrap_or_default();
            println!("  {name}  \x1b[{colour}m{bar:<BAR$}\x1b[0m {:>5}/s  {ill}", answers * 4);
        }
        let (median, slowest) = (reading.median, reading.slowest);
        println!("  median {median:.1?}, slowest {slowest:.1?}, failed {}", reading.failed);
        *self.drawn.lock().expect("nobody panics with it") = REPLICAS + 1;
        let _ = stdout().flush();
    }

    /// Removes the picture.
    fn wipe(&self) {
        let lines = std::mem::take(&mut *self.drawn.lock().expect("nobody panics with it"));
        for _ in 0..lines {
            print!("\x1b[A\x1b[2K");
        }
    }

    pub fn end(&self, verdict: &Verdict) {
        self.wipe();
        println!();
        outcomes("looked (may be repeated)", &verdict.calls.looks);
        outcomes("placed (must not be)", &verdict.calls.places);
        println!("  run twice: {}", verdict.duplicates);
        println!("  answered but not in a ledger: {}", verdict.lost);
        println!("  said not to have run, but in a ledger: {}", verdict.placed_in_secret);
        println!("{}", if verdict.is_kept() { "Every promise was kept." } else { "A promise was broken." });
    }
}

fn outcomes(what: &str, outcomes: &Outcomes) {
    let Outcomes { succeeded, did_not_run, may_have_run, last_failure } = outcomes;
    let all = outcomes.all();
    let percent = *succeeded as f64 * 100.0 / all.max(1) as f64;
    println!("  {what}: {all} calls, {percent:.4} % succeeded; {did_not_run} did not run, {may_have_run} may have run");
    if let Some(failure) = last_failure {
        println!("    the last failure: {failure}");
    }
}
