//! `byname call`.

use std::hash::{BuildHasher, Hasher};
use std::io::{self, BufRead, IsTerminal};
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use byname::{CallError, Client, Error, HeaderMap, Streaming};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::call_arguments::{WrittenArguments, arguments, is_standard_input, json_of_distinct_names};
use crate::call_as_code::{CallLanguage, WrittenCall};
use crate::exit::{CommandError, EXIT_CODES};
use crate::service::{ServiceOptions, known_schema};
use crate::terminal_text::{inert, json_line, json_lines, print_text, print_to_reader, say};

#[derive(clap::Args)]
#[command(
    override_usage = "byname call [OPTIONS] [SERVICE] <NAME> [ARGUMENTS]... [-- <ARGUMENTS>...]",
    after_long_help = EXIT_CODES
)]
pub(crate) struct CallCommand {
    #[command(flatten)]
    options: ServiceOptions,
    /// All arguments as JSON: an object by name, an array by position, @FILE, or - for standard input
    #[arg(long, value_name = "JSON", allow_hyphen_values = true)]
    json: Option<String>,
    /// Print the call as a program in place of calling
    #[arg(long = "as", value_name = "LANGUAGE")]
    language: Option<CallLanguage>,
    /// The key with which a call runs once [default: a random one, if the function needs one]
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Read a stream as the result, where the service does not tell that it is one
    #[arg(long)]
    stream: bool,
    /// Send the lines of standard input as a stream, where the service does not tell that the function takes one
    #[arg(long)]
    items: bool,
    /// Show the exchange: the call with its headers, the time, and the headers of the reply
    #[arg(long, short)]
    verbose: bool,
    /// [SERVICE] NAME [ARGUMENTS]: `1`, `name=1`, `user.name=Ada`, `@file`, `@-` for standard input. A word that is not JSON is a text
    #[arg(required = true, value_name = "WORDS", allow_negative_numbers = true)]
    words: Vec<String>,
    /// Arguments that are not named
    #[arg(last = true, value_name = "ARGUMENTS", allow_hyphen_values = true)]
    unnamed: Vec<String>,
}

impl CallCommand {
    pub(crate) async fn run(self) -> Result<ExitCode, CommandError> {
        let (service, words) = self.options.connect.service_and_words(self.words)?;
        let Some((name, words)) = words.split_first() else {
            return Err(CommandError::usage(
                "the name of the function is missing: `byname call localhost:8080 add 1 2`",
            ));
        };
        let client = service.client(&self.options)?;
        let schema = known_schema(&client, name).await?;
        let known = schema.as_ref().and_then(|schema| Some((schema, schema.function(name)?)));
        let reads_input = self.json.as_deref().is_some_and(|json| json == "-" || json == "@-")
            || words.iter().chain(&self.unnamed).any(|word| is_standard_input(word));
        let taken = known.and_then(|(_, function)| function.takes.as_ref());
        if reads_input && (self.items || taken.is_some()) {
            let stream = taken.map(|stream| format!(" `{}`", stream.name)).unwrap_or_default();
            return Err(CommandError::usage(format!(
                "standard input has the items of the stream{stream}, and can't have an argument too; give that as a word or as `@file`"
            )));
        }
        let written = match &self.json {
            Some(_) if !words.is_empty() || !self.unnamed.is_empty() => {
                return Err(CommandError::usage("the arguments are given by --json and as words; use one of them"));
            }
            Some(json) => WrittenArguments::of_json(json)?,
            None => arguments(known, words, &self.unnamed)?,
        };
        let function = known.map(|(_, function)| function);
        let takes = self.items || function.is_some_and(|function| function.takes.is_some());
        let streams = self.stream || function.is_some_and(|function| function.streams);
        if let Some(language) = self.language {
            let by_name = written.by_name(function).ok_or_else(|| {
                CommandError::usage(
                    "the service does not tell the names of its arguments; give them by name: `a=1 b=2`",
                )
            })?;
            // A program must not send a token where this command does not.
            if let Some(refused) = client.explain(name).await.refused {
                return Err(refused.into());
            }
            let call = WrittenCall {
                url: &service.url,
                name,
                known,
                takes,
                streams,
                arguments: &by_name,
                headers: service.headers(),
                key: self.idempotency_key.as_deref(),
                credentials: service.credentials(),
                timeout: self.options.timeout,
                over_http: self.options.http,
            };
            print_text(&call.text(language)?)?;
            return Ok(ExitCode::SUCCESS);
        }
        let is_keyed = function.is_some_and(|function| function.keyed);
        let key = self.idempotency_key.or_else(|| is_keyed.then(random_key));
        let exchange = Exchange { is_shown: self.verbose };
        exchange.sent(name, &written, service.headers(), key.as_deref());
        CallToMake { client: &client, name, takes, streams, written, key, exchange }.make().await
    }
}

