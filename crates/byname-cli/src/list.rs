//! `byname list`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use byname::FunctionSchema;

use crate::exit::CommandError;
use crate::service::ServiceOptions;
use crate::terminal_text::{inert, json_lines, print_text, say};

pub(crate) async fn list(
    options: &ServiceOptions,
    named: Option<String>,
    json: bool,
) -> Result<ExitCode, CommandError> {
    let service = options.connect.service_or_default(named)?;
    let schema = service.schema(options).await?;
    if json {
        print_text(&format!("{}\n", json_lines(&schema.to_json())))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut groups: BTreeMap<&str, Vec<&FunctionSchema>> = BTreeMap::new();
    for function in &schema.functions {
        let group = function.name.rsplit_once('.').map_or("", |(group, _)| group);
        groups.entry(group).or_default().push(function);
    }
    let mut text = String::new();
    for (at, mut functions) in groups.into_values().enumerate() {
        functions.sort_by(|a, b| a.name.cmp(&b.name));
        if at > 0 {
            text.push('\n');
        }
        text.extend(functions.into_iter().map(shown));
    }
    print_text(&text)?;
    if schema.functions.is_empty() {
        say(
            "note: the service tells this caller of no function; `--token`, `--header`, or `--cert` and `--key` say who you are",
        );
    }
    if let Some(note) = &schema.note {
        say(format_args!("note: {}", inert(note)));
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(function: &FunctionSchema) -> String {
    let (name, dim) = (anstyle::Style::new().bold(), anstyle::Style::new().dimmed());
    // The signature begins with the name.
    let rest = function.signature.strip_prefix(&function.name).unwrap_or(&function.signature);
    let marks = marks(function);
    let marks = if marks.is_empty() { String::new() } else { format!("  {dim}{}{dim:#}", marks.join(", ")) };
    let mut text = format!("{name}{}{name:#}{}{marks}\n", inert(&function.name), inert(rest));
    if let Some(line) = function.doc.lines().next() {
        text.push_str(&format!("    {dim}{}{dim:#}\n", inert(line)));
    }
    text
}

/// What is declared of a function.
pub(crate) fn marks(function: &FunctionSchema) -> Vec<String> {
    let mut marks = Vec::new();
    if function.readonly {
        marks.push("readonly".to_owned());
    } else if function.idempotent {
        marks.push("idempotent".to_owned());
    }
    if function.keyed {
        marks.push("keyed".to_owned());
    }
    match function.deprecated.as_deref() {
        None => {}
        Some("") => marks.push("deprecated".to_owned()),
        Some(reason) => marks.push(format!("deprecated: {}", inert(reason))),
    }
    marks
}
