//! What is logged of files that were read again: each failure once, and its end once.

use crate::error::Error;

/// Why the files are not used, and what they hold if they could be read.
pub(super) struct NotLoaded<F> {
    pub(super) why: Error,
    pub(super) files: Option<F>,
}

/// The failure that was logged last, if it lasts.
pub(super) struct LoggedFailure<F>(Option<(String, Option<F>)>);

impl<F> Default for LoggedFailure<F> {
    fn default() -> Self {
        Self(None)
    }
}

impl<F: PartialEq> LoggedFailure<F> {
    /// Whether this failure is not the last one. Other content is another failure, also if its reason is the same.
    pub(super) fn is_new(&mut self, failure: NotLoaded<F>) -> bool {
        let failure = Some((failure.why.message().to_owned(), failure.files));
        let is_new = self.0 != failure;
        self.0 = failure;
        is_new
    }

    /// Whether there was a failure, which has ended.
    pub(super) fn end(&mut self) -> bool {
        self.0.take().is_some()
    }
}