/// A call with everything that is known of it.
struct CallToMake<'c> {
    client: &'c Client,
    name: &'c str,
    /// Whether the function takes a stream.
    takes: bool,
    /// Whether it returns one.
    streams: bool,
    written: WrittenArguments,
    key: Option<String>,
    exchange: Exchange,
}

impl CallToMake<'_> {
    async fn make(self) -> Result<ExitCode, CommandError> {
        let began = Instant::now();
        let items = self.takes.then(standard_input_items);
        let args = self.written.into_args();
        if self.streams {
            let mut call = self.client.stream::<Value>(self.name, args);
            if let Some(items) = items {
                call = call.streaming(items);
            }
            let mut count = 0_u64;
            while let Some(item) = call.next().await {
                // A reader that has seen enough ends the stream.
                if !print_to_reader(&format!("{}\n", json_line(&item?)))? {
                    return Ok(ExitCode::SUCCESS);
                }
                count += 1;
            }
            self.exchange.ended(began, &format!("{count} items"), None);
            return Ok(ExitCode::SUCCESS);
        }
        let mut call = self.client.call::<Value>(self.name, args);
        if let Some(key) = &self.key {
            call = call.idempotency_key(key);
        }
        if let Some(items) = items {
            call = call.streaming(items);
        }
        match call.with_metadata().await {
            Ok((value, headers)) => {
                self.exchange.ended(began, "a value", Some(&headers));
                print(&value)?;
                Ok(ExitCode::SUCCESS)
            }
            Err(error) => {
                self.exchange.ended(began, "an error", None);
                if let CallError::Method(own) = &error
                    && self.exchange.is_shown
                {
                    say(json_lines(own));
                }
                Err(error.into())
            }
        }
    }
}

/// What `--verbose` shows, on standard error.
struct Exchange {
    is_shown: bool,
}

impl Exchange {
    fn sent(&self, name: &str, written: &WrittenArguments, headers: &[(String, String)], key: Option<&str>) {
        if !self.is_shown {
            return;
        }
        let positional = Value::Array(written.positional.clone());
        let named = Value::Object(written.named.clone());
        let arguments = match (written.positional.is_empty(), written.named.is_empty()) {
            (true, _) => json_line(&named),
            (false, true) => json_line(&positional),
            (false, false) => format!("{} {}", json_line(&positional), json_line(&named)),
        };
        say(format_args!("> {} {arguments}", inert(name)));
        for (header, value) in headers {
            let value = if header.eq_ignore_ascii_case("authorization") { "…" } else { value };
            say(format_args!("> {}: {}", inert(header), inert(value)));
        }
        if let Some(key) = key {
            say(format_args!("> idempotency-key: {}", inert(key)));
        }
    }

    fn ended(&self, began: Instant, with: &str, headers: Option<&HeaderMap>) {
        if !self.is_shown {
            return;
        }
        say(format_args!("< {with} in {:.1?}", began.elapsed()));
        for (name, value) in headers.into_iter().flatten() {
            say(format_args!("< {name}: {}", inert(&String::from_utf8_lossy(value.as_bytes()))));
        }
    }
}

/// In lines on a terminal, in one line for a program.
fn print(value: &Value) -> Result<(), CommandError> {
    let is_terminal = io::stdout().is_terminal();
    let text = if is_terminal { json_lines(value) } else { json_line(value) };
    print_text(&format!("{text}\n"))
}

/// The lines of standard input, each of which is an item. They are read on a thread of their own, because that blocks.
fn standard_input_items() -> Streaming<Value> {
    let (sender, receiver) = mpsc::channel(64);
    thread::spawn(move || {
        for (at, line) in io::stdin().lock().lines().enumerate() {
            let item = match line {
                Ok(line) if line.trim().is_empty() => continue,
                Ok(line) => json_of_distinct_names(&line).map_err(|why| wrong(at, &why)),
                Err(why) => Err(wrong(at, &why.to_string())),
            };
            let is_last = item.is_err();
            if sender.blocking_send(item).is_err() || is_last {
                return;
            }
        }
    });
    Streaming::fallible(futures_util::stream::unfold(receiver, async |mut receiver| {
        let item: Result<Value, Error> = receiver.recv().await?;
        Some((item, receiver))
    }))
}

fn wrong(at: usize, why: &str) -> Error {
    Error::new(byname::Code::InvalidArgument, format!("line {} of standard input: {why}", at + 1))
}

/// A key that no other call has.
pub(crate) fn random_key() -> String {
    let part = || std::hash::RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", part(), part())
}
