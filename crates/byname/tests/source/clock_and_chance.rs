//! The real clock, chance and threads: a simulation can repeat a run exactly only if it holds all of them.

use std::fs;
use std::path::Path;

/// What differs from run to run, and the files that may have it.
const ROOMS: [(&str, &[&str]); 11] = [
    ("std::time::Instant", &["clock_and_chance.rs"]),
    ("std::time::{Duration, Instant", &[]),
    ("fastrand::", &["clock_and_chance.rs", "seeded_run.rs"]),
    ("Rng::new", &["clock_and_chance.rs"]),
    ("RandomState", &["clock_and_chance.rs"]),
    ("getrandom", &[]),
    ("spawn_blocking(", &["runtime.rs"]),
    ("block_in_place", &[]),
    // The thread of the second one is waited for at once.
    ("thread::Builder", &["blocking_watchdog.rs", "fingerprint_queue.rs", "service_schema.rs"]),
    // Both begin at a place of chance.
    ("select!", &[]),
    ("sync::watch", &[]),
];

fn each_source(directory: &Path, each: &mut impl FnMut(&Path, &str)) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            each_source(&path, each);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path).unwrap();
            // Tests may use the real clock.
            each(&path, source.split("#[cfg(test)]\nmod tests").next().unwrap_or_default());
        }
    }
}

#[test]
fn only_one_file_reads_the_real_clock_or_draws_chance() {
    let mut count = 0;
    each_source(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut |path, source| {
        count += 1;
        let name = path.file_name().unwrap().to_string_lossy();
        for (number, line) in source.lines().enumerate() {
            let code = line.trim_start();
            // A type alone gives no random numbers: decisions get their random numbers as an argument.
            if code.starts_with("//") || code == "use fastrand::Rng;" {
                continue;
            }
            for (what, files) in ROOMS {
                let is_room = files.contains(&&*name);
                assert!(
                    is_room || !code.contains(what),
                    "{}:{}: `{what}` belongs to {files:?}",
                    path.display(),
                    number + 1
                );
            }
        }
    });
    assert!(count > 100, "the sources are not where they were: {count} were read");
}
