//! Nothing: the guide is in `docs/guide`, its test in `guide.rs`.
