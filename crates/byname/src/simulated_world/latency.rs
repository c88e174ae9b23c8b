//! How long bytes travel: [`Latency`].

use std::time::Duration;

use fastrand::Rng;

/// How many times the median a latency may be.
const LONGEST: f64 = 1000.0;

/// How long bytes are on their way from one machine to another. Each piece of bytes draws its own latency, and pieces of one
/// connection never overtake each other. Virtual time has a resolution of one millisecond, so bytes arrive at the next whole
/// one.
///
/// ```
/// use std::time::Duration;
/// use byname::simulation::Latency;
///
/// let near = Latency::constant(Duration::from_millis(1));
/// let far = Latency::lognormal(Duration::from_millis(40), 0.5);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency(LatencyKind);

#[derive(Clone, Copy, Debug, PartialEq)]
enum LatencyKind {
    Constant(Duration),
    Uniform(Duration, Duration),
    Lognormal { median: Duration, sigma: f64 },
}

impl Latency {
    /// No latency: bytes arrive at the time at which they are sent.
    pub const ZERO: Self = Self::constant(Duration::ZERO);

    /// Always the same latency.
    pub const fn constant(latency: Duration) -> Self {
        Self(LatencyKind::Constant(latency))
    }

    /// Any latency between these two, all equally likely.
    pub const fn uniform(shortest: Duration, longest: Duration) -> Self {
        Self(LatencyKind::Uniform(shortest, longest))
    }

    /// A latency whose logarithm is normally distributed: half of the pieces take less than `median`, and few take far
    /// longer. With a `sigma` of 0.5 one piece in a hundred takes 3.2 times the median or more, with 1.0 ten times. Networks
    /// are like this.
    pub const fn lognormal(median: Duration, sigma: f64) -> Self {
        Self(LatencyKind::Lognormal { median, sigma })
    }

    /// The latency of one piece.
    pub(crate) fn draw(&self, random: &mut Rng) -> Duration {
        match self.0 {
            LatencyKind::Constant(latency) => latency,
            LatencyKind::Uniform(shortest, longest) => {
                shortest + longest.saturating_sub(shortest).mul_f64(random.f64())
            }
            LatencyKind::Lognormal { median, sigma } => {
                // Box and Muller's way from two uniform numbers to a normal one.
                let (one, other) = (1.0 - random.f64(), random.f64());
                let normal = (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * other).cos();
                let factor = (sigma * normal).exp();
                median.mul_f64(if factor.is_finite() { factor.min(LONGEST) } else { 1.0 })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_has_the_distribution_that_it_says() {
        let (ms, mut random) = (Duration::from_millis, Rng::with_seed(1));
        let mut drawn = |latency: Latency| {
            let mut drawn: Vec<_> = (0..10_000).map(|_| latency.draw(&mut random)).collect();
            drawn.sort_unstable();
            [drawn[0], drawn[5_000], drawn[9_900], drawn[9_999]].map(|drawn| drawn.as_secs_f64() * 1000.0)
        };
        assert_eq!(drawn(Latency::constant(ms(7))), [7.0; 4]);
        let [least, median, _, most] = drawn(Latency::uniform(ms(10), ms(20)));
        assert!(least >= 10.0 && (14.0..16.0).contains(&median) && most <= 20.0, "{least} {median} {most}");
        let [least, median, p99, _] = drawn(Latency::lognormal(ms(10), 0.5));
        assert!(least > 0.0 && (9.5..10.5).contains(&median) && (28.0..36.0).contains(&p99), "{least} {median} {p99}");
        let [_, _, _, most] = drawn(Latency::lognormal(ms(10), 100.0));
        assert!(most <= 10_000.0, "{most}");
    }
}
