//! The command line of byname.

mod bench;
mod call;
mod call_arguments;
mod call_as_code;
mod check;
mod documents;
mod exit;
mod figures;
mod interrupts;
mod list;
mod repeated_names;
mod service;
mod service_names;
mod show;
mod terminal_text;
mod top;
mod type_notation;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::bench::{BenchOptions, BenchTarget};
use crate::exit::{CommandError, EXIT_CODES};
use crate::service::{ConnectOptions, ServiceOptions, known_schema};
use crate::terminal_text::print_text;

const SERVICES: &str = "A service is a URL (localhost:8080, https://shop.example/rpc, unix:/run/shop.sock, several with commas), or a name in \
                        the configuration file. Without one, BYNAME_URL says which.";

#[derive(Parser)]
#[command(name = "byname", version, about = "See, call, load, watch and check byname services")]
#[command(after_help = SERVICES, after_long_help = format!("{SERVICES}\n\n{EXIT_CODES}"))]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the functions of a service
    List {
        #[command(flatten)]
        options: ServiceOptions,
        /// Print the schema of the service as JSON
        #[arg(long)]
        json: bool,
        /// The service
        service: Option<String>,
    },
    /// Show a function: its arguments with their types, and an example
    #[command(override_usage = "byname show [OPTIONS] [SERVICE] <NAME>")]
    Show {
        #[command(flatten)]
        options: ServiceOptions,
        /// [SERVICE] NAME
        #[arg(required = true, num_args = 1..=2, value_name = "WORDS")]
        words: Vec<String>,
    },
    /// Call a function
    Call(call::CallCommand),
    /// Send load to a function, and show how fast the answers come
    #[command(override_usage = "byname bench [OPTIONS] [SERVICE] <NAME> [ARGUMENTS]... [-- <ARGUMENTS>...]\n       \
                                byname bench --compare <A.json> <B.json>")]
    Bench {
        #[command(flatten)]
        options: BenchOptions,
        #[command(flatten)]
        connect: ConnectOptions,
        /// [SERVICE] NAME [ARGUMENTS], as for `call`
        #[arg(required_unless_present = "compare", value_name = "WORDS", allow_negative_numbers = true)]
        words: Vec<String>,
        /// Arguments that are not named
        #[arg(last = true, value_name = "ARGUMENTS")]
        unnamed: Vec<String>,
    },
    /// Show what the servers of a service do now: calls, errors, latencies, clients
    Top(top::TopCommand),
    /// Write the lock file of a service: what its clients rely on
    Lock(documents::LockCommand),
    /// Say which clients a new version of a service breaks
    Check(check::CheckCommand),
    /// Print a service as OpenAPI 3.1
    Openapi(documents::DocumentCommand),
    /// Print a service as OpenRPC 1.3
    Openrpc(documents::DocumentCommand),
    /// Print a script that completes commands in a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page
    Man,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(CommandLine::parse().command).await {
        Ok(code) => code,
        Err(error) => error.report(),
    }
}

async fn run(command: Command) -> Result<ExitCode, CommandError> {
    match command {
        Command::List { options, json, service } => list::list(&options, service, json).await,
        Command::Show { options, words } => show::show(&options, words).await,
        Command::Call(command) => command.run().await,
        Command::Bench { options, connect, words, unnamed } => bench(options, connect, words, &unnamed).await,
        Command::Top(command) => command.run().await,
        Command::Lock(command) => command.run().await,
        Command::Check(command) => command.run().await,
        Command::Openapi(command) => command.print(|schema, endpoint| schema.to_openapi(endpoint)).await,
        Command::Openrpc(command) => command.print(|schema, endpoint| schema.to_openrpc(endpoint)).await,
        Command::Completions { shell } => {
            print_text(&completion_script(shell))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Man => {
            let mut page = Vec::new();
            let made = clap_mangen::Man::new(CommandLine::command()).render(&mut page);
            made.map_err(|why| CommandError::other(format!("the page can't be made: {why}")))?;
            print_text(&String::from_utf8_lossy(&page))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn completion_script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut CommandLine::command(), "byname", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    match shell {
        // With two colons zsh completes no option behind the first of several words, and `call x --as curl` has one there.
        Shell::Zsh => script.replace("\n'*::", "\n'*:"),
        _ => script,
    }
}

async fn bench(
    options: BenchOptions,
    connect: ConnectOptions,
    words: Vec<String>,
    unnamed: &[String],
) -> Result<ExitCode, CommandError> {
    if let Some(files) = &options.compare {
        return bench::compare(files);
    }
    let (service, words) = connect.service_and_words(words)?;
    let Some((name, words)) = words.split_first() else {
        return Err(CommandError::usage("the name of the function is missing"));
    };
    let asking = ServiceOptions { timeout: options.timeout, http: options.http, ..ServiceOptions::default() };
    let schema = known_schema(&service.client(&asking)?, name).await?;
    let function = schema.as_ref().and_then(|schema| schema.function(name));
    if let Some(function) = function
        && (function.streams || function.takes.is_some())
    {
        let does = if function.takes.is_some() { "takes" } else { "returns" };
        return Err(CommandError::usage(format!(
            "`{name}` {does} a stream, and a load is of calls with one answer each; choose a function without streams"
        )));
    }
    let args = call_arguments::arguments(schema.as_ref().zip(function), words, unnamed)?.into_args();
    let is_readonly = function.map(|function| function.readonly);
    let is_keyed = options.keyed || function.is_some_and(|function| function.keyed);
    let (name, url) = (name.clone(), service.url.clone());
    let connect = Box::new(move |builder| service.connected(builder));
    bench::run(&options, BenchTarget { url, name, args, is_readonly, is_keyed, connect }).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zsh_completes_options_behind_words() {
        let script = completion_script(Shell::Zsh);
        assert_eq!(script.matches("\n'*:words -- ").count(), 3, "show, call and bench: {script}");
        assert!(!script.contains("'*::"), "{script}");
    }

    #[test]
    fn the_command_line_is_valid() {
        CommandLine::command().debug_assert();
    }
}
