//! Without the feature `simulation` no run is seeded.

pub(crate) const fn is_seeded() -> bool {
    false
}
