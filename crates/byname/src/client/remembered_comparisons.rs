//! What was found of the differences between stubs and a service: [`RememberedComparisons`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::Instant;

/// How long a result is used for further errors of the function. A service that is deployed meanwhile differs in another way.
const REMEMBERED: Duration = Duration::from_secs(10);

/// What was found of the functions of a service. While calls of one fail, the service is asked once.
#[derive(Default)]
pub(super) struct RememberedComparisons {
    found: Mutex<HashMap<String, RememberedComparison>>,
}

struct RememberedComparison {
    since: Instant,
    cell: ComparisonCell,
}

/// The differences, once they are known. Errors that come meanwhile wait for the same comparison.
pub(super) type ComparisonCell = Arc<OnceCell<Option<Arc<str>>>>;

impl RememberedComparisons {
    pub(super) fn cell(&self, name: String, now: Instant) -> ComparisonCell {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.retain(|_, remembered| now.saturating_duration_since(remembered.since) < REMEMBERED);
        let remembered = found.entry(name).or_insert_with(|| RememberedComparison { since: now, cell: Arc::default() });
        Arc::clone(&remembered.cell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_is_made_again_after_a_while() {
        let (comparisons, start) = (RememberedComparisons::default(), Instant::now());
        let at = |seconds| comparisons.cell("f".to_owned(), start + Duration::from_secs(seconds));
        let first = at(0);
        assert!(Arc::ptr_eq(&first, &at(9)));
        let second = at(10);
        assert!(!Arc::ptr_eq(&first, &second) && Arc::ptr_eq(&second, &at(19)));
    }
}
