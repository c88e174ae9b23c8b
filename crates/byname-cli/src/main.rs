//! The command line of byname.

mod bench;

use std::process::ExitCode;

use byname::Args;
use clap::{Parser, Subcommand};
use serde_json::Value;

use crate::bench::{BenchOptions, BenchTarget};

#[derive(Parser)]
#[command(name = "byname", version, about = "Call functions of byname services from the command line")]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Send load to one function and show how fast the answers come
    Bench {
        #[command(flatten)]
        options: BenchOptions,
        /// The service, such as localhost:8080
        #[arg(required_unless_present = "compare")]
        url: Option<String>,
        /// The name of the function
        #[arg(required_unless_present = "compare")]
        name: Option<String>,
        /// Arguments as JSON, by position, or by name as name=JSON. Text that is no JSON is a string
        args: Vec<String>,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let Command::Bench { options, url, name, args } = CommandLine::parse().command;
    match (&options.compare, url, name) {
        (Some(files), ..) => bench::compare(files),
        (None, Some(url), Some(name)) => {
            let target = BenchTarget {
                url,
                name,
                args: arguments(&args),
                is_readonly: None,
                connect: Box::new(|builder| builder.build()),
            };
            bench::run(&options, target).await
        }
        _ => ExitCode::from(2),
    }
}

fn arguments(words: &[String]) -> Args {
    words.iter().fold(Args::new(), |args, word| match word.split_once('=') {
        Some((name, value)) if name.chars().all(|c| c.is_alphanumeric() || c == '_') => {
            args.kwarg(name, value_of(value))
        }
        _ => args.arg(value_of(word)),
    })
}

fn value_of(word: &str) -> Value {
    serde_json::from_str(word).unwrap_or_else(|_| word.into())
}
