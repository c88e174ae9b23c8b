//! What the compiler says of a mistake: one error for each, at its token, with what to do next.
//!
//! `TRYBUILD=overwrite cargo test --test compile_errors` writes the snapshots anew.

#[test]
fn each_mistake_has_one_error_that_helps() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
