//! Runs the service and the caller as users would, each a process of its own.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// The service of the package `users-service`, until it is dropped.
struct Service {
    child: Child,
    address: String,
}

impl Service {
    fn start() -> Self {
        // Cargo puts the programs of a workspace into one folder, and builds those that have tests for `cargo test`.
        let caller = Path::new(env!("CARGO_BIN_EXE_users-caller"));
        let program = caller.with_file_name(format!("users-service{}", std::env::consts::EXE_SUFFIX));
        assert!(program.exists(), "{program:?} is not there: `cargo build -p users-service`, in the same profile");
        let mut child = Command::new(program).stdout(Stdio::piped()).spawn().unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { child, address: address.trim().to_owned() }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn caller(address: &str, names: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_users-caller")).arg(address).args(names).output().unwrap()
}

fn said(output: &Output) -> Vec<&str> {
    let said = std::str::from_utf8(&output.stdout).unwrap();
    let mut names: Vec<_> = said.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    names.sort_unstable();
    names
}

#[test]
fn two_processes_share_a_contract() {
    let service = Service::start();
    let first = caller(&service.address, &["Ada", "Bob"]);
    assert!(first.status.success(), "{first:?}");
    assert_eq!(said(&first), ["Ada", "Bob"]);
    let second = caller(&service.address, &["Bob", "Cyd"]);
    assert!(second.status.success(), "{second:?}");
    assert_eq!(said(&second), ["Ada", "Bob", "Cyd"], "the service remembers, and a taken name is no failure");
}

#[test]
fn a_call_that_fails_becomes_an_error_of_the_contract() {
    let service = Service::start();
    let output = caller(&format!("{}/elsewhere", service.address), &["Ada"]);
    assert!(!output.status.success(), "{output:?}");
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(complaint.starts_with("Rpc("), "{complaint}");
}
