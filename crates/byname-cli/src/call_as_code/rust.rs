//! `--as rust`, with byname's client.

use std::time::Duration;

use serde_json::{Number, Value};

use super::{AUTHORIZATION, ITEMS_NOTE, KEY_NOTE, WrittenCall, WrittenKey};
use crate::terminal_text::json_line;

/// The most parts of a value that `json!` is given: it is a macro that calls itself for each of them.
const LONGEST_LITERAL: usize = 32;

pub(super) fn program(call: &WrittenCall<'_>) -> String {
    let mut arguments = "byname::Args::new()".to_owned();
    // The items are not known yet.
    let mut needs_digits = call.takes;
    for (name, value) in call.arguments {
        let value = argument(value, &mut needs_digits);
        arguments.push_str(&format!("\n        .kwarg({name:?}, {value})"));
    }
    let mut notes = vec![dependencies(call, needs_digits)];
    if call.takes {
        notes.push(ITEMS_NOTE.to_owned());
    }
    let mut lines = vec![client(call), format!("let arguments = {arguments};")];
    let mut options = String::new();
    match call.key() {
        Some(WrittenKey::Given(key)) => options.push_str(&format!(".idempotency_key({key:?})")),
        Some(WrittenKey::New) => {
            lines.push(format!("// {KEY_NOTE}"));
            lines.push(NEW_KEY.to_owned());
            options.push_str(".idempotency_key(&key)");
        }
        None => {}
    }
    if let Some(timeout) = call.timeout {
        options.push_str(&format!(".timeout({})", duration(timeout)));
    }
    for (name, value) in call.headers {
        let value = match name.eq_ignore_ascii_case(AUTHORIZATION) {
            true => "&std::env::var(\"AUTHORIZATION\")?".to_owned(),
            false => format!("{value:?}"),
        };
        options.push_str(&format!(".header({name:?}, {value})"));
    }
    if call.takes {
        lines.push(STANDARD_INPUT.to_owned());
        options.insert_str(0, ".streaming(items)");
    }
    let name = call.name;
    if call.streams {
        lines.push(format!(
            "let mut results = client.stream::<serde_json::Value>({name:?}, arguments){options};\n    \
             while let Some(result) = results.next().await {{\n        println!(\"{{}}\", result?);\n    }}"
        ));
    } else {
        // A value of serde_json holds 64 bits.
        let returns = call.function().map_or("", |function| &function.returns);
        let ty = if ["u128", "i128"].contains(&returns) { returns } else { "serde_json::Value" };
        lines.push(format!("let result: {ty} = client.call({name:?}, arguments){options}.await?;"));
        lines.push("println!(\"{result}\");".to_owned());
    }
    let notes: String = notes.iter().map(|note| format!("// {note}\n")).collect();
    let lines: String = lines.iter().map(|line| format!("    {line}\n")).collect();
    format!(
        "{notes}#[tokio::main]\nasync fn main() -> Result<(), Box<dyn std::error::Error>> {{\n{lines}    Ok(())\n}}\n"
    )
}

