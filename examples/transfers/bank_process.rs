//! The process of the bank, seen from the program that started it.

use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::Failure;

pub struct BankProcess {
    /// Where it serves.
    pub address: String,
    child: Child,
}

impl BankProcess {
    /// Starts this program as the bank, and waits until it says where it serves.
    pub async fn start(address: &str, file: &Path) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve", address])
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut said = String::new();
        if let Some(stdout) = &mut child.stdout {
            BufReader::new(stdout).read_line(&mut said).await?;
        }
        if said.is_empty() {
            return Err(format!("the bank ended before it served: {}", child.wait().await?).into());
        }
        Ok(Self { address: said.trim().to_owned(), child })
    }

    /// Ends it without a chance to finish anything.
    pub async fn kill(&mut self) -> Result<(), Failure> {
        Ok(self.child.kill().await?)
    }
}
