//! A run in virtual time whose chance follows from a seed: [`SeededRun`].

use std::cell::Cell;
use std::marker::PhantomData;

thread_local! {
    static IS_SEEDED: Cell<bool> = const { Cell::new(false) };
}

/// Until it is dropped, this thread's clock is the virtual one of its runtime, and its chance follows from a seed.
pub(crate) struct SeededRun {
    chance_before: u64,
    /// It belongs to its thread.
    _thread: PhantomData<*const ()>,
}

impl SeededRun {
    pub(crate) fn begin(seed: u64) -> Self {
        let chance_before = fastrand::get_seed();
        fastrand::seed(seed);
        IS_SEEDED.set(true);
        Self { chance_before, _thread: PhantomData }
    }
}

impl Drop for SeededRun {
    fn drop(&mut self) {
        IS_SEEDED.set(false);
        fastrand::seed(self.chance_before);
    }
}

/// Whether this thread makes such a run.
pub(crate) fn is_seeded() -> bool {
    IS_SEEDED.get()
}
