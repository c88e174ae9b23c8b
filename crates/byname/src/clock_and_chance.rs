//! What differs from one run of a program to the next: the real clock, and chance. No other file reads them. Deadlines and
//! time-outs use tokio's clock, which a test can pause.

#[cfg(feature = "simulation")]
mod seeded_run;
#[cfg(not(feature = "simulation"))]
#[path = "clock_and_chance/without_simulation.rs"]
mod seeded_run;

use std::hash::{BuildHasher, RandomState};

use fastrand::Rng;

#[cfg(feature = "simulation")]
pub(crate) use self::seeded_run::SeededRun;
pub(crate) use self::seeded_run::is_seeded;

/// A time of the real clock. It measures how long code keeps a thread.
pub(crate) type RealInstant = std::time::Instant;

/// The time now, by the real clock. In a simulation it is the virtual one.
pub(crate) fn real_now() -> RealInstant {
    if is_seeded() { tokio::time::Instant::now().into_std() } else { RealInstant::now() }
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
