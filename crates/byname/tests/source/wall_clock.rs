//! The wall clock may jump by an hour or by ten years: deadlines, time-outs and keepalive use only the monotonic clock. Only
//! TLS reads the wall clock, by the clock of rustls, because certificates have dates.

use std::fs;
use std::path::Path;

/// Ways to learn what time it is.
const WALL_CLOCKS: [&str; 6] = ["SystemTime", "UNIX_EPOCH", "chrono", "time::Utc", "OffsetDateTime", "Timestamp"];

/// Ways to learn it from rustls.
const RUSTLS_CLOCKS: [&str; 2] = ["UnixTime::now", ".current_time("];

fn sources(directory: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn the_library_never_reads_the_wall_clock() {
    let mut found = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert!(found.iter().any(|(_, source)| source.contains("Instant::now()")), "the sources are not where they were");
    for (path, source) in found {
        let of_rustls: &[_] = if path.contains("/transport/tls/") { &[] } else { &RUSTLS_CLOCKS };
        for (line, text) in source.lines().enumerate() {
            let clock = WALL_CLOCKS.iter().chain(of_rustls).find(|clock| text.contains(**clock));
            assert_eq!(clock, None, "{path}:{}: {text}", line + 1);
        }
    }
}
