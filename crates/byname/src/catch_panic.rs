//! Runs code of the user and catches its panics, so that a panic ends only its own call.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Code of the user has panicked.
pub(crate) struct Panicked;

/// Runs code of the user. The payload of a panic is not used, and it may panic again when it is dropped.
pub(crate) fn caught<T>(run: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|thrown| {
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(thrown))) {
            std::mem::forget(again);
        }
        Panicked
    })
}