const NEW_KEY: &str = "let part = |of: u8| std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), of);
    let key = format!(\"{:016x}{:016x}\", part(0), part(1));";

const STANDARD_INPUT: &str = "// All are read before the call is made.
    let items = serde_json::Deserializer::from_reader(std::io::stdin()).into_iter::<serde_json::Value>();
    let items = byname::Streaming::from(items.collect::<Result<Vec<_>, _>>()?);";

fn dependencies(call: &WrittenCall<'_>, needs_digits: bool) -> String {
    let credentials = call.credentials;
    let has_tls = call.url.starts_with("https:") || credentials.ca.is_some() || credentials.identity.is_some();
    let feature = match call.url.split_once("://").map(|(scheme, _)| scheme) {
        Some("srv") => Some("dns"),
        Some("k8s") => Some("kubernetes"),
        Some("etcd") => Some("etcd"),
        _ => None,
    };
    let features: Vec<_> =
        has_tls.then_some("tls").into_iter().chain(feature).map(|feature| format!("{feature:?}")).collect();
    let byname = match features.is_empty() {
        true => "byname".to_owned(),
        false => format!("byname with the features {}", features.join(", ")),
    };
    let digits =
        if needs_digits { " with the feature \"arbitrary_precision\", which keeps the digits of numbers" } else { "" };
    format!("It needs {byname}; tokio with the features \"macros\" and \"rt-multi-thread\"; and serde_json{digits}.")
}

fn client(call: &WrittenCall<'_>) -> String {
    let credentials = call.credentials;
    let mut tls = String::new();
    if let Some(ca) = &credentials.ca {
        tls.push_str(&format!(".roots(std::path::Path::new({ca:?}))?"));
    }
    if let Some((cert, key)) = &credentials.identity {
        tls.push_str(&format!(".identity(std::path::Path::new({cert:?}), std::path::Path::new({key:?}))?"));
    }
    let mut made = match (tls.is_empty(), call.over_http) {
        (true, false) => format!("byname::Client::new({:?})?", call.url),
        _ => {
            let tls = if tls.is_empty() { String::new() } else { format!(".tls(byname::ClientTls::new(){tls})") };
            let transport = if call.over_http { ".transport(byname::Transport::Http)" } else { "" };
            format!("byname::Client::builder({:?}){tls}{transport}.build()?", call.url)
        }
    };
    if let Some(variable) = &credentials.token_variable {
        made.push_str(&format!(".bearer(&std::env::var({variable:?})?)"));
        if credentials.allow_plaintext_token {
            made.push_str(".allow_plaintext_token()");
        }
    }
    format!("let client = {made};")
}

fn duration(time: Duration) -> String {
    match time.subsec_nanos() % 1_000_000 {
        0 => format!("std::time::Duration::from_millis({})", time.as_millis()),
        _ => format!("std::time::Duration::new({}, {})", time.as_secs(), time.subsec_nanos()),
    }
}

/// An expression for an argument.
fn argument(value: &Value, needs_digits: &mut bool) -> String {
    if let Value::Number(number) = value
        && let Some(wide) = wide_integer(number)
    {
        return wide;
    }
    match (value, literal(value)) {
        (Value::Null, _) => "None::<()>".to_owned(),
        (Value::Array(_) | Value::Object(_), Some(literal)) if parts(value) <= LONGEST_LITERAL => {
            format!("serde_json::json!({literal})")
        }
        (Value::Bool(_) | Value::Number(_) | Value::String(_), Some(literal)) => literal,
        (_, literal) => {
            *needs_digits |= literal.is_none();
            format!("serde_json::from_str::<serde_json::Value>({:?})?", json_line(value))
        }
    }
}

/// A literal, as `json!` takes it. `None` if a number in it has none.
fn literal(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some("null".to_owned()),
        Value::Bool(is) => Some(is.to_string()),
        Value::String(text) => Some(format!("{text:?}")),
        Value::Number(number) => number_literal(number),
        Value::Array(items) => {
            let items = items.iter().map(literal).collect::<Option<Vec<_>>>()?;
            Some(format!("[{}]", items.join(", ")))
        }
        Value::Object(members) => {
            let member = |(name, member): (&String, &Value)| Some(format!("{name:?}: {}", literal(member)?));
            let members = members.iter().map(member).collect::<Option<Vec<_>>>()?;
            Some(if members.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", members.join(", ")) })
        }
    }
}

/// A literal without a type has 32 bits. `None` if a literal is another number, or is written otherwise.
fn number_literal(number: &Number) -> Option<String> {
    let text = number.to_string();
    if let Some(whole) = number.as_i64().filter(|whole| whole.to_string() == text) {
        return Some(if i32::try_from(whole).is_ok() { text } else { format!("{text}_i64") });
    }
    if let Some(whole) = number.as_u64().filter(|whole| whole.to_string() == text) {
        return Some(format!("{whole}_u64"));
    }
    let float = text.parse().ok().and_then(Number::from_f64)?;
    (float.to_string() == text).then_some(text)
}

/// The literal of an integer that needs 128 bits.
fn wide_integer(number: &Number) -> Option<String> {
    let text = number.to_string();
    if number.as_i64().is_some() || number.as_u64().is_some() {
        return None;
    }
    let unsigned = text.parse::<u128>().map(|of| format!("{of}_u128")).ok();
    unsigned.or_else(|| text.parse::<i128>().map(|of| format!("{of}_i128")).ok())
}

fn parts(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(parts).sum::<usize>(),
        Value::Object(members) => 1 + members.values().map(parts).sum::<usize>(),
        _ => 1,
    }
}
