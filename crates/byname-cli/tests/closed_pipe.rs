//! A reader that has seen enough, as `head` has.

use std::process::{Command, Stdio};

#[test]
fn a_closed_pipe_is_no_error() {
    for command in [["completions", "bash"].as_slice(), &["man"]] {
        let mut byname = Command::new(env!("CARGO_BIN_EXE_byname"));
        let mut running = byname.args(command).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(running.stdout.take());
        let ended = running.wait_with_output().unwrap();
        assert!(ended.status.success() && ended.stderr.is_empty(), "{command:?}: {ended:?}");
    }
}
