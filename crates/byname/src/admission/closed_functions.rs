//! Functions that are closed for a while: [`ClosedFunctions`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use crate::error::{Code, Error};
use crate::name::NamePattern;

/// The functions that are closed while the server runs.
#[derive(Debug, Default)]
pub(crate) struct ClosedFunctions {
    /// Whether there are any. As long as there are none, a call costs the look at this.
    are_any: AtomicBool,
    patterns: RwLock<Vec<ClosedPattern>>,
}

#[derive(Clone, Debug)]
pub(crate) struct ClosedPattern {
    pub(crate) pattern: NamePattern,
    /// When callers may come again.
    pub(crate) retry_after: Duration,
    pub(crate) by: ClosedBy,
}

/// Who has closed a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClosedBy {
    Program,
    File,
}

impl ClosedFunctions {
    /// Closes functions. A pattern that was closed by the same is replaced.
    pub(crate) fn close(&self, closed: ClosedPattern) {
        self.change(|patterns| {
            patterns.retain(|other| other.by != closed.by || other.pattern != closed.pattern);
            patterns.push(closed);
        });
    }

    /// Opens what the program has closed by this pattern. Returns whether there was any.
    pub(crate) fn open(&self, pattern: &NamePattern) -> bool {
        self.change(|patterns| {
            let before = patterns.len();
            patterns.retain(|closed| closed.by != ClosedBy::Program || closed.pattern != *pattern);
            patterns.len() < before
        })
    }

    /// These are closed by the file, and no others.
    pub(crate) fn closed_by_file(&self, closed: Vec<ClosedPattern>) {
        self.change(|patterns| {
            patterns.retain(|other| other.by != ClosedBy::File);
            patterns.extend(closed);
        });
    }

    pub(crate) fn patterns(&self) -> Vec<ClosedPattern> {
        self.patterns.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a call of this function may run.
    ///
    /// # Errors
    ///
    /// `unavailable` if it is closed.
    #[inline]
    pub(crate) fn check(&self, name: &str) -> Result<(), Error> {
        if self.are_any.load(Ordering::Relaxed) { self.check_each(name) } else { Ok(()) }
    }

    #[cold]
    fn check_each(&self, name: &str) -> Result<(), Error> {
        let patterns = self.patterns.read().unwrap_or_else(PoisonError::into_inner);
        // The latest, if several have closed it.
        let closed =
            patterns.iter().filter(|closed| closed.pattern.matches(name)).max_by_key(|closed| closed.retry_after);
        match closed {
            None => Ok(()),
            Some(ClosedPattern { retry_after, .. }) => {
                let why = format!("`{name}` is closed for maintenance; try again in {retry_after:?}");
                Err(Error::refused(Code::Unavailable, why).with_retry_after(*retry_after))
            }
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Vec<ClosedPattern>) -> T) -> T {
        let mut patterns = self.patterns.write().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut patterns);
        self.are_any.store(!patterns.is_empty(), Ordering::Relaxed);
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(pattern: &str, seconds: u64, by: ClosedBy) -> ClosedPattern {
        let pattern = NamePattern::parse(pattern).unwrap();
        ClosedPattern { pattern, retry_after: Duration::from_secs(seconds), by }
    }

    #[test]
    fn a_function_is_closed_until_all_that_have_closed_it_open_it() {
        let functions = ClosedFunctions::default();
        let until = |name: &str| functions.check(name).err().map(|why| why.retry_after().unwrap().as_secs());
        assert_eq!(until("reports.build"), None);
        functions.close(closed("reports.*", 5, ClosedBy::Program));
        functions.close(closed("reports.*", 10, ClosedBy::Program));
        functions.closed_by_file(vec![closed("reports.build", 30, ClosedBy::File)]);
        assert_eq!([until("reports.build"), until("reports.list"), until("orders")], [Some(30), Some(10), None]);
        assert!(functions.open(&NamePattern::parse("reports.*").unwrap()));
        assert!(!functions.open(&NamePattern::parse("reports.build").unwrap()), "the file has closed it");
        assert_eq!([until("reports.build"), until("reports.list")], [Some(30), None]);
        functions.closed_by_file(Vec::new());
        assert_eq!(until("reports.build"), None);
        assert!(!functions.are_any.load(Ordering::Relaxed));
    }
}
