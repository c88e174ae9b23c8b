//! `byname show`.

use std::process::ExitCode;

use byname::{ArgumentSchema, FunctionSchema, ServiceSchema};
use serde_json::Value;

use crate::call_arguments::takes_bytes;
use crate::exit::CommandError;
use crate::list::marks;
use crate::service::ServiceOptions;
use crate::terminal_text::{inert, json_line, print_text, say};
use crate::type_notation::{TypeNotation, is_bytes};

pub(crate) async fn show(options: &ServiceOptions, words: Vec<String>) -> Result<ExitCode, CommandError> {
    let (service, words) = options.connect.service_and_words(words)?;
    let [name] = words.as_slice() else {
        return Err(CommandError::usage("expected the name of one function: `byname show localhost:8080 orders.get`"));
    };
    let schema = service.schema(options).await?;
    let function = found(&schema, name)?;
    let page = FunctionPage { schema: &schema, function, service: &service.url };
    print_text(&page.text())?;
    if let Some(note) = &schema.note {
        say(format_args!("note: {}", inert(note)));
    }
    Ok(ExitCode::SUCCESS)
}

/// The function of this name.
pub(crate) fn found<'s>(schema: &'s ServiceSchema, name: &str) -> Result<&'s FunctionSchema, CommandError> {
    schema.function(name).ok_or_else(|| {
        let likeness = |function: &&FunctionSchema| strsim::jaro_winkler(&function.name, name);
        let mut near: Vec<_> = schema.functions.iter().filter(|function| likeness(function) > 0.75).collect();
        near.sort_by(|a, b| likeness(b).total_cmp(&likeness(a)));
        let near: Vec<_> = near.into_iter().map(|function| format!("`{}`", function.name)).take(3).collect();
        let hint = if near.is_empty() {
            "; `byname list` shows its functions".to_owned()
        } else {
            format!("; did you mean {}?", near.join(" or "))
        };
        byname::Error::new(byname::Code::Unimplemented, format!("the service has no function `{name}`{hint}")).into()
    })
}

/// The type of bytes, which have no type in JSON.
const BYTES: &str = "bytes (base64)";

struct FunctionPage<'s> {
    schema: &'s ServiceSchema,
    function: &'s FunctionSchema,
    service: &'s str,
}

impl FunctionPage<'_> {
    fn text(&self) -> String {
        let (bold, dim) = (anstyle::Style::new().bold(), anstyle::Style::new().dimmed());
        let function = self.function;
        let rest = function.signature.strip_prefix(&function.name).unwrap_or(&function.signature);
        let mut text = format!("{bold}{}{bold:#}{}\n", inert(&function.name), inert(rest));
        let marks = marks(function);
        if !marks.is_empty() {
            text.push_str(&format!("{dim}{}{dim:#}\n", marks.join(", ")));
        }
        if !function.doc.is_empty() {
            text.push_str(&format!("\n{}\n", inert(&function.doc)));
        }
        let notation = TypeNotation { schema: self.schema };
        let mut rows: Vec<(String, String)> =
            function.arguments.iter().map(|of| self.argument(&notation, of)).collect();
        if let Some(stream) = &function.takes {
            rows.push((stream.name.clone(), format!("stream of {}", notation.of(&stream.schema))));
        }
        let returns = match is_bytes(&function.returns) {
            true => BYTES.to_owned(),
            false => notation.of(&function.returns_schema),
        };
        rows.push(("→".to_owned(), if function.streams { format!("stream of {returns}") } else { returns }));
        if let Some(error) = &function.error {
            rows.push(("error".to_owned(), notation.of(error)));
        }
        text.push('\n');
        push_table(&rows, &mut text);
        let mut named = Vec::new();
        let schemas = function.arguments.iter().chain(&function.takes).map(|argument| &argument.schema);
        schemas
            .chain([&function.returns_schema])
            .chain(&function.error)
            .for_each(|of| notation.definitions(of, &mut named));
        if !named.is_empty() {
            let definition =
                |name: &String| (name.clone(), notation.of(self.schema.definitions.get(name).unwrap_or(&Value::Null)));
            text.push('\n');
            push_table(&named.iter().map(definition).collect::<Vec<_>>(), &mut text);
        }
        text.push_str(&format!("\n{dim}{}{dim:#}\n", inert(&self.example())));
        text
    }

    fn argument(&self, notation: &TypeNotation<'_>, argument: &ArgumentSchema) -> (String, String) {
        let mark = if argument.required { "" } else { "?" };
        let default = argument.default.as_ref().map(|default| format!(" = {}", json_line(default))).unwrap_or_default();
        let ty = match takes_bytes(self.schema, argument) {
            true => BYTES.to_owned(),
            false => notation.of(&argument.schema),
        };
        (format!("{}{mark}", argument.name), format!("{ty}{default}"))
    }

    /// A call with the arguments that it needs.
    fn example(&self) -> String {
        let argument = |argument: &ArgumentSchema| {
            if takes_bytes(self.schema, argument) {
                return format!(" {}=@FILE", argument.name);
            }
            let value = self.schema.example(&argument.schema).unwrap_or_default();
            let text = match &value {
                Value::String(text) => text.clone(),
                other => json_line(other),
            };
            format!(" {}", shell_word(&format!("{}={text}", argument.name)))
        };
        let arguments: String = self.function.arguments.iter().filter(|of| of.required).map(argument).collect();
        // One item on each line.
        let items = if self.function.takes.is_some() { " < ITEMS" } else { "" };
        format!("byname call {} {}{arguments}{items}", shell_word(self.service), self.function.name)
    }
}

/// Two columns.
fn push_table(rows: &[(String, String)], text: &mut String) {
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, of) in rows {
        let space = " ".repeat(width - name.chars().count());
        text.push_str(&format!("  {}{space}  {}\n", inert(name), inert(of)));
    }
}

/// A word for a shell, in quotes if it needs them.
pub(crate) fn shell_word(word: &str) -> String {
    let is_plain =
        !word.is_empty() && word.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-./:=@,+".contains(letter));
    if is_plain { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}
