//! The user's code, whose panics end nobody else's work.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// The user's code has panicked.
pub(crate) struct Panicked;

/// Runs the user's code. What was thrown is of no use to anyone, and may panic once more when it is dropped.
pub(crate) fn caught<T>(run: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|thrown| {
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(thrown))) {
            std::mem::forget(again);
        }
        Panicked
    })
}
