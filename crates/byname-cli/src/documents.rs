//! `byname lock`, `byname openapi` and `byname openrpc`, and where a schema comes from: [`schema_of`].

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, io};

use byname::ServiceSchema;
use serde_json::Value;

use crate::call_as_code::endpoint;
use crate::exit::CommandError;
use crate::service::{Service, ServiceOptions, looks_like_url};
use crate::terminal_text::{counted, escaped, json_lines, print_text, say};

#[derive(clap::Args)]
pub(crate) struct LockCommand {
    #[command(flatten)]
    options: ServiceOptions,
    /// The file to write, or - for standard output
    #[arg(long, short, value_name = "FILE", default_value = "byname.lock")]
    output: PathBuf,
    /// The service, or a file with its schema
    service: Option<String>,
}

impl LockCommand {
    pub(crate) async fn run(self) -> Result<ExitCode, CommandError> {
        let schema = schema_of(&self.options, self.service).await?;
        if let Some(note) = &schema.note {
            return Err(CommandError::not_told(format!("the service has no schemas to lock: {note}")));
        }
        let lock = schema.to_lock();
        if self.output == Path::new("-") {
            // A program gets the bytes of the file.
            let is_terminal = io::stdout().is_terminal();
            print_text(&if is_terminal { escaped(&lock) } else { lock })?;
        } else {
            let wrong = |why| CommandError::other(format!("can't write {}: {why}", self.output.display()));
            fs::write(&self.output, lock).map_err(wrong)?;
            say(format_args!("wrote {} ({})", self.output.display(), counted(schema.functions.len(), "function")));
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(clap::Args)]
pub(crate) struct DocumentCommand {
    #[command(flatten)]
    options: ServiceOptions,
    /// The service, or a file with its schema
    service: Option<String>,
}

impl DocumentCommand {
    pub(crate) async fn print(
        self,
        document: impl Fn(&ServiceSchema, Option<&str>) -> Value,
    ) -> Result<ExitCode, CommandError> {
        let (schema, url) = match self.service.as_deref().filter(|service| is_file(service)) {
            Some(path) => (schema_in(path)?, None),
            None => {
                let service = self.options.connect.service_or_default(self.service)?;
                let schema = told_schema(&service, &self.options).await?;
                (schema, Some(endpoint(&service.url)))
            }
        };
        print_text(&format!("{}\n", json_lines(&document(&schema, url.as_deref()))))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The schema of a service, or in a file: a lock file, or what a service has answered.
pub(crate) async fn schema_of(options: &ServiceOptions, from: Option<String>) -> Result<ServiceSchema, CommandError> {
    if let Some(path) = from.as_deref().filter(|from| is_file(from)) {
        return schema_in(path);
    }
    let service = options.connect.service_or_default(from)?;
    told_schema(&service, options).await
}

/// The schema of a service, which has told a function at least.
async fn told_schema(service: &Service, options: &ServiceOptions) -> Result<ServiceSchema, CommandError> {
    let schema = service.schema(options).await?;
    if schema.functions.is_empty() {
        return Err(CommandError::not_told(
            "the service tells this caller of no function; say who you are by `--token`, `--header`, or `--cert` and `--key`, or give the \
             service functions",
        ));
    }
    Ok(schema)
}

/// The schema in a file.
fn schema_in(path: &str) -> Result<ServiceSchema, CommandError> {
    let text = fs::read_to_string(path).map_err(|why| {
        let hint = if why.kind() == io::ErrorKind::NotFound { "; `byname lock URL` writes a lock file" } else { "" };
        CommandError::usage(format!("can't read {path}: {why}{hint}"))
    })?;
    ServiceSchema::from_text(&text).map_err(|why| CommandError::usage(format!("{path} is not a schema: {why}")))
}

/// A file that is there, or a word that ends like one.
pub(crate) fn is_file(word: &str) -> bool {
    Path::new(word).is_file() || !looks_like_url(word) && (word.ends_with(".lock") || word.ends_with(".json"))
}
