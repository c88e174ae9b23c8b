//! Points at which the process ends itself, so that a test can end it at each step of a call.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// `TRANSFERS_CRASH=after_commit:3` ends the process when it reaches `after_commit` for the third time.
const VARIABLE: &str = "TRANSFERS_CRASH";

static CHOSEN: LazyLock<Option<CrashPoint>> = LazyLock::new(CrashPoint::chosen);

/// Ends the process if this point is the chosen one. Without the variable it does nothing.
pub fn reach(point: &str) {
    if let Some(chosen) = &*CHOSEN
        && chosen.name == point
        && chosen.left.fetch_sub(1, Ordering::Relaxed) == 1
    {
        std::process::abort();
    }
}

struct CrashPoint {
    name: String,
    left: AtomicU32,
}

impl CrashPoint {
    fn chosen() -> Option<Self> {
        let chosen = std::env::var(VARIABLE).ok()?;
        let read = chosen.split_once(':').and_then(|(name, count)| Some((name.to_owned(), count.parse().ok()?)));
        let (name, count) = read.unwrap_or_else(|| {
            panic!("{VARIABLE} is {chosen:?}; expected a point and a count, as in `after_commit:3`")
        });
        Some(Self { name, left: AtomicU32::new(count) })
    }
}
