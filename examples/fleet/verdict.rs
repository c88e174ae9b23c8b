//! What was promised to the caller, and whether it was kept: the replicas' ledgers say what ran.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use crate::Failure;
use crate::caller::Calls;

/// Of 10,000 calls that may be repeated, this many may fail.
const MAY_FAIL: u64 = 1;

pub struct Verdict {
    pub calls: Calls,
    /// Orders with more than one line in the ledgers.
    pub duplicates: usize,
    /// Orders that the caller was told were placed, without a line.
    pub lost: usize,
    /// Orders that the caller was told were not placed, with a line.
    pub placed_in_secret: usize,
}

impl Verdict {
    pub fn is_kept(&self) -> bool {
        let looks = &self.calls.looks;
        let failed = looks.all() - looks.succeeded;
        failed * 10_000 <= looks.all() * MAY_FAIL
            && looks.all() > 0
            && (self.duplicates, self.lost, self.placed_in_secret) == (0, 0, 0)
    }
}

pub fn judge(calls: Calls, folder: &Path) -> Result<Verdict, Failure> {
    let mut lines: HashMap<u64, usize> = HashMap::new();
    for ledger in fs::read_dir(folder)? {
        for line in fs::read_to_string(ledger?.path())?.lines() {
            *lines.entry(line.parse()?).or_default() += 1;
        }
    }
    let duplicates = lines.values().filter(|count| **count > 1).count();
    let lost = calls.placed.iter().filter(|order| !lines.contains_key(order)).count();
    let placed_in_secret = calls.not_placed.iter().filter(|order| lines.contains_key(order)).count();
    Ok(Verdict { calls, duplicates, lost, placed_in_secret })
}
