//! A test again, as a process of its own.

use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::within;

/// This test program, started once more to run one test alone. It ends when this is dropped.
pub struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Runs `test`, which finds `variable` in its environment and knows by it that it is the child.
    pub fn run(test: &str, variable: &str, value: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--include-ignored", "--nocapture"]);
        Self::start(command, variable, value)
    }

    /// As [`run`](Self::run), with so many file descriptors at most.
    pub fn run_with_few_files(files: usize, test: &str, variable: &str, value: &str) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {files} && exec \"$0\" --exact \"$1\" --nocapture")]);
        command.arg(std::env::current_exe().unwrap()).arg(test);
        Self::start(command, variable, value)
    }

    /// Runs a command that runs a test of this program, which finds `variable` in its environment.
    pub fn start(mut command: Command, variable: &str, value: &str) -> Self {
        command.env(variable, value).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    pub fn id(&self) -> u32 {
        self.child.id().expect("it is waited for only at its end")
    }

    /// Waits until it has printed these words, and gives what follows them on their line.
    pub async fn said(&mut self, words: &str) -> String {
        let said = async {
            loop {
                let line = self.lines.next_line().await.unwrap().expect("the child ended");
                if let Some(at) = line.find(words) {
                    return line[at + words.len()..].trim().to_owned();
                }
            }
        };
        within(said).await
    }

    /// Writes a line to its standard input.
    pub async fn tell(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("it is piped");
        stdin.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    /// Sends it a signal, such as `TERM`.
    pub async fn signal(&self, signal: &str) {
        let kill = Command::new("kill").args(["-s", signal, &self.id().to_string()]).status();
        assert!(kill.await.unwrap().success());
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        within(self.child.wait()).await.unwrap()
    }
}
