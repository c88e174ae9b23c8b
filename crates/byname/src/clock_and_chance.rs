//! What differs from one run of a program to the next: the real clock, and chance. No other file reads them. Deadlines and
//! time-outs use tokio's clock, which a test can pause.

#[cfg(feature = "simulation")]
mod seeded_run;
#[cfg(not(feature = "simulation"))]
#[path = "clock_and_chance/without_simulation.rs"]
mod seeded_run;

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::time::Duration;

use fastrand::Rng;

#[cfg(feature = "simulation")]
pub(crate) use self::seeded_run::SeededRun;
pub(crate) use self::seeded_run::is_seeded;

/// A time of the real clock. It measures how long code keeps a thread. It is a number, which costs less to compare than the
/// standard library's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RealInstant {
    /// Since [`BEGINNING`].
    nanos: u64,
}

/// It is an hour before its first use, because a virtual clock may be behind the real one.
static BEGINNING: LazyLock<std::time::Instant> = LazyLock::new(|| {
    let now = std::time::Instant::now();
    now.checked_sub(Duration::from_secs(3600)).unwrap_or(now)
});

/// The time now, by the real clock. In a simulation it is the virtual one.
pub(crate) fn real_now() -> RealInstant {
    clock().into()
}

impl RealInstant {
    pub(crate) fn saturating_duration_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.nanos.saturating_sub(earlier.nanos))
    }

    /// The time after this one by that.
    #[cfg(test)]
    pub(crate) fn later(self, by: Duration) -> Self {
        Self { nanos: self.nanos + u64::try_from(by.as_nanos()).expect("tests use short times") }
    }

    /// Nanoseconds since a time before all others.
    pub(crate) fn nanos(self) -> u64 {
        self.nanos
    }
}

impl From<std::time::Instant> for RealInstant {
    fn from(time: std::time::Instant) -> Self {
        let since = time.saturating_duration_since(*BEGINNING);
        // It is enough for 584 years.
        Self { nanos: since.as_secs().wrapping_mul(1_000_000_000).wrapping_add(since.subsec_nanos().into()) }
    }
}

fn clock() -> std::time::Instant {
    if is_seeded() { tokio::time::Instant::now().into_std() } else { std::time::Instant::now() }
}

/// A number at random. It can be predicted by someone who has seen others.
pub(crate) fn random_number() -> u64 {
    fastrand::u64(..)
}

/// A number at random, from 0 up to but not including 1.
pub(crate) fn random_fraction() -> f64 {
    fastrand::f64()
}

/// True once in `count` times on average. It decides about memory that is kept from run to run, so a simulation, which it
/// must not change, never sees it.
pub(crate) fn once_in(count: u8) -> bool {
    !is_seeded() && fastrand::u8(..count) == 0
}

/// A source of numbers at random, for decisions that take their chance as an argument.
pub(crate) fn random_source() -> Rng {
    Rng::new()
}

thread_local! {
    static IDS: RefCell<Rng> = RefCell::new(Rng::with_seed(UnpredictableNumbers::new().at(0)));
}

/// An id at random, for others to see. They learn nothing of other chance by it. It draws on no seed, so a run in a simulation is the
/// same whether it is traced or not.
pub(crate) fn random_id() -> u64 {
    IDS.with_borrow_mut(|ids| ids.u64(..))
}

/// Numbers that nobody can predict. They are seeded by the operating system's randomness, in a simulation too: nothing
/// depends on them but bytes that peers never interpret.
#[derive(Clone, Debug)]
pub(crate) struct UnpredictableNumbers(RandomState);

impl UnpredictableNumbers {
    pub(crate) fn new() -> Self {
        Self(RandomState::new())
    }

    /// The number at this place of the sequence.
    #[inline]
    pub(crate) fn at(&self, place: u64) -> u64 {
        self.0.hash_one(place)
    }
}
