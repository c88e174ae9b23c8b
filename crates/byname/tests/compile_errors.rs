//! The compiler's errors: each mistake gives one error, at its token, with what to do next.
//!
//! `TRYBUILD=overwrite cargo test --test compile_errors` writes the snapshots anew.

#[test]
#[cfg_attr(
    any(feature = "activation", feature = "tls"),
    ignore = "the compiler lists types of all features; the snapshots are those of the default features"
)]
fn each_mistake_gives_one_error_with_help() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
