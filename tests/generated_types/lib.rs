//! A package for a test: see `generated_types.rs`, and `build.rs` for the types.
