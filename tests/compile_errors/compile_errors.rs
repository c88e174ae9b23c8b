//! The compiler's errors: each mistake gives one error, at its token, with what to do next.
//!
//! `TRYBUILD=overwrite cargo test -p byname-compile-errors` writes the snapshots anew.

#[test]
fn each_mistake_gives_one_error_with_help() {
    trybuild::TestCases::new().compile_fail("compile_fail/*.rs");
}
