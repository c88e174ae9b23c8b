//! Nothing: the snapshots are in `compile_fail`, their test is in `compile_errors.rs`.
